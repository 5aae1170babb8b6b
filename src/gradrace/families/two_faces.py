"""two_faces: max(x, 0), |x|, 2x and 2x + sign x, elementwise. Teaches that AD differentiates programs, not functions.

Away from 0 the formulations of each function agree in value and derivative. At 0 they part, even for the
differentiable 2x; the ledger of `gradrace kinks` records what each one answers there.

Sources: CSE 547 assignment 1, problem 4 (its Listings 1 to 3; the first branch of its eq (4) is 2x − 1, where it
prints "2x, −1"); S. Kakade and J. Lee, NeurIPS 2018; W. Lee, H. Yu, X. Rival and H. Yang, NeurIPS 2020
(arXiv 2006.06903).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Kink, Limit, Numbers, Reference, Size, size
from gradrace.families.numerics import well_conditioned

GAP, REACH = 0.01, 5.0
"""Drawn |x| lie between: away from the kink at 0, and below 6, where relu6 has another one."""


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Both signs, and always at least one entry of each."""
    x = rng.uniform(GAP, REACH, size=size["n"]) * rng.choice([-1.0, 1.0], size=size["n"])
    x[0], x[1] = abs(x[0]), -abs(x[1])
    return {"x": x}


Elementwise = Callable[[np.ndarray], np.ndarray]


def _references(value: Elementwise, slope: Elementwise) -> dict[str, Reference]:
    def vjp(numbers: Numbers) -> dict[str, Any]:
        x = numbers["x"]
        return {"value": value(x), "x": slope(x) * numbers["cotangent"]}

    def jvp(numbers: Numbers) -> dict[str, Any]:
        x = numbers["x"]
        return {"value": value(x), "tangent": slope(x) * numbers["tangent_x"]}

    return {"vjp": vjp, "jvp": jvp}


def _family(
    name: str, summary: str, *, value: Elementwise, slope: Elementwise, zero: Kink, baseline: str, depth: float
) -> Family:
    """A family of one function of the line, given by its value and its slope away from 0 and by what holds at 0."""
    return Family(
        name=name,
        summary=summary,
        source="CSE 547 assignment 1, problem 4",
        primals=("x",),
        operators=("vjp", "jvp"),
        sizes=(size("test", n=9), size("bench", "cuda", n=1000, operators=("vjp",))),
        draw=draw,
        baseline=baseline,
        reference=_references(value, slope),
        # κ = 1: each function is made of straight lines, and errors are in units of the largest entry.
        condition=well_conditioned,
        depth=depth,
        kinks=(zero, Kink("nan", math.nan, allowed=None, value=math.nan)),
    )


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros_like(x)


Pulled = tuple[Tensor, tuple[Tensor]]


# ---- max(x, 0) ----

two_faces_relu = _family(
    "two_faces_relu",
    "max(x, 0) in many formulations: at 0 they answer 0, ½, 1 and NaN",
    value=lambda x: np.maximum(x, 0),
    slope=lambda x: (x > 0).astype(np.float64),
    zero=Kink("zero", 0.0, allowed=(0.0, 1.0), value=0.0),
    baseline="relu",
    # (x + √x²)/2 rounds thrice each way: the square, the root, the sum; the square, the quotient, the sum.
    depth=3,
)


@two_faces_relu.variant(source="torch.nn.functional.relu")
def relu(x: Tensor) -> Tensor:
    return F.relu(x)


@two_faces_relu.variant(source="Tensor.clamp with a scalar bound; its gradient at the bound is 1 before torch 2.14")
def clamp(x: Tensor) -> Tensor:
    return x.clamp(min=0)


@two_faces_relu.variant(source="torch.clamp_min, a kernel of its own")
def clamp_min(x: Tensor) -> Tensor:
    return torch.clamp_min(x, 0.0)


@two_faces_relu.variant(source="torch.maximum, which halves the cotangent at a tie")
def maximum(x: Tensor) -> Tensor:
    return torch.maximum(x, _zeros(x))


@two_faces_relu.variant(source="torch.max of two tensors")
def max_of_two(x: Tensor) -> Tensor:
    return torch.max(x, _zeros(x))


