"""Hypergradients: by a second route, by the homework's numbers, and put to use in descents that learn their steps."""

import math

import numpy as np
import pytest
import torch

from gradrace.families import hypergradient
from gradrace.families.hypergradient import (
    adjoint_sweep,
    descend_learning_steps,
    draw,
    greedy,
    lean_adjoint_sweep,
    product_of_matrices,
)
from gradrace.families.losses import LOSSES, NUMPY, Loss

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

STEP = 1e-30
BEALE = LOSSES["beale"]
HOMEWORK = {"eta": np.array([0.001, 0.002, 0.0015, 0.003, 0.0025]), "start": np.array([0.7, 1.4]), "loss": "beale"}
BY_ETA = [-406.035709501708, -459.077536321543, -424.364546854660, -483.246423771709, -452.793775256007]
"""∂L(w_5)/∂η_1 … η_5."""

CURVATURES = np.array([1.0, 3.0, 10.0])
QUADRATIC = Loss(
    value=lambda lib, w: (CURVATURES * w * w).sum(-1) / 2,
    gradient=lambda lib, w: CURVATURES * w,
    curvature=lambda lib, w: CURVATURES + 0 * w,
    multiply=lambda lib, diagonal, v: diagonal * v,
)


# ---- the losses and the reference ----


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_and_curvatures_agree_with_complex_steps(name):
    d = {"beale": 2, "ring": 3}[name]
    loss, w, v = LOSSES[name], np.array([0.7, 1.4, -0.3])[:d], np.array([0.2, -1.1, 0.5])[:d]
    gradient = [loss.value(np, w + 1j * STEP * e).imag / STEP for e in np.eye(d)]
    assert np.allclose(loss.gradient(np, w), gradient, rtol=1e-14)
    hvp = loss.gradient(np, w + 1j * STEP * v).imag / STEP
    assert np.allclose(loss.multiply(np, loss.curvature(np, w), v), hvp, rtol=1e-13)
    several = np.stack([v, w])
    by_torch = loss.multiply(torch, loss.curvature(torch, torch.from_numpy(w)), torch.from_numpy(several))
    assert np.allclose(by_torch, [hvp, loss.gradient(np, w + 1j * STEP * w).imag / STEP], rtol=1e-13)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (1,)])
@pytest.mark.parametrize("shift", [1, -1])
def test_the_roll_of_two_slices_is_numpys(shape, shift):
    w = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(NUMPY.roll(w, shift, -1), np.roll(w, shift, -1))


def beale_as_printed(w):
    x, y = w
    residuals = [c - x * (1 - y**i) for i, c in enumerate((1.5, 2.25, 2.625), 1)]
    by_x = sum(2 * r * (y**i - 1) for i, r in enumerate(residuals, 1))
    by_y = sum(2 * r * i * x * y ** (i - 1) for i, r in enumerate(residuals, 1))
    return sum(r * r for r in residuals), [by_x, by_y]


def ring_as_printed(w):
    before, after = w[-1:] + w[:-1], w[1:] + w[:1]
    value = sum((a - b) ** 2 / 2 + a**4 / 4 for a, b in zip(w, before, strict=True))
    return value, [a**3 + (a - b) - (c - a) for a, b, c in zip(w, before, after, strict=True)]


PRINTED = {"beale": beale_as_printed, "ring": ring_as_printed}


@pytest.mark.parametrize("size", hypergradient.hypergradient.sizes[:2], ids=lambda size: size.word)
def test_the_reference_agrees_with_difference_quotients_in_forty_digits(size):
    """A second route: the losses as printed, entry by entry, and mpmath's derivative of the end for each η."""
    numbers, printed = draw(size, np.random.default_rng(0)), PRINTED[size["loss"]]
    exact, eta = hypergradient.reference(numbers), numbers["eta"].tolist()

    def end(moved, t):
        w = [mpmath.mpf(entry) for entry in numbers["start"].tolist()]
        for k, step in enumerate(eta):
            w = [a - (moved if k == t else step) * g for a, g in zip(w, printed(w)[1], strict=True)]
        return printed(w)[0]

    with mpmath.workdps(40):
        by_eta = [float(mpmath.diff(lambda moved, t=t: end(moved, t), eta[t])) for t in range(len(eta))]
        assert math.isclose(exact["value"], end(eta[0], 0), rel_tol=1e-15)
    assert np.allclose(exact["eta"].astype(float), by_eta, rtol=1e-14)


