"""tanh_tail: t = tanh x far out. Teaches that a derivative computed from a rounded value loses its digits.

With e = e^(−2|x|) and the logistic function σ the derivative has many equal forms:

    tanh′(x) = 1 − t² = (1 − t)(1 + t) = 1 / cosh² x = 4 e / (1 + e)² = 4 σ(−2|x|) (1 − σ(−2|x|)).

The first two, and so torch.tanh by autograd, start from t, which is rounded to a multiple of u near 1. Its error of up
to u/2 is a relative error of up to u e^(2|x|) / 4 in tanh′ ≈ 4 e^(−2|x|), and where t rounds to 1 nothing is left: from
|x| = ½ ln(4/u) on, 9.011 in float32 and 19.06 in float64. The others start from x and keep every digit.

Inputs are b points with 4 ≤ |x| < `to`, shape (b,), each judged by itself.

Sources: the numerical optimization notes of Z. Xu (a gradient that vanishes at x = 4); pytorch/pytorch#195685.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, Reference, Size, size
from gradrace.families.numerics import well_conditioned

NEAREST = 4.0


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """One |x| in each of b equal parts of the interval, so that both its ends are always met; signs in turn."""
    part = np.arange(size["b"])
    distance = NEAREST + (size["to"] - NEAREST) * (part + rng.random(part.size)) / part.size
    return {"x": np.where(part % 2, -distance, distance)}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """t = ±(1 − e) / (1 + e) and tanh′ = 4 e / (1 + e)² in extended precision: (value (b,), x (b,))."""
    x = numbers["x"].astype(np.longdouble)
    e = np.exp(-2 * np.abs(x))
    return {"value": np.sign(x) * (1 - e) / (1 + e), "x": 4 * e / (1 + e) ** 2 * numbers["cotangent"]}


BY_LENGTH = Growth("b", (250, 500, 1000), "vjp", {"ops": 0, "graph_nodes": 0, "saved_bytes": 1}, at=size(to=8))

_SAVES_NOTHING = (BY_LENGTH.but(saved_bytes=0),)
"""There is no graph, or it keeps the input, which is kept anyway."""

tanh_tail = Family(
    name="tanh_tail",
    summary="tanh′ far out: what is computed from the rounded tanh x loses its digits",
    source="numerical optimization notes; pytorch/pytorch#195685",
    primals=("x",),
    operators=("vjp",),
    sizes=(
        size("test", b=7, to=8),
        size("test", b=15, to=18, dtypes=("float64",)),
        size("gate", b=1_000, to=8),
        size("bench", "cuda", b=100_000, to=8),
    ),
    draw=draw,
    baseline="cosh",
    reference={"vjp": reference},
    # κ = 1: the 2|x| by which tanh′ magnifies an error of its input does not come in, since −2|x| is exact. What is
    # left are a few roundings after one exponential.
    condition=well_conditioned,
    depth=2.0,
    growth=(BY_LENGTH,),
)

_LOST = {"x": ("disagree", "1 − t has lost the digits that t was rounded by")}

Pulled = tuple[Tensor, tuple[Tensor]]


@tanh_tail.variant(source="torch.tanh by autograd, which multiplies by 1 − t²", expected=_LOST)
def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


@tanh_tail.variant(source="1 − t², no graph", computes="vjp", expected=_LOST, grows=_SAVES_NOTHING)
def one_minus_square(x: Tensor, cotangent: Tensor) -> Pulled:
    t = torch.tanh(x)
    return t, (cotangent * (1 - t * t),)


@tanh_tail.variant(
    source="(1 − t)(1 + t), which mends 1 − t² for an exact t, and here t is rounded",
    computes="vjp",
    expected=_LOST,
    grows=_SAVES_NOTHING,
)
def factored(x: Tensor, cotangent: Tensor) -> Pulled:
    t = torch.tanh(x)
    return t, (cotangent * ((1 - t) * (1 + t)),)


@tanh_tail.variant(
    source="2 σ(2x) − 1 by autograd",
    expected={"x": ("disagree", "where x > 0, σ(2x) is rounded near 1; where x < 0 every digit is right")},
)
def sigmoid(x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(2 * x) - 1


@tanh_tail.variant(source="1 / cosh² x, no graph", computes="vjp", grows=_SAVES_NOTHING)
def cosh(x: Tensor, cotangent: Tensor) -> Pulled:
    return torch.tanh(x), (cotangent / torch.cosh(x).square_(),)


@tanh_tail.variant(source="4 e / (1 + e)², no graph", computes="vjp", grows=_SAVES_NOTHING)
def exponential(x: Tensor, cotangent: Tensor) -> Pulled:
    e = torch.exp(-2 * x.abs())
    return torch.tanh(x), (cotangent * (4 * e / (1 + e).square()),)


def _log_condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, Any]:
    """Rounding a logarithm of size 2|x| moves what it is the logarithm of by 2|x| u."""
    return {"x": 2 * np.abs(numbers["x"])}


@tanh_tail.variant(
    source="e to the power of log tanh′ = log 4 − 2 (|x| + log1p e), no graph",
    computes="vjp",
    condition=_log_condition,
    grows=_SAVES_NOTHING,
)
def log_domain(x: Tensor, cotangent: Tensor) -> Pulled:
    distance = x.abs()
    return torch.tanh(x), (4 * cotangent * torch.exp(-2 * (distance + torch.log1p(torch.exp(-2 * distance)))),)


@tanh_tail.variant(source="±(1 − 2 σ(−2|x|)) by autograd; the sign makes its derivative 0 at x = 0, where it is 1")
def reflected_sigmoid(x: Tensor) -> Tensor:
    return torch.sign(x) * (1 - 2 * torch.sigmoid(-2 * x.abs()))


def _pullback(x: Tensor, cotangent: Tensor) -> Tensor:
    """4 σ (1 − σ) times the cotangent with σ = σ(−2|x|), by the kernel that σ has for its own way back."""
    return torch.ops.aten.sigmoid_backward(cotangent, x.abs().mul_(-2).sigmoid_()).mul_(4)


class _Tanh(torch.autograd.Function):
    """torch.tanh forward, the derivative from x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _pullback(x, cotangent)


@tanh_tail.variant(source="a custom autograd.Function that keeps x in place of t", grows=_SAVES_NOTHING)
def custom_function(x: Tensor) -> Tensor:
    return _Tanh.apply(x)


@tanh_tail.variant(
    source="4 σ (1 − σ) and ±(1 − 2 σ) from a single σ(−2|x|), no graph", computes="vjp", grows=_SAVES_NOTHING
)
def closed_form(x: Tensor, cotangent: Tensor) -> Pulled:
    logistic = x.abs().mul_(-2).sigmoid_()
    gradient = torch.ops.aten.sigmoid_backward(cotangent, logistic).mul_(4)
    # Near x = 0 the difference would lose digits of t; out here it loses none.
    return logistic.mul_(-2).add_(1).copysign_(x), (gradient,)
