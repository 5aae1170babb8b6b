"""What the results of a bench say of a case beside its time, so that they can be read without its declaration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradrace.cases import Case
from gradrace.operators import Prepared
from gradrace.verify import Check


def described(case: Case, checked: Check) -> dict[str, Any]:
    """What a reader of the results needs to know of a case without having its declaration."""
    asked = case.scenario
    return {
        "case": case.id,
        "scenario": asked.id,
        "variant": case.variant.name,
        "baseline": asked.family.baseline_of(asked.operator),
        "source": case.variant.source,
        "summary": asked.family.summary,
        "status": checked.status,
        "right": checked.is_right,
        "outputs": checked.as_json()["primals"],
        "kinks": bool(asked.family.kinks),
        "laws": [
            {"axis": law.axis, "at": law.at.word, "exponents": dict(law.exponents)}
            for law in asked.family.growth_of(case.variant)
            if law.operator == asked.operator
        ],
    }


def compulsory_bytes(prepared: Prepared, outputs: Mapping[str, Any]) -> int:
    """What any formulation must move: each input read once, and each output written once."""
    inputs = prepared.inputs
    tensors = (*inputs.primals, *inputs.constants, *inputs.tangents, inputs.cotangent)
    read = sum(tensor.nbytes for tensor in tensors if hasattr(tensor, "nbytes"))
    item = 4 if prepared.case.scenario.dtype == "float32" else 8
    return read + sum(item * output.size for output in outputs.values() if output is not None)
