"""Smaller learning rate, worse answer: gradient descent on |x| + (x − 5)² from x = 10, whose minimum is at 4.5.

What to see: from the left each curve falls with the iteration error 5.5 (1 − 2η)^k, as the textbook says, and then
turns onto a line of slope −1 that no number of steps leaves: there the step 2η|e| is less than half an ulp of x, so
x − step rounds to x, and the error stays at ulp/(4η). Kahan's compensation carries what is rounded away, and moves that
line down by another factor u.

    python benches/experiments/smaller_step.py      writes smaller_step.png and smaller_step.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from figure import BLACK, GREY, LOOKS, new, parse, rounded, save, short, styled
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from gradrace.cli.common import track
from gradrace.environment import describe, pin_threads
from gradrace.families.gd_1d import closed_slope, compensated

NAME = "smaller_step"

START, MINIMUM = 10.0, 4.5
DTYPES = ("bfloat16", "float32", "float64")
UPDATES: dict[str, Callable[..., Tensor]] = {"plain": closed_slope, "compensated": compensated}

RATES = np.sort(np.outer(2.0 ** -np.arange(1, 18), (1, 1.5)).ravel())[:-1]
"""2⁻¹⁷ … ½: no dtype has to round them."""

STEPS, SMALL_STEPS = 20_000, 2_000

NOTES_RATE, NOTES_STEPS, NOTES_START = 0.05, 150, 0.0
"""The notes' own run, in float32."""


@dataclass(frozen=True)
class Ends:
    """|x_k − 4.5| by dtype and update, one for each of RATES, and where one more plain step would not move x."""

    steps: int
    errors: dict[str, dict[str, np.ndarray]]
    stalled: dict[str, np.ndarray]
    notes: float

    @property
    def iteration(self) -> np.ndarray:
        """The error without rounding."""
        return (START - MINIMUM) * (1 - 2 * RATES) ** self.steps

    def on_the_line(self, dtype: str) -> np.ndarray:
        """Where a plain descent has stalled beside the minimum, and below 8, so that an ulp of x is one of 4.5."""
        errors = self.errors[dtype]["plain"]
        return self.stalled[dtype] & (errors > 0) & (errors < 8 - MINIMUM)


def ulp(dtype: str) -> float:
    """The spacing of the numbers between 4 and 8."""
    return 4 * torch.finfo(getattr(torch, dtype)).eps


def line(dtype: str) -> np.ndarray:
    """Where a step of 2η|e| is half an ulp: ulp / (4η)."""
    return ulp(dtype) / (4 * RATES)


def compensated_line(dtype: str) -> np.ndarray:
    """The same of what is carried, which is a unit roundoff smaller than x; NaN below an ulp of x."""
    below = line(dtype) * torch.finfo(getattr(torch, dtype)).eps / 2
    return np.where(below >= ulp(dtype), below, np.nan)


def measure(steps: int) -> Ends:
    errors: dict[str, dict[str, np.ndarray]] = {dtype: {} for dtype in DTYPES}
    stalled = {}
    for dtype, update in track([(dtype, update) for dtype in DTYPES for update in UPDATES], "descents"):
        rates = torch.tensor(RATES, dtype=getattr(torch, dtype))
        x = UPDATES[update](torch.full_like(rates, START), "absolute", rates, steps)
        errors[dtype][update] = (x.double() - MINIMUM).abs().numpy()
        if update == "plain":
            stalled[dtype] = (closed_slope(x, "absolute", rates, 1) == x).numpy()
    return Ends(steps, errors, stalled, notes=_notes())


def _notes() -> float:
    end = closed_slope(torch.tensor([NOTES_START]), "absolute", NOTES_RATE, NOTES_STEPS)
    return abs(end.item() - MINIMUM)


