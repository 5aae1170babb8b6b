"""How every figure looks: one width, one font, colours that differ in grey print too, and files that come out the same
each time.

Colours: M. Okabe and K. Ito, Color Universal Design (2008), without their yellow, which is too light on white.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.transforms import Affine2D
from PIL import Image

from gradrace.files import write_text

WIDTH = 7.0
"""Inches, of every figure."""

MARGIN = 0.08
GAP = 0.07
DPI = 110
SHADES = 9
"""Steps from a colour to white in a PNG."""

FONT = "DejaVu Sans"
"""It comes with matplotlib."""

LIKE_IT = "Verdana, sans-serif"
"""What a reader of an SVG without that font takes instead: the first is as wide."""

LETTERS = 7.0
"""Points: nothing is written smaller."""

TITLE = 9.0

LINE = 0.135
"""Inches from one line of text to the next."""

INK, SOFT, FAINT = "#222222", "#6b6b6b", "#e2e2e2"
"""Text and axes; what steps back; lines of a grid."""

OTHER = "#9a9a9a"
"""What is neither the winner nor wrong."""

BLUE, ORANGE, VERMILLION, SKY = "#0072B2", "#E69F00", "#D55E00", "#56B4E9"
GREEN, BLACK, PURPLE = "#009E73", "#000000", "#CC79A7"

MOST_MARKERS = 8
"""On a line of many points."""

Dash = str | tuple[float, tuple[float, ...]]
Segment = tuple[float, float, float, float]
"""x and y of the one end, and of the other."""

SOLID: Dash = "-"
BOUND: Dash = (0, (3, 2))


@dataclass(frozen=True)
class Look:
    """Of one line: it is told from its neighbours by each of the three alone."""

    colour: str
    marker: str
    dash: Dash
    width: float = 1.1


LOOKS = (
    Look(BLUE, "o", SOLID),
    Look(ORANGE, "s", (0, (5, 1.5))),
    Look(VERMILLION, "^", (0, (1.2, 1.2))),
    Look(SKY, "D", (0, (6, 1.5, 1.2, 1.5))),
    Look(GREEN, "v", (0, (3, 1))),
    Look(BLACK, "P", (0, (8, 2))),
    Look(PURPLE, "X", (0, (3, 1, 1, 1, 1, 1))),
)
"""Ordered so that neighbours differ in lightness."""

GREY = Look("#c4c4c4", "", SOLID, 0.8)
"""A line that stays in the background."""

SETTINGS: Any = {  # matplotlib types its keys one by one
    "font.family": FONT,
    "font.size": LETTERS,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "lines.markeredgewidth": 0.8,
    "text.hinting": "none",  # half of the time of a figure went into hints for small screens
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "gradrace",  # and ids stay the same
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save inside: matplotlib's own defaults and ours, whatever a person has set; left as they were."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        # A letter of a summary that the font lacks becomes a box in the PNG; the SVG keeps it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


class Sheet:
    """A figure on which places are inches from its upper left corner: a title and what it is about, room for a body
    that begins at `top`, notes on how to read it, and a footer that says where the numbers come from.

    It has no axes of matplotlib's: a pair for each panel would take most of the time of a figure.
    """

    def __init__(self, title: str, about: str, body: float, notes: Sequence[str], footer: str) -> None:
        above = _lines(about)
        below = [line for note in notes for line in _lines(note)]
        source = _lines(footer)
        self.top = 0.32 + len(above) * LINE + GAP
        self.height = self.top + body + GAP + (len(below) + len(source)) * LINE + GAP + MARGIN
        self._figure = Figure(figsize=(WIDTH, self.height), dpi=DPI, facecolor="white")
        self._inches = Affine2D().scale(1, -1).translate(0, self.height) + self._figure.dpi_scale_trans
        self.write(MARGIN, 0.2, fitted(title, WIDTH - 2 * MARGIN, TITLE, bold=True), fontsize=TITLE, fontweight="bold")
        self._paragraph(0.32, above)
        end = self._paragraph(self.top + body + GAP, below)
        self._paragraph(end + GAP, source, color=SOFT)

    def write(self, x: float, y: float, text: str, **looks: Any) -> None:
        """One line of text; y is its middle."""
        self._figure.text(x, y, text, **{"va": "center_baseline", "transform": self._inches, **looks})

    def rule(self, segments: Iterable[Segment], colour: str, width: float, dash: Dash = SOLID) -> None:
        """Straight lines, all in one path."""
        ends = [(x, y, to_x, to_y) for x, y, to_x, to_y in segments]
        xs = [number for x, _, to_x, _ in ends for number in (x, to_x, math.nan)]
        ys = [number for _, y, _, to_y in ends for number in (y, to_y, math.nan)]
        self._line(xs, ys, color=colour, linewidth=width, linestyle=dash, solid_capstyle="butt")

    def mark(self, xs: Sequence[float], ys: Sequence[float], marker: str, face: str, edge: str) -> None:
        self._line(xs, ys, linestyle="none", marker=marker, markerfacecolor=face, markeredgecolor=edge)

    def trace(self, xs: Sequence[float], ys: Sequence[float], look: Look) -> None:
        """A line through points."""
        every = math.ceil(len(xs) / MOST_MARKERS)
        looks = {"linestyle": look.dash, "marker": look.marker, "linewidth": look.width, "markevery": every}
        self._line(xs, ys, color=look.colour, **looks)

    def _line(self, xs: Sequence[float], ys: Sequence[float], **looks: Any) -> None:
        self._figure.add_artist(Line2D(xs, ys, transform=self._inches, **looks))

    def _paragraph(self, top: float, lines: Sequence[str], **looks: Any) -> float:
        """Lines from `top` on. Where they end."""
        for place, line in enumerate(lines):
            self.write(MARGIN, top + (place + 0.5) * LINE, line, **looks)
        return top + len(lines) * LINE

    def save(self, folder: Path, name: str) -> None:
        """NAME.png and NAME.svg in the folder."""
        canvas = FigureCanvasAgg(self._figure)
        canvas.draw()
        picture = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
        few = picture.quantize(palette=_shades(), dither=Image.Dither.NONE)
        few.save(folder / f"{name}.png", dpi=(DPI, DPI), optimize=True)
        drawing = StringIO()
        self._figure.savefig(drawing, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        write_text(folder / f"{name}.svg", drawing.getvalue().replace(f"'{FONT}'", f"'{FONT}', {LIKE_IT}"))


def _lines(text: str) -> list[str]:
    return wrapped(text, WIDTH - 2 * MARGIN)


@cache
def _shades() -> Image.Image:
    """Our colours, each in steps to white: as small as a picture of few colours can be, and none of them is another."""
    ramps = [
        round(255 + (channel - 255) * step / SHADES)
        for colour in dict.fromkeys(look.colour for look in LOOKS if look.colour != BLACK)
        for step in range(1, SHADES + 1)
        for channel in bytes.fromhex(colour[1:])
    ]
    found = [level for grey in range(255, -1, -17) for level in (grey, grey, grey)] + ramps
    palette = Image.new("P", (1, 1))
    palette.putpalette(found)
    return palette


@cache
def _advance(letter: str, weight: str) -> float:
    """The width of a letter over its size."""
    font = get_font(findfont(FontProperties(family=FONT, weight=weight)))
    font.set_size(1000, 72)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(font.load_glyph(font.get_char_index(ord(letter))).linearHoriAdvance) / 65536 / 1000


def width_of(text: str, letters: float = LETTERS, *, bold: bool = False) -> float:
    """Inches that a text is wide, without regard to pairs of letters that draw near to each other."""
    return sum(_advance(letter, "bold" if bold else "normal") for letter in text) * letters / 72


def wrapped(text: str, width: float) -> list[str]:
    """The text in lines that are not wider, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitted(text: str, width: float, letters: float = LETTERS, *, bold: bool = False) -> str:
    """The text, with its middle left out where it is wider."""
    kept = len(text)
    short = text
    while kept > 4 and width_of(short, letters, bold=bold) > width:
        kept -= 1
        short = text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
    return short
