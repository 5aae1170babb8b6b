"""What does each formulation answer at a kink? From a family to the rows of its ledger.

Modes are reverse (torch.autograd.grad) and forward (torch.autograd.forward_ad; torch.func.jvp where compiled), in
float64 on the CPU. A point goes through a formulation as a vector of equal entries, because several of torch's
kernels treat a NaN in one way where they work on whole registers, and in another on what is left over at the end.

Compiling one formulation takes seconds, so all those of a family go through torch.compile as one function, each with
an input of its own: a NaN of one would reach the others through a shared one. If that fails it is done again with
each half, down to the formulations that fail alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gradrace.cases import Scenario, is_available
from gradrace.declare import Family, Variant
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.ledger import Entry, Row, entry, spell

Function: TypeAlias = Callable[[Tensor], Tensor]
Derivative: TypeAlias = Callable[[Function, Tensor], Tensor | None]
Result: TypeAlias = Tensor | Exception | None
"""What a differentiation returned at one point: equal entries, an error, or None where there is no graph."""

COMPILER = "a C++ compiler"

COPIES = 17
"""Entries of a vector: torch's loops take two registers at a time, of at most eight float64, and one is left over."""


def record(families: Iterable[Family], *, compiled: bool = True) -> list[Row]:
    """The rows of all families that declare kinks; without `compiled` or a C++ compiler those columns are None."""
    return [row for family in families if family.kinks for row in record_family(family, compiled=compiled)]


def record_family(family: Family, *, compiled: bool = True) -> list[Row]:
    """One row for each formulation and kink; a formulation that needs what is not installed has no entries."""
    variants = [variant for variant in family.variants if _is_recorded(family, variant)]
    runnable = [variant for variant in variants if all(map(is_available, variant.requires))]
    functions = [_of_point(variant.function, _constants(family)) for variant in runnable]
    points = [torch.full((COPIES,), kink.at, dtype=torch.float64) for kink in family.kinks]
    results = {
        "value": _each(_value, functions, points),
        "reverse": _each(_reverse, functions, points),
        "forward": _each(_forward, functions, points),
    }
    if compiled and is_available(COMPILER):
        results["compiled_value"] = _together(_value_compiled, functions, points)
        results["compiled_reverse"] = _together(_reverse_compiled, functions, points)
        results["compiled_forward"] = _together(_forward_compiled, functions, points)
    columns = {
        variant.name: {column: list(map(_entry, found[i])) for column, found in results.items()}
        for i, variant in enumerate(runnable)
    }
    return [
        Row(
            family=family.name,
            variant=variant.name,
            point=kink.name,
            at=entry(kink.at),
            allowed=kink.allowed,
            right=None if kink.value is None else entry(kink.value),
            **{column: entries[i] for column, entries in columns.get(variant.name, {}).items()},
        )
        for variant in variants
        for i, kink in enumerate(family.kinks)
    ]


def _is_recorded(family: Family, variant: Variant) -> bool:
    """Formulations of the primal that reach this dtype, device and some size.

    One that is prepared, such as by a compiler, is a second copy of a formulation with compiled columns of its own.
    """
    if variant.computes != "primal" or variant.prepare is not None:
        return False
    if not {"primal", "float64", "cpu"}.isdisjoint(variant.unsupported):
        return False
    return any(not any(limit.exceeded_by(size) for limit in variant.limits) for size in family.sizes)


def _constants(family: Family) -> tuple[Any, ...]:
    """The family's constants, from the inputs of its first size."""
    scenario = Scenario(family, "primal", family.sizes[0], "float64", "cpu")
    return to_inputs(scenario, draw_numbers(scenario)).constants


def _of_point(kernel: Callable[..., Any], constants: tuple[Any, ...]) -> Function:
    return lambda point: kernel(point, *constants)


