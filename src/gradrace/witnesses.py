"""What a comparison with the reference cannot see: mutated inputs, a result that changes, modes that disagree.

Each witness takes a case that has just been run, and answers with nothing when all is well, or with one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from gradrace.cases import Case
from gradrace.clock import clock
from gradrace.declare import Family
from gradrace.errors import UsageError, described
from gradrace.inputs import Inputs, directions, draw_numbers, to_inputs
from gradrace.operators import Prepared, name_outputs
from gradrace.reference import reference, to_array
from gradrace.taylor import HAS_DERIVATIVE, NEEDS_FUNCTION, taylor
from gradrace.tolerance import tolerance

Arrays: TypeAlias = Mapping[str, Any]
"""The outputs of a case by name, as float64 arrays; None where autograd knows of no path."""

AGAIN_S = 10.0
"""A case whose first call takes longer is not run again for the sake of a witness."""

REVERSE = ("value_and_gradient", "vjp")


def to_arrays(case: Case, raw: Any) -> Arrays:
    """What a thunk returned, copied: a kernel may write into the same buffers when it runs again."""
    named = name_outputs(case, raw)
    return {name: None if output is None else np.array(to_array(output)) for name, output in named.items()}


def inputs_unmutated(prepared: Prepared, outputs: Arrays) -> str | None:
    """The inputs hold, to the bit, what they were made from."""
    scenario = prepared.case.scenario
    fresh = _tensors(scenario.family, to_inputs(scenario, draw_numbers(scenario, prepared.draw)))
    used = _tensors(scenario.family, prepared.inputs)
    mutated = [name for name, tensor in fresh.items() if not _same(to_array(used[name]), to_array(tensor))]
    return f"the kernel wrote into its input {' and '.join(mutated)}; let it work on a copy" if mutated else None


def _tensors(family: Family, inputs: Inputs) -> dict[str, torch.Tensor]:
    """The tensors among the inputs, by name."""
    tangents = (f"tangent_{name}" for name in family.primals)
    named = {
        **dict(zip(family.primals, inputs.primals, strict=True)),
        **dict(zip(family.constants, inputs.constants, strict=True)),
        **dict(zip(tangents, inputs.tangents, strict=False)),  # there are none but for jvp and hvp
        "cotangent": inputs.cotangent,
    }
    return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}


def same_twice(prepared: Prepared, outputs: Arrays) -> str | None:
    """A second run gives the same, within the tolerance: LAPACK's last bits depend on where its arrays lie."""
    changed = changed_outputs(prepared, outputs, to_arrays(prepared.case, prepared.thunk()))
    return f"a second run gives another {' and '.join(changed)}; the kernel keeps a state" if changed else None


def changed_outputs(prepared: Prepared, first: Arrays, second: Arrays) -> list[str]:
    """The names of the outputs that two runs of one thunk do not share."""
    return [name for name, output in first.items() if not _is_repeated(prepared, name, output, second[name])]


def _is_repeated(prepared: Prepared, name: str, first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    if first.shape != second.shape:
        return False
    if _same(first, second) or prepared.case.scenario.operator == "solve":  # a solver is judged by what it finds
        return True
    allowed = float(np.max(tolerance(prepared.case, name, prepared.draw)))
    return bool(np.abs(first - second).max(initial=0.0) <= allowed * np.abs(first).max(initial=0.0))


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first, second, equal_nan=True)


def modes_agree(prepared: Prepared, outputs: Arrays) -> str | None:
    """ū·(J v) = (Jᵀ ū)·v for the variant's own forward and reverse mode and a random v.

    Asked where the variant computes the primal and torch has a forward mode for each of its operations.
    """
    case = prepared.case
    variant = case.variant
    if case.scenario.operator not in REVERSE or variant.computes != "primal" or variant.prepare or variant.is_specimen:
        return None
    tangents = _tangents(prepared)
    try:
        pushed = _pushforward(prepared, tangents)
    except Exception:
        return None  # no forward mode: gradrace capabilities says so
    cotangent = prepared.inputs.cotangent
    ubar = np.ones(()) if cotangent is None else to_array(cotangent)
    pulled = [
        (outputs[name] * to_array(v), float(np.max(tolerance(case, name, prepared.draw))))
        for name, v in zip(case.scenario.family.primals, tangents, strict=True)
        if outputs[name] is not None and v.any()
    ]
    by_forward, by_reverse = float((ubar * pushed).sum()), math.fsum(float(terms.sum()) for terms, _ in pulled)
    # Each side's terms carry their own errors, which add up.
    allowed = sum(float(np.abs(terms).sum()) * each for terms, each in pulled)
    allowed += float(np.abs(ubar * pushed).sum()) * max((each for _, each in pulled), default=0.0)
    if abs(by_forward - by_reverse) <= allowed:
        return None
    return f"forward mode gives {by_forward:.6g} along a direction where reverse mode gives {by_reverse:.6g}"


