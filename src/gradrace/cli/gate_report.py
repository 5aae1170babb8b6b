"""What the gate says: a table for people, and Markdown for a pull request."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from gradrace.cli.common import print_table
from gradrace.gate.outcome import Outcome
from gradrace.gate.timing import Timing
from gradrace.gate.verdict import spell
from gradrace.units import counted

STYLES = {"red": "bold red", "notice": "yellow", "gain": "green"}
MOVED = ("slower", "faster")
MARKS = {"red": "❌", "notice": "⚠️", "gain": "✅"}

HEADING = "### gradrace:"
"""How the comment of a pull request begins, by which it is found again."""

FEW = 30
"""Up to so many kernels the table of times shows all; of more those that move, or seem to."""


SOME = 5
"""So many gradients that are not equal to the bit are named."""


def print_outcome(outcome: Outcome) -> None:
    """On standard output: what was compared, what is to be said, the times, the counts, and the verdict last."""
    from rich.console import Console
    from rich.markup import escape

    for role, seen in (("base", outcome.base), ("head", outcome.head)):
        print(f"{role}: {seen.label}, gradrace from {seen.place}, torch {seen.facts['torch']}")
    _print_findings(outcome)
    _print_times(outcome)
    drifted = _drifted(outcome)
    for name, worst in drifted[:SOME]:
        print(f"not equal to the bit: {name}, {worst}")
    if len(drifted) > SOME:
        print(f"not equal to the bit: {len(drifted) - SOME} more, which --markdown lists")
    for line in summary(outcome):
        print(line)
    style = "green" if outcome.verdict.exit_code == 0 else "bold red"
    Console().print(
        f"[{style}]{outcome.verdict.word}[/{style}]: {escape(outcome.verdict.sentence)}",
        soft_wrap=True,
        highlight=False,
    )


def _print_findings(outcome: Outcome) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not outcome.findings:
        return
    table = Table("kernel", "what changed")
    for finding in outcome.findings:
        style = STYLES[finding.colour]
        table.add_row(escape(finding.id), f"[{style}]{finding.colour}[/{style}]: {escape(finding.text)}")
    print_table(table, [finding.id for finding in outcome.findings], details=64)


def _print_times(outcome: Outcome) -> None:
    from rich.markup import escape
    from rich.table import Table

    shown = _shown(outcome)
    if not shown:
        return
    table = Table("kernel", "time")
    for timing in shown:
        table.add_row(escape(timing.id), escape(f"{timing.judgement}: {spell(timing)}"))
    print_table(table, [timing.id for timing in shown], details=64)


def _shown(outcome: Outcome) -> list[Timing]:
    timings = list(outcome.timings.values())
    return timings if len(timings) <= FEW else [each for each in timings if each.leans or each.judgement in MOVED]


def summary(outcome: Outcome) -> list[str]:
    """The counts, in a few lines."""
    states = Counter(kernel.state for kernel in outcome.kernels)
    gradients = Counter(kernel.gradient.status for kernel in outcome.kernels if kernel.gradient)
    work = Counter(kernel.work.status for kernel in outcome.kernels if kernel.work)
    lines = [f"gradients: {_counted(gradients)}", f"work: {_counted(work)}", f"time: {_time(outcome)}"]
    others = {name: count for name, count in states.items() if name != "both"}
    if others:
        lines.append(f"kernels: {_counted(others)}{_reasons(outcome)}")
    return lines + _clock(outcome)


def _reasons(outcome: Outcome) -> str:
    """Why most of what is skipped is."""
    reasons = Counter(kernel.reason for kernel in outcome.kernels if kernel.state == "skipped")
    if not reasons:
        return ""
    (reason, count), *others = reasons.most_common()
    more = f", and {counted(len(others), 'more reason')}" if others else ""
    return f" ({count} of them: {reason}{more})"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none compared"


def _time(outcome: Outcome) -> str:
    counts = Counter(each.judgement for each in outcome.timings.values())
    if outcome.rules.budget_s and outcome.untouched:
        counts["not raced for their code is the same"] = outcome.untouched
    return _counted(counts) if counts else "not measured"


def _clock(outcome: Outcome) -> list[str]:
    """How far the times can be trusted."""
    if outcome.contest is None:
        return []
    judged = Counter(each.timing.judgement for each in outcome.contest.controls)
    lines = [f"controls that must tie (base against itself, and torch alone): {_counted(judged)}"]
    if math.isfinite(outcome.smallest):
        lines.append(f"could have seen: a slowdown of {outcome.smallest:.1%} in half of the kernels")
    if outcome.blind:
        more = f"--budget {outcome.enough_s}" if outcome.enough_s else "a larger --budget"
        kernels = counted(outcome.blind, "kernel")
        lines.append(f"could not have seen any slowdown in {kernels}, which had too few pairs: {more} would")
    lines.append(f"intervals: each end holds at {100 - 100 * outcome.rules.alpha:.6g} %, whenever one looks")
    return lines


def markdown(outcome: Outcome) -> str:
    """A comment of a pull request: the verdict first, then what is red, then the rest."""
    base, head = outcome.base.label, outcome.head.label
    lines = [f"{HEADING} {outcome.verdict.word}", "", f"{outcome.verdict.sentence}. Base {base}, head {head}.", ""]
    if outcome.findings:
        rows = [(MARKS[each.colour], f"`{each.id}`", each.text) for each in outcome.findings]
        lines += [*_rows(("", "kernel", "what changed"), rows), ""]
    undecided = [each for each in outcome.timings.values() if each.judgement == "undecided" and not each.leans]
    lines += _folded(
        f"{counted(len(undecided), 'time')} undecided", "time", [(each.id, spell(each)) for each in undecided]
    )
    drifted = _drifted(outcome)
    title = f"{counted(len(drifted), 'gradient')} equal within the tolerance, not to the bit"
    lines += _folded(title, "worst entry", drifted)
    lines += [f"- {line}" for line in summary(outcome)]
    return "\n".join(lines) + "\n"


def _folded(title: str, what: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    """A table that opens on a click; nothing where it has no rows."""
    if not rows:
        return []
    table = _rows(("kernel", what), [(f"`{name}`", text) for name, text in rows])
    return [f"<details><summary>{title}</summary>", "", *table, "", "</details>", ""]


def _drifted(outcome: Outcome) -> list[tuple[str, str]]:
    """What is neither changed nor equal to the bit, and the worst entry of each."""
    gradients = ((kernel.id, kernel.gradient) for kernel in outcome.kernels if kernel.gradient is not None)
    return [(name, each.worst) for name, each in gradients if each.status == "equal within the tolerance"]


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *escaped)]
