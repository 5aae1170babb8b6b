"""speelpenning: Π x_i. Teaches that a gradient costs a few times its function, however many inputs there are.

    f(x) = x_1 x_2 ⋯ x_n,    ∂f/∂x_i = Π_{j≠i} x_j.

Multiplied out that is n products of n − 1 factors. Forward mode is no better, since it makes one pass for each input.
Reverse mode shares what the products have in common: with prefixes p_i = x_1 ⋯ x_i and adjoints q_i = x_{i+1} ⋯ x_n,
which are the suffixes,

    ∂f/∂x_i = p_{i−1} q_i,    p_i = p_{i−1} x_i,    q_{i−1} = x_i q_i,

3 n multiplications for value and gradient, in whatever order the factors are taken: along a line, or down a tree
whose levels are vectorised. A quotient f / x_i costs less still, but where an entry is zero it has no answer, and where
the product underflows or overflows it has a wrong one.

The input is x (n,), the value a number.

Source: B. Speelpenning's example in A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed. (2008), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families.lapack import IN_NUMPY


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """|log |x_i|| < min(1, 20 / √n), signs at random.

    The logarithm of the product of any of them is some ±12: neither overflow nor underflow, in whatever order. Closer
    to 1 their rounding errors would have a bias, and add up as n in place of √n.
    """
    n = size["n"]
    return {"x": np.exp(min(1.0, 20 / math.sqrt(n)) * rng.uniform(-1, 1, n)) * rng.choice([-1.0, 1.0], n)}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The product of all entries over each of them in extended precision; no drawn entry is zero."""
    x = numbers["x"].astype(np.longdouble)
    return {"value": x.prod(), "x": x.prod() / x}


def _condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, float]:
    """√n: up to n products in a row round, each independently of the others, and none makes an earlier error larger."""
    return dict.fromkeys(("value", "x"), math.sqrt(size["n"]))


BY_INPUTS = Growth("n", (256, 512, 1024), "value_and_gradient", {"ops": 0, "graph_nodes": 0, "saved_bytes": 0})
"""A few operations on whole vectors; nothing is kept but the input and the value."""

_KEEPS_VECTORS = (BY_INPUTS.but(saved_bytes=1),)
_SHORT = replace(BY_INPUTS.but(ops=1), ladder=(64, 128, 256))

speelpenning = Family(
    name="speelpenning",
    summary="a product of n numbers: its gradient costs a few products, not n of them",
    source="Griewank and Walther (2008), section 3.3",
    primals=("x",),
    operators=("value_and_gradient",),
    sizes=(
        size("test", n=2),
        size("test", n=7),
        size("bench", "gate", n=1_000),
        size("bench", n=100_000),
        size("large", "cuda", n=10_000_000),
    ),
    draw=draw,
    baseline="prod",
    reference={"value_and_gradient": reference},
    condition=_condition,
    growth=(BY_INPUTS,),
)

Result = tuple[Tensor, tuple[Tensor]]

# ---- multiplied out, and by forward mode: n passes ----

_N_SQUARED = (Limit(lambda size: size["n"], 1_000, "n² multiplications"),)


@speelpenning.variant(
    source="n products, each leaving one factor out",
    computes="value_and_gradient",
    limits=_N_SQUARED,
    grows=(_SHORT,),
)
def leave_one_out(x: Tensor) -> Result:
    products = [torch.cat([x[:i], x[i + 1 :]]).prod() for i in range(x.numel())]
    return x.prod(), (torch.stack(products),)


@speelpenning.variant(
    source="forward mode: torch.func.jvp of torch.prod, one pass for each unit vector",
    computes="value_and_gradient",
    limits=(Limit(lambda size: size["n"], 256, "n passes, each called by itself"),),
    grows=(_SHORT,),
)
def forward_passes(x: Tensor) -> Result:
    units = torch.eye(x.numel(), dtype=x.dtype, device=x.device)
    passes = [torch.func.jvp(torch.prod, (x,), (unit,)) for unit in units]
    return passes[0][0], (torch.stack([tangent for _, tangent, *_ in passes]),)


@speelpenning.variant(
    source="forward mode: torch.func.vmap of jvp over the unit vectors, n passes at once",
    computes="value_and_gradient",
    limits=_N_SQUARED,
    grows=(_SHORT.but(ops=0, peak_bytes=2),),
)
def batched_passes(x: Tensor) -> Result:
    def push(unit: Tensor) -> tuple[Tensor, Tensor]:
        value, tangent, *_ = torch.func.jvp(torch.prod, (x,), (unit,))
        return value, tangent

    values, gradient = torch.func.vmap(push)(torch.eye(x.numel(), dtype=x.dtype, device=x.device))
    return values[0], (gradient,)


# ---- reverse mode by autograd ----


@speelpenning.variant(
    source="a Python loop of multiplications by autograd: a node for each",
    limits=(Limit(lambda size: size["n"], 1_000, "a Python loop over the entries"),),
    grows=(_SHORT.but(graph_nodes=1, saved_bytes=1),),
)
def loop(x: Tensor) -> Tensor:
    first, *others = x.unbind()
    value = first
    for factor in others:
        value = value * factor
    return value


