"""Measure side by side in one run: thunks take turns in a fresh random order, ratios are of the same round."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import quantile_test

from gradrace.clock import clock
from gradrace.environment import describe, pin_threads
from gradrace.files import write_text

RESULTS = Path(__file__).parent.parent.parent / "results"
THREADS = 1
LEVEL = 0.95


@dataclass(frozen=True)
class Ratio:
    """The median of paired ratios with its exact sign-test interval."""

    what: str
    ratio: float
    low: float
    high: float
    rounds: int


def interleave(
    thunks: Mapping[str, Callable[[], Any]], rounds: int, least_s: float = 2e-3, seed: int = 0
) -> dict[str, np.ndarray]:
    """Seconds of one call of each thunk, shape (rounds,); a sample lasts at least `least_s`."""
    pin_threads(THREADS)
    loops = {name: _loops(thunk, least_s) for name, thunk in thunks.items()}
    order, rng = list(thunks), random.Random(seed)
    samples: dict[str, list[float]] = {name: [] for name in thunks}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            samples[name].append(_seconds(thunks[name], loops[name]))
    return {name: np.array(values) for name, values in samples.items()}


def _loops(thunk: Callable[[], Any], least_s: float) -> int:
    """Calls in a sample; finding it warms the thunk up."""
    thunk()
    loops = 1
    while loops * _seconds(thunk, loops) < least_s:
        loops *= 2
    return loops


def _seconds(thunk: Callable[[], Any], loops: int) -> float:
    start = clock()
    for _ in range(loops):
        thunk()
    return (clock() - start) / loops


def ratio(what: str, samples: Mapping[str, np.ndarray], numerator: str, denominator: str) -> Ratio:
    """How many times as long `numerator` takes as `denominator`."""
    paired = samples[numerator] / samples[denominator]
    interval = quantile_test(paired, q=1, p=0.5).confidence_interval(LEVEL)
    return Ratio(what, float(np.median(paired)), float(interval.low), float(interval.high), len(paired))


def save(name: str, ratios: Sequence[Ratio], **facts: Any) -> None:
    """Print the ratios and write results/<name>.json, whole or not at all."""
    table = Table("what", "ratio", "95 % interval", "rounds", title=f"{name}, {THREADS} thread")
    for row in ratios:
        table.add_row(row.what, f"{row.ratio:.4g}", f"{row.low:.4g} to {row.high:.4g}", str(row.rounds))
    if ratios:
        Console(width=120).print(table)
    document = {
        "experiment": name,
        "command": f"python benches/experiments/{Path(sys.argv[0]).name}",
        "environment": describe(),
        "ratios": [asdict(row) for row in ratios],
        **facts,
    }
    RESULTS.mkdir(exist_ok=True)
    write_text(RESULTS / f"{name}.json", json.dumps(document, indent=1) + "\n")
