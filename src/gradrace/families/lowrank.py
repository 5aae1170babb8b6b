"""lowrank: f = ‖A − U V‖², the best approximation of rank r. Teaches saddles, gauges, and what a residual costs.

With A (m, n), U (m, r), V (r, n) and R = U V − A,

    ∂f/∂U = 2 R Vᵀ,    ∂f/∂V = 2 Uᵀ R.

The one primal W (m + n, r) is the stack of U and Vᵀ. Only the product U V counts: U G and G⁻¹ V give the same f. With
the singular values σ of A the minimum is Σ_{i>r} σ_i² (Eckart and Young); where U V keeps other singular vectors than
the first r, f is stationary too, at the sum of the σ_i² it leaves out: saddles, by which a descent is held up. At a
minimum the largest eigenvalue of the Hessian is 2 (σ_max(U)² + σ_max(V)²) ≥ 4 σ_1: balanced factors are the flattest,
and descent by η must come below 2/η. Solvers start from `W` and tie when they reach the minimum of f.

R takes a product and m n numbers; f = ‖A‖² − 2 U·A Vᵀ + UᵀU·V Vᵀ does without it, and loses the digits that cancel.

Source: ECE 046211 homework 1, task 4; C. Eckart and G. Young, Psychometrika 1 (1936).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families import endpoints
from gradrace.families.descent import Descent, descend
from gradrace.families.endpoints import Solvers
from gradrace.families.iris import centred_iris
from gradrace.families.numerics import measured

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """The centred Iris table, or a matrix whose singular values halve; factors uniform in [0, 1), as printed."""
    m, n, r = size["m"], size["n"], size["r"]
    if size["data"] == "iris":
        A = centred_iris()
    else:
        P, Q = (np.linalg.qr(rng.standard_normal((side, min(m, n))))[0] for side in (m, n))
        A = np.sqrt(m * n) * (P * 0.5 ** np.arange(min(m, n))) @ Q.T
    return {"W": rng.random((m + n, r)), "A": A}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision: (value, W (m + n, r))."""
    W, A = (numbers[name].astype(np.longdouble) for name in ("W", "A"))
    U, Vt = W[: len(A)], W[len(A) :]
    R = U @ Vt.T - A
    return {"value": (R * R).sum(), "W": 2 * np.concatenate([R @ Vt, R.T @ U])}


def eckart_young(A: np.ndarray, r: int) -> float:
    """The least ‖A − B‖² of all B of rank r: Σ_{i>r} σ_i²."""
    return float((np.linalg.svd(A, compute_uv=False)[r:] ** 2).sum())


def distance(numbers: Numbers, found: np.ndarray) -> np.ndarray:
    """By what share f exceeds its minimum: the factors themselves are free up to a gauge."""
    A = numbers["A"]
    residual = found[: len(A)] @ found[len(A) :].T - A
    least = eckart_young(A, found.shape[1])
    return np.asarray((residual * residual).sum() / least - 1)


condition = measured("W", "A")


def gram_condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, float]:
    """κ where f and its gradient are what is left of terms of the size of ‖A‖² and A Vᵀ."""
    W, A = numbers["W"], numbers["A"]
    U, Vt = W[: len(A)], W[len(A) :]
    exact, kappa = reference(numbers), condition(size, numbers, reference)
    fitted = ((U.T @ U) * (Vt.T @ Vt)).sum()
    terms = {
        "value": ((A * A).sum() + 2 * abs(((A @ Vt) * U).sum()) + fitted) / exact["value"],
        "W": 2 * max(np.abs(A @ Vt).max(), np.abs(A.T @ U).max()) / np.abs(exact["W"]).max(),
    }
    return {name: float(kappa[name] + terms[name]) for name in terms}


_DERIVATIVE = ("value_and_gradient",)

BY_ROWS = Growth(
    "m",
    (512, 1024, 2048),
    "value_and_gradient",
    {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 0},
    at=size(data="random", n=32, r=4),
)
"""6 m n r FLOPs with the residual; a graph keeps it."""

_KEEPS_RESIDUAL = (BY_ROWS.but(saved_bytes=1),)

