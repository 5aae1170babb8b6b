"""The sandwich's gradient: what the loop costs a step, and how near the best formulation is to the bare algebra."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from measure import interleave, ratio, save

from gradrace.cases import find_case
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import prepare_case
from gradrace.verify import verify

STEPS = (100, 300, 1000, 3000, 10_000)


def case(variant, word):
    return find_case(f"sandwich/{variant}/value_and_gradient/{word}/float64/cpu")


def right(variant, word):
    """The thunk of a case whose gradient has been checked."""
    found = case(variant, word)
    check = verify(found)
    assert check.ok, check.message
    return prepare_case(found).thunk


def bare_torch(word):
    """torch's LU factorisation and two solves, no graph, no gradient."""
    inputs = to_inputs(case("adjoint", word).scenario, draw_numbers(case("adjoint", word).scenario))
    x, _, M = inputs.primals
    columns = x.unsqueeze(-1)

    def thunk():
        LU, pivots = torch.linalg.lu_factor(M)
        torch.linalg.lu_solve(LU, pivots, columns)
        return torch.linalg.lu_solve(LU, pivots, columns, adjoint=True)

    return thunk


def bare_scipy(word):
    """One LU factorisation by LAPACK through SciPy and two solves, inputs not checked."""
    numbers = draw_numbers(case("adjoint", word).scenario)
    M, x = numbers["M"], numbers["x"]

    def thunk():
        factors = scipy.linalg.lu_factor(M, check_finite=False)
        scipy.linalg.lu_solve(factors, x, check_finite=False)
        return scipy.linalg.lu_solve(factors, x, trans=1, check_finite=False)

    return thunk


def wasteful_at(n):
    """The wasteful value and gradient after n steps, on the numbers of the d = 5 scenario."""
    found = case("wasteful", "d5_n10000_cond100")
    inputs = to_inputs(found.scenario, draw_numbers(found.scenario))
    leaves = [primal.requires_grad_() for primal in inputs.primals]

    def thunk():
        g = found.variant.function(*leaves, inputs.constants[0], n)
        phi = found.scenario.family.objective(g, *leaves)
        return torch.autograd.grad(phi, leaves)

    return thunk


def main():
    small, large = "d5_n10000_cond100", "d1000_n1_cond100"
    efficient = ("adjoint_in_numpy", "adjoint_cholesky", "adjoint", "custom_function", "efficient_solve")
    names = {name: right(name, small) for name in efficient}
    fast = interleave({**names, "bare": bare_torch(small)}, rounds=200)
    slow = interleave({"adjoint": names["adjoint"], "wasteful": right("wasteful", small)}, rounds=11)
    big = interleave({**{name: right(name, large) for name in efficient}, "bare": bare_scipy(large)}, rounds=40)
    steps = interleave({str(n): wasteful_at(n) for n in STEPS}, rounds=9)
    medians = np.array([np.median(steps[str(n)]) for n in STEPS])
    exponent = np.polyfit(np.log(STEPS), np.log(medians), 1)[0]
    per_step = np.array([np.polyfit(STEPS, [steps[str(n)][i] for n in STEPS], 1)[0] for i in range(9)])
    ratios = [
        *(ratio(f"d=5: {name} / torch LU + 2 solves without a graph", fast, name, "bare") for name in efficient),
        ratio("d=5, n=10000: wasteful / adjoint", slow, "wasteful", "adjoint"),
        *(ratio(f"d=1000: {name} / scipy LU + 2 solves", big, name, "bare") for name in efficient),
    ]
    save(
        "sandwich_ratios",
        ratios,
        wasteful_exponent_of_n=round(float(exponent), 3),
        wasteful_microseconds_per_step={
            "median": round(float(np.median(per_step)) * 1e6, 1),
            "least": round(float(per_step.min()) * 1e6, 1),
            "most": round(float(per_step.max()) * 1e6, 1),
            "adjoint_whole_call": round(float(np.median(slow["adjoint"])) * 1e6, 1),
        },
    )


if __name__ == "__main__":
    main()
