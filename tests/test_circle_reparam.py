"""A quadratic form on the unit circle: its extrema are eigenvalues, and the solvers that find them."""

import math

import numpy as np
import pytest
import torch

from gradrace.declare import size
from gradrace.families import circle_reparam
from gradrace.families.circle_reparam import SOLVERS, closed_form, distance, newton
from gradrace.families.endpoints import classify

STEP = 1e-30


@pytest.fixture(scope="module")
def numbers():
    return circle_reparam.draw(size("test", b=50), np.random.default_rng(0))


@pytest.fixture(scope="module")
def inputs(numbers):
    return torch.from_numpy(numbers["theta"]), torch.from_numpy(numbers["A"])


def form(theta, A):
    """uᵀ A u of each angle, real or complex."""
    u = np.stack([np.cos(theta), np.sin(theta)])
    return np.einsum("ib,bij,jb->b", u, A, u)


def test_the_reference_agrees_with_a_complex_step(numbers):
    """A second route: the form itself at θ + i h."""
    exact = circle_reparam.reference(numbers)
    by_step = form(numbers["theta"] + 1j * STEP, numbers["A"]).imag / STEP
    assert math.isclose(exact["value"], form(numbers["theta"], numbers["A"]).sum(), rel_tol=1e-13)
    assert np.allclose(exact["theta"].astype(float), by_step, rtol=1e-12)


def test_extrema_on_the_circle_are_eigenvalues(numbers):
    low, high = np.linalg.eigvalsh(numbers["A"]).T
    assert np.allclose(form(numbers["solution"], numbers["A"]), low, rtol=1e-12, atol=1e-14)
    assert np.allclose(form(numbers["solution"] + math.pi / 2, numbers["A"]), high, rtol=1e-12, atol=1e-14)
    grid = np.linspace(0, math.pi, 2001)
    values = np.stack([form(np.full(50, angle), numbers["A"]) for angle in grid])
    assert (values.min(axis=0) >= low - 1e-14).all()
    assert np.allclose(values.min(axis=0), low, atol=1e-5)
    assert np.allclose(values.max(axis=0), high, atol=1e-5)


def test_a_known_matrix():
    """((2, 1), (1, 2)) has the eigenvalues 1 at (1, −1) and 3 at (1, 1)."""
    A, theta = torch.tensor([[[2, 1], [1, 2]]]).double(), torch.tensor([0.3]).double()
    for solver in ("jacobi_angle", "eigh", "gradient_descent"):
        found = SOLVERS[solver](theta, A).x
        assert math.isclose(closed_form(found, A)[0].item(), 1, rel_tol=1e-14)
        assert math.isclose(math.tan(found), -1, rel_tol=1e-7)


def test_the_sign_of_the_solution_is_free(numbers, inputs):
    theta, A = numbers["solution"], numbers["A"]
    assert np.allclose(form(theta, A), form(theta + math.pi, A), rtol=1e-12)
    assert distance(numbers, theta + math.pi).max() < 1e-15
    assert np.allclose(distance(numbers, theta + math.pi / 2), 1)


def test_newton_finds_a_maximum_as_often_as_a_minimum(numbers, inputs):
    """The map θ − g′/g″ is the same after a quarter turn, which exchanges them."""
    theta, A = inputs
    found = newton(theta, A).x
    assert closed_form(found, A)[1][0].abs().max() < 1e-7
    minima = distance(numbers, found.numpy()) < 1e-6
    turned = distance(numbers, newton(theta + math.pi / 2, A).x.numpy()) < 1e-6
    assert 10 < minima.sum() < 40
    assert (minima != turned).all()


def test_where_all_of_the_circle_is_a_minimum_the_slope_is_zero():
    theta, A = torch.linspace(0, 6, 7).double(), 2.5 * torch.eye(2).double().expand(7, 2, 2)
    value, (slope,) = closed_form(theta, A)
    assert value.item() == 7 * 2.5
    assert not slope.any()


@pytest.mark.parametrize(
    "solver", ["gradient_descent", "newton_downhill", "projected_gradient", "eigh", "jacobi_angle"]
)
def test_every_descent_arrives_from_everywhere(solver, numbers, inputs):
    """But from a maximum itself, where the slope is zero: a thousandth beside it is enough."""
    _, A = inputs
    theta = torch.from_numpy(numbers["solution"]) + math.pi / 2 + 1e-3
    found = SOLVERS[solver](theta, A).x
    assert distance(numbers, found.numpy()).max() < 1e-6


# ---- where they end ----


def test_known_points_are_told_apart():
    """((2, 1), (1, 2)): the minimum 1 at (1, −1), either way round, the maximum 3 at (1, 1)."""
    due = {
        -math.pi / 4: "solution",
        3 * math.pi / 4: "solution",
        math.pi / 4: "maximum",
        -3 * math.pi / 4: "maximum",
        0.3: "unfinished",
        -math.pi / 4 + 0.01: "unfinished",
        math.nan: "infinity",
    }
    A = torch.tensor([[2, 1], [1, 2]]).double().expand(len(due), 2, 2)
    here = circle_reparam.landscape(A, torch.full((len(due),), -math.pi / 4).double())
    theta = torch.tensor(list(due)).double()
    assert classify(here, theta) == list(due.values())
    assert np.allclose(here.residual(theta)[:3], [1, 1, 3])


def test_the_race_tells_the_fates_apart(numbers, inputs):
    rows = {row.solver: row for row in circle_reparam.race(*inputs, torch.from_numpy(numbers["solution"]))}
    assert list(rows) == list(SOLVERS)
    kinds = {solver: row.kinds for solver, row in rows.items()}
    by_newton = kinds.pop("newton")
    assert by_newton.keys() == {"solution", "maximum"}
    assert 10 < by_newton["maximum"] < 40
    assert all(each == {"solution": 50} for each in kinds.values())
    assert rows["newton"].iterations <= rows["newton_downhill"].iterations < rows["gradient_descent"].iterations < 50
    assert rows["eigh"].iterations == rows["jacobi_angle"].iterations == 0
    assert all(rows[solver].distance < 1e-8 for solver in kinds)
