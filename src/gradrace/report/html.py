"""HTML as values: whatever is not markup already is escaped, so that no text of a kernel can become a tag."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

VOID = frozenset({"br", "img", "input", "wbr"})
"""Elements that hold nothing, and so are not closed."""


class Markup(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def element(name: str, /, *inside: object, **attributes: object) -> Markup:
    """`element("td", "a < b", class_="number")` is `<td class="number">a &lt; b</td>`. An attribute that is None or
    False is left out, one that is True stands bare; an underscore in its name is a dash.
    """
    head = name + "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    return Markup(f"<{head}>" if name in VOID else f"<{head}>{join(*inside)}</{name}>")


def join(*parts: object, between: str = "") -> Markup:
    """Parts beside each other. None is nothing; a list is its items."""
    return Markup(between.join(markup(part) for part in parts if part is not None))


def markup(part: Any) -> Markup:
    if isinstance(part, Markup):
        return part
    if isinstance(part, (list, tuple)):
        return join(*part)
    return Markup(escape(str(part)))


def breakable(name: str) -> Markup:
    """A long name or id that may be broken after an underscore or a slash."""
    return Markup(re.sub(r"(?<=[_/])(?=\w)", "<wbr>", escape(name)))


def table(head: Sequence[str], rows: Sequence[Markup], caption: str, numbers: Collection[str] = ()) -> Markup:
    """A table that scrolls by itself where it is too wide, also by the keyboard. numbers: the columns of numbers."""
    cells = [element("th", name, scope="col", class_="number" if name in numbers else None) for name in head]
    inside = [element("caption", caption), element("thead", element("tr", *cells)), element("tbody", *rows)]
    grid = element("table", *inside, class_="grid")
    return element("div", grid, class_="scroll", role="region", tabindex=0, aria_label=caption)


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{escape(str(value))}"'
