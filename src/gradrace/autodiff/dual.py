"""Forward mode: a dual number v + ε v̇ carries a value and its derivative along one direction, with ε² = 0.

Source: W. K. Clifford, Proc. LMS 4 (1873); for differentiation R. E. Wengert, Comm. ACM 7 (1964).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dual:
    """A value and its tangent, both floats (or both Duals, for higher derivatives)."""

    value: Any
    tangent: Any

    def __add__(self, other: Any) -> Dual:
        other = lift(other)
        return Dual(self.value + other.value, self.tangent + other.tangent)

    def __mul__(self, other: Any) -> Dual:
        other = lift(other)
        return Dual(self.value * other.value, self.tangent * other.value + self.value * other.tangent)

    def __truediv__(self, other: Any) -> Dual:
        other = lift(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.tangent - quotient * other.tangent) / other.value)

    def __neg__(self) -> Dual:
        return Dual(-self.value, -self.tangent)

    def __sub__(self, other: Any) -> Dual:
        return self + -lift(other)

    def __rsub__(self, other: Any) -> Dual:
        return lift(other) - self

    def __rtruediv__(self, other: Any) -> Dual:
        return lift(other) / self

    __radd__ = __add__
    __rmul__ = __mul__


def lift(number: Any) -> Dual:
    """A constant as a dual number: its tangent is 0."""
    return number if isinstance(number, Dual) else Dual(number, 0.0)


def exp(x: Any) -> Any:
    if not isinstance(x, Dual):
        return math.exp(x)
    value = exp(x.value)
    return Dual(value, value * x.tangent)


def log(x: Any) -> Any:
    return Dual(log(x.value), x.tangent / x.value) if isinstance(x, Dual) else math.log(x)


def sin(x: Any) -> Any:
    return Dual(sin(x.value), cos(x.value) * x.tangent) if isinstance(x, Dual) else math.sin(x)


def cos(x: Any) -> Any:
    return Dual(cos(x.value), -sin(x.value) * x.tangent) if isinstance(x, Dual) else math.cos(x)


def value_and_gradient(function: Callable[..., Any], at: Sequence[float]) -> tuple[float, list[float]]:
    """f and ∇f at a point by one forward pass for each of its inputs."""
    gradient = []
    for i in range(len(at)):
        result = lift(function(*(Dual(x, float(i == j)) for j, x in enumerate(at))))
        gradient.append(result.tangent)
    return result.value, gradient
