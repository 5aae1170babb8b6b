"""The frame of the experiments' figures: one palette, one size, the sentence that says what to see, the machine.

An experiment measures, words one sentence from what it found, and draws; `save` puts the sentence and the footer under
the figure and writes NAME.png and NAME.json, each whole or not at all.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gradrace.files import write_text

ROOT = Path(__file__).parent.parent.parent

WIDTH, DPI, POINTS = 7.0, 150, 8
"""Inches, dots in an inch, size of the letters: 1050 dots, which a README shows at its full width."""

LETTERS = 112
"""In a line of the caption."""

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
"""M. Okabe and K. Ito, Color Universal Design (2008): told apart by colour-blind eyes."""

GREY = "#6E6E6E"


class Look(NamedTuple):
    """What tells a line apart, on paper without colours too."""

    color: str
    marker: str
    linestyle: str


LOOKS = (
    Look(BLUE, "o", "-"),
    Look(VERMILLION, "s", "--"),
    Look(GREEN, "^", "-."),
    Look(PURPLE, "D", ":"),
    Look(BLACK, "v", "-"),
    Look(ORANGE, "<", "--"),
)

styled = matplotlib.rc_context(
    {
        "font.family": "DejaVu Sans",
        "font.size": POINTS,
        "axes.titlesize": POINTS + 1,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": POINTS,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#DDDDDD",
        "grid.linewidth": 0.5,
        "xtick.labelsize": POINTS,
        "ytick.labelsize": POINTS,
        "xtick.minor.visible": False,
        "legend.fontsize": POINTS,
        "legend.frameon": False,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
    }
)
"""Decorates the function that draws a figure; matplotlib's own settings stay as they are."""


def new(height: float, *, rows: int = 1, columns: int = 1, **subplots: Any) -> tuple[Figure, Any]:
    """A figure of this height in inches, which the caption will add to, and its axes. Call it inside `styled`."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, **subplots)


def parse(description: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line of every experiment: --small, --output."""
    command = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--small", action="store_true", help="few points, in a second or two: what the tests run")
    command.add_argument(
        "--output", type=Path, metavar="FOLDER", help="default: results/, and with --small build/experiments/"
    )
    options = command.parse_args(arguments)
    if options.output is None:  # few points are no result
        options.output = ROOT / ("build/experiments" if options.small else "results")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        command.error(f"--output {options.output} cannot be a folder ({error.strerror}); name another one")
    return options


def save(
    figure: Figure,
    name: str,
    sentence: str,
    data: Mapping[str, Any],
    options: argparse.Namespace,
    environment: Mapping[str, Any],
    script: str | None = None,
) -> None:
    """Print the sentence and write NAME.png and NAME.json into the folder of the options.

    environment: what `gradrace.environment.describe` or `machine` says of this process; it stands in both.
    script: the name of the experiment, where it is not that of the figure.
    """
    command = f"python benches/experiments/{script or name}.py{' --small' if options.small else ''}"
    _caption(figure, sentence, [*_footer(environment), command])
    _write_bytes(options.output / f"{name}.png", _png(figure, name, sentence))
    document = {
        "experiment": name,
        "command": command,
        "sentence": sentence,
        "environment": environment,
        "data": data,
    }
    write_text(options.output / f"{name}.json", in_lines(document))
    print(sentence)


def _caption(figure: Figure, sentence: str, footer: Iterable[str]) -> None:
    """The sentence, and small print in grey, below the axes, on paper that is added for them."""
    lines, notes = textwrap.wrap(sentence, LETTERS), list(footer)
    line, margin = 1.35 * POINTS / 72, 0.08
    below = line * (len(lines) + len(notes)) + 3 * margin
    height = figure.get_figheight() + below
    figure.set_figheight(height)
    figure.get_layout_engine().set(rect=(0, below / height, 1, 1 - below / height))
    texts = {"fontsize": POINTS, "verticalalignment": "bottom", "linespacing": 1.2}
    left = margin / WIDTH
    figure.text(left, (2 * margin + line * len(notes)) / height, "\n".join(lines), **texts)
    figure.text(left, margin / height, "\n".join(notes), color=GREY, **texts)


def _footer(environment: Mapping[str, Any]) -> list[str]:
    """The machine on one line, the versions on another; of torch nothing where it computed nothing."""
    known = environment.get
    machine = f"{known('processor')}, {known('cores')} cores, {known('system')}"
    threads = known("threads")
    if threads:
        machine += f", {threads} thread{'s' if threads > 1 else ''}"
    named = (("Python", "python"), ("NumPy", "numpy"), ("torch", "torch"), ("commit", "commit"))
    return [machine, " · ".join(f"{label} {known(key)}" for label, key in named if known(key))]


COLOURS = 128
"""Of the stored image: a third of the bytes, and no eye sees the difference."""


def _png(figure: Figure, name: str, sentence: str) -> bytes:
    content, text = io.BytesIO(), PngInfo()
    text.add_text("Title", name)
    text.add_itxt("Description", sentence)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True, pnginfo=text, dpi=(DPI, DPI))
    return content.getvalue()


def _write_bytes(path: Path, content: bytes) -> None:
    """By way of a temporary file, as gradrace.files.write_text does it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def in_lines(document: Mapping[str, Any], indent: str = "") -> str:
    """JSON for people: an object within an object on lines of its own, a row of a table on one line."""
    ends = []
    for key, value in document.items():
        if isinstance(value, Mapping) and any(isinstance(each, (Mapping, list, tuple)) for each in value.values()):
            text = in_lines(value, indent + " ").strip()
        elif isinstance(value, (list, tuple)) and any(isinstance(each, (Mapping, list, tuple)) for each in value):
            rows = ",\n".join(f"{indent}  {_on_one_line(each)}" for each in value)
            text = f"[\n{rows}\n{indent} ]"
        else:
            text = _on_one_line(value)
        ends.append(f"{indent} {json.dumps(key, ensure_ascii=False)}: {text}")
    return f"{indent}{{\n" + ",\n".join(ends) + f"\n{indent}}}\n"


def _on_one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def rounded(numbers: Iterable[float], digits: int = 6) -> list[float | None]:
    """Numbers as they go into the JSON: so many significant digits, None where one is not finite."""
    return [float(f"{number:.{digits}g}") if math.isfinite(number) else None for number in map(float, numbers)]


def power_of_ten(exponent: float) -> str:
    """10³⁰ for what is about that."""
    return "10" + f"{exponent:.0f}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def short(number: float) -> str:
    """Two digits: 0.19, 4.9e-4."""
    mantissa, e, exponent = f"{number:.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa
