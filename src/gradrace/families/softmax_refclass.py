"""softmax_refclass: J = L − λ/2 ‖W‖². Teaches that the layout of the logits can cost as much as their graph.

L is the log-likelihood of logistic regression of R classes, the last of which is the reference: it has no weights, and
a logit of zero. With W (R − 1, D), X (N, D), labels l in 0 … R − 1, z = X Wᵀ and z_{·,R−1} = 0,

    L = Σ_j (z_{j,l_j} − log Σ_k e^{z_jk}),    ∂J/∂W = (Y − P)ᵀ X − λ W,

where Y holds the labels as unit rows, P = softmax(z), both without their last column. As printed, log(1 + Σ e^z)
overflows at logits over 709.8 in float64 and 88.7 in float32. With few classes the sums over them are short loops; on
zᵀ (R, N) in place of z they run along the samples, a whole vector register at a time.

L is a log-likelihood, so J is maximised and its penalty is subtracted; the homework's eq (13) adds it, which is
unbounded above: a sign in a formula needs a second opinion.

Source: CSE 547 assignment 1, eqs (7) to (14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families.numerics import measured

LAMBDA = 0.1


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Rows of unit length on average, so that no class is certain and no residual Y − P underflows."""
    classes, d = size["r"], size["d"]
    return {
        "W": rng.standard_normal((classes - 1, d)),
        "X": rng.standard_normal((size["n"], d)) / np.sqrt(d),
        "labels": rng.integers(classes, size=size["n"]),
        "lam": LAMBDA,
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision, shifted by the largest logit: (value, W (R − 1, D))."""
    W, X = numbers["W"].astype(np.longdouble), numbers["X"].astype(np.longdouble)
    rows, labels = np.arange(len(X)), numbers["labels"]
    z = np.hstack([X @ W.T, np.zeros((len(X), 1), dtype=np.longdouble)])
    top = z.max(axis=1, keepdims=True)
    powers = np.exp(z - top)
    log_sums = top[:, 0] + np.log(powers.sum(axis=1))
    residual = -powers / powers.sum(axis=1, keepdims=True)
    residual[rows, labels] += 1
    return {
        "value": (z[rows, labels] - log_sums).sum() - numbers["lam"] / 2 * (W * W).sum(),
        "W": residual[:, :-1].T @ X - numbers["lam"] * W,
    }


DEPTH = 4.0
"""Each row's exponential, sum, quotient and residual: κ, which moves every entry of W and X, does not see them."""

condition = measured("W", "X")


def one_at_a_time(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, Any]:
    """κ where the terms of n samples are added one by one, so that √n roundings come on top of the others."""
    longer = 1 + np.sqrt(size["n"]) / DEPTH
    return {name: longer * kappa for name, kappa in condition(size, numbers, reference).items()}


_PRODUCTS = {"ops": 0, "flops": 1, "graph_nodes": 0}
"""The counts of two products of matrices, 4 N D R FLOPs, in each of their three axes."""

BY_SAMPLES = Growth("n", (64, 128, 256), "value_and_gradient", {**_PRODUCTS, "saved_bytes": 1}, at=size(d=5, r=4))
BY_FEATURES = Growth("d", (64, 128, 256), "value_and_gradient", {**_PRODUCTS, "saved_bytes": 0}, at=size(n=8, r=4))
BY_CLASSES = Growth("r", (64, 128, 256), "value_and_gradient", {**_PRODUCTS, "saved_bytes": 1}, at=size(n=8, d=5))
"""A graph keeps what has the shape of the logits, N R numbers; X and W are there anyway."""

_NO_GRAPH = (BY_SAMPLES.but(saved_bytes=0), BY_CLASSES.but(saved_bytes=0))

softmax_refclass = Family(
    name="softmax_refclass",
    summary="log-likelihood of logistic regression with a reference class, and the sign of its penalty",
    source="CSE 547 assignment 1, eqs (7) to (14)",
    primals=("W",),
    constants=("X", "labels", "lam"),
    operators=("value_and_gradient",),
    sizes=(size("test", n=7, d=3, r=4), size("bench", "cuda", n=1000, d=20, r=10)),
    draw=draw,
    baseline="logsumexp_zero_column",
    reference={"value_and_gradient": reference},
    condition=condition,
    depth=DEPTH,
    growth=(BY_SAMPLES, BY_FEATURES, BY_CLASSES),
)

Result = tuple[Tensor, tuple[Tensor]]


def _penalty(W: Tensor, lam: float) -> Tensor:
    return lam / 2 * (W * W).sum()


def _padded(logits: Tensor) -> Tensor:
    """The logits with the zero column of the reference class: (N, R)."""
    return F.pad(logits, (0, 1))


@softmax_refclass.variant(source="torch.logsumexp over the logits and a column of zeros")
def logsumexp_zero_column(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    z = _padded(X @ W.mT)
    chosen = z.gather(1, labels.unsqueeze(1)).squeeze(1)
    return (chosen - torch.logsumexp(z, dim=1)).sum() - _penalty(W, lam)


@softmax_refclass.variant(source="torch.nn.functional.cross_entropy of the padded logits")
def cross_entropy(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    return -F.cross_entropy(_padded(X @ W.mT), labels, reduction="sum") - _penalty(W, lam)


@softmax_refclass.variant(source="torch.nn.functional.nll_loss of log_softmax: cross_entropy in two steps")
def nll_of_log_softmax(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    return -F.nll_loss(torch.log_softmax(_padded(X @ W.mT), dim=1), labels, reduction="sum") - _penalty(W, lam)


@softmax_refclass.variant(source="the homework's log(1 + Σ exp) as printed, which overflows at logits over 709")
def log1p_sum_exp(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    z = X @ W.mT
    chosen = _padded(z).gather(1, labels.unsqueeze(1)).squeeze(1)
    return (chosen - torch.log1p(z.exp().sum(dim=1))).sum() - _penalty(W, lam)


@softmax_refclass.variant(
    source="the homework's sums as printed: loops over samples and classes, which overflow at logits over 709",
    computes="value_and_gradient",
    unsupported={"cuda": "Python reads the labels, and asks for each number in turn"},
    limits=(Limit(lambda size: size["n"] * size["r"], 10_000, "a Python loop over samples and classes"),),
    condition=one_at_a_time,
    grows=(BY_SAMPLES.but(ops=1, saved_bytes=0), BY_CLASSES.but(ops=1, saved_bytes=0)),
)
def loop_over_classes(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Result:
    value, gradient = -_penalty(W, lam), -lam * W
    for x, label in zip(X, labels.tolist(), strict=True):
        z = [w @ x for w in W]
        powers = [each.exp() for each in z]
        total = sum(powers, torch.ones_like(value))
        value -= total.log()
        if label < len(W):
            value += z[label]
            gradient[label] += x
        for k, power in enumerate(powers):
            gradient[k] -= power / total * x
    return value, (gradient,)


@softmax_refclass.variant(source="(Y − P)ᵀ X − λ W, no graph", computes="value_and_gradient", grows=_NO_GRAPH)
def closed_form(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Result:
    log_probabilities = torch.log_softmax(_padded(X @ W.mT), dim=1)
    chosen = labels.unsqueeze(1)
    value = log_probabilities.gather(1, chosen).sum() - _penalty(W, lam)
    residual = log_probabilities.exp().neg_()
    residual.scatter_add_(1, chosen, torch.ones_like(residual[:, :1]))
    return value, (torch.addmm(W, residual[:, :-1].mT, X, beta=-lam),)


# ---- zᵀ (R, N): the samples of a class are neighbours ----


def _transposed(W: Tensor, X: Tensor) -> Tensor:
    """zᵀ (R, N). A row of zeros below W gives the reference class its logits, and copies no N R numbers for it."""
    return F.pad(W, (0, 0, 0, 1)) @ X.mT


@softmax_refclass.variant(source="torch.log_softmax of zᵀ (R, N), the sums over classes along samples")
def log_softmax_transposed(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    return torch.log_softmax(_transposed(W, X), dim=0).gather(0, labels.unsqueeze(0)).sum() - _penalty(W, lam)


@softmax_refclass.variant(
    source="the closed form on zᵀ (R − 1, N) without the reference class: logaddexp(0, log Σ exp); no graph",
    computes="value_and_gradient",
    grows=_NO_GRAPH,
)
def closed_form_without_column(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Result:
    z = W @ X.mT
    partial = torch.logsumexp(z, dim=0)
    log_sums = torch.logaddexp(partial, torch.zeros_like(partial))
    # A label of the reference class is a column of zeros.
    Y = (torch.arange(len(W), device=labels.device).unsqueeze(1) == labels).to(z.dtype)
    value = (Y * z).sum() - log_sums.sum() - _penalty(W, lam)
    return value, (torch.addmm(W, z.sub_(log_sums).exp_().sub_(Y), X, beta=-lam, alpha=-1),)


def _likelihood_and_residual(W: Tensor, X: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """L and (P − Y)ᵀ (R − 1, N), by one exponential for each logit beside those of log_softmax."""
    log_probabilities, label = torch.log_softmax(_transposed(W, X), dim=0), labels.unsqueeze(0)
    chosen = log_probabilities.gather(0, label)
    likelihood = chosen.sum()
    # P − 1 = expm1(log P): the entries of the labels are written once, and keep the digits that the difference loses.
    return likelihood, log_probabilities.exp_().scatter_(0, label, chosen.expm1_())[:-1]


@softmax_refclass.variant(
    source="the closed form on zᵀ (R, N), no graph: in place, a sum over classes runs along samples",
    computes="value_and_gradient",
    grows=_NO_GRAPH,
)
def closed_form_transposed(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Result:
    likelihood, residual = _likelihood_and_residual(W, X, labels)
    value = torch.sub(likelihood, (W * W).sum(), alpha=lam / 2)
    return value, (torch.addmm(W, residual, X, beta=-lam, alpha=-1),)


class _Likelihood(torch.autograd.Function):
    """L, whose backward pass is one product with (P − Y)ᵀ: of all between W and L it is what a graph has to keep."""

    @staticmethod
    def forward(ctx: Any, W: Tensor, X: Tensor, labels: Tensor) -> Tensor:
        likelihood, residual = _likelihood_and_residual(W, X, labels)
        ctx.save_for_backward(W, X, labels, residual)
        return likelihood

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor | None, None]:
        W, X, labels, residual = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For a second derivative the residual must depend on W again.
            Y = F.one_hot(labels, len(W) + 1).mT
            residual = (torch.softmax(_transposed(W, X), dim=0) - Y)[:-1]
        by_X = -cotangent * (residual.mT @ W) if ctx.needs_input_grad[1] else None
        return -cotangent * (residual @ X), by_X, None


@softmax_refclass.variant(source="a custom autograd.Function on zᵀ that keeps (P − Y)ᵀ alone, its backward one product")
def custom_function(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    likelihood: Tensor = _Likelihood.apply(W, X, labels)
    return likelihood - _penalty(W, lam)


@softmax_refclass.variant(
    source="the homework's eq (13): the penalty is added to a log-likelihood",
    expected={
        "value": ("disagree", "λ ‖W‖² too large, and unbounded above as an objective to maximise"),
        "W": ("disagree", "2 λ W is added to the gradient: the penalty drives the weights apart"),
    },
)
def plus_lambda(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    return logsumexp_zero_column(W, X, labels, -lam)
