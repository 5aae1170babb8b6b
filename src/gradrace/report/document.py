"""A JSON document and where it stands, so that a complaint names the file and the place in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradrace.errors import UsageError

_HALF_LETTER = re.compile(r"\\u[dD][89a-fA-F]")
"""Two of them in a row may be a letter."""


def load(file: Path) -> Any:
    """The value of a file of JSON. Raises UsageError where the file cannot be read, or is none."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no text, so no JSON; name a file of results") from error
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}); name a file that is there and is yours") from error
    if not text.strip():
        raise UsageError(f"{file} is empty; make it again, or move it away")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.pos == 0:
            raise UsageError(f"{file} is no JSON; name a file of results") from error
        raise UsageError(
            f"{file} is no JSON from line {error.lineno}, column {error.colno} on ({error.msg}), as if it was cut off; "
            "make it again, or move it away"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise UsageError(f"{file} is no JSON that can be read ({error}); make it again, or move it away") from error
    if _HALF_LETTER.search(text) and not _is_text(json.dumps(value, ensure_ascii=False)):
        raise UsageError(f"{file} holds half of a letter, which is no text; make it again, or move it away")
    return value


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Document:
    """A JSON object. place: of what it tells, such as the id of a case; empty for the whole file."""

    file: Path
    content: Mapping[str, Any]
    place: str = ""

    @property
    def name(self) -> str:
        """Of the file, as text that can be written: what is no letter in it is a question mark."""
        return str(self.file).encode(errors="replace").decode()

    def complaint(self, what: str) -> UsageError:
        where = f"{self.file}, {self.place}" if self.place else str(self.file)
        return UsageError(f"{where}: {what}; make the file again, or move it away")

    def at(self, place: str) -> Document:
        """The same object, under a name that says more."""
        return Document(self.file, self.content, place)

    def inside(self, key: str) -> Document:
        """The object under a key."""
        return Document(self.file, self._of_kind(key, dict, "an object"), self.place)

    def each(self, key: str) -> list[Document]:
        """The objects in the list under a key."""
        return [self._checked(item, key) for item in self._of_kind(key, list, "a list")]

    def _checked(self, item: Any, key: str) -> Document:
        if not isinstance(item, dict):
            raise self.complaint(f"{key} holds {json.dumps(item)[:40]} where an object belongs")
        return Document(self.file, item, self.place)

    def entries(self, key: str) -> dict[str, Document]:
        """The objects in the object under a key, by their names."""
        return {name: self._checked(item, key) for name, item in self.inside(key).content.items()}

    def items(self, key: str) -> Sequence[Any]:
        """The list under a key, whatever is in it."""
        found: Sequence[Any] = self._of_kind(key, list, "a list")
        return found

    def text(self, key: str) -> str:
        return str(self._of_kind(key, str, "a text"))

    def yes(self, key: str) -> bool:
        return bool(self._of_kind(key, bool, "true or false"))

    def positive(self, key: str) -> float:
        """A number above 0."""
        value = self.number(key)
        if value <= 0:
            raise self.complaint(f"{key} is {value:g} where a number above 0 belongs")
        return value

    def positive_if_any(self, key: str) -> float | None:
        return None if self.content.get(key) is None else self.positive(key)

    def number(self, key: str) -> float:
        value = self.number_if_any(key)
        if value is None:
            raise self.complaint(f"{key} is {_spelled(self.content.get(key))} where a number belongs")
        return value

    def number_if_any(self, key: str) -> float | None:
        """A finite number; None where there is none."""
        value = self.content.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_finite(value):
            raise self.complaint(f"{key} is {_spelled(value)} where a number belongs")
        return value

    def _of_kind(self, key: str, kind: type, name: str) -> Any:
        value = self.content.get(key)
        if not isinstance(value, kind):
            raise self.complaint(f"{key} is {_spelled(value)} where {name} belongs")
        return value


def is_finite(value: float) -> bool:
    """Also of a whole number that is too large for a float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _spelled(value: Any) -> str:
    """As JSON writes it, in brief; null is as good as nothing."""
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "…"
