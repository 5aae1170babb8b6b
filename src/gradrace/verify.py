"""Is the gradient right? From a case to a status for each of its outputs, judged by a computed tolerance.

An output passes when `error <= C u κ depth`. The error is the largest difference to the reference over the
largest entry of the reference (of each instance, where the case is a batch); u is the unit roundoff of the
dtype, κ the family's condition, depth its operation depth, and C one constant for everything.
A gradient that is zero in exact arithmetic has no size of its own: its error is measured in the family's
`magnitude` for it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from gradrace.cases import Case, Scenario
from gradrace.clock import clock
from gradrace.declare import STATUSES, Condition, Numbers
from gradrace.errors import UsageError
from gradrace.families.numerics import relative_error
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import Thunk, name_outputs, prepare

TOLERANCE_FACTOR = 8.0
"""C: the one constant of all tolerances."""

UNIT_ROUNDOFF: Mapping[str, float] = {"float64": 2.0**-53, "float32": 2.0**-24}

SOLVED_WITHIN = 1e-6
"""A solver has found the solution when its relative distance is at most this."""

CONFIDENCE_Z = 3.2905
"""Normal quantile of the 99.9 % interval around a measured success rate."""

LARGEST_EXCESS = 999
"""What `quantise` answers for an error that is beyond all measure."""

ERROR_CODES: Mapping[str, int] = {"none": 1001, "zero": 1002, "nan": 1003, "error": 1004}
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
    """The verdict on a case: ok when every output has the status that the variant declares."""

    id: str
    status: str
    ok: bool
    message: str = ""
    outputs: Mapping[str, Outcome] = field(default_factory=dict)
    first_call_s: float | None = None

    @property
    def is_right(self) -> bool:
        """Are all outputs right? Only then may the case race."""
        return all(outcome.is_right for outcome in self.outputs.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "ok": self.ok,
            "message": self.message,
            "primals": {name: _finite(asdict(outcome)) for name, outcome in self.outputs.items()},
        }


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: the largest float stands for it."""
    return {key: sys.float_info.max if value == math.inf else value for key, value in row.items()}


def verify(case: Case, draw: int = 0) -> Check:
    """Run the case once and compare its outputs with the reference."""
    if reason := case.skip_reason:
        return Check(case.id, "skipped", ok=True, message=reason)
    try:
        thunk = prepare_case(case, draw)
    except Exception as error:
        return _crashed(case, error)
    return check(case, thunk, draw)


def prepare_case(case: Case, draw: int = 0) -> Thunk:
    """The thunk of a case on the inputs of its scenario."""
    return prepare(case, to_inputs(case.scenario, draw_numbers(case.scenario, draw)))


def check(case: Case, thunk: Thunk, draw: int = 0) -> Check:
    """Compare what this very thunk computes with the reference of the case's scenario."""
    if reason := insignificant(case, draw):
        return Check(case.id, "skipped", ok=True, message=reason)
    start = clock()
    try:
        outputs = name_outputs(case, thunk())
    except Exception as error:
        return _crashed(case, error)
    first_call_s = clock() - start
    if case.scenario.operator == "solve":
        judged = {name: _judge_solutions(case, output, draw) for name, output in outputs.items()}
    else:
        judged = {name: _judge(case, name, output, draw) for name, output in outputs.items()}
    status = min((outcome.status for outcome in judged.values()), key=STATUSES.index)
    surprises = [_explain(case, name, outcome) for name, outcome in judged.items() if not outcome.ok]
    return Check(case.id, status, not surprises, "; ".join(surprises), judged, first_call_s)


def _crashed(case: Case, error: Exception) -> Check:
    first_line = str(error).strip().partition("\n")[0]
    message = f"{case.id}: raised {type(error).__name__}: {first_line}"
    return Check(case.id, "error", ok=False, message=message)


def insignificant(case: Case, draw: int = 0) -> str | None:
    """Why the case cannot be judged: a tolerance of 1 would let every gradient pass."""
    if case.scenario.operator == "solve":
        return None
    worst = max((float(np.max(tolerance(case, name, draw))) for name in condition(case, draw)), default=0.0)
    return f"no significant digit: the tolerance is {worst:.2g}" if worst >= 1 else None


def tolerance(case: Case, name: str, draw: int = 0) -> np.ndarray:
    """C u κ depth of an output of the case, a relative error; shape (b,) where each instance has a κ of its own."""
    asked = case.scenario
    growth = condition(case, draw).get(name, 1.0) * asked.family.depth_of(asked.size)
    return np.asarray(TOLERANCE_FACTOR * UNIT_ROUNDOFF[asked.dtype] * growth)


