"""docs/sources.md: every row of the sources is there, and what it names exists."""

import ast
import re
from pathlib import Path

import pytest

from gradrace.families import FAMILIES

HERE = Path(__file__).parent
ROWS = re.findall(
    r"^\| (\d+)\.(\d+) \| (.+) \| (.+) \|$", (HERE.parent / "docs" / "sources.md").read_text(), re.MULTILINE
)
COUNTS = {0: 11, 1: 13, 2: 9, 3: 13, 4: 20}
"""How many computations each source has."""

FORMULATIONS = {family.name: {variant.name for variant in family.variants} for family in FAMILIES}
NOWHERE = {"4.20"}
"""Definitions, with nothing to compute."""


def exists(name: str) -> bool:
    """A family, a formulation of one, or a test of a file."""
    if name.startswith("test_"):
        file, _, function = name.partition("::")
        tree = ast.parse((HERE / f"{file}.py").read_text())
        return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree.body)
    family, _, variant = name.partition("/")
    return family in FORMULATIONS and (not variant or variant in FORMULATIONS[family])


def test_no_row_is_missing():
    found = [(int(source), int(row)) for source, row, *_ in ROWS]
    assert found == [(source, row) for source, count in COUNTS.items() for row in range(1, count + 1)]


@pytest.mark.parametrize(("row", "held_by"), [(f"{source}.{row}", held) for source, row, _, held in ROWS])
def test_what_holds_a_row_exists(row, held_by):
    names = re.findall(r"`([^`]+)`", held_by)
    assert bool(names) != (row in NOWHERE)
    assert [name for name in names if not exists(name)] == []


@pytest.mark.parametrize("name", ["no_such_family", "sandwich/no_such", "test_sources::test_no_such"])
def test_what_does_not_exist_would_be_noticed(name):
    assert not exists(name)
    assert exists("sandwich/wasteful")
