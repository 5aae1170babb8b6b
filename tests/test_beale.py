"""Beale's function against exact rationals and published numbers; where its solvers end, and why."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial

from gradrace.cases import Case, Scenario
from gradrace.declare import size
from gradrace.families import beale
from gradrace.families.beale import HOMEWORK_START, MONOMIALS, SOLUTION, SOLVERS, C
from gradrace.tolerance import tolerance
from gradrace.verify import CONFIDENCE_Z

SECOND_SADDLE = (0.100537937324, -2.64451358502)


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


HOMEWORK = points(HOMEWORK_START)


def value(p):
    return beale.literal_powers(p)[0].item()


def box(starts):
    return torch.from_numpy(np.random.default_rng(7).uniform(-3, 3, (starts, 2)))


# ---- the reference ----


def polynomial(x, y, by_x=0, by_y=0):
    """A derivative of the expanded polynomial, in exact rational arithmetic."""
    return sum(
        Fraction(a) * math.perm(i, by_x) * math.perm(j, by_y) * x ** (i - by_x) * y ** (j - by_y)
        for a, i, j in MONOMIALS
        if i >= by_x and j >= by_y
    )


def test_the_expansion_is_the_function():
    """Two polynomials of degree 2 in x and 6 in y that agree on 3 × 7 points are one."""
    for x, y in product(map(Fraction, range(3)), map(Fraction, range(7))):
        assert polynomial(x, y) == sum((Fraction(c) - x * (1 - y**i)) ** 2 for i, c in enumerate(C, 1))


def test_the_reference_agrees_with_exact_rationals():
    rows = [(Fraction(7, 10), Fraction(7, 5)), (Fraction(-9, 4), Fraction(1, 8)), (Fraction(3), Fraction(5, 8))]
    rows = [(Fraction(float(x)), Fraction(float(y))) for x, y in rows]
    numbers = {"p": np.array(rows, dtype=float)}
    exact, hessian = beale.reference_gradient(numbers), beale.reference_hessian(numbers)["p"]
    assert math.isclose(exact["value"], sum(polynomial(*row) for row in rows), rel_tol=1e-15)
    for k, row in enumerate(rows):
        gradient = [float(polynomial(*row, *by)) for by in ((1, 0), (0, 1))]
        assert np.allclose(exact["p"][k].astype(float), gradient, rtol=1e-15, atol=0)
        curvature = [[float(polynomial(*row, *by)) for by in line] for line in (((2, 0), (1, 1)), ((1, 1), (0, 2)))]
        assert np.allclose(hessian[k].astype(float), curvature, rtol=1e-15, atol=0)


def test_values_and_gradients_are_the_published_ones():
    at = np.array([HOMEWORK_START, (1, 1), (0, 0), (4, 1)])
    gradient = beale.reference_gradient({"p": at})["p"].astype(float)
    assert np.allclose(gradient, [(20.4483904, 45.6048656), (0, 27.75), (-12.75, 0), (0, 111)], rtol=1e-14)
    assert math.isclose(beale.reference_gradient({"p": at[:1]})["value"], 26.49666164, rel_tol=1e-14)


def test_the_minimum_and_the_saddles_have_the_published_hessians():
    p = np.array([SOLUTION, (0, 1), SECOND_SADDLE])
    value = [beale.reference_gradient({"p": p[k : k + 1]})["value"] for k in range(3)]
    assert np.allclose(np.array(value, dtype=float), [0, 14.203125, 9.86451228475556], rtol=1e-14, atol=0)
    assert np.abs(beale.reference_gradient({"p": p})["p"]).max() < 1e-9
    hessians = beale.reference_hessian({"p": p})["p"].astype(float)
    assert np.array_equal(hessians[0], [[101 / 32, -183 / 16], [-183 / 16, 369 / 8]])
    low, high = np.linalg.eigvalsh(hessians[0])
    assert np.allclose([low, high], [0.301463646522, 48.9797863535], rtol=1e-11)
    assert math.isclose(high / low, 162.47, abs_tol=5e-3)
    assert np.allclose(np.linalg.eigvalsh(hessians[1]), [-27.75, 27.75], rtol=1e-15)
    assert np.linalg.det(hessians[2]) < 0


# ---- what variable projection rests on ----

CURVE = (Polynomial([1]), Polynomial([1, 1]), Polynomial([1, 1, 1]))
"""q = s / (1 − y)."""


def test_there_are_three_critical_points_and_no_fourth():
    """‖r‖² = ‖c‖² − N²/D rises with (2y − 1)(3y³ + 11y² + 10y + 5), whose cubic has one real root; N has none."""
    y = Polynomial([0, 1])
    N, D, cubic = beale.N(y), beale.D(y), Polynomial([5, 10, 11, 3])
    assert sum(c * each for c, each in zip(C, CURVE, strict=True)) == N
    assert sum(each * each for each in CURVE) == D
    assert N * D.deriv() - 2 * N.deriv() * D == 0.75 * (2 * y - 1) * cubic
    d, c, b, a = 5, 10, 11, 3
    assert 18 * a * b * c * d - 4 * b**3 * d + b * b * c * c - 4 * a * c**3 - 27 * a * a * d * d < 0
    assert N.coef[1] ** 2 < 4 * N.coef[0] * N.coef[2]
    (real,) = (root.real for root in cubic.roots() if abs(root.imag) < 1e-9)
    assert math.isclose(real, SECOND_SADDLE[1], rel_tol=1e-11)
    assert math.isclose(beale.best_x(real), SECOND_SADDLE[0], rel_tol=1e-11)
    # Only at y = 1, where every s_i is 0, is x not the best of its y: there ∂f/∂y = 2 x (…) is 0 at x = 0 alone.
    assert beale.reference_gradient({"p": np.array([(1e-3, 1.0)])})["p"][0, 1] > 0


def test_infinity_is_no_place_on_the_circle():
    infimum = 14.203125 - 13.875**2 / 14
    assert math.isclose(infimum, 0.452008928571, rel_tol=1e-12)
    y = 1 + 1e-6
    assert math.isclose(value(points((beale.best_x(y), y))), infimum, rel_tol=1e-4)
    assert (beale.N(1.0), beale.D(1.0)) == (13.875, 14)
    assert beale.projected_step(1.0) < -0.1


def test_the_projected_step_is_gauss_newton_on_the_projected_residual():
    """By a complex step of r = c − q (c·q / q·q)."""

    def residual(y):
        q = np.array([each(y) for each in CURVE])
        return np.array(C) - q * (q @ np.array(C)) / (q @ q)

    for y in (-3.0, -0.7, 0.3, 1.0, 1.4, 9.0):
        r, J = residual(y), residual(y + 1e-30j).imag / 1e-30
        assert math.isclose(beale.projected_step(y), -(J @ r) / (J @ J), rel_tol=1e-11)


# ---- formulations ----


def test_the_expansion_cancels_near_the_solution():
    """Terms of 50 whose sum is 1e-14: all that is left is their rounding, and the condition says so."""
    p = points((3 + 1e-7, 0.5))
    exact = beale.reference_gradient({"p": p.numpy()})["value"]
    wrong = abs(beale.expanded_polynomial(p)[0].item() / exact - 1)
    assert wrong > 1e-2
    for right in (beale.closed_form(p)[0], beale.numpy_columns(p)[0], beale.literal_powers(p)[0]):
        assert abs(right.item() / exact - 1) < 1e-7
    (expanded,) = (row for row in beale.beale.variants if row.name == "expanded_polynomial")
    kappa = expanded.condition(size(b=1), {"p": p.numpy()}, beale.reference_gradient)
    assert kappa["value"] * 2.0**-53 > wrong / 100


def test_the_expansion_is_judged_by_its_own_condition():
    """Far from the solution nothing cancels, and it is held to as much as the others."""
    scenario = Scenario(beale.beale, "value_and_gradient", beale.beale.sizes[1], "float64", "cpu")
    cases = {row.name: Case(scenario, row) for row in beale.beale.variants}
    assert tolerance(cases["expanded_polynomial"], "value") < tolerance(cases["literal_powers"], "value")


def test_points_do_not_mix_in_two_pullbacks():
    """A point at infinity spoils its own Hessian alone."""
    p = torch.cat((box(4), points((math.inf, 1))))
    exact = beale.reference_hessian({"p": p[:4].numpy()})["p"].astype(float)
    assert np.allclose(beale.hessian_two_pullbacks(p)[:4], exact, rtol=1e-12)


# ---- where solvers end, from the homework's start ----


def ends(name, **how):
    descent = SOLVERS[name](HOMEWORK, **how)
    (kind,) = beale.endpoints.classify(beale.LANDSCAPE, descent.x)
    return descent, kind


def test_newton_falls_into_a_saddle():
    """In six steps, of which the sixth is shorter than 1e-10."""
    descent, kind = ends("newton")
    assert kind == "saddle"
    assert torch.allclose(descent.x, points((0, 1)), atol=1e-10)
    assert descent.iterations.item() == 6


@pytest.mark.parametrize(
    ("damped", "kind"),
    [(1e-6, "solution")]
    + [(share, "infinity") for share in (1e-5, 1e-4, 1e-3, 1e-2)]
    + [(share, "solution") for share in (0.1, 1.0, 100.0, 1e4)],
)
def test_the_first_damping_decides_where_levenberg_marquardt_goes(damped, kind):
    """Two hundred steps, or until one is shorter than 1e-10; those that walk away have not stopped."""
    descent, found = ends("levenberg_marquardt", damped=damped)
    assert found == kind
    assert descent.stopped.item() == (kind == "solution")
    if kind == "infinity":
        assert descent.x[0, 0] < -5e3
        assert math.isclose(value(descent.x) / 2, 0.2260, abs_tol=1e-4)


def test_minpack_walks_to_infinity_and_bfgs_does_not():
    pytest.importorskip("scipy")
    descent, kind = ends("scipy_least_squares")
    assert kind == "infinity"
    assert math.isclose(value(descent.x), 0.452, abs_tol=1e-3)
    assert ends("scipy_bfgs")[1] == "solution"


@pytest.mark.parametrize(("method", "x", "cost"), [("trf", -3449.8, 0.2262256), ("dogbox", -3269.7, 0.2262419)])
def test_scipys_trust_regions_walk_to_infinity_too(method, x, cost):
    """Two hundred evaluations, SciPy's limit for two unknowns, whatever the tolerances; cost is f / 2."""
    least_squares = pytest.importorskip("scipy.optimize").least_squares

    def terms(p):
        return beale.linearise(torch.from_numpy(p))[0].numpy()

    def jacobian(p):
        return beale.linearise(torch.from_numpy(p))[1].numpy()

    found = least_squares(terms, HOMEWORK_START, jacobian, method=method)
    assert (found.nfev, found.status) == (200, 0)
    assert math.isclose(found.x[0], x, abs_tol=0.05)
    assert math.isclose(found.cost, cost, abs_tol=6e-8)
    assert beale.endpoints.classify(beale.LANDSCAPE, points(found.x.tolist())) == ["infinity"]


