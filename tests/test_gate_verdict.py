"""From what was found to red and green: every rule of the verdict, on findings made by hand."""

import math
from dataclasses import replace

import pytest

from gradrace.gate.changes import COUNTERS, GradientChange, WorkChange, compare_work
from gradrace.gate.comparing import Kernel
from gradrace.gate.contest import Control
from gradrace.gate.sequential import Estimate
from gradrace.gate.timing import Timing
from gradrace.gate.verdict import Stance, as_json, findings, judge, reds, spell

EQUAL = GradientChange("bitwise equal")
MORE = WorkChange({"saved_bytes": (8, 16)})


def timed(judgement, name="k", ratio=1.0, failure=""):
    estimate = Estimate(ratio, ratio - 0.01, ratio + 0.01, 12)
    return Timing(name, judgement, estimate, [1.0], [ratio], 0.04, 0.5, failure)


def found_of(judgement=None, work=None, stance=None, acknowledged=None, failure=""):
    kernel = Kernel("k", "both", gradient=EQUAL, work=work)
    timings = {"k": timed(judgement, failure=failure)} if judgement else {}
    stances = (stance,) if stance else ()
    return {each.what: each for each in findings([kernel], [], timings, acknowledged or {}, *stances)}


@pytest.mark.parametrize(("judgement", "colour"), [("slower", "red"), ("faster", "gain")])
def test_time_is_red_or_a_gain(judgement, colour):
    found = found_of(judgement)["time"]
    assert (found.colour, found.text) == (colour, f"{judgement}: 1.000 × the time, 0.990 to 1.010, 12 pairs")


@pytest.mark.parametrize("judgement", ["same", "undecided"])
def test_nothing_is_said_of_what_is_the_same_or_undecided(judgement):
    assert found_of(judgement) == {}


def test_what_seems_slower_is_said_and_passes_unless_somebody_is_strict():
    """Ten pairs that agree are too few among many kernels, and nothing to keep quiet about."""
    leaning = replace(timed("undecided", ratio=1.2), fewest=15, leans=True)
    kernels = [Kernel("k", "both", gradient=EQUAL), Kernel("m", "both", gradient=EQUAL)]
    (found,) = findings(kernels, [], {"k": leaning, "m": timed("undecided")}, {})
    text = "seems slower: 1.200 × the time, 1.190 to 1.210, 12 pairs (red takes 15)"
    assert (found.id, found.what, found.colour, found.text) == ("k", "undecided", "notice", text)
    verdict = judge(kernels, [found], (), [leaning, timed("undecided"), timed("same")])
    assert (verdict.exit_code, verdict.word) == (0, "pass")
    assert verdict.sentence == "2 kernels compared, none is red; of 3 times 2 undecided, and 1 of them seems slower"
    assert {each.colour for each in findings(kernels, [], {"k": leaning}, {}, Stance(strict=True))} == {"red"}


@pytest.mark.parametrize(
    ("pairs", "text"), [(0, "not raced, the budget ended first"), (1, "1 pair, too few for an interval")]
)
def test_too_few_pairs(pairs, text):
    assert spell(replace(timed("undecided"), estimate=Estimate(1.0, 0.0, math.inf, pairs))) == text


def test_what_seems_slower_with_many_pairs_lacks_those_that_agree():
    leaning = replace(timed("undecided"), fewest=10, leans=True)
    assert spell(leaning).endswith("12 pairs (not enough of them that agree for red)")


def test_strict_means_that_undecided_is_red():
    assert found_of("undecided", stance=Stance(strict=True))["undecided"].colour == "red"
    assert found_of("same", stance=Stance(strict=True)) == {}


def test_a_counter_that_is_lost_is_said_and_no_gain():
    """A kernel that goes over to NumPy leaves no operation that torch counts, and no peak that it knows."""
    by_op = {"forward": {"ops": {"by_op": {}}}, "backward": {"ops": {"by_op": {}}}}
    known = dict.fromkeys(COUNTERS, 8)
    change = compare_work(
        {**by_op, "counters": known}, {**by_op, "counters": {**known, "flops": 0, "peak_bytes": None}}
    )
    found = found_of("same", change)["ops"]
    assert (found.colour, found.text) == ("notice", "flops 8 → 0 (0×), peak bytes no longer known")
    assert compare_work({**by_op, "counters": known}, {**by_op, "counters": known}).status == "same"


@pytest.mark.parametrize(("judgement", "colour"), [(None, "red"), ("same", "red"), ("faster", "notice")])
def test_only_less_time_excuses_more_work(judgement, colour):
    assert found_of(judgement, MORE)["saved_bytes"].colour == colour


def test_between_interpreters_time_and_work_are_only_said():
    found = found_of("slower", MORE, Stance(reported=True))
    assert {each.colour for each in found.values()} == {"notice"}


def test_between_interpreters_a_gradient_is_red_all_the_same():
    changed = GradientChange("changed", "x", (), 1.0, 2.0, math.inf)
    (found,) = findings([Kernel("k", "both", gradient=changed)], [], {}, {}, Stance(reported=True))
    assert found.colour == "red"


def test_a_slowdown_can_be_acknowledged():
    found = found_of("slower", acknowledged={("k", "time"): "safer"})["time"]
    assert (found.colour, found.text[-21:]) == ("notice", "(acknowledged: safer)")


@pytest.mark.parametrize(("strict", "colour"), [(False, "notice"), (True, "red")])
def test_a_kernel_that_raises_when_it_is_timed(strict, colour):
    found = found_of("undecided", stance=Stance(strict=strict), failure="ValueError: tired")["undecided"]
    assert (found.colour, found.text) == (colour, "it raises when it is called often: ValueError: tired")


def test_to_acknowledge_that_a_kernel_is_undecided_excuses_no_slowdown():
    assert found_of("slower", acknowledged={("k", "undecided"): "noise"})["time"].colour == "red"


KERNELS = [Kernel("k", "both", gradient=EQUAL)]
FLAGGED = Control("base against base", timed("slower", "c", 1.2))


def test_a_flagged_control_makes_the_machine_unfit_and_its_times_void():
    found = findings(KERNELS, [], {"k": timed("slower")}, {})
    verdict = judge(KERNELS, found, [FLAGGED])
    assert (verdict.exit_code, verdict.word) == (4, "machine unfit")
    assert verdict.sentence.startswith("c raced against itself is slower: 1.200 × the time")
    assert reds(found, [FLAGGED]) == []


def test_what_needs_no_clock_is_judged_on_an_unfit_machine_too():
    kernels = [Kernel("k", "both", gradient=GradientChange("changed", "x", (), 1.0, 2.0, math.inf))]
    assert judge(kernels, findings(kernels, [], {}, {}), [FLAGGED]).exit_code == 1


@pytest.mark.parametrize("judgement", ["same", "undecided"])
def test_a_control_that_ties_or_cannot_tell_flags_nothing(judgement):
    assert judge(KERNELS, [], [Control("torch alone", timed(judgement))]).exit_code == 0


def test_the_row_of_a_kernel_that_was_not_timed_has_the_same_keys():
    assert as_json(KERNELS[0]).keys() == as_json(KERNELS[0], timed("same")).keys()
    assert as_json(KERNELS[0])["judgement"] is None
