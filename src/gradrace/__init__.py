"""gradrace: formulations race; gradients must tie."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradrace.comparison import assert_same_gradient as assert_same_gradient
    from gradrace.comparison import compare as compare
    from gradrace.declare import Family as Family
    from gradrace.declare import Growth as Growth
    from gradrace.declare import Kink as Kink
    from gradrace.declare import Limit as Limit
    from gradrace.declare import size as size
    from gradrace.errors import UsageError as UsageError
    from gradrace.families.numerics import measured as measured

__version__ = "0.1.0"

_HOMES = {
    "Family": "gradrace.declare",
    "Growth": "gradrace.declare",
    "Kink": "gradrace.declare",
    "Limit": "gradrace.declare",
    "size": "gradrace.declare",
    "UsageError": "gradrace.errors",
    "assert_same_gradient": "gradrace.comparison",
    "compare": "gradrace.comparison",
    "measured": "gradrace.families.numerics",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that reading results needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gradrace' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
