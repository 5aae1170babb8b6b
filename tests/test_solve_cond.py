"""½ ‖A⁻¹x‖² against exact rationals and complex steps; errors in units of u cond(A); three ways to lose digits."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from gradrace import size
from gradrace.families import solve_cond as kernels
from gradrace.families.numerics import measure

EXPONENTS = (2, 4, 6, 8, 10)
FAMILY = kernels.solve_cond


def draw(n, cond, seed=0):
    return FAMILY.draw(size(n=n, cond=cond), np.random.default_rng(seed))


def results(variant, numbers, dtype=torch.float64):
    """Value and both gradients of a formulation, the one for A symmetric."""
    x, A = (torch.tensor(numbers[name], dtype=dtype, requires_grad=True) for name in ("x", "A"))
    if variant.computes == "primal":
        value = FAMILY.objective(variant.function(x, A))
        gradients = torch.autograd.grad(value, (x, A))
    else:
        with torch.no_grad():
            value, gradients = variant.function(x, A)
    found = {"value": value, "x": gradients[0], "A": (gradients[1] + gradients[1].mT) / 2}
    return {name: output.detach().double().numpy() for name, output in found.items()}


def errors(found, numbers):
    exact = kernels.reference(numbers)
    exact = {**exact, "A": (exact["A"] + exact["A"].T) / 2}
    return {name: float(np.abs(found[name] - exact[name]).max() / np.abs(exact[name]).max()) for name in exact}


def solve_exactly(matrix, vector):
    """Gauss–Jordan in rational arithmetic."""
    rows = [[*map(Fraction, row), Fraction(b)] for row, b in zip(matrix, vector, strict=True)]
    for i, pivot in enumerate(rows):
        pivot[:] = [entry / pivot[i] for entry in pivot]
        for row in rows:
            if row is not pivot:
                row[:] = [a - row[i] * b for a, b in zip(row, pivot, strict=True)]
    return [row[-1] for row in rows]


def test_the_reference_agrees_with_exact_rationals():
    """A second route: Hilbert's matrix of order 5 times 2520, all integers, cond = 4.8e5."""
    A = [[2520 // (i + j + 1) for j in range(5)] for i in range(5)]
    x = [3, -1, 4, 1, -5]
    u = solve_exactly(A, x)
    w = solve_exactly(A, u)
    exact = kernels.reference({"A": np.array(A, dtype=float), "x": np.array(x, dtype=float)})
    assert np.allclose(exact["value"].astype(float), float(sum(v * v for v in u) / 2), rtol=1e-15)
    assert np.allclose(exact["x"].astype(float), [float(v) for v in w], rtol=1e-15)
    assert np.allclose(exact["A"].astype(float), [[-float(a * b) for b in u] for a in w], rtol=1e-15)


def test_the_gradient_for_the_matrix_agrees_with_a_complex_step():
    numbers, step = draw(4, 50), 1e-30

    def phi(A):
        u = np.linalg.solve(A, numbers["x"])
        return u @ u / 2

    by_step = [phi(numbers["A"] + 1j * step * e.reshape(4, 4)).imag / step for e in np.eye(16)]
    assert np.allclose(kernels.reference(numbers)["A"].astype(float).ravel(), by_step, rtol=1e-12)


def test_the_drawn_matrix_is_as_declared():
    eigenvalues = np.linalg.eigvalsh(draw(9, 10_000)["A"])
    assert np.allclose(eigenvalues, np.geomspace(1, 10_000, 9), rtol=1e-10)


SHEAR = np.array([[1.0, 1e3], [0.0, 1.0]])
TURNED_SHEAR = np.array([[-479.0, 360.0], [-640.0, 481.0]])
"""Q SHEAR Qᵀ with Q = ((3, −4), (4, 3)) / 5, exactly: trace 2 and determinant 1, so both eigenvalues are 1."""


def test_the_ratio_of_eigenvalues_is_the_condition_of_normal_matrices_only():
    """The notes give the ratio for any A. A shear has a ratio of 1, and σ1 σ2 = 1 with σ1² + σ2² = 1e6 + 2."""
    values = np.abs(np.linalg.eigvals(draw(9, 10_000)["A"]))
    assert math.isclose(values.max() / values.min(), 10_000, rel_tol=1e-9)
    assert np.linalg.eigvals(SHEAR).tolist() == [1, 1]
    (a, b), (c, d) = TURNED_SHEAR.astype(int).tolist()
    assert (a + d, a * d - b * c) == (2, 1)
    for A in (SHEAR, TURNED_SHEAR):
        assert math.isclose(np.linalg.cond(A), 1e6 + 2, rel_tol=1e-8)
    # cond is attained: a millionth of x moves all of u = (0, 1).
    x, moved = np.array([1e3, 1.0]), np.array([0.0, 1e-3])
    u, du = np.linalg.solve(SHEAR, x), np.linalg.solve(SHEAR, moved)
    lost = np.linalg.norm(du) / np.linalg.norm(u) / (np.linalg.norm(moved) / np.linalg.norm(x))
    assert math.isclose(lost, 1e6, rel_tol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["inverse", "solve", "lu", "qr"])
def test_a_solve_loses_the_condition_and_not_the_ratio_of_eigenvalues(name, dtype):
    """The worst ∂φ/∂x of five draws x = A v, v normal: of the size of u 1e6, not of the unit roundoff u."""
    (variant,) = (variant for variant in FAMILY.variants if variant.name == name)
    worst = 0.0
    for seed in range(5):
        x = TURNED_SHEAR @ np.random.default_rng(seed).standard_normal(2)
        numbers = {"x": x.astype(np.float32).astype(float), "A": TURNED_SHEAR}
        worst = max(worst, errors(results(variant, numbers, dtype), numbers)["x"])
    assert 0.05 < worst / (torch.finfo(dtype).eps / 2 * 1e6) < 8


def test_cond_is_what_perturbations_show():
    """κ measured by moving x and A in random directions, where it is small enough to be measured."""
    for cond in (100, 1000):
        measured = measure(kernels.reference, draw(20, cond), ("x", "A"))
        assert all(0.1 * cond < each < 10 * cond for each in measured.values())


@pytest.mark.parametrize("variant", FAMILY.variants, ids=lambda variant: variant.name)
def test_the_error_over_u_cond_is_flat(variant):
    """Over eight decades of cond the worst error of five draws stays between 0.003 and 8 u cond."""
    for exponent in EXPONENTS:
        cond = 10**exponent
        if any(limit.exceeded_by(size(n=16, cond=cond)) for limit in variant.limits):
            continue
        drawn = [draw(16, cond, seed) for seed in range(5)]
        worst = max(max(errors(results(variant, numbers), numbers).values()) for numbers in drawn)
        assert 0.003 < worst / (2.0**-53 * cond) < 8, cond


def test_refinement_gives_a_float32_factor_the_digits_of_float64():
    numbers = draw(30, 10_000)
    (mixed,) = (variant for variant in FAMILY.variants if variant.name == "adjoint_mixed")
    (cholesky,) = (variant for variant in FAMILY.variants if variant.name == "adjoint_cholesky")
    rounded = {name: array.astype(np.float32).astype(float) for name, array in numbers.items()}
    assert max(errors(results(cholesky, rounded, torch.float32), rounded).values()) > 1e-7
    assert max(errors(results(mixed, numbers), numbers).values()) < 2.0**-53 * 1e4


@pytest.mark.parametrize(("factor", "is_right"), [(0.1, True), (3, False)])
def test_lstsq_cuts_its_gradient_off_where_its_value_is_right(factor, is_right):
    """The way back takes the pseudoinverse, which drops singular values below n ε times the largest.

    A backward stable solution is right within p(n) ε times the condition number, p of the order of n; how much of it an
    error takes depends on how sums are ordered, and so on where in memory the numbers lie.
    """
    n = 50
    cond = factor / (n * torch.finfo(torch.float32).eps)
    numbers = {name: array.astype(np.float32).astype(float) for name, array in draw(n, int(cond)).items()}
    (lstsq,) = (variant for variant in FAMILY.variants if variant.name == "lstsq")
    found = errors(results(lstsq, numbers, torch.float32), numbers)
    allowed = factor / 4
    assert found["value"] < allowed
    assert (found["x"] < allowed) is is_right
    assert (found["A"] < allowed) is is_right


def test_cholesky_and_lu_differ_in_the_gradient_but_not_in_its_symmetric_part():
    x, A = (torch.tensor(draw(8, 100)[name], requires_grad=True) for name in ("x", "A"))
    by_lu, by_cholesky = (
        torch.autograd.grad(FAMILY.objective(function(x, A)), A)[0] for function in (kernels.lu, kernels.cholesky)
    )
    assert (by_lu - by_cholesky).abs().max() > 1e-3 * by_lu.abs().max()
    assert torch.allclose(by_lu + by_lu.mT, by_cholesky + by_cholesky.mT, rtol=1e-10, atol=1e-10)
