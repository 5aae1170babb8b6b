"""`gradrace kinks`: what does every formulation answer where the derivative is a convention, and has it changed?"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradrace import ledger
from gradrace.cli.common import add_json_option, add_module_option, print_error, print_json, print_table, track
from gradrace.errors import UsageError
from gradrace.ledger import BUILT_IN, Difference, Entry, Row, spell

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.declare import Family

NAME = "kinks"
HELP = "record the derivatives at kinks; exit 1 when they differ from the ledger of this torch version"


def add_arguments(command: argparse.ArgumentParser) -> None:
    choice = command.add_mutually_exclusive_group()
    choice.add_argument("--update", action="store_true", help="write the ledger of this torch version")
    choice.add_argument(
        "--compare", nargs=2, metavar=("OLD", "NEW"), help="print what changed between two recorded torch versions"
    )
    command.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    command.add_argument(
        "--ledger",
        type=Path,
        default=Path("kinks"),
        metavar="DIR",
        help="folder of the ledgers of families that are not built in (default: kinks)",
    )
    add_json_option(command)
    add_module_option(command)


def run(options: argparse.Namespace) -> int:
    if options.compare:
        return _compare(options)
    return _record(options)


# ---- two ledgers ----


def _compare(options: argparse.Namespace) -> int:
    old, new = map(ledger.release, options.compare)
    folders = [BUILT_IN, options.ledger]
    known = sorted({version for folder in folders for version in ledger.versions(folder)}, key=ledger.order)
    for version in (old, new):
        if version not in known:
            raise UsageError(f"there is no ledger of torch {version}; choose from: {', '.join(known)}")
    with_both = [folder for folder in folders if {old, new} <= set(ledger.versions(folder))]
    if not with_both:
        raise UsageError(
            f"no folder holds ledgers of both torch {old} and {new}; record the one that is missing with "
            "`gradrace kinks --update`"
        )
    found = [
        difference
        for folder in with_both
        for difference in ledger.differences(ledger.read(folder, old), ledger.read(folder, new))
    ]
    if options.json:
        print_json({"old": old, "new": new, "differences": list(map(asdict, found))})
        return 0
    if found:
        print_table(_difference_table(found, old, new), [each.id for each in found])
    print(f"differences from torch {old} to {new}: {len(found)}")
    return 0


def _difference_table(found: Sequence[Difference], old: str, new: str) -> Table:
    from rich.table import Table

    table = Table("formulation and point", "what", old, new)
    for each in found:
        if each.columns:
            table.add_row(each.id, each.what, spell(each.old), spell(each.new))
        else:
            table.add_row(each.id, "row", "–" if each.old is None else "there", "–" if each.new is None else "there")
    return table


# ---- a ledger and this machine ----


@dataclass(frozen=True)
class _Ledger:
    """What a folder holds of the torch version nearest to this one; `version` is None where it holds nothing."""

    folder: Path
    families: tuple[Family, ...]
    version: str | None
    rows: list[Row]

    def of_loaded(self) -> list[Row]:
        """The rows to compare: in a user's folder, a family that is not loaded today is not gone."""
        names = {family.name for family in self.families}
        return [row for row in self.rows if self.folder == BUILT_IN or row.family in names]

    def to_write(self, measured: Sequence[Row]) -> list[Row]:
        """The measured rows, then those of families that are not loaded today."""
        loaded = self.of_loaded()
        return [*ledger.completed(measured, loaded), *(row for row in self.rows if row not in loaded)]


@dataclass(frozen=True)
class _Report:
    """The rows of this machine beside a ledger."""

    ledger: _Ledger
    rows: list[Row]
    differences: list[Difference]


def _record(options: argparse.Namespace) -> int:
    import torch

    from gradrace.cases import load_families
    from gradrace.kinks import record_family

    families, version = load_families(options.module), ledger.release(torch.__version__)
    # Read before anything is measured: a broken ledger should not cost minutes first.
    ledgers = _ledgers(families, options, version)
    with_kinks = [family for each in ledgers for family in each.families if family.kinks]
    if not with_kinks:
        raise UsageError("none of these families declares kinks; add kinks=(Kink(...),) to one")
    rows = {
        family.name: record_family(family, compiled=not options.no_compile) for family in track(with_kinks, "recording")
    }
    reports = [_report(each, rows) for each in ledgers]
    if options.json:
        print_json({"torch": version, **_as_json(reports)})
    elif not options.update:
        _print_tables([row for report in reports for row in report.rows])
    if options.update:
        return _update(reports, version, options)
    return max([_judge(report, version, options) for report in reports], default=0)


