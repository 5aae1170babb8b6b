"""The loss of logistic regression: its reference, what overflows, and five statements about its minimisers.

The data are N = 40 points in 5 dimensions with labels sign(X w + noise), and 200 more to test on; without the noise
a hyperplane separates them.
"""

import math

import numpy as np
import pytest
import torch

from gradrace.families import softmax_refclass
from gradrace.families.logistic import logistic

STEP = 1e-30
LAMBDAS = (0, 1e-3, 1e-2, 0.1, 1, 3, 10, 100, 1000)


@pytest.fixture(scope="module")
def data():
    rng = np.random.RandomState(1)
    X, w = rng.randn(40, 5), rng.randn(5)
    y = np.sign(X @ w + rng.randn(40))
    X_test = rng.randn(200, 5)
    y_test = np.sign(X_test @ w + rng.randn(200))
    return {"X": X, "y": y, "separable": np.sign(X @ w), "X_test": X_test, "y_test": y_test}


def evaluate(w, X, y, lam):
    """J and its gradient by the reference of the family."""
    exact = logistic.exact("value_and_gradient", {"w": w, "X": X, "y": y, "lam": lam})
    return float(exact["value"]), exact["w"].astype(float)


def minimise(X, y, lam, start=None):
    """Newton's method with a backtracking line search, until its step is as small as rounding."""
    w = np.zeros(X.shape[1]) if start is None else start
    for _ in range(100):
        value, gradient = evaluate(w, X, y, lam)
        p = 1 / (1 + np.exp(y * (X @ w)))
        step = np.linalg.lstsq(X.T @ ((p * (1 - p))[:, None] * X) + 2 * lam * np.eye(w.size), gradient, rcond=None)[0]
        share = 1.0
        while share > 1e-6 and evaluate(w - share * step, X, y, lam)[0] > value - 1e-4 * share * (gradient @ step):
            share /= 2
        w = w - share * step
        if np.linalg.norm(step) < 1e-12:
            break
    return w


def log_likelihood(w, X, y):
    return -evaluate(w, X, y, 0.0)[0]


# ---- the reference ----


def test_the_reference_agrees_with_a_complex_step(data):
    """A second route: J as printed, at w + i h e_j."""
    X, y, w = data["X"], data["y"], np.linspace(-1, 1, 5)

    def J(w):
        return np.log(1 + np.exp(-y * (X @ w))).sum() + 0.3 * (w @ w)

    value, gradient = evaluate(w, X, y, 0.3)
    assert math.isclose(value, J(w), rel_tol=1e-14)
    assert np.allclose(gradient, [J(w + 1j * STEP * e).imag / STEP for e in np.eye(5)], rtol=1e-13)


def test_it_is_the_regression_with_a_reference_class_for_two_classes(data):
    """J = −(L − λ′/2 ‖w‖²) with λ′ = 2λ, and the label −1 as the reference class."""
    X, y, w = data["X"], data["y"], np.linspace(-1, 1, 5)
    two = softmax_refclass.reference({"W": w[None], "X": X, "labels": (y < 0).astype(int), "lam": 0.6})
    value, gradient = evaluate(w, X, y, 0.3)
    assert math.isclose(value, -two["value"], rel_tol=1e-14)
    assert np.allclose(gradient, -two["W"].astype(float)[0], rtol=1e-13)


@pytest.mark.parametrize(("dtype", "last", "first"), [(torch.float64, 709, 710), (torch.float32, 88, 89)])
def test_the_printed_logarithm_overflows_where_the_others_are_straight_lines(dtype, last, first):
    X, y = torch.ones(1, 1, dtype=dtype), torch.ones(1, dtype=dtype)
    for variant in logistic.variants:
        for m in (-last, -first):
            w = torch.tensor([float(m)], dtype=dtype, requires_grad=True)
            if variant.computes == "primal":
                value = variant.function(w, X, y, 0.0)
                (gradient,) = torch.autograd.grad(value, w)
            else:
                value, (gradient,) = variant.function(w.detach(), X, y, 0.0)
            if m == -first and variant.name in ("log_one_plus_exp", "log1p_exp", "soft_margin_loss"):
                assert value.item() == math.inf
                assert gradient.isnan().all()
            else:
                assert math.isclose(value.item(), -m, rel_tol=1e-7)
                assert math.isclose(gradient.item(), -1, rel_tol=1e-7)


