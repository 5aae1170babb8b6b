"""Dual numbers and the tape against the closed forms, against each other, and nested."""

import math

import numpy as np
import pytest

from gradrace.autodiff import dual, tape
from gradrace.families.scalar_trace import BOXES, FORWARD, FUNCTIONS, REVERSE

pytest.importorskip("hypothesis", reason="comes with the extra `test`")
from hypothesis import given
from hypothesis import strategies as st

NAMES = tuple(FUNCTIONS)


@st.composite
def function_and_point(draw):
    name = draw(st.sampled_from(NAMES))
    return name, [draw(st.floats(low, high)) for low, high in BOXES[name]]


@given(function_and_point())
def test_every_trace_gives_the_same_gradient(drawn):
    name, point = drawn
    function = FUNCTIONS[name]
    value, gradient = REVERSE[name](math, *point)
    forward = [FORWARD[name](math, *point, *(float(i == j) for i in range(len(point)))) for j in range(len(point))]
    candidates = [
        dual.value_and_gradient(lambda *v: function(dual, *v), point),
        tape.value_and_gradient(lambda *v: function(tape, *v), point),
        (forward[0][0], [dot for _, dot in forward]),
    ]
    # s1 subtracts numbers of up to e⁴ = 55 from each other twice, so its digits are counted from there.
    scale = max(abs(value), *map(abs, gradient), 55.0**2 if name == "s1" else 1.0)
    for other_value, other_gradient in candidates:
        assert abs(other_value - value) <= 1e-14 * scale
        assert np.abs(np.subtract(other_gradient, gradient)).max() <= 1e-13 * scale


OPERATIONS = {
    "x + 2": (lambda lib, x: x + 2, 1.0),
    "2 - x": (lambda lib, x: 2 - x, -1.0),
    "x - 2": (lambda lib, x: x - 2, 1.0),
    "3 * x": (lambda lib, x: 3 * x, 3.0),
    "x / 4": (lambda lib, x: x / 4, 0.25),
    "1 / x": (lambda lib, x: 1 / x, -1 / 0.7**2),
    "x * x": (lambda lib, x: x * x, 1.4),
    "x / (x + 1)": (lambda lib, x: x / (x + 1), 1 / 1.7**2),
    "-x": (lambda lib, x: -x, -1.0),
    "exp": (lambda lib, x: lib.exp(x), math.exp(0.7)),
    "log": (lambda lib, x: lib.log(x), 1 / 0.7),
    "sin": (lambda lib, x: lib.sin(x), math.cos(0.7)),
    "cos": (lambda lib, x: lib.cos(x), -math.sin(0.7)),
    "x used twice": (lambda lib, x: x * lib.sin(x) + x, math.sin(0.7) + 0.7 * math.cos(0.7) + 1),
}


@pytest.mark.parametrize("mode", [dual, tape], ids=["dual", "tape"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_local_derivatives(mode, name):
    function, derivative = OPERATIONS[name]
    _, (found,) = mode.value_and_gradient(lambda x: function(mode, x), [0.7])
    assert math.isclose(found, derivative, rel_tol=1e-14)


def test_an_unused_input_has_derivative_zero():
    for mode in (dual, tape):
        assert mode.value_and_gradient(lambda x, y: x * 2, [1.0, 5.0]) == (2.0, [2.0, 0.0])


def test_dual_numbers_nest_for_second_derivatives():
    inner = dual.Dual(dual.Dual(0.7, 1.0), dual.Dual(1.0, 0.0))
    result = dual.sin(inner) * dual.exp(inner)
    assert math.isclose(result.tangent.tangent, 2 * math.cos(0.7) * math.exp(0.7), rel_tol=1e-14)