def _entry(result: Result) -> Entry:
    """The one number of a vector of equal entries, or the word for what is there instead."""
    if result is None:
        return "none"
    if isinstance(result, Exception):
        return f"error: {type(result).__name__}"
    if result.shape != (COPIES,):
        return "error: shape"
    found = sorted({entry(number) for number in result.tolist()}, key=str)
    return found[0] if len(found) == 1 else " or ".join(map(spell, found))


# ---- eager ----


def _each(differentiate: Derivative, functions: Sequence[Function], points: Sequence[Tensor]) -> list[list[Result]]:
    """The results at all points, function by function."""
    return [[_attempt(differentiate, function, point) for point in points] for function in functions]


def _attempt(differentiate: Derivative, function: Function, point: Tensor) -> Result:
    try:
        return differentiate(function, point)
    except Exception as error:
        return error


def _value(function: Function, point: Tensor) -> Tensor:
    return function(point)


def _reverse(function: Function, point: Tensor) -> Tensor | None:
    leaf = point.clone().requires_grad_()
    return _gradients([function(leaf)], [leaf])[0]


def _forward(function: Function, point: Tensor) -> Tensor | None:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(point, torch.ones_like(point))
        return forward_ad.unpack_dual(function(dual)).tangent


def _gradients(values: Sequence[Tensor], leaves: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of each leaf from the value beside it, None where the value has no graph."""
    connected = [i for i, value in enumerate(values) if value.requires_grad]
    gradients: list[Tensor | None] = [None] * len(leaves)
    if connected:
        outputs, inputs = [values[i] for i in connected], [leaves[i] for i in connected]
        found = torch.autograd.grad(outputs, inputs, [torch.ones_like(value) for value in outputs], allow_unused=True)
        for i, gradient in zip(connected, found, strict=True):
            gradients[i] = gradient
    return gradients


# ---- compiled ----

Compiled: TypeAlias = Callable[[Sequence[Function]], Callable[[Tensor], Sequence[Tensor | None]]]
"""Compiles functions as one; the result evaluates or differentiates all of them at a point."""


def _value_compiled(functions: Sequence[Function]) -> Callable[[Tensor], Sequence[Tensor | None]]:
    compiled = _compile(functions)
    return lambda point: compiled(*[point.clone() for _ in functions])


def _reverse_compiled(functions: Sequence[Function]) -> Callable[[Tensor], Sequence[Tensor | None]]:
    compiled = _compile(functions)

    def reverse(point: Tensor) -> list[Tensor | None]:
        leaves = [point.clone().requires_grad_() for _ in functions]
        return _gradients(compiled(*leaves), leaves)

    return reverse


def _forward_compiled(functions: Sequence[Function]) -> Callable[[Tensor], Sequence[Tensor | None]]:
    return _value_compiled([_pushforward(function) for function in functions])


def _pushforward(function: Function) -> Function:
    # Dynamo cannot trace forward_ad.
    return lambda point: torch.func.jvp(function, (point,), (torch.ones_like(point),))[1]


def _compile(functions: Sequence[Function]) -> Callable[..., Sequence[Tensor]]:
    """All functions as one, each with an argument of its own."""
    # Without the reset, all families would share one limit of recompilations.
    torch.compiler.reset()
    if len(functions) == 1:
        # Alone it may break the graph and be compiled in pieces, as for any user of torch.compile.
        compiled = torch.compile(functions[0])
        return lambda argument: [compiled(argument)]

    def all_of_them(*arguments: Tensor) -> list[Tensor]:
        return [functions[i](argument) for i, argument in enumerate(arguments)]

    return torch.compile(all_of_them, fullgraph=True)


def _together(transform: Compiled, functions: Sequence[Function], points: Sequence[Tensor]) -> list[list[Result]]:
    """The results at all points, function by function: all functions at once, or by halves where that fails."""
    try:
        run = transform(functions)
        by_point = [run(point) for point in points]
    except Exception as error:
        if len(functions) == 1:
            return [[error] * len(points)]
        middle = len(functions) // 2
        first, second = functions[:middle], functions[middle:]
        return _together(transform, first, points) + _together(transform, second, points)
    return [[results[i] for results in by_point] for i in range(len(functions))]
