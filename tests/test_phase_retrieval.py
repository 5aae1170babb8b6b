"""Where the solvers of phase retrieval end: a solution of either sign, a spurious minimum, a saddle."""

import math

import numpy as np
import pytest
import torch

from gradrace.declare import size
from gradrace.families import phase_retrieval
from gradrace.families.endpoints import classify
from gradrace.families.phase_retrieval import landscape, race
from gradrace.verify import wilson_interval


def plane(c, *points):
    """Rows e1, e2 and c (1, 1) with the solution (1, 1), at each of these points."""
    A = torch.tensor([[1, 0], [0, 1], [c, c]]).double().expand(len(points), 3, 2)
    solution = torch.ones(len(points), 2).double()
    return landscape(A, (A @ solution[..., None])[..., 0] ** 2, solution), torch.tensor(points).double()


KNOWN = {
    (1.0, 1.0): "solution",
    (-1.0, -1.0): "solution",
    (1.0, -1.0): "minimum",
    (-1.0, 1.0): "minimum",
    (0.0, 0.0): "maximum",
    (0.9, -0.4): "unfinished",
    (1e9, 0.0): "infinity",
    (math.nan, 1.0): "infinity",
}


def test_known_points_are_told_apart():
    """At (1, −1) the third product is 0 and the others are right: ∇f = 0, and ∇²f has the eigenvalues 2 and 2 − 8c⁴."""
    assert classify(*plane(0.5, *KNOWN)) == list(KNOWN.values())
    assert classify(*plane(0.8, (1, -1))) == ["saddle"]


@pytest.mark.parametrize("c", [0.5, 0.8])
def test_the_planted_point_is_critical_by_the_reference(c):
    A, x = np.array([[1, 0], [0, 1], [c, c]]), np.array([1.0, -1.0])
    numbers = {"A": A, "x": x, "y": (A @ np.ones(2)) ** 2}
    assert np.abs(phase_retrieval.reference_gradient(numbers)["x"]).max() < 1e-15
    eigenvalues = np.linalg.eigvalsh(phase_retrieval.reference_hessian(numbers)["x"].astype(float))
    assert np.allclose(eigenvalues, sorted((2, 2 - 8 * c**4)), rtol=1e-14)


def test_the_published_newton_walk_ends_at_a_saddle():
    """RandomState(0), n = 20, m = 100, from (1, …, 1): f = 13,150 and the lowest eigenvalue −397."""
    rng = np.random.RandomState(0)
    solution, A = (torch.from_numpy(rng.randn(*shape))[None] for shape in ((20,), (100, 20)))
    y = (A @ solution[..., None])[..., 0] ** 2
    newton, *others = race(torch.ones(1, 20).double(), A, y, solution)
    assert newton.kinds == {"saddle": 1}
    assert math.isclose(newton.residual, 1.315e4, rel_tol=1e-3)
    assert [row.kinds for row in others] == [{"solution": 1}] * 4


def test_the_race_tells_the_fates_apart():
    numbers = phase_retrieval.draw(size("test", n=20, m=100, b=200, start="random"), np.random.default_rng(5))
    x, A, y, solution = (torch.from_numpy(numbers[name]) for name in ("x", "A", "y", "solution"))
    names = ("newton", "gauss_newton", "levenberg_marquardt")
    rows = {row.solver: row for row in race(x, A, y, solution, names)}
    assert tuple(rows) == names
    assert all(sum(row.kinds.values()) == row.starts == 200 for row in rows.values())
    assert rows["newton"].kinds["saddle"] > 5
    assert rows["newton"].kinds["minimum"] > 20
    assert rows["newton"].kinds["solution"] < rows["gauss_newton"].kinds["solution"]
    # It mostly gives up on its way to another minimum, as its stop rule on the cost has it.
    damped = rows["levenberg_marquardt"].kinds
    assert damped["unfinished"] > 2 * damped["minimum"]
    assert damped["saddle"] == damped["infinity"] == 0
    for variant in phase_retrieval.phase_retrieval.variants:
        if variant.name in rows:
            assert abs(rows[variant.name].kinds["solution"] / 200 - variant.success["random"]) < 0.12
    assert all(row.iterations < 40 and row.distance < 1e-14 for row in rows.values())


