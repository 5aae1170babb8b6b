"""The kernels of two states against the clock, with controls that must tie: what is raced, from where, and on what.

State, State, kernels  ->  heats: base against head, and base against base  ->  timings, controls
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from gradrace.gate import pairs
from gradrace.gate.arm import CANARY
from gradrace.gate.arms import ALLOCATOR, Arm, fork_server, started
from gradrace.gate.comparing import Asked, Kernel
from gradrace.gate.states import State
from gradrace.gate.timing import Heat, Report, Rules, Timing, race

CONTROLS = 3
"""So many kernels also run base against base."""


@dataclass(frozen=True)
class Side:
    """One of the two: its state, and its interpreter."""

    state: State
    python: str = sys.executable


@dataclass(frozen=True)
class Control:
    """A timing that must be no other than the same. kind: `base against base`, or `torch alone`."""

    kind: str
    timing: Timing

    @property
    def is_flagged(self) -> bool:
        return self.timing.judgement in ("slower", "faster")


@dataclass(frozen=True)
class Contest:
    """The timings by kernel, the controls, and how arms were launched (`fork`, `spawn`), with which allocator."""

    timings: Mapping[str, Timing]
    controls: Sequence[Control]
    launch: str
    cores: Sequence[int]
    allocator: Mapping[str, str]


def contest(
    base: Side,
    head: Side,
    kernels: Sequence[Kernel],
    numbers: Callable[[str], Any],
    asked: Asked,
    rules: Rules,
    report: Report,
) -> Contest | None:
    """Race what both states have and what is not compiled. None where there is nothing of that.

    numbers: those of a kernel, by its id. Raises ArmError where an arm ends.
    """
    racing = [kernel for kernel in kernels if kernel.state == "both" and not kernel.is_compiled]
    if not racing:
        return None
    heats: list[Heat] = []
    launches = []
    with ExitStack() as stack:
        for can_fork, group in _groups(base, head, racing):
            launch, sent = stack.enter_context(_launcher(can_fork, base, group, numbers))
            cores = pairs.cores() if can_fork else []
            heat = partial(Heat, prepare=("cases", asked.modules, None, True), numbers=sent, cores=cores)
            first, second = partial(launch, base), partial(launch, head)
            heats += [heat(first, second, [kernel.id for kernel in group]), heat(first, first, _chosen(group))]
            launches.append("fork" if can_fork else "spawn")
        # Two interpreters may well have two torches, one of them slower: then the canary too races against itself.
        place = 0 if base.python == head.python else 1
        heats[place] = replace(heats[place], kernels=[*heats[place].kernels, CANARY])
        found = race(heats, rules, report, Random())
    canary = found[place].pop()
    timings = [timing for row in found[0::2] for timing in row]
    controls = [timing for row in found[1::2] for timing in row]
    return Contest(
        {timing.id: timing for timing in timings},
        [Control("torch alone", canary), *(Control("base against base", each) for each in controls)],
        " and ".join(launches),
        pairs.cores() if "fork" in launches else [],
        ALLOCATOR,
    )


def _groups(base: Side, head: Side, racing: Sequence[Kernel]) -> list[tuple[bool, list[Kernel]]]:
    """The kernels whose arms can be forked, and those whose arms must be started: a child can use neither a GPU that
    its parent has seen, nor another interpreter than its parent's.
    """
    may_fork = sys.platform == "linux" and base.python == head.python
    groups: dict[bool, list[Kernel]] = {}
    for kernel in racing:
        groups.setdefault(may_fork and not kernel.scenario.endswith("/cuda"), []).append(kernel)
    return list(groups.items())


Launch = Callable[[Side, Connection], AbstractContextManager[Arm]]


@contextmanager
def _launcher(
    can_fork: bool, base: Side, racing: Sequence[Kernel], numbers: Callable[[str], Any]
) -> Iterator[tuple[Launch, Callable[[str], Any]]]:
    """How an arm is launched, and the numbers that it must be sent: none where it has them from its parent."""
    if not can_fork:
        yield lambda side, baton: started(side.state, side.python, baton), numbers
        return
    with fork_server(base.state.folder.parent, base.python) as server:
        for scenario, name in {kernel.scenario: kernel.id for kernel in racing}.items():
            server.hold(scenario, numbers(name))
        yield lambda side, baton: server.forked(side.state, baton), lambda name: None


def _chosen(racing: Sequence[Kernel]) -> list[str]:
    """A short, a middling and a long kernel; none of the longest, which would take the time of the others."""
    ordered = sorted(racing, key=lambda kernel: kernel.seconds)
    places = [len(ordered) * share // 100 for share in (10, 50, 80)]
    return list(dict.fromkeys(ordered[place].id for place in places[:CONTROLS]))
