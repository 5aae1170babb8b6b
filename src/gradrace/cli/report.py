"""`gradrace report`: results as figures, a Markdown summary and one page that needs no network. It loads no torch."""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gradrace.cli.common import track
from gradrace.errors import UsageError
from gradrace.report.layout import FIGURES, MARKER, PAGE, SUMMARY
from gradrace.units import counted

if TYPE_CHECKING:
    from gradrace.report.rows import Results

NAME = "report"
HELP = "which formulation to use: figures and one page from results of the benches, of asv and of the gate"

PARTS = frozenset({PAGE, SUMMARY, FIGURES, MARKER})

SPACE = ".new-report-"
"""How the folder begins in which a report is made; one that was ended from outside leaves it behind."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="JSON of the benches, of asv or of the gate, or a folder in which to look for them",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/report"),
        metavar="DIR",
        help="the folder to write; a report that is there is replaced (default: build/report)",
    )


def run(options: argparse.Namespace) -> int:
    from gradrace.report.reading import read

    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("the figures need matplotlib; install it: pip install matplotlib")
    target = _folder(options.output)
    results = read(options.results)
    try:
        with _replacing(target) as folder, _interruptible():
            _write(results, folder)
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"{options.output} cannot be written ({reason}); name another folder") from error
    print(options.output / PAGE)
    print(f"read: {_contents(results)}")
    return 0


def _write(results: Results, folder: Path) -> None:
    from gradrace.report.figures import draw
    from gradrace.report.page import page
    from gradrace.report.summary import markdown

    figures = draw(results, folder, lambda drawn, total: track(drawn, "drawing figures", total))
    _save(folder / PAGE, page(results, figures, folder))
    _save(folder / SUMMARY, markdown(results))
    _save(folder / MARKER, "Made by `gradrace report`. The next one with this folder as its output replaces it.\n")


def _save(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _folder(named: Path) -> Path:
    """Where the report goes. Before anything is read: what is there must be nothing, or a report and nothing else."""
    try:
        target = named.resolve()
        if target.exists():
            _check_replaceable(target, named)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise UsageError(f"{named} is no folder that can be read ({error}); name another") from error
    return target


def _check_replaceable(target: Path, named: Path) -> None:
    if not target.is_dir():
        raise UsageError(f"{named} is a file; name a folder for the report")
    names = {path.name for path in target.iterdir() if not path.name.startswith(SPACE)}
    if names and not {PAGE, MARKER} <= names:
        raise UsageError(f"{named} is a folder with files in it and no report; name another, or empty it")
    drawn = [path for path in (target / FIGURES).glob("*") if path.suffix not in (".png", ".svg") or not path.is_file()]
    if strange := sorted([*(names - PARTS), *(f"{FIGURES}/{path.name}" for path in drawn)]):
        raise UsageError(f"{named} is a report, but {strange[0]} in it is none of its files; move it away")


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A folder in the target, whose parts take the places of the old ones when all went well; else they stay. The
    target itself stays too: it may be the folder that a person is in.
    """
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        for left in target.glob(f"{SPACE}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=SPACE, ignore_cleanup_errors=True) as space:
            made, old = Path(space, "new"), Path(space, "old")
            made.mkdir()
            old.mkdir()
            yield made
            _swap(made, target, old)
    except BaseException:
        if is_new:
            target.rmdir()
        raise


def _swap(made: Path, target: Path, old: Path) -> None:
    """Each part of a report to its place; all or none."""
    undo: list[tuple[Path, Path]] = []
    try:
        for source, goal in ((target, old), (made, target)):
            for name in sorted(PARTS):
                if (source / name).exists():
                    (source / name).rename(goal / name)
                    undo.append((goal / name, source / name))
    except BaseException:
        for moved, place in reversed(undo):
            moved.rename(place)
        raise


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM become KeyboardInterrupt, also where compiled code of matplotlib makes another error of it."""
    seen: list[int] = []

    def interrupt(number: int, _: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        if not seen:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if seen:
        raise KeyboardInterrupt


def _contents(results: Results) -> str:
    """One line: what was read."""
    commits = {point.commit for point in results.points}
    wrong = sum(not row.right for row in results.by_id.values())
    cases = f"{counted(len(results.by_id), 'case')}, {wrong} of them wrong, in {counted(len(results.benches), 'run')}"
    parts = (
        (results.benches, cases),
        (commits, f"{counted(len(commits), 'commit')} of asv's"),
        (results.verdicts, f"{counted(len(results.verdicts), 'verdict')} of the gate's"),
    )
    return "; ".join(text for found, text in parts if found)
