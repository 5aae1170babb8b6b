"""The pytest plugin: cases as parameters, options that select them, and the bench that checks before it times.

Load it with `-p gradrace.testing`. A test that takes the fixture `gradrace_case` runs once for every selected case;
`from gradrace.testing import test_kernel` is the whole bench of a project.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from gradrace.declare import TIERS
from gradrace.errors import UsageError

if TYPE_CHECKING:
    from gradrace.cases import Case
    from gradrace.verify import Check

SLOW_S = 0.1
"""A case that takes longer than this is timed in a few single rounds, without calibration."""

AXES = ("family", "variant", "operator", "size", "dtype", "device")


@dataclass(frozen=True)
class Result:
    """What a bench found: the check of a case and, where it was timed, median and interquartile range in seconds."""

    case: Case
    check: Check
    median_s: float | None = None
    iqr_s: float = 0.0


_DIFFERENCES = pytest.StashKey[list[str]]()
_RESULTS = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradrace", "gradrace: which cases to run")
    for axis in AXES:
        group.addoption(f"--{axis}", action="append", default=[], metavar="WORD", help=f"only this {axis} (repeatable)")
    group.addoption("--case", metavar="PATTERN", help="only the cases whose id matches this glob")
    group.addoption("--all-cases", action="store_true", help="every size, dtype and device, not the default selection")
    group.addoption("--tier", choices=TIERS, help="the cases of this tier of sizes")
    group.addoption("--module", action="append", default=[], metavar="M", help="also load the families of this module")
    group.addoption("--threads", type=int, default=1, help="threads of torch and of every BLAS (default: 1)")


BRIEF = {
    "benchmark_max_time": ("1.0", "0.05"),
    "benchmark_min_time": ("0.000005", "0.001"),
    "benchmark_calibration_precision": ("10", "1"),
}
"""Options of pytest-benchmark, its default and ours: it spends a second and megabytes on a microsecond kernel."""

COLUMNS = ["min", "median", "iqr", "rounds"]


def _be_brief(config: pytest.Config) -> None:
    """Ours in place of pytest-benchmark's defaults; what a command line or a configuration says stands."""
    option = config.option
    for name, (default, ours) in BRIEF.items():
        now = getattr(option, name)
        if str(now) == default:
            setattr(option, name, type(now)(ours))
    columns = option.benchmark_columns
    if columns is None or len(columns) > 2 * len(COLUMNS):  # all that there are, in older releases by name
        option.benchmark_columns = COLUMNS


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = []
    if config.pluginmanager.hasplugin("benchmark"):
        _be_brief(config)
    # A case that fails its check is not timed, on purpose.
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used at all")
    # torch's forward mode loads a module of its own that warns once for each of its functions.
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Answer bad input before anything is collected: inside the collection pytest would show a traceback."""
    option = session.config.getoption
    if option("threads") < 1:
        pytest.exit("gradrace: --threads must be at least 1", returncode=2)
    if any(option(name) for name in (*AXES, "case", "module")):
        _select(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "gradrace_case" in metafunc.fixturenames:
        cases = _select(metafunc.config)
        metafunc.parametrize("gradrace_case", cases, ids=[case.id for case in cases])


def _select(config: pytest.Config) -> list[Case]:
    """The cases that the command line asks for; bad input leaves pytest with exit code 2."""
    from gradrace.cases import Selection, all_cases, load_families

    option = config.getoption
    try:
        selection = Selection(
            pattern=option("case"),
            all=option("all_cases"),
            tier=option("tier"),
            **{axis: option(axis) for axis in AXES},
        )
        return selection.apply(all_cases(load_families(option("module"))))
    except UsageError as error:
        pytest.exit(f"gradrace: {error}", returncode=2)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Group the benches by scenario and give them the synchronised clock; mark what cannot run here as skipped."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        case = callspec.params.get("gradrace_case") if callspec else None
        if case is None:
            continue
        if reason := case.skip_reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        if "benchmark" in item.fixturenames:  # type: ignore[attr-defined]
            from gradrace.clock import clock

            # pytest-benchmark reads the closest marker alone, so both facts stand in one.
            item.add_marker(pytest.mark.benchmark(group=case.scenario.id, timer=clock))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    from gradrace.environment import describe

    facts = {**describe(), "threads": config.getoption("threads")}
    del facts["commit"]  # stands in commit_info, and may differ between runs that are compared
    machine_info["gradrace"] = facts


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """What does not race belongs to the results too: the wrong formulations; and what the machine can do at most."""
    from gradrace.environment import pin_threads
    from gradrace.record import described
    from gradrace.roofline import measure

    results = config.stash[_RESULTS]
    pin_threads(config.getoption("threads"))
    devices = {result.case.scenario.device for result in results}
    output_json["gradrace"] = {
        "wrong": [described(result.case, result.check) for result in results if not result.check.is_right],
        "roofline": {device: measure(device) for device in sorted(devices)},
    }


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Note which facts differ that make a comparison with a saved run worthless."""
    # pytest-benchmark's own warning fires for the clock rate of the moment, and prints two screens.
    warnings.filterwarnings("ignore", message="Benchmark machine_info is different")
    now, then = machine_info.get("gradrace", {}), compared_benchmark["machine_info"].get("gradrace", {})
    config.stash[_DIFFERENCES] = [
        f"{key} ({then.get(key)} then, {fact} now)" for key, fact in now.items() if then.get(key) != fact
    ]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A wrong declaration that shows only when a case runs fails its bench in one line, and the others go on."""
    try:
        return (yield)
    except UsageError as error:
        if "gradrace_case" not in pyfuncitem.fixturenames:
            raise
        pytest.fail(f"gradrace: {error}", pytrace=False)


@pytest.fixture(autouse=True)
def _pinned_threads(request: pytest.FixtureRequest) -> None:
    """Every test that runs a case runs it with the threads of the command line."""
    if "gradrace_case" in request.fixturenames:
        from gradrace.environment import pin_threads

        pin_threads(request.config.getoption("threads"))


def test_kernel(gradrace_case: Case, benchmark: Any, request: pytest.FixtureRequest) -> None:
    """Check the case, then time the very thunk that was checked. What is wrong is never timed."""
    from gradrace.clock import clock
    from gradrace.environment import describe, pin_threads
    from gradrace.operators import prepare_case
    from gradrace.record import compulsory_bytes, described
    from gradrace.verify import check, verify
    from gradrace.witnesses import changed_outputs, to_arrays
    from gradrace.work import count_prepared

    try:
        prepared = prepare_case(gradrace_case)
    except Exception:
        checked = verify(gradrace_case)
    else:
        checked = check(prepared)
    results = request.config.stash[_RESULTS]
    if not checked.ok:
        results.append(Result(gradrace_case, checked))
        pytest.fail(checked.message, pytrace=False)
    if checked.status == "skipped":
        pytest.skip(checked.message)
    if not checked.is_right:
        results.append(Result(gradrace_case, checked))
        pytest.xfail("kept as a wrong formulation and seen as wrong: " + _wrong_outputs(checked))
    threads = request.config.getoption("threads")
    pin_threads(threads)  # the check may have loaded a further BLAS, such as SciPy's
    benchmark.extra_info |= {
        **described(gradrace_case, checked),
        "threads": threads,
        "first_call_s": checked.first_call_s,
        "environment": describe(gradrace_case.scenario.device),
    }
    if benchmark.enabled:
        benchmark.extra_info["work"] = count_prepared(prepared).as_json()
    start = clock()
    raw = prepared.thunk()
    once_s = clock() - start
    before = to_arrays(gradrace_case, raw)
    benchmark.extra_info["compulsory_bytes"] = compulsory_bytes(prepared, before)
    if once_s > SLOW_S and benchmark.enabled:
        raw = benchmark.pedantic(prepared.thunk, rounds=max(3, min(5, int(1 / once_s))), iterations=1)
    else:
        raw = benchmark(prepared.thunk)
    if changed := changed_outputs(prepared, before, to_arrays(gradrace_case, raw)):
        benchmark.extra_info |= {"right": False, "status": "error"}  # its time stays in the results
        pytest.fail(
            f"{gradrace_case.id}: what was timed gives another {' and '.join(changed)} than what was checked; "
            "let the kernel keep no state",
            pytrace=False,
        )
    timed = benchmark.stats.stats if benchmark.stats else None
    results.append(Result(gradrace_case, checked, *((timed.median, timed.iqr) if timed else ())))


def _wrong_outputs(checked: Check) -> str:
    return ", ".join(f"{name} {found.status}" for name, found in checked.outputs.items() if not found.is_right)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The race at a glance: of each scenario the winner, its lead over the baseline, and whether the gradients tie."""
    results = config.stash[_RESULTS]
    if not any(result.median_s for result in results):
        return
    from rich.console import Console

    terminalreporter.section(f"the race: fastest right formulation, threads = {config.getoption('threads')}")
    console = Console(file=terminalreporter._tw._file, width=max(80, terminalreporter._tw.fullwidth))
    races: dict[tuple[str, str], list[Result]] = {}
    wrong: dict[str, set[str]] = {}
    for result in results:
        asked = result.case.scenario
        races.setdefault((asked.family.name, asked.operator), []).append(result)
        if not result.check.is_right:
            wrong.setdefault(asked.family.name, set()).add(result.case.variant.name)
    tables = [_race_table(rows, wrong.get(family, set())) for (family, _), rows in races.items()]
    for table in tables:
        console.print(table)
    if any("≈" in lead for table in tables for lead in table.columns[-1].cells):
        console.print("≈: the lead is within the scatter of the two times (their interquartile ranges)", style="dim")
    if differences := config.stash.get(_DIFFERENCES, []):
        terminalreporter.write_line(
            f"gradrace: read no ratio from the comparison, the runs differ in {', '.join(differences)}", red=True
        )


