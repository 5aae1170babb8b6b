"""`gradrace capabilities`: what can be done with each formulation, as measured."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from gradrace.cli.common import add_json_option, add_module_option, print_json, print_numbers, track
from gradrace.errors import UsageError

if TYPE_CHECKING:
    from gradrace.capabilities import Capability

NAME = "capabilities"
HELP = "try each formulation: reverse, forward, twice, vmap, compile, float32, CUDA"

STYLES = {"yes": "green", "no": "yellow", "wrong": "bold red", "breaks": "yellow", "–": "dim"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="glob on family/variant")
    command.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes seconds each")
    add_json_option(command)
    add_module_option(command)


def run(options: argparse.Namespace) -> int:
    from gradrace.capabilities import capabilities
    from gradrace.cases import load_families

    rows = [
        (f"{family.name}/{variant.name}", family, variant)
        for family in load_families(options.module)
        for variant in family.variants
        if fnmatchcase(f"{family.name}/{variant.name}", options.pattern)
    ]
    if not rows:
        raise UsageError(f"the pattern {options.pattern!r} selects no formulation; it is matched with family/variant")
    found = {
        name: capabilities(family, variant, not options.no_compile) for name, family, variant in track(rows, "trying")
    }
    if options.json:
        print_json(
            [
                {"id": name, **{what: {"verdict": each.verdict, "reason": each.reason} for what, each in row.items()}}
                for name, row in found.items()
            ]
        )
    else:
        _print(found)
    return 0


def _print(found: dict[str, dict[str, Capability]]) -> None:
    from rich import box
    from rich.table import Table

    from gradrace.capabilities import CAPABILITIES

    table = Table("formulation", box=box.SIMPLE_HEAD, pad_edge=False)
    for what in CAPABILITIES:
        table.add_column(what, no_wrap=True)
    for name, row in found.items():
        words = (row[what].verdict for what in CAPABILITIES)
        table.add_row(name, *(f"[{STYLES[word]}]{word}[/{STYLES[word]}]" for word in words))
    print_numbers(table)
    print("no: raises, wrong: runs and is wrong, breaks: compiles in pieces, –: not tried; --json gives each reason")
