"""Of which files a kernel is made, read and not run: what no change has touched need not race.

modules of a state  ->  their files, and those of all that they import from it  ->  a digest, to compare two states by

What a module reads as data or imports under a name that it computes is not seen. A change of data shows in the
gradients and in the work, which are compared in any case.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from gradrace.gate.states import State

MACHINERY = ("gradrace.operators", "gradrace.inputs")
"""What calls every kernel: a part of each, in a state that has a gradrace of its own. These files alone, for they know
all families, and a kernel is not made of other families.
"""

COMPILED = frozenset((".c", ".cc", ".cpp", ".cu", ".cuh", ".cxx", ".f90", ".h", ".hpp", ".pyd", ".pyx", ".so"))
"""Files that may be part of any kernel, for no import tells."""


def holds(state: State, modules: Iterable[str]) -> bool:
    """Does the state have one of these modules itself?"""
    return any(_locate(state.import_path, name) for name in modules)


def digest(state: State, modules: Iterable[str]) -> str:
    """Equal for two states whose files of these modules are equal."""
    found = hashlib.sha256()
    machinery = {path for name in MACHINERY if (path := _locate(state.import_path, name))}
    for path in sorted({*_closure(state.import_path, modules), *machinery, *_compiled(state.folder)}):
        found.update(f"{path.relative_to(state.folder)} {_content(path)}\n".encode())
    return found.hexdigest()


@cache  # a state is laid out once and stays as it is
def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _closure(roots: tuple[Path, ...], modules: Iterable[str]) -> set[Path]:
    waiting = [*modules]
    found: set[Path] = set()
    while waiting:
        name = waiting.pop()
        path = _locate(roots, name)
        if path is not None and path not in found:
            found.add(path)
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            waiting += _imported(roots, path, package)
    return found


@cache
def _locate(roots: tuple[Path, ...], module: str) -> Path | None:
    """The file of a module in this state; None for one that comes from elsewhere, and is the same for both."""
    for root in roots:
        place = root.joinpath(*module.split("."))
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if module and path.is_file():
                return path
    return None


@cache
def _imported(roots: tuple[Path, ...], path: Path, package: str) -> frozenset[str]:
    """The modules that a file imports, wherever in it. Of `from package import module` the module alone: else all of
    a package would be part of each of its modules.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return frozenset()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= inner if all(_locate(roots, name) for name in inner) else {*inner, base}
    return frozenset(found)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def _compiled(folder: Path) -> frozenset[Path]:
    return frozenset(path for path in folder.rglob("*") if path.suffix in COMPILED and path.is_file())
