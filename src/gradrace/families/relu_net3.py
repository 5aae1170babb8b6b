"""relu_net3: f(W1, W2, W3) = ½ Σ ‖y − W3 relu(W2 relu(W1 x))‖². Teaches what a graph costs beside its products.

For one sample, V1 = W1 x, V2 = relu(V1), V3 = W2 V2, V4 = relu(V3), V5 = W3 V4 and D = y − V5. The derivative of f
for each node, from the last to the first:

    D.d = D,               V5.d = −D,
    W3.d = V5.d V4ᵀ,       V4.d = W3ᵀ V5.d,       V3.d = V4.d ∘ [V3 > 0],
    W2.d = V3.d V2ᵀ,       V2.d = W2ᵀ V3.d,       V1.d = V2.d ∘ [V1 > 0],       W1.d = V1.d xᵀ.

Every .d has the shape of its node, where the homework mixes rows with gradients. Samples are the rows of x (n, p) and
y (n, q); the outer products then add up to products of matrices. Shapes: W1 (h, p), W2 (h, h), W3 (q, h).
There is no bias, so V1 = 0 only where x or a row of W1 is zero; relu′(0) = 0 then keeps a row of zeros for ever.

Source: CSCI 5980 homework 2, problem 3, whose W1 ∈ R^{2×3} and W3 ∈ R^{3×2} stand transposed;
M. Nielsen, Neural Networks and Deep Learning (2015), chapter 2, for the scalar loops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.numerics import measured

GAP = 1e-4
"""No V1 and no V3 is closer to the kink than this: rounding must not switch a unit on or off."""


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Weights that keep the variance of what goes through; each layer has a live and a dead unit in every sample.

    Of two opposite rows of W1 one is alive. A row of W2 without negative entries is alive, one without positive ones
    is dead. With no live unit the gradients of W1 and W2 would be zero; with no dead one the masks would not matter.
    """
    n, p, h, q = (size[axis] for axis in "nphq")
    W1 = rng.standard_normal((h, p)) / np.sqrt(p)
    W2 = rng.standard_normal((h, h)) * np.sqrt(2 / h)
    W3 = rng.standard_normal((q, h)) * np.sqrt(2 / h)
    W1[1], W2[0], W2[1] = -W1[0], np.abs(W2[0]), -np.abs(W2[1])
    x, near = np.empty((n, p)), np.ones(n, dtype=bool)
    while near.any():
        x[near] = rng.standard_normal((near.sum(), p))
        V1 = x @ W1.T
        V3 = np.maximum(V1, 0) @ W2.T
        near = np.minimum(np.abs(V1).min(axis=1), np.abs(V3).min(axis=1)) < GAP
    return {"W1": W1, "W2": W2, "W3": W3, "x": x, "y": rng.standard_normal((n, q))}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision: (value, W1 (h, p), W2 (h, h), W3 (q, h))."""
    W1, W2, W3, x, y = (numbers[name].astype(np.longdouble) for name in ("W1", "W2", "W3", "x", "y"))
    V1 = x @ W1.T
    V2 = np.maximum(V1, 0)
    V3 = V2 @ W2.T
    V4 = np.maximum(V3, 0)
    D = y - V4 @ W3.T
    by_V3 = np.where(V3 > 0, -D @ W3, 0)
    by_V1 = np.where(V1 > 0, by_V3 @ W2, 0)
    return {"value": (D * D).sum() / 2, "W1": by_V1.T @ x, "W2": by_V3.T @ V2, "W3": -D.T @ V4}


BY_SAMPLES = Growth(
    "n",
    (64, 128, 256),
    "value_and_gradient",
    {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 1},
    at=size(p=8, h=8, q=4),
)
"""Products of matrices; a graph keeps what is between them."""

BY_INPUTS = Growth(
    "p",
    (64, 128, 256),
    "value_and_gradient",
    {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 0},
    at=size(n=4, h=2, q=1),
)
"""Reverse mode costs a multiple of the function, however many parameters there are."""

_NO_GRAPH = (BY_SAMPLES.but(saved_bytes=0),)


def parameters(size: Size) -> int:
    """The entries of W1, W2 and W3."""
    h: int = size["h"]
    return h * (size["p"] + h + size["q"])


relu_net3 = Family(
    name="relu_net3",
    summary="half the squared error of a ReLU network of three layers: what a graph costs beside its products",
    source="CSCI 5980 homework 2, problem 3",
    primals=("W1", "W2", "W3"),
    constants=("x", "y"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", "gate", n=1, p=2, h=3, q=2),
        size("test", n=7, p=4, h=6, q=3),
        size("bench", n=64, p=32, h=128, q=10),
        size("large", "cuda", n=512, p=128, h=256, q=10),
    ),
    draw=draw,
    baseline="autograd",
    reference={"value_and_gradient": reference},
    condition=measured("W1", "W2", "W3", "x", "y"),
    # κ moves every entry of the weights, which adds up like the roundings of the products, three there and two back.
    depth=2.0,
    growth=(BY_SAMPLES, BY_INPUTS),
)

Result = tuple[Tensor, tuple[Tensor, Tensor, Tensor]]


def network(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor) -> Tensor:
    """V5 of each sample: (n, q)."""
    return torch.relu(torch.relu(x @ W1.mT) @ W2.mT) @ W3.mT


@relu_net3.variant(
    source="Nielsen, chapter 2: scalar by scalar on Python floats",
    computes="value_and_gradient",
    unsupported={"cuda": "computes on Python floats"},
    limits=(Limit(lambda size: size["n"] * parameters(size), 1e5, "Python loops over samples and parameters"),),
    grows=(BY_SAMPLES.but(flops=0, saved_bytes=0), BY_INPUTS.but(flops=0)),  # torch sees none of it
)
def scalar_loops(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    weights = [W.tolist() for W in (W1, W2, W3)]
    gradients = [[[0.0] * len(row) for row in W] for W in weights]
    value = 0.0
    for sample, target in zip(x.tolist(), y.tolist(), strict=True):
        layers = [sample]
        for W in weights[:2]:
            layers.append([max(0.0, _dot(row, layers[-1])) for row in W])
        # The derivative of f for each node of a layer, from the last to the first.
        delta = [_dot(row, layers[-1]) - t for row, t in zip(weights[2], target, strict=True)]
        value += _dot(delta, delta) / 2
        for W, gradient, below in zip(weights[::-1], gradients[::-1], layers[::-1], strict=True):
            for row, d in zip(gradient, delta, strict=True):
                for j, v in enumerate(below):
                    row[j] += d * v
            delta = [
                _dot(column, delta) if v > 0 else 0.0 for column, v in zip(zip(*W, strict=True), below, strict=True)
            ]
    by_W1, by_W2, by_W3 = (x.new_tensor(gradient) for gradient in gradients)
    return x.new_tensor(value), (by_W1, by_W2, by_W3)


def _dot(a: Any, b: Any) -> float:
    return sum(u * v for u, v in zip(a, b, strict=True))


@relu_net3.variant(
    source="each gradient as one formula, as derived by hand", computes="value_and_gradient", grows=_NO_GRAPH
)
def expanded(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    V1 = x @ W1.mT
    V2 = torch.relu(V1)
    V3 = V2 @ W2.mT
    V4 = torch.relu(V3)
    D = y - V4 @ W3.mT
    return (D * D).sum() / 2, (
        -((((D @ W3) * (V3 > 0)) @ W2) * (V1 > 0)).mT @ x,
        -((D @ W3) * (V3 > 0)).mT @ V2,
        -D.mT @ V4,
    )


@relu_net3.variant(
    source="the homework's backward pass node by node, in place and without a graph",
    computes="value_and_gradient",
    grows=_NO_GRAPH,
)
def reverse_pass(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    V2 = (x @ W1.mT).relu_()
    V4 = (V2 @ W2.mT).relu_()
    by_V5 = torch.addmm(y, V4, W3.mT, beta=-1)
    by_W3 = by_V5.mT @ V4
    # V4 is done with and has no negative entries: its sign is the mask [V3 > 0].
    by_V3 = (by_V5 @ W3).mul_(V4.sign_())
    by_W2 = by_V3.mT @ V2
    by_V1 = (by_V3 @ W2).mul_(V2.sign_())
    return (by_V5 * by_V5).sum() / 2, (by_V1.mT @ x, by_W2, by_W3)


@relu_net3.variant(source="torch.autograd of the formula as printed")
def autograd(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Tensor:
    D = y - network(W1, W2, W3, x)
    return (D * D).sum() / 2


def _with_module(function: Callable[..., Tensor], W1: Tensor, W2: Tensor, W3: Tensor, *_: Tensor) -> Callable[..., Any]:
    """The function with a torch.nn module of the shapes of these weights, made once."""
    layers = [nn.Linear(W.shape[1], W.shape[0], bias=False, device="meta") for W in (W1, W2, W3)]
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    return lambda *tensors: function(*tensors, module)


@relu_net3.variant(source="torch.nn.Sequential and mse_loss, by torch.func.functional_call", prepare=_with_module)
def sequential(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor, module: nn.Module) -> Tensor:
    output = torch.func.functional_call(module, {"0.weight": W1, "2.weight": W2, "4.weight": W3}, (x,))
    return F.mse_loss(output, y, reduction="sum") / 2


@relu_net3.variant(source="torch.func.grad_and_value", computes="value_and_gradient")
def func_grad(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    gradients, value = torch.func.grad_and_value(autograd, argnums=(0, 1, 2))(W1, W2, W3, x, y)
    return value, gradients


_PER_SAMPLE = Limit(lambda size: 8 * size["n"] * parameters(size), 2.5e8, "a gradient of its own for each sample")


@relu_net3.variant(
    source="torch.func.vmap of grad_and_value: the gradients of the samples, added",
    computes="value_and_gradient",
    limits=(_PER_SAMPLE,),
)
def per_sample(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    sample = torch.func.grad_and_value(_of_one, argnums=(0, 1, 2))
    gradients, values = torch.func.vmap(sample, in_dims=(None, None, None, 0, 0))(W1, W2, W3, x, y)
    by_W1, by_W2, by_W3 = (gradient.sum(0) for gradient in gradients)
    return values.sum(), (by_W1, by_W2, by_W3)


def _of_one(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """f of one sample as printed: x (p,), y (q,)."""
    D = y - W3 @ torch.relu(W2 @ torch.relu(W1 @ x))
    return D @ D / 2


@relu_net3.variant(
    source="the backward pass with the outer products of each sample by einsum, then added",
    computes="value_and_gradient",
    limits=(_PER_SAMPLE,),
    grows=_NO_GRAPH,
)
def per_sample_einsum(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    V2 = torch.relu(x @ W1.mT)
    V4 = torch.relu(V2 @ W2.mT)
    by_V5 = V4 @ W3.mT - y
    by_V3 = (by_V5 @ W3) * (V4 > 0)
    by_V1 = (by_V3 @ W2) * (V2 > 0)
    by_W1, by_W2, by_W3 = (
        torch.einsum("ni,nj->nij", above, below).sum(0) for above, below in ((by_V1, x), (by_V3, V2), (by_V5, V4))
    )
    return (by_V5 * by_V5).sum() / 2, (by_W1, by_W2, by_W3)


@relu_net3.variant(
    source="torch.autograd.forward_ad, one pass for each parameter",
    computes="value_and_gradient",
    limits=(Limit(parameters, 600, "one pass for each parameter"),),
    grows=(*_NO_GRAPH, BY_INPUTS.but(ops=1, flops=2)),
)
def forward_mode(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    residual = network(W1, W2, W3, x) - y

    def pushed(W: Tensor, unit: Tensor) -> Tensor:
        """The derivative of f for the entry of W that the unit tangent names."""
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(W, unit.view_as(W))
            a, b, c = (dual if V is W else V for V in (W1, W2, W3))
            return (residual * forward_ad.unpack_dual(network(a, b, c, x)).tangent).sum()

    def gradient(W: Tensor) -> Tensor:
        units = torch.eye(W.numel(), dtype=W.dtype, device=W.device)
        return torch.stack([pushed(W, unit) for unit in units]).view_as(W)

    return (residual * residual).sum() / 2, (gradient(W1), gradient(W2), gradient(W3))


@relu_net3.variant(
    source="the backward pass without the mask [V3 > 0]",
    computes="value_and_gradient",
    expected={
        "W1": ("disagree", "what a dead unit of the second layer would pass on goes on to the first"),
        "W2": ("disagree", "the rows of dead units are not zero"),
    },
    grows=_NO_GRAPH,
)
def mask_forgotten(W1: Tensor, W2: Tensor, W3: Tensor, x: Tensor, y: Tensor) -> Result:
    V2 = torch.relu(x @ W1.mT)
    V4 = torch.relu(V2 @ W2.mT)
    by_V5 = V4 @ W3.mT - y
    by_V3 = by_V5 @ W3
    by_V1 = (by_V3 @ W2) * (V2 > 0)
    return (by_V5 * by_V5).sum() / 2, (by_V1.mT @ x, by_V3.mT @ V2, by_V5.mT @ V4)
