"""What a run of the gate says for people, from outcomes made by hand: no repository and no clock."""

import re
from dataclasses import replace

import pytest

from gradrace.cli.gate_report import FEW, SOME, markdown, print_outcome, summary
from gradrace.gate.changes import GradientChange
from gradrace.gate.comparing import Asked, Kernel
from gradrace.gate.contest import Contest, Control
from gradrace.gate.outcome import Outcome, Seen
from gradrace.gate.sequential import Estimate
from gradrace.gate.timing import Rules, Timing
from gradrace.gate.verdict import findings, judge

EQUAL = GradientChange("bitwise equal")
DRIFTED = GradientChange("equal within the tolerance", "A", (4, 0), 0.5, 0.5000000000000001, 0.02)


def timing(name, judgement="same", pairs=20, **facts):
    """Half a second a pair; with less than the fifteen pairs that red takes nothing could have been seen."""
    smallest = 0.04 if pairs >= 15 else None
    found = Timing(name, judgement, Estimate(1.0, 0.99, 1.01, pairs), [], [], smallest, pairs / 2, fewest=15)
    return replace(found, **facts)


def outcome(timings, kernels=None, controls=("same",), budget_s=100.0):
    kernels = kernels or [Kernel(each.id, "both", gradient=EQUAL) for each in timings]
    ties = [Control("torch alone", timing("canary", judgement)) for judgement in controls]
    contest = Contest({each.id: each for each in timings}, ties, "fork", [0])
    found = findings(kernels, [], contest.timings, {})
    seen = Seen("HEAD", None, {"torch": "2.13.0"}, "src/gradrace")
    rules = Rules(budget_s=budget_s)
    verdict = judge(kernels, found, ties, timings)
    return Outcome(seen, seen, kernels, [], contest, Asked(), rules, found, verdict, {}, "2026-11-22T08:00:00+00:00")


def test_the_controls_are_told_as_they_were_judged():
    """Those that could not be flagged for want of pairs prove nothing."""
    told = summary(outcome([timing("k")], controls=["same", "undecided", "undecided"]))
    assert "controls that must tie (base against itself, and torch alone): same 1, undecided 2" in told
    assert "intervals: each end holds at 99 %, whenever one looks" in told


def test_a_budget_is_named_that_would_do():
    """Two kernels of 5 pairs lack 10 each at half a second, one that was not raced 15: 17.5 s on top of 100."""
    few = [timing("a", "undecided", 5), timing("b", "undecided", 5), timing("c", "undecided", 0), timing("d")]
    line = "could not have seen any slowdown in 3 kernels, which had too few pairs: --budget 120 would"
    assert line in summary(outcome(few))
    nobody = summary(outcome([timing("a", "undecided", 0)]))
    assert "could not have seen any slowdown in 1 kernel, which had too few pairs: a larger --budget would" in nobody


def test_a_kernel_that_raises_or_is_decided_lacks_no_budget():
    found = outcome([timing("a", "undecided", 0, failure="ValueError: tired"), timing("b", "same", 9)])
    assert not any("too few pairs" in line for line in summary(found))
    assert found.verdict.sentence == "2 kernels compared, none is red"
    assert "the budget ended first" not in markdown(found)


def test_why_most_are_skipped():
    kernels = [Kernel(f"k{place}", "skipped", "no CUDA device is available") for place in range(3)]
    kernels += [Kernel("m", "skipped", "SciPy computes on the CPU"), Kernel("n", "both", gradient=EQUAL)]
    told = summary(outcome([timing("n")], kernels))
    assert "kernels: skipped 4 (3 of them: no CUDA device is available, and 1 more reason)" in told


@pytest.mark.parametrize(("count", "shown"), [(FEW, FEW), (FEW + 1, 2)])
def test_of_many_times_those_that_move_or_seem_to_are_shown(count, shown, capsys):
    timings = [timing(f"k{place:02}", "undecided" if place % 2 else "same") for place in range(count - 2)]
    timings += [timing("slow", "slower"), timing("leaning", "undecided", leans=True)]
    print_outcome(outcome(timings))
    rows = re.findall(r"^\W*(\w+)\W+(same|undecided|slower): ", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == shown
    assert {("slow", "slower"), ("leaning", "undecided")} <= set(rows)


def test_a_comment_shows_what_leans_and_folds_what_is_open():
    text = markdown(outcome([timing("leaning", "undecided", 12, leans=True), timing("open", "undecided", 12)]))
    visible, _, folded = text.partition("<details>")
    assert "| ⚠️ | `leaning` | seems slower: 1.000 × the time, 0.990 to 1.010, 12 pairs (red takes 15) |" in visible
    assert "none is red; of 2 times 2 undecided, and 1 of them seems slower." in visible
    assert folded.startswith("<summary>1 time undecided</summary>")
    assert "`open`" in folded


def test_what_is_equal_within_the_tolerance_is_named_with_its_worst_entry(capsys):
    kernels = [Kernel(f"k{place}", "both", gradient=DRIFTED) for place in range(SOME + 2)]
    found = outcome([timing("k0")], kernels)
    worst = "A[4, 0] 0.5 → 0.50000000000000011, 0.02 × the tolerance"
    assert markdown(found).count(worst) == SOME + 2
    print_outcome(found)
    output = capsys.readouterr().out
    assert output.count(worst) == SOME
    assert "not equal to the bit: 2 more, which --markdown lists" in output


def test_the_document_tells_what_was_asked_and_when():
    document = outcome([timing("k")]).as_json()
    assert document["asked"] == {"modules": (), "pattern": None, "every": False, "untouched": False}
    assert (document["date"], document["interval_level"]) == ("2026-11-22T08:00:00+00:00", 0.02)
