"""The references against published and independently derived numbers: a wrong oracle would bless every error."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import torch

import test_adam
import test_beale
import test_circle_reparam
import test_dual_numbers
import test_gd_1d
import test_hypergradient
import test_logistic
import test_lowrank
import test_mse_linear
import test_multi_backward
import test_relu_net3
import test_sgd_moments
import test_small_families
import test_solve_cond
import test_speelpenning
import test_tanh_tail
import test_two_faces
from gradrace.cases import Scenario
from gradrace.families import FAMILIES, gauss_newton_step, hello, identity, phase_retrieval, sandwich
from gradrace.families.jacobian_modes import reference_jacobian
from gradrace.families.sandwich import adjoint, efficient_solve, source_matrix, wasteful
from gradrace.families.scalar_trace import FUNCTIONS, REVERSE
from gradrace.families.scalar_trace import reference as scalar_reference
from gradrace.families.soft_threshold import soft_threshold as soft_threshold_family
from gradrace.families.soft_threshold import softshrink
from gradrace.inputs import draw_numbers

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

# ---- sandwich: the homework's own problem, d = 5, T = 3.14 ----

HOMEWORK = {
    "x": np.array([0.1, 5.0, -2.3, -1.0, -2.0]),
    "A": source_matrix(5, 10),
    "M": source_matrix(5, 0),
    "T": 3.14,
    "n": 1,
}
TRUE_GRADIENT = [20.204528364451, -1.678829119407, -5.350708737135, 13.740343014598, -6.595554760931]


def homework(function, n=1):
    """φ and its gradients for x and M by autograd on the homework's numbers."""
    x, A, M = (torch.tensor(HOMEWORK[name], requires_grad=True) for name in ("x", "A", "M"))
    g = function(x, A, M, HOMEWORK["T"], n)
    phi = sandwich.objective(g, x)
    return phi.item(), torch.autograd.grad(phi, (x, A, M), allow_unused=True)


def test_sandwich_reference_has_the_published_value_and_gradient():
    exact = sandwich.reference_gradient(HOMEWORK)
    assert math.isclose(exact["value"], 14.068826814584387, rel_tol=1e-13)
    assert np.allclose(exact["x"].astype(float), TRUE_GRADIENT, rtol=1e-12)
    assert math.isclose(np.linalg.norm(exact["M"].astype(float)), 68.286900324, rel_tol=1e-10)
    value = sandwich.reference_primal(HOMEWORK)["value"].astype(float)
    assert np.allclose(
        value, [-0.632753966185, 6.893011941664, -0.517963733757, 1.243771064987, -0.681575795858], atol=1e-12
    )


def test_sandwich_reference_agrees_with_a_complex_step():
    """A third route: φ evaluated at x + i h e_j, the active set frozen from the real part."""

    def phi(x, M):
        u = M @ x
        s = np.where(np.abs(u.real) > 3.14, u - 3.14 * np.sign(u.real), 0)
        r = x - np.linalg.solve(M, s)
        return r @ r

    exact, step = sandwich.reference_gradient(HOMEWORK), 1e-30
    x, M = HOMEWORK["x"], HOMEWORK["M"]
    by_x = [phi(x + 1j * step * e, M.astype(complex)).imag / step for e in np.eye(5)]
    by_M = [phi(x.astype(complex), M + 1j * step * e.reshape(5, 5)).imag / step for e in np.eye(25)]
    assert np.allclose(exact["x"].astype(float), by_x, rtol=1e-11)
    assert np.allclose(exact["M"].astype(float).ravel(), by_M, rtol=1e-10)


def test_the_gradient_of_A_is_noise_in_the_loop_and_none_without_it():
    _, (by_x, by_A, _) = homework(wasteful, n=100)
    assert np.allclose(by_x, TRUE_GRADIENT, rtol=1e-9)
    assert 0 < by_A.norm() < 1e-8
    assert homework(efficient_solve)[1][1] is None
    value, (by_x, by_A, _) = adjoint(*(torch.tensor(HOMEWORK[name]) for name in ("x", "A", "M")), 3.14, 1)
    assert by_A is None
    assert math.isclose(value, 14.068826814584387, rel_tol=1e-13)
    assert np.allclose(by_x, TRUE_GRADIENT, rtol=1e-12)


# ---- soft threshold ----


