"""Phase retrieval: who finds the solution, and what does the Hessian cost?

What to see: on the left each solver finds the solution more often the more equations there are for each unknown,
Gauss–Newton and Levenberg–Marquardt more often than Newton, which is drawn to saddles and other minima as well, and
all of them from a spectral start sooner than from a random one. All solvers get the same instances. The inset: near
the solution both methods double their digits with each step.

On the right: how many times as long as one matrix product, AᵀwA with w = diag(3z² − y), the same Hessian takes by
automatic differentiation, and as a sum of rank-one matrices. Differentiation does twice the FLOPs; it loses the rest
because its n passes multiply A by one vector each.

    python benches/experiments/retrieval_success.py      writes retrieval_success.png and retrieval_success.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from figure import GREY, LOOKS, new, parse, rounded, save, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter, StrMethodFormatter
from measure import THREADS, Ratio, interleave, ratio
from torch import Tensor

from gradrace.cli.common import track
from gradrace.declare import size
from gradrace.environment import describe, pin_threads
from gradrace.families import phase_retrieval as family
from gradrace.verify import SOLVED_WITHIN, wilson_interval
from gradrace.work import count_run

NAME = "retrieval_success"

N = 20
STARTS = ("random", "spectral")
SOLVERS = {
    "Newton": family.newton,
    "Gauss–Newton": family.gauss_newton,
    "Levenberg–Marquardt": family.levenberg_marquardt,
}
CLOSED = "AᵀwA, one product"
HESSIANS = {
    CLOSED: family.hessian_gemm,
    "torch.func.hessian": family.hessian_func,
    "jacfwd of the gradient": family.hessian_jacfwd_of_gradient,
    "sum of m outer products": family.hessian_outer_products,
    "autograd.functional.hessian": family.hessian_functional,
}
BELOW = {"loc": "upper left", "bbox_to_anchor": (0, -0.17), "borderaxespad": 0}
EQUATIONS = 5
"""Equations for each unknown where Hessians are timed, as in the homework."""


@dataclass(frozen=True)
class Scope:
    """How much is computed: m/n of the curves, instances a point; n of the Hessians, rounds of the timing."""

    ratios: Sequence[float]
    instances: int
    unknowns: Sequence[int]
    rounds: int


FULL = Scope((2, 2.5, 3, 3.5, 4, 5, 6, 8, 10), 1000, (5, 10, 20, 40, 80, 160), 15)
SMALL = Scope((3, 5, 8), 100, (5, 10), 7)


# ---- how often the solution is found ----


@dataclass(frozen=True)
class Rate:
    """How many instances a solver has solved, with the 95 % interval of Wilson's score."""

    equations: float
    start: str
    solver: str
    solved: int
    instances: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.solved / self.instances


def draw(n: int, m: int, seed: int, **axes: Any) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
    """The numbers of the family, and x, A and y as tensors. A seed gives the same instances for every kind of start."""
    numbers = family.draw(size("test", n=n, m=m, **axes), np.random.default_rng(seed))
    return numbers, tuple(torch.from_numpy(numbers[name]) for name in ("x", "A", "y"))


def rates(equations: float, instances: int) -> list[Rate]:
    """All solvers from all starts on the same instances of m = equations · n."""
    found, m = [], round(equations * N)
    for start in STARTS:
        numbers, tensors = draw(N, m, seed=m, b=instances, start=start)
        for name, solve in SOLVERS.items():
            distance = family.distance(numbers, solve(*tensors).x.numpy())
            solved = int((distance <= SOLVED_WITHIN).sum())
            low, high = wilson_interval(solved, instances, z=1.96)
            found.append(Rate(equations, start, name, solved, instances, round(low, 4), round(high, 4)))
    return found


# ---- how fast it is approached ----


