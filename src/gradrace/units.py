"""Numbers as people read them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """`1 case`, `2,000 cases`"""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def human(count: int | None, unit: str = "") -> str:
    """Three digits and a decimal prefix, `28.3 kB`; a dash for what is not known."""
    if count is None:
        return "–"
    for prefix, scale in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= 0.9995 * scale:
            digits = 2 if count < 9.995 * scale else 1 if count < 99.95 * scale else 0
            return f"{count / scale:.{digits}f} {prefix}{unit}"
    return f"{count} {unit}".rstrip()
