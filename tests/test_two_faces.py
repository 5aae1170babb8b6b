"""Two faces against smooth functions that tend to them, and at the kinks against difference quotients."""

import math

import numpy as np
import pytest
import torch

from gradrace.families.soft_threshold import THRESHOLD, soft_threshold
from gradrace.families.two_faces import (
    GAP,
    REACH,
    listing_2,
    two_faces_abs,
    two_faces_jump,
    two_faces_relu,
    two_faces_twice,
)

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

SHARPNESS = 10_000
"""At |x| = GAP, e^(−SHARPNESS GAP) is 1e−43: the smooth functions have reached their limits in thirty digits."""

SMOOTH = {
    two_faces_relu: lambda x: mpmath.log1p(mpmath.exp(-SHARPNESS * abs(x))) / SHARPNESS + (x if x > 0 else 0),
    two_faces_abs: lambda x: mpmath.log(2 * mpmath.cosh(SHARPNESS * x)) / SHARPNESS,
    two_faces_twice: lambda x: 2 * mpmath.sinh(mpmath.asinh(x)),
    two_faces_jump: lambda x: 2 * x + mpmath.tanh(SHARPNESS * x),
}
FAMILIES = pytest.mark.parametrize("family", SMOOTH, ids=lambda family: family.name)


@FAMILIES
def test_the_references_are_limits_of_smooth_functions(family):
    x = np.array([-REACH, -1.7, -GAP, GAP, 0.3, REACH])
    reverse = family.reference["vjp"]({"x": x, "cotangent": np.full(x.size, 3.0)})
    forward = family.reference["jvp"]({"x": x, "tangent_x": np.full(x.size, 5.0)})
    with mpmath.workdps(40):
        value = [float(SMOOTH[family](mpmath.mpf(v))) for v in x]
        slope = np.array([float(mpmath.diff(SMOOTH[family], mpmath.mpf(v), h=mpmath.mpf("1e-15"))) for v in x])
    for exact in (reverse, forward):
        assert np.allclose(exact["value"], value, rtol=1e-15, atol=1e-17)
    assert np.allclose(reverse["x"], 3 * slope, rtol=1e-12, atol=1e-12)
    assert np.allclose(forward["tangent"], 5 * slope, rtol=1e-12, atol=1e-12)


@FAMILIES
def test_drawn_points_stay_away_from_the_kink(family):
    x = family.draw(family.sizes[0], np.random.default_rng(0))["x"]
    assert (np.abs(x) >= GAP).all()
    assert (np.abs(x) <= REACH).all()
    assert {-1.0, 1.0} == set(np.sign(x))


def one_sided_slopes(function, at):
    step = 2.0**-20
    return (function(at) - function(at - step)) / step, (function(at + step) - function(at)) / step


@pytest.mark.parametrize("family", [two_faces_relu, two_faces_abs, two_faces_twice], ids=lambda family: family.name)
def test_clarkes_interval_lies_between_the_one_sided_slopes(family):
    def function(x):
        return family.reference["vjp"]({"x": np.array([x]), "cotangent": np.ones(1)})["value"][0]

    (zero,) = (kink for kink in family.kinks if kink.name == "zero")
    assert zero.allowed == one_sided_slopes(function, zero.at)
    assert zero.value == function(zero.at)


def test_where_the_function_jumps_no_derivative_is_right():
    (zero,) = (kink for kink in two_faces_jump.kinks if kink.name == "zero")
    assert min(one_sided_slopes(lambda x: 2 * x + np.sign(x), 0.0)) > 2.0**19
    assert zero.allowed is None


def test_the_intervals_of_soft_threshold_lie_between_the_one_sided_slopes():
    def function(y):
        return math.copysign(max(abs(y) - THRESHOLD, 0), y)

    for kink in soft_threshold.kinks:
        if not math.isnan(kink.at):
            assert np.allclose(kink.allowed, sorted(one_sided_slopes(function, kink.at)), atol=1e-8), kink.name


def test_listing_2_answers_x_for_a_vector_and_eq_4_for_a_single_entry():
    x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    value = listing_2(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.tolist() == [-1, 0, 1]
    assert slope.tolist() == [1, 1, 1]
    assert listing_2(torch.tensor([-1.0])).item() == -3
    zero = torch.zeros(1, requires_grad=True)
    assert torch.autograd.grad(listing_2(zero), zero)[0].item() == 2  # as the homework prints it


def test_listing_2_cannot_look_into_a_tensor_without_an_axis():
    """What iterating over a vector gives is returned as it is, because `x.data[0]` of it does not exist."""
    x = torch.tensor(-1.0, requires_grad=True)
    assert listing_2(x).item() == -1
    with pytest.raises(IndexError, match="0-dim"):
        x.data[0]


def slope_at_zero(function):
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(function(x), x)[0].item()


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: x**0, 0),
        (lambda x: x**1.0, 1),
        (lambda x: x**0.5, math.inf),
        (lambda x: x**x, 0),  # its slope is −∞: autograd takes 0⁰ log 0 for 0
    ],
    ids=["x⁰", "x¹", "x^½", "xˣ"],
)
def test_powers_at_zero(function, found):
    assert slope_at_zero(function) == found


def test_gradient_descent_would_leave_the_minimum_of_a_sum_of_kinks():
    """x cos 4x + 2|x| is at least |x|, so that 0 is its minimum; autograd answers 1 there, of the interval [−1, 3]."""

    def function(x):
        return x * torch.cos(4 * x) + 2 * x.abs()

    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    assert (function(x) >= x.abs() - 1e-15).all()
    assert slope_at_zero(function) == 1
    assert np.allclose(one_sided_slopes(lambda x: x * math.cos(4 * x) + 2 * abs(x), 0.0), (-1, 3), atol=1e-6)


def test_an_inverse_hyperbolic_sine_by_its_sign_is_flat_at_zero():
    """sign x log(|x| + √(x² + 1)) is differentiable everywhere, with slope 1 at 0; libraries have shipped it."""

    def by_sign(x):
        return torch.sign(x) * torch.log(x.abs() + torch.sqrt(x**2 + 1))

    x = torch.tensor([-2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(by_sign(x), torch.asinh(x), rtol=1e-14)
    assert (slope_at_zero(by_sign), slope_at_zero(torch.asinh)) == (0, 1)
