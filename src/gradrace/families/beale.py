"""beale: f(x, y) = Σ_i (c_i − x (1 − yⁱ))², i = 1, 2, 3. Teaches that a solver's fate is its coordinates and stop rule.

With c = (3/2, 9/4, 21/8), s_i = 1 − yⁱ and r_i = c_i − x s_i:

    ∇f = 2 Jᵀr,    J_i = (−s_i, i x yⁱ⁻¹),    ∇²f = 2 JᵀJ + 2 Σ r_i [[0, i yⁱ⁻¹], [i yⁱ⁻¹, i (i − 1) x yⁱ⁻²]].

f is 0 at (3, 1/2) alone. It has two saddles, (0, 1) and one near (0.1005, −2.6445), and an infimum of 0.452 at
infinity, where y → 1 and x (1 − y) → 13.875/14: descent may run away for ever.

Variable projection: for a given y the best x is x* = c·s / s·s. With s = (1 − y) q, q = (1, 1 + y, 1 + y + y²) this
leaves one unknown and the residual r = c − q (c·q / q·q), in which y = 1 is a point like any other: infinity is gone.
‖r‖² rises where (2y − 1)(3y³ + 11y² + 10y + 5) > 0: it has one minimum, at 1/2, and one maximum, at the second saddle's
y. It depends on q's direction alone, so with y = tan θ it lives on a circle, all of which descends to the minimum.

Primal p (b, 2), rows (x, y); the value is the sum over the points. Solvers start from the rows.

Sources: ECE 046211 homework 1, tasks 1 and 2; G. H. Golub and V. Pereyra, SIAM J. Numer. Anal. 10 (1973).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Reference, Size, size
from gradrace.families import descent, endpoints
from gradrace.families.adam import RATES, textbook_step
from gradrace.families.descent import Descent, descend, newton_like, of_results
from gradrace.families.endpoints import Solvers
from gradrace.families.lapack import IN_NUMPY, IN_SCIPY
from gradrace.families.numerics import measured

C = (1.5, 2.25, 2.625)
SOLUTION = (3.0, 0.5)
HOMEWORK_START = (0.7, 1.4)

MONOMIALS = (
    *((1.0, 2, 6), (1.0, 2, 4), (-2.0, 2, 3), (-1.0, 2, 2), (-2.0, 2, 1), (3.0, 2, 0)),
    *((5.25, 1, 3), (4.5, 1, 2), (3.0, 1, 1), (-12.75, 1, 0), (14.203125, 0, 0)),
)
"""(coefficient, power of x, power of y): f multiplied out."""

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """For derivatives, points of two patches where f and ∇f are as large as their terms; for solvers, starts.

    Starts are the homework's own, or uniform in its box [−3, 3]².
    """
    b, start = size["b"], size.get("start")
    if start == "homework":
        return {"p": np.tile(HOMEWORK_START, (b, 1))}
    if start == "box":
        return {"p": rng.uniform(-3, 3, (b, 2))}
    side = rng.choice([-1.0, 1.0], b)
    y = np.where(side > 0, rng.uniform(1.2, 3, b), rng.uniform(-2, 0.5, b))
    return {"p": np.stack((side * rng.uniform(0.5, 3, b), y), axis=1)}


def _wide(numbers: Numbers) -> tuple[np.ndarray, ...]:
    """x, i, yⁱ⁻¹, s and r in extended precision: rows of three for i, columns for the points."""
    x, y = numbers["p"].astype(np.longdouble).T
    i = np.array([[1], [2], [3]])
    powers = y ** (i - 1)
    s = 1 - powers * y
    return x, i, powers, s, np.array(C)[:, None] - x * s


def reference_gradient(numbers: Numbers) -> Mapping[str, Any]:
    x, i, powers, s, r = _wide(numbers)
    return {"value": (r * r).sum(), "p": 2 * np.stack((-r * s, r * i * x * powers)).sum(axis=1).T}


def reference_hessian(numbers: Numbers) -> Mapping[str, Any]:
    x, i, powers, s, r = _wide(numbers)
    by_y = i * x * powers
    # i (i − 1) yⁱ⁻² is 0, 2, 6 y.
    bend = x * i * (i - 1) * np.vstack((powers[:1], powers[:2]))
    xx, xy, yy = ((s * s).sum(0), (r * i * powers - s * by_y).sum(0), (by_y**2 + r * bend).sum(0))
    return {"p": 2 * np.array([[xx, xy], [xy, yy]]).transpose(2, 0, 1)}


def distance(numbers: Numbers, found: np.ndarray) -> np.ndarray:
    """‖p − p*‖ / ‖p*‖ of each row."""
    return np.linalg.norm(found - SOLUTION, axis=1) / np.linalg.norm(SOLUTION)


_DERIVATIVES = ("value_and_gradient", "hessian")
_SOLVE: Mapping[str, Any] = {"operators": ("solve",), "dtypes": ("float64",)}

BY_POINTS = Growth("b", (250, 500, 1000), "value_and_gradient", {"ops": 0, "graph_nodes": 0, "saved_bytes": 0})
"""Operations on whole columns, or NumPy and Python, of which torch sees nothing."""

_KEEPS_COLUMNS = (BY_POINTS.but(saved_bytes=1),)
_ONE_BY_ONE = Limit(lambda size: size["b"], 1000, "a Python loop over the points")


def literal_powers(p: Tensor) -> Tensor:
    """f as printed, of each point: (b, 2) -> (b,)."""
    x, y = p.unbind(-1)
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


beale = Family(
    name="beale",
    summary="Beale's function: sums of squares, batches of tiny Hessians, and where solvers end",
    source="ECE 046211 homework 1, tasks 1 and 2",
    primals=("p",),
    operators=(*_DERIVATIVES, "solve"),
    sizes=(
        size("test", b=1, operators=_DERIVATIVES[:1]),
        size("test", b=9, operators=_DERIVATIVES),
        size("bench", "gate", b=1000, operators=_DERIVATIVES),
        size("large", "cuda", b=100_000, operators=_DERIVATIVES[:1]),
        size("test", "bench", b=1, start="homework", **_SOLVE),
        size("test", b=40, start="box", **_SOLVE),
        size("large", "cuda", b=1024, start="box", **_SOLVE),
    ),
    draw=draw,
    baseline={
        "value_and_gradient": "literal_powers",
        "hessian": "hessian_func",
        "solve": "scipy_least_squares",
    },
    reference={"value_and_gradient": reference_gradient, "hessian": reference_hessian},
    condition=measured("p"),
    # κ moves x and y once, where the powers, the residuals, the products and the sum of three round.
    depth=4.0,
    objective=lambda value, *_: value.sum(),
    function=literal_powers,
    distance=distance,
    growth=(BY_POINTS,),
)

Result = tuple[Tensor, tuple[Tensor]]

# ---- value and gradient ----


beale.variant(source="torch.autograd of f as printed", grows=_KEEPS_COLUMNS)(literal_powers)


def residuals(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r_i by x s_1 = x − x y and x s_(i+1) = x s_1 + y x s_i: no power is taken."""
    first = x - x * y
    second = torch.addcmul(first, y, first)
    third = torch.addcmul(first, y, second)
    return 1.5 - first, 2.25 - second, 2.625 - third


