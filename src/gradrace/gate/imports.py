"""What the modules of a state import from it, read and not run.

modules of a state  ->  these, and all that they import  ->  their files

`package.name` in an expression counts as `from package import name`. An import under a name that is computed is not
seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PLAIN = (ast.Constant, ast.Name, ast.Attribute, ast.Tuple, ast.List, ast.Dict, ast.Starred, ast.expr_context)
"""Of what a value is made that does nothing when it is computed."""


@cache  # a state is laid out once and stays as it is
def locate(roots: tuple[Path, ...], module: str) -> Path | None:
    """The file of a module in this state; None for one that comes from elsewhere, and is the same for both."""
    for root in roots:
        place = root.joinpath(*module.split("."))
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if module and path.is_file():
                return path
    return None


def reached(roots: tuple[Path, ...], modules: Iterable[str]) -> set[str]:
    """These modules and all that they import, and what they import, with some names that are no modules."""
    waiting = [*modules]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(roots, name)
    return found


def packages(module: str) -> Iterator[str]:
    """The packages around a module: Python runs them first."""
    while module := module.rpartition(".")[0]:
        yield module


@cache
def effects(path: Path) -> str:
    """What the `__init__` of a package does to everybody who imports one of its modules.

    All but what gives names to things: imports, docstrings, and assignments of names and plain values to a name. Who
    reads such a name imports the package itself.
    """
    tree = _tree(path)
    return ast.dump(ast.Module([node for node in tree.body if not _only_names(node)], []))


def _only_names(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Expr(ast.Constant()):
            return True
        case ast.Assign([ast.Name()], value) | ast.AnnAssign(ast.Name(), value=value):
            return value is None or all(isinstance(part, PLAIN) for part in ast.walk(value))
    return False


@cache
def _tree(path: Path) -> ast.Module:
    """What is no Python stands as one string: it imports nothing, and changes where its text does."""
    source = path.read_bytes()
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):  # the second for a null byte
        return ast.Module([ast.Assert(ast.Constant(source))], [])


@cache
def _imported(roots: tuple[Path, ...], module: str) -> frozenset[str]:
    """The modules that a module imports, wherever in it."""
    path = locate(roots, module)
    if path is None:
        return frozenset()
    package = _package(module, path)
    found: set[str] = set()
    for node in ast.walk(_tree(path)):
        match node:
            case ast.Import(aliases):
                found.update(alias.name for alias in aliases)
            case ast.ImportFrom():
                base = _absolute(node, package)
                found |= _from(roots, base, {alias.name for alias in node.names})
            case ast.Attribute(value, name) if (base := _dotted(value)) and locate(roots, base):
                found |= _from(roots, base, {name})
    return frozenset(found)


def _from(roots: tuple[Path, ...], base: str, names: set[str]) -> set[str]:
    """The modules of `from base import names`.

    Of `from package import module` the module alone: else all of a package would be part of each of its modules. But
    the package too where its `__init__` gives the name to something else.
    """
    inner = {f"{base}.{name}" for name in names}
    path = locate(roots, base)
    if path is None:
        return {*inner, base}
    if all(locate(roots, name) for name in inner) and not _bound(path, base) & {*names, "*", "__getattr__"}:
        return inner
    # `from package import *` imports the modules that its `__all__` names: whatever string is the name of one.
    texts = {each.value for each in ast.walk(_tree(path)) if isinstance(each, ast.Constant)} if "*" in names else set()
    return {*inner, base, *(f"{base}.{text}" for text in texts if isinstance(text, str) and text.isidentifier())}


@cache
def _bound(path: Path, package: str) -> frozenset[str]:
    """The names that the `__init__` of a package gives to anything but its modules of that name."""
    found: set[tuple[str, str]] = set()  # name, and the module that it may stand for
    for node in ast.walk(_tree(path)):
        match node:
            case ast.Import(aliases):
                found.update((alias.asname or alias.name.partition(".")[0], alias.name) for alias in aliases)
            case ast.ImportFrom(names=aliases):
                base = _absolute(node, package)
                found.update((alias.asname or alias.name, f"{base}.{alias.name}") for alias in aliases)
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name) | ast.Name(name, ast.Store()):
                found.add((name, ""))
    return frozenset(name for name, module in found if module != f"{package}.{name}")


def _package(module: str, path: Path) -> str:
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def _absolute(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of names and dots; empty for any other expression."""
    match node:
        case ast.Name(name):
            return name
        case ast.Attribute(value, name) if base := _dotted(value):
            return f"{base}.{name}"
    return ""
