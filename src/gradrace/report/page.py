"""The page: every result in one HTML file that asks no network, with the answer to "which formulation?" first."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from gradrace.report import page_families, page_history, page_races
from gradrace.report.html import Markup, element, join, markup
from gradrace.report.page_figures import gallery
from gradrace.report.ranking import Race, races
from gradrace.report.rows import Bench, Results
from gradrace.report.summary import title
from gradrace.units import counted

if TYPE_CHECKING:
    from gradrace.report.figures import Figure


def page(results: Results, figures: Sequence[Figure], folder: Path) -> str:
    """The whole text of index.html. Of each figure the smaller one of folder/figures/NAME.png and NAME.svg is in it."""
    found = races(results.by_id.values())
    style, script = _part("page.css"), _part("page.js")
    parts = _parts(results, found, figures, folder)
    return Template(_part("page.html")).substitute(
        policy=_policy(style, script),
        style=style,
        script=script,
        title=markup(title(results)),
        answer=_answer(results, found),
        facts=_facts(results),
        contents=join(*(element("li", element("a", name, href=f"#{key}")) for key, name, _ in parts)),
        sections=join(*(_section(*part) for part in parts), between="\n"),
        data=page_races.data(found),
    )


def _parts(
    results: Results, found: Sequence[Race], figures: Sequence[Figure], folder: Path
) -> list[tuple[str, str, Markup]]:
    """The sections of what was given: key, heading and what stands there."""
    history, gate, others = _placed(figures)
    parts = []
    if found:
        families = page_families.sections(list(results.by_id.values()), found, others, folder)
        parts += [("races", "The races", page_races.table(found)), ("families", "The families", families)]
    if results.points:
        told = join(page_history.history(results.points), gallery(history, folder, is_open=True))
        parts.append(("history", "History over commits", told))
    if results.verdicts:
        told = join(page_history.gate(results), gallery(gate, folder, is_open=True))
        parts.append(("gate", "What the gate said", told))
    return parts


def _section(key: str, heading: str, inside: Markup) -> Markup:
    title = element("h2", heading, id=f"{key}-title")
    return element("section", title, inside, id=key, aria_labelledby=f"{key}-title")


def _placed(figures: Sequence[Figure]) -> tuple[list[Figure], list[Figure], list[Figure]]:
    """Those of the history, those of the gate, and all others, as their names say."""
    places: dict[str, list[Figure]] = {"history": [], "gate": [], "": []}
    for figure in figures:
        subject = "" if figure.family else figure.name.partition("-")[0]
        places[subject if subject in places else ""].append(figure)
    return places["history"], places["gate"], places[""]


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: apply its own style, run its own script, show images that are inside it. No network."""
    rules = ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "img-src data:"]
    for source, text in (("style-src", style), ("script-src", script)):
        rules.append(f"{source} 'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")
    return "; ".join(rules)


def _answer(results: Results, found: Sequence[Race]) -> Markup:
    """The whole in three sentences at most."""
    if not found:
        given = [("asv's numbers", results.points), ("the gate's verdicts", results.verdicts)]
        names = " and ".join(name for name, each in given if each)
        return markup(f"Here are {names}; no results of the benches were given, so no formulations race.")
    clear = [race for race in found if race.is_clear and race.second]
    others = [race for race in clear if race.winner is not race.baseline]
    sentences = [
        f"{len(clear):,} of {len(found):,} races have a clear winner, and in {len(others):,} of them it is not the "
        "baseline."
    ]
    rest = (
        (sum(len(race.tied) > 1 for race in found), "the lead is within the scatter"),
        (sum(race.winner is not None and race.second is None for race in found), "only one formulation is right"),
        (sum(race.winner is None for race in found), "none is right"),
    )
    if told := [f"in {count:,} {what}" for count, what in rest if count]:
        sentences.append(f"Of the others {', '.join(told)}.")
    wrong = [each for race in found for each in race.wrong]
    if wrong:
        cases = len(wrong) + sum(len(race.standings) for race in found)
        formulations = counted(len({(each.row.family, each.variant) for each in wrong}), "formulation")
        sentences.append(f"Wrong are {len(wrong):,} of {cases:,} cases, of {formulations}: shown, and out of the race.")
    return markup(" ".join(sentences))


FACTS = (
    ("processor", "Processor"),
    ("cores", "Cores"),
    ("system", "System"),
    ("device", "Device"),
    ("threads", "Threads"),
    ("torch", "torch"),
    ("python", "Python"),
    ("numpy", "NumPy"),
    ("commit", "Commit"),
)


def _facts(results: Results) -> Markup:
    """Where and when, without which no time means anything."""
    rows = list(results.by_id.values())
    facts = [(name, _distinct(row.environment.get(key) for row in rows)) for key, name in FACTS]
    facts.append(("Date", _distinct(_minute(bench.date) for bench in results.benches)))
    for bench in results.benches[-1:]:
        facts += _limits(bench)
    shown = [element("div", element("dt", name), " ", element("dd", fact)) for name, fact in facts if fact]
    return element("dl", *shown, class_="facts") if shown else Markup("")


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _minute(date: str) -> str:
    return date[:16].replace("T", " ")


def _limits(bench: Bench) -> list[tuple[str, str]]:
    """The most that each device did."""
    found = []
    for device, limit in bench.rooflines.items():
        found.append((f"Copying on {device}", f"{limit.copy_bytes_per_s / 1e9:.3g} GB/s"))
        for dtype, flops in limit.gemm_flops_per_s.items():
            found.append((f"{dtype} products on {device}", f"{flops / 1e9:.3g} GFLOP/s"))
    return found
