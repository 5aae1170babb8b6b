"""`gradrace work`: what every formulation costs, counted without a clock, and how that grows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from gradrace.cli.common import add_selection, print_error, print_json, print_numbers, select, track
from gradrace.errors import UsageError, described
from gradrace.units import human

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.cases import Case
    from gradrace.growth import Law, Rung
    from gradrace.operators import Prepared
    from gradrace.work import Work

Found = TypeVar("Found")

NAME = "work"
HELP = "count operations, FLOPs, graph nodes and bytes of every case; no clock, no noise"


def add_arguments(command: argparse.ArgumentParser) -> None:
    add_selection(command)
    command.add_argument(
        "--exponents",
        action="store_true",
        help="fit how the counters grow with the size; exit 1 when one contradicts the declared law",
    )


def run(options: argparse.Namespace) -> int:
    return _run_exponents(options) if options.exponents else _run_counts(options)


def _run_counts(options: argparse.Namespace) -> int:
    from gradrace.work import count_prepared

    cases = select(options)
    works, failures = _each(cases, count_prepared)
    if options.json:
        print_json([work.as_json() for work in works.values()])
    else:
        print_numbers(work_table(works.values()))
        _print_notes(works.values())
    _print_skipped(cases, len(works), to_stderr=options.json)
    return _report(failures)


def _run_exponents(options: argparse.Namespace) -> int:
    from gradrace.growth import climb, declared, fit

    declarations = declared(select(options))
    if not declarations:
        raise UsageError(
            "no law of growth is declared of the selected cases; choose a family that has one, such as "
            "sandwich/*, or declare one by growth=(Growth(...),)"
        )
    cases = climb(declarations)
    rungs, failures = _each(cases, _rung)
    laws = fit(declarations, rungs)
    missing = [case for case in cases if case not in rungs and case.skip_reason]
    if not laws and not failures:
        raise UsageError(
            f"no law was judged: each ladder has a size that is skipped, the first, {missing[0].id}, because: "
            f"{missing[0].skip_reason}; choose a shorter ladder"
        )
    for case in missing:
        print(f"not judged: the ladder with {case.id}, which is skipped: {case.skip_reason}", file=sys.stderr)
    if options.json:
        print_json([law.as_json() for law in laws])
    else:
        print_numbers(growth_table(laws))
        print("fitted exponent / declared one; the exponent of the time is not judged")
    _print_skipped(cases, len(rungs), to_stderr=options.json)
    return _report([*failures, *(law.complaint for law in laws if not law.ok)])


def _rung(prepared: Prepared) -> Rung:
    from gradrace.growth import Rung, time
    from gradrace.work import count_prepared

    return Rung(count_prepared(prepared), time(prepared))


def _each(cases: Sequence[Case], find: Callable[[Prepared], Found]) -> tuple[dict[Case, Found], list[str]]:
    """What is found of the cases that can run, and a sentence for each that raises."""
    from gradrace.environment import pin_threads

    pin_threads(1)  # no count depends on them, and small operations on many threads are slow
    found: dict[Case, Found] = {}
    failures = []
    reasons = [case.skip_reason for case in cases]
    if all(reasons):
        raise UsageError(f"nothing was counted: each selected case is skipped, the first because: {reasons[0]}")
    for case in track([case for case, reason in zip(cases, reasons, strict=True) if not reason], "counting"):
        answer = _attempt(case, find)
        if isinstance(answer, str):
            failures.append(answer)
        else:
            found[case] = answer
    return found, failures


def _attempt(case: Case, find: Callable[[Prepared], Found]) -> Found | str:
    """What is found of a case, or what it raises in a sentence."""
    from gradrace.work import warm

    try:
        return find(warm(case))
    except UsageError:
        raise
    except Exception as error:
        return f"{case.id}: raised {described(error)}"


def _report(failures: Sequence[str]) -> int:
    for sentence in failures:
        print_error(sentence)
    return 1 if failures else 0


def _print_skipped(cases: Sequence[Case], counted: int, to_stderr: bool) -> None:
    """How many cases were left out, and why the first was; beside a JSON document it goes to standard error."""
    skipped = [reason for case in cases if (reason := case.skip_reason)]
    line = f"{counted} counted, {len(skipped)} skipped" + (f" (the first: {skipped[0]})" if skipped else "")
    print(line, file=sys.stderr if to_stderr else sys.stdout)


def work_table(works: Iterable[Work]) -> Table:
    """One line a case. Of the operations the forward and the backward pass stand apart."""
    from rich.table import Table

    table = Table("case")
    for title in ("ops fwd + bwd", "FLOPs", "nodes", "depth", "saved", "peak"):
        table.add_column(title, justify="right", no_wrap=True)
    for work in works:
        forward, backward = work.forward.ops, work.backward.ops
        ops = "–" if forward is None or backward is None else f"{forward:,} + {backward:,}"
        uncounted = work.forward.uncounted or work.backward.uncounted
        table.add_row(
            work.id,
            ops,
            ("> " if uncounted else "") + human(work.counters["flops"]),
            f"{work.graph_nodes:,}",
            f"{work.graph_depth:,}",
            human(work.saved_bytes, "B"),
            human(work.peak_bytes, "B"),
        )
    return table


def _print_notes(works: Iterable[Work]) -> None:
    """What the dashes and the > stand for."""
    reasons = dict.fromkeys(work.reason for work in works if work.reason)
    uncounted = sorted({name for work in works for name in (*work.forward.uncounted, *work.backward.uncounted)})
    for reason in reasons:
        print(f"–: {reason}")
    if uncounted:
        print(f">: without the FLOPs of {', '.join(uncounted)}, for which there is no formula")


def growth_table(laws: Iterable[Law]) -> Table:
    """One line for each ladder that a variant climbs, one column for each counter."""
    from rich.table import Table

    ladders: dict[tuple[str, str], dict[str, Law]] = {}
    counters: dict[str, None] = {}
    for law in laws:
        rungs = f"{law.axis} = {', '.join(map(str, law.ladder))}"
        ladders.setdefault((law.id, rungs), {})[law.counter] = law
        counters[law.counter] = None
    table = Table("case", "sizes")
    for counter in counters:
        table.add_column(counter, justify="right", no_wrap=True)
    for (name, rungs), row in ladders.items():
        table.add_row(name, rungs, *(_exponent(row, counter) for counter in counters))
    return table


def _exponent(row: Mapping[str, Law], counter: str) -> str:
    law = row.get(counter)
    if law is None:
        return ""
    text = "none" if law.fitted is None else f"{law.fitted:.2f}"
    if law.declared is None:
        return text
    text = f"{text} / {law.declared:g}"
    return text if law.ok else f"[bold red]{text}[/bold red]"
