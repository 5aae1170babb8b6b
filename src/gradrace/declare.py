"""How a kernel is declared: Family (the mathematics), Size (how large), Variant (one formulation)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from gradrace.checks import (
    Owner,
    check_exact,
    check_names,
    check_numbers,
    check_signature,
    check_types,
    with_known_arguments,
)
from gradrace.errors import modules_of_caller, place_of, place_of_caller

OPERATORS = ("primal", "value_and_gradient", "vjp", "jvp", "jacobian", "hvp", "hessian", "solve")
"""What can be computed of a family, and timed."""

DERIVED = ("primal", "value_and_gradient", "vjp", "jvp")
"""Operators that automatic differentiation derives from a variant that computes the primal."""

STATUSES = ("error", "nan", "disagree", "none", "zero", "noise", "agree")
"""Outcomes of the gradient check, worst first; `skipped` stands apart."""

TIERS = ("test", "bench", "gate", "cuda", "large")
"""Who uses a size: the tests, the default bench, the gate, the CUDA bench, nobody unless asked."""

COUNTERS = ("ops", "flops", "graph_nodes", "graph_depth", "saved_bytes", "peak_bytes")
"""Counters of a case's work of which a law of growth may be declared; see `gradrace.work`."""

DTYPES = ("float64", "float32")
DEVICES = ("cpu", "cuda")

Numbers: TypeAlias = Mapping[str, Any]
"""The float64 arrays and plain scalars of a scenario, by name."""

Reference: TypeAlias = Callable[[Numbers], Mapping[str, Any]]
"""From numbers to the exact outputs by name."""

Function = TypeVar("Function", bound=Callable[..., Any])
_WORD = re.compile(r"[A-Za-z0-9_]+")


def _check_word(owner: Owner, word: str) -> None:
    if not _WORD.fullmatch(word):
        raise owner.complaint("the name must be made of letters, digits and underscores; rename it")


def _check_known(owner: Owner, kind: str, words: Iterable[str], known: Iterable[str]) -> None:
    for word in words:
        if word not in known:
            raise owner.unknown(kind, word, known)


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
    made = Size(tuple(axes.items()), frozenset(tiers), operators, dtypes)
    owner = Owner(f"size {made.word!r}", place_of_caller())
    check_types(owner, Size, vars(made))
    _check_word(owner, made.word)
    _check_known(owner, "tier", tiers, TIERS)
    _check_known(owner, "operator", operators or (), OPERATORS)
    _check_known(owner, "dtype", dtypes or (), DTYPES)
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


@dataclass(frozen=True)
class Kink:
    """A point of an elementwise family where formulations may differ; NaN is a point too.

    at: each entry of the family's one primal; its constants, plain numbers, are those of its first size.
    allowed: the interval of derivatives that are right there: Clarke's subdifferential at a kink, a single number
        where the function is differentiable, None where no derivative exists and so none is right or wrong.
    value: the value of the function there, None where none is right or wrong.
    """

    name: str
    at: float
    allowed: tuple[float, float] | None
    value: float | None


@dataclass(frozen=True)
class Growth:
    """How the work of an operator grows with one axis: each counter as axis ** exponent, 0 where it does not grow.

    ladder: values of the axis, in a geometric sequence and large enough that terms of lower order do not bend the
        line: below a tenth of the leading one.
    at: the other axes, as a `size(...)`.
    """

    axis: str
    ladder: tuple[int, ...]
    operator: str
    exponents: Mapping[str, float]
    at: Size = Size((), frozenset())

    @property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(Size((*self.at.axes, (self.axis, value)), frozenset()) for value in self.ladder)

    def but(self, **exponents: float) -> Growth:
        """The same ladder, with these exponents in place of its own."""
        return replace(self, exponents={**self.exponents, **exponents})


