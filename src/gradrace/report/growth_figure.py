"""How time and work of the formulations grow with an axis of the size, on logarithmic axes, with the exponents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gradrace.report.labels import apart
from gradrace.report.measures import complaint
from gradrace.report.ranking import Exponent, Ladder, Line, Race, slope, spell_power
from gradrace.report.rows import Row
from gradrace.report.scale import Ruler, Scale, Speller, in_seconds, in_thousands
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

MOST_LADDERS = 4
COUNTERS = {"ops": "operations", "flops": "FLOPs", "saved_bytes": "bytes saved"}

HIGH = 1.5
"""Inches of a plot; above it stands its title, below it are ticks and the name of the axis."""

ABOVE, BELOW = 0.22, 0.42

FOR_TICKS, FOR_EXPONENTS, FOR_NAMES = 0.45, 0.7, 1.15
"""Inches left and right of a plot."""

WIDE = (WIDTH - MARGIN) / 2 - FOR_TICKS - FOR_EXPONENTS - FOR_NAMES

STEP = 0.125
"""Inches from one label to the next."""

KEY = (
    "Powers are fitted by least squares, and ≈ between two sizes only, where overheads still count. In brackets the "
    "declared power: of a counter its own, of a time that of the counter that grows fastest. +2: two more formulations "
    "with the same counts."
)


Points = tuple[tuple[float, float], ...]
"""Number on the axis, and value."""


@dataclass(frozen=True)
class Series:
    """Formulations with the same numbers. slope: None where they are no power."""

    variants: tuple[str, ...]
    points: Points
    slope: float | None
    declared: float | None

    @property
    def exponents(self) -> str:
        """`0.98 (1)`, or `≈1.0 (1)` where it is weak."""
        fitted_one = "–" if self.slope is None else spell_power(self.slope, len(self.points))
        return fitted_one if self.declared is None else f"{fitted_one} ({self.declared:g})"

    @property
    def name(self) -> str:
        """`closed_form +2`, cut so that it fits."""
        more = f" +{len(self.variants) - 1}" if len(self.variants) > 1 else ""
        return fitted(self.variants[0], FOR_NAMES - 0.05 - width_of(more)) + more


@dataclass(frozen=True)
class Panel:
    """One plot against the axis of a line."""

    title: str
    line: Line
    spell: Speller
    series: Sequence[Series]


Fits = Mapping[tuple[Line, str], Exponent]
"""Of each line and variant."""


def draw(title: str, about: str, footer: str, ladders: Sequence[Ladder], fits: Fits) -> Sheet:
    """The times along each ladder, then the counters along the longest one."""
    looks = dict(zip(highlighted(ladders), LOOKS, strict=False))
    panels = [*(_times(ladder, fits) for ladder in ladders), *_counters(ladders[0], fits, looks)]
    step = ABOVE + HIGH + BELOW
    sheet = Sheet(title, about, math.ceil(len(panels) / 2) * step, [KEY, *_notes(ladders, looks)], footer)
    for place, panel in enumerate(panels):
        left = MARGIN + (place % 2) * (WIDTH - MARGIN) / 2
        _draw_panel(sheet, panel, looks, left + FOR_TICKS, sheet.top + (place // 2) * step + ABOVE)
    return sheet


def longest(ladders: Iterable[Ladder], fits: Fits) -> list[Ladder]:
    """Those on which a formulation is timed twice or more; most rungs first, then the widest."""
    timed = {line for line, _ in fits}
    return sorted((ladder for ladder in ladders if ladder.line in timed), key=_length, reverse=True)


def _length(ladder: Ladder) -> tuple[int, float]:
    numbers = [number for number, _ in ladder.rungs if number > 0]
    return len(numbers), numbers[-1] / numbers[0]


def highlighted(ladders: Iterable[Ladder]) -> list[str]:
    """Who gets a look of its own: the baseline, the winners, and then always who differs most from those chosen."""
    races = [race for ladder in ladders for _, race in ladder.rungs]
    names = list(dict.fromkeys(standing.variant for race in races for standing in race.standings))
    winners = [race.standings[0].variant for race in races if race.standings]
    baselines = [race.baseline_variant for race in races if race.baseline is not None]
    chosen = list(dict.fromkeys([*baselines, *winners]))[: len(LOOKS)]
    while len(chosen) < min(len(LOOKS), len(names)):
        others = [name for name in names if name not in chosen]
        chosen.append(max(others, key=lambda name: min(_distance(name, other, races) for other in chosen)))
    return chosen


def _distance(one: str, other: str, races: Iterable[Race]) -> float:
    """The mean difference of the logarithms of their times, where both have been timed."""
    pairs = [(race.of(one), race.of(other)) for race in races]
    gaps = [abs(math.log(a.ratio / b.ratio)) for a, b in pairs if a is not None and b is not None]
    return math.fsum(gaps) / len(gaps) if gaps else 0.0


def _times(ladder: Ladder, fits: Fits) -> Panel:
    series = []
    for variant, points in _points(ladder, _median).items():
        fit = fits.get((ladder.line, variant))
        # Where no counter grows, what is not counted may: that declares nothing of a time.
        declared = max(fit.declared.values(), default=0) or None if fit else None
        series.append(Series((variant,), points, fit.slope if fit else None, declared))
    return Panel("time of a call", ladder.line, in_seconds, series)


def _median(row: Row) -> float | None:
    return row.time.median if row.time else None


def _counters(ladder: Ladder, fits: Fits, looks: Mapping[str, Look]) -> list[Panel]:
    """Those that are not zero everywhere. Formulations with the same counts share a line."""
    panels = []
    for counter, name in COUNTERS.items():
        points = _points(ladder, partial(_counted, counter))
        declared = {
            each: fits[ladder.line, each].declared.get(counter) for each in points if (ladder.line, each) in fits
        }
        alike: dict[tuple[Points, float | None], list[str]] = {}
        for variant in sorted(points, key=lambda variant: variant not in looks):
            alike.setdefault((points[variant], declared.get(variant)), []).append(variant)
        if any(value for each, _ in alike for _, value in each):
            series = [Series(tuple(same), each, power(each), law) for (each, law), same in alike.items()]
            panels.append(Panel(name, ladder.line, in_thousands, series))
    return panels


def _counted(counter: str, row: Row) -> float | None:
    return row.work.get(counter)


def _points(ladder: Ladder, measure: Callable[[Row], float | None]) -> dict[str, Points]:
    """Of each variant what it has on two rungs or more."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, race in ladder.rungs:
        for standing in race.standings if number > 0 else ():
            if (value := measure(standing.row)) is not None:
                found.setdefault(standing.variant, []).append((number, value))
    return {variant: tuple(points) for variant, points in found.items() if len(points) > 1}


