"""Kink atlas: one function, many derivatives, and how they moved with the versions of torch.

What to see: in a row the colour changes where a version of torch changed its mind, and within a block the rows have
several colours although the function is one. Each cell is the derivative that a formulation answers at the kink.
A frame says that it moved since the version before, a triangle that no derivative of the function is meant.

    python benches/experiments/kink_atlas.py      writes kink_atlas.png and kink_atlas.json

The numbers are those of the committed ledgers; `gradrace kinks` measures them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from typing import Any

import matplotlib
import numpy as np
from figure import BLACK, VERMILLION, new, parse, save, styled
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from gradrace import ledger
from gradrace.environment import machine
from gradrace.ledger import BUILT_IN, DERIVATIVES, Entry, Row

NAME = "kink_atlas"


@dataclass(frozen=True)
class Block:
    """The formulations of one function at its kinks. only_wrong: leave out those that answer what they should."""

    family: str
    points: tuple[str, ...]
    title: str
    only_wrong: bool = False


TWICE = Block("two_faces_twice", ("zero",), "2x at 0, where it has no kink")
LEFT = (Block("two_faces_relu", ("zero",), "max(x, 0) at 0"), TWICE)
RIGHT = (
    Block("soft_threshold", ("T", "minus_T"), "soft threshold at ±T"),
    Block("soft_threshold", ("zero",), "soft threshold at 0, where it is flat", only_wrong=True),
    Block("two_faces_abs", ("zero",), "|x| at 0"),
    Block("two_faces_jump", ("zero",), "2x + sign x at 0, where it jumps"),
)


@dataclass(frozen=True)
class Line:
    """A formulation at a kink, or at several where it answers alike. entries: for each mode one of each version."""

    block: str
    formulation: str
    allowed: tuple[float, float] | None
    entries: Mapping[str, tuple[Entry, ...]]

    def is_invalid(self, entry: Entry) -> bool:
        """Is it a derivative that the function does not have, nor any limit of its derivatives nearby?"""
        if self.allowed is None or entry is None:
            return False
        return isinstance(entry, str) or not self.allowed[0] <= entry <= self.allowed[1]

    @property
    def moved(self) -> tuple[bool, ...]:
        """From each version to the next: did any mode move?"""
        steps = zip(*(pairwise(entries) for entries in self.entries.values()), strict=True)
        return tuple(any(None not in pair and pair[0] != pair[1] for pair in modes) for modes in steps)


@dataclass(frozen=True)
class Atlas:
    """modes: those of the ledger that are shown. twins: compiled modes that answer everywhere as the eager ones do."""

    versions: tuple[str, ...]
    modes: tuple[str, ...]
    twins: tuple[str, ...]
    lines: tuple[Line, ...]


def read() -> Atlas:
    """All ledgers that are committed, line by line."""
    versions = tuple(ledger.versions(BUILT_IN))
    books = [{row.id: row for row in ledger.read(BUILT_IN, version)} for version in versions]
    lines = [line for block in (*LEFT, *RIGHT) for line in _lines(block, books)]
    twins = tuple(mode for mode in DERIVATIVES if _is_twin(mode, lines))
    modes = tuple(mode for mode in DERIVATIVES if mode not in twins)
    shown = [
        Line(line.block, line.formulation, line.allowed, {mode: line.entries[mode] for mode in modes}) for line in lines
    ]
    return Atlas(versions, modes, twins, tuple(shown))


def _is_twin(mode: str, lines: Sequence[Line]) -> bool:
    """Did the mode answer somewhere, and wherever it did as the eager one?"""
    eager = mode.removeprefix("compiled_")
    answers = [
        (found, compiled)
        for line in lines
        for found, compiled in zip(line.entries[eager], line.entries[mode], strict=True)
        if compiled is not None
    ]
    return mode != eager and bool(answers) and all(found == compiled for found, compiled in answers)


def _lines(block: Block, books: Sequence[Mapping[str, Row]]) -> Iterator[Line]:
    """One for each formulation, or for each of its kinks where they do not agree."""
    newest = [row for row in books[-1].values() if row.family == block.family and row.point in block.points]
    for variant, group in groupby(newest, key=lambda row: row.variant):
        rows = list(group)
        found = {row.point: _entries(row.id, books) for row in rows}
        alike = all(entries == found[rows[0].point] for entries in found.values())
        for row in rows[:1] if alike else rows:
            where = "" if alike else {"T": " at T", "minus_T": " at −T"}[row.point]
            line = Line(block.title, f"{variant}{where}", row.allowed, found[row.point])
            wrong = any(line.is_invalid(entry) for entries in line.entries.values() for entry in entries)
            if wrong or not block.only_wrong:
                yield line


def _entries(id: str, books: Sequence[Mapping[str, Row]]) -> dict[str, tuple[Entry, ...]]:
    return {mode: tuple(getattr(book[id], mode) if id in book else None for book in books) for mode in DERIVATIVES}


# ---- the sentence ----


def word(atlas: Atlas) -> str:
    twice = {
        entry
        for line in atlas.lines
        if line.block == TWICE.title
        for entries in line.entries.values()
        for entry in entries
        if entry is not None
    }
    invalid = sum(any(line.is_invalid(entries[-1]) for entries in line.entries.values()) for line in atlas.lines)
    moves = "; ".join(_moves(atlas, i) for i in range(len(atlas.versions) - 1))
    return (
        f"{moves[0].upper()}{moves[1:]}; at 0 the smooth function 2x is answered with "
        f"{', '.join(map(spell, sorted(twice, key=_rank)))}, and with torch {atlas.versions[-1]} {invalid} rows answer "
        "what is no derivative of the function."
    )


def _moves(atlas: Atlas, step: int) -> str:
    moved = [line.formulation for line in atlas.lines if line.moved[step]]
    what = f"{len(moved)} of {len(atlas.lines)} rows move ({', '.join(moved)})" if moved else "no row moves"
    return f"from torch {atlas.versions[step]} to {atlas.versions[step + 1]} {what}"


def spell(entry: float | str) -> str:
    return "½" if entry == 0.5 else ledger.spell(entry, digits=3).replace("-", "−")


def _rank(entry: float | str) -> tuple[bool, float, str]:
    """Numbers by size, then words."""
    return (True, 0.0, entry) if isinstance(entry, str) else (False, entry, "")


# ---- the figure ----

GAP = 0.35
"""Between the columns of two modes, in columns."""

BRIGHT = matplotlib.colormaps["PuOr"]
CELL = {"in_layout": False}
"""Inside the axes by itself: five hundred boxes less to look at when the figure is laid out."""

NO_NUMBER = (0.2, 0.2, 0.2, 1.0)
FARTHEST = 4.0


def shade(entry: Entry) -> tuple[float, ...]:
    """Near white for 0, orange below, purple above, darker the further away, by the root; words are nearly black."""
    if isinstance(entry, str):
        return NO_NUMBER
    number = entry or 0.0
    return BRIGHT(0.5 + 0.5 * math.copysign(math.sqrt(min(abs(number), FARTHEST) / FARTHEST), number))


@styled
def draw(atlas: Atlas) -> Figure:
    rows = max(sum(1 for _ in _table(atlas, half)) for half in (LEFT, RIGHT))
    figure, axes = new(0.158 * rows + 0.65, columns=2)
    for each, half in zip(axes, (LEFT, RIGHT), strict=True):
        _draw_half(each, atlas, list(_table(atlas, half)), rows)
    marks = {
        "moved since the version before": Rectangle((0, 0), 1, 1, fill=False, edgecolor=BLACK, linewidth=1.6),
        "no derivative of the function": Line2D([], [], marker="^", linestyle="", color=VERMILLION),
    }
    if atlas.twins:
        marks["compiled code answers the same"] = Rectangle((0, 0), 1, 1, visible=False)
    axes[0].legend(marks.values(), marks, loc="lower right", handlelength=1.2, borderaxespad=0)
    return figure


def _table(atlas: Atlas, blocks: Sequence[Block]) -> Iterator[Block | Line]:
    """A heading, its lines, a heading, …"""
    for block in blocks:
        yield block
        yield from (line for line in atlas.lines if line.block == block.title)


def _draw_half(axes: Axes, atlas: Atlas, table: Sequence[Block | Line], rows: int) -> None:
    count = len(atlas.versions)
    starts = {mode: i * (count + GAP) for i, mode in enumerate(atlas.modes)}
    width = len(atlas.modes) * (count + GAP) - GAP
    axes.set(xlim=(0, width), ylim=(rows, 0))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.xaxis.tick_top()
    axes.set_xticks(
        [start + i + 0.5 for start in starts.values() for i in range(count)],
        [version.removesuffix(".0") for _ in starts for version in atlas.versions],
    )
    for mode, start in starts.items():
        axes.annotate(
            f"{mode.replace('_', ' ')} mode",
            (start + count / 2, 0),
            (0, 16),
            textcoords="offset points",
            ha="center",
            annotation_clip=False,
        )
    axes.annotate("torch", (0, 0), (-2, 4), textcoords="offset points", ha="right", annotation_clip=False)
    labels = []
    for y, item in enumerate(table):
        if isinstance(item, Line):
            labels.append((y, item.formulation, any(item.moved)))
            for mode, start in starts.items():
                _draw_cells(axes, item, item.entries[mode], start, y)
        else:
            axes.text(width, y + 0.55, _heading(item, atlas), ha="right", va="center", weight="bold")
    axes.set_yticks([y + 0.5 for y, _, _ in labels], [text for _, text, _ in labels])
    axes.tick_params(length=0, pad=2)
    for tick, (_, _, moved) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if moved else "normal")


def _heading(block: Block, atlas: Atlas) -> str:
    allowed = next((line.allowed for line in atlas.lines if line.block == block.title), None)
    if allowed is None:
        return f"{block.title}: no right answer"
    low, high = map(spell, allowed)
    return f"{block.title}: right {'is ' + low if low == high else f'in [{low}, {high}]'}"


def _draw_cells(axes: Axes, line: Line, entries: Sequence[Entry], start: float, y: int) -> None:
    for i, entry in enumerate(entries):
        if entry is None:
            continue
        x, colour = start + i, shade(entry)
        dark = float(np.dot(colour[:3], (0.299, 0.587, 0.114))) < 0.55
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8, **CELL))
        text = {"ha": "center", "va": "center", "color": "white" if dark else BLACK}
        axes.text(x + 0.5, y + 0.53, spell(entry), **text, **CELL)
        if line.is_invalid(entry):
            corner = [(x + 0.02, y + 0.03), (x + 0.22, y + 0.03), (x + 0.02, y + 0.6)]
            axes.fill(*zip(*corner, strict=True), facecolor=VERMILLION, edgecolor="white", linewidth=0.5, zorder=4)
        if i and None not in entries[i - 1 : i + 1] and entries[i - 1] != entry:
            axes.add_patch(
                Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor=BLACK, linewidth=1.6, zorder=3)
            )


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(__doc__, arguments)
    atlas = read()
    # Not describe(): the torch of this process has computed nothing.
    save(draw(atlas), NAME, word(atlas), as_json(atlas), options, machine())


def as_json(atlas: Atlas) -> dict[str, Any]:
    return asdict(atlas)


if __name__ == "__main__":
    main()
