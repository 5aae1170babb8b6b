"""All figures of the results, as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from gradrace.report import gate_figure, growth_figure, history_figure, overview_figure, provenance, race_figure
from gradrace.report.growth_figure import Fits
from gradrace.report.measures import Origin, origins, rows_of
from gradrace.report.race_figure import Block
from gradrace.report.ranking import Ladder, Race, exponents, ladders, races
from gradrace.report.rows import Point, Results, Row, Verdict
from gradrace.report.style import Sheet, styled

FOLDER = "figures"

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


def draw(results: Results, folder: Path) -> list[Figure]:
    """Write PNG and SVG files into `folder/figures`: an overview, the families one after another, history, verdicts.

    No two have one name: the words of ids hold no dash.
    """
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    found = races(results.by_id.values())
    where = origins(results)
    fits = {(each.line, each.variant): each for each in exponents(results.by_id.values())}
    plans = list(_plans(found, _Facts(results.by_id, where, fits)))
    figures = []
    with styled():
        for figure, sheet in chain(
            _overview(found, where),
            (plan() for plan in plans[:MOST]),
            _histories(results.points),
            _verdicts(results.verdicts),
        ):
            sheet.save(place, figure.name)
            figures.append(figure)
    if len(plans) > MOST:
        told = f"{figures[0].sentence} {len(plans) - MOST} more figures of families are left out."
        figures[0] = replace(figures[0], sentence=told)
    return figures


def _overview(found: Sequence[Race], where: Mapping[str, Origin]) -> Iterator[Drawing]:
    if overview_figure.leads(found):
        source = provenance.of_rows([row for race in found for row in rows_of(race)], where)
        told = overview_figure.sentence(found)
        yield Figure("overview", "", overview_figure.TITLE, told), overview_figure.draw(found, source)


def _plans(found: Sequence[Race], facts: _Facts) -> Iterator[Callable[[], Drawing]]:
    """The figures of the families, not drawn yet: those of the first dtype and device before the others."""
    places: dict[tuple[str, str], dict[str, list[Race]]] = {}
    for race in found:
        places.setdefault((race.dtype, race.device), {}).setdefault(race.family, []).append(race)
    first = FIRST if FIRST in places else next(iter(places), FIRST)
    for place in sorted(places, key=lambda place: place != first):
        suffix = () if place == first else place
        for own in places[place].values():
            yield from _of_family(own, facts, suffix)


def _of_family(found: Sequence[Race], facts: _Facts, suffix: tuple[str, ...]) -> Iterator[Callable[[], Drawing]]:
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


def _histories(points: Sequence[Point]) -> Iterator[Drawing]:
    """One for each machine and version of torch: their times say nothing beside each other."""
    found = history_figure.groups(points)
    for number, own in enumerate(found[:MOST_HISTORIES], 1):
        told = history_figure.sentence(own, len(found) - min(len(found), MOST_HISTORIES))
        title = f"{history_figure.TITLE}, {own[0].machine}"
        sheet = history_figure.draw(title, own, provenance.of_points(own))
        yield Figure(f"history-{number}", "", title, told), sheet


def _verdicts(verdicts: Sequence[Verdict]) -> Iterator[Drawing]:
    found = [verdict for verdict in verdicts if gate_figure.raced(verdict)]
    for number, verdict in enumerate(found[:MOST_VERDICTS], 1):
        title = f"The gate: {provenance.short(verdict.base)} and {provenance.short(verdict.head)}"
        told = gate_figure.sentence(verdict, len(found) - min(len(found), MOST_VERDICTS))
        sheet = gate_figure.draw(title, verdict, provenance.of_verdict(verdict))
        yield Figure(f"gate-{number}", "", title, told), sheet
