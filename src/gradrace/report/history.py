"""What commits moved: numbers of asv's that are no longer what they were at the commit before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from gradrace.report.provenance import short
from gradrace.report.rows import Point

TIME = "time"

MOVED = 1.1
"""A time has moved when its interval and the one before lie apart by more than this factor. A counter has moved when
it is another number."""


ENOUGH = 20
"""From so many times on their median is a control: what moved them all is no kernel of its own."""


@dataclass(frozen=True)
class Move:
    """One number at two commits that follow each other where it was measured. common: the factor by which the times as
    a whole changed between them, of which a move is told apart; 1 of what is no time.
    """

    before: Point
    after: Point
    common: float = 1.0

    @property
    def ratio(self) -> float:
        return self.after.value / self.before.value / self.common if self.before.value > 0 else math.inf

    @property
    def distance(self) -> float:
        """How far it moved, up or down, on a logarithmic scale; without bound from 0 or to it."""
        return abs(math.log(self.ratio)) if 0 < self.ratio < math.inf else math.inf

    @property
    def is_worse(self) -> bool:
        return self.ratio > 1


def moves(points: Iterable[Point]) -> list[Move]:
    """All that moved, the latest commit first. Numbers of one machine, Python and torch are compared."""
    followed = _followed(points)
    common = _common(followed)
    steps = [Move(*pair, common.get(_step(*pair), 1.0) if pair[1].what == TIME else 1.0) for pair in followed]
    return sorted(filter(_has_moved, steps), key=lambda move: -move.after.date)


def common_moves(points: Iterable[Point]) -> dict[str, list[float]]:
    """The commits at which the times as a whole moved, the latest first, with the factor on each machine."""
    followed = _followed(points)
    dates = {after.commit: after.date for _, after in followed}
    found: dict[str, list[float]] = {}
    for (_, _, commit), factor in _common(followed).items():
        found.setdefault(commit, []).append(factor)
    return dict(sorted(found.items(), key=lambda pair: -dates[pair[0]]))


_Step = tuple[tuple[str, ...], str, str]
"""On what it was measured, and the commits before and after."""


def _step(before: Point, after: Point) -> _Step:
    return after.measured_on, before.commit, after.commit


def _followed(points: Iterable[Point]) -> list[tuple[Point, Point]]:
    """Each number at two commits that follow each other where it was measured."""
    steps = (pair for line in lines(points).values() for pair in pairwise(line))
    return [(before, after) for before, after in steps if before.commit != after.commit]


def _common(followed: Iterable[tuple[Point, Point]]) -> dict[_Step, float]:
    """The median factor of all times, where they are many and it is beyond what counts as a move."""
    ratios: dict[_Step, list[float]] = {}
    for before, after in followed:
        if after.what == TIME and before.value > 0 and after.value > 0:
            ratios.setdefault(_step(before, after), []).append(after.value / before.value)
    factors = {step: median(each) for step, each in ratios.items() if len(each) >= ENOUGH}
    return {step: factor for step, factor in factors.items() if not 1 / MOVED <= factor <= MOVED}


def line_of(point: Point) -> tuple[str, ...]:
    """What is measured, and on what: points that share it are one number over the commits."""
    return (*point.measured_on, point.benchmark, point.what, *point.parameters)


def lines(points: Iterable[Point]) -> dict[tuple[str, ...], list[Point]]:
    """The points of each line, the first commit first."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in sorted(points, key=lambda each: each.date):
        found.setdefault(line_of(point), []).append(point)
    return found


def told_together(points: Iterable[Point]) -> list[str]:
    """Where the times as a whole moved, in a paragraph; nothing where they did not."""
    found = [
        f"to {' and '.join(f'{factor:.2g}' for factor in factors)} × at {short(commit)}"
        for commit, factors in common_moves(points).items()
    ]
    if not found:
        return []
    return [
        f"The times as a whole (their median) moved {', '.join(found)}: the machine, the way of measuring, or "
        "something that all kernels share. A time that is listed there moved beside that."
    ]


def by_commit(found: Iterable[Move]) -> dict[str, list[Move]]:
    """The moves of each commit, in their order."""
    moved: dict[str, list[Move]] = {}
    for move in found:
        moved.setdefault(move.after.commit, []).append(move)
    return moved


def strongest(found: Iterable[Move], most: int) -> list[Move]:
    """Counters and gradients before times, for they have no noise; then by how far they moved."""
    return sorted(found, key=lambda move: (move.after.what == TIME, -move.distance))[:most]


def places(points: Iterable[Point]) -> int:
    """On how many machines, Pythons and torches they were measured."""
    return len({point.measured_on for point in points})


def where(point: Point) -> str:
    """For those who have several of them: `ci, Python 3.12, torch 2.6.0`."""
    return f"{point.machine}, Python {point.python}, torch {point.torch}"


def _has_moved(move: Move) -> bool:
    if move.after.what != TIME:
        return move.after.value != move.before.value
    low, high = (end * move.common for end in interval(move.before))
    next_low, next_high = interval(move.after)
    return next_low > MOVED * high or low > MOVED * next_high


def interval(point: Point) -> tuple[float, float]:
    """Without bound where it is not known, as after a single sample: so nothing moves beyond it."""
    return 0.0 if point.low is None else point.low, math.inf if point.high is None else point.high
