"""A graph as one SVG file that needs nothing else: inputs at the top, arrows down to the result.

A box stands in the layer below its lowest input, and an edge that skips layers is led through waypoints. Down and up
again, each layer is sorted by the mean place of its neighbours, and moved there as near as its widths allow.

Source: K. Sugiyama, S. Tagawa and M. Toda, IEEE Trans. Syst. Man Cybern. 11 (1981).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import accumulate, pairwise
from statistics import fmean

LETTER, LINE, PADDING = 8.5, 17.0, 9.0
"""Pixels: the width of a letter, the height of a line, the space around what is written."""

BETWEEN, BELOW = 20.0, 44.0
"""Pixels between neighbours, and between layers."""

SWEEPS = 20

BOLD = ' font-weight="bold"'

HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"
 font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" text-anchor="middle">
<title>{title}</title>
<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">\
<path d="M0 0 L8 4 L0 8 z" fill="#555"/></marker></defs>
<rect width="100%" height="100%" fill="white"/>
<text x="{middle:.0f}" y="22"{bold}>{title}</text>
"""


@dataclass(frozen=True)
class Box:
    """What is written in a box, line by line, and the places of the boxes, earlier ones, whose arrows end here."""

    lines: tuple[str, ...]
    inputs: tuple[int, ...]


@dataclass(eq=False)
class _Spot:
    """Where a box stands, or where an edge passes through a layer; x is its middle."""

    layer: int
    lines: tuple[str, ...] = ()
    above: list[_Spot] = field(default_factory=list)
    below: list[_Spot] = field(default_factory=list)
    x: float = 0.0
    top: float = 0.0
    height: float = 0.0

    @property
    def width(self) -> float:
        return LETTER * max(map(len, self.lines)) + 2 * PADDING if self.lines else 0.0


def draw(boxes: Sequence[Box], title: str) -> str:
    """The SVG of an acyclic graph, whose boxes stand in an order of evaluation."""
    spots = list(_routed(boxes))
    layers: list[list[_Spot]] = [[] for _ in range(1 + max(spot.layer for spot in spots))]
    for spot in spots:
        layers[spot.layer].append(spot)
    _arrange(layers)
    left, right = min(spot.x - spot.width / 2 for spot in spots), max(spot.x + spot.width / 2 for spot in spots)
    width = max(right - left, LETTER * len(title)) + 2 * BETWEEN
    shift = (width - left - right) / 2
    top = 40.0
    for layer in layers:
        height = max(LINE * len(spot.lines) for spot in layer) + PADDING
        for spot in layer:
            spot.x, spot.top, spot.height = spot.x + shift, top, height
        top += height + BELOW
    head = HEAD.format(width=width, height=top - BELOW + BETWEEN, middle=width / 2, title=escape(title), bold=BOLD)
    return head + "\n".join([*_arrows(spots), *(_drawn(spot) for spot in spots if spot.lines)]) + "\n</svg>\n"


def _routed(boxes: Sequence[Box]) -> Iterator[_Spot]:
    """A spot for each box, and waypoints, which the edges of one box share."""
    spots: list[_Spot] = []
    waypoints: dict[tuple[int, int], _Spot] = {}
    for box in boxes:
        spot = _Spot(1 + max((spots[place].layer for place in box.inputs), default=-1), box.lines)
        spots.append(spot)
        for place in box.inputs:
            source = spots[place]
            for layer in range(source.layer + 1, spot.layer):
                if (place, layer) not in waypoints:
                    waypoints[place, layer] = _Spot(layer)
                    _connect(source, waypoints[place, layer])
                source = waypoints[place, layer]
            _connect(source, spot)
    yield from spots
    yield from waypoints.values()


def _connect(source: _Spot, target: _Spot) -> None:
    source.below.append(target)
    target.above.append(source)


def _arrange(layers: Sequence[list[_Spot]]) -> None:
    """Sort each layer and give each spot its x."""
    for layer in layers:
        _spread(layer, [0.0] * len(layer))
    for sweep in range(SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            pulls = {spot: fmean(near.x for near in _near(spot, sweep)) for spot in layer}
            layer.sort(key=pulls.__getitem__)
            _spread(layer, [pulls[spot] for spot in layer])


def _near(spot: _Spot, sweep: int) -> list[_Spot]:
    """What pulls a spot: on the way down those above it, on the way up those below it, at last both."""
    if sweep >= SWEEPS - 4:
        return [*spot.above, *spot.below] or [spot]
    return (spot.above if sweep % 2 == 0 else spot.below) or [spot]


def _spread(layer: Sequence[_Spot], wanted: Sequence[float]) -> None:
    """The x nearest to the wanted ones, in least squares, at which no two spots overlap: isotonic regression.

    Source: R. E. Barlow et al., Statistical Inference under Order Restrictions (1972): pool adjacent violators.
    """
    gaps = [(left.width + right.width) / 2 + BETWEEN for left, right in pairwise(layer)]
    offsets = list(accumulate(gaps, initial=0.0))
    pools: list[list[float]] = []
    for x, offset in zip(wanted, offsets, strict=True):
        pools.append([x - offset])
        while len(pools) > 1 and fmean(pools[-2]) >= fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    levels = [fmean(pool) for pool in pools for _ in pool]
    for spot, level, offset in zip(layer, levels, offsets, strict=True):
        spot.x = level + offset


def _arrows(spots: Sequence[_Spot]) -> Iterator[str]:
    """The edges, from left to right, so that those of one box begin and end side by side."""
    edges = sorted(((source, target) for source in spots for target in source.below), key=lambda e: (e[0].x, e[1].x))
    begun: Counter[_Spot] = Counter()
    ended: Counter[_Spot] = Counter()
    for source, target in edges:
        begun[source] += 1
        ended[target] += 1
        x, y = _port(source, begun[source], len(source.below)), source.top + source.height
        to_x, to_y = _port(target, ended[target], len(target.above)), target.top
        middle = (y + to_y) / 2
        curve = f"M{x:.1f} {y:.1f} C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        if target.lines:
            yield f'<path d="{curve}" fill="none" stroke="#555" marker-end="url(#arrow)"/>'
        else:
            yield f'<path d="{curve} V{to_y + target.height:.1f}" fill="none" stroke="#555"/>'


def _port(spot: _Spot, number: int, of: int) -> float:
    return spot.x + spot.width * (number / (of + 1) - 0.5)


def _drawn(spot: _Spot) -> str:
    """A box with its lines, the first in bold; one without inputs has another colour."""
    fill = "#fff" if spot.above else "#dcebf7"
    corner = f'x="{spot.x - spot.width / 2:.1f}" y="{spot.top:.1f}"'
    extent = f'width="{spot.width:.1f}" height="{spot.height:.1f}"'
    first = spot.top + spot.height / 2 - LINE * (len(spot.lines) / 2 - 0.75)
    texts = (
        f'<text x="{spot.x:.1f}" y="{first + LINE * i:.1f}"{"" if i else BOLD}>{escape(line)}</text>'
        for i, line in enumerate(spot.lines)
    )
    return f'<rect {corner} {extent} rx="5" fill="{fill}" stroke="#345"/>' + "".join(texts)
