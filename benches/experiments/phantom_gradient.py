"""Phantom gradient: autograd's answer for a gradient that is exactly zero, and how it grows.

    φ = ‖x − M⁻¹ f_T((A⁻¹A)ⁿ M x)‖²,    ∂φ/∂A = 0

What to see: on the left the loop's answer for A over the true gradient for x: straight lines of slope 1 in the number
of steps n, one for each condition number of A; where a line crosses 1 the phantom is as large as what is real. On the
right the same answers divided by n u cond(A) and by the size of the terms that cancel in one step: one level over all
decades, until n u cond(A) reaches 1, where (A⁻¹A)ⁿ x itself has no digit left.

    python benches/experiments/phantom_gradient.py      writes phantom_gradient.png and phantom_gradient.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from figure import BLACK, GREY, LOOKS, Look, new, parse, power_of_ten, rounded, save, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gradrace.cli.common import track
from gradrace.environment import describe, pin_threads
from gradrace.families import sandwich
from gradrace.families.sandwich import matrix_of_condition, noise_of_A, objective, reference_gradient, wasteful

NAME = "phantom_gradient"

D, CONDITION_OF_M = 5, 10.0
CONDITIONS = tuple(10.0**k for k in range(1, 7))
DTYPES = ("float32", "float64")
STEPS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
SMALL_STEPS = STEPS[:6]
DRAWS = 9

VALID = 0.1
"""The law is looked at where n u cond(A) is at most this: one digit is left."""


@dataclass(frozen=True)
class Phantoms:
    """‖∂φ/∂A‖ of the loop, shape (dtypes, steps, conditions, draws), beside what there is to compare it with:
    ‖∂φ/∂x‖ of the closed form and the size of the terms that cancel in a step, (conditions, draws) each.
    """

    steps: np.ndarray
    phantom: np.ndarray
    gradient_x: np.ndarray
    terms: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """n u cond(A), the share of a number that n steps cost it: (dtypes, steps, conditions)."""
        units = np.array([torch.finfo(getattr(torch, dtype)).eps / 2 for dtype in DTYPES])
        return units[:, None, None] * self.steps[:, None] * np.array(CONDITIONS)

    @property
    def ratio(self) -> np.ndarray:
        """Over the true gradient for x, the median of the draws: (dtypes, steps, conditions)."""
        return np.median(self.phantom / self.gradient_x, axis=-1)

    @property
    def constant(self) -> np.ndarray:
        """Over n u cond(A) times the terms, the median of the draws: (dtypes, steps, conditions)."""
        return np.median(self.phantom / self.terms, axis=-1) / self.lost

    @property
    def valid(self) -> np.ndarray:
        return self.lost <= VALID

    @property
    def slopes(self) -> np.ndarray:
        """The exponent of n, fitted from ten steps on: (dtypes, conditions), NaN where fewer than four n are valid."""
        return np.array([[self._slope(i, j) for j in range(len(CONDITIONS))] for i in range(len(DTYPES))])

    def _slope(self, i: int, j: int) -> float:
        used = self.valid[i, :, j] & (self.steps >= 10)
        if used.sum() < 4:
            return float("nan")
        return 1 + float(np.polyfit(np.log(self.steps[used]), np.log(self.constant[i, used, j]), 1)[0])

    @property
    def crossings(self) -> dict[float, int]:
        """By condition number, the first n at which the float32 phantom is as large as the true gradient for x."""
        over = self.ratio[DTYPES.index("float32")] >= 1
        return {
            condition: int(self.steps[over[:, j].argmax()])
            for j, condition in enumerate(CONDITIONS)
            if over[:, j].any()
        }


def problem(condition: float, draw: int) -> dict[str, Any]:
    """x and M are those of the draw, and so are the eigenvectors of A, whose condition alone varies."""
    numbers = sandwich.draw({"d": D, "n": 1, "cond": CONDITION_OF_M}, np.random.default_rng(draw))
    return {**numbers, "A": matrix_of_condition(D, condition, np.random.default_rng((draw, 1)))}


def measure(steps: Sequence[int]) -> Phantoms:
    problems = [problem(condition, draw) for condition in CONDITIONS for draw in range(DRAWS)]
    runs = [(dtype, n) for dtype in DTYPES for n in steps]
    found = [phantoms(problems, dtype, n) for dtype, n in track(runs, "steps of the loop")]
    shape = (len(CONDITIONS), DRAWS)
    return Phantoms(
        steps=np.array(steps),
        phantom=np.reshape(found, (len(DTYPES), len(steps), *shape)),
        gradient_x=np.reshape(
            [np.linalg.norm(reference_gradient(each)["x"].astype(float)) for each in problems], shape
        ),
        terms=np.reshape([noise_of_A(each)["A"] for each in problems], shape),
    )


def phantoms(problems: Sequence[dict[str, Any]], dtype: str, n: int) -> np.ndarray:
    """‖∂φ/∂A‖ of each problem, by autograd through the loop of all of them at once."""
    x, A, M = (torch.tensor(np.stack([each[name] for each in problems]), dtype=getattr(torch, dtype)) for name in "xAM")
    A.requires_grad_()
    g = torch.func.vmap(wasteful, in_dims=(0, 0, 0, None, None))(x, A, M, sandwich.THRESHOLD, n)
    (gradient,) = torch.autograd.grad(torch.func.vmap(objective)(g, x).sum(), A)
    return torch.linalg.matrix_norm(gradient.double()).numpy()


def word(found: Phantoms) -> str:
    constants, slopes = found.constant[found.valid], found.slopes[np.isfinite(found.slopes)]
    lost = found.lost[found.valid]
    crossings = " and ".join(f"n = {n:,} for cond(A) = {power_of_ten(np.log10(c))}" for c, n in found.crossings.items())
    return (
        f"∂φ/∂A is exactly zero, but the loop answers a noise that grows as n to the power {np.median(slopes):.2f} and "
        f"is {np.median(constants):.2g} · n u cond(A) times the terms that cancel (medians between "
        f"{constants.min():.2g} and {constants.max():.2g} over {np.log10(lost.max() / lost.min()):.0f} decades)"
        + (f"; in float32 it has overtaken the true ∂φ/∂x by {crossings}." if crossings else ".")
    )


@styled
def draw(found: Phantoms) -> Figure:
    figure, (left, right) = new(3.7, columns=2)
    _draw_growth(left, found)
    _draw_collapse(right, found)
    handles = [_handle(look, power_of_ten(np.log10(c))) for look, c in zip(LOOKS, CONDITIONS, strict=True)]
    title = "cond(A); full marks are float64, hollow ones float32"
    figure.legend(handles=handles, title=title, loc="outside upper center", ncols=len(CONDITIONS))
    return figure


def _handle(look: Look, label: str) -> Line2D:
    return Line2D([], [], color=look.color, marker=look.marker, linestyle="-", label=label)


def _plot(axes: Axes, xs: np.ndarray, ys: np.ndarray, look: Look, line: str, *, is_filled: bool) -> None:
    fill = "full" if is_filled else "none"
    axes.plot(xs, ys, color=look.color, marker=look.marker, linestyle=line, fillstyle=fill)


def _draw_growth(axes: Axes, found: Phantoms) -> None:
    for i, dtype in enumerate(DTYPES):
        for j, look in enumerate(LOOKS):
            _plot(axes, found.steps, found.ratio[i, :, j], look, "-" if i else "--", is_filled=i > 0)
        last = found.steps[-1], found.ratio[i, -1, 0]
        axes.annotate(dtype, last, (0, -12), textcoords="offset points", ha="right", va="top", weight="bold")
    axes.axhline(1, color=BLACK, linewidth=1)
    axes.text(1, 1.6, "as large as the true ∂φ/∂x", va="bottom")
    axes.set(
        title="Slope 1 in the number of steps",
        xscale="log",
        yscale="log",
        ylim=(1e-16, 1e3),
        xlabel="steps n",
        ylabel="‖∂φ/∂A‖ / ‖∂φ/∂x‖",
    )


def _draw_collapse(axes: Axes, found: Phantoms) -> None:
    for i in range(len(DTYPES)):
        for j, look in enumerate(LOOKS):
            _plot(axes, found.lost[i, :, j], found.constant[i, :, j], look, "", is_filled=i > 0)
    middle = np.median(found.constant[found.valid])
    axes.axhline(middle, color=BLACK, linewidth=1)
    axes.text(found.lost.min(), 0.012, f"line: median {middle:.2g}")
    axes.axvline(1, color=GREY, linewidth=1, linestyle=":")
    axes.text(0.6, 2, "no digit left", rotation=90, ha="right", va="center", color=GREY)
    axes.set(
        title="Divided by the law: one level",
        xscale="log",
        yscale="log",
        ylim=(1e-3, 1e1),
        xlabel="n u cond(A)",
        ylabel="‖∂φ/∂A‖ / (n u cond(A) · cancelling terms)",
    )


def as_json(found: Phantoms) -> dict[str, Any]:
    """The medians, and what the sentence is made of."""

    def rows(array: np.ndarray) -> dict[str, Any]:
        return {
            dtype: {f"cond {condition:.0e}": rounded(array[i, :, j], 4) for j, condition in enumerate(CONDITIONS)}
            for i, dtype in enumerate(DTYPES)
        }

    return {
        "steps": found.steps.tolist(),
        "draws": DRAWS,
        "slopes": {dtype: rounded(found.slopes[i], 4) for i, dtype in enumerate(DTYPES)},
        "crossings": {f"cond {condition:.0e}": n for condition, n in found.crossings.items()},
        "over_gradient_x": rows(found.ratio),
        "over_law": rows(found.constant),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    found = measure(SMALL_STEPS if options.small else STEPS)
    save(draw(found), NAME, word(found), as_json(found), options, describe())


if __name__ == "__main__":
    main()
