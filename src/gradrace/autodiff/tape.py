"""Reverse mode: each operation is noted on a tape with its local derivatives; the adjoints are then swept backwards.

Source: S. Linnainmaa, BIT 16 (1976); A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed. (2008), chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any


class Tape:
    """The operations in the order in which they were evaluated, which is an order to sweep back through."""

    __slots__ = ("partials",)

    def __init__(self) -> None:
        self.partials: list[tuple[tuple[int, float], ...]] = []

    def record(self, value: float, *partials: tuple[int, float]) -> Variable:
        """A new variable; each partial is the index of an argument and the local derivative for it."""
        self.partials.append(partials)
        return Variable(self, len(self.partials) - 1, value)

    def adjoints(self, of: Variable) -> list[float]:
        """v̄_i, the derivative of `of` for every variable of the tape."""
        bars = [0.0] * len(self.partials)
        bars[of.index] = 1.0
        for index in range(of.index, -1, -1):
            for argument, partial in self.partials[index]:
                bars[argument] += bars[index] * partial
        return bars


class Variable:
    """A float that remembers its place on the tape."""

    __slots__ = ("index", "tape", "value")

    def __init__(self, tape: Tape, index: int, value: float) -> None:
        self.tape, self.index, self.value = tape, index, value

    def __add__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            return self.tape.record(self.value + other.value, (self.index, 1.0), (other.index, 1.0))
        return self.tape.record(self.value + other, (self.index, 1.0))

    def __mul__(self, other: Any) -> Variable:
        if isinstance(other, Variable):
            return self.tape.record(self.value * other.value, (self.index, other.value), (other.index, self.value))
        return self.tape.record(self.value * other, (self.index, other))

    def reciprocal(self) -> Variable:
        value = 1 / self.value
        return self.tape.record(value, (self.index, -value * value))

    def __neg__(self) -> Variable:
        return self * -1.0

    def __sub__(self, other: Any) -> Variable:
        return self + -other

    def __rsub__(self, other: Any) -> Variable:
        return -self + other

    def __truediv__(self, other: Any) -> Variable:
        return self * (other.reciprocal() if isinstance(other, Variable) else 1 / other)

    def __rtruediv__(self, other: Any) -> Variable:
        return self.reciprocal() * other

    __radd__ = __add__
    __rmul__ = __mul__


def exp(x: Variable) -> Variable:
    value = math.exp(x.value)
    return x.tape.record(value, (x.index, value))


def log(x: Variable) -> Variable:
    return x.tape.record(math.log(x.value), (x.index, 1 / x.value))


def sin(x: Variable) -> Variable:
    return x.tape.record(math.sin(x.value), (x.index, math.cos(x.value)))


def cos(x: Variable) -> Variable:
    return x.tape.record(math.cos(x.value), (x.index, -math.sin(x.value)))


def value_and_gradient(function: Callable[..., Any], at: Sequence[float]) -> tuple[float, list[float]]:
    """f and ∇f at a point by one pass forward and one sweep back."""
    tape = Tape()
    inputs = [tape.record(float(x)) for x in at]
    result = function(*inputs)
    return result.value, tape.adjoints(result)[: len(inputs)]