@two_faces_relu.variant(source="torch.fmax, which passes over NaN")
def fmax(x: Tensor) -> Tensor:
    return torch.fmax(x, _zeros(x))


@two_faces_relu.variant(source="torch.fmax with the arguments swapped")
def fmax_zero_first(x: Tensor) -> Tensor:
    return torch.fmax(_zeros(x), x)


@two_faces_relu.variant(
    source="Tensor.max() over each pair (x, 0), a full reduction that halves the cotangent at a tie",
    limits=(Limit(lambda size: size["n"], 10_000, "one Python step and three graph nodes an element"),),
)
def stack_max(x: Tensor) -> Tensor:
    return torch.stack([torch.stack([v, torch.zeros_like(v)]).max() for v in x.unbind()])


@two_faces_relu.variant(source="the same full reduction under torch.func.vmap, which rewrites it as one along an axis")
def stack_max_vmap(x: Tensor) -> Tensor:
    return torch.func.vmap(lambda v: torch.stack([v, torch.zeros_like(v)]).max())(x)


@two_faces_relu.variant(source="torch.amax over the pairs (x, 0)")
def stack_amax(x: Tensor) -> Tensor:
    return torch.stack([x, _zeros(x)]).amax(0)


@two_faces_relu.variant(source="torch.max along an axis, which gives a tie to the first index: x")
def stack_max_axis(x: Tensor) -> Tensor:
    return torch.stack([x, _zeros(x)]).max(0).values


@two_faces_relu.variant(source="torch.max along an axis with 0 first")
def stack_zero_first(x: Tensor) -> Tensor:
    return torch.stack([_zeros(x), x]).max(0).values


@two_faces_relu.variant(source="torch.where as the definition is read, 0 in the arm of 0")
def where_gt(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.0)


@two_faces_relu.variant(source="torch.where with x in the arm of 0")
def where_ge(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, 0.0)


@two_faces_relu.variant(source="a mask multiplied in; 0 · ∞ makes it NaN at −∞")
def mask(x: Tensor) -> Tensor:
    return x * (x > 0)


@two_faces_relu.variant(source="the mean of x and |x|")
def mean_with_abs(x: Tensor) -> Tensor:
    return (x + x.abs()) / 2


@two_faces_relu.variant(source="relu(−x) + x = max(x, 0)")
def reflected_relu(x: Tensor) -> Tensor:
    return F.relu(-x) + x


@two_faces_relu.variant(source="the mean of x and √x²; the root has no derivative at 0")
def mean_with_root(x: Tensor) -> Tensor:
    return (x + torch.sqrt(x**2)) / 2


@two_faces_relu.variant(source="x (sign x + 1) / 2")
def sign_plus_one(x: Tensor) -> Tensor:
    return x * (torch.sign(x) + 1) / 2


@two_faces_relu.variant(source="torch.nn.functional.threshold")
def threshold(x: Tensor) -> Tensor:
    return F.threshold(x, 0.0, 0.0)


@two_faces_relu.variant(source="torch.nn.functional.leaky_relu of slope 0")
def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.0)


@two_faces_relu.variant(source="torch.nn.functional.hardtanh onto [0, 6]")
def hardtanh(x: Tensor) -> Tensor:
    return F.hardtanh(x, 0.0, 6.0)


@two_faces_relu.variant(source="torch.nn.functional.relu6, equal below 6")
def relu6(x: Tensor) -> Tensor:
    return F.relu6(x)


@two_faces_relu.variant(source="torch.nn.functional.softplus with β = 1e9: smooth, and ln 2 / β above max(x, 0) at 0")
def softplus(x: Tensor) -> Tensor:
    return F.softplus(x, beta=1e9)


@two_faces_relu.variant(source="torch.nn.functional.elu with α = 0")
def elu(x: Tensor) -> Tensor:
    return F.elu(x, alpha=0.0)


@two_faces_relu.variant(source="the cotangent where max(x, 0) > 0, by torch's own kernel, no graph", computes="vjp")
def closed_form(x: Tensor, cotangent: Tensor) -> Pulled:
    value = torch.relu(x)
    return value, (torch.ops.aten.threshold_backward(cotangent, value, 0),)


# ---- |x| ----

