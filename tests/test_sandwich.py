"""The homework's module with every number that its matrices imply: d = 5, T = 3.14, RandomState(5) and RandomState(15).

The numbers were computed apart from gradrace, by an LU solve in float64, and agree with a complex step.
"""

import math

import numpy as np
import pytest
import torch

from gradrace.families.sandwich import (
    detached,
    efficient_cholesky,
    efficient_eigh,
    efficient_inverse,
    efficient_solve,
    objective,
    reference_gradient,
    source_matrix,
    wasteful,
)
from gradrace.families.soft_threshold import branching

T = 3.14
X = np.array([0.1, 5.0, -2.3, -1.0, -2.0])
A, M = source_matrix(5, 10), source_matrix(5, 0)
HOMEWORK = {"x": X, "A": A, "M": M, "T": T, "n": 1}

PUBLISHED_M = [
    [6.288371075363, -0.522511601584, -1.665331724075, 4.276485648167, -2.052772281366],
    [-0.522511601584, 3.824994146294, -0.826573813585, -3.749985213015, -0.664838535115],
    [-1.665331724075, -0.826573813585, 4.729119841459, -2.052697012289, -0.255794173466],
    [4.276485648167, -3.749985213015, -2.052697012289, 7.965123379851, -0.638303087337],
    [-2.052772281366, -0.664838535115, -0.255794173466, -0.638303087337, 3.627368742359],
]
PUBLISHED_A = [
    [0.544257242055, 0.390137684247, -0.263458480373, -0.830503880697, 0.328194367053],
    [0.390137684247, 5.812018710182, -0.643152894278, -2.834253007619, 1.280475943892],
    [-0.263458480373, -0.643152894278, 1.129623123295, 1.196729467845, -0.911528168243],
    [-0.830503880697, -2.834253007619, 1.196729467845, 3.411341955915, -0.467975777285],
    [0.328194367053, 1.280475943892, -0.911528168243, -0.467975777285, 2.402636667875],
]
BY_M = [
    [-2.033037698362, 22.147238708207, -1.664216825794, 3.996234869131, -2.189902175762],
    [8.902039226130, -22.997714564362, -21.649499663678, -27.258996821212, -16.017196117077],
    [4.550778224873, -11.756575769082, -11.067359865105, -13.934969956292, -8.188091004942],
    [7.235161555516, -18.691467882145, -17.595701803136, -22.154839001817, -13.018028636998],
    [2.425987010346, -6.267345647839, -5.899929626281, -7.428631858777, -4.365012188233],
]
DETACHED = [1.465508086562, -3.786024277280, -3.564072645616, -4.487542462637, -2.636848436913]
"""What the homework's own code prints four digits of: 2 (x − g), with g rounded to float32."""


def gradients(function, n=1):
    """The gradients of φ for x, A and M by autograd."""
    leaves = [torch.tensor(each, requires_grad=True) for each in (X, A, M)]
    phi = objective(function(*leaves, T, n), leaves[0])
    return torch.autograd.grad(phi, leaves, allow_unused=True)


# ---- the matrices ----


def test_the_matrices_and_their_eigenvalues():
    assert np.allclose(M, PUBLISHED_M, rtol=0, atol=6e-13)
    assert np.allclose(A, PUBLISHED_A, rtol=0, atol=6e-13)
    assert np.allclose(
        np.linalg.eigvalsh(M), [0.408912930, 1.751653460, 4.689880877, 6.119556475, 13.464973444], rtol=0, atol=6e-10
    )
    assert np.allclose(
        np.linalg.eigvalsh(A), [0.0863727775, 0.457893000, 2.041776467, 2.343832614, 8.370002841], rtol=0, atol=6e-10
    )


CONDITIONS = {
    0: {2: 83.45, 5: 32.93, 10: 649.7, 20: 3804, 50: 1.877e7, 100: 2.549e8, 200: 1.508e5},
    10: {2: 30.38, 5: 96.91, 10: 5487, 20: 285.2, 50: 6784, 100: 1.36e5, 200: 3.017e8},
}
"""cond₂ by seed and d. It is wild: sizes of this generator tell of the condition as much as of the size."""


@pytest.mark.parametrize("seed", CONDITIONS)
def test_the_condition_of_the_generator_is_wild(seed):
    found = {d: np.linalg.cond(source_matrix(d, seed)) for d in CONDITIONS[seed]}
    assert found == pytest.approx(CONDITIONS[seed], rel=1e-3)


@pytest.mark.parametrize(("d", "seed"), [(2, 0), (5, 0), (5, 10), (50, 10)])
def test_the_ridge_is_in_single_precision(d, seed):
    """`1e-6 * torch.eye(d)` is rounded to float32 before it meets the float64 product."""
    F, ridge = np.random.RandomState(d + seed).randn(d, d), (1e-6 * torch.eye(d)).numpy()
    assert np.array_equal(source_matrix(d, seed), ridge + F @ F.T)
    assert float((1e-6 * torch.eye(1)).double()) == 9.999999974752427e-07


# ---- forward and backward by hand ----


