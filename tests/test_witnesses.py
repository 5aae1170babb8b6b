"""What a comparison with the reference cannot see, planted and seen."""

import time

import pytest
import torch

from conftest import make_family, only_case
from gradrace.cases import Selection, all_cases
from gradrace.operators import prepare_case
from gradrace.verify import ERROR_CODES, SLOW_S, check, quantise, verify
from gradrace.witnesses import REVERSE, _pushforward, _tangents

NONE = {"unused": ("none", "f does not read it")}


def objection(function, **facts):
    found = verify(only_case(make_family(), function, **{"expected": NONE, **facts}))
    assert found.ok == (not found.witnesses)
    assert quantise(found) == (ERROR_CODES["witness"] if found.witnesses else 0)
    return found


def test_a_right_kernel_meets_no_objection():
    assert objection(lambda x, unused: (x * x).sum()).witnesses == {}


def test_a_kernel_that_writes_into_its_input_is_seen():
    def writes(x, unused):
        value = (x.detach() ** 2).sum(), (2 * x.detach(), None)
        x.data.mul_(0)
        return value

    found = objection(writes, computes="value_and_gradient")
    assert list(found.witnesses) == ["inputs unmutated"]
    assert "the kernel wrote into its input x" in found.message


def test_a_kernel_that_keeps_a_state_is_seen():
    calls = []

    def drifts(x, unused):
        calls.append(1)
        return (x * x).sum() + (len(calls) - 1)

    assert list(objection(drifts).witnesses) == ["same result twice"]


def test_a_gradient_that_accumulates_is_seen():
    """`backward` adds to the leaf of the last call; the first call is right."""
    leaf = []

    def accumulates(x, unused):
        if not leaf:
            leaf.append(x.detach().requires_grad_())
        value = (leaf[0] * leaf[0]).sum()
        value.backward()
        return value.detach(), (leaf[0].grad, None)

    found = objection(accumulates, computes="value_and_gradient")
    assert list(found.witnesses) == ["same result twice"]


class _WrongForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return (x * x).sum()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return 2 * x * cotangent

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return (x * tangent).sum()


def test_a_forward_mode_that_disagrees_with_reverse_mode_is_seen():
    found = objection(lambda x, unused: _WrongForwardMode.apply(x))
    assert list(found.witnesses) == ["modes agree"]
    assert "forward mode gives" in found.message


class _NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x).sum()

    @staticmethod
    def backward(ctx, cotangent):
        return 2 * ctx.saved_tensors[0] * cotangent


def test_a_kernel_without_forward_mode_is_not_asked_for_it():
    assert objection(lambda x, unused: _NoForwardMode.apply(x)).witnesses == {}


def test_a_slow_kernel_is_not_run_again():
    calls = []

    def counted(x, unused):
        calls.append(1)
        return (x * x).sum()

    prepared = prepare_case(only_case(make_family(), counted, expected=NONE))
    found = check(prepared, patience_s=0)
    assert found.ok
    assert len(calls) == 2
    assert found.as_json()["unheard"] == ["modes agree", "second opinion"]


def test_a_slow_first_call_does_not_silence_a_witness():
    """It may have paid for imports: the kernel whose state shows in its second call is caught all the same."""
    calls = []

    def stateful(x, unused):
        calls.append(1)
        if len(calls) == 1:
            time.sleep(1.1 * SLOW_S)
        return (x * x).sum() * len(calls)

    assert set(objection(stateful).witnesses) >= {"same result twice"}


def test_a_kernel_that_runs_only_once_is_an_objection_and_no_traceback():
    kept = {}

    def once(x, unused):
        return kept.setdefault("value", (x * x).sum())

    sentence = objection(once).witnesses["same result twice"]
    assert sentence.startswith("run again, it raised RuntimeError")


class _WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x * x).sum()

    @staticmethod
    def backward(ctx, cotangent):
        return -7 * ctx.saved_tensors[0] * cotangent


def _own_judge(function):
    """The check of a baseline of a family without a reference: compared with itself it has no error."""
    family = make_family(reference={}, baseline="subject")
    return check(prepare_case(only_case(family, function, expected=NONE)))


def test_a_wrong_baseline_that_is_its_own_judge_is_seen():
    found = _own_judge(lambda x, unused: _WrongBackward.apply(x))
    assert found.status == "none"
    assert all(outcome.error in (0.0, None) for outcome in found.outputs.values())
    assert list(found.witnesses) == ["second opinion"]
    assert "falls by order 1" in found.message


def test_a_right_baseline_may_be_its_own_judge():
    assert _own_judge(lambda x, unused: (x * x * x).sum()).ok


@pytest.mark.parametrize("family", ["soft_threshold", "sandwich", "phase_retrieval", "scalar_trace"])
def test_modes_are_really_compared_in_the_catalogue(family):
    """The witness would be worthless if torch had no forward mode for these: it has one for most."""
    cases = [
        case
        for case in Selection(tier="test", family=(family,), dtype=("float64",), operator=REVERSE).apply(all_cases())
        if case.variant.computes == "primal" and not case.variant.prepare and not case.variant.is_specimen
    ]
    pushed = 0
    for case in cases:
        prepared = prepare_case(case)
        try:
            pushed += bool(_pushforward(prepared, _tangents(prepared)).any())
        except (NotImplementedError, RuntimeError):
            continue
    assert pushed >= max(1, 0.7 * len(cases))
