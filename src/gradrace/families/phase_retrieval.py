"""phase_retrieval: f(x) = ¼ Σ ((a_i·x)² − y_i)². Teaches what structure buys: closed forms, Gauss–Newton, batches.

With z = A x and r = z² − y:

    ∇f = Aᵀ(r z),    ∇²f = Aᵀ diag(3z² − y) A,    ∇²f v = Aᵀ((3z² − y) A v),    J = 2 diag(z) A,
    Gauss–Newton:  H_GN = ½ JᵀJ = 2 Aᵀ diag(z²) A,  which is ∇²f at a solution, where r = 0.

All arrays may carry a leading batch axis of independent instances: x (b, n), A (b, m, n), y (b, m); the value is
then the sum over the instances. The solution is unique up to its sign. Solvers start from `x`; they tie when they
find the known solution equally often, and `success` declares how often that is for each kind of start.

Sources: CSCI 5980 homework 2, problem 1; B. Gao and Z. Xu, IEEE Trans. Signal Process. 65 (2017) for Gauss–Newton
from a spectral start; H. B. Nielsen, IMM-REP-1999-05 (1999) for the damping of Levenberg–Marquardt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gradrace.declare import Family, Growth, Limit, Numbers, Size, size
from gradrace.families import endpoints
from gradrace.families.descent import Descent, descend, newton_like, of_results
from gradrace.families.endpoints import Solvers
from gradrace.families.lapack import IN_NUMPY, IN_SCIPY, cholesky_factor, posv
from gradrace.families.numerics import measured

# ---- inputs and reference ----


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """Gaussian A and x*, y = (A x*)², and a point x: random, spectral, or near x*."""
    n, m, b = size["n"], size["m"], size.get("b")
    lead = (b,) if b else ()
    solution, A = rng.standard_normal((*lead, n)), rng.standard_normal((*lead, m, n))
    y = (A @ solution[..., None])[..., 0] ** 2
    direction = rng.standard_normal((*lead, n))
    start = size.get("start", "random")
    if start == "near":
        x = solution + 0.1 * direction
    else:
        if start == "spectral":
            direction = spectral_direction(A, y)
        length = np.sqrt(y.mean(axis=-1, keepdims=True))
        x = direction / np.linalg.norm(direction, axis=-1, keepdims=True) * length
    return {"x": x, "A": A, "y": y, "solution": solution}


def spectral_direction(A: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The top eigenvector of (1/m) Σ y_i a_i a_iᵀ, whose mean is ‖x*‖² I + 2 x* x*ᵀ. Shape (..., n)."""
    weighted = np.swapaxes(A, -1, -2) @ (y[..., None] * A) / y.shape[-1]
    return np.linalg.eigh(weighted)[1][..., -1]


def wide_states(numbers: Numbers) -> tuple[np.ndarray, ...]:
    """A, z and r in extended precision."""
    A, x, y = (numbers[name].astype(np.longdouble) for name in ("A", "x", "y"))
    z = np.einsum("...mn,...n->...m", A, x)
    return A, z, z * z - y


def reference_gradient(numbers: Numbers) -> Mapping[str, Any]:
    A, z, r = wide_states(numbers)
    return {"value": (r * r).sum() / 4, "x": np.einsum("...mn,...m->...n", A, r * z)}


def reference_hvp(numbers: Numbers) -> Mapping[str, Any]:
    A, z, r = wide_states(numbers)
    weighted = (2 * z * z + r) * np.einsum("...mn,...n->...m", A, numbers["tangent_x"].astype(np.longdouble))
    return {"x": np.einsum("...mn,...m->...n", A, weighted)}


def reference_hessian(numbers: Numbers) -> Mapping[str, Any]:
    A, z, r = wide_states(numbers)
    return {"x": np.swapaxes(A, -1, -2) @ ((2 * z * z + r)[..., None] * A)}


def distance(numbers: Numbers, found: np.ndarray) -> np.ndarray:
    """min ‖x ∓ x*‖ / ‖x*‖ of each instance: the sign of the solution cannot be known."""
    exact = numbers["solution"]

    def norm(vectors: np.ndarray) -> np.ndarray:
        return np.linalg.norm(vectors, axis=-1)

    return np.minimum(norm(found - exact), norm(found + exact)) / norm(exact)


