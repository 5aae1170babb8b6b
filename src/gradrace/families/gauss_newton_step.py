"""gauss_newton_step: p(x) = argmin ‖J p + r‖ for phase retrieval. Teaches QR against normal equations.

r = (A x)² − y and J = 2 diag(A x) A, m × n with m > n: forward mode builds J in n passes, reverse mode in m.
The normal equations square the condition of J; QR does not.

Sources: CSCI 5980 homework 2, problem 1(b); Å. Björck, Numerical Methods for Least Squares Problems (1996).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, size
from gradrace.families.lapack import IN_SCIPY, cholesky_factor, posv
from gradrace.families.numerics import measured, refined_solve
from gradrace.families.phase_retrieval import draw, gauss_newton_matrix, matvec, wide_states


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The normal equations in extended precision, where squaring the condition costs nothing."""
    A, z, r = wide_states(numbers)
    H = 2 * np.swapaxes(A, -1, -2) @ ((z * z)[..., None] * A)
    return {"value": refined_solve(H, -np.einsum("...mn,...m->...n", A, r * z))}


_COUNTS = {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 0, "peak_bytes": 1}

BY_ROWS = Growth("m", (256, 512, 1024), "primal", _COUNTS, at=size(n=8))
BY_COLUMNS = Growth("n", (32, 64, 128), "primal", {**_COUNTS, "flops": 2}, at=size(m=2048))
"""A factorisation or a product of J with itself, 2 m n² FLOPs and more, and m n numbers for J."""

gauss_newton_step = Family(
    name="gauss_newton_step",
    summary="argmin ‖J p + r‖: QR against normal equations, forward against reverse J",
    source="CSCI 5980 homework 2, problem 1(b)",
    primals=("x",),
    constants=("A", "y"),
    operators=("primal",),
    sizes=(
        size("test", n=5, m=25),
        size("test", n=4, m=12, b=7),
        size("bench", "gate", n=20, m=100),
        size("bench", "cuda", n=20, m=100, b=200),
        size("bench", n=100, m=500),
    ),
    draw=draw,
    baseline="qr_of_jacrev",
    reference={"primal": reference},
    condition=measured("x", "A", "y"),
    # κ is measured with the residual as it is, so it holds the square of cond(J) where the residual brings it in.
    # Six stages round: A x, its square, J, the factorisation, two triangular solves.
    depth=6.0,
    growth=(BY_ROWS, BY_COLUMNS),
)


def residual(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    return z * z - y


def jacobian(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return 2 * matvec(A, x).unsqueeze(-1) * A


def _least_squares(J: Tensor, r: Tensor) -> Tensor:
    return torch.linalg.lstsq(J, -r.unsqueeze(-1)).solution.squeeze(-1)


def _differentiated(mode: Callable[..., Any], x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    differentiate = mode(residual)
    return torch.func.vmap(differentiate)(x, A, y) if x.dim() == 2 else differentiate(x, A, y)


@gauss_newton_step.variant(
    source="J by torch.func.jacrev, least squares by QR",
    # m pullbacks of A, 2 m² n FLOPs, of the m × m unit cotangents: more than all the rest. The graph keeps A x.
    grows=(BY_ROWS.but(flops=2, peak_bytes=2, saved_bytes=1), BY_COLUMNS.but(flops=1, peak_bytes=0)),
)
def qr_of_jacrev(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _least_squares(_differentiated(torch.func.jacrev, x, A, y), residual(x, A, y))


@gauss_newton_step.variant(source="J by torch.func.jacfwd, least squares by QR")
def qr_of_jacfwd(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _least_squares(_differentiated(torch.func.jacfwd, x, A, y), residual(x, A, y))


@gauss_newton_step.variant(source="J in closed form, least squares by QR")
def qr_closed_form(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _least_squares(jacobian(x, A, y), residual(x, A, y))


@gauss_newton_step.variant(source="J in closed form, pseudo-inverse by SVD")
def pseudo_inverse(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return matvec(torch.linalg.pinv(jacobian(x, A, y)), -residual(x, A, y))


@gauss_newton_step.variant(source="normal equations, LU")
def normal_solve(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    return torch.linalg.solve(gauss_newton_matrix(z, A), matvec(A.mT, (y - z * z) * z))


@gauss_newton_step.variant(source="normal equations, Cholesky")
def normal_cholesky(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    half = z.unsqueeze(-1) * A
    factor = cholesky_factor(half.mT @ half)
    return torch.cholesky_solve(matvec(half.mT, (y - z * z) / 2).unsqueeze(-1), factor).squeeze(-1)


_SEEN_BY_TORCH = ("ops", "flops", "graph_nodes", "saved_bytes")


@gauss_newton_step.variant(
    source="normal equations by BLAS's syrk, half of a product, and LAPACK's posv, one instance at a time",
    operators=("primal",),
    grows=tuple(replace(law, exponents=dict.fromkeys(_SEEN_BY_TORCH, 0)) for law in (BY_ROWS, BY_COLUMNS)),
    **IN_SCIPY,
)
def normal_posv(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    from scipy.linalg import get_blas_funcs

    if x.dim() == 2:
        return torch.stack([normal_posv(*instance) for instance in zip(x, A, y, strict=True)])
    rows = A.numpy()
    (syrk,) = get_blas_funcs(("syrk",), (rows,))
    z = rows @ x.numpy()
    half = z[:, None] * rows
    return torch.from_numpy(posv(syrk(1.0, half.T, lower=True).T, (y.numpy() - z * z) / 2 @ half))