def test_every_vector_on_the_way():
    u = M @ X
    s = np.where(np.abs(u) > T, u - np.copysign(T, u), 0)
    assert np.allclose(
        u, [1.675600979553, 26.053501625801, -12.612092516468, -20.289591577171, -9.557577702119], rtol=0, atol=1e-11
    )
    assert np.allclose(s, [0, 22.913501625801, -9.472092516468, -17.149591577171, -6.417577702119], rtol=0, atol=1e-11)
    adjoint = np.linalg.solve(M, X - np.linalg.solve(M, s))
    assert np.allclose(
        adjoint, [1.606499371801, -6.074371233006, -3.105256631067, -4.936965127044, -1.655389886851], rtol=1e-11
    )
    noise = np.linalg.norm(np.linalg.solve(A, u))
    assert np.linalg.norm(adjoint) * noise == pytest.approx(677.8, abs=0.05)
    assert 2 * np.linalg.norm((np.abs(u) > T) * adjoint) * noise == pytest.approx(1332, abs=0.5)


def test_the_gradient_of_M_entry_by_entry():
    """One step of a descent on M destroys its symmetry: ‖G − Gᵀ‖ is half of ‖G‖."""
    exact = reference_gradient(HOMEWORK)
    G = exact["M"].astype(float)
    assert np.linalg.norm(exact["x"].astype(float)) == pytest.approx(25.922381958, abs=6e-10)
    assert np.allclose(G, BY_M, rtol=0, atol=6e-12)
    assert np.linalg.norm(G - G.T) == pytest.approx(33.53, abs=0.005)
    for function in (wasteful, efficient_solve, efficient_inverse):
        assert np.allclose(gradients(function)[2], BY_M, rtol=0, atol=1e-10)


@pytest.mark.parametrize("function", [efficient_cholesky, efficient_eigh])
def test_what_reads_half_of_M_answers_for_a_symmetric_M(function):
    """What reaches M through a factorisation of one half of it is symmetric: 85 % away, and the same gradient."""
    by_inverse, by_half = gradients(efficient_inverse)[2], gradients(function)[2]
    assert float((by_inverse - by_half).norm() / by_inverse.norm()) == pytest.approx(0.8498, abs=5e-5)
    assert torch.allclose(by_inverse + by_inverse.mT, by_half + by_half.mT, rtol=1e-11, atol=1e-11)


# ---- the homework's own code, which cuts the graph ----


def test_what_the_homeworks_code_prints_and_what_it_hides():
    """Both of its modules print 2 (x − g) and a difference of exactly zero: float32 hides the noise of the loop."""
    by_x, by_A, by_M = gradients(detached)
    true = reference_gradient(HOMEWORK)["x"].astype(float)
    assert np.allclose(by_x, DETACHED, rtol=0, atol=6e-12)
    assert by_A is None
    assert by_x.norm().item() == pytest.approx(7.5017, abs=5e-5)
    assert np.linalg.norm(true) / by_x.norm().item() == pytest.approx(3.46, abs=0.005)
    assert by_x[3] < 0 < true[3]
    assert by_M.norm().item() == pytest.approx(123.718, abs=5e-4)
    assert by_x.numpy() @ true / np.linalg.norm(true) / by_x.norm().item() == pytest.approx(0.0554, abs=5e-5)
    assert torch.equal(gradients(detached, n=0)[0], gradients(detached, n=100)[0])


def test_a_power_of_entries_is_no_power_of_a_matrix():
    """A commented line of the homework has `torch.pow` for (A⁻¹A)ⁿ: right for the identity alone."""
    shear = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert torch.equal(torch.eye(2).pow(3), torch.linalg.matrix_power(torch.eye(2), 3))
    assert torch.equal(shear.pow(3), shear)
    assert torch.equal(torch.linalg.matrix_power(shear, 3), torch.tensor([[1.0, 3.0], [0.0, 1.0]]))


# ---- the branches as the homework writes them ----


def softt(y, T):
    """The homework's threshold of one number, with its misprint mended: as printed the last branch asks y < T."""
    if abs(y) <= T:
        return torch.zeros(1, requires_grad=True)
    if y > T:
        return y - T
    if y < -T:
        return y + T
    return None


def test_the_branches_are_the_closed_form_on_the_homeworks_grid():
    """201 points of [−10, 10], of which none is a kink."""
    y = torch.linspace(-10, 10, 201, dtype=torch.float64)
    by_branches = torch.stack([softt(each, T).reshape(()).detach() for each in y])
    assert torch.equal(by_branches, torch.sign(y) * torch.clamp(y.abs() - T, min=0))
    assert torch.equal(by_branches, branching(y, T))


def test_the_branches_give_three_kinds_of_answers():
    """A fresh leaf of another shape in the flat zone, a graph outside, and nothing at all for NaN."""
    y = torch.tensor([1.2, 4.0, math.nan], requires_grad=True)
    flat, steep, lost = (softt(each, T) for each in y)
    assert (flat.shape, steep.shape, lost) == ((1,), (), None)
    assert torch.autograd.grad(flat, y, allow_unused=True) == (None,)
    assert torch.equal(torch.autograd.grad(flat, y, allow_unused=True, materialize_grads=True)[0], torch.zeros(3))
    assert torch.equal(torch.autograd.grad(steep, y)[0], torch.tensor([0.0, 1.0, 0.0]))


def test_the_two_thresholds_of_the_homework_differ():
    """The text has T = 3.14, the cell 3.14159: between the two a value is zero or not."""
    assert softt(torch.tensor(3.141), 3.14) > 0
    assert not softt(torch.tensor(3.141), 3.14159)
