"""Figures inside the page: as data of the page itself, so that it is one file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradrace.report.html import Markup, element
from gradrace.report.layout import FIGURES

if TYPE_CHECKING:
    from gradrace.report.figures import Figure

KINDS = {"png": "image/png", "svg": "image/svg+xml"}


def gallery(figures: Sequence[Figure], folder: Path, is_open: bool = False) -> Markup:
    """The figures behind a line that opens them; nothing where there are none. folder: that of the report."""
    if not figures:
        return Markup()
    grid = element("div", *(_figure(figure, folder) for figure in figures), class_="figures")
    return element("details", element("summary", f"Figures ({len(figures)})"), grid, open=is_open)


def _figure(figure: Figure, folder: Path) -> Markup:
    """The smaller one of its two files; it is decoded when it comes into view."""
    drawn = [folder / FIGURES / f"{figure.name}.{ending}" for ending in KINDS]
    smallest = min((path for path in drawn if path.exists()), key=lambda path: path.stat().st_size)
    address = f"data:{KINDS[smallest.suffix[1:]]};base64,{b64encode(smallest.read_bytes()).decode()}"
    words = f"{figure.title}. {figure.sentence}"
    image = element("img", src=address, alt=words, loading="lazy", decoding="async")
    caption = element("figcaption", element("b", figure.title), figure.sentence)
    return element("figure", element("div", image, class_="scroll"), caption)
