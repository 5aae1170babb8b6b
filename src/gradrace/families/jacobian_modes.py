"""jacobian_modes: the Jacobian of f(x) = W2 tanh(W1 x), R^n → R^m. Teaches when forward mode beats reverse mode.

With t = tanh(W1 x) the closed form is J = W2 diag(1 − t²) W1. Forward mode pays one pass for each of the n inputs,
reverse mode one for each of the m outputs, so they cross where n c_forward = m c_reverse, which is not n = m;
batching the passes (vmap) turns them into matrix products and moves the crossover again.

Source: A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed. (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import jacobian

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.numerics import measured

HIDDEN = 128


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Weights scaled so that W1 x has unit variance: tanh is neither linear nor saturated."""
    n, m = size["n"], size["m"]
    return {
        "x": rng.standard_normal(n),
        "W1": rng.standard_normal((HIDDEN, n)) / np.sqrt(n),
        "W2": rng.standard_normal((m, HIDDEN)) / np.sqrt(HIDDEN),
    }


def reference_jacobian(numbers: Numbers) -> Mapping[str, Any]:
    """W2 diag(sech²(W1 x)) W1; sech² = 1/cosh² keeps its digits where 1 − tanh² loses them."""
    slope = np.cosh(numbers["W1"].astype(np.longdouble) @ numbers["x"]).astype(np.float64) ** -2
    return {"x": (numbers["W2"] * slope) @ numbers["W1"]}


def two_layers(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    return W2 @ torch.tanh(W1 @ x)


_CONSTANT = {"ops": 0, "graph_nodes": 0, "saved_bytes": 0}
BY_INPUTS = Growth("n", (128, 256, 512), "jacobian", {**_CONSTANT, "flops": 1}, at=size(m=1))
BY_OUTPUTS = Growth("m", (128, 256, 512), "jacobian", {**_CONSTANT, "flops": 1}, at=size(n=1))
"""One pass costs 2 h (n + m) FLOPs with h hidden units, the closed form 2 h n m; the h values of tanh are kept."""

_FORWARD = BY_INPUTS.but(flops=2)
"""A pass for each input."""

_REVERSE = BY_OUTPUTS.but(flops=2)
"""A pass for each output."""

jacobian_modes = Family(
    name="jacobian_modes",
    summary="the Jacobian of R^n → R^m: when forward mode beats reverse mode",
    source="Griewank and Walther (2008), chapter 3",
    primals=("x",),
    constants=("W1", "W2"),
    operators=("jacobian",),
    sizes=(
        size("test", "bench", n=1, m=256),
        size("test", n=7, m=5),
        size("bench", n=16, m=256),
        size("bench", "gate", "cuda", n=64, m=64),
        size("bench", n=256, m=16),
        size("test", "bench", n=256, m=1),
        size("large", "cuda", n=256, m=256),
    ),
    draw=draw,
    baseline="loop_of_pullbacks",
    reference={"jacobian": reference_jacobian},
    function=two_layers,
    condition=measured("x", "W1", "W2"),
    # κ moves every entry of W1 and W2, which adds up like the roundings of the two products.
    depth=2.0,
    growth=(BY_INPUTS, BY_OUTPUTS),
)

_jacobian: Mapping[str, Any] = {"computes": "jacobian"}


def _of(W1: Tensor, W2: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: two_layers(x, W1, W2)


@jacobian_modes.variant(source="W2 diag(1 − t²) W1", **_jacobian)
def closed_form(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    t = torch.mv(W1, x).tanh_()
    slope = 1 - t.mul_(t)
    # Scale the smaller factor before the product, and of equal ones the first, whose rows lie like the slope.
    return (W2 * slope) @ W1 if W2.shape[0] <= W1.shape[1] else W2 @ (slope.unsqueeze(1) * W1)


@jacobian_modes.variant(
    source="W2 diag(1 − t²) W1 in NumPy, whose calls cost less than torch's",
    **IN_NUMPY,
    limits=(Limit(lambda size: size["n"] * size["m"], 5000, "the product costs more than the calls"),),
    grows=(BY_INPUTS.but(flops=0), BY_OUTPUTS.but(flops=0)),  # torch sees none of them
    **_jacobian,
)
def closed_form_in_numpy(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    first, second = W1.numpy(), W2.numpy()
    slope = np.tanh(first.dot(x.numpy()))
    slope *= slope
    np.subtract(1, slope, out=slope)
    if second.shape[0] <= first.shape[1]:
        return torch.from_numpy((second * slope).dot(first))
    return torch.from_numpy(second.dot(slope[:, None] * first))


@jacobian_modes.variant(source="torch.func.jacfwd: n jvps, batched by vmap", grows=(_FORWARD,), **_jacobian)
def jacfwd(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    return torch.func.jacfwd(_of(W1, W2))(x)


@jacobian_modes.variant(source="torch.func.jacrev: m vjps, batched by vmap", grows=(_REVERSE,), **_jacobian)
def jacrev(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    return torch.func.jacrev(_of(W1, W2))(x)


@jacobian_modes.variant(source="n passes of torch.autograd.forward_ad", grows=(_FORWARD.but(ops=1),), **_jacobian)
def loop_of_forward_ad(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    columns = []
    for tangent in torch.eye(x.numel(), dtype=x.dtype, device=x.device):
        with forward_ad.dual_level():
            output = two_layers(forward_ad.make_dual(x, tangent), W1, W2)
            columns.append(forward_ad.unpack_dual(output).tangent)
    return torch.stack(columns, dim=1)


@jacobian_modes.variant(source="one graph, m pullbacks that retain it", grows=(_REVERSE.but(ops=1),), **_jacobian)
def loop_of_pullbacks(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    output = two_layers(leaf, W1, W2)
    units = torch.eye(output.numel(), dtype=x.dtype, device=x.device)
    return torch.stack([torch.autograd.grad(output, leaf, unit, retain_graph=True)[0] for unit in units])


@jacobian_modes.variant(
    source="torch.func.vmap of forward_ad's jvp over the n unit tangents", grows=(_FORWARD,), **_jacobian
)
def batched_forward_ad(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    def pushforward(tangent: Tensor) -> Tensor:
        return torch.func.jvp(_of(W1, W2), (x,), (tangent,))[1]

    units = torch.eye(x.numel(), dtype=x.dtype, device=x.device)
    return torch.func.vmap(pushforward, out_dims=1)(units)


@jacobian_modes.variant(
    source="one graph, m pullbacks in one call by is_grads_batched",
    grows=(_REVERSE.but(ops=1),),  # the products are batched, but the old vmap has no rule for tanh's derivative
    **_jacobian,
)
def batched_pullbacks(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    output = two_layers(leaf, W1, W2)
    units = torch.eye(output.numel(), dtype=x.dtype, device=x.device)
    return torch.autograd.grad(output, leaf, units, is_grads_batched=True)[0]


@jacobian_modes.variant(
    source="torch.autograd.functional.jacobian, its default loop",
    grows=(_REVERSE.but(ops=1, graph_nodes=1),),  # it selects each output by a node of its own
    **_jacobian,
)
def functional_jacobian(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    return jacobian(_of(W1, W2), x)


@jacobian_modes.variant(
    source="torch.autograd.functional.jacobian, forward mode, vectorised",
    grows=(replace(_FORWARD.but(ops=1), ladder=(256, 512, 1024)),),  # 2 n + 49 operations: two views an input
    **_jacobian,
)
def functional_jacobian_forward(x: Tensor, W1: Tensor, W2: Tensor) -> Tensor:
    return jacobian(_of(W1, W2), x, vectorize=True, strategy="forward-mode")
