"""The results as Markdown: a table for each family, the crossovers, the gate's verdicts, and what commits moved."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from gradrace.report.history import TIME, Move, by_commit, interval, moves, places, strongest, told_together, where
from gradrace.report.ranking import (
    Crossover,
    Race,
    Standing,
    crossovers,
    races,
    spell_interval,
    spell_ratio,
    spell_seconds,
    spell_time,
)
from gradrace.report.rows import Results, Verdict
from gradrace.units import counted, human

FEW = 3
"""So many names stand in a cell, then a number of others."""

MOST = 20
"""So many findings of a verdict, or moves of a commit, are listed; of the rest the number."""

HEADER = ("scenario", "winner", "time", "lead over the next", "over the baseline", "memory", "operations", "wrong")

COLOURS = ("red", "notice", "gain")

KINDS = ("gradient error", "work", "slower", "faster")
"""What a commit can move, by its importance."""


def markdown(results: Results) -> str:
    """The whole summary. It answers first what to use, then what happened over commits."""
    rows = results.by_id.values()
    found = races(rows)
    lines = [f"# {title(results)}", "", *made_on(results)]
    by_family: dict[str, list[Race]] = {}
    for race in found:
        by_family.setdefault(race.family, []).append(race)
    crossed: dict[str, list[Crossover]] = {}
    for crossover in crossovers(found):
        crossed.setdefault(crossover.line.family, []).append(crossover)
    summaries = {row.family: row.summary for row in rows}
    for family, its_races in by_family.items():
        lines += _of_family(family, summaries[family], its_races, crossed.get(family, ()))
    lines += _of_verdicts(results.verdicts)
    if results.points:
        lines += _of_history(results)
    return "\n".join(lines).rstrip() + "\n"


def title(results: Results) -> str:
    """The question that these results answer."""
    if results.by_id:
        return "Which formulation should I use?"
    return "What did the commits move?" if results.points else "What did the gate say?"


def made_on(results: Results) -> list[str]:
    """One paragraph: machine, versions, threads, and of each run of the benches its commit and date."""
    if not results.by_id:
        return []
    facts = next(iter(results.by_id.values())).environment
    devices = {str(row.environment["device"]): None for row in results.by_id.values()}
    wrong = sum(not row.right for row in results.by_id.values())
    runs = "; ".join(f"commit {bench.commit} on {bench.date[:10]}" for bench in results.benches)
    text = (
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}, device {' and '.join(devices)}; "
        f"Python {facts['python']}, torch {facts['torch']}, NumPy {facts['numpy']}; "
        f"threads {facts['threads']}; {runs}. {counted(len(results.by_id), 'case')}, {wrong} of them wrong "
        "and so not timed."
    )
    guide = (
        "A lead is the ratio of two median times, with what the quartiles of both leave of it; ≈ is a lead within "
        "that scatter, and no winner. Memory is the peak of what a call allocates."
    )
    return [_prose(text), "", guide, ""]


def _of_family(family: str, summary: str, found: Sequence[Race], crossed: Iterable[Crossover]) -> list[str]:
    lines = [f"## {_prose(family)}", ""]
    if summary:
        lines += [_prose(summary), ""]
    lines += [*_table(HEADER, [_line(race) for race in found]), ""]
    if wrong := _of_wrong(found):
        lines += ["Wrong, and out of the race:", "", *wrong, ""]
    if spelled := [f"- {spell_crossover(crossover)}" for crossover in crossed]:
        lines += ["Crossovers:", "", *spelled, ""]
    return lines


def _line(race: Race) -> list[str]:
    asked = f"`{race.scenario.partition('/')[2]}`"
    wrong = _names(each.variant for each in race.wrong)
    best = race.winner
    if best is None:
        return [asked, "nobody is right" if race.wrong else "nobody was timed", "", "", "", "", "", wrong]
    peak, ops = best.row.work.get("peak_bytes"), best.row.work.get("ops")
    return [
        asked,
        _names((each.variant for each in race.tied), " ≈ "),
        spell_time(best.time),
        spell_lead(race.second),
        "it is the baseline" if best is race.baseline else spell_lead(race.baseline),
        human(None if peak is None else int(peak), "B"),
        "–" if ops is None else f"{int(ops):,}",
        wrong,
    ]


def _names(variants: Iterable[str], between: str = ", ") -> str:
    names = [f"`{variant}`" for variant in variants]
    if len(names) <= FEW + 1:
        return between.join(names)
    return between.join([*names[:FEW], f"{len(names) - FEW} others"])


def spell_lead(behind: Standing | None) -> str:
    """By how much the winner leads before this one; a dash where there is none."""
    if behind is None:
        return "–"
    ratio = spell_ratio(behind.ratio, behind.low, behind.high)
    about = "≈ " if behind.is_tied else ""
    return f"{about}{ratio} ({spell_interval(behind.low, behind.high)}) `{behind.variant}`"


def _of_wrong(found: Iterable[Race]) -> list[str]:
    """Each wrong variant once an operator, by the case that was raced first."""
    reasons: dict[tuple[str, str], str] = {}
    for race in found:
        for wrong in race.wrong:
            reasons.setdefault((wrong.variant, race.operator), wrong.why)
    return [f"- `{variant}`, {_prose(operator)}: {_prose(why)}" for (variant, operator), why in reasons.items()]


def spell_crossover(crossover: Crossover) -> str:
    """Who leads below and above, where the lines meet, and between which sizes that was measured."""
    line, axis = crossover.line, crossover.line.axis
    where = f"{line.operator}/{line.dtype}/{line.device}" + (f" at {line.at}" if line.at else "")
    return (
        f"{_prose(where)}: `{crossover.before}` up to {axis} ≈ {_two_digits(crossover.size)}, `{crossover.after}` "
        f"above (measured at {axis} = {crossover.low:,} and {crossover.high:,})"
    )


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):,.10g}"


def _of_verdicts(verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    rows = []
    for each in verdicts:
        judged = Counter(str(kernel.get("judgement")) for kernel in each.kernels if kernel.get("judgement"))
        times = ", ".join(f"{word} {count}" for word, count in sorted(judged.items())) or "–"
        found = Counter(finding["colour"] for finding in each.findings)
        said = ", ".join(f"{colour} {found[colour]}" for colour in COLOURS if found[colour]) or "–"
        told = (each.base[:12], each.head[:12], each.asked or "–", each.verdict)
        rows.append([*map(_prose, told), said, _prose(times), _prose(each.torch)])
    header = ("base", "head", "asked", "verdict", "findings", "times", "torch")
    lines = ["## The gate", "", *_table(header, rows), ""]
    for each in verdicts:
        lines += _of_findings(each)
    return lines


def _of_findings(verdict: Verdict) -> list[str]:
    order = {colour: place for place, colour in enumerate(COLOURS)}
    found = sorted(verdict.findings, key=lambda finding: order.get(finding["colour"], len(order)))
    if not found:
        return []
    lines = [f"{_prose(verdict.base[:12])} to {_prose(verdict.head[:12])}:", ""]
    lines += [f"- {_prose(each['colour'])}: {_prose(each['id'])}, {_prose(each['text'])}" for each in found[:MOST]]
    return [*lines, *_rest(len(found) - MOST), ""]


def _of_history(results: Results) -> list[str]:
    """The commits that moved something, the latest first."""
    commits = dict.fromkeys(point.commit for point in results.points)
    moved = by_commit(moves(results.points))
    is_told = places(results.points) > 1
    lines = ["## Commits that moved something", ""]
    measured = f"asv measured {counted(len(commits), 'commit')}"
    lines += [f"{measured}; {len(moved) or 'none'} of them moved a number.", ""]
    for sentence in told_together(results.points):
        lines += [_prose(sentence), ""]
    for commit, found in moved.items():
        counts = Counter(_kind(move) for move in found)
        said = ", ".join(f"{kind}: {counts[kind]}" for kind in KINDS if counts[kind])
        lines += [f"### {_prose(commit[:12])}", "", said, ""]
        rows = [_moved(move, is_told) for move in strongest(found, MOST)]
        lines += [*_table(("benchmark", "what", "before", "after"), rows), "", *_rest(len(found) - MOST), ""]
    return lines


def _kind(move: Move) -> str:
    if move.after.what == TIME:
        return "slower" if move.is_worse else "faster"
    return "gradient error" if move.after.what == "gradient_error" else "work"


def _moved(move: Move, is_told: bool) -> list[str]:
    """is_told: on what it was measured, for there are several."""
    point = move.after
    told = (*point.parameters, *([f"({where(point)})"] if is_told else []))
    return [f"`{point.benchmark}` {_prose(' '.join(told))}", _prose(point.what), *_values(move)]


def _values(move: Move) -> list[str]:
    """Seconds, or exact counts."""
    if move.after.what == TIME:
        return [spell_seconds(point.value, *interval(point)) for point in (move.before, move.after)]
    return [f"{point.value:,.10g}" for point in (move.before, move.after)]


def _rest(count: int) -> list[str]:
    return [f"- and {count} more"] if count > 0 else []


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *map(_cells, rows))]


def _cells(row: Sequence[str]) -> list[str]:
    """A bar would end a cell, also within code."""
    return [re.sub(r"(?<!\\)\|", r"\\|", " ".join(cell.split())) for cell in row]


def _prose(text: str) -> str:
    """On one line, and with nothing in it that Markdown would read as its own, or as HTML: within it, and what begins
    a heading, a quotation or a list at its start.
    """
    inside = re.sub(r"([\\`*\[\]<|~]|&(?=[#\w])|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return re.sub(r"^(?:(#{1,6}|[+-])(?= |$)|(>)|(\d+)(?=[.)](?: |$)))", _escaped, inside)


def _escaped(start: re.Match[str]) -> str:
    """A number cannot be escaped, and the dot after it can."""
    return f"{start[0]}\\" if start[0].isdigit() else f"\\{start[0]}"
