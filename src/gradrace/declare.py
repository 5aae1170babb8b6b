"""How a kernel is declared: Family (the mathematics), Size (how large), Variant (one formulation)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np

from gradrace.errors import UsageError

OPERATORS = ("primal", "value_and_gradient", "vjp", "jvp", "jacobian", "hvp", "hessian", "solve")
"""What can be computed of a family, and timed."""

DERIVED = ("primal", "value_and_gradient", "vjp", "jvp")
"""Operators that automatic differentiation derives from a variant that computes the primal."""

STATUSES = ("error", "nan", "disagree", "none", "zero", "noise", "agree")
"""Outcomes of the gradient check, worst first; `skipped` stands apart."""

TIERS = ("test", "bench", "cuda", "large")
"""Who uses a size: the tests, the default bench, the CUDA bench, nobody unless asked."""

Numbers: TypeAlias = Mapping[str, Any]
"""The float64 arrays and plain scalars of a scenario, by name."""

Reference: TypeAlias = Callable[[Numbers], Mapping[str, Any]]
"""From numbers to the exact outputs by name."""

Function = TypeVar("Function", bound=Callable[..., Any])
_WORD = re.compile(r"[A-Za-z0-9_]+")


def _check_word(kind: str, word: str) -> None:
    if not _WORD.fullmatch(word):
        raise UsageError(f"{kind} {word!r} must be made of letters, digits and underscores")


def _check_operator(owner: str, operator: str) -> None:
    if operator not in OPERATORS:
        raise UsageError(f"{owner}: unknown operator {operator!r}; choose from: {', '.join(OPERATORS)}")


@dataclass(frozen=True)
class Size:
    """A point on the family's axes, and the tiers that use it. Build it with `size(...)`."""

    axes: tuple[tuple[str, int | str], ...]
    tiers: frozenset[str]
    operators: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None

    @property
    def word(self) -> str:
        """The word in case ids: `d5_n100`; an axis whose value is a word stands as that word."""
        return "_".join(value if isinstance(value, str) else f"{axis}{value}" for axis, value in self.axes)

    def __getitem__(self, axis: str) -> Any:
        return dict(self.axes)[axis]

    def get(self, axis: str, default: Any = None) -> Any:
        return dict(self.axes).get(axis, default)


def size(
    *tiers: str,
    operators: tuple[str, ...] | None = None,
    dtypes: tuple[str, ...] | None = None,
    **axes: int | str,
) -> Size:
    """A size with the given axes, used by `tiers`; `operators` and `dtypes` narrow the family's own.

    The axis `b` means a batch: arrays whose first axis has that length are judged instance by instance.
    """
    for tier in tiers:
        if tier not in TIERS:
            raise UsageError(f"unknown tier {tier!r} of a size; choose from: {', '.join(TIERS)}")
    made = Size(tuple(axes.items()), frozenset(tiers), operators, dtypes)
    _check_word("size", made.word)
    return made


Condition: TypeAlias = Callable[[Size, Numbers, Reference], Mapping[str, Any]]
"""From a size, its numbers and the reference to κ of each output by name: a number, or one for each instance."""


@dataclass(frozen=True)
class Limit:
    """The largest size that a variant reaches: `cost(size)` may be `at_most` that much, else the reason."""

    cost: Callable[[Size], float]
    at_most: float
    reason: str

    def exceeded_by(self, size: Size) -> str | None:
        cost = self.cost(size)
        return f"{self.reason}: {cost:.2g} is over the limit of {self.at_most:.2g}" if cost > self.at_most else None


@dataclass(frozen=True, eq=False)
class Variant:
    """One formulation: a function, and the facts about it."""

    name: str
    function: Callable[..., Any]
    source: str
    computes: str = "primal"
    operators: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    expected: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unsupported: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    requires: tuple[str, ...] = ()
    prepare: Callable[..., Callable[..., Any]] | None = None
    condition: Condition | None = None
    success: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_specimen(self) -> bool:
        """Is it kept as a known-wrong formulation? It must be seen as wrong, and it never races."""
        return any(status not in ("agree", "none", "noise") for status, _ in self.expected.values())


def _unit_condition(size: Size, numbers: Numbers, reference: Reference) -> dict[str, float]:
    return {}


def _first_primal_shape(family: Family, numbers: Numbers) -> tuple[int, ...]:
    return np.shape(numbers[family.primals[0]])