def _check_growth(owner: Owner, laws: Iterable[Growth]) -> None:
    for law in laws:
        _check_known(owner, "operator", (law.operator,), OPERATORS)
        _check_known(owner, "counter", law.exponents, COUNTERS)
        if law.at.get(law.axis) is not None:
            raise owner.complaint(f"a Growth holds the axis {law.axis!r} fixed that it climbs; leave it out of at=")
        if len(law.ladder) < 3 or any(low >= high for low, high in zip(law.ladder, law.ladder[1:], strict=False)):
            raise owner.complaint(f"the ladder {law.ladder} of a Growth must be three values or more that increase")


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
    success: Mapping[str | None, float] = field(default_factory=dict)
    grows: tuple[Growth, ...] = ()

    @property
    def is_specimen(self) -> bool:
        """Is it kept as a known-wrong formulation? It must be seen as wrong, and it never races."""
        return any(status not in ("agree", "none", "noise") for status, _ in self.expected.values())


def _first_primal_shape(family: Family, numbers: Numbers) -> tuple[int, ...]:
    return np.shape(numbers[family.primals[0]])


@with_known_arguments
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
    condition: κ of each output by name, 1 where it says nothing; without a condition κ is measured by perturbing all
        primals and arrays. depth: operations in a row whose rounding errors add up. The tolerance is C u κ depth,
        see `gradrace.tolerance`.
    magnitude: the scale of the rounding noise of a gradient whose exact value is zero.
    objective: `objective(value, *primals, *constants)`, the scalar whose gradient value_and_gradient takes.
    symmetric: primals that are symmetric matrices, so that only the symmetric part of the gradient is defined.
    distance: for solvers, the relative distance of each found solution from the known one.
    function: what is differentiated, where the variants return derivatives only: `function(*primals, *constants)`.
    kinks: the points where the derivative is a convention, which `gradrace kinks` records.
    growth: the laws by which the work of its variants grows, which `gradrace work --exponents` checks; a variant
        of another law gives its own, for the same operator and axis, by `grows`.
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
    condition: Condition | None = None
    depth: Callable[[Size], float] | float = 1.0
    magnitude: Callable[[Numbers], Mapping[str, float]] | None = None
    objective: Callable[..., Any] | None = None
    output_shape: Callable[[Family, Numbers], tuple[int, ...]] = _first_primal_shape
    symmetric: frozenset[str] = frozenset()
    distance: Callable[[Numbers, np.ndarray], np.ndarray] | None = None
    function: Callable[..., Any] | None = None
    kinks: tuple[Kink, ...] = ()
    growth: tuple[Growth, ...] = ()
    _variants: dict[str, Variant] = field(default_factory=dict, repr=False)

    owner: Owner = field(init=False, repr=False)
    homes: set[str] = field(default_factory=set, init=False, repr=False)
    """The modules that declare it and its variants."""

    def __post_init__(self) -> None:
        owner = Owner(f"family {self.name!r}", place_of_caller())
        object.__setattr__(self, "owner", owner)  # the record is frozen, and knows its place from here on
        self.homes.update(modules_of_caller())
        check_types(owner, Family, {each.name: getattr(self, each.name) for each in fields(self)})
        _check_word(owner, self.name)
        _check_known(owner, "operator", (*self.operators, *self.reference), OPERATORS)
        _check_known(owner, "dtype", self.dtypes, DTYPES)
        _check_known(owner, "primal", self.symmetric, self.primals)
        if not self.primals:
            raise owner.complaint('primals= is empty; name what is differentiated, such as primals=("x",)')
        if self.kinks and len(self.primals) > 1:
            raise owner.complaint("kinks= are points of one variable; give the family one primal, or leave them out")
        for kink in self.kinks:
            _check_word(owner, kink.name)
        _check_growth(owner, self.growth)

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(self._variants.values())

    def variant(
        self, *bare: Callable[..., Any], source: str | None = None, name: str | None = None, **facts: Any
    ) -> Callable[[Function], Function]:
        """Declare the decorated function as a formulation of this family, and return it unchanged.

        source: where the formulation comes from; the other facts are the fields of Variant.
        Raises UsageError for a fact that does not exist or fit, a signature that does not take the family's inputs,
        and a second variant of one name.
        """

        def declare(function: Function) -> Function:
            word = name or function.__name__
            owner = Owner(f"{self.name}/{word}", place_of(function) or place_of_caller())
            if source is None:
                raise owner.complaint(f'source= is missing; write @{self.name}.variant(source="where it comes from")')
            check_names(owner, facts, [each.name for each in fields(Variant) if each.name not in ("name", "function")])
            check_types(owner, Variant, {**facts, "source": source, "name": word})
            row = Variant(name=word, function=function, source=source, **facts)
            self._check_variant(owner, row)
            self._variants[row.name] = row
            self.homes.update(modules_of_caller())
            return function

        for function in bare:  # `@family.variant` without parentheses: say what is missing
            declare(function)
        return declare

    def depth_of(self, size: Size) -> float:
        if not callable(self.depth):
            return self.depth
        with self.owner.blamed("depth", self.depth):
            return self.depth(size)

    def baseline_of(self, operator: str) -> str:
        """The name of the variant that is the denominator of speed for this operator."""
        if isinstance(self.baseline, str):
            return self.baseline
        if operator not in self.baseline:
            raise self.owner.complaint(f"baseline= names no baseline for the operator {operator!r}; add one")
        return self.baseline[operator]

    def _check_variant(self, owner: Owner, row: Variant) -> None:
        _check_word(owner, row.name)
        _check_known(owner, "operator", (row.computes, *(row.operators or ())), OPERATORS)
        _check_known(owner, "dtype", row.dtypes or (), DTYPES)
        _check_known(owner, "operator, dtype or device", row.unsupported, (*OPERATORS, *DTYPES, *DEVICES))
        _check_known(owner, "output in expected=", row.expected, ("value", "tangent", *self.primals))
        _check_known(owner, "status in expected=", (status for status, _ in row.expected.values()), STATUSES)
        _check_growth(owner, row.grows)
        names = self.arguments_of(row.computes)
        if row.prepare:  # what it returns is called, so the function itself may take more
            check_signature(owner, row.prepare, ("function", *names), "prepare")
        else:
            check_signature(owner, row.function, names)
        if row.name in self._variants:
            raise owner.complaint(f"family {self.name!r} declares two variants of the name {row.name!r}; rename one")

    def growth_of(self, variant: Variant) -> tuple[Growth, ...]:
        """The laws of a variant's work: its own in place of the family's for the same operator and axis."""
        laws = {(law.operator, law.axis): law for law in (*self.growth, *variant.grows)}
        return tuple(law for law in laws.values() if law.operator in self.operators_of(variant))

    def arguments_of(self, computes: str) -> tuple[str, ...]:
        """The names of what a variant that computes this operator is called with, in order."""
        extra = {
            "jvp": tuple(f"tangent_{name}" for name in self.primals),
            "hvp": tuple(f"tangent_{name}" for name in self.primals),
            "vjp": ("cotangent",),
        }
        return (*self.primals, *self.constants, *extra.get(computes, ()))

    def check_complete(self) -> None:
        """Raises UsageError unless there are variants, and a baseline that answers each operator among them."""
        if not self._variants:
            raise self.owner.complaint(f"it has no variant; declare one by @{self.name}.variant(source=…)")
        for operator in self.operators:
            name = self.baseline_of(operator)
            if name not in self._variants:
                raise self.owner.unknown("variant in baseline=", name, self._variants)
            if operator not in self.operators_of(self._variants[name]):
                raise self.owner.complaint(
                    f"baseline= names {name!r}, which does not compute {operator!r}; name one that does, "
                    f'by baseline={{"{operator}": …}}'
                )

    def numbers(self, size: Size, rng: np.random.Generator) -> dict[str, Any]:
        """What `draw` gives, looked at. Raises UsageError where it raises, or gives something else than is due."""
        with self.owner.blamed("draw", self.draw):
            drawn = self.draw(size, rng)
        check_numbers(self.owner.at(self.draw), drawn, self.primals, self.constants)
        return dict(drawn)

    def exact(self, operator: str, numbers: Numbers) -> Mapping[str, Any]:
        """What the reference of an operator gives, looked at. Raises UsageError as `numbers` does."""
        function = self.reference[operator]
        with self.owner.blamed(f"reference[{operator!r}]", function):
            outputs = function(numbers)
        shapes = {name: np.shape(numbers[name]) for name in self.primals}
        check_exact(self.owner.at(function), outputs, operator, shapes)
        return outputs

    def operators_of(self, variant: Variant) -> tuple[str, ...]:
        """The operators that a variant answers: those derived from its primal, or the one it computes."""
        answers = variant.operators or (DERIVED if variant.computes == "primal" else (variant.computes,))
        return tuple(operator for operator in self.operators if operator in answers)
