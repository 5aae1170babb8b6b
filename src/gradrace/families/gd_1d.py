"""gd_1d: k steps x ← x − η f′(x). Teaches what one step costs, where small ones stall, how to differentiate a descent.

    absolute, η = 0.05:    f(x) = |x| + (x − 5)²,      f′ = sgn x + 2 (x − 5),              f″ = 2
    cosine,   η = 0.001:   f(x) = x cos 4x + 2 |x|,    f′ = cos 4x − 4x sin 4x + 2 sgn x,   f″ = −8 sin 4x − 16x cos 4x

Inputs are b starts x_0, shape (b,); the value is their x_k, shape (b,). Each start has an orbit of its own, so the
derivative is a product, which forward mode accumulates beside the orbit and reverse mode gets from a stored orbit:

    dx_k/dx_0 = Π_{i<k} (1 − η f″(x_i)).

The first f has its orbit in closed form: x_i = c + (1 − 2η)^i (x_0 − c), with c = 4.5 on the right of 0 and c = 5.5 on
its left. A descent stalls where η |f′| is below half an ulp of x: the smaller the step, the further away.

Source: the numerical optimization notes of Z. Xu, gradient descent of one variable; W. Kahan, Commun. ACM 8 (1965) for
compensated sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families import endpoints
from gradrace.families.descent import fixed
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.numerics import measured

# ---- the two functions; their derivatives for any library that has cos, sin and sign ----


def absolute(x: Tensor) -> Tensor:
    return x.abs() + (x - 5) ** 2


def absolute_slope(lib: Any, x: Any) -> Any:
    return lib.sign(x) + 2 * (x - 5)


def absolute_slope_and_curvature(lib: Any, x: Any) -> tuple[Any, Any]:
    return absolute_slope(lib, x), 2.0


def absolute_in_place(x: Tensor, step: float, t: Tensor, s: Tensor) -> None:
    x.mul_(1 - 2 * step).sub_(torch.sign(x, out=s), alpha=step).add_(10 * step)


def absolute_in_place_with_product(x: Tensor, product: Tensor, step: float, t: Tensor, s: Tensor, *_: Tensor) -> None:
    absolute_in_place(x, step, t, s)
    product.mul_(1 - 2 * step)


def cosine(x: Tensor) -> Tensor:
    return x * torch.cos(4 * x) + 2 * x.abs()


def cosine_slope(lib: Any, x: Any) -> Any:
    t = 4 * x
    return lib.cos(t) - t * lib.sin(t) + 2 * lib.sign(x)


def cosine_slope_and_curvature(lib: Any, x: Any) -> tuple[Any, Any]:
    t = 4 * x
    cos, sin = lib.cos(t), lib.sin(t)
    return cos - t * sin + 2 * lib.sign(x), -8 * sin - 4 * t * cos


def cosine_in_place(x: Tensor, step: float, t: Tensor, s: Tensor) -> None:
    torch.mul(x, 4, out=t)
    torch.sin(t, out=s).mul_(t)
    t.cos_().sub_(s).add_(torch.sign(x, out=s), alpha=2)
    x.sub_(t, alpha=step)


def cosine_in_place_with_product(
    x: Tensor, product: Tensor, step: float, t: Tensor, s: Tensor, c: Tensor, bend: Tensor
) -> None:
    """x − η f′ and product (1 − η f″), where −f″ / 8 = sin t + t cos t / 2 with t = 4x."""
    torch.mul(x, 4, out=t)
    torch.sin(t, out=s)
    torch.cos(t, out=c)
    torch.addcmul(s, t, c, value=0.5, out=bend)
    product.addcmul_(product, bend, value=8 * step)
    c.addcmul_(t, s, value=-1).add_(torch.sign(x, out=s), alpha=2)
    x.sub_(c, alpha=step)


@dataclass(frozen=True)
class Objective:
    """f, f′, f′ with f″, a step in place with two buffers, one with 1 − η f″ multiplied into a product and four
    buffers; η, where starts are drawn, the degree of f′ beside 0, the global minimum.
    """

    function: Callable[[Tensor], Tensor]
    slope: Callable[[Any, Any], Any]
    slope_and_curvature: Callable[[Any, Any], tuple[Any, Any]]
    in_place: Callable[[Tensor, float, Tensor, Tensor], None]
    in_place_with_product: Callable[[Tensor, Tensor, float, Tensor, Tensor, Tensor, Tensor], None]
    step: float
    starts: tuple[float, float]
    degree: float
    minimum: float


OBJECTIVES: Mapping[str, Objective] = {
    "absolute": Objective(
        *(absolute, absolute_slope, absolute_slope_and_curvature, absolute_in_place, absolute_in_place_with_product),
        *(0.05, (-3.0, 10.0), 1, 4.5),
    ),
    "cosine": Objective(
        *(cosine, cosine_slope, cosine_slope_and_curvature, cosine_in_place, cosine_in_place_with_product),
        *(0.001, (-5.0, 5.0), math.inf, 0.0),
    ),
}

FLOATS = SimpleNamespace(cos=math.cos, sin=math.sin, sign=lambda x: (x > 0) - (x < 0))
"""What the derivatives need, of Python floats."""

# ---- inputs and reference ----

GAP = 0.02
"""No drawn orbit comes closer to the kink at 0, where one bit decides on which side it goes on."""


def descend(lib: Any, x: Any, f: str, step: Any, k: int) -> Any:
    """x_k, for any library."""
    slope = OBJECTIVES[f].slope
    for _ in range(k):
        x = x - step * slope(lib, x)
    return x


def descend_with_product(lib: Any, x: Any, f: str, step: Any, k: int) -> tuple[Any, Any]:
    """x_k and dx_k/dx_0, for any library: forward mode by hand."""
    slope_and_curvature, product = OBJECTIVES[f].slope_and_curvature, 1.0
    for _ in range(k):
        slope, curvature = slope_and_curvature(lib, x)
        x, product = x - step * slope, product * (1 - step * curvature)
    return x, product


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Of four times as many uniform starts, and forty, the first b whose orbits keep away from 0 and draw together.

    Where f″ < 0 neighbours drift apart, and every rounding error with them.
    """
    f, k = size["f"], size["k"]
    step = OBJECTIVES[f].step
    x = start = rng.uniform(*OBJECTIVES[f].starts, 4 * size["b"] + 40)
    convex = OBJECTIVES[f].slope_and_curvature(np, start)[1] > 1
    nearest = np.abs(x)
    for _ in range(k):
        x = descend(np, x, f, step, 1)
        nearest = np.minimum(nearest, np.abs(x))
    return {"x": start[convex & (nearest > GAP)][: size["b"]], "f": f, "step": step, "k": k}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The recursion and the product above in extended precision: (value (b,), x (b,))."""
    x, f, step, k = (numbers[name] for name in ("x", "f", "step", "k"))
    value, product = descend_with_product(np, x.astype(np.longdouble), f, np.longdouble(step), k)
    return {"value": value, "x": product * numbers.get("cotangent", np.ones_like(x))}


_LOOP = {"ops": 1.0, "graph_nodes": 0.0, "saved_bytes": 0.0, "graph_depth": 0.0}
BY_STEPS = Growth("k", (32, 64, 128), "vjp", _LOOP, at=size(f="cosine", b=10))
"""A Python loop of tensor operations."""

_UNROLLED = (BY_STEPS.but(graph_nodes=1, saved_bytes=1, graph_depth=1),)

gd_1d = Family(
    name="gd_1d",
    summary="k steps of gradient descent in one variable, and their derivative",
    source="numerical optimization notes, gradient descent of one variable",
    primals=("x",),
    constants=("f", "step", "k"),
    operators=("primal", "vjp"),
    sizes=(
        size("test", f="absolute", b=5, k=40),
        size("test", f="cosine", b=5, k=40),
        size("gate", f="absolute", b=1, k=50),
        size("bench", f="cosine", b=1000, k=50),
        size("large", "cuda", f="cosine", b=10_000, k=50),
    ),
    draw=draw,
    baseline={"primal": "autograd", "vjp": "unrolled"},
    reference={"primal": reference, "vjp": reference},
    condition=measured("x"),
    # κ stands for the rounding of x_0; each of the k steps rounds as well, and no two alike.
    depth=lambda size: math.sqrt(size["k"]),
    growth=(BY_STEPS,),
)

_PER_START: Mapping[str, Any] = {
    "unsupported": {"cuda": "computes on Python floats"},
    "limits": (Limit(lambda size: size["b"] * size["k"], 20_000, "a Python loop over the starts and the steps"),),
}

# ---- the descent ----


@gd_1d.variant(
    source="the notes' loop: Tensor.backward of one start at a time, the step in no_grad",
    operators=("primal",),
    limits=(Limit(lambda size: size["b"] * size["k"], 1000, "a graph for each step of each start"),),
)
def backward(x: Tensor, f: str, step: float, k: int) -> Tensor:
    function, found = OBJECTIVES[f].function, torch.empty_like(x)
    for i, start in enumerate(x):
        leaf = start.clone().requires_grad_()
        for _ in range(k):
            leaf.grad = None
            function(leaf).backward()
            with torch.no_grad():
                leaf -= step * leaf.grad
        found[i] = leaf.detach()
    return found


@gd_1d.variant(source="f′ on Python floats, one start at a time", operators=("primal",), **_PER_START)
def python_floats(x: Tensor, f: str, step: float, k: int) -> Tensor:
    return x.new_tensor([descend(FLOATS, start, f, step, k) for start in x.tolist()])


@gd_1d.variant(source="f′ on NumPy columns", operators=("primal",), **IN_NUMPY)
def numpy_columns(x: Tensor, f: str, step: float, k: int) -> Tensor:
    return torch.from_numpy(descend(np, x.numpy(), f, step, k))


@gd_1d.variant(source="torch.autograd.grad of all starts at once", operators=("primal",))
def autograd(x: Tensor, f: str, step: float, k: int) -> Tensor:
    function = OBJECTIVES[f].function
    for _ in range(k):
        leaf = x.detach().requires_grad_()
        x = x - step * torch.autograd.grad(function(leaf).sum(), leaf)[0]
    return x


@gd_1d.variant(source="torch.func.vmap of torch.func.grad", grows=_UNROLLED)
def func_vmap_grad(x: Tensor, f: str, step: float, k: int) -> Tensor:
    slope = torch.func.vmap(torch.func.grad(OBJECTIVES[f].function))
    for _ in range(k):
        x = x - step * slope(x)
    return x


@gd_1d.variant(source="f′ in closed form on all starts at once", grows=_UNROLLED)
def closed_slope(x: Tensor, f: str, step: float, k: int) -> Tensor:
    return descend(torch, x, f, step, k)


@gd_1d.variant(source="f′ in closed form, in place by two buffers", operators=("primal",))
def in_place(x: Tensor, f: str, step: float, k: int) -> Tensor:
    move, x = OBJECTIVES[f].in_place, x.clone()
    t, s = torch.empty_like(x), torch.empty_like(x)
    for _ in range(k):
        move(x, step, t, s)
    return x


@gd_1d.variant(source="x with Kahan's compensation, which carries what a step is rounded by", operators=("primal",))
def compensated(x: Tensor, f: str, step: float, k: int) -> Tensor:
    slope, carried = OBJECTIVES[f].slope, torch.zeros_like(x)
    for _ in range(k):
        change = -step * slope(torch, x) - carried
        moved = x + change
        carried = (moved - x) - change
        x = moved
    return x


@gd_1d.variant(
    source="the orbit in closed form: on the left of 0 to its first point on the right, and on; 0 counts as right",
    limits=(Limit(lambda size: OBJECTIVES[size["f"]].degree, 1, "only a linear f′ has an orbit in closed form"),),
    grows=(replace(BY_STEPS.but(ops=0), at=size(f="absolute", b=10)),),
)
def closed_orbit(x: Tensor, f: str, step: float, k: int) -> Tensor:
    rate = 1 - 2 * step
    # x_i = 5.5 + rate^i (x − 5.5) has left the negative side once rate^i is below 5.5 / (5.5 − x).
    left = (torch.log(5.5 / (5.5 - x.clamp(max=0))) / math.log(rate)).ceil().clamp(max=k)
    crossed = 5.5 + rate**left * (x - 5.5)
    return torch.where(left < k, 4.5 + rate ** (k - left) * (crossed - 4.5), crossed)


# ---- where it ends ----

DESCENTS = (
    *(backward, python_floats, numpy_columns, autograd, func_vmap_grad, closed_slope, in_place, compensated),
    closed_orbit,
)

CLOSE = 0.01
"""At the kink 0 a descent by 0.001 swings by up to 0.003 for ever; the valleys are 1.5 apart."""


def landscape(f: str) -> endpoints.Landscape:
    """Of points x (b,): distance is that from the global minimum, f is the residual."""
    objective = OBJECTIVES[f]

    def distance(x: Tensor) -> Tensor:
        return (x - objective.minimum).abs()

    def curvature(x: Tensor) -> Tensor:
        # Of a parabola it is a number.
        return torch.as_tensor(objective.slope_and_curvature(torch, x)[1], dtype=x.dtype).expand(x.shape)

    return endpoints.Landscape(
        residual=objective.function,
        distance=distance,
        critical=endpoints.by_newton_step(
            lambda x: objective.slope(torch, x)[:, None], lambda x: curvature(x)[:, None, None], distance
        ),
        far=1e3,
    )


def race(
    starts: Tensor, f: str, k: int, step: float | None = None, names: tuple[str, ...] | None = None
) -> list[endpoints.Row]:
    """How the descents fare from these starts (b,) by k steps, of the notes' size where none is given: one row each.

    Those are left out that cannot descend on this f.
    """
    objective = OBJECTIVES[f]
    able = [each for each in DESCENTS if each is not closed_orbit or objective.degree <= 1]
    found = {
        each.__name__: fixed(each(starts, f, objective.step if step is None else step, k), k, len(starts))
        for each in able
        if names is None or each.__name__ in names
    }
    return endpoints.tabulate(landscape(f), found, CLOSE)


# ---- its derivative ----


@gd_1d.variant(
    source="autograd through steps that are autograd's own: create_graph",
    operators=("vjp",),
    grows=_UNROLLED,
)
def unrolled(x: Tensor, f: str, step: float, k: int) -> Tensor:
    function = OBJECTIVES[f].function
    for _ in range(k):
        x = x - step * torch.autograd.grad(function(x).sum(), x, create_graph=True)[0]
    return x


@gd_1d.variant(source="the product of 1 − η f″ beside the orbit, nothing stored", computes="vjp")
def product(x: Tensor, f: str, step: float, k: int, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    value, derivative = descend_with_product(torch, x, f, step, k)
    return value, (cotangent * derivative,)


@gd_1d.variant(source="the same product and the orbit in place, by four buffers", computes="vjp")
def product_in_place(x: Tensor, f: str, step: float, k: int, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    move, x, derivative = OBJECTIVES[f].in_place_with_product, x.clone(), cotangent.clone()
    buffers = [torch.empty_like(x) for _ in range(4)]
    for _ in range(k):
        move(x, derivative, step, *buffers)
    return x, (derivative,)


@gd_1d.variant(source="the same product on Python floats", computes="vjp", grows=(BY_STEPS.but(ops=0),), **_PER_START)
def python_product(x: Tensor, f: str, step: float, k: int, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    results = [descend_with_product(FLOATS, start, f, step, k) for start in x.tolist()]
    value, derivative = x.new_tensor(results).unbind(1)
    return value, (cotangent * derivative,)


@gd_1d.variant(source="torch.autograd.forward_ad: a diagonal Jacobian is its own transpose", computes="vjp")
def forward_mode(x: Tensor, f: str, step: float, k: int, cotangent: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    with forward_ad.dual_level():
        value, tangent = forward_ad.unpack_dual(descend(torch, forward_ad.make_dual(x, cotangent), f, step, k))
    return value, (tangent,)


@gd_1d.variant(
    source="autograd through steps whose gradient is a number without a graph, as a step in no_grad leaves it",
    operators=("vjp",),
    grows=(BY_STEPS.but(graph_nodes=1, graph_depth=1),),
    expected={"x": ("disagree", "each step counts as a shift, so that dx_k/dx_0 comes out as 1")},
)
def first_order(x: Tensor, f: str, step: float, k: int) -> Tensor:
    slope = OBJECTIVES[f].slope
    for _ in range(k):
        x = x - step * slope(torch, x.detach())
    return x
