"""What several commands share: the selection of cases, a table that is never cut, a progress bar, one JSON document."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.cases import Case

Item = TypeVar("Item")


def add_module_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--module", action="append", default=[], metavar="M", help="also load the families of this module (repeatable)"
    )


def add_json_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON document on standard output")


def add_selection(command: argparse.ArgumentParser) -> None:
    """PATTERN, --all, --json and --module."""
    command.add_argument("pattern", nargs="?", metavar="PATTERN", help="glob on the case id, such as 'sandwich/*'")
    command.add_argument("--all", action="store_true", help="every size, dtype and device, not the default ones")
    add_json_option(command)
    add_module_option(command)


def select(options: argparse.Namespace) -> list[Case]:
    """The cases that the command line asks for. Raises UsageError when it asks for none."""
    from gradrace.cases import Selection, all_cases, load_families

    return Selection(options.pattern, all=options.all).apply(all_cases(load_families(options.module)))


def print_json(document: Any) -> None:
    json.dump(finite(document), sys.stdout, indent=1, allow_nan=False)
    print()


def finite(document: Any) -> Any:
    """JSON knows neither NaN nor infinity: null stands for them."""
    if isinstance(document, dict):
        return {key: finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def print_table(table: Table, ids: Sequence[str], details: int = 50) -> None:
    """Never cut an id, which people copy, nor the `details` columns after it: a narrow terminal wraps the lines."""
    from rich.console import Console

    console = Console()
    table.columns[0].no_wrap = True
    table.columns[-1].overflow = "fold"
    console.width = max(console.width, max(map(len, ids), default=0) + details)
    console.print(table)


def print_numbers(table: Table) -> None:
    """A table of short cells, none of which is cut or broken: a narrow terminal wraps the lines."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, console.measure(table, options=console.options.update(width=10_000)).maximum)
    console.print(table)


def track(items: Iterable[Item], doing: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a progress bar on standard error while a person watches.

    total: how many come, where the items do not know.
    """
    from rich.console import Console
    from rich.progress import track as rich_track

    console = Console(stderr=True)
    return rich_track(items, doing, total, console=console, transient=True, disable=not console.is_terminal)


def print_error(line: str) -> None:
    """One line on standard error, in red where it is a terminal; the text is not read as markup."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    console.print(Text.assemble(("FAILED ", "red"), line), soft_wrap=True)