def test_soft_threshold_of_the_homework():
    y = torch.linspace(-10, 10, 201, dtype=torch.float64)
    closed = torch.sign(y) * torch.clamp(y.abs() - 3.14, min=0)
    assert torch.equal(softshrink(y, 3.14), closed)
    slope = torch.func.jacrev(lambda y: softshrink(y, 3.14))(torch.tensor([1.2, 4.0, -4.0]).double())
    assert torch.equal(slope, torch.diag(torch.tensor([0.0, 1.0, 1.0]).double()))


# ---- scalar functions: thirty digits by mpmath ----

POINTS = {
    "s1": ((1.0, 1.5), 342.749180216546, (-36.195938544244, 1511.95067472986)),
    "s2": ((1.0, 1.5, 2.0), 2.92281760528829, (4.04323987287281, 2.69549324858187, -1.7735189300545)),
    "s3": ((0.5,), 77.8661555019519, (555.971967901508,)),
    "s4": ((2.0, 5.0), 11.6520714552231, (5.5, 1.71633781453677)),
}


@pytest.mark.parametrize("name", POINTS)
def test_scalar_values_and_gradients(name):
    point, value, gradient = POINTS[name]
    numbers = {"x": np.array([point]), "f": name}
    exact = scalar_reference(numbers)
    with mpmath.workdps(30):
        by_mpmath = [
            mpmath.diff(lambda *v: FUNCTIONS[name](mpmath, *v), point, tuple(int(i == j) for i in range(len(point))))
            for j in range(len(point))
        ]
        assert math.isclose(exact["value"], float(FUNCTIONS[name](mpmath, *map(mpmath.mpf, point))), rel_tol=1e-15)
    assert math.isclose(exact["value"], value, rel_tol=1e-14)
    assert np.allclose(exact["x"].astype(float)[0], gradient, rtol=1e-13)
    assert np.allclose(exact["x"].astype(float)[0], [float(v) for v in by_mpmath], rtol=1e-14)
    assert np.allclose(REVERSE[name](math, *point)[1], gradient, rtol=1e-13)


# ---- jacobian_modes ----


def test_jacobian_reference_agrees_with_a_complex_step():
    rng = np.random.default_rng(0)
    x, W1, W2 = rng.standard_normal(4), rng.standard_normal((6, 4)), rng.standard_normal((3, 6))
    columns = [(W2 @ np.tanh(W1 @ (x + 1e-30j * e))).imag / 1e-30 for e in np.eye(4)]
    assert np.allclose(reference_jacobian({"x": x, "W1": W1, "W2": W2})["x"], np.stack(columns, axis=1), rtol=1e-13)


# ---- phase retrieval: the homework's size, n = 20, m = 100 ----


@pytest.fixture(scope="module")
def retrieval():
    rng = np.random.RandomState(0)
    solution = rng.randn(20)
    A = rng.randn(100, 20)
    return {"x": np.ones(20), "A": A, "y": (A @ solution) ** 2, "solution": solution}


def test_retrieval_reference_has_the_published_numbers(retrieval):
    gradient, hessian = (
        phase_retrieval.reference_gradient(retrieval),
        phase_retrieval.reference_hessian(retrieval)["x"].astype(float),
    )
    assert math.isclose(gradient["value"], 23963.73132073636, rel_tol=1e-14)
    assert math.isclose(np.linalg.norm(gradient["x"].astype(float)), 13174.032359659952, rel_tol=1e-14)
    assert math.isclose(np.linalg.norm(hessian), 21030.26717, rel_tol=1e-9)
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert (eigenvalues < 0).sum() == 3
    assert np.allclose(eigenvalues[[0, -1]], [-1855.9847, 13005.616], rtol=1e-7)
    step = gauss_newton_step.reference(retrieval)["value"].astype(float)
    assert math.isclose(np.linalg.norm(step), 2.971086174, rel_tol=1e-9)
    newton = np.linalg.solve(hessian, gradient["x"].astype(float))
    assert math.isclose(np.linalg.norm(newton), 9.497326598, rel_tol=1e-9)


def test_retrieval_reference_agrees_with_a_complex_step(retrieval):
    def cost(x):
        return (((retrieval["A"] @ x) ** 2 - retrieval["y"]) ** 2).sum() / 4

    def gradient(x):
        z = retrieval["A"] @ x
        return retrieval["A"].T @ ((z * z - retrieval["y"]) * z)

    x = retrieval["x"]
    by_step = [cost(x + 1e-30j * e).imag / 1e-30 for e in np.eye(20)]
    assert np.allclose(phase_retrieval.reference_gradient(retrieval)["x"].astype(float), by_step, rtol=1e-11)
    hessian = phase_retrieval.reference_hessian(retrieval)["x"].astype(float)
    columns = [gradient(x + 1e-30j * e).imag / 1e-30 for e in np.eye(20)]
    assert np.allclose(hessian, columns, rtol=1e-9, atol=1e-9)
    direction = np.linspace(-1, 1, 20)
    by_hvp = phase_retrieval.reference_hvp({**retrieval, "tangent_x": direction})["x"].astype(float)
    assert np.allclose(by_hvp, hessian @ direction, rtol=1e-11)