def test_gauss_newton_wanders_and_arrives():
    """From a thousandth of a billionth beside the start the walk takes another number of steps, 60 to 430."""
    starts = HOMEWORK + 1e-12 * torch.from_numpy(np.random.default_rng(0).standard_normal((50, 2)))
    descent = SOLVERS["gauss_newton"](starts)
    assert (beale.LANDSCAPE.distance(descent.x) < 1e-9).double().mean() > 0.9
    assert descent.iterations.min() > 50
    assert len(descent.iterations.unique()) > 20


@pytest.mark.parametrize("name", ["variable_projection", "projection_on_circle", "projection_on_floats"])
def test_variable_projection_passes_infinity_by(name):
    descent, kind = ends(name)
    assert kind == "solution"
    assert descent.iterations.item() <= 8
    assert HOMEWORK_START[1] > 1 > SOLUTION[1]


# ---- the homework's Adam ----

PATH = {
    1: (0.6, 1.3),
    2: (0.503824, 1.20286655),
    5: (0.26377534, 0.94093197),
    10: (0.12385315, 0.61973475),
    20: (0.63193459, 0.23264911),
    50: (2.29290614, 0.08198244),
    100: (2.68040308, 0.41600982),
    200: (2.91189686, 0.47704571),
    500: (2.99925037, 0.49981238),
}


