"""The figures of the homework sheets and notes that the families come from, drawn anew.

- soft threshold: f_T and its derivative by autograd, at the 201 points of Data 598 homework 5. What to see: between
  −T and T the derivative is 0, elsewhere 1; at ±T itself it is what the formulation makes of it.
- two faces: figures 1 and 2 of CSE 547 assignment 1, the same function written twice. What to see: the derivatives
  part at 0 alone, even where the function is differentiable there.
- Beale: the function of ECE 046211 homework 1 as a surface, Adam's path on its contours, and its values along the
  path. What to see: Adam overshoots before it creeps along the valley to (3, ½).
- descent: the gradient descents of the numerical optimization notes, in float32. What to see: a step above 2/f″ swings
  for ever, a small one ends in the minimum next to its start, and none of the five reaches the global one.

    python benches/experiments/source_figures.py      writes source_*.png and source_*.json, four of each
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figure import BLACK, BLUE, GREEN, GREY, LOOKS, VERMILLION, new, parse, rounded, save, short, styled
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from gradrace.environment import describe, pin_threads
from gradrace.families import beale, gd_1d, soft_threshold, two_faces

Write = Callable[[Figure, str, str, dict[str, Any]], None]
"""Saves a figure: itself, its name, the sentence below it, and its data."""


def slopes(function: Callable[[Tensor], Tensor], x: np.ndarray) -> np.ndarray:
    """The derivative of an elementwise function by autograd."""
    leaf = torch.tensor(x, requires_grad=True)
    return torch.autograd.grad(function(leaf).sum(), leaf)[0].numpy()


# ---- soft threshold ----

THRESHOLDS = {
    "branches": soft_threshold.branching,
    "sign · relu": soft_threshold.sign_relu,
    "sign · clamp": soft_threshold.sign_clamp,
    "sign · maximum": soft_threshold.sign_maximum,
    "softshrink": soft_threshold.softshrink,
}
"""Formulations whose derivatives at ±T are drawn."""


def soft_threshold_figure(write: Write) -> None:
    T = soft_threshold.THRESHOLD
    y = np.arange(-10, 10.1, 0.1)
    value = soft_threshold.branching(torch.from_numpy(y), T).numpy()
    slope = slopes(partial(soft_threshold.branching, T=T), y)
    at_kinks = {name: slopes(partial(f, T=T), np.array([-T, T])) for name, f in THRESHOLDS.items()}
    answers = sorted({float(answer) for each in at_kinks.values() for answer in each})
    sentence = (
        f"Soft threshold, T = {T:g}: autograd's derivative is 0 at {int((slope == 0).sum())} of the {len(y)} points "
        f"and 1 at the other {int((slope == 1).sum())}; at y = ±T itself, where no derivative exists, "
        f"{len(at_kinks)} formulations of the same function answer {' or '.join(f'{answer:g}' for answer in answers)}."
    )
    data = {
        "T": T,
        "y": rounded(y),
        "value": rounded(value),
        "slope": rounded(slope),
        "at_kinks": {name: rounded(each) for name, each in at_kinks.items()},
    }
    write(draw_soft_threshold(y, value, slope, at_kinks), "source_soft_threshold", sentence, data)


@styled
def draw_soft_threshold(y: np.ndarray, value: np.ndarray, slope: np.ndarray, at_kinks: dict[str, Any]) -> Figure:
    figure, (left, right) = new(2.7, columns=2)
    left.plot(y, value, ".", color=BLUE, markersize=3)
    left.plot(y, y, color=GREY, linewidth=0.6, linestyle="--")
    left.annotate("y", (9, 9), (-9, 1), textcoords="offset points", color=GREY)
    left.set(title="Soft threshold f(y)", xlabel="y")
    right.plot(y, slope, ".", color=BLUE, markersize=3)
    T = soft_threshold.THRESHOLD
    for (name, answers), look in zip(at_kinks.items(), LOOKS, strict=False):
        right.plot([-T, T], answers, look.marker, color=look.color, markerfacecolor="none", markersize=6, label=name)
    right.set(title="Its derivative by autograd; open: at ±T", xlabel="y", ylim=(-0.1, 1.1))
    right.legend(loc="center left", bbox_to_anchor=(-0.01, 0.5), handlelength=1, fontsize=7)
    for axes in (left, right):
        axes.set_xticks([-10, -5, -T, 0, T, 5, 10], ["−10", "−5", "−T", "0", "T", "5", "10"])
    return figure


# ---- two faces of a function ----

FACES = (
    ("2x + sign x", "sign factored out", two_faces.sign_factored_out),
    ("2x + sign x", "2x in the arm of 0", two_faces.where_else_2x),
    ("2x", "2x · sign x · sign x", two_faces.sign_squared),
    ("2x", "2x", two_faces.twice),
)
"""Each function with two formulations: figure 1 and figure 2 of the sheet."""


@dataclass(frozen=True)
class Face:
    """Values and slopes of a formulation beside 0, and both at 0."""

    function: str
    formulation: str
    x: np.ndarray
    value: np.ndarray
    slope: np.ndarray
    value_at_zero: float
    slope_at_zero: float


def face(function: str, formulation: str, f: Callable[[Tensor], Tensor]) -> Face:
    x = np.delete(np.linspace(-2, 2, 81), 40)
    zero = np.zeros(1)
    value = f(torch.from_numpy(x)).numpy()
    return Face(
        *(function, formulation, x, value, slopes(f, x)),
        value_at_zero=float(f(torch.from_numpy(zero))),
        slope_at_zero=float(slopes(f, zero)[0]),
    )


def two_faces_figure(write: Write) -> None:
    faces = [face(*each) for each in FACES]
    jump, smooth = faces[:2], faces[2:]
    sentence = (
        f"The same function written twice, and its derivative by autograd: at x = 0 the formulations of 2x + sign x "
        f"answer {jump[0].slope_at_zero:g} and {jump[1].slope_at_zero:g}, where it jumps and has none, those of 2x "
        f"{smooth[0].slope_at_zero:g} and {smooth[1].slope_at_zero:g}, where 2 is right; everywhere else they agree."
    )
    data = {
        "faces": [
            {"function": each.function, "formulation": each.formulation, "slope_at_zero": each.slope_at_zero}
            | {"slope_elsewhere": sorted(set(each.slope.tolist()))}
            for each in faces
        ]
    }
    write(draw_two_faces(faces), "source_two_faces", sentence, data)


@styled
def draw_two_faces(faces: Sequence[Face]) -> Figure:
    figure, axes = new(4.4, rows=2, columns=2, sharex=True, sharey=True)
    for each, panel in zip(faces, axes.flat, strict=True):
        for side in (each.x < 0, each.x > 0):
            panel.plot(each.x[side], each.value[side], color=BLUE, label="function" if side[0] else None)
            panel.plot(
                *(each.x[side], each.slope[side]),
                color=VERMILLION,
                linestyle="--",
                label="derivative by autograd" if side[0] else None,
            )
        panel.plot(0, each.value_at_zero, "o", color=BLUE, markerfacecolor="white", zorder=5, label="function at 0")
        panel.plot(0, each.slope_at_zero, "X", color=VERMILLION, markersize=9, label="derivative at 0")
        panel.annotate(
            f"{each.slope_at_zero:g}", (0, each.slope_at_zero), (6, 5), textcoords="offset points", color=VERMILLION
        )
        panel.set_title(f"{each.function}: {each.formulation}" if each.function != each.formulation else "2x as it is")
    for panel in axes[1]:
        panel.set_xlabel("x")
    axes[1, 1].legend(loc="lower right")
    return figure


# ---- Beale's function ----


@dataclass(frozen=True)
class AdamPath:
    """The points of the homework's Adam (k, 2), and f at each."""

    points: np.ndarray
    values: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        return np.hypot(*(self.points - beale.SOLUTION).T)


