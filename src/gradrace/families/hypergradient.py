"""hypergradient: L(w_T) after T steps of gradient descent, as a function of their sizes. Teaches to keep the adjoint.

    w_t = w_{t−1} − η_t g_{t−1},    g_t = ∇L(w_t),    H_t = ∇²L(w_t),    t = 1 … T.

By the chain rule the derivative for a step is a product of all later ones, and the adjoint λ_t = ∂L(w_T)/∂w_t collects
the product once for all of them:

    ∂L(w_T)/∂η_t = −g_Tᵀ (I − η_T H_{T−1}) ⋯ (I − η_{t+1} H_t) g_{t−1} = −λ_t · g_{t−1},
    λ_T = g_T,    λ_{t−1} = (I − η_t H_{t−1}) λ_t.

Multiplied out for each t that is T² / 2 products with a Hessian, by the recursion T, which needs the points w_t but no
graph. Forward mode makes one pass of T steps for each η. The greedy −g_t · g_{t−1}, the derivative of L(w_t) alone,
costs one product and forgets what a step does to the later ones.

Two losses, `beale` on R² and `ring` on R^d, stand in `losses`. Shapes: η (T,), start w_0 (d,).

Sources: ECE 046211 homework 1, question 3; A. G. Baydin et al., Online learning rate adaptation with hypergradient
descent, ICLR (2018) for the greedy form; K. Chandra et al., Gradient descent: the ultimate optimizer, NeurIPS (2022)
for step sizes of step sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.losses import LOSSES, NUMPY, Loss
from gradrace.families.numerics import measured

# ---- the adjoint, and what it is good for ----


class Sweep(NamedTuple):
    """The end w_T (d,), L(w_T), and its gradients for η (T,) and for the start (d,)."""

    w: Any
    value: Any
    eta: Any
    start: Any


def descend(lib: Any, loss: Loss, eta: Any, start: Any) -> tuple[list[Any], list[Any]]:
    """The points w_0 … w_T and the gradients there, by w_t = w_{t−1} − η_t g_{t−1}."""
    points, gradients = [start], [loss.gradient(lib, start)]
    for step in eta:
        points.append(points[-1] - step * gradients[-1])
        gradients.append(loss.gradient(lib, points[-1]))
    return points, gradients


def adjoint_sweep(lib: Any, loss: Loss, eta: Any, start: Any) -> Sweep:
    """The recursion of λ back, between one call for all curvatures and one for all products λ_t · g_{t−1}.

    Fewest calls, but some seven vectors for each step are alive at once.
    """
    (*points, end), (*gradients, adjoint) = descend(lib, loss, eta, start)
    adjoints, curvatures = [], loss.curvature(lib, lib.stack(points))
    for step, curvature in zip(reversed(list(eta)), reversed(list(curvatures)), strict=True):
        adjoints.append(adjoint)
        adjoint = adjoint - step * loss.multiply(lib, curvature, adjoint)
    by_eta = -(lib.stack(gradients) * lib.stack(adjoints[::-1])).sum(-1)
    return Sweep(end, loss.value(lib, end), by_eta, adjoint)


def lean_adjoint_sweep(lib: Any, loss: Loss, eta: Any, start: Any) -> Sweep:
    """The recursion of λ back, with the curvature and the product λ_t · g_{t−1} of one step at a time.

    The points and gradients of all steps are all that is kept, two vectors for each.
    """
    (*points, end), (*gradients, adjoint) = descend(lib, loss, eta, start)
    products = []
    for step, point, gradient in zip(*map(reversed, (list(eta), points, gradients)), strict=True):
        products.append(adjoint @ gradient)
        adjoint = adjoint - step * loss.multiply(lib, loss.curvature(lib, point), adjoint)
    return Sweep(end, loss.value(lib, end), -lib.stack(products[::-1]), adjoint)


class Learned(NamedTuple):
    """Where descent has arrived, with the step sizes η (T,) and the α it has learned."""

    w: np.ndarray
    eta: np.ndarray
    alpha: float


def descend_learning_steps(
    loss: Loss, start: np.ndarray, eta: np.ndarray, alpha: float, blocks: int, kappa: float = 0.0
) -> Learned:
    """Gradient descent that learns its step sizes: blocks of T steps, after each of which

        α ← α + κ D · D′,    η ← η − α D,    D = ∂L(w_T)/∂η of this block, D′ that of the block before.

    With T = 1 that is the homework's eq (2) and its second item: D = −∇L(w(t−1)) · ∇L(w(t−2)), and
    −D D′ = ∂L(w(t−1))/∂α; with T > 1 its eqs (3) and (4), where T sizes are updated and none twice.
    """
    w, before = start, np.zeros_like(eta)
    for _ in range(blocks):
        sweep = adjoint_sweep(np, loss, eta, w)
        alpha = alpha + kappa * float(sweep.eta @ before)
        w, eta, before = sweep.w, eta - alpha * sweep.eta, sweep.eta
    return Learned(w, eta, alpha)


# ---- the family ----

REACH = {"beale": 0.01, "ring": 0.25}
"""The sum of the step sizes: the loss has fallen by a good part and is far from its minimum, whatever T is."""


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Step sizes around REACH / T; on Beale's function a start near the homework's (0.7, 1.4)."""
    T, d, loss = size["T"], size["d"], size["loss"]
    spread = rng.uniform(-1, 1, d)
    return {
        "eta": rng.uniform(0.5, 1.5, T) * REACH[loss] / T,
        "start": np.array([0.7, 1.4]) + 0.1 * spread if loss == "beale" else 1.5 * spread,
        "loss": loss,
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """L(w_T) and its gradient for η by T complex steps at once, in extended precision: (value, eta (T,)).

    Row j of w descends with η_j + i 1e-100 in place of η_j.
    """
    loss, eta, tiny = LOSSES[numbers["loss"]], numbers["eta"].astype(np.clongdouble), 1e-100
    w = np.tile(numbers["start"].astype(np.clongdouble), (len(eta), 1))
    for steps in (eta + 1j * tiny * np.eye(len(eta))).T:
        w = w - steps[:, None] * loss.gradient(np, w)
    values = loss.value(np, w)
    return {"value": values[0].real, "eta": values.imag / tiny}


BY_STEPS = Growth(
    "T",
    (16, 48, 144),
    "value_and_gradient",
    {"ops": 1, "graph_nodes": 0, "saved_bytes": 0, "peak_bytes": 1},
    at=size(loss="ring", d=1000),  # so large that the bytes are those of vectors
)
"""One sweep forward, whose points are kept, and one back; no graph."""

_UNROLLED = (BY_STEPS.but(graph_nodes=1, saved_bytes=1),)
_QUADRATIC = replace(BY_STEPS.but(ops=2), ladder=(28, 42, 63))

hypergradient = Family(
    name="hypergradient",
    summary="the loss after T steps of gradient descent, by the sizes of the steps: keep the adjoint",
    source="ECE 046211 homework 1, question 3",
    primals=("eta",),
    constants=("start", "loss"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", loss="ring", d=7, T=8),
        size("test", "gate", loss="beale", d=2, T=4),
        size("bench", loss="ring", d=100, T=80),
        size("large", "cuda", loss="ring", d=2000, T=50),
    ),
    draw=draw,
    baseline="unrolled",
    reference={"value_and_gradient": reference},
    condition=measured("eta", "start"),
    # κ moves the start, as the roundings of each step do: T times, at random.
    depth=lambda size: 2 + math.sqrt(size["T"]),
    growth=(BY_STEPS,),
)

Result = tuple[Tensor, tuple[Tensor]]

_IN_NUMPY: Mapping[str, Any] = {
    **IN_NUMPY,
    # torch sees none of it
    "grows": (replace(BY_STEPS, exponents={"ops": 0, "graph_nodes": 0, "saved_bytes": 0}),),
}


def end_of_path(eta: Tensor, start: Tensor, loss: str) -> Tensor:
    """w_T, by the closed gradient of the loss: (d,)."""
    w = start
    for step in eta.unbind():
        w = w - step * LOSSES[loss].gradient(torch, w)
    return w


# ---- the product, multiplied out for each step ----

Factor = Callable[[Tensor], Tensor]
_MANY_PRODUCTS = Limit(lambda size: size["T"], 64, "T² / 2 products with a Hessian")
_LARGE_MATRICES = Limit(lambda size: 8 * size["T"] * size["d"] ** 2, 1e8, "T Hessians of 8 d² bytes")


def _hvp(loss: str, point: Tensor, v: Tensor) -> Tensor:
    """∇²L(point) v; v (d,), or several as the rows of a matrix."""
    product: Tensor = LOSSES[loss].multiply(torch, LOSSES[loss].curvature(torch, point), v)
    return product


def _multiply_out(gradients: list[Tensor], factors: list[Factor]) -> Tensor:
    """−g_Tᵀ F_T ⋯ F_{t+1} g_{t−1} for each t, where F_t multiplies by I − η_t H_{t−1}."""
    by_eta = []
    for t, gradient in enumerate(gradients[:-1], 1):
        row = gradients[-1]
        for factor in reversed(factors[t:]):
            row = factor(row)
        by_eta.append(-row @ gradient)
    return torch.stack(by_eta)


@hypergradient.variant(
    source="the homework's product, with Hessians as matrices",
    computes="value_and_gradient",
    limits=(_MANY_PRODUCTS, _LARGE_MATRICES),
    grows=(
        replace(
            _QUADRATIC,
            exponents={"flops": 2, "graph_nodes": 0, "saved_bytes": 0, "peak_bytes": 1},
            at=size(loss="ring", d=32),
        ),
    ),
)
def product_of_matrices(eta: Tensor, start: Tensor, loss: str) -> Result:
    points, gradients = descend(torch, LOSSES[loss], eta, start)
    identity = torch.diag(torch.ones_like(start))
    hessians = [_hvp(loss, point, identity) for point in points[:-1]]
    factors = [(identity - step * H).mv for step, H in zip(eta, hessians, strict=True)]
    return LOSSES[loss].value(torch, points[-1]), (_multiply_out(gradients, factors),)


@hypergradient.variant(
    source="the homework's product, by Hessian-vector products",
    computes="value_and_gradient",
    limits=(_MANY_PRODUCTS,),
    grows=(_QUADRATIC,),
)
def product_of_hvps(eta: Tensor, start: Tensor, loss: str) -> Result:
    def factor(step: Tensor, point: Tensor) -> Factor:
        return lambda row: row - step * _hvp(loss, point, row)

    points, gradients = descend(torch, LOSSES[loss], eta, start)
    factors = list(map(factor, eta, points))
    return LOSSES[loss].value(torch, points[-1]), (_multiply_out(gradients, factors),)


# ---- reverse mode ----


@hypergradient.variant(
    source="the recursion of λ, no graph; all curvatures and all products by one call", computes="value_and_gradient"
)
def adjoint(eta: Tensor, start: Tensor, loss: str) -> Result:
    sweep = adjoint_sweep(torch, LOSSES[loss], eta, start)
    return sweep.value, (sweep.eta,)


@hypergradient.variant(
    source="the recursion of λ, no graph; the curvature and the product of one step at a time",
    computes="value_and_gradient",
)
def adjoint_step_by_step(eta: Tensor, start: Tensor, loss: str) -> Result:
    sweep = lean_adjoint_sweep(torch, LOSSES[loss], eta, start)
    return sweep.value, (sweep.eta,)


def _by_numpy(sweep: Sweep) -> Result:
    return torch.as_tensor(sweep.value), (torch.from_numpy(sweep.eta),)


@hypergradient.variant(
    source="adjoint in NumPy, whose operations cost less to call", computes="value_and_gradient", **_IN_NUMPY
)
def adjoint_in_numpy(eta: Tensor, start: Tensor, loss: str) -> Result:
    return _by_numpy(adjoint_sweep(NUMPY, LOSSES[loss], eta.numpy(), start.numpy()))


@hypergradient.variant(source="adjoint_step_by_step in NumPy", computes="value_and_gradient", **_IN_NUMPY)
def adjoint_step_by_step_in_numpy(eta: Tensor, start: Tensor, loss: str) -> Result:
    return _by_numpy(lean_adjoint_sweep(NUMPY, LOSSES[loss], eta.numpy(), start.numpy()))


@hypergradient.variant(source="torch.autograd through the T steps", grows=_UNROLLED)
def unrolled(eta: Tensor, start: Tensor, loss: str) -> Tensor:
    value: Tensor = LOSSES[loss].value(torch, end_of_path(eta, start, loss))
    return value


@hypergradient.variant(source="torch.autograd through T gradients by torch.autograd, create_graph", grows=_UNROLLED)
def unrolled_double_backward(eta: Tensor, start: Tensor, loss: str) -> Tensor:
    w = start.detach().requires_grad_()
    for step in eta.unbind():
        (gradient,) = torch.autograd.grad(LOSSES[loss].value(torch, w), w, create_graph=True)
        w = w - step * gradient
    value: Tensor = LOSSES[loss].value(torch, w)
    return value


@hypergradient.variant(
    source="torch.utils.checkpoint on segments of √T steps: their ends are kept, the rest is computed again",
    grows=(replace(BY_STEPS.but(graph_nodes=1, saved_bytes=0.5, peak_bytes=0.5), ladder=(64, 256, 1024)),),
)
def checkpointed(eta: Tensor, start: Tensor, loss: str) -> Tensor:
    w = start
    for segment in eta.split(math.isqrt(eta.numel() - 1) + 1):
        w = checkpoint(end_of_path, segment, w, loss, use_reentrant=False, preserve_rng_state=False)
    value: Tensor = LOSSES[loss].value(torch, w)
    return value


@hypergradient.variant(source="torch.func.grad_and_value", computes="value_and_gradient", grows=_UNROLLED)
def func_grad(eta: Tensor, start: Tensor, loss: str) -> Result:
    gradient, value = torch.func.grad_and_value(unrolled)(eta, start, loss)
    return value, (gradient,)


# ---- forward mode ----


@hypergradient.variant(
    source="torch.func.jvp, one pass of T steps for each η",
    computes="value_and_gradient",
    limits=(Limit(lambda size: size["T"], 32, "T passes of T steps"),),
    grows=(replace(BY_STEPS.but(ops=2, peak_bytes=0), ladder=(8, 16, 32)),),
)
def forward_passes(eta: Tensor, start: Tensor, loss: str) -> Result:
    units = torch.eye(eta.numel(), dtype=eta.dtype, device=eta.device)
    passes = [torch.func.jvp(lambda eta: unrolled(eta, start, loss), (eta,), (unit,)) for unit in units]
    return passes[0][0], (torch.stack([tangent for _, tangent, *_ in passes]),)


@hypergradient.variant(
    source="torch.func.vmap of jvp over the unit tangents: T passes at once", computes="value_and_gradient"
)
def batched_passes(eta: Tensor, start: Tensor, loss: str) -> Result:
    def push(unit: Tensor) -> tuple[Tensor, Tensor]:
        value, tangent, *_ = torch.func.jvp(lambda eta: unrolled(eta, start, loss), (eta,), (unit,))
        return value, tangent

    units = torch.eye(eta.numel(), dtype=eta.dtype, device=eta.device)
    values, by_eta = torch.func.vmap(push)(units)
    return values[0], (by_eta,)


@hypergradient.variant(
    source="the greedy derivative of the next loss alone, −g_t · g_{t−1}, as in hypergradient descent",
    computes="value_and_gradient",
    expected={"eta": ("disagree", "right for the last step only: what a step does to the later ones is left out")},
)
def greedy(eta: Tensor, start: Tensor, loss: str) -> Result:
    points, gradients = descend(torch, LOSSES[loss], eta, start)
    by_eta = -(torch.stack(gradients[1:]) * torch.stack(gradients[:-1])).sum(1)
    return LOSSES[loss].value(torch, points[-1]), (by_eta,)
