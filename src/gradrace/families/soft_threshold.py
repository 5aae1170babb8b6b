"""soft_threshold: f(y) = sign(y) max(|y| − T, 0), elementwise. Teaches that temporaries, not arithmetic, cost.

Closed form: f'(y) = 1 where |y| > T, else 0. The kinks lie at |y| = T; the drawn inputs stay away from them.
Source: Data 598 (Winter 2022) homework 5, parts A to C, with its third branch read as y < −T (it prints y < T).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Growth, Kink, Limit, Numbers, Size, size
from gradrace.families.numerics import well_conditioned

THRESHOLD = 3.14
GAP = 1e-3
"""No drawn |y| is closer to the threshold: there the derivative is a convention, not a fact."""


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """About half of the entries beyond the threshold, the first one always."""
    y = rng.normal(scale=1.5 * THRESHOLD, size=size["n"])
    y[0] = THRESHOLD + 1 + abs(y[0])
    near = np.abs(np.abs(y) - THRESHOLD) < GAP
    y[near] += np.sign(y[near]) * 2 * GAP
    return {"y": y, "T": THRESHOLD}


def _exact(numbers: Numbers) -> tuple[np.ndarray, np.ndarray]:
    y, T = numbers["y"], numbers["T"]
    return y - np.clip(y, -T, T), (np.abs(y) > T).astype(np.float64)


def reference_primal(numbers: Numbers) -> Mapping[str, Any]:
    return {"value": _exact(numbers)[0]}


def reference_vjp(numbers: Numbers) -> Mapping[str, Any]:
    value, slope = _exact(numbers)
    return {"value": value, "y": slope * numbers["cotangent"]}


def reference_jvp(numbers: Numbers) -> Mapping[str, Any]:
    value, slope = _exact(numbers)
    return {"value": value, "tangent": slope * numbers["tangent_y"]}


BY_LENGTH = Growth(
    "n", (250, 500, 1000), "vjp", {"ops": 0, "flops": 0, "graph_nodes": 0, "saved_bytes": 1, "peak_bytes": 1}
)
"""Operations on whole arrays, of which some are kept for the way back."""

_SAVES_NOTHING = (BY_LENGTH.but(saved_bytes=0),)
"""y is kept anyway, and the mask is computed from it again."""

soft_threshold = Family(
    name="soft_threshold",
    summary="sign(y) max(|y| − T, 0): masks and temporaries, not arithmetic, cost",
    source="Data 598 (2022) homework 5, A to C",
    primals=("y",),
    constants=("T",),
    operators=("primal", "vjp", "jvp"),
    sizes=(
        size("test", n=1),
        size("test", n=257),
        size("bench", "gate", n=1_000),
        size("bench", "cuda", n=1_000_000, operators=("primal", "vjp")),
        size("large", "cuda", n=10_000_000, operators=("primal", "vjp")),
    ),
    draw=draw,
    baseline="nested_where",
    reference={"primal": reference_primal, "vjp": reference_vjp, "jvp": reference_jvp},
    # One subtraction and products with 0 or 1: κ = 1 and depth 1, in units of the largest entry.
    condition=well_conditioned,
    kinks=(
        Kink("T", THRESHOLD, allowed=(0.0, 1.0), value=0.0),
        Kink("minus_T", -THRESHOLD, allowed=(0.0, 1.0), value=0.0),
        Kink("zero", 0.0, allowed=(0.0, 0.0), value=0.0),
        Kink("nan", math.nan, allowed=None, value=math.nan),
    ),
    growth=(BY_LENGTH,),
)

_DERIVATIVES = ("vjp", "jvp")
"""The operators of formulations that are here for their derivatives at the kinks."""


@soft_threshold.variant(
    source="the homework's branches; its flat zone keeps a graph here instead of returning a fresh constant",
    limits=(Limit(lambda size: size["n"], 10_000, "one Python step and three graph nodes an element"),),
    grows=(BY_LENGTH.but(ops=1, graph_nodes=1, saved_bytes=0),),
)
def branching(y: Tensor, T: float) -> Tensor:
    def threshold(v: Tensor) -> Tensor:
        if v > T:
            return v - T
        if v < -T:
            return v + T
        return 0 * v

    return torch.stack([threshold(v) for v in y.unbind()])


@soft_threshold.variant(source="masks multiplied in; 0 · ∞ makes it NaN at infinity")
def boolean_mask(y: Tensor, T: float) -> Tensor:
    return (y - T) * (y > T) + (y + T) * (y < -T)


@soft_threshold.variant(source="torch.where as the branches are read")
def nested_where(y: Tensor, T: float) -> Tensor:
    return torch.where(y > T, y - T, torch.where(y < -T, y + T, torch.zeros_like(y)))


@soft_threshold.variant(source="the textbook's proximal operator of T‖·‖₁")
def sign_relu(y: Tensor, T: float) -> Tensor:
    return torch.sign(y) * torch.relu(torch.abs(y) - T)


@soft_threshold.variant(source="difference of two one-sided ramps")
def relu_relu(y: Tensor, T: float) -> Tensor:
    return torch.relu(y - T) - torch.relu(-y - T)


@soft_threshold.variant(source="Moreau: the residual of the projection onto [−T, T]", grows=_SAVES_NOTHING)
def y_minus_clamp(y: Tensor, T: float) -> Tensor:
    return y - torch.clamp(y, -T, T)


@soft_threshold.variant(source="max(y − T, 0) + min(y + T, 0)")
def clamp_clamp(y: Tensor, T: float) -> Tensor:
    return torch.clamp(y - T, min=0) + torch.clamp(y + T, max=0)


@soft_threshold.variant(source="torch.where with the thresholds in the moving arms", operators=_DERIVATIVES)
def nested_where_ge(y: Tensor, T: float) -> Tensor:
    return torch.where(y >= T, y - T, torch.where(y <= -T, y + T, torch.zeros_like(y)))


@soft_threshold.variant(source="the textbook's proximal operator, max(·, 0) by clamp", operators=_DERIVATIVES)
def sign_clamp(y: Tensor, T: float) -> Tensor:
    return torch.sign(y) * torch.clamp(torch.abs(y) - T, min=0)


@soft_threshold.variant(source="the textbook's proximal operator, max(·, 0) by maximum", operators=_DERIVATIVES)
def sign_maximum(y: Tensor, T: float) -> Tensor:
    return torch.sign(y) * torch.maximum(torch.abs(y) - T, torch.zeros_like(y))


@soft_threshold.variant(source="Moreau, the projection by hardtanh", operators=_DERIVATIVES, grows=_SAVES_NOTHING)
def y_minus_hardtanh(y: Tensor, T: float) -> Tensor:
    return y - F.hardtanh(y, -T, T)


@soft_threshold.variant(source="max(y − T, 0) + min(y + T, 0) by maximum and minimum", operators=_DERIVATIVES)
def max_min(y: Tensor, T: float) -> Tensor:
    zero = torch.zeros_like(y)
    return torch.maximum(y - T, zero) + torch.minimum(y + T, zero)


@soft_threshold.variant(source="y scaled by max(1 − T/|y|, 0), the group lasso's way; 0/0 at 0", operators=_DERIVATIVES)
def scaled(y: Tensor, T: float) -> Tensor:
    return y * torch.relu(1 - T / torch.abs(y))


_MISPRINT = ("disagree", "between −T and T it answers y + T")


@soft_threshold.variant(
    source="the branches as the homework prints them: y + T where y < T, which must read y < −T",
    operators=_DERIVATIVES,
    expected={"value": _MISPRINT, "y": _MISPRINT, "tangent": _MISPRINT},
    limits=(Limit(lambda size: 1 / size["n"], 0.5, "a single entry lies beyond T, where the misprint does no harm"),),
)
def misprinted(y: Tensor, T: float) -> Tensor:
    return torch.where(y > T, y - T, torch.where(y < T, y + T, torch.zeros_like(y)))


@soft_threshold.variant(source="torch.nn.functional.softshrink, one kernel each way", grows=_SAVES_NOTHING)
def softshrink(y: Tensor, T: float) -> Tensor:
    return F.softshrink(y, T)


class _SoftThreshold(torch.autograd.Function):
    """Forward by softshrink; backward and forward mode by one boolean mask, an eighth of y in float64."""

    @staticmethod
    def forward(y: Tensor, T: float) -> Tensor:
        return F.softshrink(y, T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        mask = output != 0
        ctx.save_for_backward(mask)
        ctx.save_for_forward(mask)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return cotangent * mask, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (mask,) = ctx.saved_tensors
        return tangent * mask


@soft_threshold.variant(source="a custom autograd.Function that saves one boolean mask")
def custom_function(y: Tensor, T: float) -> Tensor:
    return _SoftThreshold.apply(y, T)


@soft_threshold.variant(
    source="torch's own forward and backward kernels, without a graph",
    computes="vjp",
    grows=_SAVES_NOTHING,
)
def both_kernels(y: Tensor, T: float, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    return F.softshrink(y, T), (torch.ops.aten.softshrink_backward(cotangent, y, T),)


@soft_threshold.variant(
    source="torch's own forward and backward kernels: a diagonal Jacobian is its own transpose", computes="jvp"
)
def both_kernels_forward(y: Tensor, T: float, tangent: Tensor) -> tuple[Tensor, Tensor]:
    return F.softshrink(y, T), torch.ops.aten.softshrink_backward(tangent, y, T)


@soft_threshold.variant(source="torch.func.vmap of grad_and_value of one entry", computes="vjp")
def func_vmap_grad(y: Tensor, T: float, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    slope, value = torch.func.vmap(torch.func.grad_and_value(partial(nested_where, T=T)))(y)
    return value, (slope * cotangent,)


def _compile(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
    # Without the reset a second size would compile to a kernel of dynamic shape, slower than the first.
    torch.compiler.reset()
    return torch.compile(function)


@soft_threshold.variant(
    source="torch.compile of nested_where",
    prepare=_compile,
    requires=("a C++ compiler",),
    operators=("vjp",),
    # Only its graph can be counted, and three sizes would be compiled for that.
    grows=(replace(BY_LENGTH, exponents={}),),
)
def compiled(y: Tensor, T: float) -> Tensor:
    return nested_where(y, T)


def _with_buffers(function: Callable[..., Any], y: Tensor, T: float, cotangent: Tensor) -> Callable[..., Any]:
    return partial(function, value=torch.empty_like(y), gradient=torch.empty_like(y))


@soft_threshold.variant(
    source="torch's own forward and backward kernels into buffers that are made once",
    computes="vjp",
    prepare=_with_buffers,
    grows=(BY_LENGTH.but(saved_bytes=0, peak_bytes=0),),
)
def preallocated(
    y: Tensor, T: float, cotangent: Tensor, *, value: Tensor, gradient: Tensor
) -> tuple[Tensor, tuple[Tensor]]:
    torch.ops.aten.softshrink.out(y, T, out=value)
    torch.ops.aten.softshrink_backward.grad_input(cotangent, y, T, grad_input=gradient)
    return value, (gradient,)


def _with_buffer(function: Callable[..., Any], y: Tensor, T: float) -> Callable[..., Any]:
    return partial(function, value=torch.empty_like(y))


@soft_threshold.variant(
    source="torch's own kernel into a buffer that is made once",
    operators=("primal",),
    prepare=_with_buffer,
)
def preallocated_value(y: Tensor, T: float, *, value: Tensor) -> Tensor:
    return torch.ops.aten.softshrink.out(y, T, out=value)