@pytest.mark.parametrize("adjoint", [adjoint_sweep, lean_adjoint_sweep])
def test_the_hypergradient_of_a_quadratic_has_a_closed_form(adjoint):
    """L = ½ Σ λ w_0² Π (1 − η λ)², so ∂L/∂η_t = −Σ λ² w_0² Π (1 − η λ)² / (1 − η_t λ)."""
    eta, start = np.array([0.02, 0.05, 0.01, 0.07]), np.array([1.0, -2.0, 0.5])
    factors = 1 - eta[:, None] * CURVATURES
    energy = CURVATURES * start**2 * factors.prod(0) ** 2
    sweep = adjoint(np, QUADRATIC, eta, start)
    assert math.isclose(sweep.value, energy.sum() / 2, rel_tol=1e-14)
    assert np.allclose(sweep.eta, -(CURVATURES * energy / factors).sum(1), rtol=1e-13)
    assert np.allclose(sweep.start, energy / start, rtol=1e-13)


# ---- the homework's numbers: five steps on Beale's function ----


@pytest.mark.parametrize("adjoint", [adjoint_sweep, lean_adjoint_sweep])
def test_five_steps_have_their_published_hypergradients(adjoint):
    sweep = adjoint(np, BEALE, HOMEWORK["eta"], HOMEWORK["start"])
    assert np.allclose(sweep.w, [0.590958657, 1.086957137], rtol=0, atol=5e-10)
    assert math.isclose(sweep.value, 15.764024577057697, rel_tol=1e-15)
    assert np.allclose(sweep.eta, BY_ETA, rtol=2e-15)
    assert np.allclose(sweep.start, [-5.85145497453, 10.475186259835], rtol=0, atol=6e-12)
    exact = hypergradient.reference(HOMEWORK)
    assert math.isclose(exact["value"], sweep.value, rel_tol=1e-15)
    assert np.allclose(exact["eta"].astype(float), BY_ETA, rtol=2e-15)


def test_the_greedy_derivative_is_five_times_too_large_and_right_at_the_end():
    eta, start = torch.from_numpy(HOMEWORK["eta"]), torch.from_numpy(HOMEWORK["start"])
    found = greedy(eta, start, "beale")[1][0]
    assert np.allclose(found, [-2162.295645, -1458.714933, -986.692862, -668.939142, -452.793775], rtol=0, atol=6e-7)
    assert math.isclose(found[0] / BY_ETA[0], 5.3, abs_tol=0.05)
    assert math.isclose(found[-1], BY_ETA[-1], rel_tol=1e-14)


def test_the_formulas_of_one_two_and_more_steps():
    """Items 1, 3 and 4 of the question, with H by hand: −g·g, −gᵀ(I − η H) g, and the product of all factors."""
    points, w = [], HOMEWORK["start"]
    for step in (*HOMEWORK["eta"], 0):
        points.append(w)
        w = w - step * BEALE.gradient(np, w)
    g = [BEALE.gradient(np, w) for w in points]
    factors = [np.eye(2) - step * BEALE.curvature(np, w) for step, w in zip(HOMEWORK["eta"], points[:-1], strict=True)]
    assert math.isclose(-g[5] @ g[4], BY_ETA[4], rel_tol=1e-14)
    assert math.isclose(-g[5] @ factors[4] @ g[3], BY_ETA[3], rel_tol=1e-14)
    assert math.isclose(-g[5] @ factors[4] @ factors[3] @ factors[2] @ factors[1] @ g[0], BY_ETA[0], rel_tol=1e-14)
    by_matrices = product_of_matrices(*map(torch.from_numpy, (HOMEWORK["eta"], HOMEWORK["start"])), "beale")[1][0]
    assert np.allclose(by_matrices, BY_ETA, rtol=1e-14)


