"""What is exact: the reference outputs of a scenario, by the family's own route or by its baseline in float64."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from gradrace.cases import Case, Scenario
from gradrace.declare import Numbers
from gradrace.errors import UsageError
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import name_outputs, prepare


# Two scenarios at a time: consumers walk through the cases scenario by scenario, and large arrays must go.
@lru_cache(maxsize=2)
def reference(scenario: Scenario, draw: int = 0) -> Mapping[str, np.ndarray]:
    """The exact outputs of a scenario by name: the family's own reference, else its baseline in float64.

    Both are evaluated on the numbers as rounded to the scenario's dtype, so that the rounding of the inputs is
    nobody's error.
    """
    exact = evaluate(scenario, draw_numbers(scenario, draw))
    return {name: np.asarray(value, dtype=np.float64) for name, value in exact.items()}


def evaluate(scenario: Scenario, numbers: Numbers) -> Mapping[str, Any]:
    """The exact outputs of a scenario for other numbers than its own."""
    family, operator = scenario.family, scenario.operator
    return family.exact(operator, numbers) if operator in family.reference else _baseline_in_float64(scenario, numbers)


def _baseline_in_float64(scenario: Scenario, numbers: Numbers) -> Mapping[str, Any]:
    family = scenario.family
    name = family.baseline_of(scenario.operator)
    rows = [variant for variant in family.variants if variant.name == name]
    if not rows:
        raise UsageError(f"family {family.name!r} has no variant of the name of its baseline {name!r}")
    asked = Scenario(family, scenario.operator, scenario.size, "float64", "cpu")
    case = Case(asked, rows[0])
    with family.owner.blamed("baseline", rows[0].function):
        outputs = name_outputs(case, prepare(case, to_inputs(asked, numbers))())
    # Autograd's None is a gradient of zero.
    return {
        name: np.zeros(np.shape(numbers[name])) if output is None else to_array(output)
        for name, output in outputs.items()
    }


def to_array(output: Any) -> np.ndarray:
    """A tensor, an array or a number as a float64 array. Raises TypeError for complex numbers."""
    if isinstance(output, torch.Tensor):
        output = output.detach().cpu()
    if np.iscomplexobj(output):
        raise TypeError("the output is complex, and everything here is real")
    return np.asarray(output, dtype=np.float64)
