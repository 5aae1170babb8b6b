"""A second opinion without a reference: the Taylor remainder of a right derivative falls by order 2.

    R(h) = ‖f(x + h v) − f(x) − h f'(x) v‖ = O(h²)   where f' is right,   = O(h)   where it is wrong.

Both sides come from the case itself: f from its value (or, where it returns a derivative only, from the function that
its family declares), f'(x) v from its derivative. The steps fall from 1/8 by factors of 4 until the remainder drowns
in rounding noise, which is measured at steps too small for anything else. The order is fitted to the smallest steps
whose remainder stands clear of the noise, so that even an error of a millionth shows: there its h outgrows the h².

Source: the gradient test of optimal control, e.g. P. E. Farrell et al., SIAM J. Sci. Comput. 35 (2013), section 6.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch

from gradrace.cases import Case
from gradrace.errors import UsageError
from gradrace.inputs import Inputs, directions, draw_numbers, to_inputs
from gradrace.operators import name_outputs, prepare
from gradrace.reference import to_array
from gradrace.tolerance import UNIT_ROUNDOFF

HAS_DERIVATIVE = ("value_and_gradient", "vjp", "jvp", "jacobian", "hvp", "hessian")

NEEDS_FUNCTION = ("jacobian", "hvp", "hessian")
"""Operators whose cases return no value: their families must say what is differentiated."""

STEPS = tuple(2.0 ** -(3 + 2 * k) for k in range(12))
"""1/8 down to 3e-8."""

NOISE_STEPS = (8, 16, 32, 64)
"""Steps, in units of u, at which nothing but rounding is left, that of x + h v included."""

CLEAR = 50.0
"""A remainder this many times above the noise is a remainder."""

WINDOW = 3
"""The order is fitted to this many steps."""

LINEAR = 1e9
"""A smooth function's remainder drowns where h f' is some 1e7 times the noise; that of a wrong derivative, earlier."""

SECOND, FIRST = 1.8, 1.3
"""An order from here on is two; an order up to here is one; between them nothing is said."""

Along: TypeAlias = Callable[[float], np.ndarray]
"""h -> f(x + h v)."""


@dataclass(frozen=True)
class Taylor:
    """What the remainder says.

    - `second order`: the derivative is right;
    - `linear`: the remainder is noise although h f'(x) v is a billion times larger: f is linear along v, as far as
      its next kink, and the derivative is right;
    - `first order`: the derivative is wrong;
    - `no usable window`: too few steps lie between curvature and noise for a verdict.
    """

    verdict: str
    order: float | None
    steps: tuple[float, ...]
    remainders: tuple[float, ...]
    noise: float


def taylor(case: Case, draw: int = 0) -> Taylor:
    """The Taylor test of a float64 case along one random direction (of a jvp: along its tangent).

    Float32 has no usable window: its squared steps drown before they fall in line. Raises UsageError for a case
    without a derivative.
    """
    if case.scenario.dtype != "float64":
        return Taylor("no usable window", None, (), (), math.inf)
    along, slope = _line(case, draw)
    return judge(_where_defined(along), slope)


def _where_defined(along: Along) -> Along:
    """NaN where x + h v leaves the domain of f, such as a matrix that is no longer positive definite."""

    def wary(h: float) -> np.ndarray:
        try:
            return along(h)
        except (ArithmeticError, RuntimeError, ValueError):
            return np.asarray(math.nan)

    return wary


def judge(along: Along, slope: np.ndarray) -> Taylor:
    """The test of f along a line, h -> f(x + h v), with the slope f'(x) v that is claimed at h = 0."""
    start, u = along(0.0), UNIT_ROUNDOFF["float64"]
    with np.errstate(invalid="ignore"):  # an infinite value has no remainder: ∞ − ∞ is NaN, which is never clear
        remainders = tuple(_norm(along(h) - start - h * slope) for h in STEPS)
        noise = max(_norm(along(h * u) - start - h * u * slope) for h in NOISE_STEPS)
    noise = max(noise, u * _norm(start), np.finfo(np.float64).tiny)
    clear = [(h, r) for h, r in zip(STEPS, remainders, strict=True) if math.isfinite(r) and r > CLEAR * noise]

    def answer(verdict: str, order: float | None = None) -> Taylor:
        return Taylor(verdict, order, STEPS, remainders, noise)

    drowned = max((h for h, r in zip(STEPS, remainders, strict=True) if r <= CLEAR * noise), default=0.0)
    if drowned * _norm(slope) > LINEAR * CLEAR * noise:
        return answer("linear")
    if len(clear) < WINDOW:
        return answer("no usable window")
    h, r = np.log(np.array(clear[-WINDOW:])).T
    order = float(np.polyfit(h, r, 1)[0])
    if order >= SECOND:
        return answer("second order", order)
    return answer("first order" if order <= FIRST else "no usable window", order)