@beale.variant(source="autograd of the residuals by Horner's rule", grows=_KEEPS_COLUMNS)
def shared_powers(p: Tensor) -> Tensor:
    r1, r2, r3 = residuals(*p.unbind(-1))
    return r1 * r1 + r2 * r2 + r3 * r3


def _condition_of_terms(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, Any]:
    """Σ |terms| / |f| and, of each point, max_j Σ |terms of ∂_j f| / max_j |∂_j f|: what their rounding amounts to."""
    x, y = np.abs(numbers["p"]).T
    exact = reference(numbers)
    value = sum(abs(a) * x**i * y**j for a, i, j in MONOMIALS)
    by_x = sum(abs(a) * i * x ** max(i - 1, 0) * y**j for a, i, j in MONOMIALS)
    by_y = sum(abs(a) * j * x**i * y ** max(j - 1, 0) for a, i, j in MONOMIALS)
    largest = np.abs(exact["p"]).max(axis=1)
    return {"value": value.sum() / exact["value"], "p": np.maximum(by_x, by_y) / largest}


@beale.variant(
    source="autograd of f multiplied out, whose terms cancel near the solution",
    condition=_condition_of_terms,
    grows=_KEEPS_COLUMNS,
)
def expanded_polynomial(p: Tensor) -> Tensor:
    x, y = p.unbind(-1)
    total = torch.zeros_like(x)
    for a, i, j in MONOMIALS:
        total = total + a * x**i * y**j
    return total