@pytest.mark.parametrize("k", PATH)
def test_the_path_of_adam(k):
    assert np.allclose(beale.adam(HOMEWORK, most=k).x[0], PATH[k], rtol=0, atol=6e-9)


def test_the_stop_rule_of_adam_bounds_its_step_and_not_its_error():
    descent = beale.adam(HOMEWORK)
    assert (descent.iterations.item(), descent.stopped.item()) == (725, True)
    assert np.allclose(descent.x[0], (2.99999665, 0.49999916), rtol=0, atol=6e-9)
    assert math.isclose(value(descent.x), 1.796e-12, rel_tol=1e-3)
    error = (descent.x[0] - points(SOLUTION)[0]).norm().item()
    assert math.isclose(error, 3.45e-6, abs_tol=5e-9)
    assert beale.LANDSCAPE.distance(descent.x).item() > 1e-6  # just not what counts as found
    assert beale.LANDSCAPE.distance(beale.adam(HOMEWORK, tolerance=1e-8).x).item() < 1e-6
    assert beale.adam(HOMEWORK.float()).iterations.item() == 714


def adam_on_floats(x, y, lr=0.1, most=1000):
    """The homework's loop as it stands: where it ends, after how many steps."""
    w, m, v = [x, y], [0.0, 0.0], [0.0, 0.0]
    for k in range(1, most + 1):
        _, gradient = beale.at_point(*w)
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradient, strict=True)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradient, strict=True)]
        change = [lr * a / (1 - 0.9**k) / (math.sqrt(b / (1 - 0.999**k)) + 1e-8) for a, b in zip(m, v, strict=True)]
        w = [each - step for each, step in zip(w, change, strict=True)]
        if math.hypot(*change) <= 1e-7:
            break
    return w, k


