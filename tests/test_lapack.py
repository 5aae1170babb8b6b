"""Positive definite systems: right in both types and in batches, and no silent answer where the matrix is none."""

import numpy as np
import pytest
import torch

from gradrace.families.lapack import cholesky_factor, posv, potrf

GOOD = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]])
INDEFINITE = np.array([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_upper_triangle_gives_the_solution_in_the_type_of_the_matrix(dtype):
    matrix, b = GOOD.astype(dtype), np.array([1, 2, 3], dtype)
    exact = np.linalg.solve(GOOD, [1, 2, 3])
    for found in (posv(np.triu(matrix), b), potrf(np.triu(matrix))(b)):
        assert found.dtype == dtype
        assert np.allclose(found, exact, rtol=20 * np.finfo(dtype).eps)
    assert np.array_equal(matrix, GOOD.astype(dtype)), "nothing is written into the matrix"


def test_a_matrix_that_is_not_positive_definite_is_refused_by_lapack():
    for solve in (posv, lambda matrix, b: potrf(matrix)(b)):
        with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
            solve(INDEFINITE, np.ones(2))


def test_a_solution_with_a_factor_that_is_none_is_nan_in_every_entry():
    """cholesky_ex alone leaves a finite factor of it, and a wrong answer."""
    assert torch.linalg.cholesky_ex(torch.from_numpy(INDEFINITE))[0].isfinite().all()
    batch = torch.stack([torch.from_numpy(each) for each in (INDEFINITE, GOOD[:2, :2])])
    solutions = torch.cholesky_solve(torch.ones(2, 2, 1).double(), cholesky_factor(batch))
    assert solutions[0].isnan().all()
    assert np.allclose(GOOD[:2, :2] @ solutions[1].numpy(), 1, rtol=1e-14)
    alone = torch.cholesky_solve(torch.ones(2, 1).double(), cholesky_factor(batch[0]))
    assert alone.isnan().all()
