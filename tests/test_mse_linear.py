"""Least squares by descent: how many steps the conditioning costs, and what ends it at once."""

import math

import numpy as np
import pytest
import torch

from gradrace.declare import size
from gradrace.families import mse_linear
from gradrace.families.descent import descend
from gradrace.families.endpoints import classify
from gradrace.families.mse_linear import (
    closed_form,
    conjugate_step,
    diagonal_step,
    fixed_step,
    gram,
    harmonic_step,
    heavy_ball,
    line_search,
    quadratic,
    sweep,
)
from gradrace.families.numerics import relative_error

STEP = 1e-30


def numbers_of(seed=0, **axes):
    return mse_linear.draw(size("test", **axes), np.random.default_rng(seed))


def tensors(numbers):
    return [torch.from_numpy(numbers[name]) for name in ("theta", "X", "y")]


# ---- the reference ----


def test_the_reference_agrees_with_a_complex_step():
    """A second route: the mean of the squares at θ + i h e_j."""
    numbers = numbers_of(n=11, d=3, cond=10)

    def objective(theta):
        return ((numbers["y"] - numbers["X"] @ theta) ** 2).mean()

    exact = mse_linear.reference(numbers)
    by_step = [objective(numbers["theta"] + 1j * STEP * e).imag / STEP for e in np.eye(3)]
    assert math.isclose(exact["value"], objective(numbers["theta"]), rel_tol=1e-14)
    assert np.allclose(exact["theta"].astype(float), by_step, rtol=1e-13)


def test_the_drawn_solution_is_the_least_squares_solution():
    numbers = numbers_of(n=40, d=8, cond=1000)
    found, residual, rank, sigma = np.linalg.lstsq(numbers["X"], numbers["y"], rcond=None)
    assert np.allclose(found, numbers["solution"], rtol=1e-12)
    assert rank == 8
    assert residual[0] > 1  # the noise stays
    assert np.allclose(2 / 40 * sigma[[0, -1]] ** 2, [1, 1 / 1000], rtol=1e-12)


# ---- laws: steps until ‖θ − θ*‖ is 1e-6 of what it was ----


def steps_to_a_millionth(step, *start):
    """On a quadratic whose minimum is at 0."""

    def judged(k, theta, *state):
        _, theta, *state = step(k, theta, *state)
        return theta.norm(dim=-1), theta, *state

    found = descend(judged, *start, tolerance=1e-6 * start[0].norm().item(), most=100_000)
    assert found.stopped.all()
    return found.iterations.item()


def diagonal(*eigenvalues):
    """H and b = 0."""
    H = torch.diag(torch.tensor(eigenvalues, dtype=torch.float64))
    return H, torch.zeros(len(H)).double()


def row(*entries):
    return torch.tensor([entries], dtype=torch.float64)


def steps_by_the_law(kappa):
    return math.ceil(math.log(1e6) / -math.log1p(-2 / (kappa + 1)))


@pytest.mark.parametrize(("kappa", "steps"), [(10, 69), (100, 691), (1000, 6908)])
def test_the_best_fixed_step_takes_half_kappa_times_the_digits(kappa, steps):
    """The stop rule is the error itself, in the 2-norm; each step shrinks it by (κ − 1)/(κ + 1) exactly."""
    assert steps_to_a_millionth(fixed_step(*diagonal(1, kappa)), row(1, 1)) == steps == steps_by_the_law(kappa)


def test_the_law_goes_on():
    assert steps_by_the_law(10_000) == 69_078
    assert math.isclose(steps_by_the_law(1e8) / 1e8, math.log(1e6) / 2, rel_tol=1e-6)


def test_line_search_does_no_better_from_its_worst_start():
    """From (κ, 1) every gradient has two equal entries, up to their sign: the best step is the fixed one."""
    for kappa in (10.0, 100.0):
        H, b = diagonal(1, kappa)
        searched = fixed = row(kappa, 1)
        for k in range(1, 30):
            (_, searched), (_, fixed) = line_search(H, b)(k, searched), fixed_step(H, b)(k, fixed)
            assert torch.allclose(searched, fixed, rtol=1e-12)
        assert steps_to_a_millionth(line_search(H, b), row(kappa, 1)) == steps_by_the_law(kappa)


