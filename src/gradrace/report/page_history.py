"""What moved: asv's numbers over commits, and what the gate said of pairs of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gradrace.report.gate_documents import ends
from gradrace.report.history import (
    TIME,
    Move,
    by_commit,
    interval,
    line_of,
    lines,
    moves,
    places,
    strongest,
    told_together,
    where,
)
from gradrace.report.html import Markup, breakable, element, join, table
from gradrace.report.provenance import day, short
from gradrace.report.ranking import spell_interval, spell_ratio, spell_seconds
from gradrace.report.rows import Point, Results, Verdict
from gradrace.units import counted, human

STRONGEST = 20
"""Of the moves of a commit so many are shown."""

MARKS = {"red": ("bad", "✗ red"), "notice": ("doubt", "! notice"), "gain": ("good", "✓ gain")}
VERDICTS = {"pass": "good", "regression": "bad"}

Key = tuple[str, ...]


def history(points: Sequence[Point]) -> Markup:
    """The commits that moved something, the latest first."""
    measured = lines(points)
    moved = by_commit(moves(points))
    is_told = places(points) > 1
    commits = len({point.commit for point in points})
    told = f"{len(measured):,} numbers over {counted(commits, 'commit')}; {len(moved)} of the commits moved some."
    together = [element("p", each) for each in told_together(points)]
    return join(element("p", told), *together, *(_commit(each, measured, is_told) for each in moved.values()))


def _commit(moved: Sequence[Move], measured: Mapping[Key, Sequence[Point]], is_told: bool) -> Markup:
    """is_told: in each row, on what it was measured, for there are several."""
    after = moved[0].after
    worse = sum(move.is_worse for move in moved)
    shown = strongest(moved, STRONGEST)
    told = f" · {day(after.date)}: {counted(worse, 'number')} rose, {len(moved) - worse:,} fell"
    rest = f" of {len(moved):,}" if len(moved) > len(shown) else ""
    return element(
        "details",
        element("summary", element("code", short(after.commit)), told),
        table(
            ("Kernel", "What", "Before", "Now", "By", "Over the commits"),
            [_move(move, measured[line_of(move.after)], is_told) for move in shown],
            f"The {len(shown)} strongest{rest}",
            numbers=("Before", "Now", "By"),
        ),
    )


def _move(move: Move, line: Sequence[Point], is_told: bool) -> Markup:
    before, after = move.before, move.after
    arrow = "▲ up" if move.is_worse else "▼ down"
    place = element("small", where(after)) if is_told else None
    return element(
        "tr",
        element("th", breakable("/".join((after.benchmark, *after.parameters))), place, scope="row", class_="id"),
        element("td", after.what.replace("_", " ")),
        element("td", _value(before), class_="number"),
        element("td", _value(after), class_="number"),
        element("td", f"{arrow} {_factor(move)}", class_="number"),
        element("td", _spark(line)),
    )


def _factor(move: Move) -> str:
    """The larger number over the smaller. Of counters exact; of times with the digits that the intervals support."""
    small, large = sorted((move.before, move.after), key=lambda point: point.value)
    if small.value <= 0:
        return "from 0" if small is move.before else "to 0"
    if move.after.what != TIME:
        return f"{large.value / small.value:.3g} ×"
    (low, high), (large_low, large_high) = interval(small), interval(large)
    return spell_ratio(large.value / small.value, large_low / high, large_high / low if low > 0 else math.inf)


def _value(point: Point) -> str:
    if point.what == TIME:
        return spell_seconds(point.value, *interval(point))
    return human(round(point.value), "B" if point.what.endswith("bytes") else "")


def _spark(line: Sequence[Point]) -> Markup:
    """The numbers at their commits, at equal steps, from the smallest at the bottom to the largest at the top."""
    values = [point.value for point in line]
    low, high = min(values), max(values)
    step = 100 / max(1, len(values) - 1)
    spots = [
        f"{step * place:.0f},{20 - 20 * (value - low) / (high - low or 1):.1f}" for place, value in enumerate(values)
    ]
    words = f"from {_value(line[0])} to {_value(line[-1])} over {len(line)} commits"
    curve = element("polyline", points=" ".join(spots))
    return element("svg", curve, class_="spark", viewBox="0 -2 100 24", role="img", aria_label=words)


def gate(results: Results) -> Markup:
    """Every verdict with its findings."""
    return join(*(_verdict(verdict, results) for verdict in results.verdicts))


def _verdict(verdict: Verdict, results: Results) -> Markup:
    tag = element("span", verdict.verdict, class_=f"tag {VERDICTS.get(verdict.verdict, 'doubt')}")
    states = f"{short(verdict.base)} → {short(verdict.head)}"
    told = ", ".join(part for part in (verdict.date[:10], f"torch {verdict.torch}") if part)
    return element(
        "article",
        element("h3", tag, f" {states}", element("small", " ", verdict.asked) if verdict.asked else None),
        element("p", f"{told}. {_counts(verdict)}", class_="soft"),
        _findings(verdict, results),
        _times(verdict),
        class_="verdict",
    )


def _counts(verdict: Verdict) -> str:
    """How many kernels were compared, and what came of it."""
    compared = [kernel for kernel in verdict.kernels if kernel.get("gradient") or kernel.get("work")]
    parts = [f"{len(compared)} kernels were compared"]
    for what, found in (
        ("gradients", Counter(_status(kernel, "gradient") for kernel in compared)),
        ("work", Counter(_status(kernel, "work") for kernel in compared)),
        ("time", Counter(kernel["judgement"] for kernel in verdict.kernels if kernel.get("judgement"))),
    ):
        told = ", ".join(f"{word} {count}" for word, count in found.items() if word)
        parts += [f"{what}: {told}"] if told else []
    return "; ".join(parts) + "."


def _status(kernel: Any, what: str) -> str:
    return (kernel.get(what) or {}).get("status", "")


def _findings(verdict: Verdict, results: Results) -> Markup:
    if not verdict.findings:
        return element("p", "It found nothing to say.")
    rows = []
    for found in verdict.findings:
        mark, word = MARKS.get(found["colour"], ("quiet", found["colour"]))
        name = breakable(found["id"])
        if found["id"] in results.by_id:
            name = element("a", name, href=f"#case={found['id']}")
        rows.append(
            element(
                "tr",
                element("td", element("span", word, class_=f"tag {mark}")),
                element("th", name, scope="row", class_="id"),
                element("td", found["what"]),
                element("td", found["text"], class_="text"),
            )
        )
    return table(("Colour", "Kernel", "What", "Finding"), rows, f"Findings ({len(rows)})")


def _times(verdict: Verdict) -> Markup | None:
    """The kernels that raced."""
    judged = [kernel for kernel in verdict.kernels if kernel.get("judgement") and not kernel.get("failure")]
    raced = [kernel for kernel in judged if kernel.get("ratio")]
    if not raced:
        return None
    rows = [
        element(
            "tr",
            element("th", breakable(kernel["id"]), scope="row", class_="id"),
            element("td", kernel["judgement"]),
            element("td", spell_ratio(kernel["ratio"], *ends(kernel)), class_="number"),
            element("td", spell_interval(*ends(kernel)), class_="number"),
            element("td", kernel["pairs"], class_="number"),
        )
        for kernel in raced
    ]
    head = ("Kernel", "Judgement", "Head / base", "Interval", "Pairs")
    each = f"; each end of an interval holds at {verdict.confidence:.4g} %" if verdict.confidence else ""
    inside = table(head, rows, f"Kernels that raced{each}", numbers=head[2:])
    waiting = f"; the budget ended before {len(judged) - len(raced)} more" if len(judged) > len(raced) else ""
    return element("details", element("summary", f"Times ({len(raced)}{waiting})"), inside)
