"""Forward against reverse mode: the m at which the Jacobian R^n → R^m costs the same, for eight values of n.

Theory: n forward passes cost n c_f and m pullbacks m c_r, so the loops cross at m = n c_f / c_r, with c_f and c_r
measured on single passes. The primal run and the assembling of the matrix shift it, and vmap turns the passes into
matrix products with a floor of dispatch, which the theory of the loops does not describe.
"""

from __future__ import annotations

from functools import partial

import matplotlib
import numpy as np
import torch
from measure import RESULTS, interleave, save
from rich.console import Console
from rich.table import Table
from torch.autograd import forward_ad

from gradrace.families import jacobian_modes
from gradrace.families.jacobian_modes import two_layers

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NS = (2, 4, 8, 16, 32, 64, 128, 256)
PAIRS = {"loops": ("loop_of_forward_ad", "loop_of_pullbacks"), "vmap": ("jacfwd", "jacrev")}
FACTORS = (0.125, 0.25, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0, 8.0)
BATCHED_MS = (8, 16, 32, 45, 64, 91, 128, 181, 256, 362, 512)
ROUNDS = 15
RESAMPLES = 2000


def weights(n, m, rng):
    hidden = jacobian_modes.HIDDEN
    arrays = (
        rng.standard_normal(n),
        rng.standard_normal((hidden, n)) / np.sqrt(n),
        rng.standard_normal((m, hidden)) / np.sqrt(hidden),
    )
    return tuple(torch.from_numpy(array) for array in arrays)


def log_ratios(pair, n, ms, rng):
    """log(forward time / reverse time) for each m, shape (len(ms), rounds)."""
    rows = []
    for m in ms:
        inputs = weights(n, m, rng)
        functions = [getattr(jacobian_modes, name) for name in PAIRS[pair]]
        forward, reverse = functions[0](*inputs), functions[1](*inputs)
        assert torch.allclose(forward, reverse, rtol=1e-10, atol=1e-12)
        samples = interleave({"f": partial(functions[0], *inputs), "r": partial(functions[1], *inputs)}, ROUNDS, 1e-3)
        rows.append(np.log(samples["f"] / samples["r"]))
    return np.array(rows)


def crossing(ms, values):
    """Where the line through (log m, log ratio) falls through zero: the m of equal time; None outside the range."""
    slope, intercept = np.polyfit(np.log(ms), values, 1)
    if slope >= 0:
        return None
    return float(np.exp(-intercept / slope))


def nearest(ms, medians):
    """The indices of the four m around the change of sign: a straight line describes only these."""
    centre = int(np.argmin(np.abs(medians)))
    low = max(0, min(centre - 2, len(ms) - 4))
    return np.arange(low, min(low + 4, len(ms)))


def crossover(pair, n, rng):
    """The m of equal time with a bootstrap interval over the rounds."""
    # Batched passes cross where their floor of dispatch is overcome, which does not scale with n.
    ms = list(BATCHED_MS) if pair == "vmap" else sorted({max(1, round(n * factor)) for factor in FACTORS})
    rows = log_ratios(pair, n, ms, rng)
    medians = np.median(rows, axis=1)
    if not (medians.max() > 0 > medians.min()):
        side = "reverse" if medians.min() > 0 else "forward"
        return {"n": n, "m": None, "why": f"{side} mode is faster at every m from {ms[0]} to {ms[-1]}"}
    used = nearest(ms, medians)
    resampled = [
        crossing(np.array(ms)[used], np.median(rows[used][:, rng.integers(0, ROUNDS, ROUNDS)], axis=1))
        for _ in range(RESAMPLES)
    ]
    found = [value for value in resampled if value is not None]
    low, high = np.quantile(found, [0.025, 0.975])
    middle = crossing(np.array(ms)[used], medians[used])
    if middle is None:
        return {"n": n, "m": None, "why": "the ratio does not fall with m around its change of sign"}
    return {"n": n, "m": round(middle, 1), "low": round(float(low), 1), "high": round(float(high), 1)}


def theory(n, rng):
    """m = n c_f / c_r from one dual pass and one pullback at m = n, a graph being there already."""
    x, W1, W2 = weights(n, n, rng)
    tangent, cotangent = torch.randn(n, dtype=x.dtype), torch.randn(n, dtype=x.dtype)
    leaf = x.clone().requires_grad_()
    output = two_layers(leaf, W1, W2)

    def one_pass():
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(two_layers(forward_ad.make_dual(x, tangent), W1, W2)).tangent

    def one_pullback():
        return torch.autograd.grad(output, leaf, cotangent, retain_graph=True)

    samples = interleave({"f": one_pass, "r": one_pullback}, 41, 1e-3)
    return round(n * float(np.median(samples["f"] / samples["r"])), 1)


def draw(rows):
    figure, axes = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    for pair, marker, label in (
        ("loops", "o", "loops of single passes"),
        ("vmap", "s", "jacfwd against jacrev (vmap)"),
    ):
        found = [row for row in rows[pair] if row["m"] is not None]
        n, m = np.array([row["n"] for row in found]), np.array([row["m"] for row in found])
        errors = [m - [row["low"] for row in found], [row["high"] for row in found] - m]
        axes.errorbar(n, m, yerr=np.abs(errors), marker=marker, capsize=3, linestyle="-", label=label)
    axes.plot(NS, [row["theory_m"] for row in rows["loops"]], "k--", label="n c_f / c_r of single passes")
    axes.plot(NS, NS, color="0.7", label="m = n")
    axes.set(xscale="log", yscale="log", xlabel="inputs n", ylabel="outputs m at which the modes take equal time")
    axes.set_title("Forward mode wins above its line, reverse mode below")
    axes.legend()
    figure.savefig(RESULTS / "mode_crossover.png", dpi=120)


def main():
    rng = np.random.default_rng(0)
    rows = {pair: [crossover(pair, n, rng) for n in NS] for pair in PAIRS}
    for row in rows["loops"]:
        row["theory_m"] = theory(row["n"], rng)
    for pair, found in rows.items():
        table = Table(*found[0], title=f"m of equal time, {pair}: {' against '.join(PAIRS[pair])}")
        for row in found:
            table.add_row(*(str(value) for value in row.values()))
        Console(width=120).print(table)
    save("mode_crossover", [], crossovers=rows, hidden=jacobian_modes.HIDDEN)
    draw(rows)


if __name__ == "__main__":
    main()