# ---- five statements about the minimisers ----


def test_one_a_penalty_makes_the_minimiser_unique(data):
    """Not convexity alone: two columns that are equal leave a line of minimisers at λ = 0, of which λ > 0 picks one."""
    X, y = np.hstack([data["X"], data["X"][:, :1]]), data["y"]
    starts = [np.zeros(6), np.array([3.0, 0, 0, 0, 0, -3.0])]
    first, second = (minimise(X, y, 0.0, start) for start in starts)
    assert math.isclose(evaluate(first, X, y, 0.0)[0], evaluate(second, X, y, 0.0)[0], rel_tol=1e-12)
    assert np.linalg.norm(first - second) > 1
    first, second = (minimise(X, y, 0.1, start) for start in starts)
    assert np.allclose(first, second, atol=1e-10)
    assert math.isclose(first[0], first[5], rel_tol=1e-10)


def test_one_it_is_strongly_convex_with_twice_lambda(data):
    rng = np.random.default_rng(0)
    for lam in (0.0, 0.5):
        for _ in range(50):
            w, v = 3 * rng.standard_normal((2, 5))
            value, gradient = evaluate(w, data["X"], data["y"], lam)
            bound = value + gradient @ (v - w) + lam * (v - w) @ (v - w)
            assert evaluate(v, data["X"], data["y"], lam)[0] >= bound - 1e-9 * abs(bound)


def test_two_a_square_penalty_makes_no_weight_zero(data):
    for lam in (1, 100):
        assert (np.abs(minimise(data["X"], data["y"], lam)) > 1e-4).all()


def test_three_without_a_penalty_the_weights_grow_without_end_on_separable_data(data):
    """Gradient descent with step 0.1 from 0: the published norms and losses; each decade adds a smaller share."""
    signed = data["separable"][:, None] * data["X"]
    w, found = np.zeros(5), []
    for k in range(1, 10_001):
        w = w + 0.1 * (signed.T @ (1 / (1 + np.exp(signed @ w))))
        if k in (10, 100, 1000, 10_000):
            found.append((np.linalg.norm(w), np.log1p(np.exp(-signed @ w)).sum()))
    norms, losses = np.transpose(found)
    assert np.allclose(norms, [3.90, 9.54, 21.03, 38.41], atol=5e-3)
    assert np.allclose(losses, [6.58, 2.40, 0.545, 0.0764], rtol=2e-3)
    assert (np.diff(norms[1:] / norms[:-1]) < 0).all(), "slower than any power of the number of steps"


def test_four_and_five_a_penalty_lowers_the_likelihood_of_the_data_and_may_raise_that_of_others(data):
    """The assignment's answer to its fourth statement, that the likelihood of the data increases, is wrong.

    Adding the two optimality inequalities for λ₁ < λ₂ gives ‖w(λ₂)‖ ≤ ‖w(λ₁)‖ and l(w(λ₂)) ≤ l(w(λ₁)).
    """
    path = [minimise(data["X"], data["y"], lam) for lam in LAMBDAS]
    train = [log_likelihood(w, data["X"], data["y"]) for w in path]
    test = [log_likelihood(w, data["X_test"], data["y_test"]) for w in path]
    published = [-10.726302, -10.726685, -10.753958, -11.358496, -14.467588, -17.443771, -21.544981, -26.668787]
    assert np.allclose(train, [*published, -27.611985], rtol=0, atol=1e-6)
    assert np.allclose(test[:5], [-53.514, -53.289, -51.858, -51.049, -68.346], rtol=0, atol=5e-4)
    assert (np.diff(train) < 0).all()
    assert (np.diff([np.linalg.norm(w) for w in path]) < 0).all()
    assert train[-1] > -40 * math.log(2), "the limit, where every weight is zero"
    assert (np.diff(test[:4]) > 0).all(), "at first a penalty helps"
    assert (np.diff(test[3:]) < 0).all()
