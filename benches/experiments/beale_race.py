"""Beale's function: where do the solvers end? From the homework's start, and from 1000 starts in a box.

python benches/experiments/beale_race.py      writes beale_race.json and prints the table
"""

from __future__ import annotations

import json

import torch
from measure import RESULTS, THREADS
from rich.console import Console
from rich.table import Table

from gradrace.environment import describe
from gradrace.families import beale
from gradrace.families.endpoints import KINDS, Row
from gradrace.files import write_text

SEED, BOX, COUNT = 0, 3.0, 1000


def starts() -> dict[str, torch.Tensor]:
    """By name, points (b, 2): (0.7, 1.4), and uniform ones in [−3, 3]²."""
    generator = torch.Generator().manual_seed(SEED)
    box = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64)
    return {"homework": torch.tensor([[0.7, 1.4]], dtype=torch.float64), "box": BOX * (2 * box - 1)}


COLUMNS = ("solver", "iterations", "residual", "distance", *KINDS)


def cells(row: Row) -> list[str]:
    """What stands in these columns."""
    counts = [str(row.kinds.get(kind, "")) for kind in KINDS]
    return [row.solver, f"{row.iterations:g}", f"{row.residual:.3g}", f"{row.distance:.3g}", *counts]


def printed(title: str, rows: list[Row]) -> Table:
    table = Table(*COLUMNS, title=title)
    for row in rows:
        table.add_row(*cells(row))
    return table


def main() -> None:
    torch.set_num_threads(THREADS)
    found = {name: beale.race(points) for name, points in starts().items()}
    for name, rows in found.items():
        Console(width=120).print(printed(f"from {name}, {rows[0].starts} starts", rows))
    rows = [{"from": name, **vars(row), "kinds": dict(row.kinds)} for name, each in found.items() for row in each]
    document = {"environment": {**describe(), "threads": THREADS}, "rows": rows}
    write_text(RESULTS / "beale_race.json", json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
