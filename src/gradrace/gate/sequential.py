"""When is a kernel slower, faster or the same? Decisions on paired log ratios that may be looked at after any pair.

Of each pair of launches only a sign is used, that of log(head / base) − θ. The order inside a pair is a fair coin, so
that under "the median is at most θ" the sign is positive with probability 1/2 at most, whatever the noise: drift,
bursts and heavy tails included. Against it stands "positive with probability p", p uniform in (1/2, 1]: the ratio of
the two likelihoods is an e-process, which exceeds 1/α at any time with probability α at most.

Source: J. Ville, Étude critique de la notion de collectif (1939); A. Ramdas et al., Statistical Science 38 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from math import comb
from statistics import median


@lru_cache(maxsize=100_000)
def evidence(positive: int, pairs: int) -> float:
    """E of `positive` signs among `pairs`: 2^(n+1) ∫ p^k (1 − p)^(n−k) dp over (1/2, 1], by the binomial sum for it.

    It grows with `positive`. Exact integers throughout: no overflow and no cancellation.
    """
    n, k = pairs, positive
    below = sum(comb(n + 1, j) for j in range(k + 1))
    numerator, denominator = below, (n + 1) * comb(n, k)
    return math.inf if numerator.bit_length() - denominator.bit_length() > 1000 else numerator / denominator


@lru_cache(maxsize=100_000)
def needed(pairs: int, level: float) -> int | None:
    """The fewest positive signs among `pairs` whose evidence reaches 1/level; None where all of them do not."""
    low, high = 0, pairs
    if evidence(pairs, pairs) < 1 / level:
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if evidence(middle, pairs) >= 1 / level else (middle + 1, high)
    return low


def fewest(level: float) -> int:
    """How many pairs a claim takes at this level if all of them agree."""
    return next(pairs for pairs in count(1) if evidence(pairs, pairs) >= 1 / level)


class Decider:
    """The four e-processes of one kernel, fed pair by pair, and what they have shown so far.

    margin: δ, a ratio within (1/(1 + δ), 1 + δ) is the same. A tie with a bound speaks for neither side.
    """

    def __init__(self, margin: float) -> None:
        self.bound = math.log1p(margin)
        self.log_ratios: list[float] = []
        self._counts = dict.fromkeys(("slower", "faster", "not slower", "not faster"), 0)
        self._largest = dict.fromkeys(self._counts, 1.0)

    def add(self, log_ratio: float) -> None:
        """One more pair, log(head / base)."""
        self.log_ratios.append(log_ratio)
        signs = {
            "slower": log_ratio > self.bound,
            "faster": log_ratio < -self.bound,
            "not slower": log_ratio < self.bound,
            "not faster": log_ratio > -self.bound,
        }
        for name, positive in signs.items():
            self._counts[name] += positive
            seen = evidence(self._counts[name], len(self.log_ratios))
            self._largest[name] = max(self._largest[name], seen)

    def p_value(self, claim: str) -> float:
        """The anytime p-value of a claim, min(1, 1 / max E); of `same`, the worse of its two halves."""
        if claim == "same":
            return max(1 / self._largest["not slower"], 1 / self._largest["not faster"])
        return 1 / self._largest[claim]

    def judgement(self, level: float, level_of_same: float | None = None) -> str:
        """What has been shown at this level so far; at the same level unless `same` has one of its own."""
        levels = {"slower": level, "faster": level, "same": level if level_of_same is None else level_of_same}
        shown = [claim for claim, needed in levels.items() if self.p_value(claim) <= needed]
        return min(shown, key=self.p_value) if shown else "undecided"

    @property
    def suspicion(self) -> float:
        """The evidence of all pairs so far, not the most there has been, that the median lies above the margin."""
        return evidence(self._counts["slower"], len(self.log_ratios))

    def estimate(self, level: float = 0.05) -> Estimate:
        """Of all pairs, with what the intervals after each pair have in common: they hold all at once, and so what was
        shown after some pair stays so. Only where that leaves the median out, it is the interval after the last pair.
        """
        last = estimate(self.log_ratios, level)
        found = [estimate(self.log_ratios[:pairs], level) for pairs in range(1, last.pairs + 1)]
        low = max((each.low for each in found), default=last.low)
        high = min((each.high for each in found), default=last.high)
        return replace(last, low=low, high=high) if low <= last.ratio <= high else last


@dataclass(frozen=True)
class Estimate:
    """The median paired ratio head / base, and an interval for it that holds after any number of pairs."""

    ratio: float
    low: float
    high: float
    pairs: int


def estimate(log_ratios: Sequence[float], level: float = 0.05) -> Estimate:
    """The interval is that of the sign test, made valid at any time: the medians that no e-process rejects at level/2.

    Its ends are order statistics; with too few pairs they are 0 and infinity.
    """
    ordered, pairs = sorted(log_ratios), len(log_ratios)
    if not pairs:
        return Estimate(math.nan, 0.0, math.inf, 0)
    agreeing = needed(pairs, level / 2)
    centre = math.exp(median(ordered))
    if agreeing is None:
        return Estimate(centre, 0.0, math.inf, pairs)
    return Estimate(centre, math.exp(ordered[pairs - agreeing]), math.exp(ordered[agreeing - 1]), pairs)


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which claims stand at a family-wise error of `level`, by Holm's step-down (Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    stands = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        stands[index] = True
    return stands


def smallest_effect(
    log_ratios: Sequence[float], margin: float, level: float, cap: int, power: float = 0.9
) -> float | None:
    """The slowdown, such as 0.05 for 5 %, that `cap` pairs as noisy as these would have shown with this power.

    None where even a unanimous verdict of `cap` pairs would not suffice, or where there are no pairs to learn from.
    """
    agreeing = needed(cap, level)
    if agreeing is None or len(log_ratios) < 2:
        return None
    share = _share(agreeing, cap, power)
    centre = median(log_ratios)
    residuals = sorted(each - centre for each in log_ratios)
    # Shifted by the effect, this share of the pairs must lie beyond the margin.
    place = math.floor((1 - share) * (len(residuals) - 1))
    return math.expm1(math.log1p(margin) - residuals[place])


def _share(agreeing: int, pairs: int, power: float) -> float:
    """The probability of a positive sign at which `agreeing` or more of `pairs` are positive with this power."""
    low, high = agreeing / pairs, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        tail = sum(comb(pairs, j) * middle**j * (1 - middle) ** (pairs - j) for j in range(agreeing, pairs + 1))
        low, high = (low, middle) if tail >= power else (middle, high)
    return high
