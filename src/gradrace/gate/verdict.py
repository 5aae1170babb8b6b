"""May the change be merged? From what changed to red and notices, and to an exit code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gradrace.gate.comparing import Kernel
from gradrace.ledger import Difference

PASS, REGRESSION, USAGE, NOTHING_MEASURED, UNFIT, CRASHED = range(6)
"""The exit codes."""


@dataclass(frozen=True)
class Finding:
    """Something to say of a kernel. colour: `red`, `notice` or `gain`; `what` is what an acknowledgement names."""

    id: str
    what: str
    colour: str
    text: str


def findings(
    kernels: Iterable[Kernel], kinks: Iterable[Difference], acknowledged: Mapping[tuple[str, str], str]
) -> list[Finding]:
    """All that is to be said; red that is acknowledged is a notice with its reason."""
    found = [finding for kernel in kernels for finding in _of(kernel)]
    found += [Finding(each.id, "kink", "red", f"the kink moved: {each}") for each in kinks]
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
    if kernel.work is not None and kernel.work.status != "same":
        risen = kernel.work.risen
        colour = {"more": "red", "notice": "notice", "gain": "gain"}[kernel.work.status]
        found.append(Finding(kernel.id, ",".join(risen) or "ops", colour, str(kernel.work)))
    return found


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


def judge(kernels: Sequence[Kernel], found: Sequence[Finding]) -> Verdict:
    red = [finding for finding in found if finding.colour == "red"]
    compared = sum(kernel.state not in ("skipped", "new", "gone") for kernel in kernels)
    new = sum(kernel.state == "new" for kernel in kernels)
    if red:
        return Verdict("regression", REGRESSION, f"{len(red)} findings are red, of {compared} kernels compared")
    if compared:
        return Verdict("pass", PASS, f"{compared} kernels compared, none is red")
    if new:
        return Verdict("pass", PASS, f"all new: base has none of the {new} kernels")
    return Verdict("nothing measured", NOTHING_MEASURED, "no kernel could be compared: each is skipped, or gone")


def as_json(kernel: Kernel) -> dict[str, Any]:
    """The kernel's row in the gate's document."""
    gradient, work = kernel.gradient, kernel.work
    return {
        "id": kernel.id,
        "state": kernel.state,
        "reason": kernel.reason,
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
