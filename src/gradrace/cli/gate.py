"""`gradrace gate`: may this change be merged? Gradients, kinks and exact work of two states of a git repository."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradrace.cli.common import add_module_option, finite, print_table, track
from gradrace.errors import UsageError
from gradrace.files import write_text

if TYPE_CHECKING:
    from gradrace.gate.arms import Arm
    from gradrace.gate.comparing import Kernel
    from gradrace.gate.states import State
    from gradrace.gate.verdict import Finding, Verdict
    from gradrace.ledger import Difference

NAME = "gate"
HELP = "compare two states of the code: exit 1 when a gradient changed or the work grew"

COLOURS = {"red": "bold red", "notice": "yellow", "gain": "green"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("base", nargs="?", metavar="BASE", help="a commit (default: where this branch left main)")
    command.add_argument("head", nargs="?", metavar="HEAD", help="a commit, or . for the working tree (the default)")
    command.add_argument("pattern", nargs="?", metavar="PATTERN", help="glob on the case id")
    command.add_argument("--all", action="store_true", help="every size, dtype and device, not the default ones")
    command.add_argument("--base-python", default=sys.executable, metavar="P", help="the interpreter of the base")
    command.add_argument("--head-python", default=sys.executable, metavar="P", help="the interpreter of the head")
    command.add_argument("--acknowledge", metavar="REASON", help="write down that what is red is wanted, and why")
    command.add_argument("--json", metavar="FILE", type=Path, help="write one JSON document")
    command.add_argument("--markdown", metavar="FILE", type=Path, help="write a summary for a pull request")
    add_module_option(command)


def run(options: argparse.Namespace) -> int:
    from gradrace.gate.arms import ArmError, started
    from gradrace.gate.states import default_base, lay_out, repository, workspace
    from gradrace.gate.verdict import CRASHED

    repo = repository(Path.cwd())
    revision = options.base or default_base(repo)
    for file in (options.json, options.markdown):
        if file is not None and not file.resolve().parent.is_dir():
            raise UsageError(f"there is no folder {file.parent} to write {file.name} into")
    with workspace() as folder:
        after = None if options.head in (None, ".") else options.head
        states = lay_out(repo, revision, folder / "base"), lay_out(repo, after, folder / "head")
        try:
            with started(states[0], options.base_python) as base, started(states[1], options.head_python) as head:
                return _compare(repo, base, head, options)
        except ArmError as error:
            print(f"gradrace: {error}; there is no verdict", file=sys.stderr)
            return CRASHED


def _compare(repo: Path, base: Arm, head: Arm, options: argparse.Namespace) -> int:
    from gradrace.gate import acknowledged, comparing, verdict
    from gradrace.gate.arms import ArmError, ArmRefusal

    asked = comparing.Asked(options.module, options.pattern, options.all)
    try:
        kernels = comparing.compare(base, head, asked, lambda names: track(names, "comparing"))
        kinks = comparing.compare_kinks(base, head, asked, kernels)
    except ArmRefusal as refusal:
        raise ArmError(f"a state does not import: {refusal}") from refusal
    reasons = acknowledged.active(base.state.folder, head.state.folder)
    found = verdict.findings(kernels, kinks, reasons)
    decided = verdict.judge(kernels, found)
    _print(base, head, kernels, found, decided)
    if options.json is not None:
        write_text(options.json, json.dumps(_document(base, head, kernels, kinks, found, decided), indent=1) + "\n")
    if options.markdown is not None:
        write_text(options.markdown, _markdown(base.state, head.state, kernels, found, decided))
    if options.acknowledge:
        return _acknowledge(repo, found, options.acknowledge)
    return decided.exit_code


def _acknowledge(repo: Path, found: Sequence[Finding], reason: str) -> int:
    from gradrace.gate import acknowledged

    red = [finding for finding in found if finding.colour == "red"]
    if not red:
        print("nothing is red, so there is nothing to acknowledge")
        return 0
    new = [acknowledged.Acknowledgement(finding.id, finding.what, reason) for finding in red]
    path = acknowledged.write(repo, new)
    print(f"{len(new)} acknowledged in {path.name}; commit it with the change")
    return 0


def _print(
    base: Arm,
    head: Arm,
    kernels: Sequence[Kernel],
    found: Sequence[Finding],
    decided: Verdict,
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    for role, arm in (("base", base), ("head", head)):
        print(f"{role}: {arm.state.label}, gradrace from {_place(arm)}, torch {arm.facts['torch']}")
    if found:
        table = Table("kernel", "what changed")
        for finding in sorted(found, key=lambda each: list(COLOURS).index(each.colour)):
            style = COLOURS[finding.colour]
            table.add_row(escape(finding.id), f"[{style}]{finding.colour}[/{style}]: {escape(finding.text)}")
        print_table(table, [finding.id for finding in found], details=64)
    print(_counts(kernels))
    style = "green" if decided.exit_code == 0 else "bold red"
    Console().print(f"[{style}]{decided.word}[/{style}]: {escape(decided.sentence)}", soft_wrap=True, highlight=False)


def _place(arm: Arm) -> str:
    """Where its package lies: in the state itself, or installed."""
    package = Path(arm.facts["gradrace"]).resolve()
    return f"its own {package.relative_to(arm.state.folder.resolve())}" if arm.has_own_package else str(package)


def _counts(kernels: Sequence[Kernel]) -> str:
    states = Counter(kernel.state for kernel in kernels)
    gradients = Counter(kernel.gradient.status for kernel in kernels if kernel.gradient)
    work = Counter(kernel.work.status for kernel in kernels if kernel.work)
    parts = [f"{name} {count}" for name, count in gradients.items()]
    lines = [f"gradients: {', '.join(parts) or 'none compared'}"]
    lines.append("work: " + (", ".join(f"{name} {count}" for name, count in work.items()) or "none compared"))
    others = [
        f"{name} {states[name]}" for name in ("new", "gone", "skipped", "broken", "mended", "refused") if states[name]
    ]
    return "\n".join([*lines, *([f"kernels: {', '.join(others)}"] if others else [])])


def _document(
    base: Arm,
    head: Arm,
    kernels: Sequence[Kernel],
    kinks: Sequence[Difference],
    found: Sequence[Finding],
    decided: Verdict,
) -> Any:
    from gradrace.gate.verdict import as_json

    return finite(
        {
            "verdict": decided.word,
            "exit_code": decided.exit_code,
            "base": {"label": base.state.label, "commit": base.state.commit, **base.facts},
            "head": {"label": head.state.label, "commit": head.state.commit, **head.facts},
            "kernels": list(map(as_json, kernels)),
            "kinks": [str(each) for each in kinks],
            "findings": list(map(asdict, found)),
        }
    )


def _markdown(base: State, head: State, kernels: Sequence[Kernel], found: Sequence[Finding], decided: Verdict) -> str:
    """A comment of a pull request: the verdict first, then what is red, then the rest."""
    lines = [f"### gradrace: {decided.word}", "", f"{decided.sentence}. Base {base.label}, head {head.label}.", ""]
    if found:
        lines += ["| | kernel | what changed |", "|---|---|---|"]
        marks = {"red": "❌", "notice": "⚠️", "gain": "✅"}
        lines += [
            f"| {marks[each.colour]} | `{each.id}` | {each.text.replace('|', chr(92) + '|')} |"
            for each in sorted(found, key=lambda each: list(COLOURS).index(each.colour))
        ]
        lines.append("")
    lines += [f"- {line}" for line in _counts(kernels).splitlines()]
    return "\n".join(lines) + "\n"
