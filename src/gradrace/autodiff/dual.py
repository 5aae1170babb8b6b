"""Forward mode: a dual number v + ε v̇ carries a value and its derivative along one direction, with ε² = 0.

Source: W. K. Clifford, Proc. LMS 4 (1873); for differentiation R. E. Wengert, Comm. ACM 7 (1964).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)  # not frozen, which would make the constructor the slowest part of all
class Dual:
    """A value and its tangent: floats, tensors, or Duals of a lower level, for derivatives of derivatives.

    level: which ε it is. Each differentiation has one of its own, higher than those that it is nested in; what is of
    a lower level is constant to it. Without levels the ε of one differentiation would pass for that of another.

    Source: J. M. Siskind and B. A. Pearlmutter, Implementation and Application of Functional Languages (2005).
    """

    value: Any
    tangent: Any
    level: int = 0

    def _beside(self, other: Any) -> tuple[Dual, Dual]:
        """Both at the level of the higher one, to which the other is constant."""
        if not isinstance(other, Dual) or other.level < self.level:
            return self, Dual(other, 0.0, self.level)
        if other.level > self.level:
            return Dual(self, 0.0, other.level), other
        return self, other

    def __add__(self, other: Any) -> Dual:
        a, b = self._beside(other)
        return Dual(a.value + b.value, a.tangent + b.tangent, a.level)

    def __mul__(self, other: Any) -> Dual:
        a, b = self._beside(other)
        return Dual(a.value * b.value, a.tangent * b.value + a.value * b.tangent, a.level)

    def __truediv__(self, other: Any) -> Dual:
        a, b = self._beside(other)
        quotient = a.value / b.value
        return Dual(quotient, (a.tangent - quotient * b.tangent) / b.value, a.level)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent, self.level)

    def __sub__(self, other: Any) -> Dual:
        return self + -other

    def __rsub__(self, other: Any) -> Dual:
        return -self + other

    def __rtruediv__(self, other: Any) -> Dual:
        return lift(other, self.level) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def exp(self) -> Dual:
        value = exp(self.value)
        return Dual(value, value * self.tangent, self.level)

    def log(self) -> Dual:
        return Dual(log(self.value), self.tangent / self.value, self.level)

    def sin(self) -> Dual:
        return Dual(sin(self.value), cos(self.value) * self.tangent, self.level)

    def cos(self) -> Dual:
        return Dual(cos(self.value), -sin(self.value) * self.tangent, self.level)


def lift(number: Any, level: int = 0) -> Dual:
    """A constant as a dual number of this level: its tangent is 0."""
    return number if isinstance(number, Dual) and number.level == level else Dual(number, 0.0, level)


def exp(x: Any) -> Any:
    return math.exp(x) if isinstance(x, (float, int)) else x.exp()


def log(x: Any) -> Any:
    return math.log(x) if isinstance(x, (float, int)) else x.log()


def sin(x: Any) -> Any:
    return math.sin(x) if isinstance(x, (float, int)) else x.sin()


def cos(x: Any) -> Any:
    return math.cos(x) if isinstance(x, (float, int)) else x.cos()


_LEVELS = itertools.count(1)


def value_and_gradient(function: Callable[..., Any], at: Sequence[Any]) -> tuple[Any, list[Any]]:
    """f and ∇f at a point by one forward pass for each of its inputs; f may itself call this."""
    level, gradient = next(_LEVELS), []
    for i in range(len(at)):
        result = lift(function(*(Dual(x, float(i == j), level) for j, x in enumerate(at))), level)
        gradient.append(result.tangent)
    return result.value, gradient
