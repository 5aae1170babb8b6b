"""FLOPs of one dispatched operation: torch's own formulas, and those of the dense linear algebra that it counts as 0.

A FLOP is an addition or a multiplication; formulas keep the terms of leading order, as torch's 2 m n k for a product
does, and round thirds down. Elementwise work and reductions count nothing, here as there; complex arithmetic counts
as real. Where a library may choose its algorithm the textbook's is counted, so that a count is a fact about
the formulation and not about the build of LAPACK.

Sources: [GVL] G. H. Golub and C. F. Van Loan, Matrix Computations, 4th ed. (2013); [LAWN] E. Anderson, J. Dongarra
and S. Ostrouchov, LAPACK Working Note 41, appendix "Operation counts for the LAPACK routines".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, TypeAlias

from torch import Tensor
from torch.utils.flop_counter import flop_registry

Shape: TypeAlias = Sequence[int]

# ---- matrices, without a batch ----


def lu_flops(m: int, n: int) -> int:
    """m n² − n³/3 for m ≥ n, which is 2n³/3 for a square matrix [GVL §3.2.10]; the transposed case is the same sum."""
    short, long = min(m, n), max(m, n)
    return (3 * long * short**2 - short**3) // 3


def householder_flops(m: int, n: int) -> int:
    """R of a QR factorisation, 2 n² (m − n/3) for m ≥ n [GVL §5.2.2]: each reflector is applied by twice LU's work."""
    short, long = min(m, n), max(m, n)
    return (6 * long * short**2 - 2 * short**3) // 3


def form_q_flops(m: int, n: int, k: int) -> int:
    """The m × n matrix Q of k reflectors: 4 m n k − 2 (m + n) k² + 4k³/3 [LAWN, SORGQR]."""
    return (12 * m * n * k - 6 * (m + n) * k**2 + 4 * k**3) // 3


def apply_q_flops(m: int, n: int, k: int) -> int:
    """k reflectors of length m on an m × n matrix: 4 m n k − 2 n k² [LAWN, SORMQR; GVL §5.1.6]."""
    return 4 * m * n * k - 2 * n * k**2


def svd_flops(m: int, n: int, vectors: bool, full: bool) -> int:
    """Golub and Reinsch's algorithm [GVL §8.6]: Σ alone, Σ with V and the thin U, or with the full U."""
    short, long = min(m, n), max(m, n)
    if not vectors:
        return (12 * long * short**2 - 4 * short**3) // 3
    if not full:
        return 14 * long * short**2 + 8 * short**3
    return 4 * long**2 * short + 8 * long * short**2 + 9 * short**3


# ---- operations, from the shapes of their arguments and outputs ----


