"""All figures of the results, as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gradrace.report import gate_figure, growth_figure, history_figure, overview_figure, provenance, race_figure
from gradrace.report.growth_figure import Fits
from gradrace.report.layout import FIGURES
from gradrace.report.measures import Origin, origins, rows_of
from gradrace.report.race_figure import Block
from gradrace.report.ranking import Ladder, Race, exponents, ladders, races
from gradrace.report.rows import Point, Results, Row, Verdict
from gradrace.report.spread import spread
from gradrace.report.style import Sheet, styled

MOST = 40
"""Figures of families."""

MOST_LINES = 30
"""Formulations in one figure, all operators together; a family with more has a figure for each operator."""

MOST_HISTORIES = MOST_VERDICTS = 3

FIRST = ("float64", "cpu")
"""Dtype and device whose figures come first."""


@dataclass(frozen=True)
class Figure:
    """A figure in the folder. name: of its files, without .png and .svg; family: empty for one over all families.
    sentence: what to see.
    """

    name: str
    family: str
    title: str
    sentence: str


@dataclass(frozen=True)
class _Facts:
    """What every figure of a family needs beside its races."""

    by_id: Mapping[str, Row]
    where: Mapping[str, Origin]
    fits: Fits

    def source(self, found: Iterable[Race]) -> str:
        return provenance.of_rows([row for race in found for row in rows_of(race)], self.where)


Drawing = tuple[Figure, Sheet]
Plan = Callable[[], Drawing]
Watch = Callable[[Iterable[Figure], int], Iterable[Figure]]


def _unwatched(figures: Iterable[Figure], _: int) -> Iterable[Figure]:
    return figures


def draw(results: Results, folder: Path, watch: Watch = _unwatched) -> list[Figure]:
    """Write PNG and SVG files into `folder/figures`: an overview, the families one after another, history, verdicts.

    No two have one name: the words of ids hold no dash. watch: sees each figure when it is there, and how many come.
    """
    place = folder / FIGURES
    place.mkdir(parents=True, exist_ok=True)
    found = races(results.by_id.values())
    where = origins(results)
    fits = {(each.line, each.variant): each for each in exponents(found)}
    families = list(_plans(found, _Facts(results.by_id, where, fits)))
    plans = [
        *_overview(found, where, len(families) - MOST),
        *families[:MOST],
        *_histories(results.points),
        *_verdicts(results.verdicts),
    ]
    with styled(), spread(partial(_save, place), plans) as drawn:
        return list(watch(drawn, len(plans)))


def _save(place: Path, plan: Plan) -> Figure:
    figure, sheet = plan()
    sheet.save(place, figure.name)
    return figure


def _overview(found: Sequence[Race], where: Mapping[str, Origin], left_out: int) -> Iterator[Plan]:
    def drawing() -> Drawing:
        source = provenance.of_rows([row for race in found for row in rows_of(race)], where)
        more = f" {left_out} more figures of families are left out." if left_out > 0 else ""
        figure = Figure("overview", "", overview_figure.TITLE, overview_figure.sentence(found) + more)
        return figure, overview_figure.draw(found, source)

    if overview_figure.leads(found):
        yield drawing


def _plans(found: Sequence[Race], facts: _Facts) -> Iterator[Plan]:
    """The figures of the families, not drawn yet: those of the first dtype and device before the others."""
    places: dict[tuple[str, str], dict[str, list[Race]]] = {}
    for race in found:
        places.setdefault((race.dtype, race.device), {}).setdefault(race.family, []).append(race)
    first = FIRST if FIRST in places else next(iter(places), FIRST)
    for place in sorted(places, key=lambda place: place != first):
        suffix = () if place == first else place
        for own in places[place].values():
            yield from _of_family(own, facts, suffix)


def _of_family(found: Sequence[Race], facts: _Facts, suffix: tuple[str, ...]) -> Iterator[Plan]:
    operators: dict[str, list[Race]] = {}
    for race in found:
        operators.setdefault(race.operator, []).append(race)
    blocks = [race_figure.block(own) for own in operators.values()]
    if sum(len(block.entries) for block in blocks) <= MOST_LINES:
        yield partial(_race, blocks, (), facts, suffix)
    else:
        yield from (partial(_race, [block], (block.operator,), facts, suffix) for block in blocks)
    for operator, own in operators.items():
        if steps := growth_figure.longest(ladders(own), facts.fits):
            yield partial(_growth, operator, steps, facts, suffix)


def _race(blocks: Sequence[Block], operator: tuple[str, ...], facts: _Facts, suffix: tuple[str, ...]) -> Drawing:
    found = [race for block in blocks for race in block.races]
    family, about = found[0].family, blocks[0].rows[0].summary
    title = ", ".join((family, *operator, *suffix))
    sheet = race_figure.draw(title, about, facts.source(found), blocks, facts.by_id, facts.where)
    name = "-".join(("race", family, *operator, *suffix))
    return Figure(name, family, f"{title}: all formulations", race_figure.sentence(blocks)), sheet


def _growth(operator: str, steps: Sequence[Ladder], facts: _Facts, suffix: tuple[str, ...]) -> Drawing:
    shown = steps[: growth_figure.MOST_LADDERS]
    races_shown = [race for ladder in shown for _, race in ladder.rungs]
    family = steps[0].line.family
    title = f"{', '.join((family, operator, *suffix))}: growth with the size"
    about = next(each.row.summary for race in races_shown for each in race.standings)
    sheet = growth_figure.draw(title, about, facts.source(races_shown), shown, facts.fits)
    told = growth_figure.sentence(shown, facts.fits, len(steps) - len(shown))
    return Figure("-".join(("growth", family, operator, *suffix)), family, title, told), sheet


def _histories(points: Sequence[Point]) -> Iterator[Plan]:
    """One for each machine, Python and version of torch: their times say nothing beside each other."""
    found = history_figure.groups(points)
    for number, own in enumerate(found[:MOST_HISTORIES], 1):
        yield partial(_history, number, own, len(found) - min(len(found), MOST_HISTORIES))


def _history(number: int, own: Sequence[Point], left_out: int) -> Drawing:
    title = f"{history_figure.TITLE}, {own[0].machine}"
    sheet = history_figure.draw(title, own, provenance.of_points(own))
    return Figure(f"history-{number}", "", title, history_figure.sentence(own, left_out)), sheet


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[Plan]:
    found = [verdict for verdict in verdicts if gate_figure.raced(verdict)]
    for number, verdict in enumerate(found[:MOST_VERDICTS], 1):
        yield partial(_verdict, number, verdict, len(found) - min(len(found), MOST_VERDICTS))


def _verdict(number: int, verdict: Verdict, left_out: int) -> Drawing:
    title = f"The gate: {provenance.short(verdict.base)} and {provenance.short(verdict.head)}"
    sheet = gate_figure.draw(title, verdict, provenance.of_verdict(verdict))
    return Figure(f"gate-{number}", "", title, gate_figure.sentence(verdict, left_out)), sheet
