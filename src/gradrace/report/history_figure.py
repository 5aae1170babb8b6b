"""Over asv's commits: the times of those that win today relative to the first commit, and the steps of the gradient
errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from statistics import median

from gradrace.report.history import TIME
from gradrace.report.labels import apart
from gradrace.report.provenance import day, short
from gradrace.report.rows import Point
from gradrace.report.scale import Ruler, Scale, in_times
from gradrace.report.style import (
    FAINT,
    GREY,
    LINE,
    LOOKS,
    MARGIN,
    SOFT,
    WIDTH,
    Look,
    Sheet,
    fitted,
    width_of,
)

TITLE = "Over the commits"

ABOUT = (
    "Of every race of asv the formulation that is right and fastest at the last commit: its time over "
    "that at the first commit with it."
)

ERROR = "gradient_error"

TOGETHER = "the median of all"
MEDIAN = Look(SOFT, "", (0, (1, 1)), 2.0)

FEW = 5
"""From so many lines on their median is drawn."""

NO_NUMBER = 1000
"""From here on an error is a code: there is none, or it is zero, NaN, or an exception."""

HIGH, ABOVE, BELOW = 2.3, 0.22, 0.42
FOR_TICKS, FOR_LABELS = 0.6, 3.5
WIDE = WIDTH - 2 * MARGIN - FOR_TICKS - FOR_LABELS
STEP = 0.125

Key = tuple[str, ...]
"""Benchmark, variant, size, device."""


@dataclass(frozen=True)
class Track:
    """One number over the commits that have it, the first commit first."""

    key: Key
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """`sandwich/vjp d5_n1 adjoint`, with the device where it is no CPU."""
        benchmark, variant, size, *device = self.key
        return " ".join((benchmark, size, variant, *(each for each in device if each != "cpu")))

    @property
    def ratio(self) -> float:
        return self.points[-1].value / self.points[0].value


@dataclass(frozen=True)
class Drawn:
    """A line of a panel: its label where it has one, how it looks, and its values by commit."""

    label: str
    look: Look
    values: Sequence[tuple[str, float]]


def groups(points: Iterable[Point]) -> list[list[Point]]:
    """Points of one machine, Python and torch, over two commits or more: others may not stand in one figure."""
    found: dict[tuple[str, ...], list[Point]] = {}
    for point in points:
        found.setdefault(point.measured_on, []).append(point)
    return sorted((each for each in found.values() if winners(each) or steps(each)), key=len, reverse=True)


def commits(points: Iterable[Point]) -> dict[str, float]:
    """The date of each commit, the first one first."""
    return dict(sorted({point.commit: point.date for point in points}.items(), key=lambda pair: pair[1]))


def tracks(points: Iterable[Point], what: str) -> list[Track]:
    """Of every formulation and size what was measured at two commits or more."""
    found: dict[Key, list[Point]] = {}
    for point in points:
        if point.what == what:
            found.setdefault((point.benchmark, *point.parameters), []).append(point)
    return [Track(key, sorted(each, key=lambda point: point.date)) for key, each in found.items() if len(each) > 1]


def winners(points: Sequence[Point]) -> list[Track]:
    """Of every race the right formulation that is fastest at the last commit; the one that changed most first."""
    is_right = _judge(points)
    best: dict[Key, Track] = {}
    last: dict[Key, float] = {}
    timed = [track for track in tracks(points, TIME) if min(point.value for point in track.points) > 0]
    for track in timed:
        race = (track.key[0], *track.key[2:])
        last[race] = max(last.get(race, -math.inf), track.points[-1].date)
    for track in timed:
        race, end = (track.key[0], *track.key[2:]), track.points[-1]
        if end.date < last[race] or not is_right(end):
            continue
        if race not in best or end.value < best[race].points[-1].value:
            best[race] = track
    return sorted(best.values(), key=lambda track: -abs(math.log(track.ratio)))


def _judge(points: Iterable[Point]) -> Callable[[Point], bool]:
    """Is what this point times right? Its own error must be measured where that of its race is; and a value is wrong
    where a derivative of the same formulation is, at the same commit.
    """
    errors = {
        (point.commit, point.benchmark, *point.parameters): point.value for point in points if point.what == ERROR
    }
    measured = {(commit, benchmark) for commit, benchmark, *_ in errors}
    wrong = {
        (commit, benchmark.split("/")[0], variant, device)
        for (commit, benchmark, variant, _, device), error in errors.items()
        if error > 0
    }

    def is_right(point: Point) -> bool:
        family, operator = point.benchmark.split("/")
        variant, _, device = point.parameters
        if operator == "primal" and (point.commit, family, variant, device) in wrong:
            return False
        error = errors.get((point.commit, point.benchmark, *point.parameters))
        return error == 0 if error is not None else (point.commit, point.benchmark) not in measured

    return is_right


def steps(points: Iterable[Point]) -> list[Track]:
    """The gradient errors that changed; what became wrong last first."""
    found = [track for track in tracks(points, ERROR) if len({point.value for point in track.points}) > 1]
    return sorted(found, key=lambda track: -track.points[-1].value)


def draw(title: str, points: Sequence[Point], footer: str) -> Sheet:
    order = commits(points)
    best, moved = winners(points), steps(points)
    step = ABOVE + HIGH + BELOW
    sheet = Sheet(title, ABOUT, (bool(best) + bool(moved)) * step, [_key(points, best, moved)], footer)
    top = sheet.top + ABOVE
    if best:
        _draw_times(sheet, best, order, top)
        top += step
    if moved:
        _draw_errors(sheet, moved, order, top)
    return sheet


def _draw_times(sheet: Sheet, best: Sequence[Track], order: Mapping[str, float], top: float) -> None:
    drawn = [
        Drawn(
            "" if look is GREY else f"{in_times(track.ratio)}  {track.name}",
            look,
            [(point.commit, point.value / track.points[0].value) for point in track.points],
        )
        for track, look in zip(best, chain(LOOKS, repeat(GREY)), strict=False)
    ]
    if len(drawn) >= FEW:
        together = _together(drawn, order)
        drawn.insert(0, Drawn(f"{in_times(together[-1][1])}  {TOGETHER} {len(drawn)}", MEDIAN, together))
    ruler = Ruler(Scale.over([1.0, *(value for each in drawn for _, value in each.values)]), top + HIGH, top, True)
    _draw_frame(sheet, "time over that at the first commit", ruler.ticks(in_times), order, top)
    _draw_lines(sheet, drawn, order, ruler.at, top)


def _together(drawn: Sequence[Drawn], order: Iterable[str]) -> list[tuple[str, float]]:
    """From commit to commit the median step of all lines that have both: what moves with it is no change of a kernel of
    its own. A line that begins later moves nothing.
    """
    steps: dict[str, list[float]] = {}
    for each in drawn:
        for (_, value), (commit, following) in pairwise(each.values):
            steps.setdefault(commit, []).append(following / value)
    level = 1.0
    return [(commit, level := level * median(steps.get(commit, [1.0]))) for commit in order]


def _draw_errors(sheet: Sheet, moved: Sequence[Track], order: Mapping[str, float], top: float) -> None:
    shown = moved[: len(LOOKS)]
    most = max([10.0, *(point.value for track in shown for point in track.points if point.value < NO_NUMBER)])

    def at(value: float) -> float:
        return top + HIGH * (1 - min(value, 1.15 * most) / (1.2 * most))

    tenth = 10 * math.ceil(most / 60)
    levels = [(at(float(each)), f"2^{each}" if each else "within") for each in range(0, math.floor(most) + 1, tenth)]
    if any(point.value >= NO_NUMBER for track in shown for point in track.points):
        levels.append((at(NO_NUMBER), "none, NaN"))
    drawn = [
        Drawn(
            f"{_spelled(track.points[0].value)} → {_spelled(track.points[-1].value)}  {track.name}",
            look,
            [(point.commit, point.value) for point in track.points],
        )
        for track, look in zip(shown, LOOKS, strict=False)
    ]
    _draw_frame(sheet, "gradient error over its tolerance", levels, order, top)
    _draw_lines(sheet, drawn, order, at, top, stepwise=True)


def _spelled(error: float) -> str:
    return "within" if error == 0 else "none, NaN" if error >= NO_NUMBER else f"2^{error:.0f}"


def _draw_frame(
    sheet: Sheet, title: str, levels: Sequence[tuple[float, str]], order: Mapping[str, float], top: float
) -> None:
    left, bottom = MARGIN + FOR_TICKS, top + HIGH
    sheet.write(MARGIN, top - ABOVE / 2, title, fontweight="bold")
    sheet.rule([(left, y, left + WIDE, y) for y, _ in levels], FAINT, 0.5)
    sheet.rule([(left, top, left, bottom), (left, bottom, left + WIDE, bottom)], SOFT, 0.6)
    for y, label in levels:
        sheet.write(left - 0.05, y, label, ha="right")
    free = -math.inf
    for (commit, date), x in zip(order.items(), _places(order).values(), strict=True):
        half = max(map(width_of, (short(commit), day(date)))) / 2
        if x - half > free:
            sheet.write(x, bottom + 0.6 * LINE, short(commit), ha="center")
            sheet.write(x, bottom + 1.5 * LINE, day(date), ha="center", color=SOFT)
            free = x + half + 0.08


def _places(order: Mapping[str, float]) -> dict[str, float]:
    """The commits at equal distances."""
    left, wide = MARGIN + FOR_TICKS, WIDE / len(order)
    return {commit: left + (place + 0.5) * wide for place, commit in enumerate(order)}


def _draw_lines(
    sheet: Sheet,
    drawn: Sequence[Drawn],
    order: Mapping[str, float],
    at: Callable[[float], float],
    top: float,
    *,
    stepwise: bool = False,
) -> None:
    places = _places(order)
    for each in reversed(drawn):
        spots = [(places[commit], at(value)) for commit, value in each.values]
        xs, ys = zip(*spots, strict=True)
        if stepwise:
            level = [(x, y, to_x, y) for (x, y), (to_x, _) in pairwise(spots)]
            rise = [(to_x, y, to_x, to_y) for (_, y), (to_x, to_y) in pairwise(spots)]
            sheet.rule([*level, *rise], each.look.colour, each.look.width, each.look.dash)
            sheet.mark(xs, ys, each.look.marker, each.look.colour, each.look.colour)
        else:
            sheet.trace(xs, ys, each.look)
    right = MARGIN + FOR_TICKS + WIDE
    named = [each for each in drawn if each.label]
    ends = [(places[each.values[-1][0]], at(each.values[-1][1])) for each in named]
    for each, (x, y), place in zip(named, ends, apart([y for _, y in ends], STEP, top, top + HIGH), strict=True):
        sheet.rule([(x, y, right + 0.02, y), (right + 0.02, y, right + 0.13, place)], each.look.colour, 0.5)
        sheet.write(right + 0.17, place, fitted(each.label, FOR_LABELS - 0.17))


def _key(points: Sequence[Point], best: Sequence[Track], moved: Sequence[Track]) -> str:
    """What the lines are, and what is not drawn."""
    told = []
    if len(best) > len(LOOKS):
        told.append(f"named are the {len(LOOKS)} times that changed most, grey are {len(best) - len(LOOKS)} others")
    if len(moved) > len(LOOKS):
        told.append(f"{len(moved) - len(LOOKS)} more gradient errors changed and are not drawn")
    if not moved:
        told.append(_steady(points))
    return _sentence(told)


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _steady(points: Iterable[Point]) -> str:
    errors = tracks(points, ERROR)
    beyond = sum(track.points[-1].value > 0 for track in errors)
    if not errors:
        return "no gradient error was measured at two commits"
    return f"of {len(errors)} gradient errors none changed, and {beyond} are beyond the tolerance at every commit"


def sentence(points: Sequence[Point], left_out: int) -> str:
    """Which time changed most, and which gradients."""
    best, moved = winners(points), steps(points)
    told = []
    if best:
        most = best[0]
        told.append(
            f"of {len(best)} winners' times that of {most.name} changed most, to {in_times(most.ratio)} of that at "
            f"the first commit"
        )
    if moved:
        ends = " to ".join(_spelled(moved[0].points[end].value) for end in (0, -1))
        plural = "s" * (len(moved) > 1)
        told.append(f"{len(moved)} gradient error{plural} changed, such as that of {moved[0].name} from {ends}")
    else:
        told.append(_steady(points))
    if left_out:
        told.append(f"{left_out} other machines or versions are not shown")
    return _sentence(told)