def test_line_search_does_better_from_elsewhere():
    assert steps_to_a_millionth(line_search(*diagonal(1, 100)), row(1, 1)) < steps_by_the_law(100) / 2


def test_momentum_takes_the_square_root():
    """Steps over √κ from equal errors along ten eigenvectors: they hardly grow, where those of descent grow by √10."""
    kappas = (10, 100, 1000, 10_000)
    steps = []
    for kappa in kappas:
        H, b = diagonal(*np.logspace(0, math.log10(kappa), 10))
        start = torch.ones(1, 10).double()
        steps.append(steps_to_a_millionth(heavy_ball(H, b), start, torch.zeros_like(start)))
    slope = np.polyfit(np.log(kappas), np.log(steps), 1)[0]
    assert math.isclose(slope, 0.5, abs_tol=0.1)
    assert all(steps_by_the_law(math.sqrt(kappa)) <= each for kappa, each in zip(kappas, steps, strict=True))
    assert steps[-1] < steps_by_the_law(10_000) / 50


def test_a_harmonic_step_shrinks_the_error_as_a_power():
    """Π_{t≤T} (1 − λ/t) = Γ(T + 1 − λ) / (Γ(1 − λ) T!) ~ T^(−λ): λ = 0.1 would need 10^60 steps for a millionth."""
    eigenvalues = np.array([0.1, 0.37, 0.9])
    H, b = diagonal(*eigenvalues)
    theta = torch.ones(1, 3).double()
    for t in range(1, 1001):
        _, theta = harmonic_step(H, b)(t, theta)
    exact = [math.exp(math.lgamma(1001 - v) - math.lgamma(1 - v) - math.lgamma(1001)) for v in eigenvalues]
    assert np.allclose(theta.numpy()[0], exact, rtol=1e-11)
    assert exact[0] > 0.4


# ---- what ends it ----


def test_newton_and_the_normal_equations_need_no_step_size():
    numbers = numbers_of(n=40, d=8, cond=1000)
    for solver in (
        mse_linear.cholesky_preconditioner,
        mse_linear.normal_equations,
        mse_linear.lstsq,
    ):
        assert mse_linear.distance(numbers, solver(*tensors(numbers)).numpy()) < 1e-12


def test_conjugate_gradients_take_d_steps_and_a_few_where_rounding_counts():
    """Ten eigenvalues: ten steps at κ = 10. At κ = 10⁴ p has lost its conjugacy by then, and descent takes 69078."""
    for kappa, most in ((10, 10), (10_000, 30)):
        H, _ = diagonal(*np.logspace(0, math.log10(kappa), 10))
        start = torch.ones(1, 10).double()
        assert steps_to_a_millionth(conjugate_step(H), start, -start @ H, -start @ H) <= most


def test_the_normal_equations_square_the_condition_number():
    """cond(X) = 1e6 is κ = 1e12: a QR factorisation of X loses 6 digits of a residual of zero, XᵀX loses 12."""
    numbers = numbers_of(n=40, d=8, cond=10**12)
    numbers["y"] = numbers["X"] @ numbers["solution"]
    by_qr, by_gram = (
        mse_linear.distance(numbers, solver(*tensors(numbers)).numpy())
        for solver in (mse_linear.lstsq, mse_linear.normal_equations)
    )
    assert by_qr < 1e-9
    assert by_gram > 1e3 * by_qr


def test_a_diagonal_preconditioner_mends_bad_scales_only():
    """Columns in other units: one step. The same spectrum in a rotated basis: as slow as without."""
    H, b = diagonal(1, 100)
    assert steps_to_a_millionth(diagonal_step(H, b), row(1, 1)) == 1
    c = math.cos(math.pi / 4)
    rotation = torch.tensor([[c, -c], [c, c]]).double()
    rotated = rotation @ H @ rotation.mT
    assert steps_to_a_millionth(diagonal_step(rotated, b), row(1, 1) @ rotation.mT) == steps_by_the_law(100)


