"""SGD on a quadratic: the path by a second route, the three thresholds, and a mean that explodes on no path."""

import math

import numpy as np
import pytest
import torch

from gradrace.families import sgd_moments
from gradrace.families.sgd_moments import (
    best_steps,
    counted,
    draw,
    exponent,
    log_of_product,
    mean_factor,
    sample_log_ratios,
    second_moment_factor,
    step_loop,
    thresholds,
    zeros_of_exponent,
)

STEP = 1e-30
H = (1, 2, 3)
STEEP = (0.1, 0.1, 0.1, 0.1, 4.6)


def close(actual, published):
    """To the six decimals that are published."""
    return math.isclose(actual, published, abs_tol=5.1e-7)


# ---- the path ----


def test_the_reference_agrees_with_a_complex_step():
    """A second route: ½ log of the square of each factor, whose derivative needs no sign, counted by n."""
    numbers = draw(sgd_moments.sgd_moments.sizes[1], np.random.default_rng(0))
    exact, counts = sgd_moments.reference(numbers), np.bincount(numbers["indices"], minlength=40)
    value = 0.0
    for eta, gradient in zip(numbers["eta"], exact["eta"], strict=True):
        log_ratio = counts @ np.log((1 - (eta + 1j * STEP) * numbers["h"]) ** 2) / 2
        assert math.isclose(gradient, log_ratio.imag / STEP, rel_tol=1e-12)
        value += log_ratio.real
    assert math.isclose(exact["value"], value, rel_tol=1e-14)


def test_the_path_is_that_of_the_recursion_and_its_order_does_not_matter():
    indices = np.random.default_rng(0).integers(3, size=50)
    w = math.prod(1 - 0.95 * H[n] for n in indices)
    eta, h = torch.tensor([0.95], dtype=torch.float64), torch.tensor(H, dtype=torch.float64)
    for order in (indices, np.sort(indices)):
        for formulation in (step_loop, counted):
            assert math.isclose(formulation(eta, h, torch.from_numpy(order)).item(), math.log(abs(w)), rel_tol=1e-13)


@pytest.mark.parametrize("T", [100, 1000])
def test_the_logarithm_of_the_product_lasts_as_long_as_the_product(T):
    """w falls by e^−0.83 a step on average, and under the smallest float after some 900 steps."""
    eta, h = torch.tensor([0.95], dtype=torch.float64, requires_grad=True), torch.tensor(H, dtype=torch.float64)
    indices = torch.arange(T) % 3
    value = log_of_product(eta, h, indices)
    (gradient,) = torch.autograd.grad(value.sum(), eta)
    right = counted(eta, h, indices)
    (right_gradient,) = torch.autograd.grad(right.sum(), eta)
    if T == 100:
        assert math.isclose(value.item(), right.item(), rel_tol=1e-13)
        assert math.isclose(gradient.item(), right_gradient.item(), rel_tol=1e-13)
    else:
        assert value.item() == -math.inf
        assert gradient.isnan().all()
        assert math.isclose(right.item(), T * exponent(0.95, H), rel_tol=0.01)


# ---- the theory ----


def test_the_best_steps():
    best = best_steps(H)
    assert best.mean == 1 / 2
    assert mean_factor(best.mean, H) == 0
    assert close(best.mean_square, 0.428571)
    assert close(second_moment_factor(best.mean_square, H), 0.142857)  # ρ / (h̄² + ρ) = (2/3) / (4 + 2/3)
    assert exponent(best.almost_sure + 1e-12, H) < -8
    assert close(best_steps(STEEP).mean_square, 0.235849)


@pytest.mark.parametrize(
    ("h", "mean_square", "mean", "almost_sure"),
    [(H, 0.857143, 1, 1.245244), ((1, 3), 0.8, 1, 1.333333), (STEEP, 0.471698, 2, 0.482312)],
)
def test_the_three_thresholds(h, mean_square, mean, almost_sure):
    found = thresholds(h)
    assert close(found.mean_square, mean_square)
    assert close(found.mean, mean)
    assert close(found.almost_sure, almost_sure)
    for eta, factor in ((found.mean, mean_factor), (found.mean_square, second_moment_factor)):
        assert abs(factor(0.999 * eta, h)) < 1 < abs(factor(1.001 * eta, h))
    assert exponent(0.999 * found.almost_sure, h) < 0 < exponent(1.001 * found.almost_sure, h)


