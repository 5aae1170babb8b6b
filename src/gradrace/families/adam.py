"""adam: w after T steps of Adam on given gradients g. Teaches that a step costs its passes over memory, not its sums.

With m = v = 0 at the start, a step size η and elementwise powers and roots, for t = 1 … T

    m ← β₁ m + (1 − β₁) g_t,    v ← β₂ v + (1 − β₂) g_t²,    w ← w − η m̂ / (√v̂ + ε),
    m̂ = m / (1 − β₁ᵗ),          v̂ = v / (1 − β₂ᵗ).

As printed that is 14 kernels that read or write 32 words for each parameter; what has to move is 7 words: w, m and v
in and out, and g in. The averages of all steps together are two triangular matrix products,

    m̂ = L(β₁) g,    v̂ = L(β₂) g²,    L(β)_ts = (1 − β) β^(t−s) / (1 − βᵗ) for s ≤ t,

so that no loop is left, at the price of T times the arithmetic. With the cotangent ū of w_T and a = ū / (√v̂ + ε)

    ∂(ū·w_T)/∂g = η (g ∘ L(β₂)ᵀ (a m̂ / ((√v̂ + ε) √v̂)) − L(β₁)ᵀ a).

A model has many tensors of parameters, K of P entries each. The rule is elementwise, so they may be one array: a step
of it is as many kernels for all of them as for one. An optimiser that is given the K tensors calls K times as many
kernels, or those that take a list (`torch._foreach_…`, fused), which run as a few on a GPU and as a loop in C++ on the
CPU; and it keeps a count of its steps for every tensor.

Shapes: g (T, P), w (P,), or g (T, K, P), w (K, P); the value is w after T steps, of its shape.

Sources: D. P. Kingma and J. Ba, ICLR 2015; ECE 046211 homework 1, task 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, Size, size
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.numerics import measured

RATES = {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
"""The homework's step size, and the defaults."""

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Gradients of about 1e-3, of either sign and not near 0: where ε stands then shows in float32 as well."""
    of_w = (size["k"], size["p"]) if size.get("k") else (size["p"],)
    shape = (size["t"], *of_w)
    sign = rng.choice([-1.0, 1.0], size=shape)
    return {"g": 1e-3 * sign * rng.uniform(0.5, 1.5, shape), "w": rng.standard_normal(of_w), **RATES}


def wide_averages(numbers: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """m̂ and √v̂ of every step, (T, P) each, in extended precision."""
    g = numbers["g"].astype(np.longdouble)
    beta1, beta2 = np.longdouble(numbers["beta1"]), np.longdouble(numbers["beta2"])
    m = v = np.zeros_like(g[0])
    means, roots = np.empty_like(g), np.empty_like(g)
    for t, gradient in enumerate(g, 1):
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * gradient**2
        means[t - 1], roots[t - 1] = m / (1 - beta1**t), np.sqrt(v / (1 - beta2**t))
    return means, roots


def reference_primal(numbers: Numbers) -> Mapping[str, Any]:
    means, roots = wide_averages(numbers)
    return {"value": numbers["w"] - numbers["lr"] * (means / (roots + numbers["eps"])).sum(axis=0)}


def reference_vjp(numbers: Numbers) -> Mapping[str, Any]:
    """The recurrences of m and v run backwards: (value (P,), g (T, P))."""
    means, roots = wide_averages(numbers)
    g, beta1, beta2 = numbers["g"], np.longdouble(numbers["beta1"]), np.longdouble(numbers["beta2"])
    by_mean = -numbers["lr"] * numbers["cotangent"] / (roots + numbers["eps"])
    by_square = -by_mean * means / (2 * roots * (roots + numbers["eps"]))
    bar_m = bar_v = np.zeros_like(means[0])
    gradient = np.empty_like(means)
    for t in range(len(g), 0, -1):
        bar_m = beta1 * bar_m + by_mean[t - 1] / (1 - beta1**t)
        bar_v = beta2 * bar_v + by_square[t - 1] / (1 - beta2**t)
        gradient[t - 1] = (1 - beta1) * bar_m + 2 * (1 - beta2) * g[t - 1] * bar_v
    return {**reference_primal(numbers), "g": gradient}


# ---- the family ----

_CONSTANT = {"ops": 0, "graph_nodes": 0, "saved_bytes": 0}
_MANY = size(p=2000)
BY_STEPS = Growth("t", (32, 64, 128), "primal", {"ops": 1, "flops": 0, "peak_bytes": 0}, at=_MANY)
BY_STEPS_BACK = Growth("t", (32, 64, 128), "vjp", {"ops": 1, "graph_nodes": 1, "saved_bytes": 1}, at=_MANY)
BY_PARAMETERS = Growth("p", (1000, 2000, 4000), "primal", {"ops": 0, "peak_bytes": 1}, at=size(t=4))
"""A loop: kernels for every step, and two or three vectors for all of them; its graph keeps some of every step."""

BY_TENSORS = Growth("k", (32, 64, 128), "primal", {"ops": 0}, at=size(t=20, p=8))
"""One call for all tensors."""

adam = Family(
    name="adam",
    summary="T steps of Adam on given gradients: passes over memory, kernels, and no loop at all",
    source="Kingma and Ba (2015); ECE 046211 homework 1",
    primals=("g",),
    constants=("w", *RATES),
    operators=("primal", "vjp"),
    sizes=(
        size("test", t=7, p=3),
        size("test", t=20, p=11),
        size("large", t=100, p=2),
        size("bench", "gate", t=10, p=200),
        size("test", operators=("primal",), t=5, k=3, p=4),
        size("bench", operators=("primal",), t=10, k=64, p=200),
        size("large", "cuda", operators=("primal",), t=10, k=256, p=2000),
        size("large", "cuda", t=10, p=20_000),
        size("large", "cuda", t=10, p=500_000),
    ),
    draw=draw,
    baseline="textbook",
    reference={"primal": reference_primal, "vjp": reference_vjp},
    condition=measured("g", "w"),
    # κ moves the gradients once, where each step rounds anew: of random signs, that adds up as a root. The 10 are for
    # 1 − β₂ᵗ, which cancels three digits of the first steps; the average over all leaves one of them.
    depth=lambda size: 10 + math.sqrt(size["t"]),
    output_shape=lambda family, numbers: numbers["w"].shape,
    growth=(BY_STEPS, BY_STEPS_BACK, BY_PARAMETERS),
)

_PRIMAL: Mapping[str, Any] = {"operators": ("primal",)}

# ---- a loop of steps ----

Step = Callable[..., tuple[Tensor, Tensor, Tensor]]


def unbiased_moments(
    g: Tensor, m: Tensor, v: Tensor, t: int, beta1: float, beta2: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The new m and v, and m̂ and v̂ made of them."""
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    return m, v, m / (1 - beta1**t), v / (1 - beta2**t)