def _norm(difference: np.ndarray) -> float:
    return float(np.abs(difference).max(initial=0.0))


def _line(case: Case, draw: int) -> tuple[Along, np.ndarray]:
    """f along the line x + h v, and f'(x) v as the case has it."""
    inputs = to_inputs(case.scenario, draw_numbers(case.scenario, draw))
    outputs = {
        name: np.zeros(()) if output is None else to_array(output)
        for name, output in name_outputs(case, prepare(case, inputs)()).items()
    }
    operator, primals = case.scenario.operator, case.scenario.family.primals
    if operator in ("value_and_gradient", "vjp"):
        v = _directions(case, inputs, draw)
        weight = to_array(inputs.cotangent) if operator == "vjp" else np.ones(())
        products = [(outputs[name] * to_array(each)).sum() for name, each in zip(primals, v, strict=True)]
        return lambda h: np.asarray((weight * _value(case, inputs, v, h)).sum()), np.asarray(math.fsum(products))
    if operator == "jvp":
        return lambda h: _value(case, inputs, inputs.tangents, h), outputs["tangent"]
    if operator in NEEDS_FUNCTION:
        v = inputs.tangents or _directions(case, inputs, draw)
        derivative = outputs[primals[0]]
        slope = derivative if operator == "hvp" else np.einsum("...ij,...j->...i", derivative, to_array(v[0]))
        differentiated = _function if operator == "jacobian" else _gradient
        return lambda h: differentiated(case, _moved(inputs, v, h)), slope
    raise UsageError(f"{case.id} has no derivative for a Taylor test; choose a case that has one")


def _directions(case: Case, inputs: Inputs, draw: int) -> tuple[torch.Tensor, ...]:
    """A random direction as large as the primals themselves."""
    drawn = directions(case.scenario.family, inputs, draw)
    return tuple(v * x.abs().max() for v, x in zip(drawn, inputs.primals, strict=True))


def _moved(inputs: Inputs, v: tuple[torch.Tensor, ...], h: float) -> Inputs:
    return replace(inputs, primals=tuple(x + h * each for x, each in zip(inputs.primals, v, strict=True)))


def _value(case: Case, inputs: Inputs, v: tuple[torch.Tensor, ...], h: float) -> np.ndarray:
    """The value that the case itself computes at x + h v."""
    return to_array(name_outputs(case, prepare(case, _moved(inputs, v, h))())["value"])


def _function(case: Case, inputs: Inputs) -> np.ndarray:
    return to_array(_differentiated(case)(*inputs.primals, *inputs.constants))


def _gradient(case: Case, inputs: Inputs) -> np.ndarray:
    x = inputs.primals[0].detach().requires_grad_()
    return to_array(torch.autograd.grad(_differentiated(case)(x, *inputs.constants).sum(), x)[0])


def _differentiated(case: Case) -> Callable[..., torch.Tensor]:
    family = case.scenario.family
    if family.function is None:
        raise UsageError(
            f"{case.id}: family {family.name!r} does not say what it differentiates; declare it by function="
        )
    return family.function
