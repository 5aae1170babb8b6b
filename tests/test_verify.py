"""The check can fail: each way of being wrong is planted and seen."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch

from conftest import make_family, only_case
from gradrace.declare import size
from gradrace.families.numerics import measure, refined_solve
from gradrace.tolerance import insignificant
from gradrace.verify import (
    ERROR_CODES,
    Check,
    Outcome,
    quantise,
    solved,
    verify,
    wilson_interval,
)

NONE = {"unused": ("none", "f does not read it")}


def right(x, unused):
    return (x * x).sum()


def direct(change):
    """A formulation that returns the true value and gradients, after `change` has been at them."""

    def function(x, unused):
        value, gradients = change((x * x).sum(), [2 * x, None])
        return value, tuple(gradients)

    return function


def planted(change, dtype="float64", **facts):
    return verify(only_case(make_family(), direct(change), dtype, computes="value_and_gradient", **facts))


def test_a_right_formulation_agrees():
    check = verify(only_case(make_family(), right, expected=NONE))
    assert (check.status, check.ok, quantise(check)) == ("none", True, 0)
    assert check.outputs["x"].status == "agree"
    assert check.first_call_s > 0


def set_entry(gradient, entry):
    changed = gradient.clone()
    changed[int(gradient.abs().argmax())] = entry
    return changed


FAULTS = {
    "sign": (lambda g: -g, "disagree"),
    "zeros": (torch.zeros_like, "zero"),
    "nan": (lambda g: set_entry(g, math.nan), "nan"),
    "infinity": (lambda g: set_entry(g, math.inf), "nan"),
    "none": (lambda g: None, "none"),
    "three percent": (lambda g: set_entry(g, 1.03 * g.abs().max() * torch.sign(g[g.abs().argmax()])), "disagree"),
    "a millionth": (lambda g: g * (1 + 1e-6), "disagree"),
    "float32": (lambda g: g.float().double(), "disagree"),
    "shape": (lambda g: g.unsqueeze(0), "error"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_fails(fault):
    change, status = FAULTS[fault]
    check = planted(lambda value, gradients: (value, [change(gradients[0]), None]), expected=NONE)
    assert check.outputs["x"].status == status
    assert not check.ok
    assert quantise(check) >= (1000 if status != "disagree" else 1)
    assert 'expected={"x": ("' + status in check.message


@pytest.mark.parametrize("fault", ["sign", "zeros", "nan", "infinity", "none", "three percent", "shape"])
def test_a_wrong_gradient_fails_in_float32_too(fault):
    change, status = FAULTS[fault]
    check = planted(lambda value, gradients: (value, [change(gradients[0]), None]), "float32", expected=NONE)
    assert (check.outputs["x"].status, check.ok) == (status, False)


def test_a_wrong_value_fails():
    check = planted(lambda value, gradients: (value * (1 + 1e-9), gradients), expected=NONE)
    assert (check.outputs["value"].status, check.ok) == ("disagree", False)


def test_none_zero_and_noise_are_told_apart():
    noise = torch.full((5,), 1e-17, dtype=torch.float64)
    for gradient, status in ((None, "none"), (0 * noise, "agree"), (noise, "noise"), (1e9 * noise, "disagree")):
        check = planted(lambda value, gradients, g=gradient: (value, [gradients[0], g]))
        assert check.outputs["unused"].status == status
        assert check.ok == (status == "agree")


def test_a_declared_none_for_a_gradient_that_is_not_zero_may_not_race():
    check = planted(lambda value, gradients: (value, [None, None]), expected={"x": ("none", "declared"), **NONE})
    assert check.ok
    assert not check.is_right
    assert quantise(check) == ERROR_CODES["none"]


def test_an_unexpected_success_fails():
    expected = {"x": ("disagree", "said to be wrong"), **NONE}
    check = verify(only_case(make_family(), right, expected=expected))
    assert not check.ok
    assert "derivative for x agrees" in check.message


def test_an_exception_is_an_error_and_names_itself():
    def raises(x, unused):
        raise RuntimeError("a reason\nand more")

    check = verify(only_case(make_family(), raises))
    assert (check.status, check.ok, quantise(check)) == ("error", False, ERROR_CODES["error"])
    assert check.message.endswith("raised RuntimeError: a reason")


def test_a_detached_graph_is_an_error():
    check = verify(only_case(make_family(), lambda x, unused: (x.detach() ** 2).sum()))
    assert (check.status, check.ok) == ("error", False)


def test_a_tolerance_of_one_is_no_check():
    family = make_family(condition=lambda size, numbers, reference: {"x": 1e15})
    case = only_case(family, right, "float32")
    assert "no two significant digits" in (insignificant(case) or "")
    assert verify(case).status == "skipped"


def test_a_tolerance_is_looked_at_although_the_condition_names_no_output():
    family = make_family(depth=1e6, dtypes=("float32",))
    found = verify(only_case(family, lambda x, unused: (x * x).sum(), "float32", expected=NONE))
    assert found.status == "skipped"
    assert "no two significant digits: the tolerance is 0.48" in found.message


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (lambda x: torch.complex(2 * x, x), "raised TypeError: the output is complex"),
        (lambda x: 2 * x.double(), "has another shape or dtype than the reference"),
    ],
)
def test_an_output_of_another_dtype_is_an_error(gradient, message):
    def subject(x, unused):
        return (x * x).sum(), (gradient(x), None)

    found = verify(only_case(make_family(), subject, "float32", computes="value_and_gradient", expected=NONE))
    assert (found.status, found.ok) == ("error", False)
    assert message in found.message


def test_a_result_that_is_no_tensor_is_named():
    found = verify(only_case(make_family(), lambda x, unused: (x * x).sum().item(), expected=NONE))
    assert (found.status, found.ok) == ("error", False)
    assert found.message.endswith("returned float and no tensor")


def test_a_wrong_result_of_a_kernel_that_writes_into_its_input_says_so():
    def writes(x, unused):
        x.data.mul_(2)
        return (x * x).sum()

    found = verify(only_case(make_family(), writes, expected=NONE))
    assert "value disagrees" in found.message
    assert "the kernel wrote into its input x" in found.message


def test_an_empty_input_is_judged():
    family = make_family(sizes=(size("test", n=0),))
    assert verify(only_case(family, lambda x, unused: (x * x).sum(), expected=NONE)).ok


def test_the_baseline_in_float64_is_the_default_reference():
    family = make_family(reference={}, baseline="right")
    family.variant(source="a test")(right)
    check = verify(only_case(family, lambda x, unused: (x * x).sum() + (x**3).sum(), expected=NONE))
    assert check.outputs["x"].status == "disagree"


def test_each_instance_of_a_batch_is_judged_by_its_own_size():
    """An error in a small instance does not hide behind a large one."""

    def draw(size, rng):
        return {"x": np.array([[1e14, 2e14], [1.0, 2.0]])}

    family = make_family(
        primals=("x",),
        draw=draw,
        sizes=(size("test", b=2),),
        reference={"value_and_gradient": lambda n: {"value": (n["x"] ** 2).sum(), "x": 2 * n["x"]}},
    )
    wrong = torch.tensor([[1.0, 1.0], [1.001, 1.0]], dtype=torch.float64)
    case = only_case(family, lambda x: ((x * x).sum(), (2 * x * wrong,)), computes="value_and_gradient")
    assert verify(case).outputs["x"].status == "disagree"


def test_only_the_symmetric_part_is_compared_where_that_is_declared():
    def family(**facts):
        return make_family(
            primals=("x",),
            draw=lambda size, rng: {"x": np.array([[1.0, 2.0], [2.0, 5.0]])},
            reference={"value_and_gradient": lambda n: {"value": (n["x"] ** 2).sum(), "x": 2 * n["x"]}},
            **facts,
        )

    skew = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)

    def function(x):
        return (x * x).sum(), (2 * x + skew,)

    facts = {"computes": "value_and_gradient"}
    assert not verify(only_case(family(), function, **facts)).ok
    assert verify(only_case(family(symmetric=frozenset({"x"})), function, **facts)).ok


def solver(share):
    """A solver family of 200 instances, and a formulation that finds the solution of the first `share` of them."""
    family = make_family(
        primals=("x",),
        operators=("solve",),
        sizes=(size("test", b=200),),
        draw=lambda size, rng: {"x": np.ones((200, 2)), "solution": np.full((200, 2), 3.0)},
        distance=lambda numbers, found: np.abs(np.abs(found) - numbers["solution"]).max(axis=1),
    )

    def function(x):
        found = torch.full_like(x, -3.0)
        found[int(200 * share) :] = 1.0
        return found

    return family, function


@pytest.mark.parametrize(("declared", "ok"), [(0.8, True), (0.85, True), (0.5, False), (1.0, False)])
def test_a_solver_is_judged_by_its_rate_of_success(declared, ok):
    family, function = solver(0.8)
    case = only_case(family, function, computes="solve", success={None: declared})
    assert solved(case, function(torch.ones(200, 2))).sum() == 160
    assert verify(case).ok is ok


def test_a_solver_that_answers_one_of_a_batch_fails():
    family, _ = solver(1)
    assert verify(only_case(family, lambda x: x[0] * 3, computes="solve")).status == "error"


def test_a_solver_that_returns_nan_or_zeros_fails():
    family, _ = solver(1)
    assert verify(only_case(family, lambda x: x * math.nan, computes="solve")).status == "nan"
    family, _ = solver(1)
    assert verify(only_case(family, lambda x: x * 0, computes="solve")).status == "zero"


@pytest.mark.parametrize(("successes", "trials"), [(0, 200), (163, 200), (200, 200)])
def test_wilson_interval_is_scipys(successes, trials):
    theirs = scipy.stats.binomtest(successes, trials).proportion_ci(0.999, method="wilson")
    assert np.allclose(wilson_interval(successes, trials), theirs, atol=1e-5)


def test_all_or_none_lie_in_their_own_interval():
    for trials in range(1, 2000):
        assert wilson_interval(trials, trials)[1] == 1
        assert wilson_interval(0, trials)[0] == 0


def test_quantise_counts_doublings():
    def check(error):
        return Check("id", "disagree", False, outputs={"x": Outcome("disagree", "agree", error, 1.0)})

    assert [quantise(check(error)) for error in (1.1, 2, 3, 1000, 1e300, math.inf)] == [1, 1, 2, 10, 997, 999]
    assert quantise(Check("id", "disagree", False, outputs={"x": Outcome("disagree", "agree", 1e300, 1e-16)})) == 999
    assert quantise(Check("id", "error", False)) == 1004


def test_a_check_is_plain_json():
    document = verify(only_case(make_family(), right, expected=NONE)).as_json()
    assert json.loads(json.dumps(document)) == document
    assert set(document["primals"]["x"]) == {"status", "expected", "error", "tolerance"}


def test_measured_condition_is_the_condition_of_a_power():
    """f(x) = x⁷ has κ = 7; the largest of a few normal deviates scales it by about 1 to 3."""
    kappa = measure(lambda n: {"value": n["x"] ** 7}, {"x": np.array([1.3])}, ("x",))
    assert 7 / 3 < kappa["value"] < 7 * 4


def test_refined_solve_is_exact_where_float64_is_not():
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    matrix = (Q * np.logspace(0, 6, 12)) @ Q.T
    exact = rng.standard_normal(12)
    wide = matrix.astype(np.longdouble) @ exact
    refined = np.abs(refined_solve(matrix, wide) - exact).max()
    assert refined < 1e-13
    assert np.abs(np.linalg.solve(matrix, wide.astype(float)) - exact).max() > 100 * refined
