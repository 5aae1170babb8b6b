"""Of each family: what it computes, who is wrong, where the lead changes hands, how times grow, and its figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradrace.report import ranking
from gradrace.report.html import Markup, breakable, element, join, table
from gradrace.report.page_figures import gallery
from gradrace.report.ranking import Crossover, Exponent, Line, Race
from gradrace.report.rows import Row
from gradrace.units import counted

if TYPE_CHECKING:
    from gradrace.report.figures import Figure


def sections(rows: Sequence[Row], found: Sequence[Race], figures: Sequence[Figure], folder: Path) -> Markup:
    """The figures over all families, then one section for each. folder: that of the report."""
    families = ranking.families(rows)
    jumps = element("ul", *(element("li", element("a", name, href=f"#family-{name}")) for name in families))
    over_all = gallery([figure for figure in figures if not figure.family], folder, is_open=True)
    written = [
        _section(name, own, [race for race in found if race.family == name], figures, folder)
        for name, own in families.items()
    ]
    return join(element("nav", jumps, aria_label="Families"), over_all, *written, between="\n")


def _section(name: str, rows: Sequence[Row], found: Sequence[Race], figures: Sequence[Figure], folder: Path) -> Markup:
    variants = len({row.variant for row in rows})
    facts = f"{counted(variants, 'formulation')}, {counted(len(found), 'race')}. "
    link = element("a", "In the table", href=f"#family={name}")
    own = [figure for figure in figures if figure.family == name]
    return element(
        "section",
        element("h3", name, id=f"title-{name}"),
        element("p", rows[0].summary),
        element("p", facts, link, class_="soft"),
        _wrong(found),
        _crossovers(ranking.crossovers(found)),
        _exponents(ranking.exponents(found)),
        gallery(own, folder),
        class_="family",
        id=f"family-{name}",
        aria_labelledby=f"title-{name}",
    )


def _wrong(found: Iterable[Race]) -> Markup | None:
    """Each wrong formulation once, with the first of its cases."""
    cases: dict[str, list[ranking.Wrong]] = {}
    for race in found:
        for wrong in race.wrong:
            cases.setdefault(wrong.variant, []).append(wrong)
    if not cases:
        return None
    lines = []
    for name, each in cases.items():
        link = element("a", each[0].row.operator, href=f"#case={each[0].row.id}")
        more = f", and in {counted(len(each) - 1, 'more case')}" if len(each) > 1 else ""
        lines.append(element("li", element("code", name), " in ", link, f": {each[0].why}{more}"))
    return join(element("h4", "✗ Wrong, kept to be seen"), element("ul", *lines))


def _crossovers(found: Sequence[Crossover]) -> Markup | None:
    if not found:
        return None
    return join(element("h4", "Where the lead changes hands"), element("ul", *map(_crossover, found)))


def _crossover(each: Crossover) -> Markup:
    axis = each.line.axis
    before, after = (element("code", name) for name in (each.before, each.after))
    meet = f" up to about {axis} = {float(f'{each.size:.2g}'):,.4g}, "
    measured = f" beyond (measured from {axis} = {each.low:,} to {each.high:,})"
    return element("li", f"{each.line.operator} ({_place(each.line)}): ", before, meet, after, measured)


def _place(line: Line) -> str:
    return ", ".join(word for word in (line.at, line.dtype, line.device) if word)


def _exponents(found: Sequence[Exponent]) -> Markup | None:
    if not found:
        return None
    head = ("Formulation", "Operator", "Along", "Time grows as", "Declared of the counters")
    caption = (
        "Fitted exponent of the time on logarithmic axes, beside what is declared of the counters: "
        "small sizes grow less, for a call costs something by itself."
    )
    rows = [element("tr", *_exponent(each)) for each in found]
    return element(
        "details", element("summary", f"How the time grows ({counted(len(found), 'line')})"), table(head, rows, caption)
    )


def _exponent(each: Exponent) -> list[Markup]:
    axis = each.line.axis
    along = f"{axis} = {each.sizes[0]:,} to {each.sizes[-1]:,}, {_place(each.line)}"
    weak = " (two sizes only)" if each.is_weak else ""
    return [
        element("th", breakable(each.variant), scope="row", class_="id"),
        element("td", each.line.operator),
        element("td", along, element("span", weak, class_="soft")),
        element("td", axis, element("sup", ranking.spell_power(each.slope, len(each.sizes)))),
        element("td", _declared(axis, each.declared), class_="text"),
    ]


def _power(axis: str, exponent: float) -> Markup:
    return join(axis, element("sup", f"{exponent:g}"))


def _declared(axis: str, exponents: Mapping[str, float]) -> Markup:
    """The counters that grow alike stand together."""
    alike: dict[float, list[str]] = {}
    for counter, exponent in sorted(exponents.items(), key=lambda pair: pair[1]):
        alike.setdefault(exponent, []).append(counter.replace("_", " "))
    groups = [
        join("constant" if exponent == 0 else _power(axis, exponent), f": {', '.join(counters)}")
        for exponent, counters in alike.items()
    ]
    return join(*groups, between="; ") if groups else Markup("–")