def newton_matrix(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return family.hessian_gemm(x, A, y)


def gauss_newton_matrix(x: Tensor, A: Tensor, y: Tensor) -> Tensor:
    return family.gauss_newton_matrix(family.matvec(A, x), A)


def distances(matrix: Callable[..., Tensor], steps: int = 7) -> list[float]:
    """The relative distance from the solution at the start and after each undamped step: one instance, near start."""
    numbers, (x, A, y) = draw(N, EQUATIONS * N, seed=1, start="near")
    found = []
    for _ in range(steps):
        found.append(float(family.distance(numbers, x.numpy())))
        _, (gradient,) = family.gradient_closed_form(x, A, y)
        x = x - torch.linalg.solve(matrix(x, A, y), gradient)
    return found


def order(found: Sequence[float]) -> float:
    """p of the last e_{k+1} ~ e_k^p above rounding: 2 where digits double."""
    digits = np.log([e for e in found if e > 1e-13])
    return float((digits[-1] - digits[-2]) / (digits[-2] - digits[-3]))


# ---- what a Hessian costs ----


def hessian_ratios(n: int, rounds: int) -> list[Ratio]:
    """The time of each formulation by that of the closed form, in turns; all must agree first."""
    _, inputs = draw(n, EQUATIONS * n, seed=n)
    exact = family.hessian_gemm(*inputs)
    for function in HESSIANS.values():
        assert torch.allclose(function(*inputs), exact, rtol=0, atol=1e-12 * float(exact.abs().max()))
    samples = interleave({name: partial(function, *inputs) for name, function in HESSIANS.items()}, rounds)
    return [ratio(name, samples, name, CLOSED) for name in HESSIANS if name != CLOSED]


def flops(n: int) -> dict[str, int | None]:
    """FLOPs of each formulation, counted; an elementwise product counts as none, so the outer products are left out."""
    _, inputs = draw(n, EQUATIONS * n, seed=n)
    return {
        name: count_run(name, partial(function, *inputs), inputs).counters["flops"]
        for name, function in HESSIANS.items()
        if function is not family.hessian_outer_products
    }


# ---- the figure ----


def collect(scope: Scope) -> dict[str, Any]:
    return {
        "rates": [rate for each in track(scope.ratios, "solving") for rate in rates(each, scope.instances)],
        "distances": {"Newton": distances(newton_matrix), "Gauss–Newton": distances(gauss_newton_matrix)},
        "ratios": {n: hessian_ratios(n, scope.rounds) for n in track(scope.unknowns, "timing")},
        "flops": flops(max(scope.unknowns)),
    }


def word(data: dict[str, Any]) -> str:
    by = {(rate.equations, rate.start, rate.solver): rate for rate in data["rates"]}
    shares = {start: [f"{100 * by[5, start, solver].share:.0f}" for solver in SOLVERS] for start in STARTS}
    n, ratios = max(data["ratios"].items())
    times = {row.what: f"{row.ratio:.0f}" for row in ratios}
    more = data["flops"]["torch.func.hessian"] / data["flops"][CLOSED]
    return (
        f"With 5 equations an unknown (n = {N}) Newton, Gauss–Newton and Levenberg–Marquardt solve "
        f"{listed(shares['random'])} % of {by[5, 'random', 'Newton'].instances} instances from a random start and "
        f"{listed(shares['spectral'])} % from a spectral one; at n = {n} torch.func.hessian takes "
        f"{times['torch.func.hessian']} times as long as one matrix product for {more:.1f} times its FLOPs, and the "
        f"loop of autograd.functional.hessian {times['autograd.functional.hessian']} times as long."
    )


def listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


@styled
def draw_all(data: dict[str, Any]) -> Figure:
    figure, (left, right) = new(3.9, columns=2, width_ratios=(1.25, 1))
    draw_rates(left, data["rates"])
    draw_distances(left.inset_axes((0.64, 0.12, 0.34, 0.36)), data["distances"])
    draw_ratios(right, data["ratios"])
    return figure


def draw_rates(axes: Axes, found: Sequence[Rate]) -> None:
    for start, filled in zip(STARTS, (False, True), strict=True):
        for solver, look in zip(SOLVERS, LOOKS, strict=False):
            rows = [row for row in found if (row.start, row.solver) == (start, solver)]
            x, share = [row.equations for row in rows], np.array([row.share for row in rows])
            axes.errorbar(
                *(x, share),
                yerr=(share - [row.low for row in rows], [row.high for row in rows] - share),
                color=look.color,
                marker=look.marker,
                linestyle="-" if filled else "--",
                markerfacecolor=look.color if filled else "white",
                elinewidth=0.8,
            )
    axes.set(title="How often is the solution found?", xlabel="equations for each unknown, m / n", ylim=(0, 1.03))
    axes.set_xticks(range(2, 11, 2))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    solvers = [Line2D([], [], label=name, **look._asdict()) for name, look in zip(SOLVERS, LOOKS, strict=False)]
    for line in solvers:
        line.set_linestyle("")
    starts = [
        Line2D([], [], color=GREY, marker="o", linestyle="--", markerfacecolor="white", label="from a random start"),
        Line2D([], [], color=GREY, marker="o", label="from a spectral start"),
    ]
    axes.legend(handles=[*solvers, *starts], ncols=2, handlelength=2.8, **BELOW)


def draw_distances(axes: Axes, found: dict[str, list[float]]) -> None:
    for solver, look in zip(found, LOOKS, strict=False):
        axes.semilogy(np.maximum(found[solver], 1e-16), color=look.color, marker=look.marker, markersize=3)
    axes.set_title("distance after k steps", fontweight="normal", fontsize=7)
    axes.set(yticks=[1, 1e-8, 1e-16], xticks=range(0, 7, 2))
    axes.tick_params(labelsize=7, pad=1)


def draw_ratios(axes: Axes, found: dict[int, list[Ratio]]) -> None:
    names = [row.what for row in next(iter(found.values()))]
    for name, look in zip(names, LOOKS[1:], strict=False):
        rows = [next(row for row in rows if row.what == name) for rows in found.values()]
        times = np.array([row.ratio for row in rows])
        axes.errorbar(
            *(list(found), times),
            yerr=(times - [row.low for row in rows], [row.high for row in rows] - times),
            elinewidth=0.8,
            label=name,
            **look._asdict(),
        )
    axes.axhline(1, color=LOOKS[0].color)
    axes.annotate(CLOSED, (1, 1), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right")
    axes.set(title="What does a Hessian cost?", xlabel=f"unknowns n, m = {EQUATIONS} n", xscale="log", yscale="log")
    axes.set(ylabel="time, in those of the closed form", xticks=list(found))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    axes.legend(handlelength=2.8, **BELOW)


def as_json(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "rates": [asdict(rate) for rate in data["rates"]],
        "distances": {solver: rounded(found) for solver, found in data["distances"].items()},
        "orders": {solver: round(order(found), 2) for solver, found in data["distances"].items()},
        "ratios": [{"n": n, **asdict(row)} for n, rows in data["ratios"].items() for row in rows],
        "flops": {"n": max(data["ratios"]), **data["flops"]},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(THREADS)
    data = collect(SMALL if options.small else FULL)
    save(draw_all(data), NAME, word(data), as_json(data), options, describe())


if __name__ == "__main__":
    main()
