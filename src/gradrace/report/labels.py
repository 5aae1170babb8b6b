"""Labels beside the ends of lines, moved apart where they would overlap."""

from __future__ import annotations

from collections.abc import Sequence


def apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places in the same order, at least `gap` from each other and between `low` and `high`, as near as can be to the
    wanted ones: least squares by pooling neighbours that would overlap. Where there is no room they begin at `low`.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    pools: list[tuple[float, int]] = []  # sum and number of places, as if labels had no height
    for rank, place in enumerate(order):
        total, count = wanted[place] - rank * gap, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            other, others = pools.pop()
            total, count = total + other, count + others
        pools.append((total, count))
    highest = high - (len(wanted) - 1) * gap
    level = [max(low, min(highest, total / count)) for total, count in pools for _ in range(count)]
    places = [0.0] * len(wanted)
    for rank, place in enumerate(order):
        places[place] = level[rank] + rank * gap
    return places
