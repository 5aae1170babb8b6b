"""Is the gradient right? From a case to a status for each of its outputs, and to witnesses of how it was computed.

An output passes when its error is within the tolerance of `gradrace.tolerance`. A gradient that is zero in exact
arithmetic has no size of its own: its error is measured in the family's `magnitude` for it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from gradrace.cases import Case
from gradrace.clock import clock
from gradrace.declare import STATUSES, Numbers
from gradrace.errors import UsageError, described, where
from gradrace.families.numerics import relative_error
from gradrace.inputs import draw_numbers
from gradrace.operators import Prepared, name_outputs, prepare_case
from gradrace.reference import reference, to_array
from gradrace.tolerance import insignificant, tolerance
from gradrace.witnesses import Testimony, testify, to_arrays

SOLVED_WITHIN = 1e-6
"""A solver has found the solution when its relative distance is at most this."""

CONFIDENCE_Z = 3.2905
"""Normal quantile of the 99.9 % interval around a measured success rate."""

SLOW_S = 0.25
"""A case whose second call takes longer is not run any further for the sake of a witness."""

LARGEST_EXCESS = 999
"""What `quantise` answers for an error that is beyond all measure."""

ERROR_CODES: Mapping[str, int] = {"none": 1001, "zero": 1002, "nan": 1003, "error": 1004, "witness": 1005}
"""What `quantise` answers where there is no error to measure; finite, because asv passes over NaN in silence."""


@dataclass(frozen=True)
class Outcome:
    """The status of one output beside the declared one; error and tolerance are relative, None where undefined."""

    status: str
    expected: str = "agree"
    error: float | None = None
    tolerance: float | None = None

    @property
    def ok(self) -> bool:
        return self.status == self.expected

    @property
    def is_right(self) -> bool:
        """Is the output what mathematics says, within the tolerance? A None is, where the exact gradient is zero."""
        return self.status in ("agree", "noise") or (self.status == "none" and self.error is None)


@dataclass(frozen=True)
class Check:
    """The verdict on a case: ok when every output has the status that the variant declares and no witness objects.

    testimony: what each witness objects to, by its name; and who was not heard.
    """

    id: str
    status: str
    ok: bool
    message: str = ""
    outputs: Mapping[str, Outcome] = field(default_factory=dict)
    testimony: Testimony = field(default_factory=Testimony)
    first_call_s: float | None = None

    @property
    def witnesses(self) -> Mapping[str, str]:
        return self.testimony.objections

    @property
    def is_right(self) -> bool:
        """Are all outputs right, and no witness against them? Only then may the case race."""
        return bool(self.outputs) and all(each.is_right for each in self.outputs.values()) and not self.witnesses

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "ok": self.ok,
            "message": self.message,
            "primals": {name: _finite(asdict(outcome)) for name, outcome in self.outputs.items()},
            "witnesses": dict(self.witnesses),
            "unheard": list(self.testimony.unheard),
        }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the largest float stands for it."""
    return {key: sys.float_info.max if value == math.inf else value for key, value in row.items()}


def verify(case: Case, draw: int = 0) -> Check:
    """Run the case and compare its outputs with the reference."""
    if reason := case.skip_reason:
        return Check(case.id, "skipped", ok=True, message=reason)
    try:
        prepared = prepare_case(case, draw)
    except UsageError:
        raise
    except Exception as error:
        return _crashed(case, error)
    return check(prepared)


