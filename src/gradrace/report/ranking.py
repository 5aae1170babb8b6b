"""Who wins, by how much, and from which size on another does: from rows to races, ladders, crossovers and exponents.

rows  ->  races (one for each scenario)  ->  ladders (scenarios that differ in one axis)  ->  crossovers, exponents
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import linear_regression

from gradrace.report.rows import Output, Row, Time

ENOUGH = 3
"""A slope over fewer sizes than this is a ratio of two times, and weak."""


@dataclass(frozen=True)
class Standing:
    """A right formulation in a race. ratio: its time over the winner's; low and high: what the quartiles of both
    leave of it, 0 and infinity where they are not known.
    """

    row: Row
    time: Time
    ratio: float
    low: float
    high: float
    is_winner: bool = False

    @property
    def variant(self) -> str:
        return self.row.variant

    @property
    def is_tied(self) -> bool:
        """Do its quartiles and the winner's overlap? The winner ties with itself."""
        return self.low <= 1


@dataclass(frozen=True)
class Wrong:
    """A formulation that is out of a race, and why."""

    row: Row
    why: str

    @property
    def variant(self) -> str:
        return self.row.variant


@dataclass(frozen=True)
class Race:
    """The answers to one scenario. standings: the right ones, fastest first; wrong: the others, by name."""

    scenario: str
    baseline_variant: str
    standings: Sequence[Standing]
    wrong: Sequence[Wrong]

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.scenario.split("/"))

    @property
    def family(self) -> str:
        return self.words[0]

    @property
    def operator(self) -> str:
        return self.words[1]

    @property
    def size(self) -> str:
        return self.words[2]

    @property
    def dtype(self) -> str:
        return self.words[3]

    @property
    def device(self) -> str:
        return self.words[4]

    @property
    def axes(self) -> dict[str, int]:
        rows = [*(standing.row for standing in self.standings), *(wrong.row for wrong in self.wrong)]
        return rows[0].axes if rows else {}

    @property
    def winner(self) -> Standing | None:
        return self.standings[0] if self.standings else None

    @property
    def second(self) -> Standing | None:
        """Who bounds the winner's lead: the fastest that ties with it, else the next one. A formulation of wide scatter
        may tie where a faster one is beaten.
        """
        others = self.standings[1:]
        return next((standing for standing in others if standing.is_tied), others[0] if others else None)

    @property
    def baseline(self) -> Standing | None:
        return self.of(self.baseline_variant)

    @cached_property
    def tied(self) -> tuple[Standing, ...]:
        """The winner, and all that it does not beat beyond the scatter."""
        return tuple(standing for standing in self.standings if standing.is_tied)

    @property
    def is_clear(self) -> bool:
        """Is the lead beyond the scatter?"""
        return len(self.tied) == 1

    def of(self, variant: str) -> Standing | None:
        return self._by_variant.get(variant)

    @cached_property
    def _by_variant(self) -> dict[str, Standing]:
        return {standing.variant: standing for standing in self.standings}


def families(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each family, in their order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.family, []).append(row)
    return found


def races(rows: Iterable[Row]) -> list[Race]:
    """One race for each scenario. A primal whose derivative is wrong wins nothing: its value is no formulation of what
    is differentiated.
    """
    everything = list(rows)
    derivatives = _wrong_derivatives(everything)
    scenarios: dict[str, list[Row]] = {}
    for row in everything:
        scenarios.setdefault(row.scenario, []).append(row)
    return [_race(scenario, found, derivatives) for scenario, found in scenarios.items()]


_Place = tuple[str, str, str, str]
"""Family, variant, dtype and device."""


def _place(row: Row) -> _Place:
    return row.family, row.variant, row.dtype, row.device


def _wrong_derivatives(rows: Iterable[Row]) -> dict[_Place, str]:
    """Why a derivative of a variant is wrong, where one is."""
    found: dict[_Place, str] = {}
    for row in rows:
        if not row.right and row.operator != "primal":
            found.setdefault(_place(row), f"its {row.operator} is wrong: {why(row)}")
    return found


def _race(scenario: str, rows: Sequence[Row], derivatives: Mapping[_Place, str]) -> Race:
    wrong = []
    timed: list[tuple[Row, Time]] = []
    for row in rows:
        reason = derivatives.get(_place(row), "") if row.operator == "primal" else ""
        if not row.right or reason:
            wrong.append(Wrong(row, reason if row.right else why(row)))
        elif row.time is not None:
            timed.append((row, row.time))
    timed.sort(key=lambda pair: pair[1].median)
    standings = [_standing(row, time, timed[0][1]) for row, time in timed]
    return Race(scenario, rows[0].baseline, standings, sorted(wrong, key=lambda each: each.variant))


