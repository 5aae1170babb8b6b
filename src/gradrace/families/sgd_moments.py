"""sgd_moments: log|w_T / w_0| along a sampled path of SGD on ½ Σ_n h_n w². Teaches to count instead of to walk.

A step on the n-th term multiplies w by 1 − η h_n, so with the samples n(1) … n(T), of which c_n are n,

    log|w_T / w_0| = Σ_t log|1 − η h_{n(t)}| = Σ_n c_n log|1 − η h_n|,    ∂/∂η = −Σ_n c_n h_n / (1 − η h_n):

the order of the steps does not matter, and N terms do for T of them. In the log domain: w_T itself falls below the
smallest float after some hundred steps, and with it the gradient of its logarithm is lost.

Over the draws of the samples, with h̄ and ρ the mean and the variance of h,

    E w_T = (1 − η h̄)^T w_0,    E w_T² = (1 − 2 η h̄ + η² (h̄² + ρ))^T w_0²,    log|w_T| / T → q(η) almost surely,

where q(η) = mean log|1 − η h_n|. Each has a range of η of its own in which it converges: 2h̄ / (h̄² + ρ) ends that of
the mean square, 2 / h̄ that of the mean and a zero of q that of almost every path. By Jensen's inequality
q ≤ ½ log E(1 − η h)², so paths converge where the mean square does, and beyond: there rare paths carry the mean.

Shapes: η (b,) step sizes, h (N,), indices (T,) of the samples, the same for each η; the value is (b,), and value and
gradient are of its sum.

Source: ECE 046211 homework 1, question 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial import Polynomial
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.numerics import measured

# ---- the theory: h is any sequence of curvatures, sampled evenly ----


def mean_factor(eta: float, h: Any) -> float:
    """What a step multiplies E w by: 1 − η h̄."""
    return float(1 - eta * np.mean(h))


def second_moment_factor(eta: float, h: Any) -> float:
    """What a step multiplies E w² by, and so E ½ Σ h_n w²: 1 − 2 η h̄ + η² (h̄² + ρ), the mean of (1 − η h)²."""
    return float(1 - 2 * eta * np.mean(h) + eta**2 * np.mean(np.square(h)))


def exponent(eta: float, h: Any) -> float:
    """q(η) = mean log|1 − η h|, the limit of log|w_T| / T on almost every path."""
    return float(np.log(np.abs(1 - eta * np.asarray(h))).mean())


def zeros_of_exponent(h: Any) -> np.ndarray:
    """All η > 0 with q(η) = 0 in rising order: where the polynomial Π (1 − η h_n) is 1 or −1."""
    product = math.prod((Polynomial([1, -float(each)]) for each in h), start=Polynomial([1]))
    roots = np.concatenate([(product - 1).roots(), (product + 1).roots()])
    real = np.sort(roots.real[np.abs(roots.imag) < 1e-9 * np.abs(roots)])
    return real[real > 1e-9]


class Steps(NamedTuple):
    """Step sizes η of E w, of E w² (and so of E f) and of almost every path."""

    mean: float
    mean_square: float
    almost_sure: float


def best_steps(h: Any) -> Steps:
    """The η of fastest convergence: 1 / h̄, where E w is 0 after a step; h̄ / (h̄² + ρ), where E w² falls by the factor
    ρ / (h̄² + ρ); and 1 / max h, the first pole of q, where one sample of the steepest term makes w zero.
    """
    return Steps(float(1 / np.mean(h)), float(np.mean(h) / np.mean(np.square(h))), float(1 / np.max(h)))


def thresholds(h: Any) -> Steps:
    """The ends of the ranges of η, from 0, in which E w, E w² and almost every path converge to 0."""
    best = best_steps(h)
    return Steps(2 * best.mean, 2 * best.mean_square, float(zeros_of_exponent(h)[0]))


def sample_log_ratios(
    eta: float, h: Any, steps: int, paths: int, rng: np.random.Generator | np.random.RandomState
) -> np.ndarray:
    """log|w_T / w_0| of independent paths: (paths,). How often each n is drawn is multinomial, so no path is walked."""
    counts = rng.multinomial(steps, np.full(len(h), 1 / len(h)), size=paths)
    return np.asarray(counts @ np.log(np.abs(1 - eta * np.asarray(h))))


# ---- the family ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Flat and steep terms in turn, η h in (0.49, 0.62) or (1.07, 1.23): |1 − η h| is below 0.51, so that w underflows
    at every size, and over 0.07, far from the pole.
    """
    flat, steep = rng.uniform(0.5, 0.6, size["n"]), rng.uniform(1.1, 1.2, size["n"])
    return {
        "eta": rng.uniform(0.98, 1.02, size["b"]),
        "h": np.where(np.arange(size["n"]) % 2, flat, steep),
        "indices": rng.integers(size["n"], size=size["T"]),
    }


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The sums over the steps in extended precision: (value, eta (b,))."""
    eta, h = numbers["eta"].astype(np.longdouble)[:, None], numbers["h"].astype(np.longdouble)[numbers["indices"]]
    return {"value": np.log(np.abs(1 - eta * h)).sum(), "eta": (-h / (1 - eta * h)).sum(axis=1)}


_CONSTANT = {"ops": 0, "graph_nodes": 0, "saved_bytes": 0}
BY_STEPS = Growth("T", (128, 256, 512), "value_and_gradient", _CONSTANT, at=size(b=2, n=4))
"""A formulation that counts the samples, or gathers what is computed of each, keeps nothing of each step."""

_KEEPS_STEPS = (BY_STEPS.but(saved_bytes=1),)

sgd_moments = Family(
    name="sgd_moments",
    summary="log|w_T / w_0| along a sampled path of SGD on a quadratic: count instead of walking",
    source="ECE 046211 homework 1, question 2",
    primals=("eta",),
    constants=("h", "indices"),
    operators=("value_and_gradient",),
    sizes=(
        size("test", b=2, n=3, T=700),
        size("test", b=5, n=40, T=1000),
        size("gate", b=10, n=10, T=1000),
        size("bench", b=20, n=100, T=10_000),
        size("large", "cuda", b=100, n=1000, T=20_000),
    ),
    draw=draw,
    baseline="gather_and_sum",
    reference={"value_and_gradient": reference},
    condition=measured("eta", "h"),
    # κ stands for the rounding of η h; what is added up step by step rounds T times, at random.
    depth=lambda size: 2 + math.sqrt(size["T"]) / 8,
    objective=lambda value, *_: value.sum(),
    growth=(BY_STEPS,),
)


def _factors(eta: Tensor, h: Tensor) -> Tensor:
    """What each step multiplies w by: (b, number of h)."""
    return 1 - eta.unsqueeze(1) * h


def _counts(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    """How often each n is among the samples, in the dtype of η: (N,)."""
    return torch.bincount(indices, minlength=h.numel()).to(eta.dtype)


@sgd_moments.variant(
    source="the recursion log|w(t)| = log|w(t−1)| + log|1 − η h_{n(t)}|, each log|1 − η h_n| computed once",
    limits=(Limit(lambda size: size["T"], 1000, "a Python loop over the steps"),),
    grows=(BY_STEPS.but(ops=1, graph_nodes=1),),
)
def step_loop(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    increments, log_ratio = _factors(eta, h).abs().log().unbind(dim=1), torch.zeros_like(eta)
    for n in indices.tolist():
        log_ratio = log_ratio + increments[n]
    return log_ratio


@sgd_moments.variant(source="the curvature of each step gathered, then one sum", grows=_KEEPS_STEPS)
def gather_and_sum(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    return _factors(eta, h[indices]).abs().log().sum(dim=1)


@sgd_moments.variant(source="the whole path by cumsum, its end taken", grows=_KEEPS_STEPS)
def end_of_path(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    return _factors(eta, h[indices]).abs().log().cumsum(dim=1)[:, -1]


BLOCK = 16
"""Factors in a product: even the smallest, 0.07^16, is far from underflow in float32."""


@sgd_moments.variant(source="one logarithm for a product of 16 steps", grows=_KEEPS_STEPS)
def logs_of_blocks(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    factors = F.pad(_factors(eta, h[indices]), (0, -indices.numel() % BLOCK), value=1.0)
    return factors.unflatten(1, (-1, BLOCK)).prod(dim=2).abs().log().sum(dim=1)


@sgd_moments.variant(source="one logarithm for each n, gathered for each step")
def gather_logs(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    return _factors(eta, h).abs().log().index_select(1, indices).sum(dim=1)


@sgd_moments.variant(source="one logarithm for each n, times how often n is drawn")
def counted(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    return _factors(eta, h).abs().log() @ _counts(eta, h, indices)


@sgd_moments.variant(source="−Σ c_n h_n / (1 − η h_n) from the counts, no graph", computes="value_and_gradient")
def closed_form(eta: Tensor, h: Tensor, indices: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    factors, counts = _factors(eta, h), _counts(eta, h, indices)
    gradient = factors.reciprocal() @ (h * -counts)
    return (factors.abs_().log_() @ counts).sum(), (gradient,)


@sgd_moments.variant(
    source="−Σ c_n h_n / (1 − η h_n) from the counts in NumPy, whose calls cost less than torch's",
    computes="value_and_gradient",
    **IN_NUMPY,
    limits=(Limit(lambda size: size["b"] * size["n"], 10_000, "its logarithms cost more than the calls"),),
)
def closed_form_in_numpy(eta: Tensor, h: Tensor, indices: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    curvatures = h.numpy()
    counts = np.bincount(indices.numpy(), minlength=curvatures.size).astype(curvatures.dtype)
    factors = 1 - np.multiply.outer(eta.numpy(), curvatures)
    gradient = (1 / factors).dot(curvatures * -counts)
    np.log(np.abs(factors, out=factors), out=factors)
    return torch.from_numpy(np.asarray(factors.sum(axis=0).dot(counts))), (torch.from_numpy(gradient),)


@sgd_moments.variant(
    source="the logarithm of w_T / w_0 itself",
    expected={
        "value": ("nan", "w_T is below the smallest float, and log 0 is −∞"),
        "eta": ("nan", "∞ · 0: the derivative of the logarithm times that of the product"),
    },
    grows=_KEEPS_STEPS,
)
def log_of_product(eta: Tensor, h: Tensor, indices: Tensor) -> Tensor:
    return _factors(eta, h[indices]).prod(dim=1).abs().log()
