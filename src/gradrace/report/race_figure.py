"""The formulations of a family beside each other: one line each; time, work, error and what bounds them in columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradrace.report.measures import (
    Origin,
    cheap_bound,
    coldness,
    complaint,
    error_units,
    gradient_ratio,
    roofline_fraction,
    rows_of,
)
from gradrace.report.ranking import Race, Standing, spell_ratio
from gradrace.report.rows import Row, Time
from gradrace.report.scale import Ruler, Scale, Speller, in_percent, in_powers, in_seconds, in_thousands, in_times
from gradrace.report.style import (
    BLUE,
    BOUND,
    FAINT,
    INK,
    LINE,
    MARGIN,
    OTHER,
    SOFT,
    VERMILLION,
    WIDTH,
    Sheet,
    fitted,
    width_of,
)

MARKERS = ("o", "s", "^", "D", "v")
"""Of the sizes, in their order."""

GLYPHS = "●■▲◆▼"

MOST_VARIANTS = 40
MOST_IN_A_BAND = 5
"""Columns; more stand in two bands, one below the other."""

STEP = 0.155
"""Inches from one formulation to the next."""

BETWEEN = 0.26
"""Inches between columns."""

NAMES = 2.1
"""Inches that the names of the formulations take at most."""

ABOVE, BELOW = 0.2, 0.3
"""Inches for the titles of the columns, and for their ticks."""

KEY = (
    "Blue: the fastest; hollow: within its scatter; grey: the others. Bars: quartiles of the time. "
    "×: wrong, and so never timed. Dashed: the bound."
)


IN_OPERATIONS = "The bound of a gradient over its value holds for operations; a time has overheads on top."

IN_CACHE = "More than 100 % of the roofline: a cache moves bytes faster than the memory whose rate was measured."


@dataclass(frozen=True)
class Entry:
    """One formulation of a block: how it stands in each race where it is right, and why it is wrong elsewhere."""

    variant: str
    standings: Mapping[str, Standing]
    """By size."""
    wrong: Mapping[str, Row]
    is_baseline: bool

    @property
    def is_wrong(self) -> bool:
        return not self.standings

    @property
    def label(self) -> str:
        if self.is_baseline:
            return f"{self.variant} (baseline)"
        if self.standings and self.wrong:
            return f"{self.variant} (wrong at {', '.join(self.wrong)})"
        return self.variant

    @property
    def slowness(self) -> float:
        """The geometric mean of its times over the winner's."""
        return math.fsum(math.log(each.ratio) for each in self.standings.values()) / len(self.standings)


@dataclass(frozen=True)
class Block:
    """The races of one operator. left_out: sizes and formulations for which there is no room."""

    operator: str
    races: Sequence[Race]
    entries: Sequence[Entry]
    left_out: str

    @cached_property
    def sizes(self) -> tuple[str, ...]:
        return tuple(race.size for race in self.races)

    @property
    def rows(self) -> list[Row]:
        return [
            *(standing.row for entry in self.entries for standing in entry.standings.values()),
            *(row for entry in self.entries for row in entry.wrong.values()),
        ]