def _standing(row: Row, time: Time, best: Time) -> Standing:
    if time is best:
        return Standing(row, time, 1.0, 1.0, 1.0, is_winner=True)
    (low, high), (best_low, best_high) = time.ends, best.ends
    over = high / best_low if best_low else math.inf
    return Standing(row, time, time.median / best.median, low / best_high, over)


def why(row: Row) -> str:
    """What is wrong with a case, output by output: `A zero, x disagree (error 4.9e+14 × the tolerance)`."""
    if not row.outputs:
        return row.status
    found = [_complaint(name, output) for name, output in row.outputs.items() if not is_right(output)]
    # Each output is right and the case is not: it came out differently when it was run in another way.
    return ", ".join(found) or "a witness contradicts it"


def is_right(output: Output) -> bool:
    """Is it what mathematics says, within the tolerance? A None is, where the exact gradient is zero."""
    return output.status in ("agree", "noise") or (output.status == "none" and output.error is None)


def _complaint(name: str, output: Output) -> str:
    if output.status not in ("disagree", "noise") or output.units is None:
        return f"{name} {output.status}"
    size = f"{output.units:.2g} × the tolerance" if output.units < 1e300 else "without bound"
    return f"{name} {output.status} (error {size})"


@dataclass(frozen=True)
class Line:
    """The scenarios of a family and operator that differ in one axis alone. at: the other words of their sizes."""

    family: str
    operator: str
    dtype: str
    device: str
    axis: str
    at: str


@dataclass(frozen=True)
class Ladder:
    """The races on a line. rungs: number on the axis and race, the smallest number first."""

    line: Line
    rungs: Sequence[tuple[int, Race]]


def ladders(found: Iterable[Race]) -> list[Ladder]:
    """All ladders of two rungs or more. A race stands on one for each axis of its size."""
    rungs: dict[Line, list[tuple[int, Race]]] = {}
    for race in found:
        for axis, number in race.axes.items():
            line = Line(race.family, race.operator, race.dtype, race.device, axis, _others(race.size, axis))
            rungs.setdefault(line, []).append((number, race))
    return [Ladder(line, sorted(each, key=lambda rung: rung[0])) for line, each in rungs.items() if len(each) > 1]


def _others(size: str, axis: str) -> str:
    return "_".join(word for word in size.split("_") if word.rstrip("0123456789") != axis)


@dataclass(frozen=True)
class Crossover:
    """Between two sizes another formulation takes the lead. `before` clearly beats `after` at `low`, and is clearly
    beaten by it at `high`; their lines meet on logarithmic axes at `size`.
    """

    line: Line
    low: int
    high: int
    before: str
    after: str
    size: float


def crossovers(found: Iterable[Race]) -> list[Crossover]:
    """Where the winner changes along an axis by more than the scatter."""
    return [crossover for ladder in ladders(found) for crossover in _crossovers(ladder)]


def _crossovers(ladder: Ladder) -> list[Crossover]:
    """Up the ladder: who holds the lead keeps it until clearly beaten, so that a tie is no change of the winner."""
    found = []
    holder = ""
    for place, (_, race) in enumerate(ladder.rungs):
        if race.winner is None or holder in {standing.variant for standing in race.tied}:
            continue
        if race.of(holder) is not None:
            crossover = _crossover(ladder, place, holder, race.winner.variant)
            found += [crossover] if crossover else []
        holder = race.winner.variant
    return found


def _crossover(ladder: Ladder, place: int, before: str, after: str) -> Crossover | None:
    """The crossing below this rung; None where `before` never was clearly ahead of `after`."""
    both = [
        (number, mine, theirs)
        for number, race in ladder.rungs[: place + 1]
        if number > 0 and (mine := race.of(before)) and (theirs := race.of(after))
    ]
    start = next(
        (spot for spot in reversed(range(len(both))) if both[spot][1].time.ends[1] < both[spot][2].time.ends[0]), None
    )
    if start is None:
        return None
    leads = [(math.log(number), math.log(a.time.median / b.time.median)) for number, a, b in both[start:]]
    # The first segment at the end of which `before` is no longer ahead: there is one, for it ends clearly behind.
    (x, lead), (next_x, next_lead) = next(pair for pair in pairwise(leads) if pair[1][1] >= 0)
    meet = math.exp(x + (next_x - x) * lead / (lead - next_lead))
    return Crossover(ladder.line, both[start][0], both[-1][0], before, after, meet)


