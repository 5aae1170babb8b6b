"""The one error that a person can cause and mend, and where in the person's files its cause stands."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str, int]
"""A file and a line in it."""

_MACHINERY = ("gradrace", "importlib", "runpy", "torch", "numpy")
"""Packages whose frames say nothing about a person's own code."""


class UsageError(Exception):
    """Bad input. The message is one sentence that says what to do; the commands exit with code 2."""


def unknown(kind: str, word: str, known: Iterable[str]) -> UsageError:
    """The error for a `word` that is not among the `known` words of this kind, with the nearest ones."""
    choices = sorted(set(known))
    near = get_close_matches(word, choices, n=3)
    if near and len(choices) > len(near):
        return UsageError(f"unknown {kind} {word!r}; did you mean {' or '.join(near)}?")
    shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return UsageError(f"unknown {kind} {word!r}; choose from: {shown}")


def described(error: BaseException) -> str:
    """The kind of an error and the first line of its message."""
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def where(error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """`file:line` of the innermost frame in the file of `function`, else of the line that defines it.

    Without a function: of the innermost frame in a file of the current folder, else in any file that is neither
    gradrace's nor torch's. Empty where there is none, as for a module that does not exist.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return spelled((error.filename, error.lineno or 1))
    defined = place_of(function) if function else None
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if (frame.f_code.co_filename == defined[0] if defined else _is_theirs(frame.f_globals, frame.f_code))
    ]
    near = [] if defined else [place for place in frames if Path(place[0]).is_relative_to(Path.cwd())]
    found = near or frames
    place = found[-1] if found else defined
    return spelled(place) if place else ""


def _is_theirs(scope: dict[str, Any], code: Any) -> bool:
    package = str(scope.get("__name__", "")).partition(".")[0]
    return package not in _MACHINERY and not code.co_filename.startswith("<")


def place_of(function: Callable[..., Any]) -> Place | None:
    """Where a function is defined, below its wrappers; None for what is not written in Python."""
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    code = getattr(inner, "__code__", None)
    return (code.co_filename, code.co_firstlineno) if code else None


def place_of_caller() -> Place | None:
    """The line of a person's file that called into gradrace."""
    return next(((frame.f_code.co_filename, frame.f_lineno) for frame in _callers()), None)


def modules_of_caller() -> Iterator[str]:
    """The modules of a person that called into gradrace, outwards to the one that is being imported."""
    for frame in _callers():
        yield str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>":
            return


def _callers() -> Iterator[FrameType]:
    """The calls that are going on in a person's files, the innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        # A built-in family is declared like anybody else's.
        if name.startswith("gradrace.families") or name.partition(".")[0] != "gradrace":
            yield frame
        frame = frame.f_back


def spelled(place: Place) -> str:
    """`file:line`, the file relative to the current folder where it lies inside."""
    file, line = Path(place[0]), place[1]
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{line}"
