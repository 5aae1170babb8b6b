"""lapack: positive definite systems, by torch and by SciPy's LAPACK, which say when a matrix is not positive definite.

And what a formulation declares that leaves torch: `**IN_NUMPY`, `**IN_SCIPY`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

IN_NUMPY: Mapping[str, Any] = {"unsupported": {"cuda": "NumPy computes on the CPU"}}
IN_SCIPY: Mapping[str, Any] = {"requires": ("scipy",), "unsupported": {"cuda": "SciPy computes on the CPU"}}


def cholesky_factor(M: Tensor) -> Tensor:
    """L with M = L Lᵀ of each matrix (..., d, d), without waiting for a GPU.

    What `cholesky_ex` leaves of a matrix that is not positive definite looks like a factor. Its first entry becomes
    NaN, and with it every entry of a solution.
    """
    factor, failed = torch.linalg.cholesky_ex(M)
    factor[..., 0, 0].masked_fill_(failed > 0, math.nan)
    return factor


def posv(matrix: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution of matrix @ x = b, of which LAPACK reads the upper triangle. Raises LinAlgError."""
    _, x, failed = _routine("posv", matrix.dtype)(matrix.T, b, lower=True)  # by columns, as LAPACK wants it
    return np.asarray(_checked(x, failed))


def potrf(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What solves matrix @ x = b for any b, from one factorisation. Raises LinAlgError."""
    factor, failed = _routine("potrf", matrix.dtype)(matrix.T, lower=True, clean=False)
    _checked(factor, failed)
    solve = _routine("potrs", matrix.dtype)
    return lambda b: np.asarray(solve(factor, b, lower=True)[0])


def _checked(found: Any, failed: int) -> Any:
    if failed:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    return found


@cache
def _routine(name: str, dtype: np.dtype[Any]) -> Callable[..., Any]:
    """LAPACK's routine for numbers of this type. SciPy is imported where it is used."""
    from scipy.linalg import get_lapack_funcs

    found: Callable[..., Any] = get_lapack_funcs((name,), dtype=dtype)[0]
    return found
