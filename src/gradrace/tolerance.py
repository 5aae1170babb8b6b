"""How far from the reference is right: error <= C u κ depth, computed for each output of a case.

The error is the largest difference to the reference over the largest entry of the reference (of each instance, where
the case is a batch); u is the unit roundoff of the dtype, κ the family's condition, depth its operation depth, and C
one constant for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np

from gradrace.cases import Case, Scenario
from gradrace.declare import Condition, Family, Numbers, Reference, Size
from gradrace.families.numerics import measure
from gradrace.inputs import draw_numbers
from gradrace.reference import evaluate, reference

TOLERANCE_FACTOR = 8.0
"""C: the one constant of all tolerances."""

UNIT_ROUNDOFF: Mapping[str, float] = {"float64": 2.0**-53, "float32": 2.0**-24}


def tolerance(case: Case, name: str, draw: int = 0) -> np.ndarray:
    """C u κ depth of an output of the case, a relative error; shape (b,) where each instance has a κ of its own."""
    asked = case.scenario
    growth = condition(case, draw).get(name, 1.0) * asked.family.depth_of(asked.size)
    return np.asarray(TOLERANCE_FACTOR * UNIT_ROUNDOFF[asked.dtype] * growth)


def condition(case: Case, draw: int = 0) -> Mapping[str, Any]:
    """κ of the outputs of a case: its variant's own, else its family's, else what moving all its inputs shows."""
    family = case.scenario.family
    return _condition(case.scenario, case.variant.condition or family.condition or _moving_inputs(family), draw)


@cache
def _moving_inputs(family: Family) -> Condition:
    def rule(size: Size, numbers: Numbers, reference: Reference) -> Mapping[str, Any]:
        inputs = (*family.primals, *family.constants)
        names = [name for name in inputs if getattr(numbers[name], "dtype", None) == np.float64]
        return measure(reference, numbers, tuple(names), size.get("b"))

    return rule


@lru_cache(maxsize=4)
def _condition(scenario: Scenario, rule: Condition, draw: int) -> Mapping[str, Any]:
    numbers = draw_numbers(scenario, draw)
    with scenario.family.owner.blamed("condition", rule):
        return rule(scenario.size, numbers, partial(evaluate, scenario))


INSIGNIFICANT = 0.01
"""A tolerance from here on lets a gradient pass that is wrong by percents, at 1 every gradient."""


def insignificant(case: Case, draw: int = 0) -> str | None:
    """Why the case cannot be judged: so much rounding error is due that a check of it could not fail."""
    if case.scenario.operator == "solve":
        return None
    # Of every output that will be judged: a rule may leave out those whose κ is 1.
    worst = max(float(np.max(tolerance(case, name, draw))) for name in reference(case.scenario, draw))
    return f"no two significant digits: the tolerance is {worst:.2g}" if worst >= INSIGNIFICANT else None
