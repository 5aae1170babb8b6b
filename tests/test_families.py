"""Every case of the test sizes has exactly the status that its variant declares."""

import numpy as np
import pytest

from gradrace import witnesses
from gradrace.cases import Case, Selection, all_cases, load_families
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import name_outputs, prepare, prepare_case
from gradrace.reference import reference
from gradrace.tolerance import UNIT_ROUNDOFF, insignificant, tolerance
from gradrace.verify import check, quantise, verify

CASES = Selection(tier="test").apply(all_cases())
BY_ID = {case.id: case for case in CASES}
DRAWS = 10


@pytest.mark.parametrize("case_id", BY_ID)
def test_status_is_as_declared(case_id):
    found = verify(BY_ID[case_id])
    if found.status == "skipped":
        pytest.skip(found.message)
    assert found.ok, found.message
    assert (quantise(found) == 0) == (not BY_ID[case_id].variant.is_specimen)


TOLERATED: dict[str, list[Case]] = {}
"""The formulations of each scenario: side by side, so that its exact values are computed once for all of them."""
for case in CASES:
    if (
        case.scenario.dtype == "float64"
        and case.scenario.operator != "solve"
        and not case.variant.is_specimen
        and not case.skip_reason
        and case.variant.name != "compiled"  # its formulation is nested_where, and ten compilations take half a minute
    ):
        TOLERATED.setdefault(case.scenario.id, []).append(case)


@pytest.mark.parametrize("scenario_id", TOLERATED)
def test_no_tolerance_is_too_wide_to_fail(scenario_id, monkeypatch):
    """Ten draws are as declared, and their worst error is at least a thousandth of the tolerance, or of u."""
    monkeypatch.setattr(witnesses, "AGAIN_S", 0.0)  # the witnesses that run a kernel again are heard above
    cases = TOLERATED[scenario_id]
    worst: dict[tuple[str, str], float] = {}
    for draw in range(DRAWS):
        for case in cases:
            found = check(prepare_case(case, draw))
            assert found.ok, found.message
            for name, outcome in found.outputs.items():
                if outcome.error is not None:
                    worst[case.id, name] = max(worst.get((case.id, name), 0.0), outcome.error)
    assert {case_id for case_id, _ in worst} == {case.id for case in cases}
    for (case_id, name), error in worst.items():
        allowed = float(np.max(tolerance(BY_ID[case_id], name)))
        assert allowed <= 1000 * max(UNIT_ROUNDOFF["float64"], error), (case_id, name)


@pytest.mark.parametrize("family", load_families(), ids=lambda family: family.name)
def test_references_are_finite_and_not_trivial(family):
    """A gradient that is zero where no formulation says so would hide every fault."""
    scenarios = {case.scenario for case in CASES if case.scenario.family is family}
    for scenario in scenarios:
        if scenario.operator == "solve":
            continue
        for name, exact in reference(scenario).items():
            assert np.isfinite(exact).all(), (scenario.id, name)
            assert exact.any() or (family.name, name) == ("sandwich", "A"), (scenario.id, name)


def test_the_wasteful_loop_has_no_digit_left_in_float32():
    (case,) = (
        case for case in all_cases() if case.id == "sandwich/wasteful/value_and_gradient/d5_n10000_cond100/float32/cpu"
    )
    assert "no two significant digits" in (insignificant(case) or "")


def test_forward_and_reverse_mode_are_adjoint():
    """ū·(J v) = (Jᵀ ū)·v on drawn vectors, with the jvp of one formulation and the vjp of another."""
    forward = BY_ID["soft_threshold/relu_relu/jvp/n257/float64/cpu"]
    reverse = BY_ID["soft_threshold/softshrink/vjp/n257/float64/cpu"]
    numbers, other = draw_numbers(forward.scenario), draw_numbers(reverse.scenario, draw=1)
    reverse_inputs = to_inputs(reverse.scenario, {**other, "y": numbers["y"]})
    pullback = name_outputs(reverse, prepare(reverse, reverse_inputs)())["y"].numpy()
    pushforward = name_outputs(forward, prepare_case(forward).thunk())["tangent"].numpy()
    assert np.isclose(other["cotangent"] @ pushforward, pullback @ numbers["tangent_y"], rtol=1e-13)
