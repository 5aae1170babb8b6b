"""What changed from base to head in one kernel, without a clock: its gradient, and its work.

    two answers of `examine`  ->  GradientChange, WorkChange

Both arms ran on the same numbers, with one thread: code that has not changed gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

GRADIENT = ("bitwise equal", "equal within the tolerance", "changed")

RED = ("saved_bytes", "peak_bytes", "flops")
"""Counters of which a rise is red, unless the kernel has become faster in return."""

COUNTERS = ("ops_forward", "ops_backward", "flops", "graph_nodes", "graph_depth", "saved_bytes", "peak_bytes")


@dataclass(frozen=True)
class GradientChange:
    """How the outputs of two states differ; of the worst of them the entry, both its values and the error in units.

    units: the difference over what both states may err, twice the tolerance; above 1 it is a change.
    """

    status: str
    output: str = ""
    index: tuple[int, ...] = ()
    base: float | None = None
    head: float | None = None
    units: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        if self.status != "changed":
            return self.status
        return f"changed: {self.output} {self.reason}" if self.reason else f"changed: {self.worst}"

    @property
    def worst(self) -> str:
        """The entry that differs most, both its values, and the error in units."""
        at = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        return f"{self.output}{at} {self.base:.17g} → {self.head:.17g}, {self.units:.3g} × the tolerance"


Outputs = Mapping[str, np.ndarray | None]


def are_identical(base: Outputs, head: Outputs) -> bool:
    """The same outputs, to the last bit?"""
    return set(base) == set(head) and all(_is_identical(base[name], head[name]) for name in head)


def _is_identical(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    if old is None or new is None:
        return old is new
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def compare_outputs(base: Outputs, head: Outputs, yardsticks: Sequence[Mapping[str, Any]]) -> GradientChange:
    """The worst change among the outputs. yardsticks: what each state answers, and none of which need be there."""
    if set(base) != set(head):
        old, new = (", ".join(each) for each in (base, head))
        return GradientChange("changed", "the outputs", reason=f"are {new} where they were {old}", units=math.inf)
    found = [_compare(name, base[name], head[name], yardsticks) for name in head]
    return max(found, key=lambda change: (GRADIENT.index(change.status), change.units))


def _compare(
    name: str, old: np.ndarray | None, new: np.ndarray | None, yardsticks: Sequence[Mapping[str, Any]]
) -> GradientChange:
    if _is_identical(old, new):
        return GradientChange("bitwise equal", name)
    if old is None or new is None:
        words = ["None" if each is None else "a tensor" for each in (old, new)]
        return GradientChange("changed", name, reason=f"is {words[1]} where it was {words[0]}", units=math.inf)
    if old.shape != new.shape:
        return GradientChange("changed", name, reason=f"has shape {new.shape} where it had {old.shape}", units=math.inf)
    if old.dtype != new.dtype:
        return GradientChange("changed", name, reason=f"is {new.dtype} where it was {old.dtype}", units=math.inf)
    return _compare_entries(name, old, new, yardsticks)


def _compare_entries(
    name: str, old: np.ndarray, new: np.ndarray, yardsticks: Sequence[Mapping[str, Any]]
) -> GradientChange:
    difference = np.abs(new.astype(np.float64) - old.astype(np.float64))
    # NaN beside NaN, and an infinity beside the same, has not changed; any other non-finite entry has, by infinity.
    difference = np.where((old == new) | (np.isnan(old) & np.isnan(new)), 0.0, np.nan_to_num(difference, nan=math.inf))
    index = np.unravel_index(int(np.argmax(difference)), difference.shape) if difference.size else ()
    allowed = 2 * max((each["tolerances"].get(name, 0.0) for each in yardsticks), default=0.0)
    scale = max((each["scales"].get(name, 0.0) for each in yardsticks), default=0.0)
    worst = float(difference[index]) if difference.size else 0.0
    units = worst / (allowed * scale) if worst and allowed * scale else worst and math.inf
    return GradientChange(
        "changed" if units > 1 else "equal within the tolerance",
        name,
        tuple(map(int, index)),
        float(old[index]) if difference.size else None,
        float(new[index]) if difference.size else None,
        units,
    )


@dataclass(frozen=True)
class WorkChange:
    """Each counter that changed, (base, head), and each operation whose number changed, by phase and name.

    lost: the counters that the base knows and the head does not, as of a kernel that goes over to NumPy or is compiled.
    """

    counters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    operations: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    @property
    def risen(self) -> dict[str, tuple[int, int]]:
        """The counters of which a rise is red."""
        return {name: pair for name, pair in self.counters.items() if name in RED and pair[1] > pair[0]}

    @property
    def status(self) -> str:
        """`more` (red unless faster in return), `notice` (only operations or nodes rose, or a counter is lost: the rest
        may have fallen for that alone), `gain`, or `same`.
        """
        if self.risen:
            return "more"
        if self.lost or any(new > old for old, new in self.counters.values()):
            return "notice"
        return "gain" if self.counters else "same"

    def __str__(self) -> str:
        parts = [f"{name.replace('_', ' ')} {_times(*pair)}" for name, pair in self.counters.items()]
        parts += [f"{name.replace('_', ' ')} no longer known" for name in self.lost]
        parts += [f"{new - old:+d} {operation}" for operation, (old, new) in self.operations.items()]
        return ", ".join(parts) if parts else "same"


def _times(old: int, new: int) -> str:
    return f"{old:,} → {new:,}" + (f" ({new / old:.3g}×)" if old else "")


def compare_work(base: Mapping[str, Any] | None, head: Mapping[str, Any] | None) -> WorkChange | None:
    """The difference of two `work` documents; None where one of the states cannot count."""
    if base is None or head is None:
        return None
    pairs = {name: (base["counters"][name], head["counters"][name]) for name in COUNTERS}
    changed = {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
    lost = tuple(name for name, (old, new) in pairs.items() if old is not None and new is None)
    return WorkChange(changed, _operations(base, head), lost)


def _operations(base: Mapping[str, Any], head: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    found = {}
    for phase in ("forward", "backward"):
        old, new = ((each[phase]["ops"] or {}).get("by_op", {}) for each in (base, head))
        for name in sorted({*old, *new}):
            pair = (old.get(name, 0), new.get(name, 0))
            if pair[0] != pair[1]:
                found[f"{name} {phase}"] = pair
    return found