@speelpenning.variant(source="torch.prod by autograd, which looks for zeros and divides where there are none")
def prod(x: Tensor) -> Tensor:
    return x.prod()


@speelpenning.variant(
    source="torch.func.grad_and_value of torch.prod, which may not look, and so multiplies prefixes and suffixes",
    computes="value_and_gradient",
)
def func_grad(x: Tensor) -> Result:
    gradient, value = torch.func.grad_and_value(torch.prod)(x)
    return value, (gradient,)


@speelpenning.variant(
    source="e to the power of Σ log |x_i|, and the sign, by autograd: NaN where an entry is 0",
    grows=_KEEPS_VECTORS,
)
def exp_of_logs(x: Tensor) -> Tensor:
    return (1 - 2 * ((x < 0).sum() % 2)) * x.abs().log().sum().exp()


def _halves(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two halves of the same length, and the last entry where the length is odd."""
    half = x.numel() // 2
    return x[:half], x[half : 2 * half], x[2 * half :]


def _multiply_halves(x: Tensor) -> Tensor:
    """One level up a balanced tree of products."""
    left, right, odd = _halves(x)
    return torch.cat([left * right, odd]) if odd.numel() else left * right


_BY_LEVELS = (replace(BY_INPUTS, exponents={"saved_bytes": 1}),)
"""log₂ n levels, each with the same few operations and nodes: no power of n."""


@speelpenning.variant(source="a balanced tree of products by autograd", grows=_BY_LEVELS)
def tree(x: Tensor) -> Tensor:
    while x.numel() > 1:
        x = _multiply_halves(x)
    return x[0]


# ---- reverse mode by hand ----


@speelpenning.variant(
    source="a balanced tree of products, and its adjoints down again, no graph",
    computes="value_and_gradient",
    grows=(replace(BY_INPUTS, exponents={"graph_nodes": 0, "saved_bytes": 0}),),
)
def tree_down_sweep(x: Tensor) -> Result:
    levels = [x]
    while levels[-1].numel() > 1:
        levels.append(_multiply_halves(levels[-1]))
    value = levels.pop()
    adjoint = torch.ones_like(value)
    for level in reversed(levels):
        left, right, _ = _halves(level)
        of_pairs, of_odd = adjoint[: left.numel()], adjoint[left.numel() :]
        below = torch.empty_like(level)
        to_left, to_right, to_odd = _halves(below)
        torch.mul(of_pairs, right, out=to_left)
        torch.mul(of_pairs, left, out=to_right)
        to_odd.copy_(of_odd)
        adjoint = below
    return value[0], (adjoint,)


@speelpenning.variant(source="prefixes times suffixes by torch.cumprod, no graph", computes="value_and_gradient")
def scans(x: Tensor) -> Result:
    one = x.new_ones(1)
    prefix = torch.cat([one, x[:-1]]).cumprod(0)
    suffix = torch.cat([one, x[1:].flip(0)]).cumprod(0).flip(0)
    return prefix[-1] * x[-1], (prefix * suffix,)


@speelpenning.variant(
    source="prefixes times suffixes by NumPy, which reads backwards without a copy",
    computes="value_and_gradient",
    **IN_NUMPY,
)
def scans_in_numpy(x: Tensor) -> Result:
    factors = x.numpy()
    gradient, suffix = np.ones_like(factors), np.ones_like(factors)
    np.multiply.accumulate(factors[:-1], out=gradient[1:])
    np.multiply.accumulate(factors[:0:-1], out=suffix[-2::-1])
    value = gradient[-1] * factors[-1]
    gradient *= suffix
    return torch.as_tensor(value), (torch.from_numpy(gradient),)


# ---- by the product itself ----


@speelpenning.variant(
    source="f / x_i: NaN where an entry is 0, and wrong where the product underflows or overflows",
    computes="value_and_gradient",
    limits=(Limit(lambda size: size["n"], 10, "not raced, since it has no answer where an entry is 0"),),
    grows=(replace(BY_INPUTS, ladder=(2, 4, 8)),),
)
def quotient(x: Tensor) -> Result:
    value = x.prod()
    return value, (value / x,)


def _keeps_its_digits(value: Tensor) -> bool:
    """Is it neither zero, nor subnormal, nor infinite, nor NaN? Then f / x_i has its digits too.

    Unless f went through the subnormal numbers and came back, as by entries of 1e-160 and 1e160: `scans` is for those.
    """
    return torch.finfo(value.dtype).tiny <= abs(value.item()) < math.inf


@speelpenning.variant(
    source="f / x_i where f has kept its digits, prefixes times suffixes where it has not",
    computes="value_and_gradient",
)
def branching(x: Tensor) -> Result:
    value = x.prod()
    return (value, (value / x,)) if _keeps_its_digits(value) else scans(x)


@speelpenning.variant(
    source="the same, the quotient by NumPy, which asks Linux for huge pages: half the time where memory is fresh",
    computes="value_and_gradient",
    **IN_NUMPY,
)
def branching_in_numpy(x: Tensor) -> Result:
    value = x.prod()
    return (value, (torch.from_numpy(value.numpy() / x.numpy()),)) if _keeps_its_digits(value) else scans_in_numpy(x)
