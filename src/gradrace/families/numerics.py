"""What references share: the condition number κ measured on the inputs of a case, and an accurate solve.

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


def well_conditioned(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, float]:
    """κ = 1: each output is as accurate, relative to its largest entry, as the inputs are."""
    return {}


def measure(reference: Reference, numbers: Numbers, names: tuple[str, ...], batch: int | None = None) -> dict[str, Any]:
    """κ of each output that is not zero, at least 1: the largest over a few fixed random directions.

    Shape (batch,) where the first axis of the output is the batch, else ().
    """
    rng = np.random.default_rng(0)
    exact = {name: np.asarray(value) for name, value in reference(numbers).items()}
    condition: dict[str, Any] = {name: 1.0 for name, value in exact.items() if value.any()}
    for _ in range(DIRECTIONS):
        moved = reference({**numbers, **{name: _perturbed(numbers[name], rng, batch) for name in names}})
        for name in condition:
            change = relative_error(np.asarray(moved[name]), exact[name], batch) / STEP
            condition[name] = np.maximum(condition[name], change)
    return condition


def _instances(array: np.ndarray, batch: int | None) -> np.ndarray:
    """The array as one row an instance: the whole is one instance unless its first axis is the batch."""
    count = batch if batch and array.ndim and array.shape[0] == batch else 1
    return array.reshape(count, -1)


def _perturbed(value: Any, rng: np.random.Generator, batch: int | None) -> np.ndarray:
    """Each entry moves by a normal deviate times STEP times the largest entry (of its instance)."""
    rows = _instances(np.asarray(value, dtype=np.float64), batch)
    scale = np.abs(rows).max(axis=1, keepdims=True)
    return (rows + STEP * scale * rng.standard_normal(rows.shape)).reshape(np.shape(value))


def relative_error(actual: np.ndarray, exact: np.ndarray, batch: int | None) -> Any:
    """The largest difference over the largest exact entry: one number, or one for each instance."""
    difference = _instances(np.abs(actual - exact), batch).max(axis=1)
    scale = _instances(np.abs(exact), batch).max(axis=1)
    # An instance that is exactly zero must be met exactly; NaN differs from everything, and stays NaN.
    with np.errstate(divide="ignore"):
        errors = np.divide(difference, scale, out=np.zeros_like(difference), where=difference != 0)
    return errors if errors.size > 1 else errors[0]


def refined_solve(matrix: np.ndarray, vector: np.ndarray, inverse: np.ndarray | None = None) -> np.ndarray:
    """Solve matrix @ x = vector in extended precision: a float64 inverse, residuals in long double.

    `inverse` saves the inversion where the caller has the inverse already.
    Source: C. B. Moler, J. ACM 14 (1967). Stacks of matrices (..., n, n) go with vectors (..., n).
    """
    wide = matrix.astype(np.longdouble)
    if inverse is None:
        inverse = np.linalg.inv(matrix.astype(np.float64))
    solution = np.zeros_like(vector, dtype=np.longdouble)
    for _ in range(4):
        residual = vector - (wide @ solution[..., None])[..., 0]
        solution = solution + (inverse @ residual.astype(np.float64)[..., None])[..., 0]
    return solution
