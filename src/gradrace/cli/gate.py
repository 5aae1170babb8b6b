"""`gradrace gate`: may this change be merged? Gradients, kinks, exact work and time of two states of a repository."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gradrace.cli.common import add_module_option, finite, track
from gradrace.errors import UsageError
from gradrace.files import write_text

if TYPE_CHECKING:
    from gradrace.gate.arms import Arm, ForkServer
    from gradrace.gate.comparing import Asked, Kernel
    from gradrace.gate.contest import Contest
    from gradrace.gate.outcome import Outcome
    from gradrace.gate.states import State
    from gradrace.gate.timing import Rules

NAME = "gate"
HELP = "compare two states of the code: exit 1 when a gradient changed, the work grew, or a kernel is slower"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("base", nargs="?", metavar="BASE", help="a commit (default: where this branch left main)")
    command.add_argument("head", nargs="?", metavar="HEAD", help="a commit, or . for the working tree (the default)")
    command.add_argument("pattern", nargs="?", metavar="PATTERN", help="glob on the case id")
    command.add_argument("--all", action="store_true", help="every size, dtype and device, not the default ones")
    command.add_argument(
        "--margin", type=_between(0, 1), default=0.03, metavar="X", help="a ratio of times up to 1 + X is the same"
    )
    command.add_argument(
        "--alpha", type=_between(0, 0.5), default=0.01, metavar="X", help="how often a run may be red by chance"
    )
    command.add_argument(
        "--budget", type=_seconds, default=200.0, metavar="SECONDS", help="at most so long for times; 0 for no times"
    )
    command.add_argument("--strict", action="store_true", help="a kernel whose time is undecided is red")
    command.add_argument("--build", metavar="CMD", help="run this in the folder of each state first")
    for state in ("base", "head"):
        command.add_argument(
            f"--{state}-python",
            type=_interpreter,
            default=sys.executable,
            metavar="P",
            help=f"the interpreter of the {state}",
        )
    command.add_argument("--acknowledge", metavar="REASON", help="write down that what is red is wanted, and why")
    command.add_argument("--json", metavar="FILE", type=Path, help="write one JSON document")
    command.add_argument("--markdown", metavar="FILE", type=Path, help="write a summary for a pull request")
    command.add_argument("--asv", action="store_true", help="add the times to asv's results of this machine")
    add_module_option(command)


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = _number(text)
        if not low < value < high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    return number


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error


def _interpreter(text: str) -> str:
    """The path, or what a shell would find under this name: arms start in folders of their own."""
    found = shutil.which(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no program that can be started")
    return os.path.abspath(found)


def run(options: argparse.Namespace) -> int:
    from gradrace.cli.gate_report import markdown, print_outcome
    from gradrace.gate.arms import ArmError
    from gradrace.gate.asv import add, find
    from gradrace.gate.states import default_base, repository, workspace
    from gradrace.gate.verdict import CRASHED

    repo = repository(Path.cwd())
    revision = options.base or default_base(repo)
    for file in (options.json, options.markdown):
        if file is not None:
            _check_writable(file)
    place = find(repo) if options.asv else None
    try:
        with workspace() as folder:
            outcome = _outcome(repo, revision, folder, options)
    except ArmError as error:
        print(f"gradrace: {error}; there is no verdict", file=sys.stderr)
        return CRASHED
    print_outcome(outcome)
    if options.json is not None:
        write_text(options.json, json.dumps(finite(outcome.as_json()), indent=1) + "\n")
    if options.markdown is not None:
        write_text(options.markdown, markdown(outcome))
    if place is not None:
        for line in add(place, repo, outcome):
            print(line)
    return _acknowledge(repo, outcome, options.acknowledge) if options.acknowledge else outcome.verdict.exit_code


def _check_writable(file: Path) -> None:
    """Before minutes of work, not after them."""
    if not file.resolve().parent.is_dir():
        raise UsageError(f"there is no folder {file.parent} to write {file.name} into")
    if file.is_dir() or not os.access(file.resolve().parent, os.W_OK):
        raise UsageError(f"{file} cannot be written; name a file in a folder that is yours")


def _outcome(repo: Path, revision: str, folder: Path, options: argparse.Namespace) -> Outcome:
    """Both states laid out, built and compared. Raises ArmError where one of them has no answers."""
    from gradrace.gate import acknowledged, comparing, outcome, verdict
    from gradrace.gate.arms import ArmError, ArmRefusal, fork_server, started
    from gradrace.gate.states import lay_out
    from gradrace.gate.timing import Rules

    after = None if options.head in (None, ".") else options.head
    states = lay_out(repo, revision, folder / "base"), lay_out(repo, after, folder / "head")
    reasons = acknowledged.active(states[0].folder, states[1].folder)
    for state in states:
        if options.build:
            _build(state, options.build)
    pythons = options.base_python, options.head_python
    # asv has a graph for every kernel, and another interpreter may have changed any of them.
    asked = comparing.Asked(options.module, options.pattern, options.all, options.asv or pythons[0] != pythons[1])
    rules = Rules(options.margin, options.alpha, options.budget)
    with fork_server(folder, pythons, is_raced=rules.budget_s > 0) as server, ExitStack() as stack:
        base, head = (
            stack.enter_context(server.forked(state) if server else started(state, python))
            for state, python in zip(states, pythons, strict=True)
        )
        try:
            kernels = comparing.compare(base, head, asked, lambda names: track(names, "comparing"))
            kinks = comparing.compare_kinks(base, head, asked, kernels)
        except ArmRefusal as refusal:
            raise ArmError(f"a state does not import: {refusal}") from refusal
        contest = _raced(base, head, server, kernels, asked, rules, pythons)
        stance = verdict.Stance(options.strict, reported=pythons[0] != pythons[1])
        return outcome.conclude(base, head, kernels, kinks, contest, asked, rules, reasons, stance)


def _build(state: State, command: str) -> None:
    from gradrace.gate.arms import ArmError

    done = subprocess.run(command, shell=True, cwd=state.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise ArmError(f"{state.label} cannot be built by {command!r}, which ends with {done.returncode}: {last}")


def _raced(
    base: Arm,
    head: Arm,
    server: ForkServer | None,
    kernels: list[Kernel],
    asked: Asked,
    rules: Rules,
    pythons: tuple[str, str],
) -> Contest | None:
    from gradrace.gate.contest import Side, contest

    if not rules.budget_s:
        return None
    sides = Side(base.state, pythons[0]), Side(head.state, pythons[1])
    with _progress() as report:
        return contest(*sides, server, kernels, lambda name: head.ask("numbers", name), asked, rules, report)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, float], None]]:
    """A bar of the kernels that are decided, with the seconds that are left at most, while a person watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = TextColumn("racing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}")
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("racing", left="")

        def report(decided: int, count: int, left_s: float) -> None:
            progress.update(task, completed=decided, total=count, left=f"at most {max(left_s, 0):.0f} s left")

        yield report


def _acknowledge(repo: Path, outcome: Outcome, reason: str) -> int:
    from gradrace.gate import acknowledged, verdict

    red = verdict.reds(outcome.findings, outcome.contest.controls if outcome.contest else ())
    if not red:
        print("nothing is red, so there is nothing to acknowledge")
        return outcome.verdict.exit_code
    new = [acknowledged.Acknowledgement(finding.id, finding.what, reason) for finding in red]
    path = acknowledged.write(repo, new)
    print(f"{len(new)} acknowledged in {path.name}; commit it with the change")
    return 0
