"""What the files of results hold, as values: timed cases, wrong ones, the machine, histories and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

RACED_ON = ("processor", "cores", "system", "python", "torch", "threads", "device")
"""What two timings must share to be shown in one figure."""

_AXIS = re.compile(r"([a-zA-Z]+)(\d+)$")


@dataclass(frozen=True)
class Output:
    """One output of a case beside the reference: status, and error over tolerance; None where there is no error."""

    status: str
    error: float | None
    tolerance: float | None

    @property
    def units(self) -> float | None:
        """The error in units of the tolerance: at most 1 agrees."""
        return self.error / self.tolerance if self.error is not None and self.tolerance else None


@dataclass(frozen=True)
class Law:
    """How the counters of a case are declared to grow with an axis, the other axes fixed at a size word."""

    axis: str
    at: str
    exponents: Mapping[str, float]


ENOUGH_ROUNDS = 3
"""The quartiles of fewer say nothing of how times scatter."""


@dataclass(frozen=True)
class Time:
    """Seconds of a call: median and quartiles over the rounds, and the first call, which was cold."""

    median: float
    low: float
    high: float
    rounds: int
    first: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """The quartiles; without bound where the rounds were too few to know them."""
        return (self.low, self.high) if self.rounds >= ENOUGH_ROUNDS else (0.0, math.inf)


@dataclass(frozen=True)
class Row:
    """One case. time: None where it is wrong, and so has not been timed."""

    id: str
    status: str
    right: bool
    source: str
    summary: str
    baseline: str
    outputs: Mapping[str, Output]
    has_kinks: bool
    laws: Sequence[Law]
    time: Time | None
    work: Mapping[str, float | None]
    """By counter: ops, flops, graph_nodes, graph_depth, saved_bytes, peak_bytes."""
    compulsory_bytes: int | None
    environment: Mapping[str, Any]
    """The keys of RACED_ON, and commit and numpy."""

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(self.id.split("/"))

    @property
    def family(self) -> str:
        return self.words[0]

    @property
    def variant(self) -> str:
        return self.words[1]

    @property
    def operator(self) -> str:
        return self.words[2]

    @property
    def size(self) -> str:
        return self.words[3]

    @property
    def dtype(self) -> str:
        return self.words[4]

    @property
    def device(self) -> str:
        return self.words[5]

    @property
    def scenario(self) -> str:
        """Who races: the same id without the variant."""
        return "/".join((self.family, *self.words[2:]))

    @property
    def axes(self) -> dict[str, int]:
        """The numbers of the size word: d5_n100 has d = 5 and n = 100. Words without a number are no axes."""
        return {match[1]: int(match[2]) for word in self.size.split("_") if (match := _AXIS.fullmatch(word))}


@dataclass(frozen=True)
class Roofline:
    """The most that a device did when the results were made."""

    copy_bytes_per_s: float
    gemm_flops_per_s: Mapping[str, float]


@dataclass(frozen=True)
class Bench:
    """One run of the benches. file: where it was read; date: as ISO text."""

    file: str
    date: str
    commit: str
    rows: Sequence[Row]
    rooflines: Mapping[str, Roofline]


@dataclass(frozen=True)
class Point:
    """One number of asv's at one commit. benchmark: such as `sandwich/value_and_gradient`; what: time, gradient_error,
    ops_forward, peak_bytes and so on. date: of the commit, in seconds since 1970. machine: its name; hardware:
    processor, cores and system, as far as they are told.
    """

    commit: str
    date: float
    machine: str
    hardware: str
    python: str
    torch: str
    benchmark: str
    what: str
    parameters: tuple[str, ...]
    """Variant, size, device."""
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def measured_on(self) -> tuple[str, ...]:
        """What two points must share to stand beside each other."""
        return self.machine, self.hardware, self.python, self.torch


@dataclass(frozen=True)
class Verdict:
    """One document of the gate: what it said of two commits, and the kernels that moved. asked: of which kernels, and
    how long, where it tells; date: as ISO text; confidence: of each end of an interval, in per cent, 0 where unknown.
    """

    file: str
    verdict: str
    base: str
    head: str
    torch: str
    findings: Sequence[Mapping[str, str]]
    """id, what, colour, text."""
    kernels: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Processor, cores, threads and so on, as far as the gate has told them."""
    asked: str = ""
    date: str = ""
    confidence: float = 0.0


@dataclass(frozen=True)
class Results:
    """All that was read. Runs of the benches are of one machine and one torch."""

    benches: Sequence[Bench] = ()
    points: Sequence[Point] = ()
    verdicts: Sequence[Verdict] = ()
    by_id: Mapping[str, Row] = field(default_factory=dict)
    """Of each scenario the rows of the latest run that holds it: rows of two runs do not race."""