@beale.variant(
    source="torch.func.vmap of grad_and_value, shared powers", computes="value_and_gradient", grows=_KEEPS_COLUMNS
)
def func_vmap_grad(p: Tensor) -> Result:
    gradient, value = torch.func.vmap(torch.func.grad_and_value(shared_powers))(p)
    return value.sum(), (gradient,)


def linearise(p: Tensor) -> tuple[Tensor, Tensor]:
    """r (b, 3) and J (b, 3, 2)."""
    x, y = p.unbind(-1)
    square = y * y
    by_x = torch.stack((y - 1, square - 1, square * y - 1), dim=-1)
    by_y = torch.stack((x, 2 * x * y, 3 * x * square), dim=-1)
    return torch.stack(residuals(x, y), dim=-1), torch.stack((by_x, by_y), dim=-1)


def pulled_back(r: Tensor, J: Tensor) -> Tensor:
    """Jᵀr of each instance: (b, m), (b, m, n) -> (b, n)."""
    return (r.unsqueeze(-2) @ J).squeeze(-2)


def gradient_of_squares(p: Tensor) -> Tensor:
    """2 Jᵀr of each point: (b, 2)."""
    return 2 * pulled_back(*linearise(p))


@beale.variant(source="2 Jᵀr by a batch of products, no graph", computes="value_and_gradient")
def jacobian_products(p: Tensor) -> Result:
    r, J = linearise(p)
    return (r * r).sum(), (2 * pulled_back(r, J),)


@beale.variant(source="2 Jᵀr by columns and Horner's rule, no graph", computes="value_and_gradient")
def closed_form(p: Tensor) -> Result:
    x, y = p.unbind(-1)
    r1, r2, r3 = residuals(x, y)
    r23, gradient = r2 + r3, torch.empty_like(p)
    # s_i = (1 − y)(1 + … + yⁱ⁻¹), so Σ r_i s_i = (1 − y)(r1 + r2 + r3 + y (r2 + r3 + y r3)).
    torch.mul(2 * (y - 1), torch.addcmul(r1 + r23, y, torch.addcmul(r23, y, r3)), out=gradient[:, 0])
    torch.mul(2 * x, torch.addcmul(r1, y, torch.add(2 * r2, y * r3, alpha=3)), out=gradient[:, 1])
    return r1 @ r1 + r2 @ r2 + r3 @ r3, (gradient,)


@beale.variant(
    source="the closed form in NumPy, the homework's library",
    computes="value_and_gradient",
    **IN_NUMPY,
)
def numpy_columns(p: Tensor) -> Result:
    x, y = np.ascontiguousarray(p.numpy().T)
    first = x - x * y
    second = y * first
    second += first
    third = y * second
    third += first
    r1, r2, r3 = 1.5 - first, 2.25 - second, 2.625 - third
    value = r1 @ r1 + r2 @ r2 + r3 @ r3
    r23, yr3, gradient = r2 + r3, y * r3, np.empty((len(x), 2), x.dtype)
    sums = yr3 + r23
    sums *= y
    sums += r1
    sums += r23
    rest = y - 1
    rest *= 2
    np.multiply(rest, sums, out=gradient[:, 0])
    yr3 *= 3
    yr3 += r2
    yr3 += r2
    yr3 *= y
    yr3 += r1
    yr3 *= x
    np.multiply(yr3, 2, out=gradient[:, 1])
    return torch.tensor(value), (torch.from_numpy(gradient),)