def _tangents(prepared: Prepared) -> tuple[torch.Tensor, ...]:
    """A random direction, zero for primals whose exact gradient is zero: there nothing but noise can be compared."""
    family, exact = prepared.case.scenario.family, reference(prepared.case.scenario, prepared.draw)
    drawn = directions(family, prepared.inputs, prepared.draw)
    return tuple(v * bool(exact[name].any()) for name, v in zip(family.primals, drawn, strict=True))


def _pushforward(prepared: Prepared, tangents: tuple[torch.Tensor, ...]) -> np.ndarray:
    """J v of what the case differentiates, by forward mode."""
    family, constants = prepared.case.scenario.family, prepared.inputs.constants
    scalar = prepared.case.scenario.operator == "value_and_gradient"

    def function(*primals: torch.Tensor) -> torch.Tensor:
        value = prepared.case.variant.function(*primals, *constants)
        return family.objective(value, *primals, *constants) if scalar and family.objective else value

    with torch.autograd.forward_ad.dual_level():
        duals = [
            torch.autograd.forward_ad.make_dual(primal, tangent)
            for primal, tangent in zip(prepared.inputs.primals, tangents, strict=True)
        ]
        tangent = torch.autograd.forward_ad.unpack_dual(function(*duals)).tangent
    return np.zeros(()) if tangent is None else to_array(tangent)


def second_opinion(prepared: Prepared, outputs: Arrays) -> str | None:
    """The Taylor remainder of a baseline that is its own judge: compared with itself it could not be wrong."""
    case = prepared.case
    asked, variant = case.scenario, case.variant
    if not case.is_baseline or asked.operator in asked.family.reference or asked.operator not in HAS_DERIVATIVE:
        return None
    if variant.is_specimen or variant.prepare or (asked.operator in NEEDS_FUNCTION and asked.family.function is None):
        return None
    if taylor(case, prepared.draw).verdict != "first order":
        return None
    return "the Taylor remainder falls by order 1, so the derivative is not that of the value, which judges itself"


Witness: TypeAlias = Callable[[Prepared, Arrays], "str | None"]

WARM: Mapping[str, Witness] = {"modes agree": modes_agree, "second opinion": second_opinion}
"""The witnesses that run the kernel again, and more than once."""


@dataclass(frozen=True)
class Testimony:
    """What the witnesses said: the objections by witness, who was not heard, and the time of the second run."""

    objections: Mapping[str, str] = field(default_factory=dict)
    unheard: tuple[str, ...] = ()
    again_s: float | None = None


def testify(prepared: Prepared, outputs: Arrays, first_call_s: float, patience_s: float) -> Testimony:
    """Hear all witnesses; `outputs` are those of a run of this very thunk.

    Not heard are those that would take too long: a second run where the first one, which may have paid for imports,
    took longer than AGAIN_S, and further runs where the second one took longer than the patience.
    """
    found = {"inputs unmutated": _hear(inputs_unmutated, prepared, outputs)}
    again_s = None
    if first_call_s < AGAIN_S and not found["inputs unmutated"]:  # of other inputs another result is due
        start = clock()
        found["same result twice"] = _hear(same_twice, prepared, outputs)
        again_s = clock() - start
    if again_s is not None and again_s < patience_s:
        found |= {name: _hear(witness, prepared, outputs) for name, witness in WARM.items()}
    unheard = tuple(name for name in ("same result twice", *WARM) if name not in found)
    return Testimony({name: sentence for name, sentence in found.items() if sentence}, unheard, again_s)


def _hear(witness: Witness, prepared: Prepared, outputs: Arrays) -> str | None:
    """A kernel that runs once and then no more is an objection, not the end of the run."""
    try:
        return witness(prepared, outputs)
    except UsageError:
        raise
    except Exception as error:
        return f"run again, it raised {described(error)}"
