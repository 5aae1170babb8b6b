"""circle_reparam: min uᵀ A u with u = (cos θ, sin θ). Teaches that a constraint can be parametrised away.

With A = ((a, b), (b, c)) symmetric, m = (a + c)/2 and d = (a − c)/2,

    g(θ) = uᵀ A u = m + d cos 2θ + b sin 2θ,    g′(θ) = 2 u⊥ᵀ A u = 2 (b cos 2θ − d sin 2θ),    u⊥ = (−sin θ, cos θ),

so g is a cosine in 2θ of amplitude R = √(d² + b²) around m: its minimum m − R and its maximum m + R are the eigenvalues
of A. The minimum lies at 2θ = atan2(b, d) + π, where u is the eigenvector of the smaller one, up to its sign.

Inputs are n angles θ, shape (n,), with n matrices A (n, 2, 2); the value is the sum over the angles. Solvers start
from `theta`; they tie when they find the minimiser as often as `success` declares.

Sources: the numerical optimization notes of Z. Xu, constrained optimization, for the parametrisation; C. G. J. Jacobi,
J. reine angew. Math. 30 (1846), for the angle that diagonalises a symmetric 2 × 2 matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Numbers, Size, size
from gradrace.families import endpoints
from gradrace.families.descent import Descent, descend, newton_like
from gradrace.families.endpoints import Solvers
from gradrace.families.lapack import IN_NUMPY
from gradrace.families.numerics import measured

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """A of known eigenvalues and minimiser; angles at 0.15 or more from every extremum, where g′ would be zero."""
    b = size["b"]
    solution = rng.uniform(-math.pi, math.pi, b)
    low = rng.uniform(-1.5, 0.5, b)
    high = low + rng.uniform(1, 2, b)
    u = np.stack([np.cos(solution), np.sin(solution)], axis=1)
    outer = u[:, :, None] * u[:, None, :]
    A = low[:, None, None] * outer + high[:, None, None] * (np.eye(2) - outer)
    away = rng.uniform(0.15, math.pi / 2 - 0.15, b) * rng.choice([-1, 1], b)
    return {"theta": solution + away, "A": A, "solution": solution}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """uᵀ A u and 2 u⊥ᵀ A u in extended precision: (value, theta (b,))."""
    theta, A = (numbers[name].astype(np.longdouble) for name in ("theta", "A"))
    u, across = np.stack([np.cos(theta), np.sin(theta)]), np.stack([-np.sin(theta), np.cos(theta)])
    value, half_slope = (np.einsum("ib,bij,jb->b", left, A, u) for left in (u, across))
    return {"value": value.sum(), "theta": 2 * half_slope}


def distance(numbers: Numbers, found: np.ndarray) -> np.ndarray:
    """|sin(θ − θ*)| of each instance: the sign of u cannot be known."""
    return np.abs(np.sin(found - numbers["solution"]))


BY_ANGLES = Growth(
    "b",
    (1000, 2000, 4000),
    "value_and_gradient",
    {"ops": 0, "graph_nodes": 0, "saved_bytes": 0},
)
"""Operations on whole columns; a graph keeps some of them."""

_KEEPS_COLUMNS = (BY_ANGLES.but(saved_bytes=1),)

circle_reparam = Family(
    name="circle_reparam",
    summary="min uᵀ A u on the unit circle by an angle: a constraint parametrised away",
    source="numerical optimization notes, constrained optimization",
    primals=("theta",),
    constants=("A",),
    operators=("value_and_gradient", "solve"),
    sizes=(
        size("test", b=1, operators=("value_and_gradient",)),
        size("test", b=9, operators=("value_and_gradient",)),
        size("bench", "gate", "cuda", b=10_000, operators=("value_and_gradient",)),
        size("test", "bench", b=100, operators=("solve",), dtypes=("float64",)),
    ),
    draw=draw,
    baseline={"value_and_gradient": "autograd", "solve": "eigh"},
    reference={"value_and_gradient": reference},
    condition=measured("theta", "A"),
    # κ stands for the rounding of θ and A; the cosine, the sine and their products with A round as well. The sum over
    # the angles is pairwise.
    depth=lambda size: 1 + math.log2(size["b"]) / 8,
    objective=lambda value, *_: value.sum(),
    distance=distance,
    growth=(BY_ANGLES,),
)

# ---- value and gradient ----

Result = tuple[Tensor, tuple[Tensor]]


def _entries(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """m, d and b of each matrix: (b,) each."""
    a, b, _, c = A.flatten(1).unbind(1)
    return (a + c) / 2, (a - c) / 2, b


@circle_reparam.variant(source="torch.autograd of f((cos θ, sin θ)), as the notes write it", grows=_KEEPS_COLUMNS)
def autograd(theta: Tensor, A: Tensor) -> Tensor:
    u = torch.stack((theta.cos(), theta.sin()), dim=-1)
    return torch.einsum("...i,...ij,...j->...", u, A, u)


@circle_reparam.variant(source="a cos² θ + 2b cos θ sin θ + c sin² θ, entry by entry", grows=_KEEPS_COLUMNS)
def expanded(theta: Tensor, A: Tensor) -> Tensor:
    cos, sin = theta.cos(), theta.sin()
    return A[:, 0, 0] * cos**2 + 2 * A[:, 0, 1] * cos * sin + A[:, 1, 1] * sin**2


@circle_reparam.variant(source="m + d cos 2θ + b sin 2θ", grows=_KEEPS_COLUMNS)
def double_angle(theta: Tensor, A: Tensor) -> Tensor:
    m, d, b = _entries(A)
    twice = 2 * theta
    return m + d * twice.cos() + b * twice.sin()


@circle_reparam.variant(
    source="torch.func.vmap of grad_and_value over the angles", computes="value_and_gradient", grows=_KEEPS_COLUMNS
)
def func_vmap_grad(theta: Tensor, A: Tensor) -> Result:
    gradient, value = torch.func.vmap(torch.func.grad_and_value(autograd))(theta, A)
    return value.sum(), (gradient,)


@circle_reparam.variant(source="u · A u and 2 u⊥ · A u, no graph", computes="value_and_gradient")
def tangent_product(theta: Tensor, A: Tensor) -> Result:
    cos, sin = theta.cos(), theta.sin()
    Au = (A @ torch.stack((cos, sin), dim=1).unsqueeze(2)).squeeze(2)
    return (cos * Au[:, 0] + sin * Au[:, 1]).sum(), (2 * (cos * Au[:, 1] - sin * Au[:, 0]),)


@circle_reparam.variant(source="2 (b cos 2θ − d sin 2θ), no graph, in place", computes="value_and_gradient")
def closed_form(theta: Tensor, A: Tensor) -> Result:
    m, d, b = _entries(A)
    twice = 2 * theta
    cos, sin = twice.cos(), twice.sin_()
    gradient = (b * cos).addcmul_(d, sin, value=-1).mul_(2)
    return m.addcmul_(d, cos).addcmul_(b, sin).sum(), (gradient,)


# ---- solvers ----

STEP_TOLERANCE = 1e-9
"""A solver stops when its step is this small."""

MAX_STEPS = 1000

SOLVERS = Solvers(circle_reparam)


def _half_slope(theta: Tensor, d: Tensor, b: Tensor) -> Tensor:
    """½ g′(θ)."""
    return b * (2 * theta).cos() - d * (2 * theta).sin()


def _quarter_curvature(theta: Tensor, d: Tensor, b: Tensor) -> Tensor:
    """¼ g″(θ)."""
    return -d * (2 * theta).cos() - b * (2 * theta).sin()


def landscape(A: Tensor, solution: Tensor) -> endpoints.Landscape:
    """Of angles θ (b,), each of the matrix (2, 2) at its place, whose minimiser (b,) is known up to half a turn.

    The other critical points are the maxima. No angle is far away.
    """
    _, d, b = _entries(A)

    def distance(theta: Tensor) -> Tensor:
        return (theta - solution).sin().abs()

    return endpoints.Landscape(
        residual=lambda theta: double_angle(theta, A),
        distance=distance,
        critical=endpoints.by_newton_step(
            lambda theta: 2 * _half_slope(theta, d, b)[:, None],
            lambda theta: 4 * _quarter_curvature(theta, d, b)[:, None, None],
            distance,
        ),
        far=math.inf,
    )


def race(starts: Tensor, A: Tensor, solution: Tensor, names: tuple[str, ...] | None = None) -> list[endpoints.Row]:
    """How the solvers fare from these angles (b,), one of each matrix (b, 2, 2): one row each."""
    return SOLVERS.race(landscape(A, solution), names, starts, A)


def _descent_direction(theta: Tensor, d: Tensor, b: Tensor, norm: Tensor) -> Tensor:
    return -_half_slope(theta, d, b) / (math.sqrt(2) * norm)


def _newton_direction(theta: Tensor, d: Tensor, b: Tensor) -> Tensor:
    return -_half_slope(theta, d, b) / (2 * _quarter_curvature(theta, d, b))


def _downhill_newton_direction(theta: Tensor, d: Tensor, b: Tensor) -> Tensor:
    return -_half_slope(theta, d, b) / (2 * _quarter_curvature(theta, d, b).abs())


def _projected_direction(u: Tensor, A: Tensor, norm: Tensor) -> Tensor:
    moved = u - (A @ u.unsqueeze(2)).squeeze(2) / norm
    return moved / moved.norm(dim=1, keepdim=True) - u


def _column(*rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(row.unsqueeze(1) for row in rows)


def _frobenius_norm(A: Tensor) -> Tensor:
    return A.flatten(1).norm(dim=1)


def _iterate(direction: Any, *start: Tensor) -> Descent:
    return descend(newton_like(direction), *start, tolerance=STEP_TOLERANCE, most=MAX_STEPS)


def _iterate_angle(direction: Any, *start: Tensor) -> Descent:
    found = _iterate(direction, *_column(*start))
    return replace(found, x=found.x.squeeze(1))


@SOLVERS.iterative(source="gradient descent on θ by 1/ℓ, since |g″| ≤ 4R ≤ 2√2 ‖A‖ = ℓ")
def gradient_descent(theta: Tensor, A: Tensor) -> Descent:
    _, d, b = _entries(A)
    return _iterate_angle(_descent_direction, theta, d, b, _frobenius_norm(A))


@SOLVERS.iterative(source="Newton on g′ = 0, which finds maxima as often as minima", success={None: 0.5})
def newton(theta: Tensor, A: Tensor) -> Descent:
    _, d, b = _entries(A)
    return _iterate_angle(_newton_direction, theta, d, b)


@SOLVERS.iterative(source="Newton with |g″|, which leaves maxima")
def newton_downhill(theta: Tensor, A: Tensor) -> Descent:
    _, d, b = _entries(A)
    return _iterate_angle(_downhill_newton_direction, theta, d, b)


@SOLVERS.iterative(source="u − ½∇f/‖A‖ back onto the circle: the power method on I − A/‖A‖")
def projected_gradient(theta: Tensor, A: Tensor) -> Descent:
    u = torch.stack((theta.cos(), theta.sin()), dim=1)
    found = _iterate(_projected_direction, u, A, *_column(_frobenius_norm(A)))
    return replace(found, x=torch.atan2(found.x[:, 1], found.x[:, 0]))


@SOLVERS.direct(source="torch.linalg.eigh, the eigenvector of the smaller eigenvalue")
def eigh(theta: Tensor, A: Tensor) -> Tensor:
    u = torch.linalg.eigh(A)[1][:, :, 0]
    return torch.atan2(u[:, 1], u[:, 0])


@SOLVERS.direct(source="Jacobi's angle, ½ (atan2(b, d) + π)")
def jacobi_angle(theta: Tensor, A: Tensor) -> Tensor:
    a, b, _, c = A.flatten(1).unbind(1)
    return torch.atan2(2 * b, a - c).add_(math.pi).mul_(0.5)


@SOLVERS.direct(source="Jacobi's angle in NumPy", **IN_NUMPY)
def jacobi_angle_in_numpy(theta: Tensor, A: Tensor) -> Tensor:
    entries = A.numpy()
    angle = np.arctan2(2 * entries[:, 0, 1], entries[:, 0, 0] - entries[:, 1, 1])
    angle += math.pi
    angle *= 0.5
    return torch.from_numpy(angle)
