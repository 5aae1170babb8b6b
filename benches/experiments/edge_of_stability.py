"""Two homework problems where the step decides: an edge of stability on Iris, and a race in which Newton loses.

What to see: on top the best factors U V of rank 2 of the Iris table, by gradient descent. A loss that seems to have
settled may stand at a saddle, near the best approximation of a lower rank; a larger step leaves it sooner and, below,
comes nearer to the limit of Eckart and Young. It can do so because descent by η stays only where the sharpness, the
largest eigenvalue of the Hessian, is below 2/η: a large step is thrown to flat minima first. No minimum is flatter
than 4 σ₁, so beyond η = 1/(2 σ₁) none is left for a descent to end in.

On the lower right Beale's function from the homework's start. Newton walks into a saddle in a few steps; damped too
little, Levenberg–Marquardt runs down a valley that has no end; damped more, or slow like Adam, one arrives.

    python benches/experiments/edge_of_stability.py      writes edge_of_stability.png and edge_of_stability.json
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from figure import BLACK, BLUE, GREEN, GREY, LOOKS, VERMILLION, Look, new, parse, rounded, save, short, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gradrace.cli.common import track
from gradrace.environment import describe, pin_threads
from gradrace.families import beale, endpoints, lowrank
from gradrace.families.descent import Descent
from gradrace.families.iris import centred_iris

NAME = "edge_of_stability"

RANK = 2
SHARPEST = 430
ARRIVED = 1e-6
"""A descent has arrived that ends less than this above the limit."""

SHOWN = {0.001: LOOKS[3], 0.005: LOOKS[2], 0.01: LOOKS[0], 0.015: LOOKS[1], 0.02: Look(BLACK, "v", "-")}
"""Step sizes whose descents are drawn; 0.01 is the homework's."""


@dataclass(frozen=True)
class Scope:
    """Epochs, epochs at which the sharpness is taken, starts, and the step sizes at which all of these are tried."""

    epochs: int
    points: int
    starts: int
    steps: Sequence[float]


STEPS = (0.001, 0.002, 0.003, 0.005, 0.007, 0.0085, 0.01, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 0.017, 0.019, 0.021)
FULL = Scope(1000, 40, 20, STEPS)
SMALL = Scope(500, 5, 5, (0.005, 0.015, 0.021))


# ---- low rank: descent on the Iris table ----


@dataclass(frozen=True)
class Table:
    """The centred table A (150, 4), the least losses of rank 0, 1 and 2, and its largest singular value σ₁.

    noise: the rounding of the loss, u ‖A‖².
    """

    A: Tensor
    rank0: float
    rank1: float
    limit: float
    sigma1: float
    noise: float


def table() -> Table:
    A = centred_iris()
    least = [lowrank.eckart_young(A, rank) for rank in (0, 1, RANK)]
    sigma1, unit = float(np.linalg.norm(A, 2)), float(np.finfo(float).eps) / 2
    return Table(torch.from_numpy(A), *least, sigma1, noise=unit * least[0])


def starts(count: int) -> Tensor:
    """Factors uniform in [0, 1), as in the homework: (count, 154, 2)."""
    return torch.from_numpy(np.random.default_rng(0).random((count, 154, RANK)))


@dataclass(frozen=True)
class Path:
    """One descent: the loss of each epoch, and at some of them the sharpness."""

    step: float
    loss: list[float]
    epochs: list[int]
    sharpness: list[float]


def sharpness(W: Tensor, A: Tensor) -> float:
    """The largest eigenvalue of the Hessian of the loss; infinite where an entry is not finite."""
    hessian = torch.func.hessian(lowrank.mse_loss)(W, A).reshape(W.numel(), W.numel())
    return float(torch.linalg.eigvalsh(hessian)[-1]) if hessian.isfinite().all() else math.inf


def follow(step: float, W: Tensor, A: Tensor, scope: Scope) -> Path:
    seen = sorted({round(scope.epochs ** (i / (scope.points - 1))) - 1 for i in range(scope.points)})
    loss, found = [], []
    for epoch in range(scope.epochs + 1):
        value, (gradient,) = lowrank.closed_form(W, A)
        loss.append(float(value))
        if epoch in seen:
            found.append(sharpness(W, A))
        W = W - step * gradient
    return Path(step, loss, seen, found)


def gaps(step: float, W: Tensor, here: Table, epochs: int) -> list[float]:
    """How far above the limit each start ends, but for the rounding of the loss: infinite where it has diverged."""
    differentiate = torch.func.vmap(lowrank.closed_form, in_dims=(0, None))
    for _ in range(epochs):
        _, (gradient,) = differentiate(W, here.A)
        W = W - step * gradient
    value, _ = differentiate(W, here.A)
    return (value - here.limit).clamp(min=here.noise).nan_to_num(nan=math.inf).sort().values.tolist()


# ---- Beale's function: where solvers walk ----


