"""Can the check fail? Ways of being wrong, planted inside the callable of a case, and whether its check sees them.

A fault is planted in one derivative of a case whose exact value is not zero; in its largest entry, where it hits one
entry. The outcome is

- `killed`: the check fails, by the status or the witness that is named;
- `invisible`: the check passes, and the same fault planted in the exact derivative moves it by no more than the case's
  own rounding error: no check could see it;
- `survived`: the check passes although the fault can be seen. The check is broken.

The kernel runs once, and faults of its result are planted in what it returned. A detached graph and a stale closure
need runs of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.cases import Case
from gradrace.declare import Variant
from gradrace.families.numerics import relative_error
from gradrace.operators import Prepared, Thunk, name_outputs, prepare_case, replace_output
from gradrace.reference import reference, to_array
from gradrace.tolerance import UNIT_ROUNDOFF
from gradrace.verify import SLOW_S, Check, check, symmetric_part

OTHER_DRAW = 1
"""The draw whose gradient a stale closure returns."""


@dataclass(frozen=True)
class Fault:
    """A way of being wrong: `plant` changes a derivative, and is None where the fault lies elsewhere than in it.

    mark: two letters at most, for the head of a column.
    """

    name: str
    mark: str
    summary: str
    plant: Callable[[Tensor], Tensor | None] | None = None
    dtypes: tuple[str, ...] = ("float64", "float32")


def _in_largest_entry(change: Callable[[Tensor], Tensor | float]) -> Callable[[Tensor], Tensor]:
    def plant(derivative: Tensor) -> Tensor:
        flat = derivative.flatten().clone()
        largest = int(flat.abs().argmax())
        flat[largest] = change(flat[largest])
        return flat.reshape(derivative.shape)

    return plant


FAULTS = (
    Fault("sign", "±", "the sign is flipped", torch.neg),
    Fault("zeros", "0", "every entry is zero", torch.zeros_like),
    Fault("nan", "na", "one entry is NaN", _in_largest_entry(lambda _: math.nan)),
    Fault("infinity", "∞", "one entry is infinite", _in_largest_entry(lambda _: math.inf)),
    Fault("none", "No", "None", lambda _: None),
    Fault("scaled", "3%", "the largest entry × 1.03", _in_largest_entry(lambda entry: 1.03 * entry)),
    Fault(
        "nudged",
        "ε",
        "the largest entry × (1 + 1e-6)",
        _in_largest_entry(lambda entry: (1 + 1e-6) * entry),
        ("float64",),
    ),
    Fault("rounded", "32", "through float32 and back", lambda derivative: derivative.float().double(), ("float64",)),
    Fault("transposed", "T", "the matrix is transposed", lambda derivative: derivative.mT.clone()),
    Fault("detached", "dt", "the graph is cut at this primal"),
    Fault("stale", "st", "the derivative of other inputs"),
    Fault("swapped", "sw", "the derivative for another primal"),
)


@dataclass(frozen=True)
class Trial:
    """The outcome of one fault in one derivative of a case; `by` names what killed it."""

    id: str
    fault: str
    primal: str
    outcome: str
    by: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "id": self.id,
            "fault": self.fault,
            "primal": self.primal,
            "outcome": self.outcome,
            "by": self.by,
            "reason": self.reason,
        }


def try_faults(prepared: Prepared, own: Check) -> list[Trial]:
    """Plant every fault that has a meaning for this case, whose `own` check has been made.

    None has for a case that is skipped, known as wrong, or without a derivative; a case that fails its own check must
    be mended first.
    """
    case = prepared.case
    if case.variant.is_specimen or case.scenario.operator in ("primal", "solve"):
        return []
    if own.status == "skipped" or not own.ok:
        return []
    # Copied, because a kernel may write into the same buffers when it runs again.
    raw = _copied(case, prepared.thunk())
    trials = [
        _judge(prepared, own, fault, raw, name, thunk)
        for name in _derivatives(case, raw)
        for fault, thunk in _faulty(prepared, raw, name)
    ]
    return trials + _control(prepared, raw)


def _control(prepared: Prepared, raw: Any) -> list[Trial]:
    """No fault at all must pass: a check that fails on everything would kill every fault."""
    found = check(replace(prepared, thunk=lambda: raw), patience_s=0)
    if found.ok:
        return []
    reason = f"without any fault the check fails as well: {found.message}"
    return [Trial(prepared.case.id, "control", "nothing", "survived", reason=reason)]


def _copied(case: Case, raw: Any) -> Any:
    for name, output in name_outputs(case, raw).items():
        if isinstance(output, Tensor):
            raw = replace_output(case, raw, name, output.clone())
    return raw


def _derivatives(case: Case, raw: Any) -> list[str]:
    """The derivatives among the outputs that are tensors, and not zero in exact arithmetic."""
    exact = reference(case.scenario)
    return [
        name
        for name, output in name_outputs(case, raw).items()
        if name != "value" and output is not None and exact[name].any()
    ]


def _faulty(prepared: Prepared, raw: Any, name: str) -> Iterator[tuple[Fault, Thunk]]:
    """Every fault that has a meaning for this derivative, with the callable that has it."""
    case = prepared.case
    derivative = name_outputs(case, raw)[name]
    for fault in FAULTS:
        if case.scenario.dtype not in fault.dtypes:
            continue
        if fault.plant is not None:
            if fault.name != "transposed" or derivative.dim() >= 2:
                yield fault, _returning(case, raw, name, fault.plant(derivative))
        elif fault.name == "detached" and case.variant.computes == "primal":
            with suppress(Exception):  # it cannot even be prepared
                yield fault, _detached(prepared, name)
        elif fault.name == "stale" and (kept := _of_other_inputs(case, name)) is not None:
            # The kernel closes over the first inputs it met: the value is that of these inputs, the derivative is not.
            yield fault, _returning(case, raw, name, kept)
        elif fault.name == "swapped" and (other := _another(case, raw, name)):
            yield fault, _returning(case, raw, name, name_outputs(case, raw)[other])


def _another(case: Case, raw: Any, name: str) -> str | None:
    """The derivative for another primal that is returned in place of this one."""
    return next((other for other in _derivatives(case, raw) if other != name), None)


def _returning(case: Case, raw: Any, name: str, derivative: Tensor | None) -> Thunk:
    faulty = replace_output(case, raw, name, derivative)
    return lambda: faulty


def _of_other_inputs(case: Case, name: str) -> Tensor | None:
    """The derivative at the inputs of another draw; None where the kernel cannot do with them."""
    try:
        raw = _copied(case, prepare_case(case, OTHER_DRAW).thunk())
    except Exception:
        return None
    kept: Tensor | None = name_outputs(case, raw)[name]
    return kept


def _detached(prepared: Prepared, name: str) -> Thunk:
    """The formulation on a detached copy of the primal; of all primals, where the derivative is a tangent."""
    case = prepared.case
    primals = case.scenario.family.primals
    cut = range(len(primals)) if name == "tangent" else (primals.index(name),)
    return prepare_case(replace(case, variant=_with_cut_graph(case.variant, tuple(cut)))).thunk


def _with_cut_graph(variant: Variant, places: tuple[int, ...]) -> Variant:
    def prepare(function: Callable[..., Any], *arguments: Any) -> Callable[..., Any]:
        inner = variant.prepare(function, *arguments) if variant.prepare else function
        return lambda *given: inner(*(each.detach() if i in places else each for i, each in enumerate(given)))

    return replace(variant, prepare=prepare)


def _judge(prepared: Prepared, own: Check, fault: Fault, raw: Any, name: str, thunk: Thunk) -> Trial:
    case = prepared.case
    # The planted thunk is quick, the kernel that a witness would run again may not be.
    again_s = own.testimony.again_s
    quick = again_s is not None and again_s < SLOW_S
    found = check(replace(prepared, thunk=thunk), patience_s=SLOW_S if quick else 0)
    if not found.ok:
        killer = found.outputs.get(name)
        by = next(iter(found.witnesses), "") or (killer.status if killer and not killer.ok else found.status)
        return Trial(case.id, fault.name, name, "killed", by=by)
    moved, floor = _effect(case, fault, raw, name), _floor(case, raw, name)
    if not moved.any():
        return Trial(case.id, fault.name, name, "invisible", reason="it leaves the exact derivative as it is")
    seen = int(np.argmax(moved / floor))
    by, error = moved.flat[seen], np.broadcast_to(floor, moved.shape).flat[seen]
    if by <= error:
        reason = f"it moves the exact derivative by {by:.1e}, and the case's own rounding error is {error:.1e}"
        return Trial(case.id, fault.name, name, "invisible", reason=reason)
    tolerance = found.outputs[name].tolerance
    reason = f"it moves the exact derivative by {by:.1e}, the rounding error is {error:.1e}, the tolerance " + (
        f"{tolerance:.1e}" if tolerance is not None else "none"
    )
    return Trial(case.id, fault.name, name, "survived", reason=reason)


def _floor(case: Case, raw: Any, name: str) -> np.ndarray:
    """The rounding error of this derivative, of each instance, at least u."""
    errors = _error(case, name, to_array(name_outputs(case, raw)[name]))
    return np.maximum(errors, UNIT_ROUNDOFF[case.scenario.dtype])


def _effect(case: Case, fault: Fault, raw: Any, name: str) -> np.ndarray:
    """By how much the fault moves the exact derivative, of each instance; inf: not to be missed."""
    exact = reference(case.scenario)[name]
    planted = _planted_in_exact(case, fault, raw, name, exact)
    if planted is None or planted.shape != exact.shape:
        return np.asarray(math.inf)
    return np.nan_to_num(_error(case, name, planted), nan=math.inf, posinf=math.inf)


def _error(case: Case, name: str, derivative: np.ndarray) -> np.ndarray:
    """Relative to the largest entry of the exact derivative, as the check measures it; of each instance."""
    exact = reference(case.scenario)[name]
    if name in case.scenario.family.symmetric:
        derivative, exact = symmetric_part(derivative), symmetric_part(exact)
    return np.asarray(relative_error(derivative, exact, case.scenario.size.get("b")))


def _planted_in_exact(case: Case, fault: Fault, raw: Any, name: str, exact: np.ndarray) -> np.ndarray | None:
    if fault.plant is not None:
        planted = fault.plant(torch.from_numpy(np.array(exact)))
        return None if planted is None else to_array(planted)
    if fault.name == "stale":
        return reference(case.scenario, OTHER_DRAW)[name]
    if fault.name == "swapped" and (other := _another(case, raw, name)):
        return reference(case.scenario)[other]
    return None
