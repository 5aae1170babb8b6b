"""The command line: `gradrace list` and `gradrace verify`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gradrace.errors import UsageError

STYLES = {"agree": "green", "noise": "green", "none": "green", "skipped": "dim"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 fine, 1 a check failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except UsageError as error:
        print(f"gradrace: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, such as `head`, has seen enough
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gradrace", description="Formulations race; gradients must tie.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function, text in (
        ("list", _list, "show the cases"),
        ("verify", _verify, "check the gradient of every case; exit 1 when one is not as declared"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument("pattern", nargs="?", metavar="PATTERN", help="glob on the case id, such as 'sandwich/*'")
        command.add_argument("--all", action="store_true", help="every size, dtype and device, not the default ones")
        command.add_argument("--json", action="store_true", help="one JSON document on standard output")
        command.add_argument(
            "--module", action="append", default=[], metavar="M", help="also load the families of this module"
        )
    return parser


def _select(options: argparse.Namespace) -> list[Any]:
    from gradrace.cases import Selection, all_cases, load_families

    return Selection(options.pattern, all=options.all).apply(all_cases(load_families(options.module)))


def _print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=1)
    print()


def _list(options: argparse.Namespace) -> int:
    cases = _select(options)
    if options.json:
        _print_json([_row(case) for case in cases])
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table("case", "", "source", title=f"{len(cases)} cases", title_justify="left")
    for case in cases:
        table.add_row(case.id, "baseline" if case.is_baseline else "", escape(case.variant.source))
    _print_table(table, cases)
    return 0


def _print_table(table: Any, cases: Sequence[Any]) -> None:
    """Never cut an id, which people copy: a narrow terminal wraps the lines instead."""
    from rich.console import Console

    console = Console()
    table.columns[0].no_wrap = True
    console.width = max(console.width, max(len(case.id) for case in cases) + 50)
    console.print(table)


def _row(case: Any) -> dict[str, Any]:
    scenario = case.scenario
    baseline = scenario.family.baseline_of(scenario.operator)
    return {
        "id": case.id,
        "family": scenario.family.name,
        "variant": case.variant.name,
        "operator": scenario.operator,
        "size": scenario.size.word,
        "dtype": scenario.dtype,
        "device": scenario.device,
        "source": case.variant.source,
        "reference": "analytic" if scenario.operator in (*scenario.family.reference, "solve") else baseline,
        "baseline": baseline,
        "version": scenario.family.version,
    }


def _verify(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track

    from gradrace.verify import verify

    cases = _select(options)
    progress = Console(stderr=True)
    checks = [
        verify(case)
        for case in track(cases, "verifying", console=progress, transient=True, disable=not progress.is_terminal)
    ]
    if all(check.status == "skipped" for check in checks):
        raise UsageError(f"nothing was verified: each selected case is skipped, the first because: {checks[0].message}")
    failed = [check for check in checks if not check.ok]
    if options.json:
        _print_json({"cases": [check.as_json() for check in checks], "faults": []})
    else:
        _print_table(_verify_table(checks), cases)
    for check in failed:
        progress.print(f"[red]FAILED[/red] {escape(check.message)}", highlight=False, soft_wrap=True)
    if not options.json:
        skipped = sum(check.status == "skipped" for check in checks)
        as_declared = len(checks) - len(failed) - skipped
        print(f"{as_declared} as declared, {len(failed)} failed, {skipped} skipped")
    return 1 if failed else 0


def _verify_table(checks: Sequence[Any]) -> Any:
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


if __name__ == "__main__":
    raise SystemExit(main())