def _race_table(results: Sequence[Result], wrong: Collection[str]) -> Any:
    """One line for each scenario of a family and operator. `wrong`: the variants that are wrong in any operator, whose
    value, right as it may be, wins nothing.
    """
    from rich import box
    from rich.table import Table

    asked = results[0].case.scenario
    baseline = asked.family.baseline_of(asked.operator)
    here = {row.case.variant.name for row in results}
    notes = [f"{name}: WRONG, {_of_wrong(name, results)}" for name in sorted(here & set(wrong))]
    table = Table(
        title=f"[bold]{asked.family.name}/{asked.operator}[/bold]  [dim]beside {baseline}[/dim]"
        + "".join(f"\n[red]{note}[/red]" for note in notes),
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("size", min_width=21)
    table.add_column("fastest", min_width=25)
    table.add_column("tie", justify="right", min_width=5)
    table.add_column("median", justify="right", min_width=7)
    table.add_column("faster", justify="right", min_width=7)
    scenarios: dict[str, list[Result]] = {}
    for result in results:
        scenarios.setdefault(result.case.scenario.id.split("/", 2)[2], []).append(result)
    for size, rows in scenarios.items():
        table.add_row(size.removesuffix("/float64/cpu"), *_race_row(rows, wrong))
    return table


def _of_wrong(name: str, results: Sequence[Result]) -> str:
    timed = any(row.median_s is not None for row in results if row.case.variant.name == name)
    return "by another operator, and out of this race" if timed else "not timed"


def _race_row(rows: Sequence[Result], wrong: Collection[str]) -> tuple[str, str, str, str]:
    """The winner, how many of how many tie, the winner's time, and its lead over the baseline."""
    timed = [(row.median_s, row) for row in rows if row.median_s is not None and row.case.variant.name not in wrong]
    ties = f"{len(timed)}/{len(rows)}"
    if not timed:
        return "–", ties, "–", "–"
    best_s, best = min(timed, key=lambda pair: pair[0])
    base_s, base = next(((seconds, row) for seconds, row in timed if row.case.is_baseline), (None, None))
    if base_s is None or base is None:
        return best.case.variant.name, ties, _duration(best_s), "–"
    about = "≈ " if base_s - best_s <= max(base.iqr_s, best.iqr_s) and base is not best else ""
    return best.case.variant.name, ties, _duration(best_s), about + _times(base_s / best_s)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} ×" if ratio >= 100 else f"{ratio:.3g} ×"


def _duration(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
