"""Two functions and some inputs, no declaration: are the gradients the same, which is faster, and what do they cost?"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradrace.clock import clock
from gradrace.errors import UsageError
from gradrace.families.numerics import DIRECTIONS, STEP, relative_error
from gradrace.reference import to_array
from gradrace.tolerance import INSIGNIFICANT, TOLERANCE_FACTOR
from gradrace.units import human
from gradrace.verify import Outcome
from gradrace.work import Work, count_run

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Comparison:
    """Times in seconds of value and gradient, interleaved, the work of both, and the status of g's gradients."""

    names: tuple[str, str]
    times_s: tuple[tuple[float, ...], tuple[float, ...]]
    works: tuple[Work, Work]
    outcomes: dict[str, Outcome]

    @property
    def same_gradient(self) -> bool:
        return all(outcome.ok for outcome in self.outcomes.values())

    @property
    def ratio(self) -> float:
        """Median over the pairs of g's time over f's: below 1, g is faster."""
        return median(second / first for first, second in zip(*self.times_s, strict=True))

    def __str__(self) -> str:
        from rich.console import Console
        from rich.table import Table

        table = Table("function", "time", "ratio", "ops", "saved", "peak", "gradient")
        statuses = ", ".join(f"{name}: {outcome.status}" for name, outcome in self.outcomes.items())
        # What is wrong does not race.
        ratios, verdicts = ("1", f"{self.ratio:.3g}" if self.same_gradient else "–"), ("reference", statuses)
        for name, times, ratio, work, verdict in zip(
            self.names, self.times_s, ratios, self.works, verdicts, strict=True
        ):
            counts = (human(work.counters["ops"]), human(work.saved_bytes, "B"), human(work.peak_bytes, "B"))
            table.add_row(name, f"{median(times) * 1e6:.4g} µs", ratio, *counts, verdict)
        console = Console(width=100, file=io.StringIO(), record=True)
        console.print(table)
        return console.export_text().rstrip()


def compare(f: Function, g: Function, inputs: Sequence[Any], rounds: int = 25) -> Comparison:
    """Race g against f on the same inputs; f's gradient in float64 is the reference.

    `inputs` are the arguments of both; those that are floating tensors are differentiated. A function that
    returns a tensor of any shape is paired with a fixed random cotangent, the same for both.
    Raises UsageError when nothing can be differentiated or the outputs have different shapes.
    """
    outcomes = _judge(f, g, inputs)
    prepared = [_value_and_gradient(function, inputs) for function in (f, g)]
    runs = [run for run, _ in prepared]
    for run in runs:  # warm up
        run()
    samples: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds):
        for which in (0, 1) if i % 2 else (1, 0):
            start = clock()
            runs[which]()
            samples[which].append(clock() - start)
    names = (_name(f, "f"), _name(g, "g"))
    on_cuda = any(isinstance(value, Tensor) and value.is_cuda for value in inputs)
    first, second = (count_run(name, *each, on_cuda) for name, each in zip(names, prepared, strict=True))
    return Comparison(names, (tuple(samples[0]), tuple(samples[1])), (first, second), outcomes)


def assert_same_gradient(f: Function, g: Function, inputs: Sequence[Any]) -> None:
    """Raise AssertionError, naming the input and the error, unless g has the value and the gradients of f.

    The tolerance is C u κ: u of the inputs' dtype, κ measured by perturbing the inputs, C gradrace's own constant.
    """
    wrong = [
        f"{name}: {outcome.status}"
        + (f" (error {outcome.error:.2g}, tolerance {outcome.tolerance:.2g})" if outcome.error is not None else "")
        for name, outcome in _judge(f, g, inputs).items()
        if not outcome.ok
    ]
    if wrong:
        raise AssertionError(f"{_name(g, 'g')} has not the gradient of {_name(f, 'f')}: " + "; ".join(wrong))


def _name(function: Function, otherwise: str) -> str:
    return getattr(function, "__name__", otherwise)


def _differentiable(inputs: Sequence[Any]) -> list[int]:
    places = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and value.is_floating_point()]
    if not places:
        raise UsageError("no input is a floating tensor, so there is nothing to differentiate; pass at least one")
    return places


Run = Callable[[], tuple[Tensor, Sequence[Any]]]