lowrank = Family(
    name="lowrank",
    summary="‖A − UV‖²: saddles, gauges and the price of a residual",
    source="ECE 046211 homework 1, task 4",
    primals=("W",),
    constants=("A",),
    operators=("value_and_gradient", "solve"),
    sizes=(
        size("test", data="random", m=7, n=5, r=2, operators=_DERIVATIVE),
        size("test", data="iris", m=150, n=4, r=2, operators=_DERIVATIVE),
        size("bench", "gate", data="random", m=400, n=300, r=10, operators=_DERIVATIVE),
        size("large", "cuda", data="random", m=1000, n=800, r=16, operators=_DERIVATIVE),
        size("test", data="iris", m=150, n=4, r=2, operators=("solve",), dtypes=("float64",)),
        size("bench", data="random", m=300, n=200, r=10, operators=("solve",), dtypes=("float64",)),
    ),
    draw=draw,
    baseline={"value_and_gradient": "mse_loss", "solve": "svd"},
    reference={"value_and_gradient": reference},
    condition=condition,
    # κ moves every entry of W and A, which adds up like the roundings of a product; two products round, and the sum of
    # m n squares, which some add up one by one.
    depth=lambda size: 1 + np.log2(size["m"] * size["n"]) / 2,
    distance=distance,
    growth=(BY_ROWS,),
)

Result = tuple[Tensor, tuple[Tensor]]