def test_the_moment_factors_are_means_over_the_samples():
    for eta in (0.1, 0.95, 1.3):
        factors = [1 - eta * h for h in H]
        assert math.isclose(mean_factor(eta, H), sum(factors) / 3, abs_tol=1e-15)
        assert math.isclose(second_moment_factor(eta, H), sum(f * f for f in factors) / 3, rel_tol=1e-14)


@pytest.mark.parametrize("h", [H, (1, 3), STEEP])
def test_paths_converge_where_the_mean_square_does(h):
    """Jensen: q ≤ ½ log E(1 − η h)²."""
    for eta in np.linspace(0.01, 3, 200):
        assert exponent(eta, h) <= math.log(second_moment_factor(eta, h)) / 2 + 1e-15


def test_large_steps_converge_again_where_neither_mean_does():
    """The flat terms have a pole of q at η = 10, and around it paths converge although E w and E w² explode."""
    zeros = zeros_of_exponent(STEEP)
    assert len(zeros) == 3
    assert close(zeros[0], 0.482312)
    assert close(zeros[1], 5.494915)
    assert exponent(0.5 * (zeros[0] + zeros[1]), STEEP) > 0
    assert exponent(8, STEEP) < 0 < exponent(1.001 * zeros[2], STEEP)
    assert mean_factor(8, STEEP) == pytest.approx(-7)
    assert sample_log_ratios(8, STEEP, 1000, 200, np.random.RandomState(0)).max() < 0


def test_the_mean_square_explodes_and_every_path_converges():
    """η = 0.95, 200 steps, 2000 paths of RandomState(0): the mean over the paths misses E w² by 117 decades."""
    assert math.isclose(second_moment_factor(0.95, H), 1.411667, abs_tol=5e-7)
    assert math.isclose(second_moment_factor(0.95, H) ** 200, 8.84e29, rel_tol=5e-4)
    log_ratios = sample_log_ratios(0.95, H, 200, 2000, np.random.RandomState(0))
    log10_mean_square = (np.logaddexp.reduce(2 * log_ratios) - math.log(2000)) / math.log(10)
    assert math.isclose(10**log10_mean_square, 1.2e-87, rel_tol=0.05)
    assert log_ratios.max() < -90
    spread = np.log(np.abs(1 - 0.95 * np.array(H))).std() / math.sqrt(200 * 2000)
    assert abs(log_ratios.mean() / 200 - exponent(0.95, H)) < 5 * spread
    assert close(exponent(0.95, H), -0.828636)


def test_two_thousand_paths_have_their_published_means():
    """RandomState(0).randint(3, size=(2000, 200)), a row of samples for each path; η = 0.95, h = (1, 2, 3)."""
    indices = torch.from_numpy(np.random.RandomState(0).randint(3, size=(2000, 200)))
    eta, h = torch.tensor([0.95], dtype=torch.float64), torch.tensor(H, dtype=torch.float64)
    log_ratios = torch.cat([counted(eta, h, path) for path in indices])
    assert math.isclose(log_ratios.mean() / 200, -0.8336339857731657, rel_tol=1e-14)
    log10_mean_square = ((2 * log_ratios).logsumexp(0) - math.log(2000)) / math.log(10)
    assert math.isclose(log10_mean_square, -86.9118062463, abs_tol=6e-11)
    assert f"{10**log10_mean_square:.1e}" == "1.2e-87"


def test_short_paths_have_the_moments_of_theory():
    """For two steps the mean over the paths does estimate E w²."""
    log_ratios = sample_log_ratios(0.95, H, 2, 100_000, np.random.RandomState(0))
    assert math.isclose(np.exp(2 * log_ratios).mean(), second_moment_factor(0.95, H) ** 2, rel_tol=0.05)