def check(prepared: Prepared, patience_s: float = SLOW_S) -> Check:
    """Compare what this very thunk computes with the reference of the case's scenario.

    Witnesses are heard only where every output has the status that is declared: a wrong result needs none. Those that
    run the kernel many times are not heard where its second call took longer than the patience: its smaller sizes say
    the same, and a bench compares what it timed with what was checked.
    """
    case, draw = prepared.case, prepared.draw
    if reason := insignificant(case, draw):
        return Check(case.id, "skipped", ok=True, message=reason)
    start = clock()
    try:
        raw = prepared.thunk()
        first_call_s = clock() - start
        outputs = to_arrays(case, raw)
    except Exception as error:
        return _crashed(case, error)
    if case.scenario.operator == "solve":
        judged = {name: _judge_solutions(case, output, draw) for name, output in outputs.items()}
    else:
        judged = {name: _judge(case, name, output, draw) for name, output in outputs.items()}
    judged |= {name: Outcome("error", judged[name].expected) for name in _of_other_dtype(case, raw)}
    status = min((outcome.status for outcome in judged.values()), key=STATUSES.index)
    surprises = [_explain(case, name, outcome) for name, outcome in judged.items() if not outcome.ok]
    if surprises:  # what is wrong needs no witness, but for the reason why
        testimony = testify(prepared, outputs, math.inf, 0)
    else:
        testimony = testify(prepared, outputs, first_call_s, patience_s)
    surprises += [f"{case.id}: {sentence}" for sentence in testimony.objections.values()]
    return Check(case.id, status, not surprises, "; ".join(surprises), judged, testimony, first_call_s)


def _of_other_dtype(case: Case, raw: Any) -> list[str]:
    """The outputs that are tensors of another dtype than the case's: float64 would win every float32 check."""
    dtype = case.scenario.dtype
    return [
        name
        for name, output in name_outputs(case, raw).items()
        if isinstance(output, torch.Tensor) and str(output.dtype) != f"torch.{dtype}"
    ]


def _crashed(case: Case, error: Exception) -> Check:
    place = where(error, case.variant.function)
    if isinstance(error, AttributeError) and error.name == "detach":  # the first thing that is asked of every output
        returned = type(error.obj).__name__
        return Check(case.id, "error", ok=False, message=f"{case.id}: {place} returned {returned} and no tensor")
    message = f"{case.id}: {place}{' ' if place else ''}raised {described(error)}"
    return Check(case.id, "error", ok=False, message=message)


def _judge(case: Case, name: str, output: Any, draw: int) -> Outcome:
    expected, _ = case.variant.expected.get(name, ("agree", ""))
    exact = reference(case.scenario, draw)[name]
    if output is None:
        # Even where it is declared, a None for a gradient that is not zero is wrong by all of it.
        return Outcome("none", expected, 1.0, 0.0) if exact.any() else Outcome("none", expected)
    family, numbers = case.scenario.family, draw_numbers(case.scenario, draw)
    actual = output
    if actual.shape != exact.shape:
        return Outcome("error", expected)
    if not np.isfinite(actual).all():
        return Outcome("nan", expected)
    if name in family.symmetric:
        actual, exact = symmetric_part(actual), symmetric_part(exact)
    if not exact.any():
        return _judge_zero(case, name, actual, numbers, float(tolerance(case, name, draw)), expected)
    error, allowed = _worst(relative_error(actual, exact, case.scenario.size.get("b")), tolerance(case, name, draw))
    if not actual.any():
        return Outcome("zero", expected, error, allowed)
    return Outcome("agree" if error <= allowed else "disagree", expected, error, allowed)


def _worst(errors: np.ndarray, allowed: np.ndarray) -> tuple[float, float]:
    """The error and the tolerance of the instance that comes closest to its tolerance, or exceeds it most."""
    errors, allowed = np.broadcast_arrays(errors, allowed)
    index = np.unravel_index(np.argmax(errors / allowed), errors.shape)
    return float(errors[index]), float(allowed[index])


def _judge_zero(case: Case, name: str, actual: np.ndarray, numbers: Numbers, allowed: float, expected: str) -> Outcome:
    magnitude = case.scenario.family.magnitude
    scale = magnitude(numbers).get(name, 1.0) if magnitude else 1.0
    error = float(np.abs(actual).max(initial=0.0)) / scale
    if error == 0:
        return Outcome("agree", expected, error, allowed)
    return Outcome("noise" if error <= allowed else "disagree", expected, error, allowed)