def _dot(a: Shape, b: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * a[0]


def _mv(A: Shape, x: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(A)


def _addmv(y: Shape, A: Shape, x: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(A)


def _addr(A: Shape, x: Shape, y: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * x[0] * y[0]


def _addbmm(C: Shape, A: Shape, B: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(A) * B[-1]


def _inverse(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    # LU, 2n³/3, and 4n³/3 for the inverse from it [LAWN, SGETRI].
    return prod(A[:-2]) * 2 * A[-1] ** 3


def _lu(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    return prod(A[:-2]) * lu_flops(A[-2], A[-1])


def _solve(A: Shape, B: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    # A is factored once, however many right-hand sides it is broadcast over; each column costs two triangles, 2n².
    return prod(A[:-2]) * lu_flops(A[-2], A[-1]) + 2 * A[-1] * prod(out_shape[0])


def _lu_solve(LU: Shape, pivots: Shape, B: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * LU[-1] * prod(out_shape)


def _cholesky(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    # n³/3 [GVL §4.2.5]; the symmetric indefinite L D Lᵀ costs the same [GVL §4.4.4].
    return prod(A[:-2]) * (A[-1] ** 3 // 3)


def _cholesky_solve(B: Shape, L: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * L[-1] * prod(out_shape)


def _cholesky_inverse(L: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    # [LAWN, SPOTRI]
    return prod(L[:-2]) * (2 * L[-1] ** 3 // 3)


def _solve_triangular(A: Shape, B: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    # n² a right-hand side, by columns or by rows [GVL §3.1].
    return A[-1] * prod(out_shape)


def _old_triangular_solve(B: Shape, A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    return A[-1] * prod(out_shape[0])


def _qr(A: Shape, mode: str = "reduced", *, out_shape: Any, **_: Any) -> int:
    m, n = A[-2:]
    columns = {"r": 0, "reduced": min(m, n), "complete": m}[mode]
    return prod(A[:-2]) * (householder_flops(m, n) + (form_q_flops(m, columns, min(m, n)) if columns else 0))


def _geqrf(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    return prod(A[:-2]) * householder_flops(A[-2], A[-1])


def _form_q(A: Shape, tau: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return prod(A[:-2]) * form_q_flops(A[-2], A[-1], tau[-1])


def _ormqr(A: Shape, tau: Shape, C: Shape, left: bool = True, *_: Any, out_shape: Shape, **__: Any) -> int:
    m, n = C[-2:] if left else C[:-3:-1]
    return prod(C[:-2]) * apply_q_flops(m, n, tau[-1])


def _lstsq(A: Shape, B: Shape, *_: Any, out_shape: Any, driver: str | None = None, **__: Any) -> int:
    m, n = A[-2:]
    short, batch = min(m, n), prod(A[:-2])
    columns = prod(out_shape[0]) // n
    if driver in ("gelsd", "gelss"):
        # Σ and V, with Uᵀb formed on the way [GVL §5.5.6], then Vᵀ and the division.
        return batch * (4 * max(m, n) * short**2 + 8 * short**3) + 2 * columns * (m + n) * short
    # Householder QR, Qᵀb and back substitution [GVL §5.3.2].
    return batch * householder_flops(m, n) + columns * (apply_q_flops(m, 1, short) + short**2)


def _svd(A: Shape, full: bool = False, vectors: bool = True, *_: Any, out_shape: Any, **__: Any) -> int:
    return prod(A[:-2]) * svd_flops(A[-2], A[-1], vectors, full)


def _eigh(A: Shape, uplo: str = "L", vectors: bool = True, *_: Any, out_shape: Any, **__: Any) -> int:
    # Tridiagonalisation alone, or the symmetric QR algorithm with its vectors [GVL §8.3].
    return prod(A[:-2]) * (9 * A[-1] ** 3 if vectors else 4 * A[-1] ** 3 // 3)


def _eig(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    return prod(A[:-2]) * 25 * A[-1] ** 3  # the real Schur form with its vectors [GVL §7.5.6]


def _eigvals(A: Shape, *_: Any, out_shape: Any, **__: Any) -> int:
    return prod(A[:-2]) * 10 * A[-1] ** 3  # [GVL §7.5.6]


def _pinv(A: Shape, *_: Any, out_shape: Shape, hermitian: bool = False, **__: Any) -> int:
    # V Σ⁺ Uᵀ: the decomposition and one product.
    m, n = A[-2:]
    decomposition = 9 * n**3 if hermitian else svd_flops(m, n, vectors=True, full=False)
    return prod(A[:-2]) * (decomposition + 2 * m * n * min(m, n))


FORMULAS: Mapping[str, Callable[..., int]] = {
    "dot": _dot,
    "vdot": _dot,
    "mv": _mv,
    "addmv": _addmv,
    "addmv_": _addmv,
    "addr": _addr,
    "addbmm": _addbmm,
    "linalg_inv_ex": _inverse,
    "linalg_lu": _lu,
    "linalg_lu_factor_ex": _lu,
    "_linalg_det": _lu,
    "_linalg_slogdet": _lu,
    "_linalg_solve_ex": _solve,
    "linalg_lu_solve": _lu_solve,
    "linalg_cholesky_ex": _cholesky,
    "cholesky": _cholesky,
    "cholesky_solve": _cholesky_solve,
    "cholesky_inverse": _cholesky_inverse,
    "linalg_ldl_factor_ex": _cholesky,
    "linalg_ldl_solve": _lu_solve,
    "linalg_solve_triangular": _solve_triangular,
    "triangular_solve": _old_triangular_solve,
    "linalg_qr": _qr,
    "geqrf": _geqrf,
    "linalg_householder_product": _form_q,
    "ormqr": _ormqr,
    "linalg_lstsq": _lstsq,
    "_linalg_svd": _svd,
    "_linalg_eigh": _eigh,
    "linalg_eig": _eig,
    "_linalg_eigvals": _eigvals,
    "linalg_pinv": _pinv,
}
"""By the name of the aten operation, whatever its overload."""

NO_PRODUCTS = ("linalg_vector_norm", "linalg_cross", "_linalg_check_errors")
"""Elementwise work and checks that only sound like dense linear algebra."""

TRANSPARENT = ("aten", "prims", "prim", "profiler")
"""Namespaces of operations that are known here; one of any other namespace is a black box."""


def formula_of(operation: Any) -> Callable[..., int] | None:
    """What gives the FLOPs of a call, as `formula(*args, **kwargs, out_val=output)`; None where there is nothing to.

    `torch.utils.flop_counter.register_flop_formula` gives an operation its formula, here as for torch.
    """
    packet = getattr(operation, "_overloadpacket", operation)
    namespace, name = _name(operation)
    formula = flop_registry.get(packet) or (FORMULAS.get(name) if namespace == "aten" else None)
    if packet in flop_registry and not hasattr(formula, "__wrapped__"):
        return formula  # it was registered to look at the tensors themselves
    return _on_shapes(getattr(formula, "__wrapped__", formula)) if formula else None


def _on_shapes(formula: Callable[..., int]) -> Callable[..., int]:
    """As torch's shape_wrapper, whose way to take arguments apart is slower than a small product."""

    def on_shapes(*args: Any, out_val: Any, **kwargs: Any) -> int:
        shapes = [_shapes(each) for each in args]
        return formula(*shapes, out_shape=_shapes(out_val), **{key: _shapes(each) for key, each in kwargs.items()})

    return on_shapes


def _shapes(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.shape
    return [_shapes(each) for each in value] if isinstance(value, (tuple, list)) else value


def is_uncounted(operation: Any) -> bool:
    """Is it dense linear algebra without a formula, or a black box whose inside is not seen?"""
    if formula_of(operation):
        return False
    namespace, name = _name(operation)
    if namespace not in TRANSPARENT:
        return True
    return name.startswith(("linalg_", "_linalg_")) and name not in NO_PRODUCTS


def _name(operation: Any) -> tuple[str, str]:
    """Namespace and name; a higher-order operation (a loop, a Triton kernel) has no schema."""
    schema = getattr(operation, "_schema", None)
    namespace, _, name = (schema.name if schema else f"higher_order::{operation.name()}").partition("::")
    return namespace, name
