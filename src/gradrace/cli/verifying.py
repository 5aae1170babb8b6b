"""`gradrace verify`: is every gradient as its variant declares, and would the check see a wrong one?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gradrace.cli.common import add_selection, print_error, print_json, print_table, select, track
from gradrace.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.cases import Case
    from gradrace.faults import Trial
    from gradrace.taylor import Taylor
    from gradrace.verify import Check

NAME = "verify"
HELP = "check the gradient of every case; exit 1 when one is not as declared, or a planted fault survives"

STYLES = {"agree": "green", "noise": "green", "none": "green", "skipped": "dim"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_selection(command)
    command.add_argument(
        "--planted-faults", action="store_true", help="plant wrong gradients in every case, and see that each is found"
    )
    command.add_argument(
        "--taylor", action="store_true", help="a second opinion: the Taylor remainder of each derivative in float64"
    )


def run(options: argparse.Namespace) -> int:
    cases = select(options)
    tried = [_try(case, options.planted_faults, options.taylor) for case in track(cases, "verifying")]
    checks = [check for check, _, _ in tried]
    trials = [trial for _, of_case, _ in tried for trial in of_case]
    opinions = {check.id: opinion for check, _, opinion in tried if opinion}
    if all(check.status == "skipped" for check in checks):
        raise UsageError(f"nothing was verified: each selected case is skipped, the first because: {checks[0].message}")
    failed = [check for check in checks if not check.ok]
    if options.planted_faults and not trials and not failed:
        raise UsageError("no fault was planted: none of the selected cases has a derivative; choose other cases")
    doubted = [case_id for case_id, opinion in opinions.items() if opinion.verdict == "first order"]
    survived = [trial for trial in trials if trial.outcome == "survived"]
    if options.json:
        rows = [
            check.as_json() | ({"taylor": asdict(opinions[check.id])} if check.id in opinions else {})
            for check in checks
        ]
        print_json({"cases": rows, "faults": [trial.as_json() for trial in trials]})
    else:
        if options.planted_faults:
            _print_trials(trials)
        if opinions or not options.planted_faults:
            print_table(status_table(checks, opinions), [check.id for check in checks])
    for check in failed:
        print_error(check.message)
    for case_id in doubted:
        print_error(f"{case_id}: the Taylor remainder falls by order 1, so the derivative is not that of the value")
    for trial in survived:
        print_error(f"{trial.id}: the fault {trial.fault!r} in {trial.primal} survived: {trial.reason}")
    if not options.json:
        skipped = sum(check.status == "skipped" for check in checks)
        print(f"{len(checks) - len(failed) - skipped} as declared, {len(failed)} failed, {skipped} skipped")
        if options.planted_faults:
            print(_summary(trials))
    return 1 if failed or survived or doubted else 0


def _try(case: Case, planted_faults: bool, second_opinion: bool) -> tuple[Check, list[Trial], Taylor | None]:
    checked, trials = _verify(case, planted_faults)
    return checked, trials, _opinion(case, checked) if second_opinion else None


def _opinion(case: Case, checked: Check) -> Taylor | None:
    """The Taylor test of a case that is right as far as its check can see; a specimen's is no news."""
    from gradrace.taylor import HAS_DERIVATIVE, taylor

    if checked.status == "skipped" or not checked.ok or case.variant.is_specimen or case.variant.prepare is not None:
        return None
    return taylor(case) if case.scenario.operator in HAS_DERIVATIVE else None


def _verify(case: Case, planted_faults: bool) -> tuple[Check, list[Trial]]:
    from gradrace.verify import verify

    if not planted_faults or case.skip_reason:
        return verify(case), []
    from gradrace.faults import try_faults
    from gradrace.operators import prepare_case
    from gradrace.verify import check

    try:
        prepared = prepare_case(case)
    except UsageError:
        raise
    except Exception:
        return verify(case), []  # which says what it raised
    checked = check(prepared)
    return checked, try_faults(prepared, checked)


