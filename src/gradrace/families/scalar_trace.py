"""scalar_trace: four scalar functions by every mode. Teaches that for a few scalars the graph costs, not the calculus.

    s1(w1, w2)     = (sin(2π w1/w2) + 3 w1/w2 − e^(2 w2)) (3 w1/w2 − e^(2 w2))
    s2(x1, x2, x3) = (x1 x2 sin x3 + e^(x1 x2)) / x3
    s3(x)          = e^c + sin c  with  c = e^x + e^(2x)
    s4(x1, x2)     = ln x1 + x1 x2 − sin x2

Each is written once, for any library that has exp, log, sin and cos: math, torch, numpy, dual numbers, the tape.
Inputs are b points of k coordinates, shape (b, k); the value is the sum over the points, the gradient is (b, k).

Sources: CSE 547 assignment 1 (s1), CSCI 5980 homework 2 (s2), ECE 046211 homework 1 (s3), the numerical
optimization notes of Z. Xu (s4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradrace.autodiff import dual, tape
from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.numerics import measured


def s1(lib: Any, w1: Any, w2: Any) -> Any:
    ratio = w1 / w2
    right = 3 * ratio - lib.exp(2 * w2)
    return (lib.sin(2 * math.pi * ratio) + right) * right


def s2(lib: Any, x1: Any, x2: Any, x3: Any) -> Any:
    product = x1 * x2
    return (product * lib.sin(x3) + lib.exp(product)) / x3


def s3(lib: Any, x: Any) -> Any:
    c = lib.exp(x) + lib.exp(2 * x)
    return lib.exp(c) + lib.sin(c)


def s4(lib: Any, x1: Any, x2: Any) -> Any:
    return lib.log(x1) + x1 * x2 - lib.sin(x2)


FUNCTIONS: Mapping[str, Callable[..., Any]] = {"s1": s1, "s2": s2, "s3": s3, "s4": s4}

BOXES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "s1": ((0.5, 3.0), (0.5, 2.0)),
    "s2": ((0.5, 2.0), (0.5, 2.0), (0.5, 3.0)),
    "s3": ((-1.0, 1.5),),
    "s4": ((0.5, 5.0), (0.5, 5.0)),
}
"""Where points are drawn: each coordinate's interval."""


# ---- the traces by hand: every v_i once forward; with its dot v_i, or its bar v_i on the way back ----


def forward_s1(lib: Any, w1: Any, w2: Any, d1: Any, d2: Any) -> tuple[Any, Any]:
    z1, dz1 = w1 / w2, (d1 - w1 / w2 * d2) / w2
    z2, dz2 = lib.sin(2 * math.pi * z1), 2 * math.pi * lib.cos(2 * math.pi * z1) * dz1
    z3 = lib.exp(2 * w2)
    dz3 = 2 * z3 * d2
    z4, dz4 = 3 * z1 - z3, 3 * dz1 - dz3
    z5, dz5 = z2 + z4, dz2 + dz4
    return z5 * z4, z5 * dz4 + z4 * dz5


def reverse_s1(lib: Any, w1: Any, w2: Any) -> tuple[Any, tuple[Any, ...]]:
    z1 = w1 / w2
    z3 = lib.exp(2 * w2)
    z4 = 3 * z1 - z3
    z5 = lib.sin(2 * math.pi * z1) + z4
    bar4 = z4 + z5
    bar1 = 2 * math.pi * lib.cos(2 * math.pi * z1) * z4 + 3 * bar4
    bar_w1 = bar1 / w2
    return z5 * z4, (bar_w1, -z1 * bar_w1 - 2 * z3 * bar4)


def forward_s2(lib: Any, x1: Any, x2: Any, x3: Any, d1: Any, d2: Any, d3: Any) -> tuple[Any, Any]:
    v1, dv1 = x1 * x2, d1 * x2 + x1 * d2
    v2, dv2 = lib.sin(x3), lib.cos(x3) * d3
    v4 = lib.exp(v1)
    v5, dv5 = v1 * v2 + v4, dv1 * v2 + v1 * dv2 + v4 * dv1
    v7 = v5 / x3
    return v7, (dv5 - v7 * d3) / x3


