"""Evaluation traces: each v_i with its expression and value, and with v̇_i on the way forward or v̄_i on the way back.

A recording number is a constant times a row of the trace, so that factors and signs make no rows of their own, as on
paper: 3 v₂ − v₄ is one row, and exp(2 v₀) is one. A quotient is a product with a reciprocal. The n inputs are
v_{1−n} … v_0, the results of operations v_1, v_2, ….

Source: A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed. (2008), chapters 2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class OutsideDomain(ArithmeticError):
    """The function has no finite value at this point; the message names the operation that has none."""


class Partial(NamedTuple):
    """∂v_i/∂v_j, as a row i notes it: the place of j among the rows, the number, and the formula."""

    of: int
    value: float
    formula: str


@dataclass(frozen=True)
class Row:
    """v_i: its subscript, its expression in rows above it, its value, and its derivatives for these."""

    subscript: str
    expression: str
    value: float
    partials: tuple[Partial, ...]

    def __str__(self) -> str:
        return f"v{self.subscript}"

    @property
    def dot(self) -> str:
        return f"v̇{self.subscript}"

    @property
    def bar(self) -> str:
        return f"v̄{self.subscript}"


class Trace:
    """The rows in the order of evaluation: the inputs first, the result last."""

    def __init__(self, names: Sequence[str], at: Sequence[float]) -> None:
        self.rows: list[Row] = []
        self.inputs = len(names)
        for name, x in zip(names, at, strict=True):
            self.record(name, float(x))

    def record(self, expression: str, value: float, *partials: Partial) -> Number:
        """A new row. Raises OutsideDomain unless its value is finite."""
        subscript = str(len(self.rows) + 1 - self.inputs).translate(_SUBSCRIPTS)
        if not math.isfinite(value):
            raise OutsideDomain(f"v{subscript} = {expression} is not finite")
        self.rows.append(Row(subscript, expression, value, partials))
        return Number(self, len(self.rows) - 1)

    def dots(self, wrt: int) -> list[float]:
        """v̇_i, the derivative of every row for the input of this place: one pass down the rows."""
        dots = [float(place == wrt) for place in range(self.inputs)]
        for row in self.rows[self.inputs :]:
            dots.append(sum(partial.value * dots[partial.of] for partial in row.partials))
        return dots

    def bars(self) -> list[float]:
        """v̄_i, the derivative of the result for every row: one pass up the rows."""
        bars = [0.0] * (len(self.rows) - 1) + [1.0]
        for place in reversed(range(len(self.rows))):
            for partial in self.rows[place].partials:
                bars[partial.of] += bars[place] * partial.value
        return bars

    def dot_formulas(self) -> list[str]:
        """How each v̇_i follows from those above it; nothing for an input, whose v̇ is chosen."""
        return [_sum(_product(each.formula, self.rows[each.of].dot) for each in row.partials) for row in self.rows]

    def bar_formulas(self) -> list[str]:
        """How each v̄_i follows from those below it; nothing for the result, whose v̄ is 1."""
        terms: list[list[str]] = [[] for _ in self.rows]
        for row in self.rows:
            for partial in row.partials:
                terms[partial.of].append(_product(partial.formula, row.bar))
        return list(map(_sum, terms))


@dataclass(frozen=True, slots=True)
class Number:
    """A constant times a row of a trace, with the arithmetic of a float."""

    trace: Trace
    place: int
    factor: float = 1.0

    @property
    def row(self) -> Row:
        return self.trace.rows[self.place]

    @property
    def value(self) -> float:
        return self.factor * self.row.value

    def __str__(self) -> str:
        return _product(_spelled(self.factor), str(self.row))

    def __add__(self, other: Any) -> Number:
        if not isinstance(other, Number):
            return self.trace.record(_sum((str(self), _spelled(other))), self.value + other, self._slope())
        terms = _sum((str(self), str(other)))
        return self.trace.record(terms, self.value + other.value, self._slope(), other._slope())

    def _slope(self) -> Partial:
        return Partial(self.place, self.factor, _spelled(self.factor))

    def __mul__(self, other: Any) -> Number:
        if not isinstance(other, Number):
            return Number(self.trace, self.place, self.factor * other)
        left, right = self.row, other.row
        product = self.trace.record(
            f"{left} · {right}",
            left.value * right.value,
            Partial(self.place, right.value, str(right)),
            Partial(other.place, left.value, str(left)),
        )
        return product * (self.factor * other.factor)

    def reciprocal(self) -> Number:
        v = Number(self.trace, self.place)
        inverse = _apply(v, f"1 / {v}", lambda x: 1 / x, lambda x: -(1 / x) * (1 / x), f"−(1 / {v}²)")
        return inverse * (1 / self.factor)

    def __neg__(self) -> Number:
        return self * -1.0

    def __sub__(self, other: Any) -> Number:
        return self + -other

    def __rsub__(self, other: Any) -> Number:
        return -self + other

    def __truediv__(self, other: Any) -> Number:
        return self * (other.reciprocal() if isinstance(other, Number) else 1 / other)

    def __rtruediv__(self, other: Any) -> Number:
        return self.reciprocal() * other

    __radd__ = __add__
    __rmul__ = __mul__


def exp(x: Number) -> Number:
    return _apply(x, f"exp({x})", math.exp, math.exp, f"exp({x})")


def log(x: Number) -> Number:
    return _apply(x, f"log({x})", math.log, lambda v: 1 / v, f"(1 / {x})" if x.factor == 1 else f"(1 / ({x}))")


def sin(x: Number) -> Number:
    return _apply(x, f"sin({x})", math.sin, math.cos, f"cos({x})")


def cos(x: Number) -> Number:
    return _apply(x, f"cos({x})", math.cos, lambda v: -math.sin(v), f"−sin({x})")


def _apply(
    x: Number,
    expression: str,
    function: Callable[[float], float],
    derivative: Callable[[float], float],
    formula: str,
) -> Number:
    """The row f(c v), of which the derivative for v is c f′(c v). Raises OutsideDomain where f has no finite value."""
    try:
        value = function(x.value)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise OutsideDomain(f"{expression} has no finite value where {x.row} = {x.row.value:g}") from None
    slope = Partial(x.place, x.factor * derivative(x.value), _product(_spelled(x.factor), formula))
    return x.trace.record(expression, value, slope)


def trace(function: Callable[..., Number], at: Sequence[float], names: Sequence[str]) -> Trace:
    """The trace of `function` at a point; `names` are those of its inputs. Raises OutsideDomain."""
    found = Trace(names, at)
    result = function(*(Number(found, place) for place in range(len(at))))
    if (result.place, result.factor) != (len(found.rows) - 1, 1.0):
        found.record(str(result), result.value, result._slope())
    return found


# ---- spelling ----

_SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")


def _spelled(constant: float) -> str:
    """A constant as on paper: a multiple of π is seen as one."""
    multiple = constant / math.pi
    if multiple == round(multiple) and 0 < abs(multiple) < 100:  # above 2⁵³ every float is an integer
        return _product(_spelled(multiple), "π")
    return f"{constant:g}".replace("-", "−")


def _product(left: str, right: str) -> str:
    """`left right`, without a factor 1 and with one sign at most."""
    sign = "−" if left.startswith("−") != right.startswith("−") else ""
    left, right = left.removeprefix("−"), right.removeprefix("−")
    return sign + (right if left == "1" else f"{left} {right}")


def _sum(terms: Iterable[str]) -> str:
    return " + ".join(terms).replace("+ −", "− ")