@dataclass(frozen=True)
class Exponent:
    """How the time of a variant grows with an axis: as axis to the power `slope`, by least squares on logarithmic axes.

    declared: the exponents that are declared of its counters, which no clock counts; those of the law at the same
    other axes, else of the only law on this axis.
    """

    line: Line
    variant: str
    sizes: Sequence[int]
    slope: float
    declared: Mapping[str, float]

    @property
    def is_weak(self) -> bool:
        return len(self.sizes) < ENOUGH


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Of a line through points on logarithmic axes, by least squares: the exponent of a power."""
    xs, ys = zip(*((math.log(x), math.log(y)) for x, y in points), strict=True)
    return linear_regression(xs, ys).slope


def spell_power(exponent: float, sizes: int) -> str:
    """Two digits after the point, and of two sizes one: `0.98`, `≈1.0`."""
    text = f"≈{exponent:.1f}" if sizes < ENOUGH else f"{exponent:.2f}"
    return re.sub(r"-(?=0\.0+$)", "", text).replace("-", "−")


def exponents(found_races: Iterable[Race]) -> list[Exponent]:
    """Of each variant on each ladder on which it stands twice or more, the slope of its time."""
    found = []
    for ladder in ladders(found_races):
        steps: dict[str, list[tuple[int, Standing]]] = {}
        for number, race in ladder.rungs:
            for standing in race.standings if number > 0 else ():
                steps.setdefault(standing.variant, []).append((number, standing))
        for variant, taken in steps.items():
            if len(taken) > 1:
                sizes = tuple(number for number, _ in taken)
                power = slope((number, standing.time.median) for number, standing in taken)
                found.append(Exponent(ladder.line, variant, sizes, power, _declared(taken[-1][1].row, ladder.line)))
    return found


def _declared(row: Row, line: Line) -> Mapping[str, float]:
    on_axis = [law for law in row.laws if law.axis == line.axis]
    here = [law for law in on_axis if law.at == line.at]
    chosen = here or on_axis
    return chosen[0].exponents if len(chosen) == 1 else {}


def spell_ratio(ratio: float, low: float, high: float) -> str:
    """The ratio with the digits that its interval supports, two at least, and inside of it when rounded. `3.3 ×`"""
    place = _last_digit(ratio, high - low, least=2)
    while low < high and low <= ratio <= high and not low <= round(ratio, -place) <= high and place > -15:
        place -= 1
    return f"{_rounded(ratio, place)} ×"


def spell_interval(low: float, high: float) -> str:
    """`3.19 to 3.37`, with one digit more than the ratio has, so that its ends can be told from 1."""
    if low <= 0 or math.isinf(high):
        return "scatter unknown"
    place = _last_digit(low, high - low) - 1
    return f"{_rounded(low, place)} to {_rounded(high, place)}"


def spell_time(time: Time) -> str:
    """The median with the digits that the quartiles support: `370 µs`."""
    return spell_seconds(time.median, *time.ends)


def spell_seconds(seconds: float, low: float, high: float) -> str:
    """A time with the digits that its interval supports, two at least."""
    place = _last_digit(seconds, high - low, least=2)
    rounded = round(seconds, -place)
    unit, exponent = next((pair for pair in _UNITS if rounded >= 10.0 ** pair[1]), _UNITS[-1])
    return f"{_rounded(seconds * 10.0**-exponent, place - exponent)} {unit}"


_UNITS = (("s", 0), ("ms", -3), ("µs", -6), ("ns", -9))


def _last_digit(number: float, width: float, least: int = 1) -> int:
    """The power of ten of the last digit to show: of it the width spans ten at most. At least so many digits, and
    three of what has no scatter.
    """
    first = math.floor(math.log10(number)) if number > 0 else 0
    coarsest = first - least + 1
    if math.isinf(width):
        return coarsest
    return min(coarsest, math.floor(math.log10(width))) if width > 0 else first - 2


def _rounded(number: float, place: int) -> str:
    return f"{round(number, -place):,.{max(0, -place)}f}"
