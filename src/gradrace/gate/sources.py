"""Of which files a kernel is made, read and not run: what no change has touched need not race.

modules of a state  ->  their files, and those of all that they import from it  ->  a digest, to compare two states by

Of the packages around these modules only what they do at import is a part, such as to set a flag of torch: not what
they import, or a catalogue of families would make each a part of every other.

What a module reads as data or imports under a name that it computes is not seen. A change of data shows in the
gradients and in the work, which are compared in any case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from gradrace.gate.imports import effects, locate, packages, reached
from gradrace.gate.states import State

MACHINERY = ("gradrace.operators", "gradrace.inputs")
"""What calls every kernel: a part of each, in a state that has a gradrace of its own. These files alone, for they know
all families, and a kernel is not made of other families.
"""

COMPILED = frozenset(
    (
        *(".c", ".cc", ".cpp", ".cxx", ".m", ".mm", ".s", ".asm"),
        *(".h", ".hh", ".hpp", ".hxx", ".inc", ".inl", ".ipp", ".tpp"),
        *(".cu", ".cuh", ".hip", ".cl", ".metal", ".ptx", ".cubin"),
        *(".f", ".for", ".f77", ".f90", ".f95", ".f03", ".f08"),
        *(".pyx", ".pxd", ".pxi", ".rs"),
        *(".so", ".dylib", ".pyd", ".dll", ".a", ".lib", ".o", ".obj"),
    )
)
"""Files that may be part of any kernel, for no import tells."""

BUILDS = frozenset(
    (
        *("setup.py", "setup.cfg", "pyproject.toml", "makefile", "cmakelists.txt", "cargo.toml", "cargo.lock"),
        *("meson.build", "meson.options", "meson_options.txt"),
    )
)
"""Files that say how those are made: parts of any kernel too, in a state that has some of those."""


def holds(state: State, modules: Iterable[str]) -> bool:
    """Does the state have one of these modules itself?"""
    return any(locate(state.import_path, name) for name in modules)


def digest(state: State, modules: Iterable[str]) -> str:
    """Equal for two states whose files of these modules are equal."""
    names = reached(state.import_path, modules)
    whole = {*_located(state, {*names, *MACHINERY}), *_compiled(state.folder)}
    around = _located(state, {package for name in names for package in packages(name)})
    parts = [*((path, _content(path)) for path in whole), *((path, effects(path)) for path in around)]
    found = hashlib.sha256()
    for path, content in sorted(parts):
        found.update(f"{path.relative_to(state.folder)} {content}\n".encode())
    return found.hexdigest()


def _located(state: State, modules: Iterable[str]) -> set[Path]:
    return {path for name in modules if (path := locate(state.import_path, name))}


@cache  # a state is laid out once and stays as it is
def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@cache
def _compiled(folder: Path) -> frozenset[Path]:
    """What is compiled, and what says how."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    # Any of its suffixes, for `libkernel.so.1` and the template `kernel.c.in`.
    compiled = {path for path in files if not COMPILED.isdisjoint(Path(path.name.lower()).suffixes)}
    builds = {path for path in files if path.name.lower() in BUILDS}
    return frozenset(compiled | builds if compiled else compiled)