def _value_and_gradient(function: Function, inputs: Sequence[Any]) -> tuple[Run, list[Any]]:
    """What computes both, and the arguments that it computes them of, which are copies of the inputs."""
    places = _differentiable(inputs)
    leaves = [inputs[i].detach().clone().requires_grad_() for i in places]
    arguments = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    for place, leaf in zip(places, leaves, strict=True):
        arguments[place] = leaf

    first = function(*arguments)
    if not isinstance(first, Tensor):
        raise UsageError(f"{_name(function, 'the function')} returns {type(first).__name__}; return one tensor")
    mutated = [i for i, value in enumerate(inputs) if isinstance(value, Tensor) and _differs(arguments[i], value)]
    if mutated:
        raise UsageError(f"{_name(function, 'the function')} writes into its input {mutated[0]}; let it work on a copy")
    cotangent = _cotangent(first)

    def run() -> tuple[Tensor, Sequence[Any]]:
        value = function(*arguments)
        if not value.requires_grad:
            return value, [None] * len(leaves)
        return value.detach(), torch.autograd.grad(value, leaves, cotangent, allow_unused=True)

    return run, arguments


def _differs(now: Tensor, before: Tensor) -> bool:
    return not torch.equal(torch.nan_to_num(now.detach()), torch.nan_to_num(before.detach()))


def _cotangent(value: Tensor) -> Tensor:
    """One for a scalar, else a fixed random one of the value's shape: a sum of outputs would hide what cancels."""
    if value.dim() == 0:
        return torch.ones_like(value)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value)


def _outputs(function: Function, inputs: Sequence[Any]) -> dict[str, Any]:
    run, _ = _value_and_gradient(function, inputs)
    value, gradients = run()
    places = _differentiable(inputs)
    return {"value": value} | {f"input {i}": gradient for i, gradient in zip(places, gradients, strict=True)}


def _exact(f: Function, inputs: Sequence[Any]) -> dict[str, np.ndarray]:
    """f in float64; a gradient that f does not have is zero."""
    wide = [value.double() if isinstance(value, Tensor) and value.is_floating_point() else value for value in inputs]
    shapes = {f"input {i}": inputs[i].shape for i in _differentiable(inputs)}
    try:
        outputs = _outputs(f, wide)
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise UsageError(
            f"{_name(f, 'f')} does not run on float64 inputs, which the reference needs: {first_line}"
        ) from error
    return {name: np.zeros(shapes[name]) if output is None else to_array(output) for name, output in outputs.items()}


def _judge(f: Function, g: Function, inputs: Sequence[Any]) -> dict[str, Outcome]:
    exact, mine, theirs = _exact(f, inputs), _outputs(g, inputs), _outputs(f, inputs)
    dtype = max((inputs[i].dtype for i in _differentiable(inputs)), key=lambda each: torch.finfo(each).eps)
    u = torch.finfo(dtype).eps / 2
    kappa = _condition(f, inputs, exact)
    worst = TOLERANCE_FACTOR * u * max(kappa.values())
    if worst >= INSIGNIFICANT:
        raise UsageError(
            f"no two significant digits: {_name(f, 'f')} has the condition {max(kappa.values()):.2g} here, so that in "
            f"{str(dtype).removeprefix('torch.')} the tolerance would be {worst:.2g}; compare in a wider dtype or at "
            "another point"
        )
    return {
        name: _outcome(output, theirs[name], exact[name], TOLERANCE_FACTOR * u * kappa[name])
        for name, output in mine.items()
    }


def _condition(f: Function, inputs: Sequence[Any], exact: dict[str, np.ndarray]) -> dict[str, float]:
    """κ of each output: its relative change over a relative change of all differentiable inputs, at least 1."""
    generator = torch.Generator().manual_seed(1)
    kappa = dict.fromkeys(exact, 1.0)
    for _ in range(DIRECTIONS):
        moved = list(inputs)
        for i in _differentiable(inputs):
            wide = inputs[i].detach().double().cpu()
            noise = torch.randn(wide.shape, generator=generator, dtype=torch.float64)
            moved[i] = (wide + STEP * wide.abs().amax() * noise).to(inputs[i].device)
        for name, output in _exact(f, moved).items():
            if exact[name].any():
                kappa[name] = max(kappa[name], float(relative_error(output, exact[name], None)) / STEP)
    return kappa


def _outcome(output: Any, of_f: Any, exact: np.ndarray, tolerance: float) -> Outcome:
    if output is None:
        return Outcome("none", expected="none" if of_f is None else "agree")
    actual = to_array(output)
    if actual.shape != exact.shape:
        raise UsageError(f"the outputs have the shapes {actual.shape} and {exact.shape}; compare like with like")
    if not np.isfinite(actual).all():
        return Outcome("nan")
    if exact.any() and not actual.any():
        return Outcome("zero", error=1.0, tolerance=tolerance)
    error = float(relative_error(actual, exact, None))
    return Outcome("agree" if error <= tolerance else "disagree", error=error, tolerance=tolerance)