def reverse_s2(lib: Any, x1: Any, x2: Any, x3: Any) -> tuple[Any, tuple[Any, ...]]:
    v1, v2 = x1 * x2, lib.sin(x3)
    v4 = lib.exp(v1)
    v7 = (v1 * v2 + v4) / x3
    bar5 = 1 / x3
    bar1 = (v2 + v4) * bar5
    return v7, (x2 * bar1, x1 * bar1, v1 * bar5 * lib.cos(x3) - v7 * bar5)


def forward_s3(lib: Any, x: Any, dx: Any) -> tuple[Any, Any]:
    a = lib.exp(x)
    b = a * a
    c, dc = a + b, (a + 2 * b) * dx
    d = lib.exp(c)
    return d + lib.sin(c), (d + lib.cos(c)) * dc


def reverse_s3(lib: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    a = lib.exp(x)
    c = a + a * a
    d = lib.exp(c)
    bar_c = d + lib.cos(c)
    return d + lib.sin(c), ((bar_c + 2 * a * bar_c) * a,)


def forward_s4(lib: Any, x1: Any, x2: Any, d1: Any, d2: Any) -> tuple[Any, Any]:
    return lib.log(x1) + x1 * x2 - lib.sin(x2), d1 / x1 + d1 * x2 + x1 * d2 - lib.cos(x2) * d2


def reverse_s4(lib: Any, x1: Any, x2: Any) -> tuple[Any, tuple[Any, ...]]:
    return lib.log(x1) + x1 * x2 - lib.sin(x2), (1 / x1 + x2, x1 - lib.cos(x2))


FORWARD: Mapping[str, Callable[..., Any]] = {"s1": forward_s1, "s2": forward_s2, "s3": forward_s3, "s4": forward_s4}
REVERSE: Mapping[str, Callable[..., Any]] = {"s1": reverse_s1, "s2": reverse_s2, "s3": reverse_s3, "s4": reverse_s4}


# ---- the family ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    low, high = np.array(BOXES[size["f"]]).T
    return {"x": rng.uniform(low, high, size=(size["b"], low.size)), "f": size["f"]}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """Value and gradient by the complex step Im f(x + i h e_j) / h with h = 1e-100, exact to rounding.

    Source: W. Squire and G. Trapp, SIAM Review 40 (1998).
    """
    x, function, step = numbers["x"], FUNCTIONS[numbers["f"]], 1e-100
    columns = [x[:, j].astype(np.clongdouble) for j in range(x.shape[1])]
    gradient = []
    for j in range(x.shape[1]):
        moved = [column + 1j * step * (i == j) for i, column in enumerate(columns)]
        gradient.append(function(np, *moved).imag / step)
    return {"value": function(np, *columns).real.sum(), "x": np.stack(gradient, axis=1)}


BY_POINTS = Growth(
    "b",
    (250, 500, 1000),
    "value_and_gradient",
    {"ops": 0, "flops": 0, "graph_nodes": 0, "saved_bytes": 0},
    at=size(f="s1"),
)
"""Operations on whole columns, or Python floats, of which torch sees nothing."""

_KEEPS_COLUMNS = (BY_POINTS.but(saved_bytes=1),)

scalar_trace = Family(
    name="scalar_trace",
    summary="four scalar functions by every mode: for a few scalars the graph costs, not the calculus",
    source="CSE 547 A1, CSCI 5980 HW2, ECE 046211 HW1, numerical optimization notes",
    primals=("x",),
    constants=("f",),
    operators=("value_and_gradient",),
    sizes=(
        *(size("test", "bench", "gate", f=f, b=1) for f in ("s1", "s4")),
        *(size("test", f=f, b=1) for f in ("s2", "s3")),
        *(size("test", f=f, b=9) for f in FUNCTIONS),
        size("bench", f="s1", b=10_000),
        size("large", "cuda", f="s1", b=100_000),
    ),
    draw=draw,
    baseline="autograd",
    reference={"value_and_gradient": reference},
    condition=measured("x"),
    # κ moves the inputs alone, while each of the few intermediate values rounds as well: twice that, measured over
    # twenty draws. The sum over the points is pairwise.
    depth=lambda size: 2 + math.log2(size["b"]) / 4,
    objective=lambda value, *_: value.sum(),
    growth=(BY_POINTS,),
)

_PER_POINT = (Limit(lambda size: size["b"], 10_000, "a Python loop over the points"),)
_CPU_ONLY = {"cuda": "computes on Python floats"}

Result = tuple[Tensor, tuple[Tensor]]


NUMPY_DTYPES = {torch.float64: np.float64, torch.float32: np.float32}


def _by_point(differentiate: Callable[..., tuple[float, Sequence[float]]], x: Tensor) -> Result:
    """Run a differentiation of Python floats point by point."""
    results = [differentiate(*point) for point in x.tolist()]
    value, gradient = math.fsum([value for value, _ in results]), [gradient for _, gradient in results]
    # Of a few numbers NumPy makes an array, which torch then takes, in a third of the time of torch.tensor.
    dtype = NUMPY_DTYPES[x.dtype]
    return torch.from_numpy(np.array(value, dtype)), (torch.from_numpy(np.array(gradient, dtype)),)


_SCALAR: Mapping[str, Any] = {
    "computes": "value_and_gradient",
    "unsupported": _CPU_ONLY,
    "limits": _PER_POINT,
}


@scalar_trace.variant(source="dual numbers, one pass for each coordinate", **_SCALAR)
def dual_numbers(x: Tensor, f: str) -> Result:
    return _by_point(lambda *point: dual.value_and_gradient(lambda *v: FUNCTIONS[f](dual, *v), point), x)


@scalar_trace.variant(source="a tape, one pass forward and one sweep back", **_SCALAR)
def taped(x: Tensor, f: str) -> Result:
    return _by_point(lambda *point: tape.value_and_gradient(lambda *v: FUNCTIONS[f](tape, *v), point), x)


@scalar_trace.variant(source="the forward trace by hand, on Python floats", **_SCALAR)
def forward_trace(x: Tensor, f: str) -> Result:
    trace, k = FORWARD[f], x.shape[1]
    directions = [[float(i == j) for i in range(k)] for j in range(k)]

    def differentiate(*point: float) -> tuple[float, Sequence[float]]:
        passes = [trace(math, *point, *direction) for direction in directions]
        return passes[0][0], [dot for _, dot in passes]

    return _by_point(differentiate, x)


@scalar_trace.variant(source="the reverse trace by hand, on Python floats", **_SCALAR)
def reverse_trace(x: Tensor, f: str) -> Result:
    return _by_point(partial(REVERSE[f], math), x)


@scalar_trace.variant(source="the reverse trace by hand, on whole columns", computes="value_and_gradient")
def reverse_trace_vectorised(x: Tensor, f: str) -> Result:
    value, gradient = REVERSE[f](torch, *x.unbind(1))
    return value.sum(), (torch.stack(gradient, dim=1),)


@scalar_trace.variant(source="torch.autograd.grad of the function on whole columns", grows=_KEEPS_COLUMNS)
def autograd(x: Tensor, f: str) -> Tensor:
    return FUNCTIONS[f](torch, *x.unbind(1))


@scalar_trace.variant(
    source="Tensor.backward, the gradient read from the leaf", computes="value_and_gradient", grows=_KEEPS_COLUMNS
)
def backward(x: Tensor, f: str) -> Result:
    leaf = x.detach().requires_grad_()
    value = FUNCTIONS[f](torch, *leaf.unbind(1)).sum()
    value.backward()
    assert leaf.grad is not None
    return value.detach(), (leaf.grad,)


@scalar_trace.variant(source="torch.func.grad_and_value", computes="value_and_gradient", grows=_KEEPS_COLUMNS)
def func_grad(x: Tensor, f: str) -> Result:
    gradient, value = torch.func.grad_and_value(lambda x: FUNCTIONS[f](torch, *x.unbind(1)).sum())(x)
    return value, (gradient,)


@scalar_trace.variant(
    source="torch.func.vmap of grad_and_value over the points", computes="value_and_gradient", grows=_KEEPS_COLUMNS
)
def func_vmap_grad(x: Tensor, f: str) -> Result:
    point = torch.func.grad_and_value(lambda v: FUNCTIONS[f](torch, *v.unbind(0)))
    gradient, value = torch.func.vmap(point)(x)
    return value.sum(), (gradient,)


@scalar_trace.variant(source="torch.func.jvp, one pass for each coordinate", computes="value_and_gradient")
def func_jvp(x: Tensor, f: str) -> Result:
    columns = x.unbind(1)
    ones, zeros = torch.ones_like(columns[0]), torch.zeros_like(columns[0])
    gradient = []
    for j in range(len(columns)):
        direction = tuple(ones if i == j else zeros for i in range(len(columns)))
        value, dot, *_ = torch.func.jvp(lambda *v: FUNCTIONS[f](torch, *v), columns, direction)
        gradient.append(dot)
    return value.sum(), (torch.stack(gradient, dim=1),)


@scalar_trace.variant(source="torch.autograd.forward_ad, one pass for each coordinate", computes="value_and_gradient")
def forward_mode(x: Tensor, f: str) -> Result:
    columns = x.unbind(1)
    ones = torch.ones_like(columns[0])
    gradient = []
    for j in range(len(columns)):
        with forward_ad.dual_level():
            v = [forward_ad.make_dual(column, ones) if i == j else column for i, column in enumerate(columns)]
            value, dot = forward_ad.unpack_dual(FUNCTIONS[f](torch, *v))
        gradient.append(dot)
    return value.sum(), (torch.stack(gradient, dim=1),)


COMPLEX_STEP = 1e-20
"""h² is lost beside any intermediate value even in float64, and h far from underflow even in float32."""


def _by_columns(x: Tensor, f: str, partial: Callable[[Sequence[Tensor], int], Tensor]) -> Result:
    """Value and gradient from a function (columns, j) -> ∂f/∂x_j."""
    columns = x.unbind(1)
    gradient = [partial(columns, j) for j in range(len(columns))]
    return FUNCTIONS[f](torch, *columns).sum(), (torch.stack(gradient, dim=1),)


@scalar_trace.variant(source="the complex step Im f(x + i h e_j) / h", computes="value_and_gradient")
def complex_step(x: Tensor, f: str) -> Result:
    def partial(columns: Sequence[Tensor], j: int) -> Tensor:
        v = [column + 1j * COMPLEX_STEP * (i == j) for i, column in enumerate(columns)]
        return FUNCTIONS[f](torch, *v).imag / COMPLEX_STEP

    return _by_columns(x, f, partial)


@scalar_trace.variant(
    source="the central difference (f(x + h e_j) − f(x − h e_j)) / 2h, h the cube root of the machine epsilon",
    computes="value_and_gradient",
    dtypes=("float64",),
    expected={"x": ("disagree", "the best step leaves an error of ε^(2/3) = 4e-11: a third of the digits is lost")},
)
def central_difference(x: Tensor, f: str) -> Result:
    h = torch.finfo(x.dtype).eps ** (1 / 3)

    def partial(columns: Sequence[Tensor], j: int) -> Tensor:
        ahead, behind = ([c + s * h * (i == j) for i, c in enumerate(columns)] for s in (1, -1))
        return (FUNCTIONS[f](torch, *ahead) - FUNCTIONS[f](torch, *behind)) / (2 * h)

    return _by_columns(x, f, partial)
