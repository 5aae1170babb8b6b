"""Is a declaration well formed? Each check answers a wrong one in a sentence: the place, the owner, the argument.

Nothing here runs a kernel: signatures and types are read, and what `draw` and `reference` returned is looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from gradrace.errors import Place, UsageError, described, place_of, place_of_caller, spelled, unknown, where

Record = TypeVar("Record")

EXAMPLES: Mapping[str, str] = {
    "primals": '("x",)',
    "operators": '("primal", "value_and_gradient")',
    "baseline": '"the variant that the others race"',
    "expected": '{"x": ("none", "the reason")}',
    "unsupported": '{"float32": "the reason"}',
    "reference": '{"value_and_gradient": function}',
    "sizes": '(size("test", "bench", n=100),)',
    "limits": '(Limit(cost, at_most, "the reason"),)',
    "success": '{"near": 0.9}',
    "symmetric": 'frozenset({"M"})',
    "draw": 'lambda size, rng: {"x": rng.standard_normal(size["n"])}',
}
"""What a right argument looks like."""


@dataclass(frozen=True)
class Owner:
    """Who is declared and where: every complaint begins with both."""

    name: str
    place: Place | None

    def complaint(self, what: str) -> UsageError:
        return UsageError(f"{spelled(self.place)}: {self.name}: {what}" if self.place else f"{self.name}: {what}")

    def unknown(self, kind: str, word: str, known: Iterable[str]) -> UsageError:
        return self.complaint(str(unknown(kind, word, known)))

    def at(self, function: Callable[..., Any] | None) -> Owner:
        """The same owner, at the definition of one of its functions."""
        return Owner(self.name, (place_of(function) if function else None) or self.place)

    @contextmanager
    def blamed(self, argument: str, function: Callable[..., Any]) -> Iterator[None]:
        """Whatever this argument's function raises becomes a complaint that names the line."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            # A rule of gradrace's own, such as `measured`, says nothing: the place is where it was asked for.
            place = spelled(self.place) if self.place and _is_ours(function) else where(error, function)
            raise UsageError(
                f"{place}{': ' if place else ''}{self.name}: {argument} raised {described(error)}; mend it"
            ) from error


def _is_ours(function: Callable[..., Any]) -> bool:
    place = place_of(function)
    return place is None or Path(place[0]).is_relative_to(Path(__file__).parent)


# ---- arguments: their names and their types ----


def with_known_arguments(record: type[Record]) -> type[Record]:
    """Decorate a dataclass so that an unknown or missing argument raises UsageError instead of TypeError."""
    construct = record.__init__
    known = [each for each in fields(record) if each.init]  # type: ignore[arg-type]
    due = [each.name for each in known if each.default is MISSING and each.default_factory is MISSING]

    @wraps(construct)
    def __init__(self: Any, *values: Any, **facts: Any) -> None:
        name = facts.get("name", values[0] if values else "?")
        owner = Owner(f"{record.__name__.lower()} {name!r}", place_of_caller())
        check_names(owner, facts, [each.name for each in known])
        given = {*(each.name for each in known[: len(values)]), *facts}
        for word in due:
            if word not in given:
                raise owner.complaint(f"{word}= is missing; {_write(word)}")
        construct(self, *values, **facts)

    record.__init__ = __init__  # type: ignore[method-assign]
    return record


def check_names(owner: Owner, facts: Iterable[str], known: Iterable[str]) -> None:
    """Raises UsageError for an argument that does not exist."""
    names = list(known)
    for word in facts:
        if word not in names:
            raise owner.unknown("argument", word, names)


def check_types(owner: Owner, record: type, facts: Mapping[str, Any]) -> None:
    """Raises UsageError for an argument that does not fit the annotation of the record's field."""
    for name, value in facts.items():
        if not _fits(value, _hints(record)[name]):
            due = record.__annotations__[name]
            raise owner.complaint(f"{name}= is {_shown(value)} where {due} is due; {_write(name, value, due)}")


@cache
def _hints(record: type) -> Mapping[str, Any]:
    return get_type_hints(record)


