"""compare and assert_same_gradient, for users without a declaration."""

import math

import pytest
import torch

import gradrace


def f(x, k):
    return (x**k).sum()


def g(x, k):
    return torch.exp(k * torch.log(x)).sum()


X = torch.linspace(0.5, 2, 50, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_formulations_tie(dtype):
    gradrace.assert_same_gradient(f, g, (X.to(dtype), 3))


def test_a_comparison_is_a_table_with_a_ratio():
    comparison = gradrace.compare(f, g, (X, 3), rounds=3)
    assert comparison.same_gradient
    assert comparison.ratio > 0
    lines = str(comparison).splitlines()
    assert any("f" in line and "reference" in line for line in lines)
    assert any("g" in line and "value: agree, input 0: agree" in line for line in lines)


WRONG = {
    "sign": (lambda x, k: -f(x, k), "input 0: disagree"),
    "a millionth": (lambda x, k: f(x, k) * (1 + 1e-6), "input 0: disagree"),
    "detached": (lambda x, k: f(x.detach(), k), "input 0: none"),
    "zero": (lambda x, k: f(x.detach(), k) + 0 * x.sum(), "input 0: zero"),
    "nan": (lambda x, k: f(x, k) + torch.sqrt(x - x).sum(), "input 0: nan"),
    "float32": (lambda x, k: f(x.float(), k).double(), "value: disagree"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_seen(name):
    function, message = WRONG[name]
    with pytest.raises(AssertionError, match=message):
        gradrace.assert_same_gradient(f, function, (X, 3))


def test_a_wrong_gradient_is_seen_behind_a_right_sum():
    """Outputs are paired with a random cotangent: a permuted output has the same sum."""
    with pytest.raises(AssertionError, match="input 0: disagree"):
        gradrace.assert_same_gradient(lambda x: x * x, lambda x: (x * x).flip(0), (X,))


def test_every_floating_input_is_differentiated():
    with pytest.raises(AssertionError, match="input 1: none"):
        gradrace.assert_same_gradient(lambda x, y: x @ y, lambda x, y: x @ y.detach(), (X, X.flip(0)))
    gradrace.assert_same_gradient(lambda x, y: (x * x).sum(), lambda x, y: x @ x, (X, X))


def test_nothing_to_differentiate_is_bad_input():
    with pytest.raises(gradrace.UsageError, match="nothing to differentiate"):
        gradrace.assert_same_gradient(f, g, (3, 2))


def test_what_cannot_be_judged_is_bad_input():
    with pytest.raises(gradrace.UsageError, match="returns tuple; return one tensor"):
        gradrace.assert_same_gradient(lambda x: (x, x), f, (X,))
    with pytest.raises(gradrace.UsageError, match="no two significant digits"):
        gradrace.assert_same_gradient(lambda x: torch.sin(1e9 * x), lambda x: torch.sin(1e9 * x), (X.float(),))
    weight = torch.ones(50, dtype=torch.float32)
    with pytest.raises(gradrace.UsageError, match="does not run on float64 inputs"):
        gradrace.assert_same_gradient(lambda x: x @ weight, lambda x: x @ weight, (X.float(),))


def test_outputs_of_different_shapes_are_bad_input():
    with pytest.raises(gradrace.UsageError, match="have the shapes"):
        gradrace.assert_same_gradient(lambda x: x, lambda x: x.sum(), (X,))


def test_a_function_that_writes_into_its_inputs_is_bad_input_and_the_inputs_stay():
    x, k = torch.ones(3, dtype=torch.float64), torch.ones((), dtype=torch.int64)

    def counts(x, k):
        k += 1
        return (x * k).sum()

    with pytest.raises(gradrace.UsageError, match="counts writes into its input 1; let it work on a copy"):
        gradrace.compare(counts, counts, (x, k))
    assert k == 1


def test_float16_is_judged_by_its_own_roundoff():
    x = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float16)
    assert gradrace.compare(lambda x: (x * x).sum(), lambda x: (x**2).sum(), (x,)).same_gradient
    with pytest.raises(gradrace.UsageError, match="in bfloat16 the tolerance would be"):
        gradrace.compare(lambda x: (x * x).sum(), lambda x: (x**2).sum(), (x.bfloat16(),))


def test_what_is_wrong_does_not_race():
    x = torch.rand(100, dtype=torch.float64)
    found = gradrace.compare(lambda x: (x * x).sum(), lambda x: (x.detach() * x).sum(), (x,), rounds=3)
    line = next(line for line in str(found).splitlines() if "disagree" in line)
    assert line.split("│")[3].strip() == "–"


def test_work_stands_beside_the_time():
    x = torch.rand(1000, dtype=torch.float64)
    found = gradrace.compare(lambda x: (x**3).sum(), lambda x: (x * x * x).sum(), (x,))
    assert [work.saved_bytes for work in found.works] == [0, 8000]
    assert "8.00 kB" in str(found)


def test_the_inputs_are_left_alone():
    x = X.clone().requires_grad_()
    gradrace.compare(f, g, (x, 3), rounds=1)
    assert x.grad is None
    assert math.isclose(x.sum().item(), X.sum().item())