two_faces_abs = _family(
    "two_faces_abs",
    "|x| in many formulations: at 0 they answer −1, 0, 1 and NaN",
    value=np.abs,
    slope=np.sign,
    zero=Kink("zero", 0.0, allowed=(-1.0, 1.0), value=0.0),
    baseline="absolute",
    # √x² rounds twice on the way to the value, and x / √x² thrice on the way to the slope.
    depth=3,
)


@two_faces_abs.variant(source="torch.abs")
def absolute(x: Tensor) -> Tensor:
    return x.abs()


@two_faces_abs.variant(source="√x², as textbooks define it")
def root_of_square(x: Tensor) -> Tensor:
    return torch.sqrt(x**2)


@two_faces_abs.variant(source="Tensor.norm of one entry, which has a rule of its own at 0")
def norm(x: Tensor) -> Tensor:
    return x.unsqueeze(-1).norm(dim=-1)


@two_faces_abs.variant(source="torch.linalg.vector_norm of one entry")
def vector_norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x.unsqueeze(-1), dim=-1)


@two_faces_abs.variant(source="max(x, −x)")
def maximum_of_signs(x: Tensor) -> Tensor:
    return torch.maximum(x, -x)


@two_faces_abs.variant(source="the positive and the negative part")
def relu_plus_relu(x: Tensor) -> Tensor:
    return F.relu(x) + F.relu(-x)


@two_faces_abs.variant(source="x sign x")
def times_sign(x: Tensor) -> Tensor:
    return x * torch.sign(x)


@two_faces_abs.variant(source="torch.where with x in the arm of 0", name="where_ge")
def abs_where_ge(x: Tensor) -> Tensor:
    return torch.where(x >= 0, x, -x)


@two_faces_abs.variant(source="torch.where with −x in the arm of 0", name="where_gt")
def abs_where_gt(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, -x)


@two_faces_abs.variant(source="clamp(x, min=0) − clamp(x, max=0)")
def clamp_minus_clamp(x: Tensor) -> Tensor:
    return x.clamp(min=0) - x.clamp(max=0)


@two_faces_abs.variant(source="torch.hypot(x, 0), whose derivative x / √x² is 0/0 at 0")
def hypot(x: Tensor) -> Tensor:
    return torch.hypot(x, _zeros(x))


@two_faces_abs.variant(source="torch.copysign with a positive sign")
def copysign(x: Tensor) -> Tensor:
    return torch.copysign(x, torch.ones_like(x))


@two_faces_abs.variant(source="the cotangent times sign x, no graph", computes="vjp", name="closed_form")
def abs_closed_form(x: Tensor, cotangent: Tensor) -> Pulled:
    return x.abs(), (cotangent * torch.sign(x),)


# ---- 2x, which is differentiable ----

two_faces_twice = _family(
    "two_faces_twice",
    "2x, differentiable, in formulations that answer −3, 0, 1, 2, 4 and NaN at 0",
    value=lambda x: 2 * x,
    slope=lambda x: np.full_like(x, 2.0),
    zero=Kink("zero", 0.0, allowed=(2.0, 2.0), value=0.0),
    baseline="twice",
    # The slope of 2x³/x² is 6 − 4, each term of four roundings: an error of (6 + 4) · 4 u beside a slope of 2.
    depth=20,
)


@two_faces_twice.variant(source="as anyone writes it (Listing 3, g)")
def twice(x: Tensor) -> Tensor:
    return 2 * x


@two_faces_twice.variant(source="sign² taken for 1, which it is not at 0 (Listing 3, f)")
def sign_squared(x: Tensor) -> Tensor:
    return 2 * x * torch.sign(x) * torch.sign(x)


@two_faces_twice.variant(source="2 |x| sign x")
def abs_sign(x: Tensor) -> Tensor:
    return 2 * x.abs() * torch.sign(x)


@two_faces_twice.variant(source="the positive part minus the negative part")
def relu_minus_relu(x: Tensor) -> Tensor:
    return 2 * (F.relu(x) - F.relu(-x))


@two_faces_twice.variant(source="the positive and the negative part by clamp")
def clamp_plus_clamp(x: Tensor) -> Tensor:
    return 2 * (x.clamp(min=0) + x.clamp(max=0))


