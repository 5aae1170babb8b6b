"""Where the solvers of phase retrieval end: a solution of either sign, a spurious minimum, a saddle."""

import math

import numpy as np
import pytest
import torch

from gradrace.declare import size
from gradrace.families import phase_retrieval
from gradrace.families.endpoints import classify
from gradrace.families.phase_retrieval import landscape, race


def plane(c, *points):
    """Rows e1, e2 and c (1, 1) with the solution (1, 1), at each of these points."""
    A = torch.tensor([[1, 0], [0, 1], [c, c]]).double().expand(len(points), 3, 2)
    solution = torch.ones(len(points), 2).double()
    return landscape(A, (A @ solution[..., None])[..., 0] ** 2, solution), torch.tensor(points).double()


KNOWN = {
    (1.0, 1.0): "solution",
    (-1.0, -1.0): "solution",
    (1.0, -1.0): "minimum",
    (-1.0, 1.0): "minimum",
    (0.0, 0.0): "saddle",
    (0.9, -0.4): "unfinished",
    (1e9, 0.0): "infinity",
    (math.nan, 1.0): "infinity",
}


def test_known_points_are_told_apart():
    """At (1, −1) the third product is 0 and the others are right: ∇f = 0, and ∇²f has the eigenvalues 2 and 2 − 8c⁴."""
    assert classify(*plane(0.5, *KNOWN)) == list(KNOWN.values())
    assert classify(*plane(0.8, (1, -1))) == ["saddle"]


@pytest.mark.parametrize("c", [0.5, 0.8])
def test_the_planted_point_is_critical_by_the_reference(c):
    A, x = np.array([[1, 0], [0, 1], [c, c]]), np.array([1.0, -1.0])
    numbers = {"A": A, "x": x, "y": (A @ np.ones(2)) ** 2}
    assert np.abs(phase_retrieval.reference_gradient(numbers)["x"]).max() < 1e-15
    eigenvalues = np.linalg.eigvalsh(phase_retrieval.reference_hessian(numbers)["x"].astype(float))
    assert np.allclose(eigenvalues, sorted((2, 2 - 8 * c**4)), rtol=1e-14)


def test_the_published_newton_walk_ends_at_a_saddle():
    """RandomState(0), n = 20, m = 100, from (1, …, 1): f = 13,150 and the lowest eigenvalue −397."""
    rng = np.random.RandomState(0)
    solution, A = (torch.from_numpy(rng.randn(*shape))[None] for shape in ((20,), (100, 20)))
    y = (A @ solution[..., None])[..., 0] ** 2
    newton, *others = race(torch.ones(1, 20).double(), A, y, solution)
    assert newton.kinds == {"saddle": 1}
    assert math.isclose(newton.residual, 1.315e4, rel_tol=1e-3)
    assert [row.kinds for row in others] == [{"solution": 1}] * 3


def test_the_race_tells_the_fates_apart():
    numbers = phase_retrieval.draw(size("test", n=20, m=100, b=200, start="random"), np.random.default_rng(5))
    x, A, y, solution = (torch.from_numpy(numbers[name]) for name in ("x", "A", "y", "solution"))
    names = ("newton", "gauss_newton", "levenberg_marquardt")
    rows = {row.solver: row for row in race(x, A, y, solution, names)}
    assert tuple(rows) == names
    assert all(sum(row.kinds.values()) == row.starts == 200 for row in rows.values())
    assert rows["newton"].kinds["saddle"] > 5
    assert rows["newton"].kinds["minimum"] > 20
    assert rows["newton"].kinds["solution"] < rows["gauss_newton"].kinds["solution"]
    # It mostly gives up on its way to another minimum, as its stop rule on the cost has it.
    damped = rows["levenberg_marquardt"].kinds
    assert damped["unfinished"] > 2 * damped["minimum"]
    assert damped["saddle"] == damped["infinity"] == 0
    for variant in phase_retrieval.phase_retrieval.variants:
        if variant.name in rows:
            assert abs(rows[variant.name].kinds["solution"] / 200 - variant.success["random"]) < 0.12
    assert all(row.iterations < 40 and row.distance < 1e-14 for row in rows.values())
