"""Phase retrieval, n = 20, m = 100: a thousand instances by batched Levenberg–Marquardt and by SciPy's.

SciPy runs twice: with the very stop rule of the batched solver, and with its own default tolerances.
"""

from __future__ import annotations

import numpy as np
import torch
from measure import interleave, ratio, save
from scipy.optimize import least_squares
from scipy.stats import binomtest

from gradrace.cases import find_case
from gradrace.families import phase_retrieval
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import prepare_case
from gradrace.verify import solved

STARTS = ("random", "spectral")
SOLVERS = ("newton", "gauss_newton", "levenberg_marquardt", "scipy_levenberg_marquardt")


def find(solver, start):
    return find_case(f"phase_retrieval/{solver}/solve/n20_m100_b1000_{start}/float64/cpu")


def scipy_defaults(scenario):
    """scipy.optimize.least_squares(method="lm") with its own tolerances, 1e-8 each, and the analytic Jacobian."""
    inputs = to_inputs(scenario, draw_numbers(scenario))
    instances = list(zip(*(tensor.numpy() for tensor in (*inputs.primals, *inputs.constants)), strict=True))

    def thunk():
        found = [
            least_squares(
                lambda x, A=A, y=y: (A @ x) ** 2 - y, x0, jac=lambda x, A=A: 2 * (A @ x)[:, None] * A, method="lm"
            ).x
            for x0, A, y in instances
        ]
        return torch.from_numpy(np.stack(found))

    return thunk


def main():
    ratios, successes = [], {}
    for start in STARTS:
        cases = {solver: find(solver, start) for solver in SOLVERS}
        thunks = {solver: prepare_case(case).thunk for solver, case in cases.items()}
        scenario = cases["newton"].scenario
        thunks["scipy_defaults"] = scipy_defaults(scenario)
        outputs = {solver: thunk() for solver, thunk in thunks.items()}
        reference = cases["newton"]
        found = {solver: solved(reference, output) for solver, output in outputs.items()}
        distances = {
            solver: phase_retrieval.distance(draw_numbers(scenario), output.numpy())
            for solver, output in outputs.items()
        }
        ours = found["levenberg_marquardt"]
        successes[start] = {
            solver: {
                "rate": float(hits.mean()),
                "interval": [round(float(v), 4) for v in binomtest(int(hits.sum()), hits.size).proportion_ci(0.95)],
                "only_batched_lm_solved": int((ours & ~hits).sum()),
                "only_this_solved": int((hits & ~ours).sum()),
                "worst_distance_where_solved": float(distances[solver][hits].max()),
            }
            for solver, hits in found.items()
        }
        samples = interleave(thunks, rounds=9)
        ratios += [
            ratio(f"{start}: {solver} / batched Levenberg–Marquardt", samples, solver, "levenberg_marquardt")
            for solver in ("scipy_levenberg_marquardt", "scipy_defaults", "newton", "gauss_newton")
        ]
    save("retrieval_race", ratios, instances=1000, successes=successes)


if __name__ == "__main__":
    main()
