"""Where do solvers end? Each family's, from many starts: iterations, residual, distance, kinds of end points.

What to see: a direct method ends at the solution from everywhere, and a descent where its start, its step and their
number let it. Descent on the Iris table is not always there after the homework's 1000 epochs; Newton takes a maximum
for a minimum half of the time; phase retrieval has minima that are none of its solutions. The solvers of Beale's
function are in beale_race.py.

    python benches/experiments/solver_endpoints.py      writes solver_endpoints.json and prints the table
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from beale_race import COLUMNS, cells
from figure import in_lines, parse, rounded
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gradrace.cli.common import track
from gradrace.declare import size
from gradrace.environment import describe, pin_threads
from gradrace.families import circle_reparam, gd_1d, lowrank, mse_linear, phase_retrieval
from gradrace.families.endpoints import Row
from gradrace.families.iris import centred_iris
from gradrace.files import write_text

NAME = "solver_endpoints"
SEED = 0

STEPS = 150
"""Of the notes' descents in one variable."""

NOTES = {"cosine": (-3.5, -2.5, -2.0, -1.0, -0.5), "absolute": (0.0, 10.0)}
"""The notes' own starts."""


@dataclass(frozen=True)
class Scope:
    """How many starts: factors of Iris, instances of phase retrieval, numbers, angles, points of least squares."""

    iris: int
    retrieval: int
    line: int
    circle: int
    squares: int


FULL = Scope(iris=50, retrieval=500, line=200, circle=1000, squares=100)
SMALL = Scope(iris=3, retrieval=20, line=10, circle=20, squares=3)


def drawn(draw: Callable[..., dict[str, Any]], **axes: Any) -> dict[str, Tensor]:
    """A family's own inputs and solution, from a fixed seed."""
    return {name: torch.as_tensor(value) for name, value in draw(size(**axes), np.random.default_rng(SEED)).items()}


def published(seed: int) -> np.ndarray:
    """U (150, 2) and the transpose of V (2, 4) below it, uniform by numpy.random.RandomState(seed)."""
    rng = np.random.RandomState(seed)
    return np.concatenate((rng.rand(150, 2), rng.rand(2, 4).T))


def iris(starts: int) -> list[Row]:
    W = torch.from_numpy(np.stack([published(seed) for seed in range(starts)]))
    return lowrank.race(W, torch.from_numpy(centred_iris()))


def retrieval(starts: int, start: str) -> list[Row]:
    here = drawn(phase_retrieval.draw, n=20, m=100, b=starts, start=start)
    return phase_retrieval.race(here["x"], here["A"], here["y"], here["solution"])


def line(f: str, starts: int | None = None) -> list[Row]:
    """From the notes' starts, or so many of the box that the family draws from."""
    low, high = gd_1d.OBJECTIVES[f].starts
    x = NOTES[f] if starts is None else np.random.default_rng(SEED).uniform(low, high, starts)
    return gd_1d.race(torch.as_tensor(x, dtype=torch.float64), f, STEPS)


def circle(starts: int) -> list[Row]:
    """Angles anywhere; the family itself draws none near an extremum."""
    here = drawn(circle_reparam.draw, b=starts)
    theta = torch.from_numpy(np.random.default_rng(SEED + 1).uniform(-np.pi, np.pi, starts))
    return circle_reparam.race(theta, here["A"], here["solution"])


def squares(starts: int) -> list[Row]:
    """N = 200 samples, d = 10, κ = 10."""
    here = drawn(mse_linear.draw, n=200, d=10, cond=10)
    theta = torch.from_numpy(np.random.default_rng(SEED + 1).standard_normal((starts, 10)))
    return mse_linear.race(theta, here["X"], here["y"], here["solution"])


def races(scope: Scope) -> dict[tuple[str, str], Callable[[], list[Row]]]:
    """By family and by what its starts are."""
    return {
        ("lowrank", "Iris, uniform"): partial(iris, scope.iris),
        ("phase_retrieval", "random"): partial(retrieval, scope.retrieval, "random"),
        ("phase_retrieval", "spectral"): partial(retrieval, scope.retrieval, "spectral"),
        ("gd_1d", "cosine, notes"): partial(line, "cosine"),
        ("gd_1d", "cosine, box"): partial(line, "cosine", scope.line),
        ("gd_1d", "absolute, notes"): partial(line, "absolute"),
        ("gd_1d", "absolute, box"): partial(line, "absolute", scope.line),
        ("circle_reparam", "uniform"): partial(circle, scope.circle),
        ("mse_linear", "normal"): partial(squares, scope.squares),
    }


Found = Mapping[tuple[str, str], Sequence[Row]]


def printed(found: Found) -> Table:
    table = Table("family", "from", "starts", *COLUMNS)
    for (family, start), rows in found.items():
        for row in rows:
            table.add_row(family, start, str(row.starts), *cells(row))
        table.add_section()
    return table


def as_json(found: Found) -> list[dict[str, Any]]:
    """A median that is not finite is None."""
    return [
        {"family": family, "from": start, **vars(row), "kinds": dict(row.kinds)}
        | dict(zip(("residual", "distance"), rounded((row.residual, row.distance)), strict=True))
        for (family, start), rows in found.items()
        for row in rows
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    torch.manual_seed(SEED)  # torch.svd_lowrank draws
    due = races(SMALL if options.small else FULL)
    found = {key: due[key]() for key in track(list(due), "racing")}
    Console(width=168).print(printed(found))
    document = {
        "experiment": NAME,
        "command": f"python benches/experiments/{NAME}.py{' --small' if options.small else ''}",
        "environment": describe(),
        "rows": as_json(found),
    }
    write_text(options.output / f"{NAME}.json", in_lines(document))


if __name__ == "__main__":
    main()