@two_faces_twice.variant(source="max(x, 0) + min(x, 0), doubled")
def max_plus_min(x: Tensor) -> Tensor:
    return 2 * (torch.maximum(x, _zeros(x)) + torch.minimum(x, _zeros(x)))


@two_faces_twice.variant(source="x + |x| sign x")
def plus_abs_sign(x: Tensor) -> Tensor:
    return x + x.abs() * torch.sign(x)


@two_faces_twice.variant(source="any slope one likes in an arm that only 0 takes")
def where_elsewhere(x: Tensor) -> Tensor:
    return torch.where(x != 0, 2 * x, -3 * x)


@two_faces_twice.variant(source="2x³/x²; at 0 it is 0/0")
def cubic_over_square(x: Tensor) -> Tensor:
    return 2 * x**3 / x**2


@two_faces_twice.variant(source="x + max(x, 0) − max(−x, 0)")
def plus_relus(x: Tensor) -> Tensor:
    return x + F.relu(x) - F.relu(-x)


@two_faces_twice.variant(source="value and cotangent doubled by a sum, no graph", computes="vjp", name="closed_form")
def twice_closed_form(x: Tensor, cotangent: Tensor) -> Pulled:
    # A factor of 2 would be made a tensor first, which costs as much as a sum of this length.
    return x + x, (cotangent + cotangent,)


# ---- 2x + sign x, which jumps at 0 ----

two_faces_jump = _family(
    "two_faces_jump",
    "2x + sign x, which jumps at 0, in formulations that answer −3, 0 and 2 there",
    value=lambda x: 2 * x + np.sign(x),
    slope=lambda x: np.full_like(x, 2.0),
    zero=Kink("zero", 0.0, allowed=None, value=0.0),
    baseline="plus_sign",
    # One sum that rounds; all factors are powers of two or signs.
    depth=1,
)


@two_faces_jump.variant(source="the sign factored out (Listing 1)")
def sign_factored_out(x: Tensor) -> Tensor:
    return (2 * x * torch.sign(x) + 1) * torch.sign(x)


@two_faces_jump.variant(source="2x + sign x")
def plus_sign(x: Tensor) -> Tensor:
    return 2 * x + torch.sign(x)


@two_faces_jump.variant(
    source="2x + sign x in one pass after the sign, the cotangent doubled, no graph", computes="vjp", name="closed_form"
)
def jump_closed_form(x: Tensor, cotangent: Tensor) -> Pulled:
    return torch.add(torch.sign(x), x, alpha=2), (cotangent + cotangent,)


def _branches(x: Tensor, at_zero: Tensor) -> Tensor:
    return torch.where(x > 0, 2 * x + 1, torch.where(x < 0, 2 * x - 1, at_zero))


@two_faces_jump.variant(source="the branches of eq (4), a constant in the arm of 0")
def where_else_zero(x: Tensor) -> Tensor:
    return _branches(x, _zeros(x))


@two_faces_jump.variant(source="the branches of eq (4), 2x in the arm of 0: what Listing 2 is after")
def where_else_2x(x: Tensor) -> Tensor:
    return _branches(x, 2 * x)


@two_faces_jump.variant(source="the branches of eq (4), −3x in the arm of 0: any slope one likes")
def where_else_minus_3x(x: Tensor) -> Tensor:
    return _branches(x, -3 * x)


_WRONG = ("disagree", "iterating over a vector gives tensors without an axis, which it returns as they are")


@two_faces_jump.variant(
    source="Listing 2 as printed, written for a torch whose vectors consist of vectors of length 1",
    expected={"value": _WRONG, "x": _WRONG, "tangent": _WRONG},
    limits=(Limit(lambda size: size["n"], 10_000, "one Python step and one graph node an element"),),
)
def listing_2(x: Tensor) -> Tensor:
    def g1d(x: Tensor) -> Tensor:
        if x.data[0] > 0:
            return 2 * x + 1
        if x.data[0] < 0:
            return 2 * x - 1
        return 2 * x

    if x.dim() == 0:
        return 1 * x
    if x.size() == torch.Size([1]):
        return g1d(x)
    return torch.stack([listing_2(sub_x) for sub_x in x])
