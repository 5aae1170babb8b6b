"""asv's result files, version 2: one a commit, machine and environment.

A benchmark is a method of a class that is called after a family and an operator: `SandwichValueAndGradient` has
`time_kernel` and `track_peak_bytes`. Its result is a row whose columns the file names; at the end of a row columns may
be missing. The numbers in a column stand in the order of the product of the parameters.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gradrace.errors import UsageError
from gradrace.report.document import Document, is_finite
from gradrace.report.rows import ENOUGH_ROUNDS, Point

OPERATORS = ("primal", "value_and_gradient", "vjp", "jvp", "jacobian", "hvp", "hessian", "solve")

VERSION = 2

HARDWARE = ("cpu", "num_cpu", "arch", "os")
"""What asv keeps of a machine beside its name; its memory is left out, for that differs from start to start."""

_OURS = re.compile(r"(?:.*\.)?(?P<owner>\w+)\.(?:(?P<time>time)_kernel|track_(?P<counter>\w+))")

_WORD = re.compile(r"[A-Z][a-z]*(?:\d+(?!\d|[A-Z](?![a-z])))?|\d+[A-Z]?")
"""A word as `str.title` leaves it: Net3, and 1D."""


def is_result(content: Mapping[str, Any]) -> bool:
    return {"commit_hash", "results", "result_columns"} <= content.keys()


def is_companion(content: Mapping[str, Any]) -> bool:
    """What asv keeps beside the results: machine.json, and benchmarks.json."""
    is_machine = {"machine", "version"} <= content.keys()
    return is_machine or any(isinstance(each, dict) and "param_names" in each for each in content.values())


def read_points(document: Document) -> list[Point]:
    """The numbers of our benchmarks, at the commit of this file; what is NaN or null there is absent."""
    if document.content.get("version") != VERSION:
        raise UsageError(f"{document.file} is not of version {VERSION} of asv's results; run `asv update` there")
    facts = document.inside("params").content
    requirements = document.content.get("requirements")
    torch = (requirements if isinstance(requirements, dict) else facts).get("torch")
    where: dict[str, Any] = {
        "commit": document.text("commit_hash"),
        "date": document.number("date") / 1000,
        "machine": str(facts.get("machine") or document.file.parent.name),
        "hardware": ", ".join(str(facts[key]) for key in HARDWARE if facts.get(key)),
        "python": str(facts.get("python") or "unknown"),
        "torch": str(torch or "unknown"),
    }
    columns = [str(name) for name in document.items("result_columns")]
    found = []
    for name, row in document.inside("results").content.items():
        if (asked := _asked(name)) and row is not None:
            if not isinstance(row, list):
                raise document.complaint(f"the result of {name} is no row")
            numbers = Document(document.file, dict(zip(columns, row, strict=False)), name)
            found += [Point(**where, benchmark=asked[0], what=asked[1], **each) for each in _numbers(numbers)]
    return found


def _asked(name: str) -> tuple[str, str] | None:
    """Family and operator, and what was measured; None for a benchmark that is not ours."""
    match = _OURS.fullmatch(name)
    benchmark = benchmark_of(match["owner"]) if match else None
    return (benchmark, match["time"] or match["counter"]) if match and benchmark else None


def benchmark_of(owner: str) -> str | None:
    """From the name of a class to `family/operator`: SandwichValueAndGradient is sandwich/value_and_gradient."""
    for operator in OPERATORS:
        family = owner.removesuffix(titled(operator))
        words = _WORD.findall(family)
        if family != owner and words and "".join(words) == family:
            return f"{'_'.join(words).lower()}/{operator}"
    return None


def titled(name: str) -> str:
    return "".join(word.title() for word in name.split("_"))


def _numbers(row: Document) -> Iterator[dict[str, Any]]:
    """Of each combination of the parameters that has a number: the parameters, the number and its interval."""
    if row.content.get("result") is None:
        return
    axes = row.items("params")
    if len(axes) != 3 or not all(isinstance(axis, list) for axis in axes):
        return
    combinations = list(itertools.product(*axes))
    values = _column(row, "result", len(combinations))
    samples = _finite(row, "stats_repeat", len(combinations))
    lows, highs = (_interval(row, side, samples) for side in (("a", "25"), ("b", "75")))
    for parameters, value, low, high in zip(combinations, values, lows, highs, strict=True):
        if value is not None:
            names = tuple(_unquoted(str(each)) for each in parameters)
            yield {"parameters": names, "value": value, "low": low, "high": high}


def _column(row: Document, name: str, count: int) -> Sequence[float | None]:
    column = row.items(name)
    if len(column) != count:
        raise row.complaint(f"{name} holds {len(column)} numbers for {count} combinations of parameters")
    return [_number(row, name, value) for value in column]


def _number(row: Document, name: str, value: Any) -> float | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_finite(value):
        raise row.complaint(f"{name} holds {value!r} where a number belongs")
    return value


def _interval(row: Document, sides: tuple[str, str], samples: Sequence[float | None]) -> Sequence[float | None]:
    """One end of the 99 % interval of the median, or where samples were too few for one, a quartile; None where they
    were too few for that.
    """
    interval, quartile = (
        _finite(row, f"stats_{name}", len(samples)) for name in (f"ci_99_{sides[0]}", f"q_{sides[1]}")
    )
    return [
        first if first is not None else last if (count or 0) >= ENOUGH_ROUNDS else None
        for first, last, count in zip(interval, quartile, samples, strict=True)
    ]


def _finite(row: Document, name: str, count: int) -> Sequence[float | None]:
    """asv writes infinity for the end of an interval that is not known."""
    if row.content.get(name) is None:
        return [None] * count
    known = [value if not isinstance(value, float) or is_finite(value) else None for value in row.items(name)]
    return _column(Document(row.file, {name: known}, row.place), name, count)


def _unquoted(parameter: str) -> str:
    """asv writes the repr of a parameter."""
    try:
        return str(ast.literal_eval(parameter))
    except (ValueError, SyntaxError):
        return parameter
