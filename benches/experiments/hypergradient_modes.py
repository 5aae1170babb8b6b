"""Forward against reverse mode: by the number of inputs, and by the number of steps that are differentiated through.

What to see: on the left reverse mode gives the gradient for a few times the function's own work, however many inputs
there are, and stays below the 5 operations for each one of the function that theory allows; forward mode pays a pass
for each input. Every run evaluates the same number of terms.

In the middle and on the right: the derivative of a loss after T steps of descent for the size of each step. The
homework's product, multiplied out, is T² / 2 products with a Hessian; the adjoint collects it in T: in the fewest calls
where all curvatures are computed at once, in the fewest bytes step by step. The memory of all three grows with T, as
that of a graph does; with checkpoints it grows with √T, and hardly at all in one forward pass, which is all that a
common step size needs. The numbers at the ends are the exponents of T.

    python benches/experiments/hypergradient_modes.py      writes hypergradient_modes.png and hypergradient_modes.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from figure import BLUE, GREY, LOOKS, ORANGE, Look, new, parse, rounded, save, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator, StrMethodFormatter
from measure import THREADS, Ratio, interleave, ratio
from torch import Tensor
from torch.autograd import forward_ad

from gradrace.cli.common import track
from gradrace.declare import size
from gradrace.environment import describe, pin_threads
from gradrace.families import hypergradient as family
from gradrace.families.scalar_trace import FUNCTIONS
from gradrace.work import count_run

NAME = "hypergradient_modes"

TERMS = 2**13
"""Terms of the function in each run, whatever the number of inputs: enough that a call costs little beside them."""


@dataclass(frozen=True)
class Scope:
    """Numbers of inputs and rounds of the timing; numbers of steps that are counted, and unknowns of the descent."""

    inputs: Sequence[int]
    rounds: int
    steps: Sequence[int]
    unknowns: int


FULL = Scope((1, 2, 4, 8, 16, 32, 64, 128), 21, (4, 8, 16, 32, 64, 128, 256), 1000)
SMALL = Scope((2, 4, 8), 7, (4, 8, 16), 1000)


# ---- one function of n inputs: Σ ln x_i + x_i x_{i+1} − sin x_{i+1} around a circle, at b points ----


def values(x: Tensor) -> Tensor:
    """f of each point, (b, n) -> (b,): the fourth function of scalar_trace on each pair of neighbours."""
    return FUNCTIONS["s4"](torch, x, x.roll(-1, 1)).sum(1)


def reverse(x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    return torch.autograd.grad(values(leaf).sum(), leaf)[0]


def forward(x: Tensor) -> Tensor:
    columns = []
    for j in range(x.shape[1]):
        direction = torch.zeros_like(x)
        direction[:, j] = 1
        with forward_ad.dual_level():
            columns.append(forward_ad.unpack_dual(values(forward_ad.make_dual(x, direction))).tangent)
    return torch.stack(columns, dim=1)


PRIMAL = "the function"
MODES: Mapping[str, tuple[Callable[[Tensor], Tensor], Look]] = {
    "forward": (forward, LOOKS[1]),
    "reverse": (reverse, LOOKS[0]),
}


@dataclass(frozen=True)
class Modes:
    """At n inputs: times by that of the function, in turns, and operations by those of the function, counted."""

    n: int
    times: list[Ratio]
    operations: dict[str, float]


def race_modes(n: int, rounds: int) -> Modes:
    x = torch.from_numpy(np.random.default_rng(n).uniform(0.5, 5, (TERMS // n, n)))
    thunks = {PRIMAL: partial(values, x), **{name: partial(mode, x) for name, (mode, _) in MODES.items()}}
    for name in MODES:
        assert torch.allclose(thunks[name](), reverse(x), rtol=1e-12, atol=1e-12)
    counted = {name: count_run(name, thunk, (x,)).counters["ops"] for name, thunk in thunks.items()}
    samples = interleave(thunks, rounds)
    return Modes(
        n,
        [ratio(name, samples, name, PRIMAL) for name in MODES],
        {name: counted[name] / counted[PRIMAL] for name in MODES},
    )


# ---- the loss after T steps of descent, by the sizes of the steps ----


def single_pass(eta: Tensor, start: Tensor, loss: str) -> Tensor:
    """The derivative for a common step size: the sum of all T, by one pass forward."""
    return torch.func.jvp(lambda eta: family.unrolled(eta, start, loss), (eta,), (torch.ones_like(eta),))[1]


def gradient_of_unrolled(eta: Tensor, start: Tensor, loss: str, function: Callable[..., Tensor]) -> Tensor:
    leaf = eta.detach().requires_grad_()
    return torch.autograd.grad(function(leaf, start, loss), leaf)[0]


@dataclass(frozen=True)
class Formulation:
    """most: the largest T at which it is counted, which takes some hundred times as long as a run."""

    run: Callable[..., Any]
    look: Look
    most: int = 256


FORMULATIONS: Mapping[str, Formulation] = {
    "T forward passes": Formulation(family.forward_passes, LOOKS[1], most=32),
    "product of HVPs": Formulation(family.product_of_hvps, LOOKS[3], most=64),
    "unrolled": Formulation(partial(gradient_of_unrolled, function=family.unrolled), LOOKS[4]),
    "checkpointed": Formulation(partial(gradient_of_unrolled, function=family.checkpointed), LOOKS[2]),
    "adjoint": Formulation(family.adjoint, LOOKS[0]),
    "step by step": Formulation(family.adjoint_step_by_step, Look(BLUE, "X", "--")),
    "one pass, common η": Formulation(single_pass, Look(ORANGE, "P", "--")),
}


@dataclass(frozen=True)
class Growth:
    """The operations and the most bytes alive at once, by the number of steps; their exponents at the largest."""

    what: str
    steps: list[int] = field(default_factory=list)
    operations: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    @property
    def exponents(self) -> tuple[float, float]:
        """The slope of ln count over ln T between the last two."""
        span = np.log(self.steps[-1] / self.steps[-2])
        first, second = (float(np.log(counts[-1] / counts[-2]) / span) for counts in (self.operations, self.bytes))
        return first, second


def grow(what: str, scope: Scope) -> Growth:
    found, formulation = Growth(what), FORMULATIONS[what]
    for T in scope.steps:
        if formulation.most < T:
            break
        numbers = family.draw(size("test", loss="ring", d=scope.unknowns, T=T), np.random.default_rng(T))
        eta, start = torch.from_numpy(numbers["eta"]), torch.from_numpy(numbers["start"])
        thunk = partial(formulation.run, eta, start, "ring")
        check(thunk(), family.adjoint(eta, start, "ring")[1][0])
        counters = count_run(what, thunk, (eta, start)).counters
        found.steps.append(T)
        found.operations.append(counters["ops"])
        found.bytes.append(counters["peak_bytes"])
    return found


def check(answer: Any, exact: Tensor) -> None:
    """All formulations answer the same; a single number is the sum."""
    gradient = answer[1][0] if isinstance(answer, tuple) else answer
    assert torch.allclose(gradient, exact if gradient.dim() else exact.sum(), rtol=1e-9, atol=0)


# ---- the figure ----


def collect(scope: Scope) -> dict[str, Any]:
    return {
        "growths": [grow(what, scope) for what in track(list(FORMULATIONS), "counting")],
        "modes": [race_modes(n, scope.rounds) for n in track(scope.inputs, "timing")],
    }


def word(data: dict[str, Any]) -> str:
    first, *_, last = data["modes"]
    reverse = [row.ratio for modes in data["modes"] for row in modes.times if row.what == "reverse"]
    times = {row.what: row.ratio for row in last.times}
    by = {growth.what: growth for growth in data["growths"]}
    product, adjoint, single = by["product of HVPs"], by["adjoint"], by["one pass, common η"]
    lean, T = by["step by step"], product.steps[-1]
    fold = product.operations[-1] / adjoint.operations[adjoint.steps.index(T)]
    more, less = lean.operations[-1] / adjoint.operations[-1], lean.bytes[-1] / adjoint.bytes[-1]
    return (
        f"From {first.n} to {last.n} inputs reverse mode takes {last.operations['reverse']:.1f} times the operations "
        f"of the function and {min(reverse):.1f} to {max(reverse):.1f} times its time, {last.n} forward passes take "
        f"{times['forward']:.0f} times its time. For T = {T} steps the multiplied-out product takes {fold:.0f} times "
        f"the operations of the adjoint, growing as T^{product.exponents[0]:.1f} against T^{adjoint.exponents[0]:.1f}. "
        f"Step by step the adjoint takes {more:.1f} times the operations and {less:.2f} times the bytes; "
        f"memory grows as T^{adjoint.exponents[1]:.1f} for the adjoint, T^{by['checkpointed'].exponents[1]:.1f} with "
        f"checkpoints and T^{single.exponents[1]:.1f} for one forward pass."
    )


@styled
def draw_all(data: dict[str, Any]) -> Figure:
    figure, (left, middle, right) = new(3.6, columns=3)
    draw_modes(left, data["modes"])
    draw_growths(middle, data["growths"], "operations")
    draw_growths(right, data["growths"], "bytes")
    below = {"loc": "upper left", "bbox_to_anchor": (-0.1, -0.17), "borderaxespad": 0, "handlelength": 3}
    left.legend(**below)
    # This one reaches below the next axes as well: the other one has made the room.
    middle.legend(ncols=3, columnspacing=1, **below).set_in_layout(False)
    return figure


def draw_modes(axes: Axes, found: Sequence[Modes]) -> None:
    n = [modes.n for modes in found]
    for name, (_, look) in MODES.items():
        rows = [next(row for row in modes.times if row.what == name) for modes in found]
        times = np.array([row.ratio for row in rows])
        spread = (times - [row.low for row in rows], [row.high for row in rows] - times)
        axes.errorbar(n, times, yerr=spread, elinewidth=0.8, label=name, **look._asdict())
        axes.plot(n, [modes.operations[name] for modes in found], color=GREY, linewidth=0.8, zorder=1)
    axes.axhline(5, color=GREY, linewidth=0.7, linestyle=":")
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate("5", (1, 5), (4, 0), color=GREY, **place)
    axes.set(xscale="log", yscale="log", xticks=n, xlabel="inputs n", ylim=(1, None))
    axes.set_title("Time of ∇f by that of f")
    axes.plot([], [], color=GREY, linewidth=0.8, label="operations, counted")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())


def draw_growths(axes: Axes, found: Sequence[Growth], counter: str) -> None:
    below = 0.0
    for growth in found:
        axes.plot(growth.steps, getattr(growth, counter), label=growth.what, **FORMULATIONS[growth.what].look._asdict())
    for growth in sorted(found, key=lambda growth: getattr(growth, counter)[-1]):
        end, exponent = getattr(growth, counter)[-1], growth.exponents[counter == "bytes"]
        below = max(end, 1.3 * below)  # or it would be printed over the last one
        axes.annotate(f"{exponent:.1f}", (growth.steps[-1], below), (4, -2), textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="steps T", xticks=found[-1].steps[::2])
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(EngFormatter(unit="B" if counter == "bytes" else ""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title({"operations": "Operations after T steps", "bytes": "Bytes at the peak"}[counter])


def as_json(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "modes": [
            {"n": modes.n, **asdict(row), "operations": round(modes.operations[row.what], 3)}
            for modes in data["modes"]
            for row in modes.times
        ],
        "growths": [
            {
                **asdict(growth),
                "exponents": dict(zip(("operations", "bytes"), rounded(growth.exponents, 3), strict=True)),
            }
            for growth in data["growths"]
        ],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    pin_threads(THREADS)
    data = collect(SMALL if options.small else FULL)
    save(draw_all(data), NAME, word(data), as_json(data), options, describe())


if __name__ == "__main__":
    main()