def power(points: Points) -> float | None:
    """The exponent by least squares; None where a zero among other numbers is no power."""
    values = [value for _, value in points]
    if len(set(values)) == 1:
        return 0.0
    if min(values) <= 0:
        return None
    return slope(points)


def _draw_panel(sheet: Sheet, panel: Panel, looks: Mapping[str, Look], left: float, top: float) -> None:
    right, bottom = left + WIDE, top + HIGH
    numbers = sorted({number for series in panel.series for number, _ in series.points})
    across = Ruler(Scale.over(numbers), left, right)
    up = Ruler(Scale.over([value for each in panel.series for _, value in each.points]), bottom, top, is_upright=True)
    rungs = across.marked(numbers, in_thousands)
    levels = up.ticks(panel.spell)
    sheet.rule([(left, y, right, y) for y, _ in levels], FAINT, 0.5)
    sheet.rule([(x, top, x, bottom) for x, _ in rungs], FAINT, 0.5)
    sheet.rule([(left, top, left, bottom), (left, bottom, right, bottom)], SOFT, 0.6)
    sheet.write(left - FOR_TICKS, top - ABOVE / 2, panel.title, fontweight="bold")
    for x, label in rungs:
        sheet.write(x, bottom + 0.5 * LINE, label, ha="center")
    for y, label in levels:
        sheet.write(left - 0.05, y, label, ha="right")
    sheet.write(right + 0.19, top - ABOVE / 2, f"power of {panel.line.axis} (declared)", color=SOFT)
    at = f" at {panel.line.at}" if panel.line.at else ""
    sheet.write((left + right) / 2, bottom + 1.5 * LINE, f"{panel.line.axis}{at}", ha="center")
    # The highlighted ones are drawn last, above the others.
    for series in sorted(panel.series, key=lambda series: series.variants[0] in looks):
        xs = [across.at(number) for number, _ in series.points]
        sheet.trace(xs, [up.at(value) for _, value in series.points], looks.get(series.variants[0], GREY))
    named = [series for series in panel.series if series.variants[0] in looks]
    ends = [(across.at(series.points[-1][0]), up.at(series.points[-1][1])) for series in named]
    places = apart([y for _, y in ends], STEP, top, bottom + STEP / 2)
    for series, (x, y), place in zip(named, ends, places, strict=True):
        look = looks[series.variants[0]]
        sheet.rule([(x, y, right + 0.02, y), (right + 0.02, y, right + 0.13, place)], look.colour, 0.5)
        sheet.write(right + FOR_EXPONENTS - 0.03, place, series.exponents, ha="right")
        sheet.write(right + FOR_EXPONENTS + 0.03, place, series.name)


def _notes(ladders: Sequence[Ladder], looks: Mapping[str, Look]) -> list[str]:
    """Who stays in the background, and who is wrong."""
    races = [race for ladder in ladders for _, race in ladder.rungs]
    others = dict.fromkeys(each.variant for race in races for each in race.standings if each.variant not in looks)
    wrong = {each.variant: complaint(each.row) for race in races for each in race.wrong}
    notes = [f"Grey: {', '.join(others)}."] if others else []
    if wrong:
        notes.append("Never timed: " + ", ".join(f"× {variant} ({why})" for variant, why in wrong.items()) + ".")
    return notes


def sentence(ladders: Sequence[Ladder], fits: Fits, left_out: int) -> str:
    """What to see: the lowest and the highest exponent of the times along each line."""
    told = []
    for ladder in ladders:
        own = sorted((fit for (line, _), fit in fits.items() if line == ladder.line), key=lambda fit: fit.slope)
        if own:
            axis, at = ladder.line.axis, f" at {ladder.line.at}" if ladder.line.at else ""
            low, high = (f"{axis}^{spell_power(fit.slope, len(fit.sizes))}" for fit in (own[0], own[-1]))
            ends = f"{low} ({own[0].variant}) to {high} ({own[-1].variant})" if low != high else low
            told.append(f"{axis}{at}: the time grows as {ends}")
    if left_out:
        told.append(f"{left_out} more lines of sizes are left out")
    return "; ".join(told) + "."
