"""All that a run of the gate has found, as a value: from it come the table, the comment and the JSON document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from statistics import median
from typing import Any

from gradrace.environment import machine
from gradrace.gate import verdict
from gradrace.gate.arms import ALLOCATOR, THREADS, Arm
from gradrace.gate.comparing import Asked, Kernel
from gradrace.gate.contest import Contest
from gradrace.gate.timing import Rules, Timing
from gradrace.gate.verdict import Finding, Stance, Verdict
from gradrace.ledger import Difference


@dataclass(frozen=True)
class Seen:
    """One of the two states: its label, commit, versions, and where its package lies."""

    label: str
    commit: str | None
    facts: Mapping[str, str]
    place: str


@dataclass(frozen=True)
class Outcome:
    """What was compared, what it means, and on which machine. contest: None where nothing was timed."""

    base: Seen
    head: Seen
    kernels: Sequence[Kernel]
    kinks: Sequence[Difference]
    contest: Contest | None
    asked: Asked
    rules: Rules
    findings: Sequence[Finding]
    verdict: Verdict
    environment: Mapping[str, Any]
    date: str
    """When it was judged, in UTC, as ISO text."""

    @property
    def timings(self) -> Mapping[str, Timing]:
        return self.contest.timings if self.contest else {}

    @property
    def smallest(self) -> float:
        """The least slowdown that would have been found in half of the kernels; infinite where none would have been."""
        return median([_smallest(timing) for timing in self.timings.values()] or [math.inf])

    @property
    def blind(self) -> int:
        """How many kernels are undecided, and were timed too little to find any slowdown; not those that raise."""
        return len(self._blind)

    @property
    def _blind(self) -> list[Timing]:
        return [
            timing
            for timing in self.timings.values()
            if timing.judgement == "undecided" and timing.smallest is None and not timing.failure
        ]

    @property
    def enough_s(self) -> int | None:
        """About the budget, a multiple of ten seconds, with which none would have been; None where none was raced."""
        raced = [timing for timing in self.timings.values() if timing.estimate.pairs]
        if not raced:
            return None
        # A pair of what was not raced takes about what it takes of the others.
        pair_s = median(timing.seconds / timing.estimate.pairs for timing in raced)
        lacking = sum((timing.fewest - timing.estimate.pairs) * (_pair_s(timing) or pair_s) for timing in self._blind)
        return 10 * math.ceil((self.rules.budget_s + lacking) / 10)

    @property
    def untouched(self) -> int:
        """How many kernels were not timed because their code is the same in both states."""
        return sum(not kernel.is_touched and kernel.id not in self.timings for kernel in self.kernels)

    def as_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict.word,
            "exit_code": self.verdict.exit_code,
            "date": self.date,
            "base": {"label": self.base.label, "commit": self.base.commit, **self.base.facts},
            "head": {"label": self.head.label, "commit": self.head.commit, **self.head.facts},
            "asked": asdict(self.asked),
            "margin": self.rules.margin,
            "alpha": self.rules.alpha,
            "interval_level": self.rules.interval_level,
            "budget_s": self.rules.budget_s,
            "smallest": self.smallest,
            "kernels": [verdict.as_json(kernel, self.timings.get(kernel.id)) for kernel in self.kernels],
            "controls": [
                {"kind": each.kind, "id": each.timing.id, **verdict.timing_as_json(each.timing)}
                for each in (self.contest.controls if self.contest else ())
            ],
            "kinks": [str(each) for each in self.kinks],
            "findings": list(map(asdict, self.findings)),
            "environment": self.environment,
        }


def _pair_s(timing: Timing) -> float:
    return timing.seconds / timing.estimate.pairs if timing.estimate.pairs else 0.0


def _smallest(timing: Timing) -> float:
    return math.inf if timing.smallest is None else timing.smallest


def conclude(
    base: Arm,
    head: Arm,
    kernels: Sequence[Kernel],
    kinks: Sequence[Difference],
    contest: Contest | None,
    asked: Asked,
    rules: Rules,
    reasons: Mapping[tuple[str, str], str],
    stance: Stance,
) -> Outcome:
    """From what was found to what is said of it."""
    timings = contest.timings if contest else {}
    found = verdict.findings(kernels, kinks, timings, reasons, stance)
    controls = contest.controls if contest else ()
    return Outcome(
        _seen(base),
        _seen(head),
        kernels,
        kinks,
        contest,
        asked,
        rules,
        sorted(found, key=lambda each: verdict.COLOURS.index(each.colour)),
        verdict.judge(kernels, found, controls, timings.values()),
        _environment(head, contest),
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _seen(arm: Arm) -> Seen:
    return Seen(arm.state.label, arm.state.commit, arm.facts, arm.place)


def _environment(head: Arm, contest: Contest | None) -> dict[str, Any]:
    """Of what was timed: one thread in each arm, whatever this process has; of it the gate imports nothing."""
    raced = {"launch": contest.launch, "pinned_to": list(contest.cores), "allocator": ALLOCATOR} if contest else {}
    seen = {name: head.facts[name] for name in ("python", "torch")}
    return {**machine(), **seen, "threads": 1, "device": "cpu", "thread_variables": list(THREADS), **raced}
