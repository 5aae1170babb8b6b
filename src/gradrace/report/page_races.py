"""The table of races: for each scenario the winner and its lead; and, as data, all formulations of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gradrace.report.html import Markup, breakable, element, join
from gradrace.report.measures import error_units
from gradrace.report.ranking import Race, Standing, spell_interval, spell_ratio, spell_seconds, spell_time
from gradrace.report.rows import Row
from gradrace.units import human


class Column(NamedTuple):
    """key: how it is called in the address of a view; first: the direction that a first click sorts by."""

    key: str
    head: str
    first: str = "ascending"
    is_number: bool = True


COLUMNS = (
    Column("family", "Family, operator", is_number=False),
    Column("size", "Size, type, device", is_number=False),
    Column("winner", "Winner", is_number=False),
    Column("second", "Ahead of the second", "descending"),
    Column("baseline", "Ahead of the baseline", "descending"),
    Column("time", "Time"),
    Column("memory", "Peak, saved"),
    Column("ops", "Ops"),
    Column("flops", "FLOPs"),
    Column("error", "Error"),
    Column("wrong", "Wrong", "descending"),
)

CASE_COLUMNS = (
    *("Formulation and source", "Gradient", "Time", "Time / winner's", "First call"),
    *("Peak memory", "Saved", "Ops", "FLOPs", "Nodes", "Error"),
)

FACETS = ("family", "operator", "dtype", "device")


def table(found: Sequence[Race]) -> Markup:
    """The filters, hidden until a script can use them, and one row for each race."""
    caption = element(
        "caption",
        "Of each race the fastest formulation whose gradient agrees with the reference. Times are medians; below a "
        "ratio stands what the quartiles of both times leave of it, and where that holds 1 the race is a tie. Errors "
        "are in tolerances: up to 1 agrees. FLOPs are those that torch counts: 0 where everything is elementwise.",
    )
    head = [
        element(
            "th",
            column.head,
            scope="col",
            class_="number" if column.is_number else None,
            data_key=column.key,
            data_first=column.first,
        )
        for column in COLUMNS
    ]
    body = element("tbody", join(*map(_row, found), between="\n"))
    more = element("p", element("button", type="button", class_="plain"), class_="more", hidden=True)
    return join(
        *(_filters(found), element("p", f"{len(found):,} races", class_="count", role="status")),
        element("table", caption, element("thead", element("tr", *head)), body, class_="races"),
        *(more, _sheet()),
    )


def _filters(found: Sequence[Race]) -> Markup:
    text = element(
        "input", type="search", name="q", placeholder="a family, a formulation, wrong, …", autocomplete="off"
    )
    selects = [_select(facet, dict.fromkeys(getattr(race, facet) for race in found)) for facet in FACETS]
    tick = element("label", element("input", type="checkbox", name="all"), "Show every case", class_="tick")
    clear = element("button", "Clear", type="button", name="clear", class_="plain")
    inside = [element("label", "Find", text, class_="find"), *selects, tick, clear]
    return element("form", *inside, class_="filters", role="search", aria_label="Filters", hidden=True)


def _select(facet: str, words: Iterable[str]) -> Markup:
    options = [element("option", "all", value=""), *(element("option", word) for word in words)]
    return element("label", facet.capitalize(), element("select", *options, name=facet))


def _sheet() -> Markup:
    """What a script fills with the formulations of a race."""
    head = [
        element("th", name, scope="col", class_="number" if place > 1 else None)
        for place, name in enumerate(CASE_COLUMNS)
    ]
    caption = element("caption", element("a", "About the family", href="#families"))
    inner = element("table", caption, element("thead", element("tr", *head)), element("tbody"), class_="cases")
    cell = element("td", element("div", inner, class_="scroll"), colspan=len(COLUMNS))
    return element("template", element("tr", cell, class_="sheet"), id="sheet")


def _row(race: Race) -> Markup:
    link = element("a", breakable(race.family), href=f"#race={race.scenario}")
    best = race.winner
    row = best.row if best else None
    is_baseline = best is not None and best is race.baseline
    saved = element("small", "saved ", _count(row, "saved_bytes", "B"))
    return element(
        "tr",
        element("th", link, element("small", breakable(race.operator)), scope="row"),
        element("td", breakable(race.size), element("small", f"{race.dtype} · {race.device}")),
        element("td", *_winner(race)),
        element("td", *_lead(race.second)),
        element("td", *([_soft("is the baseline")] if is_baseline else _lead(race.baseline))),
        element("td", spell_time(best.time) if best else "–"),
        element("td", _count(row, "peak_bytes", "B"), saved),
        element("td", _count(row, "ops")),
        element("td", _count(row, "flops")),
        element("td", spell_units(error_units(row)) if row else "–"),
        element("td", element("span", f"✗ {len(race.wrong)}", class_="tag bad") if race.wrong else _soft("0")),
        id=f"race={race.scenario}",
    )


def _winner(race: Race) -> tuple[Markup, Markup]:
    of = f"of {len(race.standings) + len(race.wrong)}"
    if race.winner is None:
        return element("span", "✗ none is right", class_="tag bad"), element("small", of)
    name = element("span", breakable(race.winner.variant), class_="winner")
    tie = None if race.is_clear else element("span", f"≈ tie of {len(race.tied)}", class_="tag doubt")
    return name, element("small", tie, " ", of)


def _lead(behind: Standing | None) -> tuple[Markup, ...]:
    """How far the winner is ahead of this one."""
    if behind is None:
        return (_soft("–"),)
    interval = element("span", spell_interval(behind.low, behind.high), class_="value")
    name = element("small", interval, " ", element("span", breakable(behind.variant), class_="whole"))
    if behind.is_tied:
        return element("span", "tie", class_="tag doubt"), name
    return element("span", _ratio(behind), class_="lead"), name


def _ratio(standing: Standing) -> str:
    return spell_ratio(standing.ratio, standing.low, standing.high)


def _soft(text: str) -> Markup:
    return element("span", text, class_="soft")


def _count(row: Row | None, counter: str, unit: str = "") -> str:
    value = row.work.get(counter) if row else None
    return human(None if value is None else round(value), unit)


def _seconds(seconds: float) -> str:
    return spell_seconds(seconds, seconds, seconds)


def spell_units(error: float | None) -> str:
    if error is None:
        return "–"
    return "0" if error == 0 else "< 0.001" if error < 0.001 else f"{error:.2g}"


def data(found: Sequence[Race]) -> str:
    """All that the script knows: of each race the numbers that sort it, and its formulations, spelled. It cannot end
    the element of HTML in which it stands.
    """
    sources: dict[str, int] = {}
    races = [[race.scenario, _keys(race), [*_cases(race, sources)]] for race in found]
    told = {"sources": list(sources), "races": races}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # In a string of JSON these mean the same, escaped.
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _keys(race: Race) -> list[Any]:
    """What the columns after the second are sorted by; None where there is no number."""
    if race.winner is None:
        return [None] * (len(COLUMNS) - 3) + [len(race.wrong)]
    work = race.winner.row.work
    leads = [None if other is None else 1 if other.is_tied else other.ratio for other in (race.second, race.baseline)]
    counters = [work.get(counter) for counter in ("peak_bytes", "ops", "flops")]
    return [
        race.winner.variant,
        *leads,
        race.winner.time.median,
        *counters,
        error_units(race.winner.row),
        len(race.wrong),
    ]


def _cases(race: Race, sources: dict[str, int]) -> Iterator[list[Any]]:
    for standing in race.standings:
        yield _case(race, standing.row, sources, _said(race, standing), _times(standing))
    for wrong in race.wrong:
        word = "✗ out of the race" if wrong.row.right else "✗ wrong"
        yield _case(race, wrong.row, sources, ("bad", word, wrong.why), NO_TIME)


def _case(race: Race, row: Row, sources: dict[str, int], said: Sequence[str], times: Sequence[Any]) -> list[Any]:
    """said: the mark, the word for it, and why."""
    source = sources.setdefault(row.source, len(sources))
    counts = [_count(row, counter, "B") for counter in ("peak_bytes", "saved_bytes")]
    counts += [_count(row, counter) for counter in ("ops", "flops", "graph_nodes")]
    is_baseline = int(row.variant == race.baseline_variant)
    return [row.variant, source, is_baseline, *said, *times, *counts, spell_units(error_units(row))]


NO_TIME = ("", "", "", 0, "")


def _times(standing: Standing) -> tuple[Any, ...]:
    """Time, its ratio to the winner's with the interval, the share of the winner's pace, and the first call."""
    time = standing.time
    first = "–" if time.first is None else spell_seconds(time.first, time.first, time.first)
    if standing.is_winner:
        return spell_time(time), "1 ×", "", 1, first
    interval = spell_interval(standing.low, standing.high)
    return spell_time(time), _ratio(standing), interval, round(1 / standing.ratio, 3), first


def _said(race: Race, standing: Standing) -> tuple[str, str, str]:
    if standing is race.winner:
        return "good", "✓ winner", ""
    return ("doubt", "≈ ties", "") if standing.is_tied else ("quiet", "✓ agrees", "")
