"""sgd_exponent: q(η) = 1/N Σ_n log|1 − η h_n|. Teaches that a value can be NaN while its gradient is right.

log z has the derivative 1/z on either side of 0. q is the Lyapunov exponent of SGD on ½ Σ_n h_n w²: one step on the
n-th term multiplies w by 1 − η h_n, so log|w(t)|/t → q(η) almost surely, and w → 0 where q(η) < 0, which reaches
further than the convergence of the mean and of the mean square.

Inputs are b step sizes η, shape (b,), and N curvatures h; the value is Σ_b q(η_b), so the gradient holds every q′:

    q′(η) = −1/N Σ_n h_n / (1 − η h_n).

Source: ECE 046211 homework 1, question 2, whose item 8 writes the logarithm without the absolute value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Numbers, Size, size
from gradrace.families.numerics import measured


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """η near 1 with flat and steep terms in turn: η h is below 0.45 or above 1.4, far from the pole at 1.

    The steep ones flip the sign of w, which is what the absolute value is for.
    """
    flat, steep = rng.uniform(0.1, 0.4, size["n"]), rng.uniform(1.6, 1.9, size["n"])
    return {
        "eta": rng.uniform(0.9, 1.1, size["b"]),
        "h": np.where(np.arange(size["n"]) % 2, flat, steep),
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The sums above in extended precision: (value, eta (b,))."""
    eta, h = numbers["eta"].astype(np.longdouble)[:, None], numbers["h"].astype(np.longdouble)
    return {"value": np.log(np.abs(1 - eta * h)).mean(axis=1).sum(), "eta": (-h / (1 - eta * h)).mean(axis=1)}


sgd_exponent = Family(
    name="sgd_exponent",
    summary="mean log|1 − η h|: the rate at which SGD on a quadratic converges almost surely",
    source="ECE 046211 homework 1, question 2",
    primals=("eta",),
    constants=("h",),
    operators=("value_and_gradient",),
    sizes=(size("test", b=1, n=3), size("test", b=5, n=40), size("bench", "cuda", b=100, n=1000)),
    draw=draw,
    baseline="log_abs",
    reference={"value_and_gradient": reference},
    condition=measured("eta", "h"),
    # κ stands for the rounding of η h; the difference and the logarithm or quotient after it round as well.
    depth=2.0,
    objective=lambda value, *_: value.sum(),
)


def _factors(eta: Tensor, h: Tensor) -> Tensor:
    """What each step multiplies w by: (b, N)."""
    return 1 - eta.unsqueeze(1) * h


def _factors_in_place(eta: Tensor, h: Tensor) -> Tensor:
    """The same by a single array, where no graph is built."""
    return torch.outer(eta.neg(), h).add_(1)


def _slope(factors: Tensor, h: Tensor) -> Tensor:
    """q′ = −1/N Σ_n h_n / (1 − η h_n) from the factors 1 − η h_n, as a product of a matrix and h: (b,)."""
    return torch.mv(factors.reciprocal(), h).mul_(-1 / h.numel())


@sgd_exponent.variant(source="the logarithm of the absolute value")
def log_abs(eta: Tensor, h: Tensor) -> Tensor:
    return _factors(eta, h).abs().log().mean(dim=1)


@sgd_exponent.variant(source="half the logarithm of the square")
def half_log_square(eta: Tensor, h: Tensor) -> Tensor:
    return _factors(eta, h).square().log().mean(dim=1) / 2


@sgd_exponent.variant(source="log|w| along one pass through the data, divided by its length")
def path(eta: Tensor, h: Tensor) -> Tensor:
    return _factors(eta, h).abs().log().cumsum(dim=1)[:, -1] / h.numel()


@sgd_exponent.variant(source="−mean h / (1 − η h), no graph, in place", computes="value_and_gradient")
def closed_form(eta: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    factors = _factors_in_place(eta, h)
    gradient = _slope(factors, h)
    return factors.abs_().log_().sum() / h.numel(), (gradient,)


BLOCK = 40
"""Factors in a product. With 0.43 < |1 − η h| < 1.1 it lies between 1e-15 and 46, far from the ends of float32 too."""


@sgd_exponent.variant(
    source="one logarithm for a product of 40 factors, −mean h / (1 − η h), no graph", computes="value_and_gradient"
)
def logs_of_blocks(eta: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    factors = _factors_in_place(eta, h)
    gradient = _slope(factors, h)
    blocks = h.numel() // BLOCK
    whole, rest = factors[:, : blocks * BLOCK], factors[:, blocks * BLOCK :]
    logs = whole.unflatten(1, (BLOCK, blocks)).prod(dim=1).abs_().log_().sum()
    if rest.numel():
        logs = logs + rest.abs().log_().sum()
    return logs / h.numel(), (gradient,)


@sgd_exponent.variant(
    source="the homework's item 8: the logarithm of a factor that may be negative",
    expected={"value": ("nan", "1 − η h is negative where η h > 1; its gradient 1/z is right all the same")},
)
def log_without_abs(eta: Tensor, h: Tensor) -> Tensor:
    return _factors(eta, h).log().mean(dim=1)
