"""The small families against published numbers and complex steps, and what their known-wrong specimens get wrong."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from gradrace.families import sgd_exponent, softmax_refclass
from gradrace.families.sgd_exponent import log_abs, log_without_abs
from gradrace.families.softmax_refclass import custom_function, logsumexp_zero_column, plus_lambda
from gradrace.families.softmax_refclass import softmax_refclass as FAMILY

STEP = 1e-30


# ---- softmax_refclass: N = 6, D = 3, R = 4 ----

GRADIENT = [
    [-1.894036246616, -2.854283973609, 0.854794850445],
    [0.416525301126, 1.460342186441, 0.664847823705],
    [0.252097618456, -0.056322292441, -0.272064450279],
]


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.RandomState(0)
    X = rng.randn(6, 3)
    labels = rng.randint(0, 4, 6)
    assert labels.tolist() == [2, 3, 0, 1, 1, 1]
    return {"X": X, "labels": labels, "W": rng.randn(3, 3), "lam": 0.1}


def test_the_log_likelihood_has_the_published_value_and_gradient(numbers):
    exact = softmax_refclass.reference({**numbers, "lam": 0.0})
    assert math.isclose(exact["value"], -9.490841797409598, rel_tol=1e-15)
    assert np.allclose(exact["W"].astype(float), GRADIENT, rtol=0, atol=6e-13)
    penalised = softmax_refclass.reference(numbers)
    assert math.isclose(penalised["value"], -9.882579579990907, rel_tol=1e-15)
    assert np.allclose((penalised["W"] - exact["W"]).astype(float), -0.1 * numbers["W"], rtol=1e-14)


def test_the_log_likelihood_agrees_with_a_complex_step(numbers):
    """A second route: the formula as printed, with no shift, at W + i h e_k."""

    def objective(W):
        z = numbers["X"] @ W.T
        chosen = np.hstack([z, np.zeros((6, 1))])[np.arange(6), numbers["labels"]]
        return (chosen - np.log(1 + np.exp(z).sum(axis=1))).sum() - numbers["lam"] / 2 * (W * W).sum()

    exact = softmax_refclass.reference(numbers)["W"].astype(float)
    by_step = [objective(numbers["W"] + 1j * STEP * e.reshape(3, 3)).imag / STEP for e in np.eye(9)]
    assert np.allclose(exact.ravel(), by_step, rtol=1e-13)


def test_the_gradient_sums_to_zero_over_all_classes(numbers):
    """The reference class has weights of zero, but a gradient: minus the sum of the others."""
    X, labels = (torch.from_numpy(numbers[name]) for name in ("X", "labels"))
    W = torch.from_numpy(np.vstack([numbers["W"], np.zeros(3)])).requires_grad_()
    L = -torch.nn.functional.cross_entropy(X @ W.mT, labels, reduction="sum")
    (gradient,) = torch.autograd.grad(L, W)
    assert np.allclose(gradient[:3], GRADIENT, atol=6e-13)
    assert torch.allclose(gradient.sum(dim=0), torch.zeros(3).double(), atol=1e-14)


def tensors(numbers):
    return [torch.from_numpy(numbers[name]) for name in ("W", "X", "labels")]


def test_the_homeworks_sign_gives_its_own_published_value(numbers):
    value = plus_lambda(*tensors(numbers), numbers["lam"])
    assert math.isclose(value, -9.099104014828288, rel_tol=1e-15)


def test_the_homeworks_sign_has_no_maximum(numbers):
    W, X, labels = tensors(numbers)
    assert plus_lambda(1e3 * W, X, labels, 0.1) > 0 > logsumexp_zero_column(1e3 * W, X, labels, 0.1)


PRINTED = {"log1p_sum_exp", "loop_over_classes"}
SHIFTED = [each for each in FAMILY.variants if not each.is_specimen and each.name not in PRINTED]


def value_and_gradient(variant, W, X, labels):
    """J of λ = 0 and its gradient, by a variant of either kind."""
    if variant.computes == "value_and_gradient":
        value, (gradient,) = variant.function(W, X, labels, 0.0)
        return value, gradient
    W = W.clone().requires_grad_()
    value = variant.function(W, X, labels, 0.0)
    return value.detach(), torch.autograd.grad(value, W)[0]


@pytest.mark.parametrize("variant", SHIFTED, ids=lambda variant: variant.name)
@pytest.mark.parametrize("logit", [710.0, 1e4, -1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_a_shifted_logarithm_holds_at_any_logit(variant, logit, label):
    """Of two classes, J = z [l = 0] − max(z, 0) up to e^(−|z|), which is nothing here."""
    W, X = torch.full((1, 1), logit).double(), torch.ones(1, 1).double()
    value, gradient = value_and_gradient(variant, W, X, torch.tensor([label]))
    assert value == (logit if label == 0 else 0) - max(logit, 0)
    assert gradient == (label == 0) - (logit > 0)


@pytest.mark.parametrize("variant", [each for each in FAMILY.variants if each.name in PRINTED], ids=lambda v: v.name)
def test_the_printed_logarithm_overflows(variant):
    W, X, labels = torch.full((1, 1), 710.0).double(), torch.ones(1, 1).double(), torch.tensor([0])
    assert value_and_gradient(variant, W, X, labels)[0] == -math.inf


def test_the_custom_function_answers_for_the_data_too(numbers):
    W, X, labels = tensors(numbers)
    by_hand, by_torch = (
        torch.autograd.grad(f(W, data, labels, 0.1), data)[0]
        for f, data in ((f, X.clone().requires_grad_()) for f in (custom_function, logsumexp_zero_column))
    )
    assert torch.allclose(by_hand, by_torch, rtol=1e-13, atol=1e-14)


def test_the_custom_function_has_a_second_derivative(numbers):
    """Its graph keeps the residual as a number: differentiated as one, the Hessian would be −λ I."""
    W, X, labels = tensors(numbers)
    by_hand, by_torch = (
        torch.autograd.functional.hessian(lambda W, f=f: f(W, X, labels, 0.1), W)
        for f in (custom_function, logsumexp_zero_column)
    )
    assert torch.allclose(by_hand, by_torch, rtol=1e-13, atol=1e-14)


# ---- sgd_exponent: h = (1, 2, 3) ----

H = np.array([1.0, 2.0, 3.0])


def exponent(eta, h=H):
    exact = sgd_exponent.reference({"eta": np.array([eta]), "h": h})
    return float(exact["value"]), float(exact["eta"][0])


def test_the_exponent_has_the_published_value_and_thresholds():
    assert math.isclose(exponent(0.95)[0], -0.828636, abs_tol=5e-7)
    assert math.isclose(brentq(lambda eta: exponent(eta)[0], 1.1, 1.4), 1.245244, abs_tol=5e-7)
    assert math.isclose(brentq(lambda eta: exponent(eta, np.array([1.0, 3.0]))[0], 1.1, 2), 1.333333, abs_tol=5e-7)
    # Off the poles at 1/h, where it is −∞, q is negative on all of the interval.
    assert all(exponent(eta)[0] < 0 for eta in np.linspace(1e-6, 1.245, 1001))


def test_the_exponent_agrees_with_a_complex_step():
    """A second route: log of z², whose derivative needs no sign."""
    for eta in (0.2, 0.4, 0.95, 1.3):
        by_step = (np.log((1 - (eta + 1j * STEP) * H) ** 2) / 2).mean().imag / STEP
        assert math.isclose(exponent(eta)[1], by_step, rel_tol=1e-13)


def test_a_path_falls_at_the_rate_of_the_exponent():
    """log|w(t)|/t of sampled SGD, within five standard errors of q."""
    rng = np.random.default_rng(0)
    terms = np.log(np.abs(1 - 0.95 * H))
    steps = terms[rng.integers(3, size=100_000)]
    assert abs(steps.mean() - exponent(0.95)[0]) < 5 * terms.std() / math.sqrt(len(steps))


def test_without_the_absolute_value_the_value_is_nan_and_the_gradient_is_right():
    """Reading the gradient alone would never notice."""
    eta, h = torch.tensor([0.95]).double().requires_grad_(), torch.from_numpy(H)
    wrong, right = log_without_abs(eta, h), log_abs(eta, h)
    assert wrong.isnan().all()
    assert torch.equal(*(torch.autograd.grad(value.sum(), eta)[0] for value in (wrong, right)))