def word(ends: Ends) -> str:
    on = ends.on_the_line("float32")
    worst, best = ends.errors["float32"]["plain"][on][[0, -1]]
    share = ends.errors["float32"]["plain"][on] / line("float32")[on]
    rates = RATES[on][[0, -1]]
    exact = RATES[ends.errors["float32"]["compensated"] == 0].min()
    return (
        f"After {ends.steps:,} steps in float32 a rate of {short(rates[0])} ends {worst / best:,.0f} times as far from "
        f"the minimum ({short(worst)}) as one of {short(rates[1])} ({short(best)}): all {on.sum()} rates from one to "
        f"the other have stalled, at {share.min():.2f} to {share.max():.2f} of ulp/(4η), where a further step rounds "
        f"to none; Kahan's compensation ends exactly at the minimum from a rate of {short(exact)} on, and float64 only "
        "moves the line."
    )


FLOOR = 2e-18
"""Where an error of exactly zero is drawn."""


@styled
def draw(ends: Ends) -> Figure:
    figure, axes = new(4.2)
    looks = dict(zip(DTYPES, (LOOKS[1], LOOKS[0], LOOKS[2]), strict=True))
    for i, (dtype, look) in enumerate(looks.items()):
        for update, fill, style in (("plain", "full", "-"), ("compensated", "none", "--")):
            errors = ends.errors[dtype][update]
            shown = np.where(errors > 0, errors, FLOOR * 4.0**i)
            axes.plot(
                RATES, shown, color=look.color, marker=look.marker, linestyle=style, linewidth=0.8, fillstyle=fill
            )
        for law in (np.minimum(line(dtype), START - MINIMUM), compensated_line(dtype)):
            axes.plot(RATES, law, color=look.color, linewidth=5, alpha=0.25, zorder=0)
    axes.plot(RATES, ends.iteration, color=GREY, linestyle=":", linewidth=2, zorder=0)
    axes.plot([NOTES_RATE], [ends.notes], marker="*", markersize=11, color=BLACK, linestyle="")
    axes.axhspan(FLOOR / 3, FLOOR * 50, color="#EEEEEE", zorder=-1)
    axes.text(RATES[0], FLOOR * 4, "exactly 4.5", va="center", style="italic")
    for dtype, look in looks.items():
        place = {"color": look.color, "weight": "bold", "rotation": -8, "rotation_mode": "anchor"}
        axes.text(0.006, 6 * ulp(dtype) / (4 * 0.006), f"{dtype}: ulp / (4η)", **place)
    axes.legend(handles=_handles(), loc="center left", bbox_to_anchor=(0.0, 0.52))
    axes.set(
        title=f"Distance from the minimum after {ends.steps:,} steps",
        xscale="log",
        yscale="log",
        ylim=(FLOOR / 3, 300),
        xlabel="learning rate η",
        ylabel="|x − 4.5|",
    )
    return figure


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color=BLACK, marker="o", linestyle="-", linewidth=0.8, label="x − η f′(x)"),
        Line2D([], [], color=BLACK, marker="o", linestyle="--", linewidth=0.8, fillstyle="none", label="compensated"),
        Line2D([], [], color=GREY, linestyle=":", linewidth=2, label="5.5 (1 − 2η)ᵏ, no rounding"),
        Line2D([], [], color=GREY, linewidth=5, alpha=0.4, label="where a step rounds to none"),
        Line2D([], [], color=BLACK, marker="*", markersize=11, linestyle="", label="the notes' run, float32"),
    ]


def as_json(ends: Ends) -> dict[str, Any]:
    return {
        "steps": ends.steps,
        "rates": rounded(RATES, 12),
        "iteration_error": rounded(ends.iteration),
        "errors": {
            dtype: {update: rounded(found) for update, found in of.items()} for dtype, of in ends.errors.items()
        },
        "stalled": {dtype: found.tolist() for dtype, found in ends.stalled.items()},
        "ulp_over_4_eta": {dtype: rounded(line(dtype)) for dtype in DTYPES},
        "notes": {"rate": NOTES_RATE, "steps": NOTES_STEPS, "error": ends.notes},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    ends = measure(SMALL_STEPS if options.small else STEPS)
    save(draw(ends), NAME, word(ends), as_json(ends), options, describe())


if __name__ == "__main__":
    main()
