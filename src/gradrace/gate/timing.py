"""Race two states against the clock until each kernel is decided, or the budget is spent.

    Heat (two launches, kernels)  ->  rounds of launch pairs  ->  for each kernel a Timing

Each round starts new pairs, and times what is still undecided: certainty comes from launches, not from repetitions
inside one. What is suspect (its work changed, or it seems slower so far) has rounds of its own, for half of the budget
at most, so that a short budget decides what matters. The signs of a kernel are fair coins whenever they are drawn:
whose turn it is may depend on all that was seen before. One pair runs at a time: two of them on two cores take each
other's time, and are no sooner done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass, field
from random import Random
from statistics import median
from typing import Any

from gradrace.gate import pairs
from gradrace.gate.arms import Arm, ArmError, ArmRefusal
from gradrace.gate.sequential import Decider, Estimate, fewest, holm, smallest_effect

MOST_PAIRS = 200
"""Of one kernel: what is not decided by then lies so near to the margin that it hardly matters."""

MOST_LAPS = 8
"""Of one kernel in one pair."""

SUSPICION = 10.0
"""The evidence from which a kernel seems slower: that of five pairs that agree."""

ALLOWANCE_S = 0.1
"""A kernel sits out while it has had twice the seconds of another, and this on top."""


@dataclass(frozen=True)
class Rules:
    """margin: a ratio within (1/(1 + margin), 1 + margin) is the same; alpha: the error rate of the whole suite;
    budget_s: the seconds that all of it may take.
    """

    margin: float = 0.03
    alpha: float = 0.01
    budget_s: float = 200.0

    @property
    def interval_level(self) -> float:
        """Of an interval that is printed: each of its ends is right but for alpha, as `same` needs them to be."""
        return 2 * self.alpha


@dataclass(frozen=True)
class Heat:
    """Kernels to be timed in the same two launches. cores: each pair runs on one of these; none: wherever it likes.

    suite: heats of one name share its error rate. suspects: those of the kernels that race before the others.
    prepare: what each arm is asked first; numbers: those of a kernel, None where the arms have them already.
    """

    first: pairs.Launch
    second: pairs.Launch
    kernels: Sequence[str]
    prepare: tuple[Any, ...]
    suite: str = ""
    suspects: Collection[str] = ()
    numbers: Callable[[str], Any] = lambda name: None
    cores: Sequence[int] = ()


@dataclass(eq=False)
class Entry:
    """What is known of a kernel so far."""

    name: str
    decider: Decider
    is_suspected: bool = False
    plan: pairs.Plan | None = None
    laps: list[pairs.Lap] = field(default_factory=list)
    seconds: float = 0.0
    failure: str = ""

    def is_open(self, level: float, alpha: float) -> bool:
        if self.failure or len(self.laps) >= MOST_PAIRS:
            return False
        return self.decider.judgement(level, alpha) == "undecided"

    @property
    def is_suspect(self) -> bool:
        return self.is_suspected or self.decider.suspicion >= SUSPICION


@dataclass(frozen=True)
class Timing:
    """The judgement on one kernel: `slower`, `faster`, `same` or `undecided`, of second against first.

    estimate: its interval lies within the margin where `same` is shown. base_samples, head_samples: seconds of a call,
    a number for each launch; smallest: the least slowdown that would have been found nine times in ten; seconds: what
    the judgement took; failure: why it could not be timed; fewest: the pairs, all of one mind, that `slower` takes in a
    suite of this size where nothing else is; leans: is it undecided, and its interval above the margin?
    """

    id: str
    judgement: str
    estimate: Estimate
    base_samples: Sequence[float]
    head_samples: Sequence[float]
    smallest: float | None
    seconds: float
    failure: str = ""
    fewest: int = 0
    leans: bool = False


Report = Callable[[int, int, float], None]
"""Told how many are decided, of how many, and the seconds that are left at most."""


def race(heats: Sequence[Heat], rules: Rules, report: Report, random: Random) -> list[list[Timing]]:
    """Each heat's timings. Raises ArmError where an arm ends."""
    entries = [[Entry(name, Decider(rules.margin), name in heat.suspects) for name in heat.kernels] for heat in heats]
    count = sum(map(len, entries))
    level = rules.alpha / max(count, 1)  # what Holm asks of the first, and so enough for any
    deadline = time.monotonic() + rules.budget_s
    for_suspects_s = rules.budget_s / 2
    while (begin := time.monotonic()) < deadline:
        still_open = [[entry for entry in row if entry.is_open(level, rules.alpha)] for row in entries]
        report(count - sum(map(len, still_open)), count, deadline - time.monotonic())
        if not any(still_open):
            break
        suspects = [[entry for entry in row if entry.is_suspect] for row in still_open]
        is_theirs = any(suspects) and for_suspects_s > 0
        until = begin + for_suspects_s if is_theirs else deadline
        _round(heats, suspects if is_theirs else still_open, random, min(until, deadline))
        for_suspects_s -= time.monotonic() - begin if is_theirs else 0.0
    return _timings(heats, entries, rules)