def test_a_sweep_is_gauss_seidel_and_keeps_its_residual():
    """D + L of H, solved forward; the residual costs O(N) a coordinate, and stays y − X θ."""
    theta, X, y = tensors(numbers_of(n=40, d=8, cond=10))
    H, b = quadratic(X, y)
    _, swept, r = sweep(X)(1, theta.unsqueeze(0), (y - X @ theta).unsqueeze(0))
    lower = torch.tril(H)
    assert torch.allclose(swept[0], torch.linalg.solve(lower, b - (H - lower) @ theta), rtol=1e-12)
    assert torch.allclose(r[0], y - X @ swept[0], rtol=1e-12)


# ---- the Gram matrix ----


def test_the_gram_matrix_loses_digits_where_the_residual_is_small():
    """Near the solution of a consistent system f is what is left of ‖y‖², and the condition says so."""
    numbers = numbers_of(n=40, d=8, cond=1000)
    numbers["y"] = numbers["X"] @ numbers["solution"]
    numbers["theta"] = numbers["solution"] * (1 + 1e-6)
    exact = mse_linear.reference(numbers)
    prepared = mse_linear._with_gram(gram, *tensors(numbers))
    plain, cancelling = (
        float(relative_error(function(*tensors(numbers))[0].numpy(), np.asarray(exact["value"], float), None))
        for function in (closed_form, prepared)
    )
    assert plain < 1e-8
    assert cancelling > 100 * plain
    kappa = mse_linear.gram_condition(size("test", n=40, d=8, cond=1000), numbers, mse_linear.reference)
    assert cancelling < 8 * 2.0**-53 * kappa["value"]


# ---- where they end ----


def test_known_points_are_told_apart():
    """Wherever the gradient is small L is convex: a point in a flat direction is unfinished, and no saddle."""
    numbers = numbers_of(n=40, d=8, cond=1000)
    _, X, y = tensors(numbers)
    solution = torch.from_numpy(numbers["solution"])
    flattest = torch.linalg.eigh(quadratic(X, y)[0])[1][:, 0]
    theta = torch.stack((solution, solution + flattest, 0 * solution, 1e4 * solution, math.nan * solution))
    here = mse_linear.landscape(X, y, solution)
    assert classify(here, theta) == ["solution", "unfinished", "unfinished", "infinity", "infinity"]
    assert torch.allclose(here.residual(theta)[0], closed_form(solution, X, y)[0])


def test_the_race_tells_the_fates_apart():
    numbers = numbers_of(n=200, d=10, cond=10)
    theta, X, y = tensors(numbers)
    starts = torch.stack((theta, 10 * theta, -theta))
    rows = {row.solver: row for row in mse_linear.race(starts, X, y, torch.from_numpy(numbers["solution"]))}
    assert list(rows) == list(mse_linear.SOLVERS)
    kinds = {solver: row.kinds for solver, row in rows.items()}
    assert kinds.pop("harmonic") == {"unfinished": 3}
    assert all(each == {"solution": 3} for each in kinds.values())
    iterations = {solver: row.iterations for solver, row in rows.items()}
    assert iterations["lstsq"] == iterations["normal_equations"] == 0
    assert iterations["cholesky_preconditioner"] == 1
    assert iterations["conjugate_gradients"] <= 12
    assert iterations["momentum"] < iterations["gradient_descent"] / 2
    assert abs(iterations["gradient_descent"] - math.log(1e8) / math.log(11 / 9)) < 15
    # Each start has iterations of its own, as it would have alone.
    together = mse_linear.SOLVERS["gradient_descent"](starts, X, y)
    assert together.iterations[1] == mse_linear.gradient_descent(starts[1], X, y).iterations
    assert torch.equal(together.x[1], mse_linear.gradient_descent(starts[1], X, y).x)