def at_point(x: float, y: float) -> tuple[float, tuple[float, float]]:
    """f and ∇f at one point, without a framework."""
    square = y * y
    cube = square * y
    r1, r2, r3 = 1.5 - x + x * y, 2.25 - x + x * square, 2.625 - x + x * cube
    by_x = 2 * (r1 * (y - 1) + r2 * (square - 1) + r3 * (cube - 1))
    return r1 * r1 + r2 * r2 + r3 * r3, (by_x, 2 * x * (r1 + 2 * y * r2 + 3 * square * r3))


@beale.variant(
    source="the homework's beale_f and beale_grads on Python floats, point by point",
    computes="value_and_gradient",
    unsupported={"cuda": "computes on Python floats"},
    limits=(_ONE_BY_ONE,),
)
def python_floats(p: Tensor) -> Result:
    values, gradients = zip(*(at_point(x, y) for x, y in p.tolist()), strict=True)
    return p.new_tensor(math.fsum(values)), (p.new_tensor(gradients),)


# ---- Hessians ----

_hessian: Mapping[str, Any] = {"computes": "hessian"}


@beale.variant(source="torch.func.hessian under vmap, forward over reverse", **_hessian)
def hessian_func(p: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.hessian(shared_powers))(p)


@beale.variant(source="torch.func.jacfwd of 2 Jᵀr under vmap", **_hessian)
def hessian_jacfwd_of_gradient(p: Tensor) -> Tensor:
    return torch.func.vmap(torch.func.jacfwd(gradient_of_squares))(p)


@beale.variant(source="two pullbacks of Σ ∇f: the points do not mix, so each gives a row of all b Hessians", **_hessian)
def hessian_two_pullbacks(p: Tensor) -> Tensor:
    leaf = p.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(shared_powers(leaf).sum(), leaf, create_graph=True)
    rows = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in gradient.unbind(-1)]
    return torch.stack(rows, dim=-2)


@beale.variant(source="2 JᵀJ by a batch of products, and the curvature of the residuals", **_hessian)
def hessian_jacobian_products(p: Tensor) -> Tensor:
    x, y = p.unbind(-1)
    r, J = linearise(p)
    r1, r2, r3 = r.unbind(-1)
    hessian = J.mT @ J
    hessian[..., 0, 1] += r1 + 2 * y * r2 + 3 * y * y * r3
    hessian[..., 1, 0] = hessian[..., 0, 1]
    hessian[..., 1, 1] += x * (2 * r2 + 6 * y * r3)
    return 2 * hessian


@beale.variant(source="the three entries by columns and Horner's rule", **_hessian)
def hessian_closed_form(p: Tensor) -> Tensor:
    x, y = p.unbind(-1)
    r1, r2, r3 = residuals(x, y)
    square, sum2 = y * y, 1 + y
    sum3 = sum2 + square
    xx = (1 - y) ** 2 * (1 + sum2 * sum2 + sum3 * sum3)
    # r_i − x s_i = 2 r_i − c_i
    xy = 2 * r1 - 1.5 + y * (4 * r2 - 4.5 + y * (6 * r3 - 7.875))
    yy = x * (x * (1 + square * (4 + 9 * square)) + 2 * r2 + 6 * y * r3)
    return 2 * torch.stack((xx, xy, xy, yy), dim=-1).unflatten(-1, (2, 2))