def _round(heats: Sequence[Heat], racing: Sequence[Sequence[Entry]], random: Random, deadline: float) -> None:
    """A launch pair of each heat that has somebody racing."""
    # A kernel of a second must not keep hundreds of a millisecond waiting: who has had much more time sits out.
    allowance = ALLOWANCE_S + 2 * min(entry.seconds for row in racing for entry in row)
    for heat, row in zip(heats, racing, strict=True):
        batch = [entry for entry in row if entry.seconds <= allowance]
        if batch:
            # The order of the kernels is fresh in each pair, and alike in both arms.
            _run_pair(heat, random.sample(batch, len(batch)), random, deadline)


def _run_pair(heat: Heat, batch: Sequence[Entry], random: Random, deadline: float) -> None:
    begin = time.monotonic()
    core = random.choice(heat.cores) if heat.cores else None
    with pairs.launched(heat.first, heat.second, random) as arms:
        for arm in arms:
            arm.tell(*heat.prepare, [entry.name for entry in batch])
        try:
            for arm in arms:
                arm.hear()
        except ArmRefusal as refusal:
            raise ArmError(f"a state that did import does not any more: {refusal}") from refusal
        if core is not None:  # from here on: to import, each had a core of its own
            for arm in arms:
                arm.pin(core)
        launch_s = time.monotonic() - begin
        share = launch_s / len(batch)
        for entry in batch:
            begin = time.monotonic()
            if begin > deadline:
                break
            try:
                measured = _time(arms, entry, heat, begin + share, random, core)
            except ArmRefusal as refusal:
                # What the other arm does is not known now: the rest of the batch gets its pair in the next round.
                entry.failure = str(refusal)
                break
            entry.seconds += time.monotonic() - begin + share
            if measured is not None:
                entry.laps.append(measured)
                entry.decider.add(measured.log_ratio)


def _time(
    arms: tuple[Arm, Arm], entry: Entry, heat: Heat, until: float, random: Random, core: int | None
) -> pairs.Lap | None:
    """One lap, and more until a moment: when few kernels are left, to start the pair is what costs. None from the
    first pair, which is there to find out how the kernel is to be timed.
    """
    numbers = heat.numbers(entry.name)
    if entry.plan is None:
        _load(arms, entry.name, numbers)
        entry.plan = pairs.plan(arms, can_share=core is not None)
        return None
    found: list[pairs.Lap] = []
    while not found or (len(found) < MOST_LAPS and time.monotonic() < until):
        _load(arms, entry.name, numbers)
        found.append(pairs.lap(arms, entry.plan, random, core))
    return pairs.Lap(*(median(column) for column in zip(*map(astuple, found), strict=True)))


def _load(arms: tuple[Arm, Arm], name: str, numbers: Any) -> None:
    """Before each lap: where a kernel's memory lies is as much of a lottery as a launch, and cheaper to draw again."""
    for arm in arms:
        arm.ask("load", name, numbers)


def _timings(heats: Sequence[Heat], entries: Sequence[Sequence[Entry]], rules: Rules) -> list[list[Timing]]:
    """The timings of each heat."""
    suites: dict[str, list[Entry]] = {}
    for heat, row in zip(heats, entries, strict=True):
        suites.setdefault(heat.suite, []).extend(row)
    judged = {
        entry: (judgement, rules.alpha / len(suite))
        for suite in suites.values()
        for entry, judgement in zip(suite, _judgements(suite, rules.alpha), strict=True)
    }
    share_s = rules.budget_s / max(len(judged), 1)
    return [[_timing(entry, *judged[entry], rules, share_s) for entry in row] for row in entries]


def _judgements(entries: Sequence[Entry], alpha: float) -> list[str]:
    """Of a suite, with Holm's procedure."""
    judgements = ["same" if entry.decider.p_value("same") <= alpha else "undecided" for entry in entries]
    for claim in ("slower", "faster"):
        stands = holm([entry.decider.p_value(claim) for entry in entries], alpha)
        judgements = [claim if shown else judgement for shown, judgement in zip(stands, judgements, strict=True)]
    return judgements


def _timing(entry: Entry, judgement: str, level: float, rules: Rules, share_s: float) -> Timing:
    """What it could have seen: a kernel that was decided early would have had its part of the budget to the end."""
    ratios = entry.decider.log_ratios
    affordable = round(len(ratios) * share_s / entry.seconds) if entry.seconds else 0
    cap = len(ratios) if judgement == "undecided" else min(MOST_PAIRS, max(len(ratios), affordable))
    found = entry.decider.estimate(rules.interval_level)
    return Timing(
        entry.name,
        judgement,
        found,
        [lap.first for lap in entry.laps],
        [lap.second for lap in entry.laps],
        smallest_effect(ratios, rules.margin, level, cap),
        entry.seconds,
        entry.failure,
        fewest(level),
        judgement == "undecided" and found.low > 1 + rules.margin,
    )
