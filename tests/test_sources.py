"""docs/sources.md: every row of the sources is there, and what it names exists. docs/answers.md: so do its commands."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from gradrace import cli
from gradrace.cases import Selection, all_cases
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


def functions_in(file: Path) -> list[str]:
    """The functions of a file whose names begin with test_."""
    body = ast.parse(file.read_text()).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def exists(name: str) -> bool:
    """A family, a formulation of one, or a test of a file."""
    if name.startswith("test_"):
        file, _, function = name.partition("::")
        return function in functions_in(HERE / f"{file}.py")
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


# ---- the answers ----

ANSWERS = (HERE.parent / "docs" / "answers.md").read_text()
COMMANDS = re.findall(r"^    (\S.*)$", ANSWERS, re.MULTILINE)


def complaint(command: str) -> str | None:
    """What is wrong with a command, before it runs: no such file, a word of -k or a pattern that selects nothing."""
    program, *arguments = shlex.split(command)
    if program == "gradrace":
        options = cli._parser().parse_args(arguments)
        pattern = getattr(options, "pattern", None)
        return None if not pattern or Selection(pattern, all=True).apply(all_cases(FAMILIES)) else pattern
    files = [HERE.parent / each for each in arguments if each.endswith(".py")]
    if missing := [file.name for file in files if not file.is_file()]:
        return missing[0]
    if program == "python":
        return None
    words = arguments[arguments.index("-k") + 1].split(" or ") if "-k" in arguments else []
    names = [name for file in files for name in functions_in(file)]
    return next((word for word in words if not any(word in name for name in names)), None)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_answers_selects_something(command):
    assert complaint(command) is None


def test_every_question_has_its_command():
    sections = re.split(r"^## ", ANSWERS, flags=re.MULTILINE)[1:]
    questions = [part for section in sections for part in re.split(r"^\*\*(?=[A-Z])", section, flags=re.MULTILINE)[1:]]
    assert len(questions) >= 14
    assert [question[:40] for question in questions if not re.search(r"^    \S", question, re.MULTILINE)] == []


@pytest.mark.parametrize(
    "command",
    [
        "pytest tests/test_cli.py -k 'nothing_of_this_name'",
        "python benches/experiments/no_such.py",
        "pytest tests/no.py",
    ],
)
def test_a_command_that_shows_nothing_would_be_noticed(command):
    assert complaint(command)
