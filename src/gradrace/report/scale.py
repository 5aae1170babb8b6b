"""A logarithmic axis with a place for zero, ticks that fit into its length, and their spelling."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

from gradrace.report.style import LINE, width_of

Speller = Callable[[float], str]

ROOM = 0.06
"""Of the length of an axis, left free at either end."""

APART = 0.07
"""Inches between the labels of two ticks, at least."""

NEAR, NEAREST = 2.0, 0.9
"""Decades: over shorter axes there are ticks within a decade; over still shorter ones also evenly spaced numbers."""

DIGITS = ((1, 2, 5), (1, 3), (2, 5), (1, 5), (2,), (5,))

MOST_TICKS = 7

LEAST, MOST = 1e-300, 1e300
"""What is smaller but not zero, and what is larger, such as an error without bound, stands at these ends."""

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, both above zero, by their logarithms to base 10. has_zero: zero has a place below."""

    low: float
    high: float
    has_zero: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, least: float = 1.6) -> Scale:
        """Around these values, and at least a factor of `least` long."""
        found = list(values)
        logs = [_log(value) for value in found if value > 0] or [0.0]
        short = max(0.0, math.log10(least) - (max(logs) - min(logs))) / 2
        has_zero = any(value <= 0 for value in found)
        return cls(min(logs) - short, max(logs) + short, has_zero)

    @property
    def length(self) -> float:
        return self.high - self.low

    @property
    def zero(self) -> float:
        return self.low - 0.16 * self.length

    @property
    def ends(self) -> tuple[float, float]:
        return (self.zero if self.has_zero else self.low) - ROOM * self.length, self.high + ROOM * self.length

    def place(self, value: float) -> float:
        """Where a value stands."""
        return _log(value) if value > 0 else self.zero

    def choices(self) -> list[list[float]]:
        """Sets of places of round numbers that could be ticks, those with most places first."""
        low, high = self.low - ROOM * self.length / 2, self.high + ROOM * self.length / 2
        powers = range(math.floor(low), math.ceil(high) + 1)
        found = [
            [float(power) for power in powers if power % step == 0] for step in (1, 2, 3, 4, 5, 6, 8, 10, 20, 50, 100)
        ]
        if high - low < NEAR:
            found += [[power + math.log10(digit) for power in powers for digit in digits] for digits in DIGITS]
        if high - low < NEAREST:
            found += [_even(10**low, 10**high, digit * 10.0**power) for power in (-3, -2, -1, 0) for digit in (1, 2, 5)]
        inside = [[place for place in places if low <= place <= high] for places in found]
        return sorted((places for places in inside if 0 < len(places) <= MOST_TICKS), key=len, reverse=True)


def _log(value: float) -> float:
    return math.log10(min(max(value, LEAST), MOST))


def _even(low: float, high: float, step: float) -> list[float]:
    """Multiples of a step, which is relative to the decade of the upper end."""
    width = step * 10 ** math.floor(math.log10(high))
    if high - low > (MOST_TICKS + 1) * width:
        return []
    return [math.log10(width * count) for count in range(math.ceil(low / width), math.floor(high / width) + 1) if count]


@dataclass(frozen=True)
class Ruler:
    """A scale laid on a sheet, from one end to the other in inches. An upright one runs from its lower end up."""

    scale: Scale
    start: float
    end: float
    is_upright: bool = False

    def at(self, value: float) -> float:
        return self._inches(self.scale.place(value))

    def ticks(self, spell: Speller) -> list[tuple[float, str]]:
        """As many places as can be labelled without touching each other, and the labels."""
        zero = [(self._inches(self.scale.zero), "0")] if self.scale.has_zero else []
        for places in self.scale.choices():
            found = zero + [(self._inches(place), spell(10.0**place)) for place in places]
            if all(abs(b[0] - a[0]) >= self._half(a[1]) + self._half(b[1]) + APART for a, b in pairwise(found)):
                return found
        return zero

    def marked(self, values: Iterable[float], spell: Speller) -> list[tuple[float, str]]:
        """These values themselves as ticks, without those whose label would touch the one before."""
        kept: list[tuple[float, str]] = []
        for value in sorted(values):
            place, label = self.at(value), spell(value)
            if not kept or abs(place - kept[-1][0]) >= self._half(label) + self._half(kept[-1][1]) + APART:
                kept.append((place, label))
        return kept

    def _inches(self, place: float) -> float:
        low, high = self.scale.ends
        return self.start + (place - low) / (high - low) * (self.end - self.start)

    def _half(self, label: str) -> float:
        return LINE / 2 if self.is_upright else width_of(label) / 2


def in_seconds(seconds: float) -> str:
    """`20 µs`"""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= 0.9999 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def in_thousands(count: float) -> str:
    """`20k`"""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9999 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def in_powers(number: float) -> str:
    """`10⁻³`, and what is near to 1 as it is."""
    exponent = math.log10(number)
    whole = round(exponent)
    if abs(exponent) < 2.5 or abs(exponent - whole) > 1e-9:
        return f"{number:.2g}" if number < 100 else f"{number:.0f}"
    return "10" + str(whole).translate(SUPERSCRIPT)


def in_percent(fraction: float) -> str:
    """`3 %`, and tiny ones as powers."""
    return f"{100 * fraction:.3g} %" if fraction >= 0.9e-4 else in_powers(100 * fraction) + " %"


def in_times(ratio: float) -> str:
    """`1.5 ×`, and near to 1 with the digits that tell it from 1."""
    if ratio >= 100:
        return f"{in_powers(ratio)} ×" if ratio >= 1e4 else f"{ratio:,.0f} ×"
    return f"{ratio:.{5 if abs(ratio - 1) < 0.01 else 3}g} ×"
