"""The kink ledger: what each formulation answers at a kink, one file for each torch version, one row a line.

A row holds the value and the derivatives by reverse and forward mode, each eager and compiled. An entry is a number
or a word: nan, inf, -inf, none (autograd has no graph or returns None), `error: NAME`, `0 or 1` (equal inputs gave
both); null where nothing was measured. Torch is not needed here: ledgers can be compared on any machine.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias

from gradrace.errors import UsageError
from gradrace.files import write_text

BUILT_IN = Path(__file__).parent
"""The folder of the built-in families' ledgers."""

Entry: TypeAlias = float | str | None
"""A number, a word where there is no number, None where nothing was measured."""

DERIVATIVES = ("reverse", "forward", "compiled_reverse", "compiled_forward")
MEASURED = ("value", "compiled_value", *DERIVATIVES)
COLUMNS = ("at", "allowed", "right", *MEASURED)
"""What is compared between ledgers, or between a ledger and the machine."""

_FILE = re.compile(r"torch_(\d+(?:\.\d+)*)\.json")


@dataclass(frozen=True)
class Row:
    """One formulation at one kink. `allowed` is the interval of right derivatives, `right` the function's value."""

    family: str
    variant: str
    point: str
    at: Entry
    allowed: tuple[float, float] | None
    right: Entry
    value: Entry = None
    compiled_value: Entry = None
    reverse: Entry = None
    forward: Entry = None
    compiled_reverse: Entry = None
    compiled_forward: Entry = None

    @property
    def id(self) -> str:
        return f"{self.family}/{self.variant}/{self.point}"

    @property
    def derivatives(self) -> dict[str, Entry]:
        """The derivatives that were measured, by mode."""
        found = {mode: getattr(self, mode) for mode in DERIVATIVES}
        return {mode: entry for mode, entry in found.items() if entry is not None}

    @property
    def valid(self) -> bool | None:
        """Does every measured derivative lie in the allowed interval? None where any would do or none was measured."""
        if self.allowed is None or not self.derivatives:
            return None
        low, high = self.allowed
        return all(
            not isinstance(entry, str) and low <= entry <= high
            for entry in self.derivatives.values()
            if entry is not None
        )

    @property
    def value_valid(self) -> bool | None:
        """Is every measured value the function's? None where the function has none there, or none was measured."""
        measured = [found for found in (self.value, self.compiled_value) if found is not None]
        return None if self.right is None or not measured else all(found == self.right for found in measured)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "valid": self.valid, "value_valid": self.value_valid}


def entry(number: float) -> float | str:
    """A number as it stands in a ledger: 12 digits, which machines share, no negative zero, a word where not finite."""
    return float(f"{number:.12g}") + 0.0 if math.isfinite(number) else str(float(number))


@dataclass(frozen=True)
class Difference:
    """Columns of a row that went from one entry to another; without columns the row itself came or went."""

    id: str
    columns: tuple[str, ...]
    old: Any
    new: Any

    @property
    def what(self) -> str:
        """The columns in few words: `derivative` for all modes, an eager mode for itself and its compiled twin."""
        if set(DERIVATIVES) <= set(self.columns):
            return "derivative"
        twins = {f"compiled_{name}" for name in self.columns}
        return ", ".join(name for name in self.columns if name not in twins)

    def __str__(self) -> str:
        if not self.columns:
            return f"{self.id}: {'is new' if self.old is None else 'is gone'}"
        return f"{self.id}: {self.what} {spell(self.old)} → {spell(self.new)}"


def spell(found: Any, digits: int = 12) -> str:
    """An entry, or an interval, in the fewest characters; twelve digits are all that an entry has."""
    if isinstance(found, (list, tuple)):
        return f"[{', '.join(map(spell, found))}]"
    return f"{found:.{digits}g}" if isinstance(found, (int, float)) else str(found)


def differences(old: Iterable[Row], new: Iterable[Row]) -> list[Difference]:
    """What changed from `old` to `new`, in the order of the rows; a column that one of them lacks is no difference."""
    before, after = {row.id: row for row in old}, {row.id: row for row in new}
    found: list[Difference] = []
    for name in dict.fromkeys([*before, *after]):
        if name in before and name in after:
            found += _row_differences(before[name], after[name])
        else:
            found.append(Difference(name, (), before.get(name) and "a row", after.get(name) and "a row"))
    return found


