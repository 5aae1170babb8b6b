"""From a case and its inputs to the prepared thunk: the only thing that is checked, and the only thing timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch.autograd import forward_ad

from gradrace.cases import Case
from gradrace.declare import Family
from gradrace.inputs import Inputs, draw_numbers, to_inputs

Thunk: TypeAlias = Callable[[], Any]
Kernel: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Prepared:
    """A case that is ready to run: the thunk, and the inputs that it reads."""

    case: Case
    draw: int
    inputs: Inputs
    thunk: Thunk


def prepare_case(case: Case, draw: int = 0) -> Prepared:
    """The case on the inputs of its scenario."""
    inputs = to_inputs(case.scenario, draw_numbers(case.scenario, draw))
    return Prepared(case, draw, inputs, prepare(case, inputs))


def prepare(case: Case, inputs: Inputs) -> Thunk:
    """A thunk that computes the case; what is paid once (buffers, compilers) is paid here or on its first call."""
    variant, family, operator = case.variant, case.scenario.family, case.scenario.operator
    arguments = _arguments(variant.computes, inputs)
    function = variant.prepare(variant.function, *arguments) if variant.prepare else variant.function
    if variant.computes != "primal":
        return partial(function, *arguments)
    return _DERIVE[operator](function, inputs, family)


def _arguments(computes: str, inputs: Inputs) -> tuple[Any, ...]:
    extra: Mapping[str, tuple[Any, ...]] = {
        "jvp": inputs.tangents,
        "hvp": inputs.tangents,
        "vjp": (inputs.cotangent,),
    }
    return (*inputs.primals, *inputs.constants, *extra.get(computes, ()))


def _leaves(inputs: Inputs) -> tuple[torch.Tensor, ...]:
    return tuple(primal.detach().requires_grad_() for primal in inputs.primals)


def _primal(function: Kernel, inputs: Inputs, family: Family) -> Thunk:
    # No input requires a gradient, so no graph is built and no context manager is timed.
    return partial(function, *inputs.primals, *inputs.constants)


def _value_and_gradient(function: Kernel, inputs: Inputs, family: Family) -> Thunk:
    leaves, constants, objective = _leaves(inputs), inputs.constants, family.objective

    def thunk() -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        value = function(*leaves, *constants)
        if objective is not None:
            value = objective(value, *leaves, *constants)
        return value.detach(), torch.autograd.grad(value, leaves, allow_unused=True)

    return thunk


def _vjp(function: Kernel, inputs: Inputs, family: Family) -> Thunk:
    leaves, constants, cotangent = _leaves(inputs), inputs.constants, inputs.cotangent

    def thunk() -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        value = function(*leaves, *constants)
        return value.detach(), torch.autograd.grad(value, leaves, cotangent, allow_unused=True)

    return thunk


def _jvp(function: Kernel, inputs: Inputs, family: Family) -> Thunk:
    primals, tangents, constants = inputs.primals, inputs.tangents, inputs.constants

    def thunk() -> tuple[torch.Tensor, torch.Tensor | None]:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(primal, tangent) for primal, tangent in zip(primals, tangents, strict=True)]
            value, tangent = forward_ad.unpack_dual(function(*duals, *constants))
        return value, tangent

    return thunk


_DERIVE: Mapping[str, Callable[[Kernel, Inputs, Family], Thunk]] = {
    "primal": _primal,
    "value_and_gradient": _value_and_gradient,
    "vjp": _vjp,
    "jvp": _jvp,
}


def name_outputs(case: Case, raw: Any) -> dict[str, Any]:
    """What a thunk returned, by name: `value`, `tangent`, or the name of the primal it is a derivative for."""
    operator, primals = case.scenario.operator, case.scenario.family.primals
    if operator == "primal":
        return {"value": raw}
    if operator in ("value_and_gradient", "vjp"):
        value, gradients = raw
        return {"value": value, **dict(zip(primals, gradients, strict=True))}
    if operator == "jvp":
        value, tangent = raw
        return {"value": value, "tangent": tangent}
    return {primals[0]: raw}


def replace_output(case: Case, raw: Any, name: str, output: Any) -> Any:
    """What a thunk returned, with the output of this name replaced."""
    named = {**name_outputs(case, raw), name: output}
    operator, primals = case.scenario.operator, case.scenario.family.primals
    if operator == "primal":
        return named["value"]
    if operator in ("value_and_gradient", "vjp"):
        return named["value"], tuple(named[primal] for primal in primals)
    if operator == "jvp":
        return named["value"], named["tangent"]
    return named[primals[0]]
