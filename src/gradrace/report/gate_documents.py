"""The documents of `gradrace gate --json`: what the gate said of two states of the code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradrace.report.document import Document
from gradrace.report.rows import Verdict

NUMBERS = ("ratio", "low", "high", "pairs", "seconds", "base_s", "head_s", "smallest")
"""Of a kernel; None where it was not timed."""


def is_verdict(content: Mapping[str, Any]) -> bool:
    return {"verdict", "kernels", "base", "head"} <= content.keys()


def read_verdict(document: Document) -> Verdict:
    """The kernels are kept as they stand there."""
    base, head = document.inside("base"), document.inside("head")
    kernels = document.each("kernels")
    for kernel in kernels:
        named = kernel.at(kernel.text("id"))
        for name in NUMBERS:
            named.number_if_any(name)
    return Verdict(
        file=document.name,
        verdict=document.text("verdict"),
        base=_state(base),
        head=_state(head),
        torch=" to ".join(dict.fromkeys((base.text("torch"), head.text("torch")))),
        findings=[
            {key: each.text(key) for key in ("id", "what", "colour", "text")} for each in document.each("findings")
        ],
        kernels=[kernel.content for kernel in kernels],
        environment=document.inside("environment").content if "environment" in document.content else {},
        asked=_asked(document),
        date=document.text("date") if "date" in document.content else "",
        confidence=100 - 50 * document.number("interval_level") if "interval_level" in document.content else 0.0,
    )


def _asked(document: Document) -> str:
    """`sandwich/*, every size, 30 s for times`"""
    asked = document.inside("asked").content if "asked" in document.content else {}
    parts = [asked.get("pattern"), "every size" if asked.get("every") else ""]
    if "budget_s" in document.content:
        parts.append(f"{document.number('budget_s'):g} s for times")
    return ", ".join(str(part) for part in parts if part)


def ends(kernel: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of a ratio. JSON has no infinity: null is an end without bound."""
    low, high = kernel.get("low"), kernel.get("high")
    return 0.0 if low is None else float(low), math.inf if high is None else float(high)


def _state(state: Document) -> str:
    """The commit, or what stands for it, such as `working tree`."""
    return str(state.content.get("commit") or state.text("label"))
