"""mse_linear: L(θ) = 1/N ‖y − X θ‖². Teaches what conditioning costs a descent, and how one factorisation ends it.

With X (N, d), y (N,), the residual r = y − X θ and the Hessian H = (2/N) XᵀX, whose eigenvalues fill [μ, ℓ], κ = ℓ/μ:

    ∇L = −(2/N) Xᵀ r = H θ − b,    b = (2/N) Xᵀ y.

Each step of a descent shrinks the error by

    (κ − 1)/(κ + 1) for the best fixed step 2/(ℓ + μ),    (√κ − 1)/(√κ + 1) for the best momentum (heavy ball),

so that ε is reached in ½ κ ln 1/ε and ½ √κ ln 1/ε steps; exact line search does no better than the fixed step from its
worst start. A step 1/t reaches infinitely far and shrinks the error along an eigenvector by t^(−λ) only. Solvers
start from `theta` and tie when they find the minimiser.

Sources: the numerical optimization notes of Z. Xu, gradient descent; B. T. Polyak, USSR Comput. Math. Math. Phys. 4
(1964) for the heavy ball; H. Akaike, Ann. Inst. Statist. Math. 11 (1959) for the worst start; M. R. Hestenes and
E. Stiefel, J. Res. Natl. Bur. Stand. 49 (1952) for conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families import endpoints
from gradrace.families.descent import Descent, Step, descend, newton_like
from gradrace.families.endpoints import Solvers
from gradrace.families.lapack import IN_SCIPY, cholesky_factor, posv
from gradrace.families.numerics import measured

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """X with eigenvalues of H spaced logarithmically over [1/κ, 1], and y = X θ* plus noise that Xᵀ maps to 0."""
    n, d, cond = size["n"], size["d"], size["cond"]
    Q, _ = np.linalg.qr(rng.standard_normal((n, d)))
    P, _ = np.linalg.qr(rng.standard_normal((d, d)))
    X = np.sqrt(n / 2) * (Q * np.logspace(-np.log10(cond) / 2, 0, d)) @ P.T
    solution, noise = rng.standard_normal(d), rng.standard_normal(n)
    y = X @ solution + noise - Q @ (Q.T @ noise)
    return {"theta": rng.standard_normal(d), "X": X, "y": y, "solution": solution}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The formulas above in extended precision: (value, theta (d,))."""
    theta, X, y = (numbers[name].astype(np.longdouble) for name in ("theta", "X", "y"))
    r = y - X @ theta
    return {"value": r @ r / len(y), "theta": -2 * (r @ X) / len(y)}


def distance(numbers: Numbers, found: np.ndarray) -> np.ndarray:
    """‖θ − θ*‖ / ‖θ*‖."""
    exact = numbers["solution"]
    return np.asarray(np.linalg.norm(found - exact) / np.linalg.norm(exact))


condition = measured("theta", "X", "y")


def gram_condition(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, float]:
    """κ where H θ − b is what is left of Hθ and b, and the value of ‖y‖², 2 θ·Xᵀy and ‖Xθ‖²."""
    theta, X, y = (numbers[name] for name in ("theta", "X", "y"))
    exact, kappa = reference(numbers), condition(size, numbers, reference)
    fitted = X @ theta
    terms = {
        "value": (y @ y + 2 * abs(fitted @ y) + fitted @ fitted) / len(y) / exact["value"],
        "theta": 2 * np.abs([X.T @ fitted, X.T @ y]).max() / len(y) / np.abs(exact["theta"]).max(),
    }
    return {name: float(kappa[name] + terms[name]) for name in terms}


_DERIVATIVE = ("value_and_gradient",)

BY_SAMPLES = Growth(
    "n",
    (128, 256, 512),
    "value_and_gradient",
    {"ops": 0, "flops": 1, "graph_nodes": 0, "saved_bytes": 0},
    at=size(d=32, cond=10),
)
"""Two products with X, 4 N d FLOPs; a graph keeps the residual."""

