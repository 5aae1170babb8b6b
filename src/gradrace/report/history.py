"""What commits moved: numbers of asv's that are no longer what they were at the commit before."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from gradrace.report.rows import Point

TIME = "time"

MOVED = 1.1
"""A time has moved when its interval and the one before lie apart by more than this factor. A counter has moved when
it is another number."""


@dataclass(frozen=True)
class Move:
    """One number at two commits that follow each other where it was measured."""

    before: Point
    after: Point

    @property
    def distance(self) -> float:
        """How far it moved, up or down, on a logarithmic scale; without bound from 0 or to it."""
        ends = self.before.value, self.after.value
        return abs(math.log(ends[1] / ends[0])) if all(end > 0 for end in ends) else math.inf

    @property
    def is_worse(self) -> bool:
        return self.after.value > self.before.value


def moves(points: Iterable[Point]) -> list[Move]:
    """All that moved, the latest commit first. Numbers of one machine, Python and torch are compared."""
    found = [
        Move(before, after)
        for line in lines(points).values()
        for before, after in pairwise(line)
        if before.commit != after.commit and _has_moved(before, after)
    ]
    return sorted(found, key=lambda move: -move.after.date)


def line_of(point: Point) -> tuple[str, ...]:
    """What is measured, and on what: points that share it are one number over the commits."""
    return (*point.measured_on, point.benchmark, point.what, *point.parameters)


def lines(points: Iterable[Point]) -> dict[tuple[str, ...], list[Point]]:
    """The points of each line, the first commit first."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in sorted(points, key=lambda each: each.date):
        found.setdefault(line_of(point), []).append(point)
    return found


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


def _has_moved(before: Point, after: Point) -> bool:
    if after.what != TIME:
        return after.value != before.value
    (low, high), (next_low, next_high) = interval(before), interval(after)
    return next_low > MOVED * high or low > MOVED * next_high


def interval(point: Point) -> tuple[float, float]:
    """Without bound where it is not known, as after a single sample: so nothing moves beyond it."""
    return 0.0 if point.low is None else point.low, math.inf if point.high is None else point.high