def matvec(A: Tensor, x: Tensor) -> Tensor:
    """A x of each instance: (..., m, n), (..., n) -> (..., m)."""
    if x.dim() == 1:
        return A.mv(x)
    # In a batch a row times a matrix is faster than a matrix times a column.
    return (x.unsqueeze(-2) @ A.mT).squeeze(-2)


def cost(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    """f as printed, of each instance: (..., n), (..., m, n), (..., m) -> (...)."""
    return ((matvec(A, x) ** 2 - y) ** 2).sum(-1) / 4


_DERIVATIVES = ("value_and_gradient", "hvp", "hessian")
_SOLVE: Mapping[str, Any] = {"operators": ("solve",), "dtypes": ("float64",)}

_CONSTANT = {"ops": 0, "graph_nodes": 0, "saved_bytes": 0}
BY_UNKNOWNS = Growth("n", (128, 256, 512), "hessian", {**_CONSTANT, "flops": 2}, at=size(m=64))
BY_EQUATIONS = Growth("m", (128, 256, 512), "hessian", {**_CONSTANT, "flops": 1}, at=size(n=8))
"""2 m n² FLOPs in closed form, n products with the Hessian of O(m n) each otherwise; a graph keeps vectors of m."""

_KEEPS_VECTORS = (BY_EQUATIONS.but(saved_bytes=1),)

phase_retrieval = Family(
    name="phase_retrieval",
    summary="¼ Σ ((a·x)² − y)²: closed forms, Gauss–Newton and batches",
    source="CSCI 5980 homework 2, problem 1",
    primals=("x",),
    constants=("A", "y"),
    operators=(*_DERIVATIVES, "solve"),
    sizes=(
        size("test", n=5, m=25, operators=_DERIVATIVES),
        size("test", n=4, m=12, b=7, operators=_DERIVATIVES),
        size("bench", "gate", n=20, m=100, operators=_DERIVATIVES),
        size("bench", "cuda", n=20, m=100, b=200, operators=("value_and_gradient", "hessian")),
        size("bench", "cuda", n=200, m=1000, operators=_DERIVATIVES),
        size("test", "bench", "gate", n=20, m=100, start="near", **_SOLVE),
        size("test", n=20, m=100, b=200, start="spectral", **_SOLVE),
        size("test", "bench", "cuda", n=20, m=100, b=200, start="random", **_SOLVE),
        size("large", "cuda", n=20, m=100, b=1000, start="random", **_SOLVE),
        size("large", "cuda", n=20, m=100, b=1000, start="spectral", **_SOLVE),
    ),
    draw=draw,
    baseline={
        "value_and_gradient": "autograd",
        "hvp": "hvp_double_backward",
        "hessian": "hessian_outer_products",
        "solve": "scipy_levenberg_marquardt",
    },
    reference={
        "value_and_gradient": reference_gradient,
        "hvp": reference_hvp,
        "hessian": reference_hessian,
    },
    condition=measured("x", "A", "y"),
    # κ moves every entry of A, which adds up like the roundings of a product; four stages round: A x, the weights,
    # the scaling and the product with Aᵀ.
    depth=4.0,
    objective=lambda value, *_: value.sum(),
    function=cost,
    distance=distance,
    growth=(BY_UNKNOWNS, BY_EQUATIONS),
)


def _per_instance(function: Callable[..., Any], x: Tensor, *constants: Tensor) -> Any:
    """A function of one instance on a batch, by vmap; on one instance as it is."""
    return torch.func.vmap(function)(x, *constants) if x.dim() == 2 else function(x, *constants)


# ---- value and gradient ----


autograd = phase_retrieval.variant(source="torch.autograd of the objective as printed", name="autograd")(cost)


@phase_retrieval.variant(source="Aᵀ(r z), no graph", computes="value_and_gradient")
def gradient_closed_form(x: Tensor, A: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    z = matvec(A, x)
    r = z * z - y
    flat = r.flatten()
    return flat.dot(flat) / 4, (matvec(A.mT, z.mul_(r)),)


@phase_retrieval.variant(
    source="Aᵀ(r z) in NumPy, whose operations cost less to call", computes="value_and_gradient", **IN_NUMPY
)
def gradient_in_numpy(x: Tensor, A: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    rows = A.numpy()
    z = _matvec_in_numpy(rows, x)
    r = z * z - y.numpy()
    return torch.as_tensor(np.vdot(r, r) / 4), (torch.from_numpy(_pull_in_numpy(r * z, rows)),)


def _matvec_in_numpy(A: np.ndarray, x: Tensor) -> np.ndarray:
    """A x of each instance."""
    return np.asarray((A @ x.numpy()[..., None])[..., 0])


def _pull_in_numpy(v: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Aᵀ v of each instance."""
    return np.asarray((v[..., None, :] @ A)[..., 0, :])


@phase_retrieval.variant(source="torch.func.grad_and_value, under vmap for a batch", computes="value_and_gradient")
def gradient_func(x: Tensor, A: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    gradient, value = _per_instance(torch.func.grad_and_value(autograd), x, A, y)
    return value.sum(), (gradient,)


# ---- Hessian times vector ----


@phase_retrieval.variant(source="reverse over reverse: the gradient of ∇f · v", computes="hvp")
def hvp_double_backward(x: Tensor, A: Tensor, y: Tensor, v: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(autograd(leaf, A, y).sum(), leaf, create_graph=True)
    return torch.autograd.grad(gradient, leaf, v)[0]


@phase_retrieval.variant(source="forward over reverse: torch.func.jvp of torch.func.grad", computes="hvp")
def hvp_jvp_of_grad(x: Tensor, A: Tensor, y: Tensor, v: Tensor) -> Tensor:
    gradient = torch.func.grad(lambda x: autograd(x, A, y).sum())
    return torch.func.jvp(gradient, (x,), (v,))[1]


@phase_retrieval.variant(source="Aᵀ((3z² − y) A v)", computes="hvp")
def hvp_closed_form(x: Tensor, A: Tensor, y: Tensor, v: Tensor) -> Tensor:
    z, Av = matvec(A, x), matvec(A, v)
    return matvec(A.mT, torch.mul(z, z).mul_(3).sub_(y).mul_(Av))


@phase_retrieval.variant(source="the same in NumPy, whose operations cost less to call", computes="hvp", **IN_NUMPY)
def hvp_in_numpy(x: Tensor, A: Tensor, y: Tensor, v: Tensor) -> Tensor:
    rows = A.numpy()
    z = _matvec_in_numpy(rows, x)
    return torch.from_numpy(_pull_in_numpy((3 * z * z - y.numpy()) * _matvec_in_numpy(rows, v), rows))


# ---- Hessian ----

_hessian: Mapping[str, Any] = {"computes": "hessian"}
_ONE_AT_A_TIME = Limit(lambda size: size.get("b", 1), 10, "a Python loop over the instances")

CHUNK = 32
"""Columns of a Hessian at a time: what lies between x and f is held for so many tangents, not for n."""


def hessian_weights(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    return 3 * z * z - y


@phase_retrieval.variant(
    source="the textbook sum of m rank-one matrices",
    # Each is an elementwise product, which counts as no FLOP: what is left is A x.
    grows=(BY_UNKNOWNS.but(flops=1), BY_EQUATIONS.but(ops=1)),
    **_hessian,
)
def hessian_outer_products(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    weights = hessian_weights(x, A, y)
    total = torch.zeros((*x.shape, x.shape[-1]), dtype=x.dtype, device=x.device)
    for a, weight in zip(A.unbind(-2), weights.unbind(-1), strict=True):
        total += weight[..., None, None] * (a.unsqueeze(-1) * a.unsqueeze(-2))
    return total


@phase_retrieval.variant(source="einsum over the three factors", **_hessian)
def hessian_einsum(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return torch.einsum("...mi,...m,...mj->...ij", A, hessian_weights(x, A, y), A)


@phase_retrieval.variant(source="Aᵀ (w ∘ A), one matrix product", **_hessian)
def hessian_gemm(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return (A.mT * hessian_weights(x, A, y).unsqueeze(-2)) @ A


@phase_retrieval.variant(source="torch.func.hessian, forward over reverse", grows=_KEEPS_VECTORS, **_hessian)
def hessian_func(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _per_instance(torch.func.hessian(autograd), x, A, y)


@phase_retrieval.variant(source="torch.func.jacrev of jacrev, reverse over reverse", grows=_KEEPS_VECTORS, **_hessian)
def hessian_jacrev_jacrev(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _per_instance(torch.func.jacrev(torch.func.jacrev(autograd)), x, A, y)


@phase_retrieval.variant(source="torch.func.jacfwd of the closed gradient", **_hessian)
def hessian_jacfwd_of_gradient(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return _per_instance(torch.func.jacfwd(lambda x, A, y: gradient_closed_form(x, A, y)[1][0]), x, A, y)


@phase_retrieval.variant(
    source="torch.autograd.functional.hessian, a loop of n double backwards",
    limits=(_ONE_AT_A_TIME,),
    grows=(BY_UNKNOWNS.but(ops=1, graph_nodes=1), *_KEEPS_VECTORS),  # it selects each entry of ∇f by a node of its own
    **_hessian,
)
def hessian_functional(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    if x.dim() == 2:
        return torch.stack([hessian_functional(*instance) for instance in zip(x, A, y, strict=True)])
    return torch.autograd.functional.hessian(lambda x: autograd(x, A, y), x)


@phase_retrieval.variant(
    source="torch.autograd.functional.hessian with vectorize=True, the n double backwards as one",
    limits=(_ONE_AT_A_TIME,),
    grows=_KEEPS_VECTORS,
    **_hessian,
)
def hessian_vectorized(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    if x.dim() == 2:
        return torch.stack([hessian_vectorized(*instance) for instance in zip(x, A, y, strict=True)])
    return torch.autograd.functional.hessian(lambda x: autograd(x, A, y), x, vectorize=True)


@phase_retrieval.variant(
    source="torch.func.vmap of the products with the unit vectors, CHUNK at a time",
    grows=(BY_UNKNOWNS.but(ops=1, graph_nodes=1, saved_bytes=1), *_KEEPS_VECTORS),  # each chunk has a graph of its own
    **_hessian,
)
def hessian_chunked(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    def of_one(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
        units = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return torch.func.vmap(lambda v: hvp_jvp_of_grad(x, A, y, v), chunk_size=CHUNK)(units)

    return _per_instance(of_one, x, A, y)


# ---- solvers ----

STEP_TOLERANCE = 1e-8
"""A solver stops when its step is this small relative to x."""

COST_TOLERANCE = 1e-4
"""The two Levenberg–Marquardt solvers also stop when the cost falls, and was to fall, by less than this share:
near a solution it falls by nearly all of itself, so what falls so little is on its way to another minimum."""

RESIDUAL_TOLERANCE = 1e-13
"""Levenberg–Marquardt also stops when ‖r‖ is this small relative to ‖y‖: nothing but rounding is left."""

MAX_ITERATIONS = 200

SOLVERS = Solvers(phase_retrieval)


def landscape(A: Tensor, y: Tensor, solution: Tensor) -> endpoints.Landscape:
    """Of points x (b, n), each of the instance at its place in A (b, m, n) and y (b, m), with its solution (b, n).

    ‖x ∓ x*‖ / ‖x*‖ is the distance; the closed Hessian tells saddles and spurious minima apart.
    """

    def distance(x: Tensor) -> Tensor:
        return torch.minimum((x - solution).norm(dim=-1), (x + solution).norm(dim=-1)) / solution.norm(dim=-1)

    return endpoints.Landscape(
        residual=lambda x: cost(x, A, y),
        distance=distance,
        critical=endpoints.by_newton_step(
            lambda x: gradient_closed_form(x, A, y)[1][0], lambda x: hessian_gemm(x, A, y), distance
        ),
        far=1e3 * float(solution.norm(dim=-1).amax()),
    )


def race(
    starts: Tensor, A: Tensor, y: Tensor, solution: Tensor, names: tuple[str, ...] | None = None
) -> list[endpoints.Row]:
    """How the solvers fare from these starts (b, n), one of each instance (b, m, n), (b, m): one row each."""
    return SOLVERS.race(landscape(A, y, solution), names, starts, A, y)


Direction = Callable[[Tensor, Tensor, Tensor], Tensor]


def _batched(x: Tensor, A: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (x, A, y) if x.dim() == 2 else (x.unsqueeze(0), A.unsqueeze(0), y.unsqueeze(0))


def _iterate(direction: Direction, x: Tensor, A: Tensor, y: Tensor) -> Descent:
    """Undamped steps until one is small, instance by instance."""
    steps = newton_like(direction)
    found = descend(steps, *_batched(x, A, y), tolerance=STEP_TOLERANCE, most=MAX_ITERATIONS, relative=True)
    return replace(found, x=found.x.reshape(x.shape))


def gauss_newton_matrix(z: Tensor, A: Tensor) -> Tensor:
    """2 Aᵀ diag(z²) A."""
    scaled = z.unsqueeze(-1) * A
    return 2 * (scaled.mT @ scaled)


def _newton_step(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    gradient = matvec(A.mT, (z * z - y) * z)
    hessian = A.mT @ ((3 * z * z - y).unsqueeze(-1) * A)
    return -torch.linalg.solve_ex(hessian, gradient)[0]


def _gauss_newton_step(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    z = matvec(A, x)
    gradient = matvec(A.mT, (z * z - y) * z)
    return -torch.linalg.solve_ex(gauss_newton_matrix(z, A), gradient)[0]


@SOLVERS.iterative(
    source="Newton, undamped; it is drawn to saddles and local minima alike",
    success={"random": 0.585, "spectral": 0.89},
)
def newton(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    return _iterate(_newton_step, x, A, y)


@SOLVERS.iterative(source="Gauss–Newton, undamped", success={"random": 0.775, "spectral": 0.98})
def gauss_newton(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    return _iterate(_gauss_newton_step, x, A, y)


class _Point(NamedTuple):
    """x of each instance with z = A x, r = z² − y and the cost ¼ ‖r‖²."""

    x: Tensor
    z: Tensor
    r: Tensor
    cost: Tensor


def _evaluate(x: Tensor, columns: Tensor, y: Tensor) -> _Point:
    # A row times the transposed A reads memory in order; A times a column is four times slower in a batch.
    z = (x.unsqueeze(-2) @ columns).squeeze(-2)
    r = z * z - y
    return _Point(x, z, r, (r * r).sum(-1) / 4)


def _choose(mask: Tensor, first: _Point, second: _Point) -> _Point:
    """Of each instance the first point where the mask is true, else the second."""
    column = mask.unsqueeze(-1)
    return _Point(
        torch.where(column, first.x, second.x),
        torch.where(column, first.z, second.z),
        torch.where(column, first.r, second.r),
        torch.where(mask, first.cost, second.cost),
    )


def _normal_equations(at: _Point, columns: Tensor, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """H_GN and ∇f of each instance from one product: with S = diag(z) A, (S | r)ᵀ(S | r) holds both."""
    n = at.x.shape[-1]
    torch.mul(columns, at.z.unsqueeze(-2), out=buffer[:, :n])
    buffer[:, n] = at.r
    product = buffer @ buffer.mT
    return 2 * product[:, :n, :n], product[:, :n, n]


def _damped_step(H: Tensor, gradient: Tensor, damping: Tensor) -> Tensor:
    """−(H + μ I)⁻¹ ∇f. Where rounding leaves H indefinite the step is NaN, which is never accepted."""
    H.diagonal(dim1=-2, dim2=-1).add_(damping.unsqueeze(-1))
    return -torch.cholesky_solve(gradient.unsqueeze(-1), cholesky_factor(H)).squeeze(-1)


@SOLVERS.iterative(
    source="Levenberg–Marquardt with Nielsen's damping, batched; what has ended is dropped from the batch",
    success={"random": 0.79, "spectral": 0.98},
)
def levenberg_marquardt(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    """Its iterations are the damped ones; the polish comes on top."""
    shape = x.shape
    x, A, y = _batched(x, A, y)
    found = _damped(x, A, y)
    return replace(found, x=_polish(found.x, A, y).reshape(shape))


def _polish(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    """One undamped step where it lowers the cost: damping leaves a share of the last step, Gauss–Newton its square."""
    polished = x + _gauss_newton_step(x, A, y)
    return torch.where((autograd(polished, A, y) < autograd(x, A, y)).unsqueeze(-1), polished, x)


def _damped(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    """Levenberg–Marquardt on a batch, each instance until its own stop rule."""
    b, m, n = A.shape
    result, alive = x.clone(), torch.arange(b, device=x.device)
    iterations, before = torch.full_like(alive, MAX_ITERATIONS), b
    columns = A.mT.contiguous()
    # Rows of zeros up to a multiple of 8: batched products of odd sizes are a third slower.
    buffer = x.new_zeros(b, (n + 8) // 8 * 8, m)
    at = _evaluate(x, columns, y)
    exact = RESIDUAL_TOLERANCE**2 * (y * y).sum(-1) / 4
    damping = growth = torch.full_like(at.cost, 2.0)
    ended = torch.zeros_like(alive, dtype=torch.bool)
    for iteration in range(MAX_ITERATIONS):
        H, gradient = _normal_equations(at, columns, buffer)
        if iteration == 0:
            damping = H.diagonal(dim1=-2, dim2=-1).amax(-1)
        step = _damped_step(H, gradient, damping)
        tried = _evaluate(at.x + step, columns, y)
        fall = at.cost - tried.cost
        promised = (step * (damping.unsqueeze(-1) * step - gradient)).sum(-1) / 2
        gain = fall / promised
        good = gain > 0
        ended |= step.norm(dim=-1) <= STEP_TOLERANCE * at.x.norm(dim=-1)
        ended |= good & (torch.maximum(fall, promised) <= COST_TOLERANCE * at.cost)
        at = _choose(good, tried, at)
        ended |= at.cost <= exact
        damping = damping * torch.where(good, (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3), growth)
        growth = torch.where(good, 2.0, 2 * growth)
        result[alive] = at.x
        going = ~ended
        remaining = int(going.sum())
        if remaining < before:
            over, before = alive[ended], remaining
            iterations[over] = iterations[over].clamp(max=iteration + 1)  # less where it had ended before
        if not remaining:
            break
        # Dropping copies what stays, so it waits until it pays; the ended only improve meanwhile.
        if remaining <= 0.8 * len(alive):
            alive, columns, y, exact, damping, growth = (
                each[going] for each in (alive, columns, y, exact, damping, growth)
            )
            at = _Point(*(each[going] for each in at))
            ended, buffer = ended[going], buffer[: len(alive)]
    return Descent(result, iterations, iterations < MAX_ITERATIONS)


@SOLVERS.iterative(
    source="scipy.optimize.least_squares(method='lm'), MINPACK, with the analytic Jacobian, one instance at a time",
    success={"random": 0.775, "spectral": 0.98},
    **IN_SCIPY,
)
def scipy_levenberg_marquardt(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    from scipy.optimize import least_squares

    def solve(start: np.ndarray, rows: np.ndarray, squares: np.ndarray) -> Any:
        return least_squares(
            lambda x: (rows @ x) ** 2 - squares,
            start,
            jac=lambda x: 2 * (rows @ x)[:, None] * rows,
            method="lm",
            xtol=STEP_TOLERANCE,
            ftol=COST_TOLERANCE,
            gtol=STEP_TOLERANCE,
        )

    instances = zip(*(tensor.numpy() for tensor in _batched(x, A, y)), strict=True)
    found = of_results([solve(*instance) for instance in instances])
    return replace(found, x=found.x.reshape(x.shape))


@SOLVERS.iterative(
    source="Gauss–Newton in NumPy, LAPACK's posv for its normal equations, one instance at a time",
    success={"random": 0.775, "spectral": 0.98},
    **IN_SCIPY,
)
def gauss_newton_in_numpy(x: Tensor, A: Tensor, y: Tensor) -> Descent:
    def solve(x: np.ndarray, rows: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, int, bool]:
        for k in range(1, MAX_ITERATIONS + 1):
            z = rows @ x
            scaled = z[:, None] * rows
            try:
                step = posv(scaled.T @ scaled, (squares - z * z) / 2 @ scaled)
            except np.linalg.LinAlgError:
                return x, k, False
            x = x + step
            if step @ step <= STEP_TOLERANCE**2 * (x @ x):
                return x, k, True
        return x, MAX_ITERATIONS, False

    instances = zip(*(tensor.numpy() for tensor in _batched(x, A, y)), strict=True)
    ends, iterations, stopped = zip(*(solve(*instance) for instance in instances), strict=True)
    found = torch.from_numpy(np.stack(ends)).reshape(x.shape)
    return Descent(found, torch.tensor(iterations), torch.tensor(stopped))