_KEEPS_RESIDUAL = (BY_SAMPLES.but(saved_bytes=1),)

mse_linear = Family(
    name="mse_linear",
    summary="‖y − Xθ‖²/N: what conditioning costs a descent, and how a factorisation ends it",
    source="numerical optimization notes, gradient descent",
    primals=("theta",),
    constants=("X", "y"),
    operators=("value_and_gradient", "solve"),
    sizes=(
        size("test", n=11, d=3, cond=10, operators=_DERIVATIVE),
        size("test", n=40, d=8, cond=1000, operators=_DERIVATIVE),
        size("bench", "gate", n=1000, d=50, cond=10, operators=_DERIVATIVE),
        size("large", "cuda", n=100_000, d=100, cond=10, operators=_DERIVATIVE),
        size("test", "bench", n=200, d=10, cond=10, operators=("solve",), dtypes=("float64",)),
    ),
    draw=draw,
    baseline={"value_and_gradient": "autograd", "solve": "gradient_descent"},
    reference={"value_and_gradient": reference},
    condition=condition,
    # κ moves every entry of X, which adds up like the roundings of a product; there are two products, and a loop over
    # the samples adds up one by one what a product adds up in blocks.
    depth=lambda size: 1 + np.log2(size["n"]) / 2,
    distance=distance,
    growth=(BY_SAMPLES,),
)

# ---- value and gradient ----

Result = tuple[Tensor, tuple[Tensor]]


@mse_linear.variant(
    source="the notes' sum over the samples, one at a time",
    computes="value_and_gradient",
    limits=(Limit(lambda size: size["n"], 2000, "a Python loop over the samples"),),
    grows=(BY_SAMPLES.but(ops=1),),
)
def loop_over_samples(theta: Tensor, X: Tensor, y: Tensor) -> Result:
    value, gradient = torch.zeros_like(y[0]), torch.zeros_like(theta)
    for row, target in zip(X, y, strict=True):
        error = target - row @ theta
        value += error * error
        gradient -= error * row
    return value / len(y), (2 / len(y) * gradient,)


