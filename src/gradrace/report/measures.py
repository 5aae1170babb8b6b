"""What is read off a row beside its time: its error in units of the tolerance, and what bounds a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradrace.report.ranking import Race
from gradrace.report.rows import Results, Roofline, Row

CHEAP, CHEAP_WITH_KINKS = 5, 6
"""A gradient costs at most five times its function, counted in operations (A. Griewank, On Automatic Differentiation,
1989), and six times where the function branches (S. Kakade and J. Lee, NeurIPS 2018)."""

GRADIENTS = ("value_and_gradient", "vjp")


@dataclass(frozen=True)
class Origin:
    """The run of the benches that a row comes from."""

    date: str
    commit: str
    roofline: Roofline | None


def origins(results: Results) -> dict[str, Origin]:
    """Of each case the run that holds its latest row."""
    return {
        row.id: Origin(bench.date, bench.commit, bench.rooflines.get(row.device))
        for bench in results.benches
        for row in bench.rows
    }


def error_units(row: Row) -> float | None:
    """The worst error among the outputs in units of its tolerance; None where no output has an error."""
    return max((output.units for output in row.outputs.values() if output.units is not None), default=None)


def roofline_fraction(row: Row, roofline: Roofline | None) -> float | None:
    """Its FLOPs over what a matrix product does in that time, or its compulsory bytes over what a copy moves there: the
    larger one."""
    if row.time is None or roofline is None:
        return None
    product = roofline.gemm_flops_per_s.get(row.dtype)
    flops = row.work.get("flops")
    computed = flops / product if flops is not None and product else None
    moved = None if row.compulsory_bytes is None else row.compulsory_bytes / roofline.copy_bytes_per_s
    found = [seconds / row.time.median for seconds in (computed, moved) if seconds is not None]
    return max(found, default=None)


def gradient_ratio(row: Row, by_id: Mapping[str, Row], where: Mapping[str, Origin]) -> float | None:
    """Time of a gradient over that of the same variant's value in the same run; None for other operators, and without
    such a value.
    """
    if row.operator not in GRADIENTS or row.time is None:
        return None
    primal = by_id.get("/".join((row.family, row.variant, "primal", *row.words[3:])))
    if primal is None or primal.time is None or where[primal.id] != where[row.id]:
        return None
    return row.time.median / primal.time.median


def cheap_bound(rows: Sequence[Row]) -> int:
    return CHEAP_WITH_KINKS if any(row.has_kinks for row in rows) else CHEAP


def coldness(row: Row) -> float | None:
    """The first call over the median of the warm ones."""
    return row.time.first / row.time.median if row.time is not None and row.time.first is not None else None


def rows_of(race: Race) -> list[Row]:
    """Right ones and wrong ones."""
    return [*(standing.row for standing in race.standings), *(wrong.row for wrong in race.wrong)]


def complaint(row: Row) -> str:
    """In a word or two why a case is out of the race: `wrong: disagree`."""
    return "its derivative is wrong" if row.right else f"wrong: {row.status}"