@pytest.mark.parametrize(
    ("start", "lr", "steps"),
    [(HOMEWORK_START, 0.1, 725), (HOMEWORK_START, 0.5, 290), ((0.0, 0.0), 0.1, 549), ((1.0, 1.0), 0.1, 330)],
)
def test_adam_stops_after_as_many_steps_as_a_plain_loop(start, lr, steps):
    descent = beale.adam(points(start), lr=lr)
    w, k = adam_on_floats(*start, lr=lr)
    assert descent.iterations.item() == k == steps
    assert np.allclose(descent.x[0], w, rtol=0, atol=1e-9)


def test_adam_may_take_long_or_for_ever():
    unfinished = beale.adam(HOMEWORK, lr=0.01)
    assert not unfinished.stopped
    assert np.allclose(unfinished.x[0], (2.72630752, 0.42190673), rtol=0, atol=6e-9)
    assert adam_on_floats(*HOMEWORK_START, lr=0.01, most=5000)[1] == 3933
    assert adam_on_floats(4, 4, most=20_000)[1] == 11_729


def test_adam_runs_away_and_where_it_is_then_is_chance():
    """From (−2, 2) with a rate of 0.1. Three thousand steps are the same to fifteen digits, in any precision too; then
    the walk along the valley begins to swing, and after 20000 steps a start that was moved by 1e-12 is elsewhere.
    """
    point = (-6.8051792688, 1.1296627267)
    assert np.allclose(adam_on_floats(-2, 2, most=3000)[0], point, rtol=0, atol=6e-11)
    assert np.allclose(beale.adam(points((-2, 2)), most=3000).x[0], point, rtol=0, atol=6e-11)
    assert math.isclose(beale.at_point(*point)[0], 0.66352834762, abs_tol=6e-11)
    moved = [adam_on_floats(-2 + 1e-12 * k, 2, most=20_000) for k in range(-2, 3)]
    assert all(k == 20_000 for _, k in moved)
    ends = np.array([end for end, _ in moved])
    assert ((ends[:, 0] < -10) & (ends[:, 1] > 1)).all()
    assert np.ptp(ends[:, 0]) > 0.1
    assert 0.452 < np.median([beale.at_point(*end)[0] for end in ends]) < 0.6


# ---- over many starts ----

STARTS = 2000
TORCH_SOLVERS = [name for name in SOLVERS if not name.startswith("scipy")]


@pytest.mark.parametrize("name", TORCH_SOLVERS)
def test_the_declared_rate_of_success_holds_over_many_starts(name):
    (row,) = (row for row in beale.beale.variants if row.name == name)
    declared = row.success.get("box", 1.0)
    found = (beale.LANDSCAPE.distance(SOLVERS[name](box(STARTS)).x) <= 1e-6).double().mean().item()
    assert abs(found - declared) <= CONFIDENCE_Z * math.sqrt(declared * (1 - declared) / STARTS) + 0.01


def test_the_rate_of_variable_projection_is_a_length():
    """It finds the solution from above the second saddle's y, whatever x is: all but this share of the box."""
    (row,) = (row for row in beale.beale.variants if row.name == "variable_projection")
    assert math.isclose(row.success["box"], (3 - SECOND_SADDLE[1]) / 6, abs_tol=1e-4)
    starts = box(STARTS)
    found = beale.LANDSCAPE.distance(SOLVERS["variable_projection"](starts).x) <= 1e-6
    assert torch.equal(found, starts[:, 1] > SECOND_SADDLE[1])


def test_on_the_circle_every_start_descends_to_the_solution():
    """From 3001 points of it, y = ∞ at its end among them."""
    y = torch.linspace(-math.pi / 2 + 1e-3, math.pi / 2, 3001, dtype=torch.float64).tan()
    assert y[-1] > 1e16
    descent = SOLVERS["projection_on_circle"](torch.stack((y, y), dim=-1))
    assert (beale.LANDSCAPE.distance(descent.x) <= 1e-6).all()
    assert descent.iterations.max() <= 15


def test_the_race_tells_the_fates_apart():
    rows = {row.solver: row for row in beale.race(box(200), tuple(TORCH_SOLVERS))}
    assert set(rows) == set(TORCH_SOLVERS)
    assert rows["newton"].kinds["saddle"] > 150
    assert rows["levenberg_marquardt"].kinds.keys() == {"solution", "infinity"}
    assert rows["adam"].kinds["unfinished"] > 50
    assert rows["projection_on_circle"].kinds == {"solution": 200}
    assert rows["projection_on_circle"].iterations <= 7
    assert rows["projection_on_circle"].distance < 1e-10
    assert all(sum(row.kinds.values()) == row.starts == 200 for row in rows.values())