def condition(case: Case, draw: int = 0) -> Mapping[str, Any]:
    """κ of the outputs of a case: its variant's own, else its family's."""
    return _condition(case.scenario, case.variant.condition or case.scenario.family.condition, draw)


@lru_cache(maxsize=4)
def _condition(scenario: Scenario, rule: Condition, draw: int) -> Mapping[str, Any]:
    return rule(scenario.size, draw_numbers(scenario, draw), partial(_evaluate, scenario))


@lru_cache(maxsize=2)
def reference(scenario: Scenario, draw: int = 0) -> Mapping[str, np.ndarray]:
    """The exact outputs of a scenario by name: the family's own reference, else its baseline in float64."""
    exact = _evaluate(scenario, draw_numbers(scenario, draw))
    return {name: np.asarray(value, dtype=np.float64) for name, value in exact.items()}


def _evaluate(scenario: Scenario, numbers: Numbers) -> Mapping[str, Any]:
    own = scenario.family.reference.get(scenario.operator)
    return own(numbers) if own else _baseline_in_float64(scenario, numbers)


def _baseline_in_float64(scenario: Scenario, numbers: Numbers) -> Mapping[str, Any]:
    family = scenario.family
    name = family.baseline_of(scenario.operator)
    rows = [variant for variant in family.variants if variant.name == name]
    if not rows:
        raise UsageError(f"family {family.name!r} has no variant of the name of its baseline {name!r}")
    asked = Scenario(family, scenario.operator, scenario.size, "float64", "cpu")
    case = Case(asked, rows[0])
    outputs = name_outputs(case, prepare(case, to_inputs(asked, numbers))())
    # Autograd's None is a gradient of zero.
    return {
        name: np.zeros(np.shape(numbers[name])) if output is None else to_array(output)
        for name, output in outputs.items()
    }


def to_array(output: Any) -> np.ndarray:
    """A tensor, an array or a number as a float64 array."""
    if isinstance(output, torch.Tensor):
        output = output.detach().cpu()
    return np.asarray(output, dtype=np.float64)


def _judge(case: Case, name: str, output: Any, draw: int) -> Outcome:
    expected, _ = case.variant.expected.get(name, ("agree", ""))
    exact = reference(case.scenario, draw)[name]
    if output is None:
        # Even where it is declared, a None for a gradient that is not zero is wrong by all of it.
        return Outcome("none", expected, 1.0, 0.0) if exact.any() else Outcome("none", expected)
    family, numbers = case.scenario.family, draw_numbers(case.scenario, draw)
    actual = to_array(output)
    if actual.shape != exact.shape:
        return Outcome("error", expected)
    if not np.isfinite(actual).all():
        return Outcome("nan", expected)
    if name in family.symmetric:
        actual, exact = _symmetric_part(actual), _symmetric_part(exact)
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
    error = float(np.abs(actual).max()) / scale
    if error == 0:
        return Outcome("agree", expected, error, allowed)
    return Outcome("noise" if error <= allowed else "disagree", expected, error, allowed)


def _symmetric_part(matrix: np.ndarray) -> np.ndarray:
    return (matrix + np.swapaxes(matrix, -1, -2)) / 2


def wilson_interval(successes: int, trials: int, z: float = CONFIDENCE_Z) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (E. B. Wilson, JASA 22, 1927)."""
    rate, spread = successes / trials, z * z / trials
    centre = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


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
    if not np.isfinite(to_array(output)).all():
        return Outcome("nan")
    if not to_array(output).any():
        return Outcome("zero")
    if to_array(output).shape != np.shape(draw_numbers(case.scenario, draw)[case.scenario.family.primals[0]]):
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
        "error": "has another shape than the reference",
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
    return max((_quantise(outcome) for outcome in check.outputs.values()), default=ERROR_CODES["error"])


def _quantise(outcome: Outcome) -> int:
    if outcome.is_right and outcome.ok:
        return 0
    if outcome.status in ERROR_CODES:
        return ERROR_CODES[outcome.status]
    if not outcome.error or not outcome.tolerance or not math.isfinite(outcome.error):
        return LARGEST_EXCESS
    return min(LARGEST_EXCESS, max(1, math.ceil(math.log2(outcome.error) - math.log2(outcome.tolerance))))