# ---- the homework's size, RandomState(0): what was computed apart from gradrace ----


@pytest.fixture(scope="module")
def published():
    """x* and A in the order in which they are drawn, n = 20, m = 100."""
    rng = np.random.RandomState(0)
    solution = rng.randn(20)
    A = rng.randn(100, 20)
    return {"A": A, "y": (A @ solution) ** 2, "solution": solution}


def tensors(problem, x):
    return [torch.from_numpy(each) for each in (x, problem["A"], problem["y"])]


def test_the_published_problem_at_its_solution_and_at_zero(published):
    A, y, solution = (published[name] for name in ("A", "y", "solution"))
    assert solution @ solution == pytest.approx(20.939053456, abs=6e-10)
    assert y.sum() == pytest.approx(2119.337159908, abs=6e-10)
    assert float(phase_retrieval.autograd(*tensors(published, 0 * solution))) == pytest.approx(31038.114306635)
    hessian = phase_retrieval.reference_hessian({**published, "x": solution})["x"].astype(float)
    J = 2 * (A @ solution)[:, None] * A
    assert np.allclose(hessian, J.T @ J / 2, rtol=1e-13, atol=1e-11)
    lowest, *_, highest = np.linalg.eigvalsh(hessian)
    assert (lowest, highest) == pytest.approx((728.610319695, 17999.982891462), abs=6e-9)
    assert highest / lowest == pytest.approx(24.704540143, abs=6e-10)
    # Zero is a local maximum, where no method that looks for ∇f = 0 may stop.
    at_zero = phase_retrieval.reference_hessian({**published, "x": 0 * solution})["x"].astype(float)
    assert np.allclose(at_zero, -A.T @ (y[:, None] * A), rtol=1e-13, atol=1e-11)
    assert np.linalg.eigvalsh(at_zero)[-1] < 0


def test_the_published_hessians_at_ones(published):
    x, A, y = tensors(published, np.ones(20))
    hessian = phase_retrieval.hessian_gemm(x, A, y)
    assert float(hessian[0, 0]) == pytest.approx(4155.061023, abs=6e-7)
    by_gauss_newton = phase_retrieval.gauss_newton_matrix(A @ x, A)
    assert float((by_gauss_newton - hessian).norm() / hessian.norm()) == pytest.approx(0.4168, abs=6e-5)


def test_gauss_newton_is_driven_away_from_the_saddle_that_newton_finds(published):
    """The map x → x + p_GN has the Jacobian I − H_GN⁻¹ H there, whose spectral radius is above 1."""
    x, A, y = tensors(published, np.ones(20))
    saddle = phase_retrieval.newton(x, A, y).x
    step = torch.linalg.solve(
        phase_retrieval.gauss_newton_matrix(A @ saddle, A), phase_retrieval.hessian_gemm(saddle, A, y)
    )
    radius = torch.linalg.eigvals(torch.eye(20) - step).abs().max()
    assert float(radius) == pytest.approx(1.377, abs=5e-4)


ITERATIONS = {"newton": 13, "gauss_newton": 7, "levenberg_marquardt": 9}
"""From ones, by their stop rules: a step of 1e-8 ‖x‖, and for the damped one a residual of 1e-13 ‖y‖ too."""


@pytest.mark.parametrize("solver", ITERATIONS)
def test_the_iterations_from_ones(published, solver):
    found = getattr(phase_retrieval, solver)(*tensors(published, np.ones(20)))
    assert (found.iterations.tolist(), found.stopped.tolist()) == ([ITERATIONS[solver]], [True])


WALKS = {
    "_gauss_newton_step": [1.08e-1, 6.75e-3, 3.76e-5, 1.44e-9],
    "_newton_step": [1.08e-1, 2.37e-2, 1.52e-3, 7.41e-6, 1.77e-10],
}
"""‖x − x*‖ / ‖x*‖ after 0, 1, … steps from x* + 0.1 randn of RandomState(1)."""


