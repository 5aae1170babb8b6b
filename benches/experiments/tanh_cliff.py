"""The cliff of tanh′: what a derivative loses that is computed from the rounded tanh x.

What to see: 1 − t² and its relatives, torch.tanh by autograd among them, climb the line u e^(2x)/4, a decade in 1.15,
and at x = ½ ln(4/u), 9.01 in float32 and 19.06 in float64, the error is 100 %: from there on the derivative is 0. The
formulations that start from x stay at a few roundings all the way.

    python benches/experiments/tanh_cliff.py      writes tanh_cliff.png and tanh_cliff.json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from figure import BLACK, GREY, LOOKS, new, parse, rounded, save, short, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradrace.cases import Case, Scenario
from gradrace.declare import Variant, size
from gradrace.environment import describe, pin_threads
from gradrace.families.tanh_tail import reference, tanh_tail
from gradrace.inputs import to_inputs
from gradrace.operators import name_outputs, prepare

NAME = "tanh_cliff"

REACH = {"float32": 11, "float64": 22}
"""How far out each dtype is looked at: somewhat beyond its cliff."""

BINS = 44
POINTS, SMALL_POINTS = 4000, 200
"""In each bin."""


@dataclass(frozen=True)
class Cliff:
    """Of one dtype. centres (BINS,). errors: the largest relative error in each bin, (BINS,), by formulation.
    gone: the x from which on a formulation answers 0, None where it does not; lost: those that the family declares
    as losing their digits.
    """

    dtype: str
    centres: np.ndarray
    errors: Mapping[str, np.ndarray]
    gone: Mapping[str, float | None]
    lost: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        return tuple(name for name in self.errors if name not in self.lost)

    @property
    def unit(self) -> float:
        return float(torch.finfo(getattr(torch, self.dtype)).eps) / 2

    @property
    def law(self) -> np.ndarray:
        """u e^(2x) / 4, at most 1."""
        return np.minimum(self.unit * np.exp(2 * self.centres) / 4, 1)

    @property
    def edge(self) -> float:
        """Where the law reaches 1: ½ ln(4/u)."""
        return float(np.log(4 / self.unit) / 2)


def measure(dtype: str, points: int) -> Cliff:
    x = np.linspace(0, REACH[dtype], BINS * points + 1)[1:].astype(dtype).astype(np.float64)
    numbers = {"x": x, "cotangent": np.ones_like(x)}
    exact = reference(numbers)["x"]
    scenario = Scenario(tanh_tail, "vjp", size(b=x.size, to=REACH[dtype]), dtype, "cpu")
    errors, gone = {}, {}
    for variant in tanh_tail.variants:
        derivative = _derivative(scenario, variant, numbers)
        errors[variant.name] = (np.abs(derivative - exact) / exact).reshape(BINS, points).max(axis=1).astype(float)
        alive = np.flatnonzero(derivative)
        gone[variant.name] = float(x[alive[-1] + 1]) if alive[-1] + 1 < x.size else None
    lost = tuple(variant.name for variant in tanh_tail.variants if variant.expected)
    return Cliff(dtype, x.reshape(BINS, points).mean(axis=1), errors, gone, lost)


def _derivative(scenario: Scenario, variant: Variant, numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """tanh′(x) as the formulation answers it, by way of the same code that is raced."""
    case = Case(scenario, variant)
    found = name_outputs(case, prepare(case, to_inputs(scenario, numbers))())["x"]
    return found.double().numpy().astype(np.longdouble)


def word(cliffs: Sequence[Cliff]) -> str:
    half = " and ".join(f"{_at(cliff, 0.01):.1f} in {cliff.dtype}" for cliff in cliffs)
    gone = " and ".join(f"{cliff.gone['tanh']:.2f}" for cliff in cliffs)
    left = " and ".join(short(4 * np.exp(-2 * cliff.gone["tanh"])) for cliff in cliffs)
    worst = [max(cliff.kept, key=lambda name, cliff=cliff: cliff.errors[name].max()) for cliff in cliffs]
    kept = " and ".join(
        f"{cliff.errors[name].max() / cliff.unit:.0f} u ({name})" for cliff, name in zip(cliffs, worst, strict=True)
    )
    return (
        f"By autograd torch.tanh has lost all but two digits of its derivative at x = {half}, and answers 0 from "
        f"{gone} on, an error of 100 % where the derivative is still {left}; the {len(cliffs[0].kept)} formulations "
        f"that start from x are wrong by at most {kept}."
    )


def _at(cliff: Cliff, error: float) -> float:
    """The first x, by bins, whose error is this large."""
    return float(cliff.centres[np.argmax(cliff.errors["tanh"] >= error)])


@styled
def draw(cliffs: Sequence[Cliff]) -> Figure:
    figure, axes = new(3.6, columns=2, sharey=True)
    for each, cliff in zip(axes, cliffs, strict=True):
        _draw_cliff(each, cliff)
    axes[0].set_ylabel("largest relative error of tanh′")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


def _draw_cliff(axes: Axes, cliff: Cliff) -> None:
    axes.plot(cliff.centres, cliff.law, color=GREY, linewidth=5, alpha=0.35, label="u e²ˣ / 4, at most 1")
    for names, looks, fill in ((cliff.lost, LOOKS, "full"), (cliff.kept, LOOKS[::-1], "none")):
        for i, (name, look) in enumerate(zip(names, looks, strict=False)):
            axes.plot(
                cliff.centres,
                cliff.errors[name],
                color=look.color,
                linestyle=look.linestyle if fill == "full" else "-",
                linewidth=0.8,
                marker=look.marker,
                # In turns: formulations that lose the same lie on one line.
                markevery=(i, len(names)),
                fillstyle=fill,
                label=name,
            )
    axes.axhline(1, color=BLACK, linewidth=0.8)
    axes.axhline(cliff.unit, color=BLACK, linewidth=0.8, linestyle=":")
    axes.text(0.99 * REACH[cliff.dtype], cliff.unit / 1.5, "u", ha="right", va="top")
    axes.text(0.98 * REACH[cliff.dtype], 40 * cliff.unit, "from x", ha="right", weight="bold")
    axes.text(0.03 * REACH[cliff.dtype], 0.04, "from the rounded t", weight="bold")
    axes.plot([cliff.edge], [1], color=BLACK, marker="|", markersize=8)
    axes.annotate(
        f"100 % at {cliff.gone['tanh']:.2f}",
        (cliff.edge, 1),
        (0, 8),
        textcoords="offset points",
        ha="center",
    )
    axes.set(title=cliff.dtype, yscale="log", ylim=(1e-17, 300), xlim=(0, REACH[cliff.dtype]), xlabel="x")


def as_json(cliffs: Sequence[Cliff]) -> dict[str, Any]:
    return {
        cliff.dtype: {
            "x": rounded(cliff.centres),
            "law": rounded(cliff.law, 4),
            "errors": {name: rounded(errors, 4) for name, errors in cliff.errors.items()},
            "zero_from": cliff.gone,
        }
        for cliff in cliffs
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    cliffs = [measure(dtype, SMALL_POINTS if options.small else POINTS) for dtype in REACH]
    save(draw(cliffs), NAME, word(cliffs), as_json(cliffs), options, describe())


if __name__ == "__main__":
    main()
