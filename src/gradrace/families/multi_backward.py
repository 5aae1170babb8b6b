"""multi_backward: f(x) = Σ_j ½ (c_j·tanh(W x))², k losses on one trunk. Teaches to add the losses, not the gradients.

With t = tanh(W x) and a = C t, where the rows of C are the heads c_j,

    z_j = ½ a_j²,    f = Σ_j z_j,    ∇f = Wᵀ ((1 − t²) ∘ Cᵀ a).

The gradient of a sum is the sum of the gradients, and the two cost differently: k backward passes walk through the
trunk k times and must keep its graph (`retain_graph`) until the last, one pass from the sum walks through it once.
The sweep of reverse mode is linear in its seed, so what belongs to the sum can be added before it enters the trunk.
`Tensor.backward` adds to the gradient that a leaf holds already, which sums the heads, or counts one of them twice.

Shapes: x (n,), trunk W (h, n), heads C (k, h).

Source: Z. Xu's numerical optimization notes, on accumulated gradients and retained graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, Size, size
from gradrace.families.numerics import measured


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Weights scaled so that W x and C t are of order one: tanh is neither linear nor saturated."""
    n, h, k = size["n"], size["h"], size["k"]
    return {
        "x": rng.standard_normal(n),
        "trunk": rng.standard_normal((h, n)) / np.sqrt(n),
        "heads": rng.standard_normal((k, h)) / np.sqrt(h),
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision, 1 − tanh² as sech² = 1/cosh²: (value, x (n,))."""
    x, W, C = (numbers[name].astype(np.longdouble) for name in ("x", "trunk", "heads"))
    v = W @ x
    a = C @ np.tanh(v)
    return {"value": a @ a / 2, "x": W.T @ ((C.T @ a) / np.cosh(v) ** 2)}


_HEAD_BY_HEAD = {"ops": 1, "graph_nodes": 1}

# The trunk's 4 h n FLOPs outweigh the 2 h k of the heads.
BY_HEADS = Growth(
    "k", (32, 64, 128), "value_and_gradient", {"ops": 0, "graph_nodes": 0, "flops": 0}, at=size(n=2048, h=4)
)
"""Heads in one matrix product, and one backward pass."""

_ONE_PASS = (BY_HEADS.but(**_HEAD_BY_HEAD),)
"""A few operations and nodes for each head, and one pass through the trunk."""

_PASS_BY_PASS = (BY_HEADS.but(**_HEAD_BY_HEAD, flops=1),)
"""A pass through the trunk for each head."""

multi_backward = Family(
    name="multi_backward",
    summary="the gradient of k losses on one trunk: add the losses, not the gradients",
    source="numerical optimization notes, accumulated gradients and retained graphs",
    primals=("x",),
    constants=("trunk", "heads"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", n=5, h=4, k=3),
        size("test", "gate", n=20, h=30, k=8),
        size("bench", n=500, h=500, k=32),
        size("large", "cuda", n=1000, h=1000, k=64),
    ),
    draw=draw,
    baseline="backward_head_by_head",
    reference={"value_and_gradient": reference},
    condition=measured("x", "trunk", "heads"),
    # κ moves every entry of W and C, which adds up like the roundings of the products; each is needed twice.
    depth=2.0,
    growth=(BY_HEADS,),
)

Result = tuple[Tensor, tuple[Tensor]]


def losses(x: Tensor, trunk: Tensor, heads: Tensor) -> list[Tensor]:
    """z_1 … z_k one by one, as tasks of their own come; the trunk is evaluated once."""
    t = torch.tanh(trunk @ x)
    return [(c @ t).square() / 2 for c in heads.unbind()]


def _total(z: list[Tensor]) -> Tensor:
    return torch.stack(z).detach().sum()


# ---- one pass back through the trunk for each head ----


@multi_backward.variant(
    source="Tensor.backward of each loss with retain_graph; the leaf's .grad adds them up",
    computes="value_and_gradient",
    grows=_PASS_BY_PASS,
)
def backward_head_by_head(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = losses(leaf, trunk, heads)
    for loss in z:
        loss.backward(retain_graph=loss is not z[-1])
    assert leaf.grad is not None
    return _total(z), (leaf.grad,)


@multi_backward.variant(
    source="the trunk evaluated again for each head, so that no graph need be retained",
    computes="value_and_gradient",
    grows=_PASS_BY_PASS,
)
def trunk_for_each_head(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = []
    for head in heads.split(1):
        z += losses(leaf, trunk, head)
        z[-1].backward()
    assert leaf.grad is not None
    return _total(z), (leaf.grad,)


@multi_backward.variant(
    source="torch.autograd.grad of each loss, the k gradients added", computes="value_and_gradient", grows=_PASS_BY_PASS
)
def gradients_added(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = losses(leaf, trunk, heads)
    gradients = [torch.autograd.grad(loss, leaf, retain_graph=True)[0] for loss in z]
    return _total(z), (torch.stack(gradients).sum(0),)


@multi_backward.variant(
    source="torch.autograd.grad by is_grads_batched: the k gradients in one call, added",
    computes="value_and_gradient",
    grows=_PASS_BY_PASS,
)
def batched_pullbacks(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = torch.stack(losses(leaf, trunk, heads))
    units = torch.eye(len(heads), dtype=x.dtype, device=x.device)
    (gradients,) = torch.autograd.grad(z, leaf, units, is_grads_batched=True)
    return z.detach().sum(), (gradients.sum(0),)


@multi_backward.variant(
    source="torch.func.jacrev of the k losses, its rows added", computes="value_and_gradient", grows=_PASS_BY_PASS
)
def jacrev_rows_added(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    def twice(x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.stack(losses(x, trunk, heads))
        return z, z

    gradients, z = torch.func.jacrev(twice, has_aux=True)(x)
    return z.sum(), (gradients.sum(0),)


# ---- one pass for all heads ----


@multi_backward.variant(source="the losses added, then one backward pass", grows=_ONE_PASS)
def losses_added(x: Tensor, trunk: Tensor, heads: Tensor) -> Tensor:
    return torch.stack(losses(x, trunk, heads)).sum()


@multi_backward.variant(
    source="torch.autograd.backward of the list of losses", computes="value_and_gradient", grows=_ONE_PASS
)
def backward_of_list(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = losses(leaf, trunk, heads)
    torch.autograd.backward(z)
    assert leaf.grad is not None
    return _total(z), (leaf.grad,)


@multi_backward.variant(
    source="torch.autograd.grad of the list of losses", computes="value_and_gradient", grows=_ONE_PASS
)
def grad_of_list(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    z = losses(leaf, trunk, heads)
    (gradient,) = torch.autograd.grad(z, leaf)
    return _total(z), (gradient,)


@multi_backward.variant(source="all heads in one matrix product: ½ ‖C tanh(W x)‖²")
def matrix_of_heads(x: Tensor, trunk: Tensor, heads: Tensor) -> Tensor:
    a = heads @ torch.tanh(trunk @ x)
    return a @ a / 2


@multi_backward.variant(source="torch.func.grad_and_value of ½ ‖C tanh(W x)‖²", computes="value_and_gradient")
def func_grad(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    gradient, value = torch.func.grad_and_value(matrix_of_heads)(x, trunk, heads)
    return value, (gradient,)


@multi_backward.variant(source="Wᵀ ((1 − t²) ∘ Cᵀ C t), no graph", computes="value_and_gradient")
def closed_form(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    t = torch.tanh(trunk @ x)
    a = heads @ t
    by_t = heads.mT @ a
    by_v = torch.addcmul(by_t, by_t * t, t, value=-1)
    return a @ a / 2, (trunk.mT @ by_v,)


@multi_backward.variant(
    source="the notes' second backward pass into a .grad that was not cleared",
    computes="value_and_gradient",
    expected={"x": ("disagree", "a leaf's .grad adds up: after two passes it holds twice the gradient")},
)
def not_cleared(x: Tensor, trunk: Tensor, heads: Tensor) -> Result:
    leaf = x.detach().requires_grad_()
    value = matrix_of_heads(leaf, trunk, heads)
    value.backward(retain_graph=True)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), (leaf.grad,)
