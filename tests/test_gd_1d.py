"""Descent in one variable: the notes' finals, where float32 stalls, two-cycles, and the kink at the minimum."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from gradrace.cases import all_cases
from gradrace.families import endpoints, gd_1d
from gradrace.families.gd_1d import (
    GAP,
    OBJECTIVES,
    autograd,
    backward,
    closed_orbit,
    closed_slope,
    compensated,
    cosine,
    cosine_slope_and_curvature,
    first_order,
    in_place,
    numpy_columns,
    product,
    python_floats,
    unrolled,
)
from gradrace.verify import verify

STEP = 1e-30
ULP = 2.0**-21
"""The spacing of float32 between 4 and 8."""


def starts(*x, dtype=torch.float64):
    return torch.tensor(x, dtype=dtype)


# ---- the reference ----


def test_the_reference_agrees_with_rationals_and_a_complex_step():
    """Second routes: exact rationals for the parabolas; for the cosine x_0 + i h, its sign that of the real part."""
    x, step, k = np.array([-2.0, -0.5, 0.25, 3.0, 9.0]), 0.05, 40
    exact = gd_1d.reference({"x": x, "f": "absolute", "step": step, "k": k})

    def orbit(x):
        for _ in range(k):
            x -= Fraction(step) * ((1 if x > 0 else -1) + 2 * (x - 5))
        return x

    h = Fraction(1, 10**9)
    ends = [orbit(Fraction(start)) for start in x]
    slopes = [(orbit(Fraction(start) + h) - end) / h for start, end in zip(x, ends, strict=True)]
    assert np.allclose(exact["value"].astype(float), [float(end) for end in ends], rtol=1e-15)
    assert np.allclose(exact["x"].astype(float), [float(slope) for slope in slopes], rtol=1e-15)

    x, step = np.array([-4.6, -3.2, -1.6, 0.7, 2.2, 3.9]), 0.001
    z = x + 1j * STEP
    for _ in range(k):
        z = z - step * (np.cos(4 * z) - 4 * z * np.sin(4 * z) + 2 * np.sign(z.real))
    exact = gd_1d.reference({"x": x, "f": "cosine", "step": step, "k": k})
    assert np.allclose(exact["value"].astype(float), z.real, rtol=1e-14)
    assert np.allclose(exact["x"].astype(float), z.imag / STEP, rtol=1e-12)


@pytest.mark.parametrize("f", OBJECTIVES)
def test_the_derivatives_are_those_of_the_function(f):
    x = torch.linspace(-5, 5, 100).double().requires_grad_()
    (slope,) = torch.autograd.grad(OBJECTIVES[f].function(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    by_hand = OBJECTIVES[f].slope_and_curvature(torch, x.detach())
    assert torch.allclose(slope, by_hand[0], rtol=1e-13)
    assert torch.allclose(slope, OBJECTIVES[f].slope(torch, x.detach()), rtol=1e-13)
    assert torch.allclose(curvature, torch.as_tensor(by_hand[1]).double(), rtol=1e-12)


@pytest.mark.parametrize("size", gd_1d.gd_1d.sizes[:4], ids=lambda size: size.word)
def test_drawn_orbits_keep_away_from_the_kink(size):
    numbers = gd_1d.draw(size, np.random.default_rng(0))
    assert numbers["x"].shape == (size["b"],)
    orbit = [gd_1d.descend(np, numbers["x"], numbers["f"], numbers["step"], k) for k in range(size["k"] + 1)]
    assert np.abs(orbit).min() > GAP


# ---- |x| + (x − 5)² ----


def test_the_convex_function_ends_where_the_notes_end():
    """From 0 and 10 by 150 steps of 0.05; sgn 0 = 0, so that the first step from 0 is longer than the others."""
    ends = closed_slope(starts(0, 10), "absolute", 0.05, 150)
    assert torch.allclose(ends, starts(4.5 - 4 * 0.9**149, 4.5 + 5.5 * 0.9**150), rtol=1e-15)
    assert torch.allclose(ends, starts(4.499999391593, 4.500000752903), rtol=0, atol=6e-13)
    for descent in (backward, autograd, closed_slope, numpy_columns):
        narrow = descent(starts(0, 10, dtype=torch.float32), "absolute", 0.05, 150)
        assert narrow.tolist() == [4.499998092651367, 4.500001907348633]  # the notes print 4.499998


def test_the_notes_true_minimum_is_a_point_of_their_grid():
    """The minimum is 4.5, where the slope 1 + 2 (x − 5) is 0."""
    grid = torch.linspace(0, 10, 100)
    best = grid[OBJECTIVES["absolute"].function(grid).argmin()].item()
    assert f"{best:.6f}" == "4.545455"
    assert OBJECTIVES["absolute"].slope(np, 4.5) == 0
    assert abs(best - 4.5) > 1e4 * abs(4.499998 - 4.5)


RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)


def test_a_smaller_step_ends_further_away_in_float32():
    """A step of 2 η |e| rounds away below half an ulp: |e| ≤ ulp / 4η, and the bound is nearly reached."""
    x = starts(0, 10, dtype=torch.float32)
    errors = [np.abs(numpy_columns(x, "absolute", rate, int(12 / rate)).numpy() - 4.5) for rate in RATES]
    for rate, error in zip(RATES, errors, strict=True):
        assert (error <= ULP / (4 * rate)).all()
        assert (error >= ULP / (4 * rate) - ULP).all()
    published = [9.5e-7, 1.9e-6, 5.7e-6, 1.1e-5, 2.4e-5, 1.19e-4]
    assert np.allclose([error[0] for error in errors], published, rtol=0.05)
    assert (np.diff([error[0] for error in errors]) > 0).all()


def test_compensation_cures_it():
    x = starts(0, 10, dtype=torch.float32)
    for rate in RATES[:-1]:
        assert (compensated(x, "absolute", rate, int(12 / rate)) - 4.5).abs().max() <= ULP


def test_an_equal_formula_stalls_elsewhere():
    """x (1 − 2η) + … rounds the large x where x − η f′ rounds the small step."""
    ends = in_place(starts(0, 10, dtype=torch.float32), "absolute", 0.05, 150)
    assert ends.tolist() != [4.499998092651367, 4.500001907348633]
    assert (ends - 4.5).abs().max() < 1e-5


def test_the_orbit_in_closed_form_is_the_recursion():
    """For every number of steps, on both sides of 0 and across it."""
    x = torch.linspace(-8, 12, 81).double() + 1e-3
    for k in (0, 1, 2, 5, 17, 60):
        assert torch.allclose(closed_orbit(x, "absolute", 0.05, k), closed_slope(x, "absolute", 0.05, k), rtol=1e-13)


# ---- x cos 4x + 2 |x| ----

MINIMA = {
    -4.699063257647: (4.7057371623, 74.65),
    -3.121483710037: (3.1315761321, 49.14),
    -1.529166939939: (1.5503184399, 22.80),
    0.683767017659: (0.7394936091, 6.885),
    2.329151124320: (2.3427651201, 36.18),
    3.910966323574: (3.9189977740, 61.93),
}


def test_the_local_minima_are_known():
    for x, (value, curvature) in MINIMA.items():
        slope, found = cosine_slope_and_curvature(gd_1d.FLOATS, x)
        assert abs(slope) < 1e-10
        assert math.isclose(found, curvature, rel_tol=1e-3)
        assert math.isclose(cosine(starts(x)).item(), value, abs_tol=6e-11)


def test_the_global_minimum_is_the_kink():
    """f = |x| (2 + sgn x cos 4x) ≥ |x|, and 0 is in the subdifferential [−1, 3] there."""
    x = torch.linspace(-5, 5, 1001).double()
    assert (cosine(x) >= x.abs() - 1e-15).all()
    assert cosine(starts(0)).item() == 0
    one_sided = [OBJECTIVES["cosine"].slope(gd_1d.FLOATS, x) for x in (-1e-9, 1e-9)]
    assert np.allclose(one_sided, [-1, 3], atol=1e-7)


def test_a_descent_that_starts_at_the_minimum_walks_away():
    """Autograd answers 1 at 0: sgn 0 = 0 leaves cos 0."""
    leaf = starts(0).requires_grad_()
    (slope,) = torch.autograd.grad(cosine(leaf).sum(), leaf)
    assert slope.item() == 1
    assert autograd(starts(0), "cosine", 0.001, 1).item() == -0.001


ENDS = {
    -3.5: -3.1216740269,
    -2.5: -3.1182930066,
    -2.0: -1.5404819697,
    -1.0: -1.2083705081,
    -0.5: -0.1211516193,
}


def test_the_cosine_ends_where_the_notes_end():
    """By 150 steps of 0.001, of which the notes show figures."""
    x = starts(*ENDS)
    for descent in (closed_slope, autograd, in_place, python_floats):
        assert torch.allclose(descent(x, "cosine", 0.001, 150), starts(*ENDS.values()), rtol=0, atol=6e-11)
        narrow = descent(x.float(), "cosine", 0.001, 150).double()
        assert torch.allclose(narrow, starts(*ENDS.values()), rtol=0, atol=1e-6)


def test_two_of_them_have_not_arrived():
    """The notes take the end of the last for the minimum: f is 0.135 there, and 0 at 0."""
    assert math.isclose(cosine(starts(ENDS[-0.5])).item(), 0.1351, abs_tol=5e-5)
    longer = python_floats(starts(-1, -0.5), "cosine", 0.001, 5000)
    assert math.isclose(longer[0], -1.529166939939, abs_tol=1e-9)
    chatter = [python_floats(longer[1:], "cosine", 0.001, k).item() for k in range(20)]
    assert max(map(abs, chatter)) <= 3 * 0.001
    assert min(chatter) < 0 < max(chatter)


def test_a_step_over_two_over_the_curvature_ends_in_a_two_cycle():
    """0.05 > 2/f″ = 0.0407 at the minimum −3.1215: the minimum repels."""
    ends = [python_floats(starts(-3.5), "cosine", 0.05, k).item() for k in (150, 151, 152)]
    assert math.isclose(ends[0], -3.2959592563, abs_tol=6e-11)
    assert math.isclose(ends[1], -2.85507, abs_tol=6e-6)
    assert math.isclose(ends[2], ends[0], abs_tol=1e-9)
    for step, repels in ((0.04, False), (0.0415, True)):
        moved = python_floats(starts(-3.121483710037 + 1e-6), "cosine", step, 100).item()
        assert (abs(moved + 3.121483710037) > 1e-6) == repels


# ---- where they end ----


def test_known_points_are_told_apart():
    """Valleys by −3.1215 and −1.5292, the top between them, and the kink at 0, near which a descent swings."""

    def slope(x):
        return OBJECTIVES["cosine"].slope(gd_1d.FLOATS, x)

    top = brentq(slope, -2.9, -1.8)
    assert slope(top - 0.01) > 0 > slope(top + 0.01)
    due = {
        0.0: "solution",
        -0.003: "solution",
        -3.121483710037: "minimum",
        -1.529166939939: "minimum",
        top: "maximum",
        ENDS[-1.0]: "unfinished",
        ENDS[-0.5]: "unfinished",
        1e4: "infinity",
        math.nan: "infinity",
    }
    assert endpoints.classify(gd_1d.landscape("cosine"), starts(*due), gd_1d.CLOSE) == list(due.values())
    due = {4.5: "solution", 4.4: "unfinished", 0.0: "unfinished", -math.inf: "infinity"}
    assert endpoints.classify(gd_1d.landscape("absolute"), starts(*due), gd_1d.CLOSE) == list(due.values())


def test_the_race_from_the_notes_starts():
    """Three in valleys and two on their way after 150 steps; after 5000 only the last has found the global minimum."""
    rows = gd_1d.race(starts(*ENDS), "cosine", 150)
    assert [row.solver for row in rows] == [each.__name__ for each in gd_1d.DESCENTS if each is not closed_orbit]
    assert all(row.kinds == {"minimum": 3, "unfinished": 2} and row.iterations == 150 for row in rows)
    (row,) = gd_1d.race(starts(*ENDS), "cosine", 5000, names=("closed_slope",))
    assert row.kinds == {"minimum": 4, "solution": 1}
    (row,) = gd_1d.race(starts(-3.5), "cosine", 150, step=0.05, names=("python_floats",))
    assert row.kinds == {"unfinished": 1}


def test_the_race_to_the_convex_minimum():
    rows = gd_1d.race(starts(0, 10, dtype=torch.float32), "absolute", 150)
    assert len(rows) == len(gd_1d.DESCENTS)
    assert all(row.kinds == {"solution": 2} for row in rows)
    distances = {row.solver: row.distance for row in rows}
    assert distances["closed_slope"] == 4.5 - 4.499998092651367
    (row,) = gd_1d.race(starts(0, 10), "absolute", 40, names=("in_place",))
    assert row.kinds == {"unfinished": 2}


# ---- the derivative of a descent ----


def test_the_derivative_is_a_product():
    """(1 − 2η)^k for the parabola, whatever the start; nothing at all is known of it by the first-order specimen."""
    x, cotangent = starts(-2.5, 0.5, 9), starts(1, -2, 3)
    for function in (unrolled, closed_slope, closed_orbit, first_order):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, "absolute", 0.05, 40), leaf, cotangent)
        due = cotangent if function is first_order else 0.9**40 * cotangent
        assert torch.allclose(gradient, due, rtol=1e-13)
    assert torch.allclose(product(x, "absolute", 0.05, 40, cotangent)[1][0], 0.9**40 * cotangent, rtol=1e-13)


def test_the_specimen_is_seen_as_wrong_in_the_gradient_alone():
    (case,) = (
        case for case in all_cases([gd_1d.gd_1d]) if case.id == "gd_1d/first_order/vjp/cosine_b5_k40/float64/cpu"
    )
    outputs = verify(case).outputs
    assert (outputs["value"].status, outputs["x"].status) == ("agree", "disagree")


# ---- a scalar that the same notes differentiate ----


def test_the_mean_of_the_notes_logarithms():
    """mean (log(x² + 1) + 5x) at 0 … 4: the gradient is (2x / (x² + 1) + 5) / 5, in exact rationals."""
    x = torch.arange(5.0).double().requires_grad_()
    value = (torch.log(x**2 + 1) + 5 * x).mean()
    (gradient,) = torch.autograd.grad(value, x)
    exact = [float((Fraction(2 * n, n * n + 1) + 5) / 5) for n in range(5)]
    assert math.isclose(value.item(), math.log(1 * 2 * 5 * 10 * 17) / 5 + 10, rel_tol=1e-15)
    assert math.isclose(value.item(), 11.487676706, abs_tol=6e-10)
    assert np.allclose(gradient, exact, rtol=1e-15)
    assert np.allclose(exact, [1, 1.2, 1.16, 1.12, 1.09411764706], rtol=1e-11)
