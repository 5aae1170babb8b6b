"""`gradrace verify`: is every gradient as its variant declares?"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradrace.cli.common import add_selection, print_error, print_json, print_table, select, track
from gradrace.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.verify import Check

NAME = "verify"
HELP = "check the gradient of every case; exit 1 when one is not as declared"
add_arguments = add_selection

STYLES = {"agree": "green", "noise": "green", "none": "green", "skipped": "dim"}


def run(options: argparse.Namespace) -> int:
    from gradrace.verify import verify

    cases = select(options)
    checks = [verify(case) for case in track(cases, "verifying")]
    if all(check.status == "skipped" for check in checks):
        raise UsageError(f"nothing was verified: each selected case is skipped, the first because: {checks[0].message}")
    failed = [check for check in checks if not check.ok]
    if options.json:
        print_json({"cases": [check.as_json() for check in checks], "faults": []})
    else:
        print_table(status_table(checks), [check.id for check in checks])
    for check in failed:
        print_error(check.message)
    if not options.json:
        skipped = sum(check.status == "skipped" for check in checks)
        as_declared = len(checks) - len(failed) - skipped
        print(f"{as_declared} as declared, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


def status_table(checks: Sequence[Check]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("case", "status", "error / tolerance, or the reason")
    for check in checks:
        details = ", ".join(
            f"{name}: {outcome.error:.1e} / {outcome.tolerance:.1e}"
            if outcome.error is not None
            else f"{name}: {outcome.status}"
            for name, outcome in check.outputs.items()
        )
        style = STYLES.get(check.status, "yellow") if check.ok else "bold red"
        word = check.status if check.ok else f"{check.status} (not as declared)"
        table.add_row(check.id, f"[{style}]{word}[/{style}]", details or escape(check.message))
    return table
