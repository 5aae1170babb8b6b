"""From paths to results: each file is recognised by what is in it, and folders are searched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradrace.errors import UsageError
from gradrace.report.asv import is_companion, is_result, read_points
from gradrace.report.benchmark import is_benchmark, is_ours, moment, read_benchmark
from gradrace.report.document import Document, load
from gradrace.report.gate_documents import is_verdict, read_verdict
from gradrace.report.rows import RACED_ON, Bench, Point, Results, Row, Verdict

WHAT = "results of the benches (pytest --benchmark-json), of asv, or of the gate (gradrace gate --json)"


def read(paths: Sequence[Path]) -> Results:
    """All results in these files and folders. A file that is named must hold some; in a folder, files of other kinds
    are passed over, but none that cannot be read.

    Raises UsageError, which names the file; also where runs of the benches were made on machines that differ.
    """
    found = _Found()
    for file, is_named in _files(paths):
        _read_file(file, is_named, found)
    benches = sorted((bench for bench in found.benches if bench.rows), key=lambda bench: moment(bench.date))
    if not (benches or found.points or found.verdicts):
        raise UsageError(f"there are no results in {', '.join(map(str, paths))}; name {WHAT}")
    _check_same_machine(benches)
    return Results(benches, found.points, found.verdicts, _latest(benches))


def _latest(benches: Iterable[Bench]) -> dict[str, Row]:
    """Of each scenario the rows of the latest run that holds it; what that run has no more is gone. The machine is not
    the same from run to run, so that times of two of them say nothing beside each other.
    """
    newest = {row.scenario: bench for bench in benches for row in bench.rows}
    return {row.id: row for bench in benches for row in bench.rows if newest[row.scenario] is bench}


@dataclass(frozen=True)
class _Found:
    benches: list[Bench] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


def _files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Each file once, and whether it was named."""
    seen: set[Path] = set()
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"there is no file or folder {path}, or none that you may see; name {WHAT}")
        is_named = not path.is_dir()
        for file in [path] if is_named else _inside(path):
            if (real := file.resolve()) not in seen:
                seen.add(real)
                yield file, is_named


def _inside(folder: Path) -> list[Path]:
    """The files of JSON in a folder and in those below it that are not hidden, as an environment is."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read ({error.strerror}); name a folder that is yours") from error

    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in sorted(files) if name.endswith(".json")]
    try:
        return [file for file in found if file.is_file()]
    except OSError as error:
        refuse(error)
        raise


def _read_file(file: Path, is_named: bool, found: _Found) -> None:
    content = load(file)
    if not isinstance(content, Mapping):
        content = {}
    document = Document(file, content)
    if is_benchmark(content):
        if is_ours(document):
            found.benches.append(read_benchmark(document))
        elif is_named:
            raise UsageError(
                f"{file} holds benchmarks without gradrace's checks; run the benches with `-p gradrace.testing`"
            )
    elif is_result(content):
        found.points.extend(read_points(document))
    elif is_verdict(content):
        found.verdicts.append(read_verdict(document))
    elif is_named and is_companion(content):
        raise UsageError(f"{file} only describes what asv measures; name the folder of asv's results, {file.parent}")
    elif is_named:
        raise UsageError(f"{file} is JSON of another kind; name {WHAT}")


def _check_same_machine(benches: Sequence[Bench]) -> None:
    """Times of different machines say nothing beside each other. A CPU and a GPU of one machine may be: so all rows are
    held against the first one, and those of a device also against its first one.
    """
    first: dict[str, tuple[Bench, Row]] = {}
    machine = [key for key in RACED_ON if key != "device"]
    for bench in benches:
        for row in bench.rows:
            for like, keys in (("", machine), (row.device, RACED_ON)):
                other, model = first.setdefault(like, (bench, row))
                if differing := _differing(model.environment, row.environment, keys):
                    files = " and ".join(dict.fromkeys((other.file, bench.file)))
                    raise UsageError(
                        f"the runs of {files} cannot stand in one figure, for they differ in {', '.join(differing)}; "
                        "report them apart"
                    )


def _differing(one: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [f"{key} ({one[key]} and {other[key]})" for key in keys if one[key] != other[key]]
