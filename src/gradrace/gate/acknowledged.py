"""Changes that somebody wants, with a reason: a committed file that turns red into a notice.

The file lies at the top of the repository, and what counts is what the change adds to it: an entry that base has too
has been merged, and is spent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gradrace.errors import UsageError
from gradrace.files import write_text

FILE = "gradrace-acknowledged.json"


@dataclass(frozen=True)
class Acknowledgement:
    """`what` is `gradient`, `kink`, or the counters of work that may rise, such as `saved_bytes`, of the case `id`."""

    id: str
    what: str
    reason: str


def read(folder: Path) -> list[Acknowledgement]:
    """Those of a state; none where it has no such file. Raises UsageError for a file that is damaged."""
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        return [Acknowledgement(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{FILE} is no list of acknowledgements ({type(error).__name__}: {error}); restore it from version control"
        ) from error


def active(base: Path, head: Path) -> dict[tuple[str, str], str]:
    """The reasons that head gives and base does not, by id and what."""
    spent = set(read(base))
    return {(each.id, each.what): each.reason for each in read(head) if each not in spent}


def write(repo: Path, new: Iterable[Acknowledgement]) -> Path:
    """Add these to the file of the working tree; of one id and what, the newest reason stands."""
    kept = {(each.id, each.what): each for each in (*read(repo), *new)}
    lines = ",\n".join("  " + json.dumps(asdict(each), ensure_ascii=False) for each in kept.values())
    path = repo / FILE
    write_text(path, f"[\n{lines}\n]\n")
    return path