def status_table(checks: Sequence[Check], opinions: Mapping[str, Taylor]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    taylor = ["Taylor remainder"] if opinions else []
    table = Table("case", "status", *taylor, "error / tolerance, or the reason")
    for check in checks:
        details = ", ".join(
            f"{name}: {outcome.error:.1e} / {outcome.tolerance:.1e}"
            if outcome.error is not None
            else f"{name}: {outcome.status}"
            for name, outcome in check.outputs.items()
        )
        style = STYLES.get(check.status, "yellow") if check.ok else "bold red"
        word = check.status if check.ok else f"{check.status} (not as declared)"
        opinion = [_opinion_word(opinions.get(check.id))] if opinions else []
        table.add_row(
            check.id,
            f"[{style}]{word}[/{style}]",
            *opinion,
            details or escape(check.message.removeprefix(f"{check.id}: ")),
        )
    return table


def _opinion_word(opinion: Taylor | None) -> str:
    if opinion is None:
        return ""
    word = opinion.verdict if opinion.order is None else f"order {opinion.order:.2f}"
    return f"[bold red]{word}[/bold red]" if opinion.verdict == "first order" else word


# ---- the kill matrix ----

CELLS = {
    "nan": ("N", "a NaN or an infinity is seen"),
    "disagree": ("D", "it disagrees with the reference"),
    "zero": ("Z", "all zero"),
    "none": ("–", "None"),
    "error": ("E", "it raises, or has another shape"),
    "witness": ("W", "a witness objects"),
    "invisible": ("i", "invisible, for the reason below"),
    "survived": ("!", "SURVIVED"),
}
"""The mark of each outcome, and what it says."""


def _cell(trial: Trial) -> str:
    if trial.outcome != "killed":
        return trial.outcome
    return trial.by if trial.by in CELLS else "witness"


def _print_trials(trials: Sequence[Trial]) -> None:
    """One table for each family, operator and derivative, with a row for each case and a column for each fault."""
    from rich.console import Console

    console = Console()
    tables = [_kill_matrix(title, list(rows)) for title, rows in groupby(trials, _heading)]
    # A narrow terminal wraps the lines: no column is ever left out.
    console.width = max([console.width, *(console.measure(table).maximum for table in tables)])
    for table in tables:
        console.print(table)
    used = {_cell(trial) for trial in trials}
    legend = ", ".join(f"{mark} {text}" for cell, (mark, text) in CELLS.items() if cell in used)
    console.print(f"{legend}; an empty cell: the fault has no meaning there", highlight=False)
    reasons = Counter((trial.fault, _words_only(trial.reason)) for trial in trials if trial.outcome == "invisible")
    for (fault, reason), count in reasons.items():
        console.print(f"invisible: {fault}, {count} ×: {reason}", highlight=False)
    console.print(_by_fault(trials))


def _heading(trial: Trial) -> str:
    family, _, operator, *_ = trial.id.split("/")
    return f"{family}/{operator}"


def _words_only(reason: str) -> str:
    return reason.partition(" by ")[0] + (" by less than the case's own rounding error" if " by " in reason else "")


def _kill_matrix(title: str, trials: Sequence[Trial]) -> Table:
    from rich import box
    from rich.table import Table

    from gradrace.faults import FAULTS

    table = Table(
        title=f"[bold]{title}[/bold]", title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("variant", no_wrap=True)
    table.add_column("size", no_wrap=True)
    table.add_column("of")
    for fault in FAULTS:
        table.add_column(fault.mark, justify="center", min_width=2)
    table.padding = (0, 0, 0, 0)  # the box sets a space between columns
    for (case_id, primal), rows in groupby(trials, lambda trial: (trial.id, trial.primal)):
        _, variant, _, size, dtype, device = case_id.split("/")
        found = {trial.fault: _cell(trial) for trial in rows}
        where = "/".join((size, *([] if (dtype, device) == ("float64", "cpu") else [dtype, device])))
        table.add_row(variant, where, primal, *(_mark(found.get(fault.name)) for fault in FAULTS))
    return table


def _mark(cell: str | None) -> str:
    if cell is None:
        return ""
    style = {"survived": "bold white on red", "invisible": "yellow"}.get(cell, "green")
    return f"[{style}]{CELLS[cell][0]}[/{style}]"


def _by_fault(trials: Sequence[Trial]) -> Table:
    from rich import box
    from rich.table import Table

    from gradrace.faults import FAULTS

    table = Table("", "fault", "killed", "invisible", "survived", "killed by", box=box.SIMPLE_HEAD, pad_edge=False)
    for fault in FAULTS:
        rows = [trial for trial in trials if trial.fault == fault.name]
        if rows:
            killers = Counter(trial.by for trial in rows if trial.by)
            by = ", ".join(f"{killer} {count}" for killer, count in killers.most_common())
            table.add_row(fault.mark, fault.summary, *_counts(rows), by)
    return table


def _counts(trials: Iterable[Trial]) -> list[str]:
    found: Counter[Any] = Counter(trial.outcome for trial in trials)
    return [str(found[outcome] or "") for outcome in ("killed", "invisible", "survived")]


def _summary(trials: Sequence[Trial]) -> str:
    found = Counter(trial.outcome for trial in trials)
    wide = [trial for trial in trials if "/float64/" in trial.id]
    share = sum(trial.outcome == "invisible" for trial in wide) / max(1, len(wide))
    return (
        f"{len(trials)} faults planted: {found['killed']} killed, {found['survived']} survived, "
        f"{found['invisible']} invisible ({share:.1%} of those in float64)"
    )