def _ledgers(families: Sequence[Family], options: argparse.Namespace, version: str) -> list[_Ledger]:
    """One for the built-in families, and one for the others where there are any with kinks.

    Who names modules asks for theirs alone: the built-in families have nothing to do with a person's own ledger.
    """
    from gradrace.families import FAMILIES

    others = tuple(family for family in families if family not in FAMILIES)
    built_in = [] if options.module else [(BUILT_IN, FAMILIES)]
    found = []
    for where, owned in (*built_in, (options.ledger, others)):
        if any(family.kinks for family in owned):
            nearest = ledger.nearest(where, version)
            found.append(_Ledger(where, owned, nearest, ledger.read(where, nearest) if nearest else []))
    return found


def _report(recorded: _Ledger, rows: Mapping[str, list[Row]]) -> _Report:
    measured = [row for family in recorded.families for row in rows.get(family.name, [])]
    return _Report(recorded, measured, ledger.differences(recorded.of_loaded(), measured) if recorded.version else [])


def _update(reports: Sequence[_Report], version: str, options: argparse.Namespace) -> int:
    for report in reports:
        # A first ledger of a version starts from nothing, not from its neighbour.
        old = report.ledger if report.ledger.version == version else replace(report.ledger, rows=[])
        path = ledger.write(report.ledger.folder, version, old.to_write(report.rows))
        if not options.json:
            print(f"{len(report.rows)} rows of torch {version} are recorded in {path}")
    return 0


def _judge(report: _Report, version: str, options: argparse.Namespace) -> int:
    """Say how the machine differs from the ledger, and return the exit code."""
    known, found = report.ledger.version, report.differences
    if known == version and found:
        for difference in found:
            print_error(f"{difference} (ledger of torch {version})")
        return 1
    if options.json:
        return 0
    if known == version:
        invalid, wrong = (sum(getattr(row, name) is False for row in report.rows) for name in ("valid", "value_valid"))
        print(
            f"{len(report.rows)} rows are as in the ledger of torch {version}: "
            f"{invalid} invalid, {wrong} of wrong value"
        )
    elif known is None:
        print(f"{report.ledger.folder} holds no ledger; `gradrace kinks --update` records torch {version}")
    else:
        print(
            f"torch {version} has no ledger yet, `gradrace kinks --update` records it; "
            f"differences from torch {known}, the nearest: {len(found)}"
        )
        for difference in found:
            print(f"  {difference}")
    return 0


def _as_json(reports: Sequence[_Report]) -> dict[str, Any]:
    return {
        "rows": [row.as_json() for report in reports for row in report.rows],
        "ledgers": [
            {
                "built_in": report.ledger.folder == BUILT_IN,
                "torch": report.ledger.version,
                "differences": [asdict(difference) for difference in report.differences],
            }
            for report in reports
        ],
    }


# ---- the table ----


def _print_tables(rows: Sequence[Row]) -> None:
    for _, group in groupby(rows, key=lambda row: row.family):
        of_family = list(group)
        print_table(_table(of_family), [row.id for row in of_family], details=40)
        print()


def _table(rows: Sequence[Row]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    points = {row.point: row.allowed for row in rows}
    allowed = ", ".join(f"{spell(interval) if interval else 'any'} at {point}" for point, interval in points.items())
    table = Table(
        "formulation and point",
        "value",
        "derivative",
        "verdict",
        title=f"{rows[0].family}: right derivatives are {allowed}",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for row in rows:
        table.add_row(row.id, _values(row), _derivatives(row), _verdict(row))
    return table


def _short(entry: Entry) -> str:
    return spell(entry, digits=3)


def _values(row: Row) -> str:
    if row.compiled_value in (None, row.value):
        return _short(row.value)
    return f"{_short(row.value)}\ncompiled {_short(row.compiled_value)}"


def _derivatives(row: Row) -> str:
    """Reverse mode, and below it every mode that answers something else."""
    found = row.derivatives
    if not found:
        return "not measured"
    lines = [_short(found["reverse"])]
    if found["forward"] != found["reverse"]:
        lines.append(f"forward {_short(found['forward'])}")
    for mode in ("reverse", "forward"):
        entry = found.get(f"compiled_{mode}", found[mode])
        if entry != found[mode]:
            lines.append(f"compiled {mode} {_short(entry)}")
    return "\n".join(lines)


def _verdict(row: Row) -> str:
    words = []
    if row.value_valid is False:
        words.append("[bold red]wrong value[/bold red]")
    if row.valid is False:
        words.append("[bold red]invalid[/bold red]")
    if row.valid and not words:
        words.append("[green]valid[/green]")
    return "\n".join(words)
