"""May the change be merged? From what changed to red and notices, and to an exit code."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gradrace.gate.comparing import Kernel
from gradrace.gate.contest import Control
from gradrace.gate.timing import Timing
from gradrace.ledger import Difference
from gradrace.units import counted

PASS, REGRESSION, USAGE, NOTHING_MEASURED, UNFIT, CRASHED = range(6)
"""The exit codes."""


COLOURS = ("red", "notice", "gain")
"""In the order of their importance."""


@dataclass(frozen=True)
class Finding:
    """Something to say of a kernel. colour: `red`, `notice` or `gain`; `what` is what an acknowledgement names."""

    id: str
    what: str
    colour: str
    text: str


@dataclass(frozen=True)
class Stance:
    """What is red by choice. strict: what is undecided too; reported: work and time are only said, never red, as
    between two interpreters.
    """

    strict: bool = False
    reported: bool = False


USUAL = Stance()


def findings(
    kernels: Iterable[Kernel],
    kinks: Iterable[Difference],
    timings: Mapping[str, Timing],
    acknowledged: Mapping[tuple[str, str], str],
    stance: Stance = USUAL,
) -> list[Finding]:
    """All that is to be said; red that is acknowledged is a notice with its reason."""
    found = []
    for kernel in kernels:
        timing = timings.get(kernel.id)
        found += _of(kernel) + _of_work(kernel, timing) + (_of_time(timing, stance) if timing else [])
    found += [Finding(each.id, "kink", "red", f"the kink moved: {each}") for each in kinks]
    if stance.reported:
        found = [_reported(finding) for finding in found]
    return [_excused(finding, acknowledged) for finding in found]


def _of(kernel: Kernel) -> list[Finding]:
    found = []
    if kernel.state == "broken":
        found.append(Finding(kernel.id, "gradient", "red", f"it raises now: {kernel.reason}"))
    if kernel.state == "mended":
        found.append(Finding(kernel.id, "gradient", "gain", f"it raised before: {kernel.reason}"))
    if kernel.state == "refused":
        found.append(Finding(kernel.id, "gradient", "notice", f"it raises in both states: {kernel.reason}"))
    if kernel.gradient is not None and kernel.gradient.status == "changed":
        found.append(Finding(kernel.id, "gradient", "red", str(kernel.gradient)))
    return found


def _of_work(kernel: Kernel, timing: Timing | None) -> list[Finding]:
    if kernel.work is None or kernel.work.status == "same":
        return []
    what = ",".join(kernel.work.risen) or "ops"
    if kernel.work.status == "more" and timing is not None and timing.judgement == "faster":
        return [Finding(kernel.id, what, "notice", f"{kernel.work} (faster in return)")]
    colour = {"more": "red", "notice": "notice", "gain": "gain"}[kernel.work.status]
    return [Finding(kernel.id, what, colour, str(kernel.work))]


def _of_time(timing: Timing, stance: Stance) -> list[Finding]:
    if timing.failure:
        severity = "red" if stance.strict else "notice"
        return [Finding(timing.id, "undecided", severity, spell(timing))]
    if timing.judgement == "undecided":
        text = f"{'seems slower' if timing.leans else 'undecided'}: {spell(timing)}"
        severity = "red" if stance.strict else "notice"
        return [Finding(timing.id, "undecided", severity, text)] if stance.strict or timing.leans else []
    colour = {"slower": "red", "faster": "gain"}.get(timing.judgement)
    return [Finding(timing.id, "time", colour, f"{timing.judgement}: {spell(timing)}")] if colour else []


def spell(timing: Timing) -> str:
    """The ratio with its interval, and the pairs that it comes from; of a kernel that leans what red would take."""
    found = timing.estimate
    if timing.failure:
        return f"it raises when it is called often: {timing.failure}"
    if not found.pairs:
        return "not raced, the budget ended first"
    if not math.isfinite(found.high):
        return f"{counted(found.pairs, 'pair')}, too few for an interval"
    is_short = found.pairs < timing.fewest
    lacks = f"red takes {timing.fewest}" if is_short else "not enough of them that agree for red"
    took = f" ({lacks})" if timing.leans else ""
    return f"{found.ratio:.3f} × the time, {found.low:.3f} to {found.high:.3f}, {found.pairs} pairs{took}"


def _reported(finding: Finding) -> Finding:
    if finding.colour != "red" or finding.what in ("gradient", "kink"):
        return finding
    return Finding(finding.id, finding.what, "notice", finding.text)


def _excused(finding: Finding, acknowledged: Mapping[tuple[str, str], str]) -> Finding:
    reason = acknowledged.get((finding.id, finding.what))
    if finding.colour != "red" or reason is None:
        return finding
    return Finding(finding.id, finding.what, "notice", f"{finding.text} (acknowledged: {reason})")


@dataclass(frozen=True)
class Verdict:
    """The sentence and the exit code."""

    word: str
    exit_code: int
    sentence: str


def judge(
    kernels: Sequence[Kernel],
    found: Sequence[Finding],
    controls: Sequence[Control] = (),
    timings: Collection[Timing] = (),
) -> Verdict:
    """A clock that fails its controls says nothing; what needs no clock is judged all the same."""
    flagged = [control for control in controls if control.is_flagged]
    red = reds(found, controls)
    compared = sum(kernel.state not in ("skipped", "new", "gone") for kernel in kernels)
    new = sum(kernel.state == "new" for kernel in kernels)
    if red:
        are = "is" if len(red) == 1 else "are"
        sentence = f"{counted(len(red), 'finding')} {are} red, of {counted(compared, 'kernel')} compared"
        return Verdict("regression", REGRESSION, sentence)
    if flagged:
        return Verdict("machine unfit", UNFIT, _unfit(flagged[0]))
    if compared:
        return Verdict("pass", PASS, f"{counted(compared, 'kernel')} compared, none is red{_open(timings)}")
    if new:
        return Verdict("pass", PASS, f"all new: base has none of the {new} kernels")
    return Verdict("nothing measured", NOTHING_MEASURED, "no kernel could be compared: each is skipped, or gone")


def _open(timings: Collection[Timing]) -> str:
    """What a pass does not say: the times that are undecided."""
    count = sum(timing.judgement == "undecided" and not timing.failure for timing in timings)
    leaning = sum(timing.leans for timing in timings)
    seem = f", and {leaning} of them {'seems' if leaning == 1 else 'seem'} slower" if leaning else ""
    return f"; of {counted(len(timings), 'time')} {count} undecided{seem}" if count else ""


def reds(found: Iterable[Finding], controls: Iterable[Control]) -> list[Finding]:
    """What is red and counts: times do not where a control is flagged."""
    is_void = any(control.is_flagged for control in controls)
    return [each for each in found if each.colour == "red" and not (is_void and each.what in ("time", "undecided"))]


def _unfit(control: Control) -> str:
    found = f"{control.timing.judgement}: {spell(control.timing)}"
    if control.kind == "torch alone":
        return (
            f"a kernel of torch alone is {found}; something beside the kernels disturbs the clock, such as a thread "
            "that one of the states starts, or torch patched by it"
        )
    return f"{control.timing.id} raced against itself is {found}; run again when the machine is quieter"


def as_json(kernel: Kernel, timing: Timing | None = None) -> dict[str, Any]:
    """The kernel's row in the gate's document; without a timing its judgement is None."""
    gradient, work = kernel.gradient, kernel.work
    return {
        "id": kernel.id,
        "state": kernel.state,
        "reason": kernel.reason,
        "touched": kernel.is_touched,
        **(timing_as_json(timing) if timing else UNTIMED),
        "gradient": None
        if gradient is None
        else {
            "status": gradient.status,
            "output": gradient.output,
            "index": list(gradient.index),
            "base": gradient.base,
            "head": gradient.head,
            "units": gradient.units,
        },
        "work": None
        if work is None
        else {
            "status": work.status,
            "counters": {name: list(pair) for name, pair in work.counters.items()},
            "operations": {name: list(pair) for name, pair in work.operations.items()},
        },
    }


def timing_as_json(timing: Timing) -> dict[str, Any]:
    """base_s, head_s: medians over launches, seconds of a call; smallest: the least slowdown that would have been
    found nine times in ten, such as 0.05; fewest: the pairs that `slower` takes; leans: undecided, and seems slower.
    """
    found = timing.estimate
    return {
        "judgement": timing.judgement,
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "pairs": found.pairs,
        "seconds": timing.seconds,
        "base_s": median(timing.base_samples) if timing.base_samples else None,
        "head_s": median(timing.head_samples) if timing.head_samples else None,
        "smallest": timing.smallest,
        "fewest": timing.fewest,
        "leans": timing.leans,
        "failure": timing.failure or None,
    }


UNTIMED: dict[str, None] = dict.fromkeys(
    ("judgement", "ratio", "low", "high", "pairs", "seconds")
    + ("base_s", "head_s", "smallest", "fewest", "leans", "failure")
)
