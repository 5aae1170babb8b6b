"""What can be done with each formulation: differentiated which way, twice, batched, compiled, in float32, on CUDA.

Nothing is declared here and nothing believed: each capability is tried on the family's smallest test size, and its
result compared with an independent one, since an operation that runs may still be wrong. First and second derivatives
are compared with finite differences of the formulation itself along random directions, of order 4:

    f'(0) ≈ (8 (f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradrace.cases import Case, Scenario
from gradrace.declare import Family, Variant
from gradrace.errors import described
from gradrace.inputs import Inputs, directions, draw_numbers, to_inputs
from gradrace.operators import Prepared, prepare
from gradrace.reference import to_array
from gradrace.verify import check, verify
from gradrace.work import count_prepared

CAPABILITIES = ("reverse", "forward", "twice", "vmap", "compile", "float32", "cuda")
"""Reverse mode, forward mode, double backward, torch.func.vmap, torch.compile, float32, CUDA."""

STEP = 1e-4
"""h of the differences, times the size of the smallest primal: f''''' h⁴ and u f / h are both far below CLOSE."""

CLOSE = 1e-6
"""Relative difference up to which two ways of computing the same are the same."""

Primals: TypeAlias = Sequence[Tensor]


@dataclass(frozen=True)
class Capability:
    """yes, no (it raises), wrong (it runs and is wrong), breaks (it compiles in pieces), or – (it was not tried)."""

    verdict: str
    reason: str = ""


def capabilities(family: Family, variant: Variant, compiling: bool = True) -> dict[str, Capability]:
    """What this formulation can do, by the names of CAPABILITIES."""
    case = smallest_case(family, variant)
    if case is None:
        return dict.fromkeys(CAPABILITIES, Capability("–", "no test size can be run here"))
    inputs = to_inputs(case.scenario, draw_numbers(case.scenario))
    found = _by_differentiating(case, inputs) if variant.computes == "primal" else {}
    given = Capability("–", f"it computes {variant.computes} by itself")
    return {
        **dict.fromkeys(("reverse", "forward", "twice"), given),
        **found,
        "vmap": _tried(lambda: _vmap(case, inputs)),
        "compile": _compile(case, inputs) if compiling else Capability("–", "not asked for"),
        "float32": _as_verified(replace(case, scenario=replace(case.scenario, dtype="float32"))),
        "cuda": _as_verified(replace(case, scenario=replace(case.scenario, device="cuda"))),
    }


MOST_OPERATIONS = 3000
"""A kernel of more is not compiled: loops are unrolled."""

ASKED = ("value_and_gradient", "vjp", "jacobian", "hessian", "hvp", "jvp", "primal", "solve")
"""The operators in the order in which they are tried."""


def smallest_case(family: Family, variant: Variant) -> Case | None:
    """The case of the first of the operators that the variant answers, in its first test size that can be run."""
    for operator in sorted(family.operators_of(variant), key=ASKED.index):
        for size in family.sizes:
            if "test" in size.tiers and operator in (size.operators or family.operators):
                case = Case(Scenario(family, operator, size, "float64", "cpu"), variant)
                if case.skip_reason is None:
                    return case
    return None


def _tried(attempt: Callable[[], bool]) -> Capability:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slow paths warn
            return Capability("yes") if attempt() else Capability("wrong", "its result differs")
    except Exception as error:
        return Capability("no", described(error))


def _close(first: Any, second: Any) -> bool:
    first, second = to_array(first), to_array(second)
    scale = max(np.abs(first).max(initial=0.0), np.abs(second).max(initial=0.0))
    return first.shape == second.shape and bool(np.abs(first - second).max(initial=0.0) <= CLOSE * scale)


# ---- derivatives of a formulation that computes the primal ----


def _by_differentiating(case: Case, inputs: Inputs) -> dict[str, Capability]:
    function = _scalar(case, inputs)
    v, w = directions(case.scenario.family, inputs, 0), directions(case.scenario.family, inputs, 1)
    step = _step(inputs.primals)

    def along(h: float) -> float:
        return float(function(*_moved(inputs.primals, v, h)))

    def gradient_along(h: float) -> float:
        return float(_dot(_gradient(function, _moved(inputs.primals, w, h)), v))

    return {
        "reverse": _tried(lambda: _agree(gradient_along(0), _difference(along, step), along(0), step)),
        "forward": _tried(
            lambda: _agree(_pushforward(function, inputs.primals, v), _difference(along, step), along(0), step)
        ),
        "twice": _tried(
            lambda: _agree(
                _twice(function, inputs.primals, v, w), _difference(gradient_along, step), gradient_along(0), step
            )
        ),
    }


def _scalar(case: Case, inputs: Inputs) -> Callable[..., Tensor]:
    """The formulation followed by the family's objective, or by a fixed random weighting: (*primals) -> ()."""
    family, constants = case.scenario.family, inputs.constants

    @cache
    def kernel() -> Callable[..., Any]:  # prepared when it is first called, where what it raises is caught
        variant = case.variant
        if variant.prepare is None:
            return variant.function
        return variant.prepare(variant.function, *inputs.primals, *constants)

    def function(*primals: Tensor) -> Tensor:
        value = kernel()(*primals, *constants)
        if family.objective:
            return family.objective(value, *primals, *constants)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
        return (weights * value).sum()

    return function


def _moved(primals: Primals, v: Primals, h: float) -> list[Tensor]:
    return [primal + h * each for primal, each in zip(primals, v, strict=True)]


def _step(primals: Primals) -> float:
    """Inputs of a thousandth must not be moved by a tenth of themselves: a function may bend there."""
    sizes = [float(primal.abs().max()) for primal in primals if primal.numel()]
    return STEP * min([1.0, *(size for size in sizes if size > 0)])


def _difference(along: Callable[[float], float], step: float) -> float:
    return (8 * (along(step) - along(-step)) - (along(2 * step) - along(-2 * step))) / (12 * step)


def _agree(derivative: float, difference: float, value: float, step: float) -> bool:
    """Within CLOSE of the derivative, or of what the rounding of the value itself leaves of its difference."""
    rounding = 1e-13 * abs(value) / step
    return abs(derivative - difference) <= CLOSE * max(abs(derivative), abs(difference)) + rounding


def _gradient(function: Callable[..., Tensor], primals: Primals, create_graph: bool = False) -> Sequence[Tensor | None]:
    leaves = [primal.detach().requires_grad_() for primal in primals]
    return torch.autograd.grad(function(*leaves), leaves, create_graph=create_graph, allow_unused=True)


def _dot(gradient: Iterable[Tensor | None], v: Primals) -> Tensor:
    terms = [(each * direction).sum() for each, direction in zip(gradient, v, strict=True) if each is not None]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def _pushforward(function: Callable[..., Tensor], primals: Primals, v: Primals) -> float:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(primal, each) for primal, each in zip(primals, v, strict=True)]
        tangent = forward_ad.unpack_dual(function(*duals)).tangent
    return 0.0 if tangent is None else float(tangent)


def _twice(function: Callable[..., Tensor], primals: Primals, v: Primals, w: Primals) -> float:
    """wᵀ H v by double backward; a gradient without a graph is constant."""
    leaves = [primal.detach().requires_grad_() for primal in primals]
    gradient = torch.autograd.grad(function(*leaves), leaves, create_graph=True, allow_unused=True)
    slope = _dot(gradient, v)
    if not slope.requires_grad:
        return 0.0
    return float(_dot(torch.autograd.grad(slope, leaves, allow_unused=True), w))


# ---- transformations of whatever the formulation computes ----


def _arguments(case: Case, inputs: Inputs) -> tuple[Any, ...]:
    extra: dict[str, tuple[Any, ...]] = {"jvp": inputs.tangents, "hvp": inputs.tangents, "vjp": (inputs.cotangent,)}
    return (*inputs.primals, *inputs.constants, *extra.get(case.variant.computes, ()))


def _kernel(case: Case, inputs: Inputs) -> Callable[..., Any]:
    variant = case.variant
    return variant.prepare(variant.function, *_arguments(case, inputs)) if variant.prepare else variant.function


def _flat(output: Any) -> list[Tensor]:
    """The tensors of a kernel's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    return [tensor for each in output if each is not None for tensor in _flat(each)]


def _vmap(case: Case, inputs: Inputs) -> bool:
    """Three points at once are as three points one by one."""
    kernel, arguments = _kernel(case, inputs), _arguments(case, inputs)
    count = len(inputs.primals)
    points = [_moved(inputs.primals, directions(case.scenario.family, inputs), h * STEP) for h in (0, 1, 2)]
    stacked = [torch.stack(each) for each in zip(*points, strict=True)]
    dims = (*[0] * count, *[None] * (len(arguments) - count))
    together = torch.func.vmap(lambda *given: tuple(_flat(kernel(*given))), in_dims=dims)(*stacked, *arguments[count:])
    alone = zip(*(_flat(kernel(*point, *arguments[count:])) for point in points), strict=True)
    return all(_close(batch, torch.stack(each)) for batch, each in zip(together, alone, strict=True))


def _compile(case: Case, inputs: Inputs) -> Capability:
    """With its kernel compiled the case has the status that is declared without; in one graph, or in pieces."""
    if case.variant.prepare is not None:
        return Capability("–", "it is prepared by itself")
    ops = count_prepared(Prepared(case, 0, inputs, prepare(case, inputs))).counters["ops"]
    if ops is not None and ops > MOST_OPERATIONS:
        return Capability("–", f"to compile its {ops:,} operations would take many minutes")
    for name in ("torch._dynamo", "torch._inductor"):  # they log a stack for each break and each deep graph
        logging.getLogger(name).setLevel(logging.CRITICAL)
    whole = _checked_when_compiled(case, inputs, fullgraph=True)
    if whole.verdict != "no":
        return whole
    pieces = _checked_when_compiled(case, inputs, fullgraph=False)
    return Capability("breaks", whole.reason) if pieces.verdict == "yes" else pieces


def _checked_when_compiled(case: Case, inputs: Inputs, fullgraph: bool) -> Capability:
    def compile_it(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
        return torch.compile(function, fullgraph=fullgraph)

    torch.compiler.reset()
    compiled = replace(case, variant=replace(case.variant, prepare=compile_it))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check(Prepared(compiled, 0, inputs, prepare(compiled, inputs)), patience_s=0)
    if found.ok:
        return Capability("yes")
    return Capability("no" if found.status == "error" else "wrong", found.message)


def _as_verified(case: Case) -> Capability:
    """What `gradrace verify` says of the case in this dtype, on this device."""
    found = verify(case)
    if found.status == "skipped":
        return Capability("–", found.message)
    if found.outputs and found.is_right:
        return Capability("yes")
    return Capability("no" if found.status == "error" else "wrong", found.message)
