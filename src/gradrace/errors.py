"""The one error that a person can cause and mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


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
