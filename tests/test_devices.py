"""What a machine without a GPU can show of the CUDA path.

A tensor on the device `meta` has a shape and no data, and refuses to meet a tensor of another device: a kernel that
makes a tensor on the CPU by mistake fails here as it would on a GPU.
"""

from dataclasses import replace

import pytest
import torch

from gradrace.cases import Case, all_cases
from gradrace.clock import clock
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import name_outputs, prepare

CUDA = [case for case in all_cases() if case.scenario.device == "cuda" and case.scenario.dtype == "float64"]
DATA_DEPENDENT = ("compiled", "branching", "pseudo_inverse")
NO_META_KERNEL = ("qr_of_jacrev", "qr_of_jacfwd", "qr_closed_form", "lstsq", "optim_fused")
"""torch.linalg.lstsq has none, and torch.optim refuses fused=True there."""
COUNTING = ("sgd_moments/counted", "sgd_moments/closed_form")
"""How long bincount's answer is depends on the numbers."""
RUNNABLE = {
    case.id: case
    for case in CUDA
    if "cuda" not in case.variant.unsupported
    and not any(limit.exceeded_by(case.scenario.size) for limit in case.variant.limits)
    and case.scenario.operator != "solve"  # solvers look at their data to decide when to stop
    and case.variant.name not in (*DATA_DEPENDENT, *NO_META_KERNEL)
    and not case.id.startswith(COUNTING)
    and case.scenario.size.get("n") not in (10_000, 10_000_000)
}
ONE_SIZE = {(case.scenario.family, case.scenario.operator, case.variant): name for name, case in RUNNABLE.items()}
"""One size of each formulation and operator: the others say the same."""


def test_every_family_has_cuda_cases():
    assert {case.scenario.family.name for case in CUDA} == {case.scenario.family.name for case in all_cases()}


@pytest.mark.parametrize("case_id", ONE_SIZE.values())
def test_a_kernel_stays_on_the_device_of_its_inputs(case_id):
    case = RUNNABLE[case_id]
    scenario = replace(case.scenario, device="meta")
    inputs = to_inputs(scenario, draw_numbers(scenario))
    outputs = name_outputs(case, prepare(Case(scenario, case.variant), inputs)())
    assert {output.device.type for output in outputs.values() if output is not None} == {"meta"}


def test_the_clock_waits_for_the_device(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(True))
    clock()
    assert waited == [True]