@beale.variant(
    source="the same in NumPy, whose operations on short columns cost less",
    **IN_NUMPY,
    **_hessian,
)
def hessian_numpy_columns(p: Tensor) -> Tensor:
    x, y = np.ascontiguousarray(p.numpy().T)
    hessian = np.empty((len(x), 2, 2), x.dtype)
    first = x - x * y  # x s_1, x s_2, x s_3
    second = first + y * first
    third = first + y * second
    square, sum2, rest = y * y, 1 + y, 1 - y
    sum3 = sum2 + square
    np.multiply(2 * rest * rest, 1 + sum2 * sum2 + sum3 * sum3, out=hessian[:, 0, 0])
    hessian[:, 0, 1] = hessian[:, 1, 0] = 3 - 4 * first + y * (9 - 8 * second + y * (15.75 - 12 * third))
    bend = x * (1 + square * (4 + 9 * square)) + 4.5 - 2 * second + 6 * y * (2.625 - third)
    np.multiply(2 * x, bend, out=hessian[:, 1, 1])
    return torch.from_numpy(hessian)


# ---- solvers ----

STEP_TOLERANCE = 1e-10
"""A solver stops when its step is this small; Adam when it is 1e-7, as the homework has it."""

MAX_ITERATIONS = 200

SOLVERS = Solvers(beale)


def distances(p: Tensor) -> Tensor:
    """‖p − p*‖ / ‖p*‖ of each point."""
    return (p - p.new_tensor(SOLUTION)).norm(dim=-1) / math.hypot(*SOLUTION)


LANDSCAPE = endpoints.Landscape(
    residual=shared_powers,
    distance=distances,
    critical=endpoints.by_newton_step(gradient_of_squares, hessian_closed_form, distances),
    far=100.0,
)


def race(starts: Tensor, names: tuple[str, ...] | None = None) -> list[endpoints.Row]:
    """How the solvers fare from these starts (b, 2): one row each."""
    return SOLVERS.race(LANDSCAPE, names, starts)


@SOLVERS.iterative(source="Newton, undamped; it is drawn to the saddle (0, 1)", success={"homework": 0.0, "box": 0.11})
def newton(p: Tensor) -> Descent:
    step = newton_like(lambda p: -torch.linalg.solve_ex(hessian_closed_form(p), gradient_of_squares(p))[0])
    return descend(step, p, tolerance=STEP_TOLERANCE, most=MAX_ITERATIONS)


@SOLVERS.iterative(
    source="Gauss–Newton, undamped: a chaotic walk for a hundred steps, which finds the solution all the same",
    success={"homework": 1.0, "box": 0.999},
)
def gauss_newton(p: Tensor) -> Descent:
    def direction(p: Tensor) -> Tensor:
        r, J = linearise(p)
        return -torch.linalg.solve_ex(J.mT @ J, pulled_back(r, J))[0]

    return descend(newton_like(direction), p, tolerance=STEP_TOLERANCE, most=1000)


@SOLVERS.iterative(source="Levenberg–Marquardt with Nielsen's damping", success={"homework": 1.0, "box": 0.72})
def levenberg_marquardt(p: Tensor, damped: float = 1.0) -> Descent:
    return descent.levenberg_marquardt(linearise, p, tolerance=STEP_TOLERANCE, most=MAX_ITERATIONS, damped=damped)


