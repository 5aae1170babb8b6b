"""All races at a glance: by how much each winner leads the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradrace.report.ranking import Race, Standing, spell_ratio
from gradrace.report.scale import Ruler, Scale, in_times
from gradrace.report.style import BLUE, FAINT, INK, LINE, MARGIN, OTHER, SOFT, WIDTH, Sheet, fitted
from gradrace.units import counted

TITLE = "How far the winner is ahead of the baseline"

ABOUT = "The baseline's time over the winner's in every race, one dot for each size; the largest lead first."

CLEAR, TIED, NONE = (BLUE, BLUE), ("white", BLUE), (OTHER, OTHER)
"""Face and edge of a dot."""

MEANINGS = {
    CLEAR: "blue: a clear lead",
    TIED: "hollow: a lead within the scatter of the two times",
    NONE: "grey: the baseline itself is fastest",
}
BARS = "Bars: what the quartiles of both times leave of the ratio. Who ties with the winner stands on the page."

MOST = 60

STEP = 0.15

NAMES, WINNERS, GAP = 2.25, 2.35, 0.12
"""Inches for the names of the races left of the plot, and for those of the winners right of it."""

BELOW = 0.2


@dataclass(frozen=True)
class Lead:
    """How the baseline stands in the races of one family and operator. behind: of each race its standing."""

    name: str
    races: Sequence[Race]
    behind: Sequence[Standing]

    @property
    def most(self) -> float:
        return max(each.ratio for each in self.behind)

    @property
    def winners(self) -> str:
        """`3.1 to 8,000 ×  adjoint`: who has the largest lead, and how often it wins where it does not always."""
        low, high = min(self.behind, key=_ratio), max(self.behind, key=_ratio)
        best = self.races[self.behind.index(high)].standings[0].variant
        if high.is_winner:
            return f"{best}, the baseline"
        times = sum(race.standings[0].variant == best for race in self.races)
        often = f" ({times} of {len(self.races)} sizes)" if times < len(self.races) else ""
        most = spell_ratio(high.ratio, high.low, high.high)
        if low is high:
            return f"{most}  {best}"
        least = spell_ratio(low.ratio, low.low, low.high).removesuffix(" ×") if low.ratio > 1 else "1"
        return f"{least} to {most}  {best}{often}"


def _ratio(standing: Standing) -> float:
    return standing.ratio


def leads(races: Sequence[Race]) -> list[Lead]:
    """The races in which the baseline is right and timed; the largest lead first."""
    places = {(race.dtype, race.device) for race in races}
    found: dict[str, list[tuple[Race, Standing]]] = {}
    for race in races:
        if race.baseline is not None:
            where = (race.dtype, race.device) if len(places) > 1 else ()
            found.setdefault(" ".join((race.family, race.operator, *where)), []).append((race, race.baseline))
    each = [Lead(name, *zip(*pairs, strict=True)) for name, pairs in found.items()]
    return sorted(each, key=lambda lead: -lead.most)


def draw(races: Sequence[Race], footer: str) -> Sheet:
    """One line for each family and operator."""
    shown = leads(races)[:MOST]
    high = STEP * len(shown)
    sheet = Sheet(TITLE, ABOUT, high + BELOW, [_key(shown)], footer)
    left, right, top = MARGIN + NAMES + GAP, WIDTH - MARGIN - WINNERS - GAP, sheet.top
    ends = [end for lead in shown for behind in lead.behind for end in (behind.low, behind.ratio, behind.high)]
    ruler = Ruler(Scale.over([1.0, *(end for end in ends if 0 < end < math.inf)]), left, right)
    ys = [top + (place + 0.5) * STEP for place in range(len(shown))]
    ticks = ruler.ticks(in_times)
    sheet.rule([*((left, y, right, y) for y in ys), *((x, top, x, top + high) for x, _ in ticks)], FAINT, 0.5)
    sheet.rule([(left, top + high, right, top + high)], SOFT, 0.6)
    for x, label in ticks:
        sheet.write(x, top + high + 0.6 * LINE, label, ha="center")
    rows = [(y, behind) for y, lead in zip(ys, shown, strict=True) for behind in lead.behind]
    bars = [(y, behind) for y, behind in rows if math.isfinite(behind.high)]
    sheet.rule([(ruler.at(behind.low), y, ruler.at(behind.high), y) for y, behind in bars], INK, 0.7)
    for colours in (NONE, TIED, CLEAR):
        same = [(ruler.at(behind.ratio), y) for y, behind in rows if _colours(behind) == colours]
        sheet.mark([x for x, _ in same], [y for _, y in same], "o", *colours)
    for y, lead in zip(ys, shown, strict=True):
        sheet.write(MARGIN + NAMES, y, fitted(lead.name, NAMES), ha="right")
        sheet.write(right + GAP, y, fitted(lead.winners, WINNERS))
    return sheet


def _colours(behind: Standing) -> tuple[str, str]:
    """Of face and edge."""
    if behind.is_winner:
        return NONE
    return TIED if behind.is_tied else CLEAR


def _key(shown: Sequence[Lead]) -> str:
    """What the dots that are there mean."""
    there = {_colours(behind) for lead in shown for behind in lead.behind}
    told = "; ".join(meaning for colours, meaning in MEANINGS.items() if colours in there)
    return f"{told[:1].upper()}{told[1:]}. {BARS}"


def sentence(races: Sequence[Race]) -> str:
    """How often the baseline loses, and by how much."""
    found = leads(races)
    pairs = [pair for lead in found for pair in zip(lead.races, lead.behind, strict=True)]
    clear = [(race, behind) for race, behind in pairs if not behind.is_tied]
    told = [f"In {len(clear)} of {len(pairs)} races a formulation clearly beats the baseline"]
    if clear:
        race, behind = max(clear, key=lambda pair: pair[1].ratio)
        most = spell_ratio(behind.ratio, behind.low, behind.high)
        told.append(f"most in {race.scenario}, where {race.standings[0].variant} is {most} as fast")
    if wrong := sum(len(race.wrong) for race in races):
        told.append(f"{counted(wrong, 'wrong case')} raced nowhere")
    if len(pairs) < len(races):
        told.append(f"{len(races) - len(pairs)} races without a right baseline are not shown")
    if len(found) > MOST:
        told.append(f"{len(found) - MOST} operators with the smallest leads are not shown")
    return "; ".join(told) + "."
