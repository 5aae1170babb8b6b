"""losses: what a descent goes down, with closed derivatives, for any library that has stack, concatenate and roll.

Points have the shape (…, d). `beale` on R²: L = (1.5 − x + x y)² + (2.25 − x + x y²)² + (2.625 − x + x y³)². `ring` on
R^d: springs and quartic wells around a circle, L = ½ Σ (w_i − w_{i−1})² + ¼ Σ w_i⁴.

Where a Python number meets a tensor, torch's forward mode takes twenty times as long as where two tensors meet, and
what has no axes comes back in float64 (pytorch/pytorch#90065): gradients double by adding, x and y keep their axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np


def _roll(w: np.ndarray, shift: int, axis: int) -> np.ndarray:
    return np.concatenate((w[..., -shift:], w[..., :-shift]), axis)


NUMPY = SimpleNamespace(stack=np.stack, concatenate=np.concatenate, roll=_roll)
"""NumPy, where two slices roll the last axis: np.roll serves any axes, and takes more than half of the time of a
descent on 100 numbers.
"""


class Loss(NamedTuple):
    """value(lib, w): (…); gradient(lib, w): (…, d); curvature(lib, w): what is needed of ∇²L at each point;
    multiply(lib, curvature, v): ∇²L v, (…, d).
    """

    value: Callable[..., Any]
    gradient: Callable[..., Any]
    curvature: Callable[..., Any]
    multiply: Callable[..., Any]


def _beale_terms(w: Any) -> tuple[Any, ...]:
    """x, y, then y − 1, y² − 1, y³ − 1, then the three residuals; each (…, 1)."""
    x, y = w[..., :1], w[..., 1:]
    a = y - 1
    b = a * y + a
    c = b * y + a
    return x, y, a, b, c, x * a + 1.5, x * b + 2.25, x * c + 2.625


def beale(lib: Any, w: Any) -> Any:
    *_, r, s, t = _beale_terms(w)
    return (r * r + s * s + t * t).sum(-1)


def beale_gradient(lib: Any, w: Any) -> Any:
    x, y, a, b, c, r, s, t = _beale_terms(w)
    yt = y * t
    half = lib.concatenate([a * r + b * s + c * t, x * (r + y * (s + s + yt + yt + yt))], -1)
    return half + half


def beale_curvature(lib: Any, w: Any) -> Any:
    """∇²L as a matrix: (…, 2, 2)."""
    x, y, a, b, c, r, s, t = _beale_terms(w)
    by_xx = a * a + b * b + c * c
    by_xy = r + a * x + y * (2 * (s + b * x) + 3 * y * (t + c * x))
    by_yy = x * (x * (1 + y * y * (4 + 9 * y * y)) + 2 * s + 6 * y * t)
    rows = [lib.concatenate(row, -1) for row in ([by_xx, by_xy], [by_xy, by_yy])]
    return 2 * lib.stack(rows, -2)


def beale_multiply(lib: Any, matrix: Any, v: Any) -> Any:
    return v @ matrix


def ring(lib: Any, w: Any) -> Any:
    stretch, square = w - lib.roll(w, 1, -1), w * w
    return (stretch * stretch).sum(-1) / 2 + (square * square).sum(-1) / 4


def ring_gradient(lib: Any, w: Any) -> Any:
    return w * w * w + w + w - lib.roll(w, 1, -1) - lib.roll(w, -1, -1)


def ring_curvature(lib: Any, w: Any) -> Any:
    """The diagonal of ∇²L, whose other entries are −1 between neighbours: (…, d)."""
    return 3 * w * w + 2


def ring_multiply(lib: Any, diagonal: Any, v: Any) -> Any:
    return diagonal * v - lib.roll(v, 1, -1) - lib.roll(v, -1, -1)


LOSSES: Mapping[str, Loss] = {
    "beale": Loss(beale, beale_gradient, beale_curvature, beale_multiply),
    "ring": Loss(ring, ring_gradient, ring_curvature, ring_multiply),
}