def block(races: Sequence[Race]) -> Block:
    """The races of one family and operator. The fastest formulations come first, the wrong ones last."""
    shown = _spread(sorted(races, key=_slowest), len(MARKERS))
    shown = [race for race in races if race in shown]
    names = dict.fromkeys(row.variant for race in shown for row in rows_of(race))
    entries = [_entry(name, shown) for name in names]
    right = sorted((entry for entry in entries if not entry.is_wrong), key=lambda entry: entry.slowness)
    wrong = sorted((entry for entry in entries if entry.is_wrong), key=lambda entry: entry.variant)
    kept = [
        *(entry for place, entry in enumerate(right) if place < MOST_VARIANTS * 3 // 4 or entry.is_baseline),
        *wrong[: MOST_VARIANTS // 4],
    ]
    missing = [
        f"{count} more {what}"
        for count, what in ((len(races) - len(shown), "sizes"), (len(entries) - len(kept), "formulations"))
        if count
    ]
    return Block(races[0].operator, shown, kept, " and ".join(missing))


def _slowest(race: Race) -> float:
    return max((standing.time.median for standing in race.standings), default=0.0)


def _spread(races: Sequence[Race], most: int) -> list[Race]:
    """At most so many, evenly spread, the first and the last among them."""
    if len(races) <= most:
        return list(races)
    return [races[round(place * (len(races) - 1) / (most - 1))] for place in range(most)]


def _entry(variant: str, races: Sequence[Race]) -> Entry:
    standings = {race.size: found for race in races if (found := race.of(variant)) is not None}
    wrong = {race.size: each.row for race in races for each in race.wrong if each.variant == variant}
    return Entry(variant, standings, wrong, any(race.baseline_variant == variant for race in races))


@dataclass(frozen=True)
class Column:
    """One number of every formulation. limit: a line to be on this side of, and what is written at it."""

    title: str
    measure: Callable[[Row], float | None]
    spell: Speller
    limit: float | None = None
    wide: float = 1.0
    is_time: bool = False
    is_error: bool = False


def columns(blocks: Sequence[Block], by_id: Mapping[str, Row], where: Mapping[str, Origin]) -> list[Column]:
    """Those of which something is known."""
    rows = [row for each in blocks for row in each.rows]
    bound = cheap_bound(rows)

    def counted(counter: str) -> Callable[[Row], float | None]:
        return lambda row: row.work.get(counter)

    def roofline(row: Row) -> float | None:
        return roofline_fraction(row, where[row.id].roofline)

    every = (
        Column("time of a call", lambda row: row.time.median if row.time else None, in_seconds, wide=1.7, is_time=True),
        Column("operations", counted("ops"), in_thousands),
        Column("FLOPs", counted("flops"), in_thousands),
        Column("bytes saved", counted("saved_bytes"), in_thousands),
        Column("error / tolerance", error_units, in_powers, limit=1.0, is_error=True),
        Column("of the roofline", roofline, in_percent, limit=1.0),
        Column(f"gradient / value (≤ {bound})", lambda row: gradient_ratio(row, by_id, where), in_times, limit=bound),
        Column("first call / warm", coldness, in_times, limit=1.0),
    )
    return [column for column in every if any(column.measure(row) for row in rows) or column.is_time]


def bands(found: Sequence[Column]) -> list[Sequence[Column]]:
    if len(found) <= MOST_IN_A_BAND:
        return [found]
    half = len(found) // 2 if len(found) < 8 else 4
    return [found[:half], found[half:]]


@dataclass(frozen=True)
class Spot:
    """Where a line of the figure stands, from the top of its band: a heading, or a formulation."""

    y: float
    block: Block
    entry: Entry | None = None


def spots(blocks: Sequence[Block]) -> tuple[list[Spot], float]:
    """All lines of a band, and its height."""
    found = []
    y = 0.0
    for each in blocks:
        found.append(Spot(y + 0.5 * STEP, each))
        y += 1.15 * STEP
        for entry in each.entries:
            found.append(Spot(y + 0.5 * STEP, each, entry))
            y += STEP
        y += 0.45 * STEP
    return found, y - 0.3 * STEP


def draw(
    title: str,
    summary: str,
    footer: str,
    blocks: Sequence[Block],
    by_id: Mapping[str, Row],
    where: Mapping[str, Origin],
) -> Sheet:
    """One line for each formulation, one column for each number."""
    in_bands = bands(columns(blocks, by_id, where))
    lines, high = spots(blocks)
    step = ABOVE + high + BELOW
    sheet = Sheet(title, summary, step * len(in_bands) - 0.1, _notes(blocks, by_id, where), footer)
    for place, band in enumerate(in_bands):
        _draw_band(sheet, band, lines, sheet.top + place * step, high)
    return sheet


def _notes(blocks: Sequence[Block], by_id: Mapping[str, Row], where: Mapping[str, Origin]) -> list[str]:
    """How to read the figure, as far as it holds what is explained."""
    rows = [row for block in blocks for row in block.rows]
    fractions = [roofline_fraction(row, where[row.id].roofline) or 0.0 for row in rows]
    notes = [KEY]
    if any(gradient_ratio(row, by_id, where) for row in rows):
        notes.append(IN_OPERATIONS)
    if max(fractions, default=0.0) > 1:
        notes.append(IN_CACHE)
    return notes


def _draw_band(sheet: Sheet, band: Sequence[Column], lines: Sequence[Spot], top: float, high: float) -> None:
    names = min(NAMES, max(width_of(spot.entry.label) for spot in lines if spot.entry))
    for spot in lines:
        y = top + ABOVE + spot.y
        if spot.entry is None:
            sheet.write(MARGIN, y, spot.block.operator, fontweight="bold")
            sheet.write(MARGIN + width_of(spot.block.operator, bold=True) + 0.12, y, _sizes(spot.block))
        else:
            colour = SOFT if spot.entry.is_wrong else INK
            sheet.write(MARGIN + names, y, fitted(spot.entry.label, names), ha="right", color=colour)
    left = MARGIN + names + BETWEEN / 2
    unit = (WIDTH - MARGIN - BETWEEN / 3 - left - BETWEEN * (len(band) - 1)) / sum(column.wide for column in band)
    for column in band:
        width = unit * column.wide
        sheet.write(left + width / 2, top + ABOVE / 2, column.title, ha="center")
        _draw_column(sheet, column, lines, left, left + width, top + ABOVE, high)
        left += width + BETWEEN


def _sizes(block: Block) -> str:
    """The sizes with their markers; words that all share stand in front."""
    if len(block.sizes) == 1:
        return block.sizes[0]
    each = [size.split("_") for size in block.sizes]
    shared = [word for word in each[0] if all(word in words for words in each)]
    own = ["_".join(word for word in words if word not in shared) or "_".join(words) for words in each]
    marked = "   ".join(f"{glyph} {word}" for glyph, word in zip(GLYPHS, own, strict=False))
    return f"{'_'.join(shared)}:   {marked}" if shared else marked


def _draw_column(
    sheet: Sheet, column: Column, lines: Sequence[Spot], left: float, right: float, top: float, high: float
) -> None:
    points = list(_points(column, lines))
    limit = [] if column.limit is None else [column.limit]
    values = [number for point in points for number in (point.value, *point.ends)]
    ruler = Ruler(Scale.over([*values, *limit]), left, right)
    ticks = ruler.ticks(column.spell)
    _draw_grid(sheet, lines, [x for x, _ in ticks], left, right, top)
    sheet.rule([(left, top + high, right, top + high)], SOFT, 0.6)
    for x, label in ticks:
        sheet.write(x, top + high + 0.5 * LINE, label, ha="center")
    if column.limit is not None:
        x = ruler.at(column.limit)
        sheet.rule([(x, top + low, x, top + end) for low, end in _extents(lines)], INK, 0.8, BOUND)
    bars = [
        (ruler.at(point.ends[0]), top + point.y, ruler.at(point.ends[1]), top + point.y)
        for point in points
        if point.ends
    ]
    sheet.rule(bars, INK, 0.7)
    for marker, face, edge in sorted({point.looks for point in points}):
        same = [point for point in points if point.looks == (marker, face, edge)]
        sheet.mark([ruler.at(point.value) for point in same], [top + point.y for point in same], marker, face, edge)
    for spot in lines:
        if spot.entry is not None and spot.entry.is_wrong:
            _say_wrong(sheet, column, spot.entry, ruler, top + spot.y)


def _draw_grid(sheet: Sheet, lines: Sequence[Spot], xs: Sequence[float], left: float, right: float, top: float) -> None:
    across = [(left, top + spot.y, right, top + spot.y) for spot in lines if spot.entry]
    down = [(x, top + low, x, top + end) for low, end in _extents(lines) for x in xs]
    sheet.rule([*across, *down], FAINT, 0.5)


def _extents(lines: Sequence[Spot]) -> list[tuple[float, float]]:
    """Where the formulations of each block begin and end."""
    found: dict[str, list[float]] = {}
    for spot in lines:
        if spot.entry is not None:
            found.setdefault(spot.block.operator, []).append(spot.y)
    return [(min(ys) - STEP / 2, max(ys) + STEP / 2) for ys in found.values()]


def _say_wrong(sheet: Sheet, column: Column, entry: Entry, ruler: Ruler, y: float) -> None:
    """In the place of a time; and beside the limit of an error where there is no number."""
    row = next(iter(entry.wrong.values()))
    if column.is_time:
        sheet.write(ruler.start, y, f"×  {complaint(row)}", color=SOFT)
    elif column.is_error and all(column.measure(each) is None for each in entry.wrong.values()):
        limit = ruler.at(1.0)
        has_room = ruler.end - limit > width_of("×  witness")
        x, side = (limit + 0.06, "left") if has_room else (limit - 0.06, "right")
        sheet.write(x, y, f"×  {row.status}", color=SOFT, ha=side)


Looks = tuple[str, str, str]
"""Marker, colour of its face, colour of its edge."""


@dataclass(frozen=True)
class Point:
    """One number of one formulation at one size. ends: the quartiles of a time."""

    value: float
    y: float
    looks: Looks
    ends: tuple[float, ...] = ()


def _points(column: Column, lines: Sequence[Spot]) -> Iterator[Point]:
    for spot in lines:
        if spot.entry is None:
            continue
        for marker, size in zip(MARKERS, spot.block.sizes, strict=False):
            standing, wrong = spot.entry.standings.get(size), spot.entry.wrong.get(size)
            if standing is not None and (value := column.measure(standing.row)) is not None:
                ends = _bar(standing.time) if column.is_time else ()
                yield Point(value, spot.y, (marker, *_colours(standing)), ends)
            if wrong is not None and column.is_error and (value := column.measure(wrong)) is not None:
                yield Point(value, spot.y, ("x", VERMILLION, VERMILLION))


def _bar(time: Time) -> tuple[float, ...]:
    """The quartiles, where they are known."""
    return time.ends if math.isfinite(time.ends[1]) else ()


def _colours(standing: Standing) -> tuple[str, str]:
    if standing.is_winner:
        return BLUE, BLUE
    return ("white", BLUE) if standing.is_tied else (OTHER, OTHER)


def sentence(blocks: Sequence[Block]) -> str:
    """What to see: who is fastest in each operator, what is wrong, how far the errors are from the tolerance."""
    told = [f"{each.operator}: {_fastest(each)}" for each in blocks]
    wrong = dict.fromkeys(entry.variant for each in blocks for entry in each.entries if entry.is_wrong)
    if wrong:
        told.append(f"wrong and not timed: {_some(list(wrong))}")
    right = [row for each in blocks for row in each.rows if row.right]
    if worst := max((error_units(row) or 0.0 for row in right), default=0.0):
        told.append(f"the largest error of a right one is {worst:.2g} of its tolerance")
    told += [f"left out of {each.operator}: {each.left_out}" for each in blocks if each.left_out]
    return "; ".join(told) + "."


def _fastest(block: Block) -> str:
    won = [race for race in block.races if race.winner is not None]
    if not won:
        return "none is right and timed"
    if len(block.races) == 1:
        return _winner(won[0])
    clear = [race for race in won if race.is_clear]
    if not clear:
        return f"a tie at each of {len(won)} sizes"
    (best, times), *_ = Counter(race.standings[0].variant for race in clear).most_common(1)
    behind = [race.baseline for race in won if race.baseline is not None and not race.baseline.is_tied]
    ends = sorted(behind, key=lambda standing: standing.ratio)
    ratios = dict.fromkeys(spell_ratio(each.ratio, each.low, each.high) for each in (*ends[:1], *ends[-1:]))
    where = f" at {behind[0].row.size}" if len(behind) == 1 else ""
    lag = f", and the baseline {behind[0].variant} is behind by {' to '.join(ratios)}{where}" if behind else ""
    ties = f", with {len(won) - len(clear)} ties" if len(clear) < len(won) else ""
    return f"{best} is fastest at {times} of {len(block.races)} sizes{ties}{lag}"


def _winner(race: Race) -> str:
    best = race.standings[0]
    near = f", with {len(race.tied) - 1} within its scatter" if len(race.tied) > 1 else ""
    other = race.baseline
    if other is None or other is best:
        return f"{best.variant} is fastest{near}"
    ratio = spell_ratio(other.ratio, other.low, other.high)
    lead = "level with" if other.is_tied else f"{ratio} as fast as"
    return f"{best.variant} is fastest{near}, {lead} the baseline {other.variant}"


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} others" if len(names) > most else "")
