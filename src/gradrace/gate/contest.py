"""The kernels of two states against the clock, with controls that must tie: what is raced, from where, and on what.

State, State, kernels  ->  heats: base against head, and base against base  ->  timings, controls
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from gradrace.gate import pairs
from gradrace.gate.arm import CANARY
from gradrace.gate.arms import Arm, ForkServer, started
from gradrace.gate.comparing import Asked, Kernel
from gradrace.gate.states import State
from gradrace.gate.timing import Heat, Report, Rules, Timing, race

CONTROLS = (10, 50, 80)
"""The kernels that also run base against base, as percentiles of their time: a short, a middling and a long one, none
of the longest, which would take the time of the others.
"""


AGAINST_HEAD, AGAINST_BASE = "base against head", "base against base"


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
    """The timings by kernel, the controls, how arms were launched (`fork`, `spawn`), and the cores they ran on."""

    timings: Mapping[str, Timing]
    controls: Sequence[Control]
    launch: str
    cores: Sequence[int]


def contest(
    base: Side,
    head: Side,
    server: ForkServer | None,
    kernels: Sequence[Kernel],
    numbers: Callable[[str], Any],
    asked: Asked,
    rules: Rules,
    report: Report,
) -> Contest | None:
    """Race what both states have, but nothing compiled. None where there is nothing of that.

    server: to fork arms from; None where each must be started. numbers: those of a kernel, by its id. Raises ArmError
    where an arm ends.
    """
    racing = _racing(kernels, asked)
    if not racing:
        return None
    heats: list[Heat] = []
    launches = []
    for group, source in _groups(server, racing):
        launch, sent = _launcher(source, group, numbers)
        cores = pairs.cores() if source else []
        heat = partial(Heat, prepare=("know", asked.modules), numbers=sent, cores=cores)
        first, second = partial(launch, base), partial(launch, head)
        heats += [
            heat(first, second, [kernel.id for kernel in group], suite=AGAINST_HEAD, suspects=_suspects(group)),
            heat(first, first, _chosen(group), suite=AGAINST_BASE),
        ]
        launches.append("fork" if source else "spawn")
    # Two interpreters may well have two torches, one of them slower: then the canary too races against itself.
    place = 0 if base.python == head.python else 1
    heats[place] = replace(heats[place], kernels=[*heats[place].kernels, CANARY])
    found = race(heats, rules, report, Random())
    canary = found[place].pop()
    timings = [timing for row in found[0::2] for timing in row]
    controls = [timing for row in found[1::2] for timing in row]
    return Contest(
        {timing.id: timing for timing in timings},
        [Control("torch alone", canary), *(Control(AGAINST_BASE, each) for each in controls)],
        " and ".join(launches),
        pairs.cores() if "fork" in launches else [],
    )


def _racing(kernels: Sequence[Kernel], asked: Asked) -> list[Kernel]:
    """What is timed: all that somebody asks for by name. Else only what may have become slower or faster, and the
    primal of a variant by itself only where no derivative of it is timed, which has the primal in it.
    """
    able = [kernel for kernel in kernels if kernel.state == "both" and not kernel.is_compiled]
    if asked.every or asked.pattern is not None:
        return able
    able = [kernel for kernel in able if kernel.is_touched or asked.untouched]
    derived = {(kernel.family, kernel.variant) for kernel in able if kernel.operator != "primal"}
    return [kernel for kernel in able if kernel.operator != "primal" or (kernel.family, kernel.variant) not in derived]


def _suspects(racing: Sequence[Kernel]) -> set[str]:
    """Those whose work has changed: what a clock should look at first."""
    return {kernel.id for kernel in racing if kernel.work is not None and kernel.work.status != "same"}


def _groups(server: ForkServer | None, racing: Sequence[Kernel]) -> Iterator[tuple[list[Kernel], ForkServer | None]]:
    """The kernels whose arms are forked, and those whose arms are started: those on a GPU, which is slow to prepare,
    and which a forked process cannot use if its parent has.
    """
    on_gpu = [kernel for kernel in racing if kernel.scenario.endswith("/cuda")]
    others = [kernel for kernel in racing if not kernel.scenario.endswith("/cuda")]
    if others:
        yield others, server
    if on_gpu:
        yield on_gpu, None


Launch = Callable[[Side, Connection], AbstractContextManager[Arm]]


def _launcher(
    server: ForkServer | None, racing: Sequence[Kernel], numbers: Callable[[str], Any]
) -> tuple[Launch, Callable[[str], Any]]:
    """How an arm is launched, and the numbers that it must be sent: none where it has them from its parent."""
    if server is None:
        return lambda side, baton: started(side.state, side.python, baton), numbers
    for scenario, name in {kernel.scenario: kernel.id for kernel in racing}.items():
        server.hold(scenario, numbers(name))
    return lambda side, baton: server.forked(side.state, baton), lambda name: None


def _chosen(racing: Sequence[Kernel]) -> list[str]:
    """The controls, each once."""
    ordered = sorted(racing, key=lambda kernel: kernel.seconds)
    return list(dict.fromkeys(ordered[len(ordered) * share // 100].id for share in CONTROLS))
