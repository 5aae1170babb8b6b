"""A product of n numbers: exact rationals, zeros, overflow, and how many multiplications each mode makes of it."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradrace import size
from gradrace.cases import Case, Scenario
from gradrace.families import speelpenning as kernels
from gradrace.inputs import to_inputs
from gradrace.operators import name_outputs, prepare
from gradrace.work import count, count_run

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

FAMILY = kernels.speelpenning
NAMES = tuple(variant.name for variant in FAMILY.variants)
DIVIDE = ("quotient", "exp_of_logs")
"""Each divides the product, as it is, by an entry."""


def case(name, n):
    (variant,) = (each for each in FAMILY.variants if each.name == name)
    return Case(Scenario(FAMILY, "value_and_gradient", size(n=n), "float64", "cpu"), variant)


def gradient(name, entries):
    """Value and gradient at these entries by a formulation."""
    asked = case(name, len(entries))
    inputs = to_inputs(asked.scenario, {"x": np.array(entries, dtype=np.float64)})
    outputs = name_outputs(asked, prepare(asked, inputs)())
    return outputs["value"].item(), outputs["x"].tolist()


# ---- the reference ----


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_the_reference_agrees_with_exact_rationals(n):
    """A second route: n products of fractions, each leaving one factor out, rounded once."""
    numbers = FAMILY.numbers(size(n=n), np.random.default_rng(n))
    exact = FAMILY.exact("value_and_gradient", numbers)
    x = [Fraction(entry) for entry in numbers["x"].tolist()]
    assert math.isclose(exact["value"], float(math.prod(x)), rel_tol=3e-16)
    left_out = [float(math.prod(x[:i] + x[i + 1 :])) for i in range(n)]
    assert np.allclose(exact["x"].astype(float), left_out, rtol=3e-16, atol=0)


def test_the_reference_agrees_with_mpmath_where_rationals_are_long():
    numbers = FAMILY.numbers(size(n=1000), np.random.default_rng(0))
    exact = FAMILY.exact("value_and_gradient", numbers)
    with mpmath.workdps(40):
        product = mpmath.fprod(numbers["x"].tolist())
        quotients = [float(product / entry) for entry in numbers["x"].tolist()]
    assert np.allclose(exact["x"].astype(float), quotients, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_product_of_drawn_entries_overflows_or_underflows(dtype):
    """Neither from one end nor from the other; n = 400 has the widest range."""
    for n in (2, 400, 1_000_000):
        logs = np.log(np.abs(FAMILY.numbers(size(n=n), np.random.default_rng(n))["x"]))
        for order in (logs, logs[::-1]):
            assert np.abs(np.cumsum(order)).max() < 0.5 * math.log(np.finfo(dtype).max)


# ---- where dividing has no answer ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("entries", [(2.0, 0.0, 3.0, -5.0, 0.5), (0.0,), (0.0, 7.0), (1.0, 3.0, -0.0)])
def test_one_zero_has_a_derivative_that_is_the_product_of_the_others(name, entries):
    zero = entries.index(0)
    exact = [math.prod(entries[:i] + entries[i + 1 :]) for i in range(len(entries))]
    value, found = gradient(name, entries)
    assert value == 0
    assert exact[zero] != 0
    if name in DIVIDE:
        assert math.isnan(found[zero])
    else:
        assert found == exact


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("entries", [(2.0, 0.0, 3.0, 0.0, 0.5), (0.0, 0.0), (0.0, 0.0, 0.0, 1.0)])
def test_two_zeros_leave_no_derivative(name, entries):
    value, found = gradient(name, entries)
    assert value == 0
    if name in DIVIDE:
        assert [math.isnan(slope) for slope in found] == [entry == 0 for entry in entries]
    else:
        assert not any(found)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy says so
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("entries", [(1e-200, -1e-200, 3.0), (1e200, -1e200), (1e-160, 1e-160, 0.1)])
def test_a_product_beyond_the_floats_has_a_gradient_within(name, entries):
    """torch.prod divides as the quotient does, since no entry is zero; neither warns."""
    exact = [math.prod(entries[:i] + entries[i + 1 :]) for i in range(len(entries))]
    _, found = gradient(name, entries)
    agrees = np.allclose(found, exact, rtol=1e-15, atol=0)
    assert agrees == (name not in (*DIVIDE, "prod"))


# ---- the cheap gradient ----


class Multiplications(TorchDispatchMode):
    """How many numbers torch multiplies and divides."""

    def __init__(self):
        super().__init__()
        self.numbers = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        operation = function.__name__.partition(".")[0]
        if operation in ("mul", "div"):
            self.numbers[operation] += result.numel()
        elif operation in ("prod", "cumprod"):
            self.numbers["mul"] += args[0].numel() - 1
        return result


def multiplications(run):
    with Multiplications() as counted:
        run()
    return counted.numbers


def drawn(n):
    return torch.from_numpy(FAMILY.numbers(size(n=n), np.random.default_rng(0))["x"])


@pytest.mark.parametrize("n", [7, 64, 1000])
def test_reverse_mode_multiplies_three_times_as_often_as_the_function(n):
    """The loop, its tree, the tree's adjoints by hand and the two scans: one way forward, and two products back."""
    x = drawn(n)
    assert multiplications(lambda: kernels.loop(x)) == {"mul": n - 1}
    assert multiplications(lambda: kernels.tree(x)) == {"mul": n - 1}
    leaf = x.clone().requires_grad_()
    for function in (kernels.loop, kernels.tree):
        assert multiplications(lambda f=function: torch.autograd.grad(f(leaf), leaf)) == {"mul": 3 * (n - 1)}
    assert multiplications(lambda: kernels.tree_down_sweep(x)) == {"mul": 3 * (n - 1)}
    assert multiplications(lambda: kernels.scans(x)) == {"mul": 3 * n - 1}
    assert multiplications(lambda: kernels.branching(x)) == {"mul": n - 1, "div": n}


@pytest.mark.parametrize("n", [7, 64])
def test_left_out_one_by_one_the_products_are_n_squared(n):
    assert multiplications(lambda: kernels.leave_one_out(drawn(n))) == {"mul": n * (n - 2) + n - 1}


def operations(run, x):
    return count_run("", run, (x,)).counters["ops"]


def test_the_gradient_by_reverse_mode_costs_at_most_five_functions():
    """Whatever n is, counted with all that is dispatched beside the multiplications."""
    ratios = [
        count(case("loop", n)).counters["ops"] / operations(lambda n=n: kernels.loop(drawn(n)), drawn(n))
        for n in (32, 128, 512)
    ]
    assert max(ratios) <= 5
    assert math.isclose(ratios[0], ratios[-1], rel_tol=0.15)


def test_the_gradient_by_forward_mode_costs_some_n_functions():
    """One pass is a few functions, and there are n of them."""

    def passes(n):
        x = drawn(n)
        for unit in torch.eye(n, dtype=x.dtype):
            torch.func.jvp(kernels.loop, (x,), (unit,))

    for n in (8, 16, 32):
        ratio = operations(lambda n=n: passes(n), drawn(n)) / operations(lambda n=n: kernels.loop(drawn(n)), drawn(n))
        assert 2 * n <= ratio <= 10 * n


@pytest.mark.parametrize("name", ["tree", "tree_down_sweep"])
def test_the_operations_of_a_tree_grow_with_its_levels(name):
    """Each doubling of n adds one level, and each level the same few operations."""
    counts = [count(case(name, 2**levels)).counters["ops"] for levels in range(4, 9)]
    steps = set(np.diff(counts).tolist())
    assert len(steps) == 1
    assert 5 <= steps.pop() <= 30
