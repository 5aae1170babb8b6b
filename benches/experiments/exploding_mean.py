"""The mean explodes, every path converges: SGD on ½ Σ h_n w², h = 1, 2, 3, one term drawn at random in each step.

What to see: on the left, at η = 0.95, E w² rises by theory, a straight line, and every one of the sampled paths falls,
the mean over them too: what carries E w² are paths so rare that no sample has any. On the right why: each of the three
kinds of convergence ends at a step size of its own, that of E w² first, then that of E w, then that of almost every
path; a sampled mean of w² falls short of the theory wherever rare paths carry it.

    python benches/experiments/exploding_mean.py      writes exploding_mean.png and exploding_mean.json
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from figure import BLACK, BLUE, GREEN, GREY, SKY, VERMILLION, new, parse, power_of_ten, rounded, save, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradrace.environment import describe, pin_threads
from gradrace.families.sgd_moments import (
    Steps,
    exponent,
    mean_factor,
    sample_log_ratios,
    second_moment_factor,
    thresholds,
)

NAME = "exploding_mean"

H, ETA, STEPS = (1, 2, 3), 0.95, 200
PATHS, SMALL_PATHS = 2000, 200
SEED = 0

ETAS = np.linspace(0.005, 1.5, 600)
SAMPLED = np.arange(0.1, 1.5, 0.1) + 0.02
"""Step sizes, away from the poles of q, at which a mean of w² is sampled."""

DECADE = math.log(10)


@dataclass(frozen=True)
class Explosion:
    """log10 of w² after t = 0 … STEPS steps: of E w², of the mean over the paths, and of the paths, (paths, t); and
    what a step multiplies by, as half a log10 of it, at ETAS; ends: the step sizes where each convergence ends.
    """

    theory: np.ndarray
    sampled: np.ndarray
    paths: np.ndarray
    rates: dict[str, np.ndarray]
    sampled_rates: np.ndarray
    ends: Steps

    @property
    def missed(self) -> float:
        """Decades between E w² and the mean over the paths, at the end."""
        return float(self.theory[-1] - self.sampled[-1])


def measure(paths: int) -> Explosion:
    rng = np.random.default_rng(SEED)
    increments = np.log(np.abs(1 - ETA * np.array(H)))[rng.integers(len(H), size=(paths, STEPS))]
    walked = 2 * np.pad(increments.cumsum(axis=1), ((0, 0), (1, 0))) / DECADE
    with np.errstate(divide="ignore"):
        rates = {
            "E w²": np.log10([second_moment_factor(eta, H) for eta in ETAS]) / 2,
            "E w": np.log10([abs(mean_factor(eta, H)) for eta in ETAS]),
            "almost every path": np.array([exponent(eta, H) for eta in ETAS]) / DECADE,
        }
    return Explosion(
        theory=np.arange(STEPS + 1) * math.log10(second_moment_factor(ETA, H)),
        sampled=_log10_mean(walked),
        paths=walked,
        rates=rates,
        sampled_rates=np.array([_sampled_rate(eta, paths, rng) for eta in SAMPLED]),
        ends=thresholds(H),
    )


def _log10_mean(log10: np.ndarray) -> np.ndarray:
    """log10 of the mean over the first axis of what these are the logarithms of."""
    return (np.logaddexp.reduce(log10 * DECADE, axis=0) - math.log(len(log10))) / DECADE


def _sampled_rate(eta: float, paths: int, rng: np.random.Generator) -> float:
    """Half of log10 of the mean of w² over the paths, a step."""
    log10 = 2 * sample_log_ratios(eta, H, STEPS, paths, rng) / DECADE
    return float(_log10_mean(log10)) / (2 * STEPS)


def paths_needed() -> float:
    """log10 of how many paths must be drawn until their mean is near E w².

    The paths that carry it draw h_n with a probability in proportion to (1 − η h_n)² instead of evenly; an even draw
    looks so for T steps once in e^(T D), D the divergence of Kullback and Leibler between the two.
    Source: S. Chatterjee and P. Diaconis, Ann. Appl. Probab. 28 (2018), on the sample size of importance sampling.
    """
    squares = np.square(1 - ETA * np.array(H))
    tilted = squares / squares.sum()
    return float(STEPS * (tilted @ np.log(tilted * len(H))) / DECADE)


def word(found: Explosion) -> str:
    return (
        f"At η = {ETA} E w² is {power_of_ten(found.theory[-1])} after {STEPS} steps, but w² of the largest of "
        f"{len(found.paths):,} sampled paths has fallen to {power_of_ten(found.paths[:, -1].max())} and their mean "
        f"misses E w² by {found.missed:.0f} decades, since one path in some {power_of_ten(paths_needed())} carries it: "
        f"E w² converges for η below {found.ends.mean_square:.3f}, E w below {found.ends.mean:.3f}, almost every path "
        f"below {found.ends.almost_sure:.3f}."
    )


LOWEST, HIGHEST = -0.8, 0.65
ZERO = -LOWEST / (HIGHEST - LOWEST)

LOOK = {"E w²": (VERMILLION, "-"), "E w": (GREEN, "-."), "almost every path": (BLUE, "--")}


@styled
def draw(found: Explosion) -> Figure:
    figure, (left, right) = new(3.5, columns=2)
    _draw_paths(left, found)
    _draw_phases(right, found)
    return figure


def _draw_paths(axes: Axes, found: Explosion) -> None:
    t = np.arange(STEPS + 1)
    low, high = found.paths.min(axis=0), found.paths.max(axis=0)
    axes.fill_between(t, low, high, color=SKY, alpha=0.35, linewidth=0, label=f"all {len(found.paths):,} paths")
    axes.plot(t, found.paths[:12].T, color=GREY, linewidth=0.5)
    axes.plot(t, 2 * t * exponent(ETA, H) / DECADE, color=BLUE, linestyle="--", label="2 q t, almost every path")
    axes.plot(t, found.sampled, color=BLACK, linewidth=1.8, label="mean over the paths")
    axes.plot(t, found.theory, color=VERMILLION, linewidth=1.8, label="E w², by theory")
    x, low, high = STEPS, found.sampled[-1], found.theory[-1]
    axes.annotate("", (x, low), (x, high), arrowprops={"arrowstyle": "<->", "linewidth": 0.8})
    axes.text(x - 3, (low + high) / 2, f"{found.missed:.0f}\ndecades", ha="right", va="center")
    axes.set(title=f"η = {ETA}", xlabel="steps t", ylabel="log₁₀ w²")
    axes.legend(loc="lower left")


def _draw_phases(axes: Axes, found: Explosion) -> None:
    ends = dict(zip(LOOK, (found.ends.mean_square, found.ends.mean, found.ends.almost_sure), strict=True))
    for name, (color, style) in LOOK.items():
        axes.plot(ETAS, found.rates[name], color=color, linestyle=style, label=f"{name}: η < {ends[name]:.3f}")
        axes.axvline(ends[name], color=color, linestyle=style, linewidth=0.8, ymax=ZERO)
    axes.plot(SAMPLED, found.sampled_rates, color=BLACK, marker="o", linestyle="", label="E w², sampled")
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.axvline(ETA, color=GREY, linestyle=":", linewidth=1, ymax=ZERO, label=f"η = {ETA}, as on the left")
    axes.set(
        title="Below 0 it converges",
        xlim=(0, ETAS[-1]),
        ylim=(LOWEST, HIGHEST),
        xlabel="step size η",
        ylabel="log₁₀ of the growth of |w| in a step",
    )
    axes.legend(loc="upper left", borderaxespad=0)


def as_json(found: Explosion) -> dict[str, Any]:
    """Every tenth of the times and of the step sizes; of the paths their extremes."""
    return {
        "h": H,
        "eta": ETA,
        "seed": SEED,
        "paths": len(found.paths),
        "thresholds": dict(zip(Steps._fields, rounded(found.ends), strict=True)),
        "missed_decades": rounded([found.missed])[0],
        "log10_paths_needed": rounded([paths_needed()])[0],
        "t": list(range(0, STEPS + 1, 10)),
        "log10_E_w2": rounded(found.theory[::10]),
        "log10_mean_of_paths": rounded(found.sampled[::10]),
        "log10_lowest_path": rounded(found.paths.min(axis=0)[::10]),
        "log10_highest_path": rounded(found.paths.max(axis=0)[::10]),
        "etas": rounded(ETAS[::10]),
        "log10_a_step": {name: rounded(rates[::10]) for name, rates in found.rates.items()},
        "sampled_etas": rounded(SAMPLED),
        "sampled_log10_a_step": rounded(found.sampled_rates),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    found = measure(SMALL_PATHS if options.small else PATHS)
    save(draw(found), NAME, word(found), as_json(found), options, describe())


if __name__ == "__main__":
    main()
