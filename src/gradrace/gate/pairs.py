"""One launch pair: both states started side by side, and each kernel timed in both.

    two launches  ->  a pair of arms on one core  ->  for each kernel a Lap: the seconds of a call in each, their ratio

Within a launch a paired ratio repeats to a tenth of a percent on a quiet machine, and two launches of the same code
differ by a percent or more, with where their memory lies: so the pair is the unit of inference, and all that happens
inside it gives one number.

On a machine that is shared the speed of a core changes by tens of percents within milliseconds, and what helps is to
alternate faster than that. Short calls go by relay: blocks of a fifth of a millisecond, handed over from arm to arm.
In long calls the arms share the core: both run at once, a metronome wakes up every third of a millisecond and makes
the scheduler alternate them, in the middle of a call too, and processor time is read.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from random import Random
from statistics import median
from threading import Event, Thread
from typing import Any

from gradrace.gate.arms import Arm, ArmRefusal

BLOCK_S = 0.0002
"""About as long a block of a relay is, unless one call is longer."""

LAP_S = 0.016
"""About as long as the blocks of a relay are together, of both arms and without their warm calls."""

SHORT_S = 0.0004
"""A call that is longer than this is not timed by relay where arms can share a core."""

SHARED_S = 0.025
"""About as long as each arm computes where they share a core, unless one call is longer."""

WARM_UP_S = 0.003
"""About as long each arm warms up: memory is touched first, and what is done once is done."""

COLD_S = 1.0
"""A first call that is longer than this is believed: more would cost too much."""

COLD_CALLS = 5
"""So many calls follow a first one that is not, and the shortest of them is believed."""

BEAT_S = 0.0003
"""How often the arms that share a core alternate."""

ENOUGH_S = 0.003
"""So long must calls take together to tell how long one of them is."""

BUSY = 0.8
"""The share of its time that a call spends on the processor, unless it waits for something."""

Launch = Callable[[Connection], AbstractContextManager[Arm]]
"""Starts an arm that has this baton."""

Arms = tuple[Arm, Arm]


@dataclass(frozen=True)
class Plan:
    """How a kernel is timed, alike in both arms. blocks: of a relay, for each arm; 0 where the arms share a core.

    warm_up: calls that count for nothing, in front of each lap; warm: the same, in front of each block.
    """

    calls: int
    warm_up: int
    warm: int = 0
    blocks: int = 0


@dataclass(frozen=True)
class Lap:
    """Of one kernel in one pair: seconds of a call in each arm, and log(second / first)."""

    first: float
    second: float
    log_ratio: float


def cores() -> list[int]:
    """The cores that arms can be pinned to; none where the system has no such thing."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def launched(first: Launch, second: Launch, random: Random) -> Iterator[Arms]:
    """Both arms of a pair, started in the order that a coin decides."""
    batons = Pipe()
    with ExitStack() as stack:
        with batons[0], batons[1]:
            if random.random() < 0.5:
                one, two = stack.enter_context(first(batons[0])), stack.enter_context(second(batons[1]))
            else:
                two, one = stack.enter_context(second(batons[1])), stack.enter_context(first(batons[0]))
        yield one, two


def plan(arms: Arms, can_share: bool) -> Plan:
    """How to time what both arms have loaded, from calls that count for nothing."""
    seconds, busy = _slower(arms, 1)
    if seconds < COLD_S:
        # A first call does what is done once, and the next ones still touch memory.
        seconds, busy = min(_slower(arms, 1) for _ in range(COLD_CALLS))
    calls = 1
    while seconds < ENOUGH_S:
        calls *= 2
        seconds, busy = min(_slower(arms, calls) for _ in range(2))
    call = seconds / calls
    if call > SHORT_S and can_share and busy > BUSY * seconds:
        # A long call is its own warm-up.
        return Plan(max(1, round(SHARED_S / call)), 0 if call > SHARED_S * 2 else max(1, round(WARM_UP_S / call)))
    calls = max(1, round(BLOCK_S / call))
    # After a hand-over the caches are the other arm's: a call that is not timed comes first, where it is cheap.
    warm = 1 if call < SHORT_S else 0
    return Plan(calls, max(1, round(WARM_UP_S / call)), warm, max(1, round(LAP_S / 2 / (calls * call))))


def _slower(arms: Arms, calls: int) -> tuple[float, float]:
    """Seconds of the slower arm, by the clock and of processor."""
    slower: tuple[float, float] = max(arm.ask("spend", calls) for arm in arms)
    return slower


def lap(arms: Arms, plan: Plan, random: Random, core: int | None) -> Lap:
    """Time what both arms have loaded. A coin decides who comes first in all that is done here."""
    if random.random() < 0.5:
        return _lap(arms, plan, core)
    found = _lap((arms[1], arms[0]), plan, core)
    return Lap(found.second, found.first, -found.log_ratio)


def _lap(arms: Arms, plan: Plan, core: int | None) -> Lap:
    if plan.warm_up:
        for arm in arms:
            arm.tell("spend", plan.warm_up)
        _hear(arms)
    if plan.blocks:
        return _relay(arms, plan)
    with _metronome(core):
        return _share(arms, plan)


def _relay(arms: Arms, plan: Plan) -> Lap:
    """Blocks in the order A B B A."""
    order = (True, False)
    turns = [turn for block in range(plan.blocks) for turn in (order if block % 2 == 0 else order[::-1])]
    for arm, mine in zip(arms, (turns, [not turn for turn in turns]), strict=True):
        arm.tell("relay", plan.calls, plan.warm, mine)
    first, second = ([spent / plan.calls for spent in answer] for answer in _hear(arms))
    ratios = [math.log(later / earlier) for earlier, later in zip(first, second, strict=True)]
    return Lap(median(first), median(second), median(ratios))


def _share(arms: Arms, plan: Plan) -> Lap:
    for arm in arms:
        arm.tell("share", plan.calls)
    first, second = (answer / plan.calls for answer in _hear(arms))
    return Lap(first, second, math.log(second / first))


@contextmanager
def _metronome(core: int | None) -> Iterator[None]:
    """A thread that wakes up on this core over and over: each time the scheduler looks whose turn it is."""
    if core is None:
        yield
        return
    is_over = Event()

    def beat() -> None:
        os.sched_setaffinity(0, {core})  # of this thread alone
        while not is_over.is_set():
            time.sleep(BEAT_S)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _hear(arms: Arms) -> list[Any]:
    """Both answers. That an arm has ended is more to the point than that the other one has noticed."""
    try:
        first = arms[0].hear()
    except ArmRefusal:
        with suppress(ArmRefusal):
            arms[1].hear()
        raise
    return [first, arms[1].hear()]
