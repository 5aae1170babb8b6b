"""The condition number κ of a reference, measured on the very inputs of a case.

κ is the relative change of an output over the relative change of the inputs that causes it, both in the norm of
the largest entry (J. R. Rice, SIAM J. Numer. Anal. 3, 1966). Bounds such as cond(M) hold for the worst right-hand
side and are often a thousand times too wide for the one at hand; a tolerance that wide could not fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradrace.declare import Condition, Numbers, Reference, Size

STEP = 1e-7
"""Relative size of a perturbation: far above the rounding of the reference, far below its curvature."""

DIRECTIONS = 4


def measured(*names: str) -> Condition:
    """The condition of every output with respect to the named inputs, all perturbed together."""

    def condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, float]:
        return measure(reference, numbers, names, size.get("b"))

    return condition


def measure(
    reference: Reference, numbers: Numbers, names: tuple[str, ...], batch: int | None = None
) -> dict[str, float]:
    """κ of each output that is not zero, at least 1: the largest over a few fixed random directions."""
    rng = np.random.default_rng(0)
    exact = {name: np.asarray(value) for name, value in reference(numbers).items()}
    condition = dict.fromkeys((name for name, value in exact.items() if value.any()), 1.0)
    for _ in range(DIRECTIONS):
        moved = reference({**numbers, **{name: _perturbed(numbers[name], rng, batch) for name in names}})
        for name in condition:
            change = relative_error(np.asarray(moved[name]), exact[name], batch) / STEP
            condition[name] = max(condition[name], change)
    return condition


def _perturbed(value: Any, rng: np.random.Generator, batch: int | None) -> np.ndarray:
    """Each entry moves by a normal deviate times STEP times the largest entry (of its instance)."""
    array = np.asarray(value, dtype=np.float64)
    scale = np.abs(array)
    if batch and array.ndim and array.shape[0] == batch:
        scale = scale.max(axis=tuple(range(1, array.ndim)), keepdims=True)
    else:
        scale = scale.max()
    return array + STEP * scale * rng.standard_normal(array.shape)


def relative_error(actual: np.ndarray, exact: np.ndarray, batch: int | None) -> float:
    """The largest difference over the largest exact entry; by instance where the first axis is a batch."""
    instances = batch if batch and exact.ndim and exact.shape[0] == batch else 1
    difference = np.abs(actual - exact).reshape(instances, -1).max(axis=1)
    scale = np.abs(exact).reshape(instances, -1).max(axis=1)
    # An instance that is exactly zero must be met exactly.
    with np.errstate(divide="ignore"):
        errors = np.divide(difference, scale, out=np.zeros_like(difference), where=difference > 0)
    return float(errors.max())