LITTLE = "L.–M., damping 0.001"
RACE: dict[str, tuple[Callable[[Tensor], Descent], Look]] = {
    "Newton": (beale.newton, Look(BLUE, "o", "-")),
    LITTLE: (partial(beale.levenberg_marquardt, damped=1e-3), Look(VERMILLION, "s", "--")),
    "L.–M., damping 1": (partial(beale.levenberg_marquardt, damped=1.0), Look(GREEN, "^", "-.")),
    "Adam": (beale.adam, Look(BLACK, "", "-")),
}
"""Solvers, and how they are drawn; L.–M. is Levenberg–Marquardt."""


@dataclass(frozen=True)
class Walk:
    """The points at which a solver has stood, the steps it took, and the kind of the point where it ended."""

    solver: str
    points: list[tuple[float, float]]
    iterations: int
    kind: str


def walk(solver: str) -> Walk:
    """Each of these solvers linearises f at every point it tries; Levenberg–Marquardt goes back from higher ones."""
    solve, _ = RACE[solver]
    with patch.object(beale, "linearise", wraps=beale.linearise) as asked:
        found = solve(torch.tensor([beale.HOMEWORK_START], dtype=torch.float64))
    tried = [tuple(call.args[0][0].tolist()) for call in asked.call_args_list]
    points = tried if not solver.startswith("L.–M.") else lower_than_all_before(tried)
    (kind,) = endpoints.classify(beale.LANDSCAPE, found.x)
    return Walk(solver, [*points, tuple(found.x[0].tolist())], int(found.iterations), kind)


def lower_than_all_before(tried: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    kept, least = [], math.inf
    for point in tried:
        value, _ = beale.at_point(*point)
        if value < least:
            kept.append(point)
            least = value
    return kept


# ---- the figure ----


def collect(scope: Scope) -> dict[str, Any]:
    here, W = table(), starts(scope.starts)
    return {
        "table": here,
        "epochs": scope.epochs,
        "paths": [follow(step, W[0], here.A, scope) for step in track(list(SHOWN), "descending")],
        "gaps": {step: gaps(step, W, here, scope.epochs) for step in track(scope.steps, "sweeping")},
        "walks": [walk(solver) for solver in RACE],
        "ends": beale.race(torch.tensor([beale.HOMEWORK_START], dtype=torch.float64)),
    }


def word(data: dict[str, Any]) -> str:
    here: Table = data["table"]
    medians = {step: float(np.median(found)) for step, found in data["gaps"].items()}
    slowest, best = min(medians), min(medians, key=medians.__getitem__)
    edge = 1 / (2 * here.sigma1)
    beyond = [gap for step, found in data["gaps"].items() if step > edge for gap in found]
    walks = {each.solver: each for each in data["walks"]}
    newton, lost = walks["Newton"], walks[LITTLE]
    nearest = "at it to rounding" if medians[best] <= here.noise else f"{short(medians[best])} above it"
    return (
        f"After {data['epochs']} epochs on Iris descent is {short(medians[slowest])} above the Eckart–Young limit "
        f"{here.limit:.4f} by steps of {slowest:g} and {nearest} by steps of {best:g} (medians); by steps beyond "
        f"1/(2 σ₁) = {edge:.4f}, {sum(gap < ARRIVED for gap in beyond)} of {len(beyond)} starts arrive. On Beale's "
        f"function Newton ends at a {newton.kind} after {newton.iterations} steps, Levenberg–Marquardt with little "
        f"damping at {lost.kind}, Adam at the {walks['Adam'].kind} after {walks['Adam'].iterations}."
    )


@styled
def draw_all(data: dict[str, Any]) -> Figure:
    figure, ((top, right), (below, last)) = new(6.2, rows=2, columns=2)
    draw_losses(top, data)
    draw_sharpness(right, data)
    draw_gaps(below, data)
    draw_walks(last, data["walks"])
    return figure


def mark(axes: Axes, level: float, text: str, **look: Any) -> None:
    """A thin line across, and its name on the right of the axes."""
    axes.axhline(level, linewidth=0.7, zorder=1, **look)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "verticalalignment": "center"}
    axes.annotate(text, (1, level), (3, 0), color=look["color"], fontsize=7, **place)


def draw_losses(axes: Axes, data: dict[str, Any]) -> None:
    here: Table = data["table"]
    for path in data["paths"]:
        look = SHOWN[path.step]
        epochs, loss = np.arange(1, len(path.loss) + 1), np.array(path.loss)
        axes.plot(epochs, loss, color=look.color, linestyle=look.linestyle, label=f"η = {path.step:g}")
    axes.set(xscale="log", yscale="log", ylim=(10, 1e5), xlabel="epoch")
    for rank, level in enumerate((here.rank0, here.rank1, here.limit)):
        mark(axes, level, f"{level:.2f}\nrank {rank}", color=GREY)
    axes.set_title("Loss ‖A − UV‖² of factors of rank 2")
    axes.legend(loc="upper right", handlelength=3)


