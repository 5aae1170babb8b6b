"""docs/your_own_kernels.md, run as printed: in an empty folder, with gradrace installed from a wheel, offline.

The page's fences say what a block is: `python FILE` is a file, `python FILE append` the end of one, `diff FILE` a
change of one, `console` commands. A printed line of output must occur in this order in what the command prints;
`…` stands for anything, and a number for any number.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your_own_kernels.md"
WARM = Path(__file__).with_name("warm_python.py")

FENCE = re.compile(r"^```(\w+)(?: (\S+))?(?: (append))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?(?: (?:ns|µs|ms|s)\b)?")
WITHIN_THE_SCATTER = re.compile(r"^≈: the lead is within the scatter.*\n|≈ ?", re.MULTILINE)
"""What the race says where the machine is too noisy to tell who leads, as it may be when tests run side by side."""
FRAME = re.compile(r"[\s─━═│┃┏┓┗┛┡┩└┘┬┴┼╇┳╋=]+")


@dataclass(frozen=True)
class Block:
    kind: str
    file: str
    how: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*(group or "" for group in found.groups())) for found in FENCE.finditer(page)]


def commands(transcript: str) -> Iterator[tuple[str, str]]:
    """Each command with the output that is printed below it."""
    for part in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def as_pattern(printed: str) -> re.Pattern[str]:
    """What matches an output that differs in numbers, in spaces and frames, and by what `…` leaves out."""

    def words(text: str) -> str:
        return "N".join(map(re.escape, NUMBER.split(FRAME.sub(" ", text))))

    pieces = map(words, printed.strip().split("…"))
    return re.compile(".*?".join(pieces), re.DOTALL)


def normalised(output: str) -> str:
    return NUMBER.sub("N", FRAME.sub(" ", WITHIN_THE_SCATTER.sub("", output)))


def write(folder: Path, block: Block) -> None:
    path = folder / block.file
    if block.kind == "diff":
        sides = {
            sign: "".join(line[1:] for line in block.text.splitlines(keepends=True) if line[0] == sign) for sign in "-+"
        }
        text = path.read_text()
        assert text.count(sides["-"]) == 1, block.text
        path.write_text(text.replace(sides["-"], sides["+"]))
    elif block.how == "append":
        path.write_text(f"{path.read_text()}\n\n{block.text}")
    else:
        path.write_text(block.text)


def run(*command: str | Path, **options: object) -> str:
    """What a command prints. Fails the test unless it exits with 0."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, **options)
    assert done.returncode == 0, f"{command} exits with {done.returncode}:\n{done.stdout}"
    return done.stdout


def environment(folder: Path) -> dict[str, str]:
    """A virtual environment with gradrace from a wheel, and everything else from the one that runs the tests."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (wheel,) = folder.glob("gradrace-*.whl")
    home = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", home)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # A folder that a .pth file adds has its own .pth files ignored: the editable gradrace there stays unknown.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # `python` and `pip` are processes of their own; the installed `gradrace`, and pytest, are forked off a warm one.
    warm = folder / "warm"
    warm.mkdir()
    forked = f"{python} -IS {WARM} {folder / 'socket'}"
    for name, program in {
        "pip": f'{python} -m pip "$@" --no-index --no-deps --no-build-isolation',
        "pytest": f'{forked} pytest "$@"',
        "gradrace": f'{forked} {home / "bin" / "gradrace"} "$@"',
    }.items():
        script = warm / name
        script.write_text(f"#!/bin/sh\nexec {program}\n")
        script.chmod(0o755)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COV"))},
        "PATH": os.pathsep.join([str(warm), str(home / "bin"), os.environ["PATH"]]),
        "PYTHONDONTWRITEBYTECODE": "1",  # two versions of a file within one second look the same to its cache
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "COLUMNS": "120",
    }


@contextmanager
def serving(folder: Path, env: dict[str, str]) -> Iterator[None]:
    """The warm Python that runs `gradrace` and `pytest`: to import torch for each command takes half a minute."""
    command = ["python", WARM, folder / "socket"]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder) as server:
        assert server.stdout.readline() == b"ready\n"
        yield
        server.stdin.close()
        assert server.wait(timeout=30) == 0


@pytest.fixture
def env(tmp_path):
    variables = environment(tmp_path)
    with serving(tmp_path, variables):
        yield variables


def test_the_page_runs_as_printed(tmp_path, env):
    project = tmp_path / "project"
    project.mkdir()
    home = run("python", "-c", "import gradrace; print(gradrace.__file__)", env=env, cwd=project)
    assert Path(home.strip()).is_relative_to(tmp_path / "venv")
    for block in blocks(PAGE.read_text()):
        if block.kind != "console":
            write(project, block)
            continue
        for command, printed in commands(block.text):
            output = run("bash", "-c", command, env=env, cwd=project)
            if os.environ.get("SHOW_WALKTHROUGH"):
                print(f"$ {command}\n{output}")
            assert as_pattern(printed).search(normalised(output)), f"$ {command}\n{output}\nis not\n{printed}"


def test_every_block_of_the_page_is_run():
    page = PAGE.read_text()
    assert page.count("\n```") == 2 * len(blocks(page))
    assert {block.kind for block in blocks(page)} == {"python", "diff", "toml", "console"}
    assert all(block.file for block in blocks(page) if block.kind != "console")


def test_a_wrong_output_would_be_noticed():
    pattern = as_pattern("case │ agree │ 1.2e-16 / 3e-15\n…\n2 as declared, 0 failed")
    assert pattern.search(normalised("case  ┃ agree ┃ 4e-17 / 1.5e-15 \nmore\n3 as declared, 10 failed"))
    assert not pattern.search(normalised("case  ┃ none ┃ 4e-17 / 1.5e-15 \nmore\n3 as declared, 10 failed"))
    assert not pattern.search(normalised("case  ┃ agree ┃ 4e-17 / 1.5e-15 \nmore\n3 as declared"))
