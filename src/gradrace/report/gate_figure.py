"""One verdict of the gate: the ratio of every kernel that it raced, with its interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gradrace.report.gate_documents import ends
from gradrace.report.provenance import short
from gradrace.report.ranking import spell_ratio
from gradrace.report.rows import Verdict
from gradrace.report.scale import Ruler, Scale, in_times
from gradrace.report.style import BLUE, BOUND, FAINT, INK, LINE, MARGIN, OTHER, SOFT, VERMILLION, WIDTH, Sheet, fitted

ABOUT = "Time of the head over that of the base, of every kernel that was raced; the slowest change first."

KEY = (
    "Triangle up: slower; triangle down: faster; dot: the same; hollow: undecided. Bars: the interval of the ratio, to "
    "the end of the axis where it is not known yet."
)

MOST = 60

STEP = 0.15

NAMES, NUMBERS, GAP, BELOW = 3.5, 0.75, 0.12, 0.2
"""Inches left of, right of, beside and below the plot."""

LOOKS = {"slower": ("^", VERMILLION, VERMILLION), "faster": ("v", BLUE, BLUE), "same": ("o", OTHER, OTHER)}
UNDECIDED = ("o", "white", INK)


def raced(verdict: Verdict) -> list[Mapping[str, Any]]:
    """The kernels with a ratio, the slowest change first."""
    found = [kernel for kernel in verdict.kernels if (kernel.get("ratio") or 0) > 0]
    return sorted(found, key=lambda kernel: -kernel["ratio"])


def draw(title: str, verdict: Verdict, footer: str) -> Sheet:
    shown = _extremes(raced(verdict))
    high = STEP * len(shown)
    sheet = Sheet(title, ABOUT, high + BELOW, [KEY], footer)
    left, right, top = MARGIN + NAMES + GAP, WIDTH - MARGIN - NUMBERS - GAP, sheet.top
    known = [number for kernel in shown for number in (kernel["ratio"], *ends(kernel)) if 0 < number < math.inf]
    ruler = Ruler(Scale.over([1.0, *known], least=1.05), left, right)
    ys = [top + (place + 0.5) * STEP for place in range(len(shown))]
    ticks = ruler.ticks(in_times)
    sheet.rule([*((left, y, right, y) for y in ys), *((x, top, x, top + high) for x, _ in ticks)], FAINT, 0.5)
    sheet.rule([(left, top + high, right, top + high)], SOFT, 0.6)
    sheet.rule([(ruler.at(1), top, ruler.at(1), top + high)], INK, 0.8, BOUND)
    for x, label in ticks:
        sheet.write(x, top + high + 0.6 * LINE, label, ha="center")
    for y, kernel in zip(ys, shown, strict=True):
        low, high = ends(kernel)
        bar = left if low <= 0 else ruler.at(low), right if math.isinf(high) else ruler.at(high)
        sheet.rule([(bar[0], y, bar[1], y)], INK, 0.7)
        sheet.mark([ruler.at(kernel["ratio"])], [y], *LOOKS.get(str(kernel.get("judgement")), UNDECIDED))
        sheet.write(MARGIN + NAMES, y, fitted(_name(kernel, shown), NAMES), ha="right")
        sheet.write(right + GAP, y, spell_ratio(kernel["ratio"], low, high))
    return sheet


def _extremes(kernels: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Of many those that moved most, up and down."""
    return kernels if len(kernels) <= MOST else [*kernels[: MOST // 2], *kernels[-MOST // 2 :]]


def _name(kernel: Mapping[str, Any], kernels: Sequence[Mapping[str, Any]]) -> str:
    """The id, without dtype and device where all have the same."""
    places = {each["id"].split("/", 4)[-1] for each in kernels}
    return str(kernel["id"] if len(places) > 1 else kernel["id"].rsplit("/", 2)[0])


def sentence(verdict: Verdict, others: int) -> str:
    """How many kernels were judged how. others: verdicts without a figure."""
    kernels = raced(verdict)
    judged = Counter(str(kernel.get("judgement") or "undecided") for kernel in kernels)
    counted = ", ".join(f"{count} {judgement}" for judgement, count in judged.most_common())
    left_out = f"; {len(kernels) - MOST} that moved less are not shown" if len(kernels) > MOST else ""
    more = f"; {others} more verdicts have no figure" if others else ""
    return (
        f"The gate says {verdict.verdict} of {short(verdict.head)} beside {short(verdict.base)}: of {len(kernels)} "
        f"kernels that were raced {counted}{left_out}{more}."
    )
