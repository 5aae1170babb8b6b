"""Does the work of a formulation grow as declared? The exponent of each counter, fitted over a ladder of sizes.

The exponent of the time stands beside them. It is reported and never judged: at sizes that are quick to run a time is
mostly overhead, and on a shared machine mostly noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import linear_regression
from typing import Any, TypeAlias

from gradrace.cases import Case, Scenario
from gradrace.clock import clock
from gradrace.declare import Family, Growth, Variant
from gradrace.errors import UsageError
from gradrace.operators import Prepared, Thunk
from gradrace.work import Work

LIMIT = 0.1
"""A fitted exponent may differ by this much from the declared one.

A count a x^p + b x^(p−1) has the local exponent p − ρ / (1 + ρ), where ρ = b / (a x): it is within the limit when the
lower term is below a tenth of the leading one. A logarithm has the local exponent 1 / ln x, which passes for 0 beyond
x = e^10. Laws that differ in their exponent differ by one half at least, five times the limit.
"""


REPETITIONS = 5
"""Runs of which the shortest is taken as the time at a size."""

SECONDS = "seconds"
"""The counter that a clock counts: its law is fitted and nothing is declared of it."""


@dataclass(frozen=True)
class Rung:
    """What was found at one size: the work, and the shortest time of a few."""

    work: Work
    seconds: float


@dataclass(frozen=True)
class Law:
    """One counter of one variant over a ladder: the counts, the fitted exponent and the declared one."""

    family: str
    variant: str
    operator: str
    axis: str
    at: str
    counter: str
    ladder: tuple[int, ...]
    counts: tuple[float, ...]
    declared: float | None

    @property
    def id(self) -> str:
        return f"{self.family}/{self.variant}/{self.operator}/{self.at}"

    @property
    def fitted(self) -> float | None:
        """The slope of ln count over ln size by least squares; 0 for a constant, be it 0, and None for no power."""
        if len(set(self.counts)) == 1:
            return 0.0
        if not all(self.counts):
            return None
        return linear_regression([math.log(x) for x in self.ladder], [math.log(y) for y in self.counts]).slope

    @property
    def ok(self) -> bool:
        if self.declared is None:
            return True
        return self.fitted is not None and abs(self.fitted - self.declared) <= LIMIT

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "fitted": self.fitted, "ok": self.ok}

    @property
    def complaint(self) -> str:
        """One sentence: what was counted, what was declared, what to change."""
        found = "by no power" if self.fitted is None else f"as {self.axis}^{self.fitted:.2f}"
        return (
            f"{self.id}: {self.counter} grows {found} (counts {', '.join(map(str, self.counts))} at {self.axis} = "
            f"{', '.join(map(str, self.ladder))}) where {self.axis}^{self.declared:g} is declared; "
            "fix the variant, or give it a law of its own by grows=, on a longer ladder where lower terms bend the line"
        )


Declared: TypeAlias = tuple[Family, Variant, Growth]


def declared(cases: Iterable[Case]) -> list[Declared]:
    """The laws that are declared of the variants and operators of these cases."""
    chosen = dict.fromkeys((case.scenario.family, case.variant, case.scenario.operator) for case in cases)
    return [
        (family, variant, law)
        for family, variant, operator in chosen
        for law in family.growth_of(variant)
        if law.operator == operator and law.exponents
    ]


def climb(laws: Iterable[Declared]) -> list[Case]:
    """The cases that have to be counted, scenario by scenario, so that the variants of one share its inputs."""
    cases = dict.fromkeys(case for law in laws for case in _rungs(*law))
    scenarios = dict.fromkeys(case.scenario for case in cases)
    order = {scenario: place for place, scenario in enumerate(scenarios)}
    return sorted(cases, key=lambda case: order[case.scenario])


def _rungs(family: Family, variant: Variant, law: Growth) -> list[Case]:
    dtype = (variant.dtypes or family.dtypes)[0]
    return [Case(Scenario(family, law.operator, size, dtype, "cpu"), variant) for size in law.sizes]


def time(prepared: Prepared) -> float:
    """The shortest of a few runs, in seconds."""
    return min(_seconds(prepared.thunk) for _ in range(REPETITIONS))


def _seconds(thunk: Thunk) -> float:
    start = clock()
    thunk()
    return clock() - start


def fit(laws: Iterable[Declared], rungs: Mapping[Case, Rung]) -> list[Law]:
    """The laws, fitted to these rungs; one whose ladder lacks a rung, because a size is skipped, is left out.

    Raises UsageError where a law names a counter that cannot be known of a variant.
    """
    return [
        Law(
            family=family.name,
            variant=variant.name,
            operator=law.operator,
            axis=law.axis,
            at=law.at.word,
            counter=counter,
            ladder=law.ladder,
            counts=tuple(_found(rungs[case], counter) for case in _rungs(family, variant, law)),
            declared=exponent,
        )
        for family, variant, law in laws
        if all(case in rungs for case in _rungs(family, variant, law))
        for counter, exponent in (*law.exponents.items(), (SECONDS, None))
    ]


def _found(rung: Rung, counter: str) -> float:
    return rung.seconds if counter == SECONDS else _known(rung.work, counter)


def _known(work: Work, counter: str) -> int:
    value = work.counters[counter]
    if value is None:
        raise UsageError(
            f"{work.id}: {counter} is not known ({work.reason}); give the variant a law without it by grows="
        )
    return value
