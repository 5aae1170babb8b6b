"""softmax_refclass: J = L − λ/2 ‖W‖², logistic regression of R classes, one of them the reference.

Teaches that a zero column stands for the class without weights, and that a sign in a formula needs a second opinion.
With W (R − 1, D), X (N, D), labels l in 0 … R − 1 of which R − 1 is the reference class, z = X Wᵀ and z_{·,R−1} = 0,

    L = Σ_j (z_{j,l_j} − log Σ_k e^{z_jk}),    ∂J/∂W = (Y − P)ᵀ X − λ W,

where Y holds the labels as unit rows, P = softmax(z), both without their last column. L is a log-likelihood, so J
is maximised and its penalty is subtracted; the homework's eq (13) adds it, which is unbounded above.

Source: CSE 547 assignment 1, eqs (7) to (14).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Numbers, Size, size
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
    condition=measured("W", "X"),
    # κ moves every entry of W and X, which adds up like the roundings of X Wᵀ. What it does not see is that each
    # row's exponential, sum, quotient and residual round as well: four times.
    depth=4.0,
)


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


@softmax_refclass.variant(source="the homework's log(1 + Σ exp) as printed, which overflows at logits over 709")
def log1p_sum_exp(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    z = X @ W.mT
    chosen = _padded(z).gather(1, labels.unsqueeze(1)).squeeze(1)
    return (chosen - torch.log1p(z.exp().sum(dim=1))).sum() - _penalty(W, lam)


@softmax_refclass.variant(source="(Y − P)ᵀ X − λ W without a graph", computes="value_and_gradient")
def closed_form(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> tuple[Tensor, tuple[Tensor]]:
    log_probabilities = torch.log_softmax(_padded(X @ W.mT), dim=1)
    chosen = labels.unsqueeze(1)
    value = log_probabilities.gather(1, chosen).sum() - _penalty(W, lam)
    residual = log_probabilities.exp().neg_()
    residual.scatter_add_(1, chosen, torch.ones_like(residual[:, :1]))
    return value, (torch.addmm(W, residual[:, :-1].mT, X, beta=-lam),)


@softmax_refclass.variant(
    source="the homework's eq (13): the penalty is added to a log-likelihood",
    expected={
        "value": ("disagree", "λ ‖W‖² too large, and unbounded above as an objective to maximise"),
        "W": ("disagree", "2 λ W is added to the gradient: the penalty drives the weights apart"),
    },
)
def plus_lambda(W: Tensor, X: Tensor, labels: Tensor, lam: float) -> Tensor:
    return logsumexp_zero_column(W, X, labels, -lam)
