"""solve_cond: φ = ½ ‖u‖² with A u = x. Teaches that every good way to solve loses u cond(A), and none loses more.

With the adjoint Aᵀ w = u the gradients are

    ∂φ/∂x = w,    ∂φ/∂A = −w uᵀ,

so one factorisation of A serves both solves, and the gradient for A is a product of two vectors. The error of each
output is a small multiple of u cond(A), whatever the formulation: it is the price of a rounded A, not of the way to
solve. What differs is the work: 2n³ operations for an inverse, 2n³/3 for LU, n³/3 for Cholesky, and on the way back
several n³ more where autograd differentiates the inverse or the factors themselves.

A is symmetric and positive definite, A = Q diag(1 … cond) Qᵀ with logarithmically spaced eigenvalues and a random
orthogonal Q. Of the gradient for A only the symmetric part is defined: Cholesky reads half of A.

Sources: the numerical optimization notes of Z. Xu (the condition number of A⁻¹x); C. B. Moler, J. ACM 14 (1967) for
the refinement of a solution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families.lapack import IN_SCIPY, cholesky_factor, potrf
from gradrace.families.numerics import refined_solve


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    n = size["n"]
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    A = (Q * np.geomspace(1, size["cond"], n)) @ Q.T
    return {"x": rng.standard_normal(n), "A": (A + A.T) / 2}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above by refined solves in extended precision: (value, x (n,), A (n, n))."""
    A = numbers["A"]
    u = refined_solve(A, numbers["x"])
    w = refined_solve(A.T, u)
    return {"value": u @ u / 2, "x": w, "A": -np.outer(w, u)}


def condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, Any]:
    """κ = cond(A) of all outputs, for almost every x: u and w point where A is smallest."""
    return dict.fromkeys(("value", "x", "A"), float(size["cond"]))


BY_ORDER = Growth(
    "n",
    (128, 256, 512),
    "value_and_gradient",
    {"ops": 0, "flops": 3, "graph_nodes": 0, "saved_bytes": 2},
    at=size(cond=100),
)

_CLOSED: Mapping[str, Any] = {"computes": "value_and_gradient", "grows": (BY_ORDER.but(saved_bytes=0),)}

solve_cond = Family(
    name="solve_cond",
    summary="½ ‖A⁻¹x‖²: every good way to solve loses u cond(A), and none loses more",
    source="numerical optimization notes, section 3.1.4",
    primals=("x", "A"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", n=8, cond=100),
        size("test", n=20, cond=1_000_000, dtypes=("float64",)),
        size("gate", n=50, cond=100),
        size("bench", n=128, cond=10_000),
        size("cuda", n=1_000, cond=1_000),
    ),
    draw=draw,
    baseline="inverse",
    reference={"value_and_gradient": reference},
    condition=condition,
    objective=lambda value, *_: (value @ value) / 2,
    symmetric=frozenset({"A"}),
    growth=(BY_ORDER,),
)

Result = tuple[Tensor, tuple[Tensor, Tensor]]


@solve_cond.variant(source="the notes' A⁻¹x as it is written")
def inverse(x: Tensor, A: Tensor) -> Tensor:
    return torch.linalg.inv(A) @ x


@solve_cond.variant(source="torch.linalg.solve")
def solve(x: Tensor, A: Tensor) -> Tensor:
    return torch.linalg.solve(A, x)


@solve_cond.variant(source="torch.linalg.lu_factor and lu_solve")
def lu(x: Tensor, A: Tensor) -> Tensor:
    return torch.linalg.lu_solve(*torch.linalg.lu_factor(A), x[:, None])[:, 0]


@solve_cond.variant(source="torch.linalg.cholesky and torch.cholesky_solve")
def cholesky(x: Tensor, A: Tensor) -> Tensor:
    return torch.cholesky_solve(x[:, None], torch.linalg.cholesky(A))[:, 0]


@solve_cond.variant(source="torch.linalg.qr and a triangular solve")
def qr(x: Tensor, A: Tensor) -> Tensor:
    Q, R = torch.linalg.qr(A)
    return torch.linalg.solve_triangular(R, (Q.mT @ x)[:, None], upper=True)[:, 0]


@solve_cond.variant(
    source="torch.linalg.lstsq; its gradients are wrong beyond cond = 1 / (2 n u), where its pseudoinverse cuts off",
    grows=(BY_ORDER.but(saved_bytes=1),),
)
def lstsq(x: Tensor, A: Tensor) -> Tensor:
    return torch.linalg.lstsq(A, x[:, None]).solution[:, 0]


def _adjoint(solve: Callable[[Tensor], Tensor], x: Tensor) -> Result:
    """φ and its gradients from a solver of A u = x for a symmetric A; vectors are columns (n, 1)."""
    u = solve(x[:, None])
    w = solve(u)
    return u.square().sum() / 2, (w[:, 0], -w * u.mT)


@solve_cond.variant(source="the adjoint: one LU for both solves, no graph", **_CLOSED)
def adjoint_lu(x: Tensor, A: Tensor) -> Result:
    factors = torch.linalg.lu_factor(A)
    return _adjoint(lambda b: torch.linalg.lu_solve(*factors, b), x)


@solve_cond.variant(source="the adjoint: one Cholesky factorisation for both solves, no graph", **_CLOSED)
def adjoint_cholesky(x: Tensor, A: Tensor) -> Result:
    L = cholesky_factor(A)
    return _adjoint(lambda b: torch.cholesky_solve(b, L), x)


@solve_cond.variant(
    source="the adjoint: LAPACK's potrf and potrs by SciPy, on arrays of NumPy",
    computes="value_and_gradient",
    **IN_SCIPY,
    # torch sees none of the FLOPs.
    grows=(replace(BY_ORDER, exponents={"ops": 0, "graph_nodes": 0, "saved_bytes": 0}),),
)
def adjoint_lapack(x: Tensor, A: Tensor) -> Result:
    solve = potrf(A.numpy())
    first = solve(x.numpy())
    u, w = torch.from_numpy(first), torch.from_numpy(solve(first))
    return u.dot(u) / 2, (w, torch.outer(w.neg(), u))


REFINEMENTS = 4
"""Each divides the error by 1e7 / cond or so: with these it falls to u cond, where it stays, up to cond = 1e4."""


@solve_cond.variant(
    source="the adjoint: a Cholesky factor in float32, its solutions refined by residuals in float64",
    computes="value_and_gradient",
    dtypes=("float64",),
    limits=(Limit(lambda size: size["cond"], 1e4, "too few refinements for such a cond"),),
    # The products of the refinements, 4n² each, bend the line of the n³/3 of the factor.
    grows=(replace(BY_ORDER, exponents={"ops": 0, "graph_nodes": 0, "saved_bytes": 0}),),
)
def adjoint_mixed(x: Tensor, A: Tensor) -> Result:
    L = cholesky_factor(A.float())

    def refined(b: Tensor) -> Tensor:
        u = torch.cholesky_solve(b.float(), L).double()
        for _ in range(REFINEMENTS):
            u += torch.cholesky_solve((b - A @ u).float(), L)
        return u

    return _adjoint(refined, x)