def symmetric_part(matrix: np.ndarray) -> np.ndarray:
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2


def wilson_interval(successes: int, trials: int, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (E. B. Wilson, JASA 22, 1927)."""
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    # Where all or none succeed that end is exact, and rounding would leave it out.
    return (max(0.0, centre - half) if successes else 0.0), (min(1.0, centre + half) if successes < trials else 1.0)


def solved(case: Case, output: Any, draw: int = 0) -> np.ndarray:
    """For each instance of a solver's scenario: was its solution found? Shape (instances,)."""
    distance = case.scenario.family.distance
    if distance is None:
        raise UsageError(f"family {case.scenario.family.name!r} has the operator solve but declares no distance")
    distances = np.atleast_1d(distance(draw_numbers(case.scenario, draw), to_array(output)))
    return np.asarray(distances <= SOLVED_WITHIN)


def _judge_solutions(case: Case, output: Any, draw: int) -> Outcome:
    """Solvers tie when each finds the known solution as often as it declares, within the binomial interval."""
    if output is None:
        return Outcome("none")
    if not np.isfinite(output).all():
        return Outcome("nan")
    if not output.any():
        return Outcome("zero")
    if output.shape != np.shape(draw_numbers(case.scenario, draw)[case.scenario.family.primals[0]]):
        return Outcome("error")
    found = solved(case, output, draw)
    low, high = wilson_interval(int(found.sum()), found.size)
    declared = case.variant.success.get(case.scenario.size.get("start"), 1.0)
    rate = float(found.mean())
    allowed = (high - rate) if declared > rate else (rate - low)
    return Outcome("agree" if low <= declared <= high else "disagree", "agree", abs(rate - declared), allowed)


def _explain(case: Case, name: str, outcome: Outcome) -> str:
    """One sentence: what was found, what was declared, which argument to change."""
    operator = case.scenario.operator
    what = name if name in ("value", "tangent") else f"{'solution' if operator == 'solve' else 'derivative'} for {name}"
    found = {
        "none": "is None",
        "nan": "has an entry that is not finite",
        "zero": "is zero in every entry where the reference is not",
        "error": "has another shape or dtype than the reference",
        "noise": "is rounding noise where the reference is zero",
        "agree": "agrees",
        "disagree": "disagrees",
    }[outcome.status]
    if operator == "solve" and outcome.status == "disagree":
        return (
            f"{case.id}: the share of solved instances differs by {outcome.error:.3g} from the declared one, where "
            f"{outcome.tolerance:.3g} may be chance; fix the variant, or declare success={{start: share}}"
        )
    size = f" (error {outcome.error:.2g}, tolerance {outcome.tolerance:.2g})" if outcome.error is not None else ""
    return (
        f"{case.id}: {what} {found}{size} where {outcome.expected!r} is declared; "
        f'fix the variant, or declare expected={{"{name}": ("{outcome.status}", reason)}}'
    )


def quantise(check: Check) -> int:
    """The gradient error as a small finite integer to track over commits.

    0: every output is within its tolerance (a None that is declared for an exact zero included);
    k: the worst error is up to 2**k times its tolerance; 1001 and more: see ERROR_CODES.
    """
    if check.witnesses:
        return ERROR_CODES["witness"]
    return max((_quantise(outcome) for outcome in check.outputs.values()), default=ERROR_CODES["error"])


def _quantise(outcome: Outcome) -> int:
    if outcome.is_right and outcome.ok:
        return 0
    if outcome.status in ERROR_CODES:
        return ERROR_CODES[outcome.status]
    if not outcome.error or not outcome.tolerance or not math.isfinite(outcome.error):
        return LARGEST_EXCESS
    return min(LARGEST_EXCESS, max(1, math.ceil(math.log2(outcome.error) - math.log2(outcome.tolerance))))
