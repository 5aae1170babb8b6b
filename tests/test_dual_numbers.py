"""Dual numbers: their arithmetic in exact rationals, the chain rule, nesting, and what forward mode costs and keeps."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

from gradrace import size
from gradrace.autodiff import dual
from gradrace.autodiff.dual import Dual
from gradrace.cases import Case, Scenario
from gradrace.families import dual_numbers as kernels
from gradrace.work import count, count_run

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

FAMILY = kernels.dual_numbers


@pytest.mark.parametrize("k", [1, 3, 20])
def test_the_reference_agrees_with_mpmath(k):
    """A second route: the composition itself differentiated by differences in fifty digits."""
    numbers = {"x": np.array([-0.6, 0.2, 0.7]), "tangent_x": np.array([1.0, -3.0, 0.5]), "k": k}
    exact = FAMILY.exact("jvp", numbers)
    with mpmath.workdps(50):
        points = [mpmath.mpf(x) for x in numbers["x"]]
        value = [float(kernels.compose(x, k, mpmath.cos)) for x in points]
        slope = [float(mpmath.diff(lambda x: kernels.compose(x, k, mpmath.cos), x)) for x in points]
    assert np.allclose(exact["value"].astype(float), value, rtol=1e-15)
    assert np.allclose(exact["tangent"].astype(float), np.multiply(slope, numbers["tangent_x"]), rtol=1e-14)


def test_neither_the_value_nor_the_tangent_is_lost_in_a_long_chain():
    """0 is a neutral fixed point: with x ← x − x³/2 the value falls as k^(−1/2), and so its derivative as k^(−3/2)."""
    x = np.array([0.3, 0.7])
    short, long = (FAMILY.exact("jvp", {"x": x, "tangent_x": np.ones(2), "k": k}) for k in (1000, 16_000))
    assert np.allclose((long["value"] / short["value"]).astype(float), 1 / 4, rtol=0.02)
    assert np.allclose((long["tangent"] / short["tangent"]).astype(float), 1 / 64, rtol=0.05)
    assert np.allclose(long["value"].astype(float), 1 / math.sqrt(16_000), rtol=0.01)


# ---- the arithmetic ----

A, B = Dual(Fraction(3, 4), Fraction(-5, 7)), Dual(Fraction(2, 3), Fraction(11, 5))


@pytest.mark.parametrize(
    ("found", "value", "tangent"),
    [
        (A + B, A.value + B.value, A.tangent + B.tangent),
        (A - B, A.value - B.value, A.tangent - B.tangent),
        (A * B, A.value * B.value, A.tangent * B.value + A.value * B.tangent),
        (A / B, A.value / B.value, (A.tangent * B.value - A.value * B.tangent) / B.value**2),
        (-A, -A.value, -A.tangent),
        (A * A * A, A.value**3, 3 * A.value**2 * A.tangent),
        (Dual(Fraction(0), Fraction(1)) * Dual(Fraction(0), Fraction(1)), 0, 0),  # ε² = 0
    ],
    ids=["sum", "difference", "product", "quotient", "negative", "cube", "square of ε"],
)
def test_the_arithmetic_is_exact_in_rationals(found, value, tangent):
    assert (found.value, found.tangent) == (value, tangent)


def test_the_chain_rule_of_three_functions():
    """f(g(h(x + ε x′))) = f(g(h)) + ε f′(g(h)) g′(h) h′ x′ with f = exp, g = sin, h = log."""
    x, dx = 2.5, -1.5
    found = dual.exp(dual.sin(dual.log(Dual(x, dx))))
    h, g = math.log(x), math.sin(math.log(x))
    assert math.isclose(found.value, math.exp(g), rel_tol=1e-15)
    assert math.isclose(found.tangent, math.exp(g) * math.cos(h) / x * dx, rel_tol=1e-15)


# ---- nesting ----


def derivative(function, at):
    return dual.value_and_gradient(function, [at])[1][0]


def by_func(function, at):
    return torch.func.jvp(function, (torch.as_tensor(at),), (torch.ones(()),))[1]


@pytest.mark.parametrize("differentiate", [derivative, by_func], ids=["dual", "torch.func.jvp"])
def test_the_epsilons_of_nested_levels_are_not_confused(differentiate):
    """d/dx [x d/dy (x + y)] = d/dx [x · 1] = 1; of one ε for both levels the inner derivative would be 2."""
    assert float(differentiate(lambda x: x * differentiate(lambda y: x + y, 1.0), 1.0)) == 1
    assert float(differentiate(lambda x: x * differentiate(lambda y: x * y * y, x), 3.0)) == 54  # of 2 x³


def test_without_levels_the_epsilons_would_be_confused():
    x, y = Dual(1.0, 1.0), Dual(1.0, 1.0)
    assert (x + y).tangent == 2
    inner = Dual(1.0, 1.0, level=1)
    assert (x + inner).tangent == 1
    assert (inner + x).tangent == 1


def test_torchs_own_dual_levels_do_not_nest():
    """It says so, where it could have confused them."""
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="Nested forward mode AD is not supported"):
        forward_ad.enter_dual_level()


def test_second_and_third_derivatives_by_nesting():
    def function(x):
        return dual.sin(x) * dual.exp(x)

    def second(x):
        return derivative(lambda y: derivative(function, y), x)

    at = 0.7
    assert math.isclose(second(at), 2 * math.cos(at) * math.exp(at), rel_tol=1e-14)
    third = 2 * (math.cos(at) - math.sin(at)) * math.exp(at)
    assert math.isclose(derivative(second, at), third, rel_tol=1e-13)


def test_mixed_derivatives_by_nesting():
    """∂²/∂x∂y of x sin(x y) + y / x in both orders."""

    def function(x, y):
        return x * dual.sin(x * y) + y / x

    x, y = 1.3, -0.4
    by_x_of_y = derivative(lambda x: derivative(lambda y: function(x, y), y), x)
    by_y_of_x = derivative(lambda y: derivative(lambda x: function(x, y), x), y)
    exact = 2 * x * math.cos(x * y) - x * x * y * math.sin(x * y) - 1 / x**2
    assert math.isclose(by_x_of_y, exact, rel_tol=1e-14)
    assert math.isclose(by_y_of_x, exact, rel_tol=1e-14)


# ---- cost ----


def work(variant, k):
    (row,) = (each for each in FAMILY.variants if each.name == variant)
    return count(Case(Scenario(FAMILY, "jvp", size(b=5, k=k), "float64", "cpu"), row))


def test_forward_mode_costs_a_fixed_multiple_of_the_function():
    """Whatever the length: by hand 2½ operations for each of the function's two, by a rule for each operation four."""
    x = torch.linspace(0.2, 0.6, 5, dtype=torch.float64)
    for k in (50, 100):
        primal = count_run("primal", lambda k=k: kernels.compose(x, k), (x,)).counters["ops"]
        assert primal == 2 * k
        assert math.isclose(work("chain_rule", k).counters["ops"], 2.5 * primal, rel_tol=0.05)
        assert work("dual_tensors", k).counters["ops"] == 4 * primal


def test_torchs_forward_mode_does_the_arithmetic_of_dual_numbers():
    """And beside it half as many views and checks, which compute nothing."""
    ours, torchs = (work(name, 100).forward.by_op for name in ("dual_tensors", "forward_ad"))
    assert {name: torchs[name] for name in ours} == dict(ours)


def test_forward_mode_keeps_nothing_and_reverse_mode_the_whole_chain():
    forward, reverse = work("forward_ad", 100), work("reverse", 100)
    assert forward.saved_bytes == forward.graph_nodes == 0
    assert reverse.saved_bytes >= 100 * 5 * 8
    assert reverse.graph_nodes >= 200