def test_gauss_newton_step_is_scipys_least_squares_solution(retrieval):
    z = retrieval["A"] @ retrieval["x"]
    J, r = 2 * z[:, None] * retrieval["A"], z * z - retrieval["y"]
    found = scipy.optimize.lsq_linear(J, -r, method="bvls").x
    assert np.allclose(gauss_newton_step.reference(retrieval)["value"].astype(float), found, rtol=1e-10)


def test_newton_falls_into_a_saddle_where_gauss_newton_solves(retrieval):
    arguments = [torch.from_numpy(retrieval[name]) for name in ("x", "A", "y")]
    by_newton = phase_retrieval.newton(*arguments).x
    assert phase_retrieval.distance(retrieval, by_newton.numpy()) > 0.1
    assert math.isclose(phase_retrieval.autograd(by_newton, *arguments[1:]), 1.315e4, rel_tol=1e-3)
    hessian = phase_retrieval.hessian_gemm(by_newton, *arguments[1:])
    assert math.isclose(torch.linalg.eigvalsh(hessian)[0], -397.08, rel_tol=1e-4)
    for solver in (
        phase_retrieval.gauss_newton,
        phase_retrieval.levenberg_marquardt,
        phase_retrieval.scipy_levenberg_marquardt,
    ):
        assert phase_retrieval.distance(retrieval, solver(*arguments).x.numpy()) < 1e-8


def test_the_distance_ignores_the_sign(retrieval):
    assert phase_retrieval.distance(retrieval, -retrieval["solution"]) == 0
    assert math.isclose(phase_retrieval.distance(retrieval, 0 * retrieval["solution"]), 1)


@pytest.mark.parametrize("solver", ["newton", "gauss_newton", "levenberg_marquardt"])
def test_a_batch_is_solved_as_its_instances_are(solver):
    """Dropping what has ended must not mix up the instances."""
    rng = np.random.default_rng(3)
    solution, A = rng.standard_normal((12, 6)), rng.standard_normal((12, 40, 6))
    y = np.einsum("bmn,bn->bm", A, solution) ** 2
    x = solution + 0.3 * rng.standard_normal((12, 6))
    batch = [torch.from_numpy(each) for each in (x, A, y)]
    together = getattr(phase_retrieval, solver)(*batch)
    alone = [getattr(phase_retrieval, solver)(*instance) for instance in zip(*batch, strict=True)]
    assert torch.allclose(together.x, torch.stack([each.x for each in alone]), rtol=1e-7, atol=1e-7)
    # Rounding may move the last step across a stop rule.
    assert (together.iterations - torch.cat([each.iterations for each in alone])).abs().max() <= 1
    assert len(together.iterations.unique()) > 2
    assert (phase_retrieval.distance({"solution": solution}, together.x.numpy()) < 1e-8).sum() >= 9


def test_a_spectral_start_points_at_the_solution():
    rng = np.random.default_rng(0)
    solution, A = rng.standard_normal(20), rng.standard_normal((2000, 20))
    direction = phase_retrieval.spectral_direction(A, (A @ solution) ** 2)
    assert abs(direction @ solution) / np.linalg.norm(solution) > 0.95


# ---- hello, identity, soft_threshold by definition ----


def test_hello_reference_agrees_with_a_complex_step():
    x = np.random.default_rng(0).standard_normal(7)
    by_step = [((x + 1e-30j * e) ** 2).sum().imag / 1e-30 for e in np.eye(7)]
    assert np.allclose(hello.reference({"x": x})["x"].astype(float), by_step, rtol=1e-15)
    assert math.isclose(hello.reference({"x": x})["value"], math.fsum(x * x), rel_tol=1e-15)


def test_identity_reference_is_the_limit_of_its_quotient():
    numbers = {"x": np.array([1.0, -2.0]), "cotangent": np.array([3.0, 0.5])}
    exact = identity.identity.reference["vjp"](numbers)
    quotient = ((numbers["x"] + 2.0**-20) - (numbers["x"] - 2.0**-20)) / 2.0**-19
    assert np.array_equal(exact["value"], numbers["x"])
    assert np.array_equal(exact["x"], quotient * numbers["cotangent"])


