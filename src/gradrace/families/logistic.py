"""logistic: J = Σ_i log(1 + e^(−m_i)) + λ ‖w‖² with m_i = y_i ⟨w, x_i⟩. Teaches that λ > 0 makes a minimiser unique.

y_i is −1 or 1, the rows of X (N, D) are the x_i, and σ(z) = 1 / (1 + e^(−z)):

    ∂J/∂w = −Xᵀ(y σ(−m)) + 2 λ w,    ∂²J/∂w² = Xᵀ diag(σ(m) σ(−m)) X + 2 λ I,

so J is convex, and strongly convex where λ > 0: then it has one minimiser. With λ = 0 it may have many, where columns
of X depend on each other, or none, where a hyperplane separates the classes: ‖w‖ then grows without end. Written as
printed, e^(−m) overflows at m = −709.8 in float64 and −88.7 in float32.

Source: CSE 547 assignment 1, problem 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, Size, size
from gradrace.families.lapack import IN_SCIPY
from gradrace.families.numerics import measured

LAMBDA = 0.1


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Rows of unit length on average: margins of the size of 1, so that no residual underflows."""
    n, d = size["n"], size["d"]
    return {
        "w": rng.standard_normal(d),
        "X": rng.standard_normal((n, d)) / np.sqrt(d),
        "y": rng.choice([-1.0, 1.0], n),
        "lam": LAMBDA,
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision: (value, w (D,))."""
    w, X, y = (numbers[name].astype(np.longdouble) for name in ("w", "X", "y"))
    m = y * (X @ w)
    return {
        "value": np.logaddexp(0, -m).sum() + numbers["lam"] * (w @ w),
        "w": 2 * numbers["lam"] * w - X.T @ (y / (1 + np.exp(m))),
    }


BY_POINTS = Growth(
    "n",
    (250, 500, 1000),
    "value_and_gradient",
    {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 1},
    at=size(d=20),
)

logistic = Family(
    name="logistic",
    summary="the loss of logistic regression for labels ±1: what overflows, and what makes its minimiser unique",
    source="CSE 547 assignment 1, problem 5",
    primals=("w",),
    constants=("X", "y", "lam"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", n=1, d=2),
        size("test", n=40, d=5),
        size("gate", n=1_000, d=20),
        size("bench", "cuda", n=10_000, d=50),
    ),
    draw=draw,
    baseline="log_one_plus_exp",
    reference={"value_and_gradient": reference},
    condition=measured("w", "X"),
    # κ moves every entry of w and X, which adds up like the roundings of X w. What it does not see is that each
    # margin's exponential, sum, logarithm or quotient round as well, four times, and the sums over the rows: √n.
    depth=lambda size: 4 + np.sqrt(size["n"]) / 10,
    growth=(BY_POINTS,),
)


def _margins(w: Tensor, X: Tensor, y: Tensor) -> Tensor:
    return y * (X @ w)


@logistic.variant(source="the assignment's log(1 + e^(−m)) as printed")
def log_one_plus_exp(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return torch.log(1 + torch.exp(-_margins(w, X, y))).sum() + lam * (w @ w)


@logistic.variant(source="torch.log1p of the exponential, which keeps the digits of a small one")
def log1p_exp(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return torch.log1p(torch.exp(-_margins(w, X, y))).sum() + lam * (w @ w)


@logistic.variant(source="torch.nn.functional.softplus, a straight line beyond 20")
def softplus(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return F.softplus(-_margins(w, X, y)).sum() + lam * (w @ w)


@logistic.variant(source="torch.logaddexp of 0 and −m")
def logaddexp(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    m = _margins(w, X, y)
    return torch.logaddexp(torch.zeros_like(m), -m).sum() + lam * (w @ w)


@logistic.variant(source="torch.nn.functional.logsigmoid")
def logsigmoid(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return lam * (w @ w) - F.logsigmoid(_margins(w, X, y)).sum()


@logistic.variant(source="torch's soft margin loss, log(1 + e^(−m)) as printed")
def soft_margin_loss(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return F.soft_margin_loss(X @ w, y, reduction="sum") + lam * (w @ w)


@logistic.variant(source="torch's binary cross entropy with logits, for labels 0 and 1")
def bce_with_logits(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(X @ w, (y + 1) / 2, reduction="sum") + lam * (w @ w)


@logistic.variant(source="torch's cross entropy of the logits 0 and ⟨w, x⟩, softmax regression of two classes")
def cross_entropy(w: Tensor, X: Tensor, y: Tensor, lam: float) -> Tensor:
    logits = F.pad((X @ w).unsqueeze(1), (1, 0))
    return F.cross_entropy(logits, (y > 0).long(), reduction="sum") + lam * (w @ w)


@logistic.variant(
    source="2 λ w − Xᵀ(y σ(−m)), no graph",
    computes="value_and_gradient",
    grows=(BY_POINTS.but(saved_bytes=0),),
)
def closed_form(w: Tensor, X: Tensor, y: Tensor, lam: float) -> tuple[Tensor, tuple[Tensor]]:
    m = _margins(w, X, y)
    weights = torch.sigmoid(-m).mul_(y)
    value = lam * (w @ w) - F.logsigmoid(m).sum()
    return value, (torch.addmv(w, X.mT, weights, beta=2 * lam, alpha=-1),)


@logistic.variant(
    source="the same in NumPy, by scipy.special's log_expit and expit",
    computes="value_and_gradient",
    **IN_SCIPY,
    # torch sees none of the FLOPs.
    grows=(replace(BY_POINTS, exponents={"ops": 0, "graph_nodes": 0, "saved_bytes": 0}),),
)
def scipy_expit(w: Tensor, X: Tensor, y: Tensor, lam: float) -> tuple[Tensor, tuple[Tensor]]:
    from scipy.special import expit, log_expit

    weights, rows, labels = w.numpy(), X.numpy(), y.numpy()
    m = labels * (rows @ weights)
    value = lam * (weights @ weights) - log_expit(m).sum()
    return torch.tensor(value), (torch.from_numpy(2 * lam * weights - (labels * expit(-m)) @ rows),)