def _row_differences(old: Row, new: Row) -> list[Difference]:
    """One difference for all the columns that changed alike."""
    changed: dict[tuple[Any, Any], list[str]] = {}
    for column in COLUMNS:
        before, after = getattr(old, column), getattr(new, column)
        # The None of an interval says that any derivative will do; any other says that nothing was measured.
        if before != after and (column == "allowed" or None not in (before, after)):
            changed.setdefault((before, after), []).append(column)
    return [Difference(new.id, tuple(columns), before, after) for (before, after), columns in changed.items()]


def completed(rows: Iterable[Row], old: Iterable[Row]) -> list[Row]:
    """The rows, with the entries that they did not measure taken from the old ones."""
    before = {row.id: row for row in old}

    def complete(row: Row) -> Row:
        known = before.get(row.id, row)
        return replace(row, **{name: getattr(known, name) for name in MEASURED if getattr(row, name) is None})

    return list(map(complete, rows))


# ---- files ----


def release(version: str) -> str:
    """The release part of a version: 2.13.0 of 2.13.0+cpu, 2.14.0 of 2.14.0a0+git1234."""
    found = re.match(r"\d+(\.\d+)*", version)
    return found.group() if found else version


def order(version: str) -> tuple[int, ...]:
    """What to sort versions by."""
    return tuple(map(int, version.split(".")))


def path_of(folder: Path, version: str) -> Path:
    return folder / f"torch_{version}.json"


def versions(folder: Path) -> list[str]:
    """The torch versions that this folder has a ledger of, oldest first."""
    names = [found.group(1) for path in folder.glob("torch_*.json") if (found := _FILE.fullmatch(path.name))]
    return sorted(names, key=order)


def nearest(folder: Path, version: str) -> str | None:
    """The version itself if it has a ledger, else the newest older one, else the oldest newer one, else None."""
    known = versions(folder)
    older = [other for other in known if order(other) <= order(version)]
    return older[-1] if older else (known[0] if known else None)


def read(folder: Path, version: str) -> list[Row]:
    """The rows of a ledger. Raises UsageError for a file that is not one."""
    path = path_of(folder, version)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["rows"], list):
            raise TypeError("its rows are no list")
        return [row(found) for found in document["rows"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{path} is no kink ledger ({type(error).__name__}: {str(error).partition(chr(10))[0]}); "
            "restore it from version control, or delete it and run `gradrace kinks --update`"
        ) from error


def row(found: dict[str, Any]) -> Row:
    """A row of a file: the two columns that follow from the others are not read."""
    facts = {key: value for key, value in found.items() if key not in ("valid", "value_valid")}
    facts["allowed"] = None if facts["allowed"] is None else tuple(map(float, facts["allowed"]))
    if facts["allowed"] is not None and len(facts["allowed"]) != 2:
        raise ValueError("an interval has two ends")
    made = Row(**facts)
    if not all(isinstance(each, (float, int, str, NoneType)) for each in (made.at, made.right, *_measured(made))):
        raise TypeError(f"the row {made.id} holds what is neither a number nor a word")
    return made


def _measured(row: Row) -> list[Entry]:
    return [getattr(row, name) for name in MEASURED]


def write(folder: Path, version: str, rows: Sequence[Row]) -> Path:
    """Write a ledger to a temporary file and rename it, so that a reader never sees half of one.

    A ledger that stands there already is left alone, so that a folder of an installed package may be read-only.
    Raises UsageError where the folder cannot be written.
    """
    lines = ",\n".join("  " + json.dumps(row.as_json(), ensure_ascii=False) for row in rows)
    text = f'{{\n "torch": {json.dumps(version)},\n "rows": [\n{lines}\n ]\n}}\n'
    path = path_of(folder, version)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UsageError(f"the ledger {path} cannot be written: {error.strerror}; choose another folder") from error
    return path
