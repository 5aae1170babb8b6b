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
    """All that moved, the latest commit first. Numbers of one machine and one torch are compared."""
    lines: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        key = (point.machine, point.torch, point.benchmark, point.what, *point.parameters)
        lines.setdefault(key, []).append(point)
    found = [
        Move(before, after)
        for line in lines.values()
        for before, after in pairwise(sorted(line, key=lambda point: point.date))
        if _has_moved(before, after)
    ]
    return sorted(found, key=lambda move: -move.after.date)


def _has_moved(before: Point, after: Point) -> bool:
    if after.what != TIME:
        return after.value != before.value
    (low, high), (next_low, next_high) = interval(before), interval(after)
    return next_low > MOVED * high or low > MOVED * next_high


def interval(point: Point) -> tuple[float, float]:
    """The number itself where there is none."""
    return point.value if point.low is None else point.low, point.value if point.high is None else point.high