def draw_sharpness(axes: Axes, data: dict[str, Any]) -> None:
    flattest = 4 * data["table"].sigma1
    for path in data["paths"]:
        look = SHOWN[path.step]
        axes.plot(np.array(path.epochs) + 1, path.sharpness, **look._asdict(), markersize=2.5)
        if 2 / path.step < SHARPEST:
            mark(axes, 2 / path.step, f"2/{path.step:g}", color=look.color, linestyle=look.linestyle)
    axes.set(xscale="log", ylim=(0, SHARPEST), xlabel="epoch")
    axes.set_title("Sharpness has to come below 2/η")
    axes.axhspan(0, flattest, color="0.92", zorder=0)
    axes.annotate(
        f"no minimum is flatter than 4 σ₁ = {flattest:.1f}", (0.97, 0.03), ha="right", xycoords="axes fraction"
    )


def draw_gaps(axes: Axes, data: dict[str, Any]) -> None:
    here: Table = data["table"]
    for step, found in data["gaps"].items():
        settled = [gap for gap in found if math.isfinite(gap)]
        axes.plot([step] * len(settled), settled, ".", color=LOOKS[0].color, alpha=0.5)
        if len(settled) < len(found):
            axes.annotate(str(len(found) - len(settled)), (step, 1e4), ha="center", color=LOOKS[1].color)
    medians = {step: np.median(found) for step, found in data["gaps"].items() if np.median(found) < math.inf}
    axes.plot(list(medians), list(medians.values()), color=BLACK)
    axes.annotate(f"dots: {len(found)} starts\nline: their median", (0.001, 1e-9))
    axes.annotate(
        "diverged:", (min(data["gaps"].keys() - medians.keys()) - 0.005, 1e4), ha="right", color=LOOKS[1].color
    )
    edge = 1 / (2 * here.sigma1)
    axes.axvline(edge, color=GREY, linewidth=0.7)
    axes.annotate(f"1/(2 σ₁) = {edge:.4f}", (edge, 1e-10), (2, 0), textcoords="offset points", rotation=90, color=GREY)
    axes.axhline(here.noise, color=GREY, linewidth=0.7)
    axes.annotate("rounding of the loss", (0.001, here.noise), (0, 3), textcoords="offset points", color=GREY)
    axes.set(yscale="log", ylim=(2e-14, 1e6), yticks=[1e-12, 1e-8, 1e-4, 1, 1e4], xlabel="step size η", xlim=(0, 0.022))
    axes.set_title(f"Loss above its limit after {data['epochs']} epochs")


def draw_walks(axes: Axes, walks: Sequence[Walk]) -> None:
    x, y = np.meshgrid(np.linspace(-4, 4, 201), np.linspace(-0.5, 2.5, 151))
    f = beale.literal_powers(torch.from_numpy(np.stack((x, y), -1))).numpy()
    axes.contour(x, y, f, levels=np.logspace(-1.5, 5, 27), colors="0.8", linewidths=0.6)
    for each in walks:
        _, look = RACE[each.solver]
        axes.plot(*np.array(each.points).T, **look._asdict(), label=each.solver, clip_on=True)
    arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7, "shrinkB": 4}
    for name, point, beside in (("saddle", (0, 1), (-2.6, 0.4)), ("minimum", beale.SOLUTION, (2, 1.1))):
        axes.annotate(name, point, beside, arrowprops=arrow)
    axes.annotate("to infinity", (-3.9, 1.06))
    axes.plot(*beale.SOLUTION, "*", color=BLACK, markersize=9)
    axes.set(xlim=(-4, 4), ylim=(-0.5, 2.5), xlabel="x", ylabel="y")
    axes.grid(visible=False)
    axes.set_title("Beale's function from (0.7, 1.4)")
    below = {"loc": "upper left", "bbox_to_anchor": (-0.05, -0.17), "borderaxespad": 0}
    axes.legend(ncols=2, handlelength=3, columnspacing=1, **below)


def as_json(data: dict[str, Any]) -> dict[str, Any]:
    here: Table = data["table"]
    return {
        "least_loss_of_rank": {"0": here.rank0, "1": here.rank1, "2": here.limit},
        "sigma1": here.sigma1,
        "paths": [
            {
                "step": path.step,
                "epochs": path.epochs,
                "loss": rounded((path.loss[epoch] for epoch in path.epochs), 10),
                "sharpness": rounded(path.sharpness),
            }
            for path in data["paths"]
        ],
        "above_the_limit": [
            {"epochs": data["epochs"], "step": step, "starts": rounded(found, 3)}
            for step, found in data["gaps"].items()
        ],
        "walks": [
            {"solver": each.solver, "iterations": each.iterations, "kind": each.kind, "end": rounded(each.points[-1])}
            for each in data["walks"]
        ],
        "ends_of_all_solvers": [asdict(row) | {"kinds": dict(row.kinds)} for row in data["ends"]],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(1)
    data = collect(SMALL if options.small else FULL)
    save(draw_all(data), NAME, word(data), as_json(data), options, describe())


if __name__ == "__main__":
    main()
