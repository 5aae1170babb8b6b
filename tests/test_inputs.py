"""All variants of a scenario see the same numbers, in every run, dtype and on every device."""

import subprocess
import sys

import numpy as np
import torch

from conftest import another_hash_seed
from gradrace.cases import find_case
from gradrace.inputs import draw_numbers, seed_of, to_inputs

CASE = "sandwich/{}/value_and_gradient/d5_n1_cond100/{}/cpu"


def test_variants_share_their_numbers():
    one, other = (draw_numbers(find_case(CASE.format(name, "float64")).scenario) for name in ("wasteful", "adjoint"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_another_process_draws_the_same_numbers():
    script = (
        "from gradrace.cases import find_case; from gradrace.inputs import draw_numbers;"
        f"print(draw_numbers(find_case({CASE.format('adjoint', 'float64')!r}).scenario)['x'].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=another_hash_seed()
    )
    assert done.stdout == f"{draw_numbers(find_case(CASE.format('adjoint', 'float64')).scenario)['x'].tolist()}\n"


def test_float32_numbers_are_the_rounded_float64_numbers():
    wide = draw_numbers(find_case(CASE.format("adjoint", "float64")).scenario)
    narrow = draw_numbers(find_case(CASE.format("adjoint", "float32")).scenario)
    assert np.array_equal(narrow["M"], wide["M"].astype(np.float32).astype(np.float64))
    assert not np.array_equal(narrow["M"], wide["M"])


def test_draws_differ():
    scenario = find_case(CASE.format("adjoint", "float64")).scenario
    assert seed_of(scenario, 0) != seed_of(scenario, 1)
    assert not np.array_equal(draw_numbers(scenario, 0)["x"], draw_numbers(scenario, 1)["x"])


def test_tensors_have_the_dtype_and_scalars_stay_plain():
    scenario = find_case(CASE.format("adjoint", "float32")).scenario
    inputs = to_inputs(scenario, draw_numbers(scenario))
    assert {primal.dtype for primal in inputs.primals} == {torch.float32}
    assert inputs.constants == (3.14, 1)