def _fits(value: Any, hint: Any) -> bool:
    """Has the value the shape of this annotation? Of functions it is only asked that they can be called."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        wanted = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(wanted) and all(map(_fits, value, wanted))
    if origin is frozenset:
        return isinstance(value, Set) and all(_fits(each, inner[0]) for each in value)
    if inner and isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(each, inner[1]) for key, each in value.items()
        )
    if origin is not None:
        return isinstance(value, origin)
    if hint in (int, float):  # NumPy's numbers too
        return isinstance(value, Integral if hint is int else Real)
    return value is None if hint in (None, NoneType) else isinstance(value, hint)


def _shown(value: Any) -> str:
    if callable(value):
        return f"the function {getattr(value, '__name__', '?')}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


def _write(name: str, value: Any = None, due: str = "") -> str:
    """What to write instead; where a tuple of words is due, a bare word is one of them."""
    if isinstance(value, str) and due.startswith("tuple[str"):
        return f'write {name}=("{value}",)'
    if name in EXAMPLES:
        return f"write {name}={EXAMPLES[name]}"
    return f"write {name}=(…,)" if due.startswith("tuple[") else f"give {name}="


# ---- functions: their signatures ----


def check_signature(owner: Owner, function: Callable[..., Any], names: Sequence[str], argument: str = "") -> None:
    """Raises UsageError unless the function can be called with these positional arguments, in this order.

    A function that takes the right names in another order would run, and compute something else.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin may have none
        return
    called = f"({', '.join(names)})"
    subject = f"{argument}= takes" if argument else "the function takes"
    try:
        signature.bind(*names)
    except TypeError:
        raise owner.complaint(
            f"{subject} {_parameters(signature)} where it is called with {called}; "
            "change its parameters, or the family's primals= and constants="
        ) from None
    taken = list(signature.parameters)[: len(names)]
    if taken != list(names) and sorted(taken) == sorted(names):
        raise owner.complaint(
            f"{subject} {_parameters(signature)} where it is called with {called}, in this order; reorder them"
        )


def _parameters(signature: inspect.Signature) -> str:
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(inspect.Signature(bare))


# ---- what draw and reference returned ----


def check_numbers(owner: Owner, numbers: Any, primals: Sequence[str], constants: Sequence[str]) -> None:
    """Raises UsageError unless a draw gave each primal as a float64 array and each constant, no tensor among them."""
    if not isinstance(numbers, Mapping):
        raise owner.complaint(f"draw= gives {_kind(numbers)}; {_write('draw')}, a dictionary by name")
    for name in (*primals, *constants):
        if name not in numbers:
            raise owner.complaint(f"draw= gives no {name!r}, only {', '.join(map(repr, numbers))}; add it")
    for name in primals:
        value = numbers[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.float64:
            raise owner.complaint(
                f"draw= gives the primal {name!r} as {_kind(value)}; give a NumPy array of float64, "
                "of which the harness makes tensors of each dtype"
            )
    for name in constants:
        value = numbers[name]
        if type(value).__module__.partition(".")[0] == "torch" or _is_narrow(value):
            raise owner.complaint(
                f"draw= gives the constant {name!r} as {_kind(value)}; give a NumPy array of float64 or of integers, "
                "or a plain number"
            )


def _is_narrow(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.dtype != np.float64


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype}"
    return f"a {type(value).__module__.replace('builtins', '')}.{type(value).__qualname__}".replace(" .", " ")


def check_exact(owner: Owner, outputs: Any, operator: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises UsageError unless a reference gave every output of the operator, each gradient in its primal's shape.

    shapes: of the primals, by name and in order.
    """
    argument = f"reference[{operator!r}]"
    if not isinstance(outputs, Mapping):
        raise owner.complaint(f'{argument} gives {_kind(outputs)}; return a dictionary such as {{"value": …}}')
    for name in _outputs(operator, tuple(shapes)):
        if name not in outputs:
            raise owner.complaint(f"{argument} gives no {name!r}, only {', '.join(map(repr, outputs))}; add it")
    if operator in ("value_and_gradient", "vjp"):
        for name, shape in shapes.items():
            if np.shape(outputs[name]) != shape:
                raise owner.complaint(
                    f"{argument} gives {name!r} of shape {np.shape(outputs[name])} where the primal has {shape}; "
                    "return the gradient in the primal's shape"
                )


def _outputs(operator: str, primals: tuple[str, ...]) -> tuple[str, ...]:
    if operator in ("value_and_gradient", "vjp"):
        return ("value", *primals)
    return {"primal": ("value",), "jvp": ("value", "tangent"), "solve": ()}.get(operator, primals[:1])