@SOLVERS.iterative(
    source="the homework's Adam, 1000 steps or until one is shorter than 1e-7",
    success={"homework": 0.0, "box": 0.19},
)
def adam(p: Tensor, lr: float = RATES["lr"], tolerance: float = 1e-7, most: int = 1000) -> Descent:
    rates = {**RATES, "lr": lr}

    def step(k: int, p: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        moved, m, v = textbook_step(p, gradient_of_squares(p), m, v, k, **rates)
        return (moved - p).norm(dim=-1), moved, m, v

    return descend(step, p, torch.zeros_like(p), torch.zeros_like(p), tolerance=tolerance, most=most)


_SCIPY: Mapping[str, Any] = {**IN_SCIPY, "limits": (_ONE_BY_ONE,)}


@SOLVERS.iterative(
    source="scipy.optimize.least_squares(method='lm'), MINPACK, with the analytic Jacobian",
    success={"homework": 0.0, "box": 0.585},
    **_SCIPY,
)
def scipy_least_squares(p: Tensor) -> Descent:
    from scipy.optimize import least_squares

    def terms(p: np.ndarray) -> list[float]:
        x, y = p.tolist()
        return [1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3]

    def jacobian(p: np.ndarray) -> list[list[float]]:
        x, y = p.tolist()
        return [[y - 1, x], [y**2 - 1, 2 * x * y], [y**3 - 1, 3 * x * y**2]]

    stop = dict.fromkeys(("xtol", "ftol", "gtol"), STEP_TOLERANCE)
    return of_results([least_squares(terms, start, jacobian, method="lm", **stop) for start in p.numpy()])


@SOLVERS.iterative(
    source="scipy.optimize.minimize(method='BFGS') with the analytic gradient",
    success={"homework": 1.0, "box": 0.71},
    **_SCIPY,
)
def scipy_bfgs(p: Tensor) -> Descent:
    from scipy.optimize import minimize

    options = {"gtol": 1e-8, "maxiter": MAX_ITERATIONS}
    return of_results(
        [minimize(lambda p: at_point(*p.tolist()), start, jac=True, options=options) for start in p.numpy()]
    )


# ---- variable projection, on floats or tensors: N = c·q, D = q·q ----


def N(y: Any) -> Any:
    """c·q; it has no real root."""
    return 6.375 + y * (4.875 + 2.625 * y)


def D(y: Any) -> Any:
    """q·q."""
    return 3 + y * (4 + y * (4 + y * (2 + y)))


def best_x(y: Any) -> Any:
    """x* = N / (D (1 − y))."""
    return N(y) / (D(y) * (1 - y))


def projected_step(y: Any) -> Any:
    """The Gauss–Newton step N F D / (N² G + F²) of r = c − q N/D, with F = N′D − N D′/2 and G = ‖q × q′‖²."""
    F = 0.375 * (1 - 2 * y) * (5 + y * (10 + y * (11 + 3 * y)))
    G = 2 + y * (4 + y * (8 + y * (4 + y)))
    n = N(y)
    return n * F * D(y) / (n * n * G + F * F)


@SOLVERS.iterative(
    source="variable projection in y; in the box it finds the solution from every y above the second saddle's",
    success={"homework": 1.0, "box": 0.9407},
)
def variable_projection(p: Tensor) -> Descent:
    found = descend(newton_like(projected_step), p[:, 1:], tolerance=STEP_TOLERANCE, most=MAX_ITERATIONS)
    return replace(found, x=torch.cat((best_x(found.x), found.x), dim=-1))


@SOLVERS.iterative(source="variable projection in θ, y = tan θ; it finds the solution from everywhere but the maximum")
def projection_on_circle(p: Tensor) -> Descent:
    # dθ/dy = cos² θ
    step = newton_like(lambda angle: projected_step(angle.tan()) * angle.cos() ** 2)
    found = descend(step, p[:, 1:].atan(), tolerance=STEP_TOLERANCE, most=MAX_ITERATIONS)
    y = found.x.tan()
    return replace(found, x=torch.cat((best_x(y), y), dim=-1))


@SOLVERS.iterative(
    source="the same on Python floats, one start at a time",
    unsupported={"cuda": "computes on Python floats"},
    limits=(_ONE_BY_ONE,),
)
def projection_on_floats(p: Tensor) -> Descent:
    def solve(y: float) -> tuple[tuple[float, float], int]:
        angle, step, k = math.atan(y), math.inf, 0
        while abs(step) > STEP_TOLERANCE and k < MAX_ITERATIONS:
            cosine = math.cos(angle)
            step = projected_step(math.sin(angle) / cosine) * cosine * cosine
            angle, k = angle + step, k + 1
        y = math.tan(angle)
        return (best_x(y), y), k

    # By way of NumPy, which makes an array of a few numbers in half the time that torch takes.
    ends, counts = map(np.array, zip(*(solve(y) for _, y in p.tolist()), strict=True))
    return Descent(torch.from_numpy(ends).to(p), torch.from_numpy(counts), torch.from_numpy(counts < MAX_ITERATIONS))