def textbook_step(
    w: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, beta1: float, beta2: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The t-th step as printed, t = 1, 2, …: the new w, m and v, all of one shape."""
    m, v, mean, square = unbiased_moments(g, m, v, t, beta1, beta2)
    return w - lr * mean / (torch.sqrt(square) + eps), m, v


def _walk(step: Step, g: Tensor, w: Tensor, *rates: float, first: int = 1) -> Tensor:
    m = v = torch.zeros_like(w)
    for t, gradient in enumerate(g.unbind(0), first):
        w, m, v = step(w, gradient, m, v, t, *rates)
    return w


@adam.variant(source="the homework's rule, 14 kernels a step")
def textbook(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _walk(textbook_step, g, w, lr, beta1, beta2, eps)


@adam.variant(source="in place by lerp_, addcmul_ and addcdiv_, both bias corrections in two numbers", **_PRIMAL)
def in_place(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    w, m, v, divisor = w.clone(), torch.zeros_like(w), torch.zeros_like(w), torch.empty_like(w)
    for t, gradient in enumerate(g.unbind(0), 1):
        correction = math.sqrt(1 - beta2**t)
        m.lerp_(gradient, 1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        torch.sqrt(v, out=divisor).add_(correction * eps)
        w.addcdiv_(m, divisor, value=-lr * correction / (1 - beta1**t))
    return w


def tensors(w: Tensor) -> list[Tensor]:
    """The K tensors of parameters: the rows of w, or w itself where it is one of them."""
    return list(w.unbind(0)) if w.dim() > 1 else [w]


@adam.variant(source="in_place by torch._foreach_*: six calls a step for all tensors", grows=(BY_TENSORS,), **_PRIMAL)
def foreach_kernels(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    w = w.clone()
    parameters, m, v = tensors(w), tensors(torch.zeros_like(w)), tensors(torch.zeros_like(w))
    for t, gradient in enumerate(g.unbind(0), 1):
        gradients, correction = tensors(gradient), math.sqrt(1 - beta2**t)
        torch._foreach_lerp_(m, gradients, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, gradients, gradients, 1 - beta2)
        divisors = torch._foreach_sqrt(v)
        torch._foreach_add_(divisors, correction * eps)
        torch._foreach_addcdiv_(parameters, m, divisors, -lr * correction / (1 - beta1**t))
    return w


@adam.variant(source="the kernel below torch.optim.Adam(fused=True), called directly: 7 words a step", **_PRIMAL)
def fused_kernel(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    w, m, v = w.clone(), torch.zeros_like(w), torch.zeros_like(w)
    t = torch.zeros((), device=w.device)
    for gradient in g.unbind(0):
        torch._fused_adam_(
            *([w], [gradient], [m], [v], [], [t.add_(1)]),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
    return w


# ---- torch.optim ----


def _optimise(
    g: Tensor, w: Tensor, lr: float, *rates: float, step_dtype: torch.dtype | None = None, **how: Any
) -> Tensor:
    beta1, beta2, eps = rates
    w = w.clone()
    parameters = tensors(w)
    optimiser = torch.optim.Adam(parameters, lr=lr, betas=(beta1, beta2), eps=eps, **how)
    if step_dtype:  # what Adam makes at its first step, but for the dtype
        for each in parameters:
            zeros = {"exp_avg": torch.zeros_like(each), "exp_avg_sq": torch.zeros_like(each)}
            optimiser.state[each] = {"step": torch.zeros((), dtype=step_dtype), **zeros}
    for gradient in g.unbind(0):
        for each, its_gradient in zip(parameters, tensors(gradient), strict=True):
            each.grad = its_gradient
        optimiser.step()
    return w


@adam.variant(source="torch.optim.Adam(foreach=False): tensor by tensor", grows=(BY_TENSORS.but(ops=1),), **_PRIMAL)
def optim_loop(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _optimise(g, w, lr, beta1, beta2, eps, foreach=False)


@adam.variant(source="torch.optim.Adam(foreach=True): all tensors at once", **_PRIMAL)
def optim_foreach(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _optimise(g, w, lr, beta1, beta2, eps, foreach=True)


@adam.variant(source="torch.optim.Adam(fused=True)", **_PRIMAL)
def optim_fused(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _optimise(g, w, lr, beta1, beta2, eps, fused=True)


@adam.variant(
    source="torch.optim.Adam(differentiable=True), its counter of steps in float64",
    operators=("vjp",),
)
def optim_differentiable(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _optimise(g, w, lr, beta1, beta2, eps, step_dtype=torch.float64, differentiable=True)


@adam.variant(
    source="torch.optim.Adam(differentiable=True)",
    operators=("vjp",),
    dtypes=("float64",),
    expected={
        "value": ("disagree", "it counts its steps in float32, and so takes 1 − β₂ᵗ, which is wrong by 1e-5"),
        "g": ("disagree", "the same bias correction"),
    },
)
def optim_differentiable_float32_step(
    g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float
) -> Tensor:
    return _optimise(g, w, lr, beta1, beta2, eps, differentiable=True)


# ---- no loop, or no graph ----


def averaging(steps: int, beta: float) -> np.ndarray:
    """L(β), (T, T), in float64: of 1 − βᵗ float32 keeps four digits."""
    t = np.arange(1.0, steps + 1)
    powers = np.tril((1 - beta) * beta ** (t[:, None] - t))
    return np.asarray(powers / (1 - beta**t)[:, None])


def averages(g: Tensor, *betas: float) -> tuple[Tensor, ...]:
    """L(β) of each β for the T rows of g, of its type and on its device."""
    return tuple(torch.from_numpy(averaging(len(g), beta)).to(g) for beta in betas)


@adam.variant(
    source="two triangular matrix products, no loop",
    grows=(BY_STEPS.but(ops=0, flops=2, peak_bytes=1), BY_STEPS_BACK.but(ops=0, graph_nodes=0)),
)
def closed_form(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    rows = g.flatten(1)
    first, second = averages(g, beta1, beta2)
    return w - lr * (first @ rows / ((second @ (rows * rows)).sqrt() + eps)).sum(0).view_as(w)


@adam.variant(
    source="closed_form in NumPy, whose operations cost less to call",
    grows=tuple(replace(law, exponents={"ops": 0}) for law in (BY_STEPS, BY_PARAMETERS)),  # torch sees none of it
    **IN_NUMPY,
    **_PRIMAL,
)
def closed_form_in_numpy(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    rows = g.flatten(1).numpy()
    first, second = (averaging(len(g), beta).astype(rows.dtype) for beta in (beta1, beta2))
    change = (first @ rows) / (np.sqrt(second @ (rows * rows)) + eps)
    return w - lr * torch.from_numpy(change.sum(0)).view_as(w)


Pullback = tuple[Tensor, tuple[Tensor]]

CHUNK = 8192
"""Parameters at a time: T rows of so many, and what is made of them, stay in the cache."""

_VJP: Mapping[str, Any] = {"computes": "vjp"}


@adam.variant(
    source="the adjoint by four triangular matrix products on a few thousand parameters at a time, no graph",
    grows=(BY_STEPS_BACK.but(**_CONSTANT),),
    **_VJP,
)
def adjoint_products(
    g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float, cotangent: Tensor
) -> Pullback:
    first, second = averages(g, beta1, beta2)
    value, by_g = torch.empty_like(w), torch.empty_like(g)
    columns = (*(each.split(CHUNK, 1) for each in (g, by_g)), *(each.split(CHUNK) for each in (w, cotangent, value)))
    for gradients, out, start, back, end in zip(*columns, strict=True):
        root = (second @ (gradients * gradients)).sqrt_()
        divisor = root + eps
        change, a = (first @ gradients).div_(divisor), back / divisor
        by_square = second.mT @ (change * a).div_(root)
        torch.sub(start, change.sum(0), alpha=lr, out=end)
        out.copy_(torch.addmm(by_square.mul_(gradients), first.mT, a, beta=lr, alpha=-lr))
    return value, (by_g,)


@adam.variant(
    source="the adjoint by four triangular matrix products in NumPy, whose operations cost less to call",
    grows=(BY_STEPS_BACK.but(ops=0, flops=0, graph_nodes=0, saved_bytes=0),),  # torch sees none of it
    **IN_NUMPY,
    **_VJP,
)
def adjoint_in_numpy(
    g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float, cotangent: Tensor
) -> Pullback:
    rows, back = g.numpy(), cotangent.numpy()
    first, second = (averaging(len(g), beta).astype(rows.dtype) for beta in (beta1, beta2))
    root = np.sqrt(second @ (rows * rows))
    divisor = root + eps
    change, a = (first @ rows) / divisor, back / divisor
    by_g = lr * (second.T @ (change * a / root) * rows - first.T @ a)
    return torch.sub(w, torch.from_numpy(change.sum(0)), alpha=lr), (torch.from_numpy(by_g),)


def _scan(terms: Tensor, beta: float, backwards: bool = False) -> Tensor:
    """Rows s_t = β s_(t−1) + (1 − β) terms_t from either end: (T, P)."""
    sums = torch.empty_like(terms)
    rows = list(zip(terms.unbind(0), sums.unbind(0), strict=True))
    state = torch.zeros_like(terms[0])
    for term, row in reversed(rows) if backwards else rows:
        state = torch.lerp(state, term, 1 - beta, out=row)
    return sums


@adam.variant(
    source="the adjoint by four recurrences of one kernel a step, all else in bulk, no graph",
    # 42 kernels beside the 4 of each step.
    grows=(replace(BY_STEPS_BACK.but(graph_nodes=0, saved_bytes=0), ladder=(128, 256, 512)),),
    **_VJP,
)
def adjoint_scans(
    g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float, cotangent: Tensor
) -> Pullback:
    t = torch.arange(1, len(g) + 1, dtype=torch.float64, device=g.device).unsqueeze(1)
    first, second = ((1 - beta**t).to(g.dtype) for beta in (beta1, beta2))
    root = _scan(g * g, beta2).div_(second).sqrt_()
    divisor = root + eps
    change, a = _scan(g, beta1).div_(first).div_(divisor), cotangent / divisor
    by_square = _scan((change * a).div_(root).div_(second), beta2, backwards=True)
    by_mean = _scan(a.div_(first), beta1, backwards=True)
    return torch.sub(w, change.sum(0), alpha=lr), (by_square.mul_(g).sub_(by_mean).mul_(lr),)


# ---- known to be wrong ----

_NAN = "1 − β⁰ = 0: m̂ and v̂ are infinite, and ∞/∞ is NaN"


@adam.variant(
    source="the homework's rule with a time that starts at 0",
    expected={"value": ("nan", _NAN), "g": ("nan", _NAN)},
)
def time_from_zero(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _walk(textbook_step, g, w, lr, beta1, beta2, eps, first=0)


def step_with_eps_in_the_root(
    w: Tensor, g: Tensor, m: Tensor, v: Tensor, t: int, lr: float, beta1: float, beta2: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    m, v, mean, square = unbiased_moments(g, m, v, t, beta1, beta2)
    return w - lr * mean / torch.sqrt(square + eps), m, v


@adam.variant(
    source="ε inside the root, as some write it",
    expected={
        "value": ("disagree", "√(v̂ + ε) is another rule: with ε = 1e-8 it damps every |g| below 1e-4"),
        "g": ("disagree", "another rule"),
    },
)
def eps_in_the_root(g: Tensor, w: Tensor, lr: float, beta1: float, beta2: float, eps: float) -> Tensor:
    return _walk(step_with_eps_in_the_root, g, w, lr, beta1, beta2, eps)