@mse_linear.variant(source="torch.autograd of the mean of the squares", grows=_KEEPS_RESIDUAL)
def autograd(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    return ((y - X @ theta) ** 2).mean()


@mse_linear.variant(source="torch.nn.functional.mse_loss", grows=_KEEPS_RESIDUAL)
def mse_loss(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(X @ theta, y)


@mse_linear.variant(source="torch.func.grad_and_value", computes="value_and_gradient", grows=_KEEPS_RESIDUAL)
def func_grad(theta: Tensor, X: Tensor, y: Tensor) -> Result:
    gradient, value = torch.func.grad_and_value(autograd)(theta, X, y)
    return value, (gradient,)


@mse_linear.variant(source="−(2/N) Xᵀ r, no graph", computes="value_and_gradient")
def closed_form(theta: Tensor, X: Tensor, y: Tensor) -> Result:
    r = torch.addmv(y, X, theta, alpha=-1)
    # β = 0 ignores what is added to: one operation for the product and its factor.
    return r.dot(r) / len(y), (torch.addmv(theta, X.mT, r, beta=0, alpha=-2 / len(y)),)


def quadratic(X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """H and b of ∇L = H θ − b: (d, d), (d,)."""
    scaled = 2 / len(y) * X.mT
    return scaled @ X, scaled @ y


def _with_gram(function: Callable[..., Any], theta: Tensor, X: Tensor, y: Tensor) -> Callable[..., Any]:
    H, b = quadratic(X, y)
    return partial(function, H=H, b=b, constant=y.dot(y) / len(y))


@mse_linear.variant(
    source="H θ − b with H prepared once: what a descent on fixed data pays for a step, in time and in digits",
    computes="value_and_gradient",
    prepare=_with_gram,
    condition=gram_condition,
    grows=(BY_SAMPLES.but(flops=0),),
)
def gram(theta: Tensor, X: Tensor, y: Tensor, *, H: Tensor, b: Tensor, constant: Tensor) -> Result:
    gradient = torch.addmv(b, H, theta, beta=-1)
    # θ·Hθ/2 − θ·b is half of θ·(∇L − b).
    return torch.add(constant, theta.dot(gradient - b), alpha=0.5), (gradient,)


# ---- descents: steps of θ (1, d) ----


def fixed_step(H: Tensor, b: Tensor) -> Step:
    """θ − 2/(ℓ + μ) ∇L."""
    low, high = _extremes(H)
    return newton_like(lambda theta: -2 / (low + high) * (theta @ H - b))


def line_search(H: Tensor, b: Tensor) -> Step:
    """θ − α ∇L with the α = g·g / g·Hg that minimises L on the line."""

    def direction(theta: Tensor) -> Tensor:
        g = theta @ H - b
        return -(g * g).sum() / (g @ H * g).sum() * g

    return newton_like(direction)


def heavy_ball(H: Tensor, b: Tensor) -> Step:
    """p ← β p − α ∇L and θ + p, with √α = 2/(√ℓ + √μ) and √β = (√ℓ − √μ)/(√ℓ + √μ)."""
    low, high = (extreme.sqrt() for extreme in _extremes(H))
    alpha, beta = (2 / (high + low)) ** 2, ((high - low) / (high + low)) ** 2

    def step(_: int, theta: Tensor, p: Tensor) -> tuple[Tensor, ...]:
        p = beta * p - alpha * (theta @ H - b)
        return p.norm(dim=-1), theta + p, p

    return step


def conjugate_step(H: Tensor) -> Step:
    """θ + α p by the same α, with r = −∇L and p ← r + β p conjugate to every p before it."""

    def step(_: int, theta: Tensor, r: Tensor, p: Tensor) -> tuple[Tensor, ...]:
        Hp, square = p @ H, (r * r).sum()
        alpha = square / (p * Hp).sum()
        change, r = alpha * p, r - alpha * Hp
        return change.norm(dim=-1), theta + change, r, r + (r * r).sum() / square * p

    return step


def harmonic_step(H: Tensor, b: Tensor) -> Step:
    """θ − ∇L / t."""

    def step(t: int, theta: Tensor) -> tuple[Tensor, ...]:
        p = (b - theta @ H) / t
        return p.norm(dim=-1), theta + p

    return step


def diagonal_step(H: Tensor, b: Tensor) -> Step:
    """The fixed step for the unknowns D^½ θ, where D is the diagonal of H: θ − 2/(ℓ′ + μ′) D⁻¹ ∇L."""
    diagonal = H.diagonal()
    scale = diagonal.rsqrt()
    low, high = _extremes(scale.unsqueeze(1) * H * scale)
    return newton_like(lambda theta: -2 / (low + high) * (theta @ H - b) / diagonal)


def sweep(X: Tensor) -> Step:
    """Each θ_j in turn to its minimum, by the residual r (1, N), which is kept up to date in O(N)."""
    columns = X.mT.contiguous()
    squares = (columns * columns).sum(dim=1)

    def step(_: int, theta: Tensor, r: Tensor) -> tuple[Tensor, ...]:
        theta, before = theta.clone(), theta
        for j, column in enumerate(columns):
            change = r @ column / squares[j]
            theta[:, j] += change
            r = r - change * column
        return (theta - before).norm(dim=-1), theta, r

    return step


def _extremes(H: Tensor) -> tuple[Tensor, Tensor]:
    """μ and ℓ, the smallest and the largest eigenvalue."""
    eigenvalues = torch.linalg.eigvalsh(H)
    return eigenvalues[0], eigenvalues[-1]


STEP_TOLERANCE = 1e-8
"""A descent stops when its step is this small relative to θ."""

MAX_STEPS = 2000


def _descend(step: Step, theta: Tensor, *state: Tensor, most: int = MAX_STEPS) -> Descent:
    start = (each.unsqueeze(0) for each in (theta, *state))
    found = descend(step, *start, tolerance=STEP_TOLERANCE, most=most, relative=True)
    return replace(found, x=found.x.squeeze(0))


# ---- solvers ----

SOLVERS = Solvers(mse_linear)


def landscape(X: Tensor, y: Tensor, solution: Tensor) -> endpoints.Landscape:
    """Of points θ (b, d), whose one solution (d,) is known: L is convex, so they arrive, run away or are on the way."""
    return endpoints.Landscape(
        residual=lambda theta: (y - theta @ X.mT).square().mean(dim=-1),
        distance=lambda theta: (theta - solution).norm(dim=-1) / solution.norm(),
        critical=endpoints.nowhere,
        far=1e3 * float(solution.norm()),
    )


def race(
    starts: Tensor, X: Tensor, y: Tensor, solution: Tensor, names: tuple[str, ...] | None = None
) -> list[endpoints.Row]:
    """How the solvers fare from these starts (b, d) on the same samples (N, d), (N,): one row each."""
    return SOLVERS.race(landscape(X, y, solution), names, starts, X, y)


@SOLVERS.iterative(source="gradient descent with the best fixed step", in_turns=True)
def gradient_descent(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(fixed_step(*quadratic(X, y)), theta)


@SOLVERS.iterative(source="steepest descent: exact line search", in_turns=True)
def steepest_descent(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(line_search(*quadratic(X, y)), theta)


@SOLVERS.iterative(source="Polyak's heavy ball with its best step and momentum", in_turns=True)
def momentum(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(heavy_ball(*quadratic(X, y)), theta, torch.zeros_like(theta))


@SOLVERS.iterative(
    # The error along the flattest eigenvector falls as t^(−1/κ): at κ = 10 it would take 10^60 steps.
    source="the notes' step 1/t, which does not arrive",
    success={None: 0.0},
    in_turns=True,
)
def harmonic(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(harmonic_step(*quadratic(X, y)), theta, most=100)


@SOLVERS.iterative(source="coordinate descent with an updated residual", in_turns=True)
def coordinate_descent(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(sweep(X), theta, y - X @ theta)


@SOLVERS.iterative(source="gradient descent preconditioned by the diagonal of H", in_turns=True)
def diagonal_preconditioner(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    return _descend(diagonal_step(*quadratic(X, y)), theta)


@SOLVERS.iterative(source="conjugate gradients, which would need d steps but for rounding", in_turns=True)
def conjugate_gradients(theta: Tensor, X: Tensor, y: Tensor) -> Descent:
    H, b = quadratic(X, y)
    r = b - H @ theta
    return _descend(conjugate_step(H), theta, r, r)


@SOLVERS.direct(
    iterations=1, source="gradient descent preconditioned by Cholesky's H: Newton's one step", in_turns=True
)
def cholesky_preconditioner(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    H, b = quadratic(X, y)
    gradient = (H @ theta - b).unsqueeze(1)
    return theta - torch.cholesky_solve(gradient, cholesky_factor(H)).squeeze(1)


@SOLVERS.direct(source="the normal equations XᵀX θ = Xᵀy by Cholesky", in_turns=True)
def normal_equations(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    factor = cholesky_factor(X.mT @ X)
    return torch.cholesky_solve((X.mT @ y).unsqueeze(1), factor).squeeze(1)


@SOLVERS.direct(
    source="the normal equations by LAPACK's posv on NumPy's arrays, one call for the factor and the solve",
    in_turns=True,
    **IN_SCIPY,
)
def normal_equations_lapack(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    rows = X.numpy()
    return torch.from_numpy(posv(rows.T @ rows, y.numpy() @ rows))


@SOLVERS.direct(source="torch.linalg.lstsq, a QR factorisation of X", in_turns=True)
def lstsq(theta: Tensor, X: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.lstsq(X, y.unsqueeze(1)).solution.squeeze(1)