def test_soft_threshold_reference_is_the_proximal_operator():
    """argmin_z ½ (z − y)² + T |z| by trying its three stationary points in exact rational arithmetic."""

    def prox(y, T):
        stationary = [z for z in (y - T, y + T, Fraction(0)) if z == 0 or (z > 0) == (z == y - T)]
        return min(stationary, key=lambda z: (z - y) ** 2 / 2 + T * abs(z))

    y, T, h = [Fraction(n, 8) for n in range(-60, 61)], Fraction(25, 8), Fraction(1, 64)
    away = [v for v in y if abs(abs(v) - T) > h]
    numbers = {"y": np.array([float(v) for v in away]), "T": float(T), "cotangent": np.ones(len(away))}
    exact = soft_threshold_family.reference["vjp"](numbers)
    assert exact["value"].tolist() == [float(prox(v, T)) for v in away]
    assert exact["y"].tolist() == [float((prox(v + h, T) - prox(v - h, T)) / (2 * h)) for v in away]


SECOND_ROUTES = {
    "identity": test_identity_reference_is_the_limit_of_its_quotient,
    "hello": test_hello_reference_agrees_with_a_complex_step,
    "soft_threshold": test_soft_threshold_reference_is_the_proximal_operator,
    "sandwich": test_sandwich_reference_agrees_with_a_complex_step,
    "scalar_trace": test_scalar_values_and_gradients,
    "jacobian_modes": test_jacobian_reference_agrees_with_a_complex_step,
    "phase_retrieval": test_retrieval_reference_agrees_with_a_complex_step,
    "gauss_newton_step": test_gauss_newton_step_is_scipys_least_squares_solution,
    "two_faces_relu": test_two_faces.test_the_references_are_limits_of_smooth_functions,
    "two_faces_abs": test_two_faces.test_the_references_are_limits_of_smooth_functions,
    "two_faces_twice": test_two_faces.test_the_references_are_limits_of_smooth_functions,
    "two_faces_jump": test_two_faces.test_the_references_are_limits_of_smooth_functions,
    "softmax_refclass": test_small_families.test_the_log_likelihood_agrees_with_a_complex_step,
    "sgd_exponent": test_small_families.test_the_exponent_agrees_with_a_complex_step,
    "speelpenning": test_speelpenning.test_the_reference_agrees_with_exact_rationals,
    "tanh_tail": test_tanh_tail.test_the_reference_agrees_with_mpmath,
    "solve_cond": test_solve_cond.test_the_reference_agrees_with_exact_rationals,
    "dual_numbers": test_dual_numbers.test_the_reference_agrees_with_mpmath,
    "logistic": test_logistic.test_the_reference_agrees_with_a_complex_step,
    "multi_backward": test_multi_backward.test_the_reference_agrees_with_a_complex_step,
    "relu_net3": test_relu_net3.test_the_reference_agrees_with_a_complex_step,
    "lowrank": test_lowrank.test_the_reference_agrees_with_a_complex_step,
    "mse_linear": test_mse_linear.test_the_reference_agrees_with_a_complex_step,
    "gd_1d": test_gd_1d.test_the_reference_agrees_with_rationals_and_a_complex_step,
    "circle_reparam": test_circle_reparam.test_the_reference_agrees_with_a_complex_step,
    "sgd_moments": test_sgd_moments.test_the_reference_agrees_with_a_complex_step,
    "hypergradient": test_hypergradient.test_the_reference_agrees_with_difference_quotients_in_forty_digits,
    "adam": test_adam.test_the_reference_agrees_with_a_complex_step,
    "beale": test_beale.test_the_reference_agrees_with_exact_rationals,
}
"""The test that takes another route to the same reference, for each family."""


def test_every_reference_has_a_second_route():
    assert set(SECOND_ROUTES) == {family.name for family in FAMILIES}
    assert all(family.reference for family in FAMILIES)


def test_a_gauge_is_free_only_where_the_parameter_is_symmetric():
    """M and A are symmetric, and Cholesky reads half of them; nothing else is excused."""
    free = {family: name for family in FAMILIES for name in family.symmetric}
    assert {family.name: name for family, name in free.items()} == {"sandwich": "M", "solve_cond": "A"}
    for family, name in free.items():
        M = draw_numbers(Scenario(family, "value_and_gradient", family.sizes[0], "float64", "cpu"))[name]
        assert np.array_equal(M, M.T)
