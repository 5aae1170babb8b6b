"""What commits moved: numbers of asv's that are no longer what they were at the commit before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
MOST = 2 / 3
"""Where so many times or more stand at two commits, and most of them moved to the same side, they moved as a whole, by
their median: what moved them is no kernel of its own."""


@dataclass(frozen=True)
class Move:
    """One number at two commits that follow each other where it was measured. common: the factor by which the times as
    a whole moved between them; 1 where they did not, and of what is no time.
    """

    before: Point
    after: Point
    common: float = 1.0

    @property
    def distance(self) -> float:
        """How far it moved beside the others, up or down, on a logarithmic scale; without bound from 0 or to it."""
        ends = self.before.value, self.after.value
        return abs(math.log(ends[1] / ends[0] / self.common)) if all(end > 0 for end in ends) else math.inf

    @property
    def is_worse(self) -> bool:
        return self.after.value > self.before.value


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
    """The median factor of the times, where they moved as a whole."""
    ratios: dict[_Step, list[float]] = {}
    for before, after in followed:
        if after.what == TIME and before.value > 0 and after.value > 0:
            ratios.setdefault(_step(before, after), []).append(after.value / before.value)
    return {step: median(each) for step, each in ratios.items() if len(each) >= ENOUGH and _is_whole(each)}


def _is_whole(ratios: Sequence[float]) -> bool:
    rose, fell = (sum(each) / len(ratios) for each in zip(*((r > MOVED, r < 1 / MOVED) for r in ratios), strict=True))
    return max(rose, fell) >= MOST


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
        "something that kernels share. A time that is listed there moved further than that, or the other way."
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
    (low, high), (next_low, next_high) = interval(move.before), interval(move.after)
    # By itself, and beside all others, to the same side.
    rose = min(1, 1 / move.common) * next_low > MOVED * high
    fell = low > MOVED * next_high * max(1, 1 / move.common)
    return rose or fell


def interval(point: Point) -> tuple[float, float]:
    """Without bound where it is not known, as after a single sample: so nothing moves beyond it."""
    return 0.0 if point.low is None else point.low, math.inf if point.high is None else point.high