def test_the_step_size_of_the_step_size_has_its_published_derivative():
    """Item 2: −(g_1 · g_2)(g_2 · g_3), by a complex step in α of η_5 = … + α g(w_4) · g(w_3)."""
    points = [HOMEWORK["start"]]
    for step in HOMEWORK["eta"][:4]:
        points.append(points[-1] - step * BEALE.gradient(np, points[-1]))
    *_, before, last = (BEALE.gradient(np, w) for w in points)
    end = points[-1] - (HOMEWORK["eta"][4] + 1j * STEP * (last @ before)) * last
    by_alpha = BEALE.value(np, end).imag / STEP
    assert math.isclose(by_alpha, -302891.4797391, abs_tol=6e-8)
    assert math.isclose(-(BEALE.gradient(np, end.real) @ last) * (last @ before), by_alpha, rel_tol=1e-13)


def test_a_step_size_shared_by_all_steps_gathers_their_hypergradients():
    """Forward mode then needs one tangent: ẇ ← (I − η H) ẇ − g."""
    eta, w, tangent = 0.002, HOMEWORK["start"], np.zeros(2)
    for _ in range(5):
        g = BEALE.gradient(np, w)
        tangent = tangent - eta * BEALE.multiply(np, BEALE.curvature(np, w), tangent) - g
        w = w - eta * g
    sweep = adjoint_sweep(np, BEALE, np.full(5, eta), HOMEWORK["start"])
    assert math.isclose(BEALE.gradient(np, w) @ tangent, sweep.eta.sum(), rel_tol=1e-14)


# ---- step sizes that are learned on the way ----


def descend(loss, w, eta, steps):
    """The value that plain gradient descent reaches."""
    for _ in range(steps):
        w = w - eta * loss.gradient(np, w)
    return loss.value(np, w)


def test_blocks_of_one_step_are_the_homeworks_recursion():
    w, eta, alpha, kappa = HOMEWORK["start"], 0.001, 1e-8, 1e-15
    gradients = []
    for _ in range(20):
        gradients.append(BEALE.gradient(np, w))
        w = w - eta * gradients[-1]
        g = [BEALE.gradient(np, w), *gradients[::-1]]
        if len(g) > 2:
            alpha += kappa * (g[0] @ g[1]) * (g[1] @ g[2])
        eta += alpha * (g[0] @ g[1])
    learned = descend_learning_steps(BEALE, HOMEWORK["start"], np.array([0.001]), 1e-8, 20, 1e-15)
    assert np.allclose(learned.w, w, rtol=1e-13)
    assert math.isclose(learned.eta[0], eta, rel_tol=1e-13)
    assert math.isclose(learned.alpha, alpha, rel_tol=1e-13)


@pytest.mark.parametrize(
    ("loss", "start", "eta", "steps", "T", "alpha", "kappa"),
    [
        (QUADRATIC, np.ones(3), 0.02, 40, 1, 1e-3, 0.0),
        (QUADRATIC, np.ones(3), 0.02, 40, 1, 1e-5, 1e-7),
        (QUADRATIC, np.ones(3), 0.02, 40, 4, 1e-3, 0.0),
        (BEALE, HOMEWORK["start"], 0.001, 200, 1, 1e-7, 0.0),
        (BEALE, HOMEWORK["start"], 0.001, 200, 1, 1e-8, 1e-15),
        (BEALE, HOMEWORK["start"], 0.001, 200, 5, 1e-6, 0.0),
    ],
)
def test_a_learned_schedule_beats_the_step_it_starts_from(loss, start, eta, steps, T, alpha, kappa):
    learned = descend_learning_steps(loss, start, np.full(T, eta), alpha, steps // T, kappa)
    assert (learned.eta > eta).all()
    assert (learned.alpha > alpha) == (kappa > 0)
    assert loss.value(np, learned.w) < 0.7 * descend(loss, start, eta, steps)