@pytest.mark.parametrize("step", WALKS)
def test_the_walks_near_the_solution(published, step):
    x, A, y = tensors(published, published["solution"] + 0.1 * np.random.RandomState(1).randn(20))
    distances = []
    for _ in range(8):
        distances.append(float(phase_retrieval.distance(published, x.numpy())))
        x = x + getattr(phase_retrieval, step)(x, A, y)
    published_ones = WALKS[step]
    assert distances[: len(published_ones)] == pytest.approx(published_ones, rel=6e-3)
    assert distances[-1] < 1e-15


# ---- how often: an independent implementation in NumPy, 100 instances for each number ----

RATES = {
    ("newton", "random"): (0.02, 0.18, 0.45, 0.63, 0.61, 0.80),
    ("gauss_newton", "random"): (0.13, 0.38, 0.63, 0.83, 0.89, 0.95),
    ("levenberg_marquardt", "random"): (0.13, 0.38, 0.63, 0.83, 0.89, 0.95),
    ("gauss_newton", "spectral"): (0.45, 0.81, 0.97, 0.98, 0.99, 1.00),
    ("newton", "spectral"): (0.19, 0.56, 0.76, 0.91, 0.95, 0.99),
}
"""By solver and start, for m / n = EQUATIONS at n = 20: the share of instances that were solved to 1e-6."""

EQUATIONS = (2, 3, 4, 5, 6, 8)


def agree(successes, trials, others, other_trials):
    """May both be of one probability? Their intervals of 99.9 % overlap."""
    low, high = wilson_interval(successes, trials)
    other_low, other_high = wilson_interval(others, other_trials)
    return low <= other_high and other_low <= high


def solved(solver, n, m, start, instances, seed=7):
    """How many instances the solver solves to 1e-6."""
    numbers = phase_retrieval.draw(size("test", n=n, m=m, b=instances, start=start), np.random.default_rng(seed))
    x, A, y = (torch.from_numpy(numbers[name]) for name in ("x", "A", "y"))
    found = getattr(phase_retrieval, solver)(x, A, y)
    return int((phase_retrieval.distance(numbers, found.x.numpy()) < 1e-6).sum())


@pytest.mark.parametrize("equations", EQUATIONS)
@pytest.mark.parametrize(("solver", "start"), RATES)
def test_the_rates_of_success_are_those_of_an_independent_implementation(solver, start, equations):
    ours = solved(solver, 20, 20 * equations, start, instances=200)
    rate = RATES[solver, start][EQUATIONS.index(equations)]
    assert agree(ours, 200, round(100 * rate), 100)


LARGE = {
    **{("random", 2): 0, ("random", 2.5): 0, ("random", 3): 0, ("random", 4): 4, ("random", 5): 14},
    **{("spectral", 2): 2, ("spectral", 2.5): 9, ("spectral", 3): 21, ("spectral", 4): 25, ("spectral", 5): 25},
}
"""Of 25 instances with n = 100, by start and m / n: Gauss–Newton from a random start fails more often as n grows."""


@pytest.mark.parametrize(("start", "equations"), LARGE)
def test_a_random_start_is_worse_in_a_hundred_dimensions(start, equations):
    assert agree(
        solved("gauss_newton", 100, int(100 * equations), start, instances=25), 25, LARGE[start, equations], 25
    )


def test_newton_ends_as_often_at_each_kind_of_point():
    """Of 100 instances with m = 5 n: 65 solutions, 30 minima, 5 saddles."""
    numbers = phase_retrieval.draw(size("test", n=20, m=100, b=200, start="random"), np.random.default_rng(11))
    (row,) = race(*(torch.from_numpy(numbers[name]) for name in ("x", "A", "y", "solution")), ("newton",))
    for kind, published in {"solution": 65, "minimum": 30, "saddle": 5, "unfinished": 0, "infinity": 0}.items():
        assert agree(row.kinds[kind], 200, published, 100)


def test_rates_that_differ_do_not_agree():
    assert not agree(100, 200, 90, 100)
    assert not agree(198, 200, 83, 100)
    assert agree(166, 200, 83, 100)