@dataclass(frozen=True, eq=False)
class Family:
    """One mathematical function or problem, with all its formulations.

    A variant that computes the primal is called as `function(*primals, *constants)`; one that computes
    another operator directly takes the tangents (jvp, hvp) or the cotangent (vjp) after these and returns

    - `value_and_gradient`, `vjp`: `(value, (gradient of each primal, ...))`;
    - `jvp`: `(value, tangent)`;
    - `jacobian`, `hvp`, `hessian`, `solve`: one tensor, for a family of one primal.

    Fields
    ------
    draw: `draw(size, rng)` returns the float64 inputs by name: primals, constants and, for the reference
        alone, whatever else it needs (such as the known solution).
    reference: operator -> function of these numbers, returning the exact outputs by name ("value",
        "tangent", and the primals' names). An operator without one is judged by the baseline in float64.
    condition: κ of each output by name, 1 where it says nothing; depth: operations in a row whose
        rounding errors add up. The tolerance is C u κ depth, see `gradrace.verify`.
    magnitude: the scale of the rounding noise of a gradient whose exact value is zero.
    objective: `objective(value, *primals, *constants)`, the scalar whose gradient value_and_gradient takes.
    symmetric: primals that are symmetric matrices, so that only the symmetric part of the gradient is defined.
    distance: for solvers, the relative distance of each found solution from the known one.
    """

    name: str
    summary: str
    source: str
    primals: tuple[str, ...]
    operators: tuple[str, ...]
    sizes: tuple[Size, ...]
    draw: Callable[[Size, np.random.Generator], Numbers]
    baseline: str | Mapping[str, str]
    constants: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float64", "float32")
    version: str = "1"
    reference: Mapping[str, Reference] = field(default_factory=dict)
    condition: Condition = _unit_condition
    depth: Callable[[Size], float] | float = 1.0
    magnitude: Callable[[Numbers], Mapping[str, float]] | None = None
    objective: Callable[..., Any] | None = None
    output_shape: Callable[[Family, Numbers], tuple[int, ...]] = _first_primal_shape
    symmetric: frozenset[str] = frozenset()
    distance: Callable[[Numbers, np.ndarray], np.ndarray] | None = None
    _variants: dict[str, Variant] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check_word("family", self.name)
        for operator in self.operators:
            _check_operator(self.name, operator)

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(self._variants.values())

    def variant(self, *, source: str, name: str | None = None, **facts: Any) -> Callable[[Function], Function]:
        """Declare the decorated function as a formulation of this family, and return it unchanged.

        Raises UsageError for a second variant of one name or an operator that does not exist.
        """

        def declare(function: Function) -> Function:
            row = Variant(name=name or function.__name__, function=function, source=source, **facts)
            _check_word("variant", row.name)
            for operator in (row.computes, *(row.operators or ())):
                _check_operator(f"{self.name}/{row.name}", operator)
            self._check_outputs(row)
            if row.name in self._variants:
                raise UsageError(
                    f"family {self.name!r} declares two variants of the name {row.name!r}; rename one of them"
                )
            self._variants[row.name] = row
            return function

        return declare

    def depth_of(self, size: Size) -> float:
        return self.depth(size) if callable(self.depth) else self.depth

    def baseline_of(self, operator: str) -> str:
        """The name of the variant that is the denominator of speed for this operator."""
        if isinstance(self.baseline, str):
            return self.baseline
        if operator not in self.baseline:
            raise UsageError(f"family {self.name!r} names no baseline for the operator {operator!r}; add one")
        return self.baseline[operator]

    def _check_outputs(self, row: Variant) -> None:
        outputs = ("value", "tangent", *self.primals)
        for name, (status, _) in row.expected.items():
            if name not in outputs or status not in STATUSES:
                raise UsageError(
                    f"{self.name}/{row.name} expects {status!r} of {name!r}; "
                    f"statuses are {', '.join(STATUSES)}, outputs are {', '.join(outputs)}"
                )

    def operators_of(self, variant: Variant) -> tuple[str, ...]:
        """The operators that a variant answers: those derived from its primal, or the one it computes."""
        answers = variant.operators or (DERIVED if variant.computes == "primal" else (variant.computes,))
        return tuple(operator for operator in self.operators if operator in answers)