def _factors(W: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
    """U (…, m, r) and Vᵀ (…, n, r)."""
    m = A.shape[-2]
    return W[..., :m, :], W[..., m:, :]


# ---- value and gradient ----


@lowrank.variant(
    source="torch.nn.functional.mse_loss with reduction='sum', as the homework asks", grows=_KEEPS_RESIDUAL
)
def mse_loss(W: Tensor, A: Tensor) -> Tensor:
    U, Vt = _factors(W, A)
    return F.mse_loss(U @ Vt.mT, A, reduction="sum")


@lowrank.variant(source="the square of torch.linalg.matrix_norm", grows=_KEEPS_RESIDUAL)
def squared_norm(W: Tensor, A: Tensor) -> Tensor:
    U, Vt = _factors(W, A)
    return torch.linalg.matrix_norm(U @ Vt.mT - A) ** 2


@lowrank.variant(source="torch.func.grad_and_value", computes="value_and_gradient", grows=_KEEPS_RESIDUAL)
def func_grad(W: Tensor, A: Tensor) -> Result:
    gradient, value = torch.func.grad_and_value(mse_loss)(W, A)
    return value, (gradient,)


@lowrank.variant(source="2 R Vᵀ and 2 Uᵀ R, no graph", computes="value_and_gradient")
def closed_form(W: Tensor, A: Tensor) -> Result:
    U, Vt = _factors(W, A)
    R = U @ Vt.mT - A
    return (R * R).sum(), (2 * torch.cat((R @ Vt, R.mT @ U)),)


@lowrank.variant(source="R by one addmm, both products into one buffer", computes="value_and_gradient")
def in_place(W: Tensor, A: Tensor) -> Result:
    U, Vt = _factors(W, A)
    R, gradient = torch.addmm(A, U, Vt.mT, beta=-1), torch.empty_like(W)
    by_U, by_Vt = _factors(gradient, A)
    torch.mm(R, Vt, out=by_U)
    torch.mm(R.mT, U, out=by_Vt)
    flat = R.flatten()
    return flat.dot(flat), (gradient.mul_(2),)


@lowrank.variant(
    source="U V Vᵀ − A Vᵀ and Vᵀ UᵀU − Aᵀ U, without the residual, into one buffer: 4 m n r FLOPs in place of 6",
    computes="value_and_gradient",
    condition=gram_condition,
)
def gram(W: Tensor, A: Tensor) -> Result:
    (U, Vt), gradient = _factors(W, A), torch.empty_like(W)
    by_U, by_Vt = _factors(gradient, A)
    UU, VV = U.mT @ U, Vt.mT @ Vt
    torch.mm(A, Vt, out=by_U)
    # A norm reads A once, where the sum of its squares would write them first.
    value = torch.linalg.vector_norm(A).square() - 2 * (by_U * U).sum() + (UU * VV).sum()
    torch.addmm(by_U, U, VV, beta=-2, alpha=2, out=by_U)
    torch.mm(A.mT, U, out=by_Vt)
    torch.addmm(by_Vt, Vt, UU, beta=-2, alpha=2, out=by_Vt)
    return value, (gradient,)


@lowrank.variant(
    source="torch.nn.functional.mse_loss with its default reduction='mean'",
    expected={
        "value": ("disagree", "the mean over the m n entries"),
        "W": ("disagree", "1/(m n) of the gradient: a descent by the same step hardly moves"),
    },
    grows=_KEEPS_RESIDUAL,
)
def mean_reduction(W: Tensor, A: Tensor) -> Tensor:
    U, Vt = _factors(W, A)
    return F.mse_loss(U @ Vt.mT, A)


# ---- solvers ----

RATE, EPOCHS = 0.01, 1000
"""The homework's; from four random starts in five that is too short for six digits."""

SOLVERS = Solvers(lowrank)

_DESCENT: Mapping[str, Any] = {
    "iterations": EPOCHS,
    "stopped": False,
    "success": {None: 0.19},  # of a thousand starts
    "limits": (Limit(lambda size: 4 * math.sqrt(size["m"] * size["n"]), 2 / RATE, "diverges where 4 σ_1 exceeds 2/η"),),
}


def landscape(A: Tensor, r: int) -> endpoints.Landscape:
    """Of factors W (b, m + n, r), by which singular values U V keeps, which no gauge changes.

    With A_r the first r triplets, distance is ‖U V − A_r‖ / ‖A_r‖. A saddle is where U V keeps another set than these,
    f is within `close` ‖A‖² of the Σ σ_i² of the others, and a step ∇f/(4 σ_1) is at most `close` times 1 + ‖W‖. The
    Hessian is singular there, and no Newton step could tell. The σ should differ: then A_r is the only minimum.
    """
    P, sigma, Qt = torch.linalg.svd(A, full_matrices=False)
    best = (P[:, :r] * sigma[:r]) @ Qt[:r]
    among_first = torch.arange(len(sigma), device=A.device) < r

    def product(W: Tensor) -> Tensor:
        U, Vt = _factors(W, A)
        return U @ Vt.mT

    def loss(W: Tensor) -> Tensor:
        return (product(W) - A).square().sum((-2, -1))

    def critical(W: Tensor, close: float) -> tuple[Tensor, Tensor]:
        (U, Vt), B = _factors(W, A), product(W)
        is_kept = (P.mT @ B @ Qt.mT).diagonal(dim1=-2, dim2=-1) > sigma / 2
        level = torch.where(is_kept, 0, sigma**2).sum(-1)
        gradient = 2 * torch.cat(((B - A) @ Vt, (B - A).mT @ U), dim=-2)
        step = torch.linalg.matrix_norm(gradient) / (4 * sigma[0])
        found = (
            (is_kept != among_first).any(-1)
            & ((loss(W) - level).abs() <= close * (sigma**2).sum())
            & (step <= close * (1 + torch.linalg.matrix_norm(W)))
        )
        return found, torch.zeros_like(found)

    return endpoints.Landscape(
        residual=loss,
        distance=lambda W: torch.linalg.matrix_norm(product(W) - best) / torch.linalg.matrix_norm(best),
        critical=critical,
        far=1e6,
    )


def race(starts: Tensor, A: Tensor, names: tuple[str, ...] | None = None) -> list[endpoints.Row]:
    """How the solvers fare from these factors (b, m + n, r) of one table A (m, n): one row each."""
    return SOLVERS.race(landscape(A, starts.shape[-1]), names, starts, A)


def _repeated(A: Tensor, W: Tensor) -> Tensor:
    """A, once for each of the starts."""
    return A if W.dim() == A.dim() else A.expand(len(W), *A.shape)


@SOLVERS.direct(source="the homework's gradient descent by autograd, 1000 epochs", **_DESCENT)
def descent_autograd(W: Tensor, A: Tensor) -> Tensor:
    A = _repeated(A, W)
    U, Vt = (factor.clone().requires_grad_() for factor in _factors(W, A))
    for _ in range(EPOCHS):
        by_U, by_Vt = torch.autograd.grad(F.mse_loss(U @ Vt.mT, A, reduction="sum"), (U, Vt))
        with torch.no_grad():
            U -= RATE * by_U
            Vt -= RATE * by_Vt
    return torch.cat((U, Vt), dim=-2).detach()


@SOLVERS.direct(source="the same 1000 epochs by torch.optim.SGD", **_DESCENT)
def descent_sgd(W: Tensor, A: Tensor) -> Tensor:
    A = _repeated(A, W)
    leaf = W.clone().requires_grad_()
    optimizer = torch.optim.SGD([leaf], lr=RATE)
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        mse_loss(leaf, A).backward()
        optimizer.step()
    return leaf.detach()


@SOLVERS.direct(source="the same 1000 epochs in closed form, three products each", **_DESCENT)
def descent_closed_form(W: Tensor, A: Tensor) -> Tensor:
    A, add_product = _repeated(A, W), torch.addmm if W.dim() == 2 else torch.baddbmm
    U, Vt = _factors(W, A)
    for _ in range(EPOCHS):
        R = add_product(A, U, Vt.mT, beta=-1)
        U, Vt = add_product(U, R, Vt, alpha=-2 * RATE), add_product(Vt, R.mT, U, alpha=-2 * RATE)
    return torch.cat((U, Vt), dim=-2)


def _fitted(A: Tensor, Vt: Tensor) -> Tensor:
    """The best U for this Vᵀ: A Vᵀ (V Vᵀ)⁻¹."""
    return torch.linalg.solve_ex(Vt.mT @ Vt, (A @ Vt).mT)[0].mT


@SOLVERS.iterative(
    in_turns=True, source="alternating least squares, a power method: the error falls by (σ_{r+1}/σ_r)² a sweep"
)
def alternating_least_squares(W: Tensor, A: Tensor) -> Descent:
    def sweep(_: int, flat: Tensor) -> tuple[Tensor, ...]:
        swept = _fitted(A.mT, _fitted(A, flat.reshape(start.shape))).reshape(1, -1)
        return (swept - flat).norm(dim=-1), swept

    _, start = _factors(W, A)
    found = descend(sweep, start.reshape(1, -1), tolerance=1e-5, most=1000, relative=True)
    Vt = found.x.reshape(start.shape)
    return replace(found, x=torch.cat((_fitted(A, Vt), Vt)))


@SOLVERS.direct(in_turns=True, source="torch.linalg.svd, cut off after r")
def svd(W: Tensor, A: Tensor) -> Tensor:
    r = W.shape[1]
    U, sigma, V = torch.linalg.svd(A, full_matrices=False)
    return torch.cat((U[:, :r] * sigma[:r], V[:r].mT))


@SOLVERS.direct(in_turns=True, source="torch.svd_lowrank, a randomised range of r + 4 columns")
def svd_lowrank(W: Tensor, A: Tensor) -> Tensor:
    r = W.shape[1]
    U, sigma, Vt = torch.svd_lowrank(A, q=min(r + 4, *A.shape))
    return torch.cat((U[:, :r] * sigma[:r], Vt[:, :r]))


MORE_COLUMNS = 6
"""Beyond r: with six, none of 1200 random ranges of matrices as drawn exceeds the minimum of f by more than 1e-8."""


@SOLVERS.direct(
    in_turns=True,
    source="a randomised range of r + 6 columns and one iteration on AᵀA, then eigh of the small Gram matrix: "
    "torch.svd_lowrank with two factorisations in place of five, and no SVD",
)
def subspace_iteration(W: Tensor, A: Tensor) -> Tensor:
    (m, n), r = A.shape, W.shape[1]
    # A generator of its own: the same range every time, and torch's own stays where it is.
    random = torch.randn(m, min(r + MORE_COLUMNS, m, n), dtype=A.dtype, generator=torch.Generator().manual_seed(0))
    Q = torch.linalg.qr(A.mT @ random.to(A.device))[0]
    Q = torch.linalg.qr(A.mT @ (A @ Q))[0]
    B = A @ Q
    first = torch.linalg.eigh(B.mT @ B)[1][:, -r:]
    return torch.cat((B @ first, Q @ first))


@SOLVERS.direct(
    in_turns=True, source="torch.linalg.eigh of the smaller Gram matrix; σ² loses digits of small σ, which are cut off"
)
def eigh_of_gram(W: Tensor, A: Tensor) -> Tensor:
    r = W.shape[1]
    if A.shape[0] < A.shape[1]:
        U = torch.linalg.eigh(A @ A.mT)[1][:, -r:]
        return torch.cat((U, A.mT @ U))
    Vt = torch.linalg.eigh(A.mT @ A)[1][:, -r:]
    return torch.cat((A @ Vt, Vt))
