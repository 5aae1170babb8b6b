"""dual_numbers: g∘g∘…∘g, k times, with g(x) = x cos x. Teaches that forward mode costs a multiple of the function.

A dual number x + ε x′ with ε² = 0 carries a value and its derivative along one direction through any program:

    (a + ε a′)(b + ε b′) = a b + ε (a′ b + a b′),    g(x + ε x′) = g(x) + ε g′(x) x′,

so that f(g(h(x + ε x′))) = f(g(h(x))) + ε f′(g(h(x))) g′(h(x)) h′(x) x′: the chain rule, applied as the values are
computed, with nothing kept. Reverse mode gives the same here, since each point is its own function of one variable,
but keeps k values a point for the way back.

Inputs are b points, shape (b,), each judged by itself. The fixed point 0 of g is neutral, g′(0) = 1, so that x falls
as k^(−1/2) and the derivative as k^(−3/2): neither is lost in a long chain, nor any of their digits.

Sources: ECE 046211 homework 1 (dual numbers); W. K. Clifford, Proc. LMS 4 (1873); W. Squire and G. Trapp, SIAM
Review 40 (1998) for the complex step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.functional import jvp as double_backward_jvp

from gradrace.autodiff import dual
from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.numerics import well_conditioned


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """0.2 ≤ |x| < 0.7, where g′ is between 0.3 and 1; it is 0 at 0.86."""
    b = size["b"]
    return {"x": rng.uniform(0.2, 0.7, b) * rng.choice([-1.0, 1.0], b), "k": size["k"]}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The value and the product of the k factors g′(x) = cos x − x sin x in extended precision: both (b,)."""
    x, tangent = numbers["x"].astype(np.longdouble), numbers["tangent_x"].astype(np.longdouble)
    for _ in range(numbers["k"]):
        x, tangent = x * np.cos(x), (np.cos(x) - x * np.sin(x)) * tangent
    return {"value": x, "tangent": tangent}


BY_LENGTH = Growth("k", (64, 128, 256), "jvp", {"ops": 1, "graph_nodes": 0, "saved_bytes": 0}, at=size(b=10))
"""A few operations for each link, and nothing is kept."""

_KEEPS_THE_CHAIN = (BY_LENGTH.but(graph_nodes=1, saved_bytes=1),)

dual_numbers = Family(
    name="dual_numbers",
    summary="a k-fold composition: forward mode costs a fixed multiple of the function, and keeps nothing",
    source="ECE 046211 homework 1, dual numbers",
    primals=("x",),
    constants=("k",),
    operators=("jvp",),
    sizes=(
        size("test", b=1, k=3),
        size("test", b=9, k=20),
        size("gate", b=1, k=50),
        size("bench", "cuda", b=4_000, k=20),
    ),
    draw=draw,
    baseline="forward_ad",
    reference={"jvp": reference},
    # κ = 1: the links are contractions, which forget the errors before them. Each of the k factors of the tangent
    # rounds a few times, at random: √k.
    condition=well_conditioned,
    depth=lambda size: 1 + np.sqrt(size["k"]),
    growth=(BY_LENGTH,),
)

Pushed = tuple[Tensor, Tensor]


def compose(x: Any, k: int, cos: Any = torch.cos) -> Any:
    """g∘…∘g of anything that can be multiplied, with the cosine that belongs to it."""
    for _ in range(k):
        x = x * cos(x)
    return x


_ON_FLOATS: Mapping[str, Any] = {
    "computes": "jvp",
    "unsupported": {"cuda": "computes on Python floats"},
    "limits": (Limit(lambda size: size["b"] * size["k"], 20_000, "a Python loop over the links of each point"),),
    "grows": (BY_LENGTH.but(ops=0),),  # of Python floats torch sees nothing
}


def _by_point(push: Callable[[float, float], tuple[float, float]], x: Tensor, tangent: Tensor) -> Pushed:
    """The value and the tangent of each point, by a function of Python floats."""
    results = [push(*point) for point in zip(x.tolist(), tangent.tolist(), strict=True)]
    values, tangents = zip(*results, strict=True)
    return x.new_tensor(values), x.new_tensor(tangents)


@dual_numbers.variant(source="a class of dual numbers on Python floats", **_ON_FLOATS)
def dual_floats(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    def push(x: float, tangent: float) -> tuple[float, float]:
        result = compose(dual.Dual(x, tangent), k, dual.cos)
        return result.value, result.tangent

    return _by_point(push, x, tangent)


@dual_numbers.variant(source="the same class on whole tensors", computes="jvp")
def dual_tensors(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    result = compose(dual.Dual(x, tangent), k, dual.cos)
    return result.value, result.tangent


@dual_numbers.variant(source="torch.autograd.forward_ad")
def forward_ad(x: Tensor, k: int) -> Tensor:
    return compose(x, k)


@dual_numbers.variant(source="torch.func.jvp", computes="jvp")
def func_jvp(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    value, pushed, *_ = torch.func.jvp(lambda x: compose(x, k), (x,), (tangent,))
    return value, pushed


STEP = 1e-20
"""The complex step h: h² is lost beside 1 even in float64, and h x′ is far from underflow even in float32."""


@dual_numbers.variant(source="the complex step Im g(x + i h x′) / h, a dual number whose ε² is −h²", computes="jvp")
def complex_step(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    moved = compose(torch.complex(x, STEP * tangent), k)
    return moved.real, moved.imag / STEP


@dual_numbers.variant(
    source="reverse mode: one pullback of ones, times the tangent", computes="jvp", grows=_KEEPS_THE_CHAIN
)
def reverse(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    leaf = x.detach().requires_grad_()
    value = compose(leaf, k)
    (slope,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
    return value.detach(), slope * tangent


@dual_numbers.variant(
    source="torch.autograd.functional.jvp: reverse mode twice, for any function", computes="jvp", grows=_KEEPS_THE_CHAIN
)
def double_backward(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    value, pushed = double_backward_jvp(lambda x: compose(x, k), x, tangent)
    return value, pushed


@dual_numbers.variant(source="∏ (cos x − x sin x) beside the values, in place, no graph", computes="jvp")
def chain_rule(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    x, tangent = x.clone(), tangent.clone()
    cos, sin = torch.empty_like(x), torch.empty_like(x)
    for _ in range(k):
        torch.cos(x, out=cos)
        torch.sin(x, out=sin)
        tangent.mul_(torch.addcmul(cos, x, sin, value=-1, out=sin))
        x.mul_(cos)
    return x, tangent


@dual_numbers.variant(source="∏ (cos x − x sin x) beside the values, on Python floats", **_ON_FLOATS)
def chain_rule_floats(x: Tensor, k: int, tangent: Tensor) -> Pushed:
    def push(x: float, tangent: float) -> tuple[float, float]:
        for _ in range(k):
            cos = math.cos(x)
            tangent *= cos - x * math.sin(x)
            x *= cos
        return x, tangent

    return _by_point(push, x, tangent)