def adam_path() -> AdamPath:
    """Adam takes a gradient at each point where it stands."""
    with patch.object(beale, "gradient_of_squares", wraps=beale.gradient_of_squares) as asked:
        found = beale.adam(torch.tensor([beale.HOMEWORK_START], dtype=torch.float64))
    points = torch.cat([*(call.args[0] for call in asked.call_args_list), found.x])
    return AdamPath(points.numpy(), beale.literal_powers(points).numpy())


def mesh(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and Beale's function over [−4.5, 4.5]²."""
    x, y = np.meshgrid(*[np.linspace(-4.5, 4.5, side)] * 2)
    return x, y, beale.literal_powers(torch.from_numpy(np.stack((x, y), -1))).numpy()


def beale_figure(write: Write) -> None:
    path = adam_path()
    sentence = (
        f"From (0.7, 1.4) with a step size of 0.1 Adam overshoots to y = {path.points[:, 1].min():.2f}, then creeps "
        f"along the valley; after {len(path.values) - 1} steps, when one is shorter than 1e-7, Beale's function is "
        f"down to {short(path.values[-1])}, and the minimum (3, 0.5) still {short(path.distances[-1])} away."
    )
    data = {"steps": len(path.values) - 1, "end": rounded(path.points[-1], 9), "value": rounded(path.values)[-1]}
    data |= {"path": [rounded(point) for point in path.points[:: max(1, len(path.points) // 100)]]}
    write(draw_beale(path), "source_beale", sentence, data)


@styled
def draw_beale(path: AdamPath) -> Figure:
    figure, (left, middle, right) = new(2.9, columns=3, width_ratios=(1.1, 1, 1))
    place = left.get_subplotspec()
    left.remove()
    draw_surface(figure.add_subplot(place, projection="3d"))
    draw_contours(middle, path)
    draw_values(right, path)
    return figure


def draw_surface(axes: Any) -> None:
    x, y, f = mesh(61)
    heights = np.log10(np.maximum(f, 1e-2))
    axes.plot_surface(x, y, heights, cmap="cividis", rstride=1, cstride=1, linewidth=0, antialiased=False)
    axes.plot(*beale.SOLUTION, -2, "*", color=VERMILLION, markersize=10, zorder=10)
    axes.set(xticks=(-4, 0, 4), yticks=(-4, 0, 4), zticks=(-2, 0, 2, 4), xlabel="x", ylabel="y")
    axes.set_zticklabels(["0.01", "1", "100", "10⁴"])
    axes.view_init(elev=48, azim=-128)
    axes.set_box_aspect(None, zoom=1.15)
    axes.set_title("Beale's function", y=1.07)


def draw_contours(axes: Axes, path: AdamPath) -> None:
    x, y, f = mesh(180)
    axes.contour(x, y, f, levels=np.logspace(-0.5, 5, 35), norm=LogNorm(), cmap="cividis", linewidths=0.7)
    outline = [withStroke(linewidth=3.5, foreground="white")]
    axes.plot(*path.points.T, color=VERMILLION, linewidth=1.6, path_effects=outline)
    axes.plot(*beale.HOMEWORK_START, "o", color=VERMILLION)
    axes.plot(*beale.SOLUTION, "*", color=VERMILLION, markeredgecolor=BLACK, markersize=11)
    axes.set(xlabel="x", ylabel="y", aspect="equal", xticks=(-4, -2, 0, 2, 4))
    axes.grid(visible=False)
    axes.set_title("Adam's path")


def draw_values(axes: Axes, path: AdamPath) -> None:
    steps = np.arange(len(path.values))
    axes.semilogy(steps, path.values, color=VERMILLION, label="f")
    axes.semilogy(steps, path.distances, color=BLUE, linestyle="--", label="distance from (3, ½)")
    axes.set(xlabel="step")
    axes.set_title("Along the path")
    axes.legend(loc="lower left")


# ---- gradient descent of one variable ----

RUNS = (
    *(("absolute", 0.05, start) for start in (0.0, 10.0)),
    ("cosine", 0.05, -3.5),
    *(("cosine", 0.001, start) for start in (-3.5, -2.5, -2.0, -1.0, -0.5)),
)
"""The notes' runs: function, step size, start."""

FORMULAS = {"absolute": "|x| + (x − 5)²", "cosine": "x cos 4x + 2 |x|"}
ITERATIONS = 150


@dataclass(frozen=True)
class Orbit:
    """The points of one descent (k + 1,)."""

    f: str
    step: float
    start: float
    points: np.ndarray

    @property
    def jump(self) -> float:
        """How far the last two points lie apart."""
        return float(abs(self.points[-1] - self.points[-2]))

    @property
    def ending(self) -> str:
        """Where it ends, in words: two points where it swings."""
        swings = self.jump > 0.1
        ends = self.points[-2:] if swings else self.points[-1:]
        digits = 6 if self.f == "absolute" else 2 if swings else 3
        return "x → " + ", ".join(f"{end:.{digits}f}" for end in ends).replace("-", "−")


def orbit(f: str, step: float, start: float) -> Orbit:
    """In float32, as in the notes, one step of the notes' own loop at a time."""
    x, points = torch.tensor([start]), [start]
    for _ in range(ITERATIONS):
        x = gd_1d.backward(x, f, step, 1)
        points.append(float(x))
    return Orbit(f, step, start, np.array(points))


def at(f: str, x: np.ndarray) -> np.ndarray:
    return gd_1d.OBJECTIVES[f].function(torch.from_numpy(x)).numpy()


def descent_figure(write: Write) -> None:
    orbits = [orbit(*run) for run in RUNS]
    convex, swinging, last = orbits[:2], orbits[2], orbits[-1]
    height = at("cosine", last.points[-1:])[0]
    sentence = (
        f"After {ITERATIONS} float32 steps on |x| + (x − 5)² x is {convex[0].points[-1]:.6f} or "
        f"{convex[1].points[-1]:.6f}, short of its minimum 4.5 from either side; on x cos 4x + 2|x| it swings by "
        f"{swinging.jump:.2f} with η = {swinging.step:g}, and with {last.step:g} each start stays in its own valley: "
        f"the nearest to the global minimum, which is 0 at 0, ends at x = {last.points[-1]:.3f} with f = {height:.3f}."
    )
    data = {
        "orbits": [
            {"f": FORMULAS[each.f], "step": each.step, "start": each.start, "final": rounded(each.points[-2:], 8)}
            for each in orbits
        ]
    }
    write(draw_descent(orbits), "source_descent", sentence, data)


@styled
def draw_descent(orbits: Sequence[Orbit]) -> Figure:
    figure, axes = new(4.0, rows=2, columns=4)
    for each, panel in zip(orbits, axes.flat, strict=True):
        x = np.linspace(*((0, 10) if each.f == "absolute" else (-5, 5)), 401)
        panel.plot(x, at(each.f, x), color=GREY, linewidth=0.9)
        panel.plot(each.points, at(each.f, each.points), "o-", color=BLUE, markersize=2.5, linewidth=0.8)
        panel.plot(each.start, at(each.f, each.points[:1]), "o", color=VERMILLION, markersize=5)
        panel.plot(each.points[-1], at(each.f, each.points[-1:]), "D", color=GREEN, markersize=5)
        panel.set_title(f"η = {each.step:g}, from {each.start:g}".replace("-", "−"), fontweight="normal")
        panel.annotate(each.ending, (0.5, 1), xycoords="axes fraction", ha="center", va="top", color=GREEN)
    axes[0, 0].set_ylabel(FORMULAS["absolute"])
    axes[0, 2].set_ylabel(FORMULAS["cosine"])
    axes[1, 0].set_ylabel(FORMULAS["cosine"])
    start, end = axes[0, 0].lines[2:4]
    axes[0, 0].legend([start, end], ["start", "end"], loc="center", handlelength=1)
    return figure


def writer(options: argparse.Namespace) -> Write:
    def write(figure: Figure, name: str, sentence: str, data: dict[str, Any]) -> None:
        save(figure, name, sentence, data, options, describe(), script="source_figures")

    return write


def main(arguments: Sequence[str] | None = None) -> None:
    """These are small as they are: --small draws the same."""
    options = parse(__doc__, arguments)
    pin_threads(1)
    for draw in (soft_threshold_figure, two_faces_figure, beale_figure, descent_figure):
        draw(writer(options))


if __name__ == "__main__":
    main()
