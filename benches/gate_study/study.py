"""How often is the gate wrong, and how fast is it right? Measured on this machine, with the gate's own machinery.

    python benches/gate_study/study.py same     --runs 45              identical code in two folders
    python benches/gate_study/study.py same     --runs 22 --loaded     the same beside a process that computes in bursts
    python benches/gate_study/study.py same     --runs 3 --whole       with the whole budget of the gate's default
    python benches/gate_study/study.py ratios   --runs 1000            the true ratio of each planted slowdown
    python benches/gate_study/study.py slow     --runs 75              planted slowdowns: found, how often, how soon
    python benches/gate_study/study.py slow     --runs 75 --kernels "study_wide/*"    of these alone
    python benches/gate_study/summary.py                               the tables of results/gate/README.md

Each adds its rows to results/gate/NAME.json, so that a study can be continued. One row is one comparison.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

from plants import SLOW, changed, plant_of

from gradrace.environment import describe
from gradrace.files import write_text
from gradrace.gate import pairs, timing
from gradrace.gate.arms import ALLOCATOR, fork_server, started
from gradrace.gate.comparing import Asked, Kernel
from gradrace.gate.contest import CONTROLS, Contest, Side, contest
from gradrace.gate.states import State

RESULTS = Path(__file__).parents[2] / "results" / "gate"
ASKED = Asked(("kernels",), "study_*", True)
CAP_S = 1.7
"""Of a comparison, on the average of its run: what is undecided by then counts as missed. So much has each of some 120
kernels in the gate's default budget; the kernels of the study are fewer, and with the whole of it get more.
"""


@dataclass(frozen=True)
class Setting:
    """Two folders of code, and what is raced in them."""

    base: Side
    head: Side
    kernels: list[Kernel]
    numbers: dict[str, object]


@contextmanager
def laid_out(source: str) -> Iterator[Setting]:
    """The kernels as they are, and as `source` has them, in folders whose names differ in length."""
    with tempfile.TemporaryDirectory() as folder:
        states = []
        for label, text in (("base", changed()), ("head-with-a-longer-name", source)):
            path = Path(folder) / label
            path.mkdir()
            (path / "kernels.py").write_text(text)
            states.append(State(label, None, path))
        with started(states[1]) as arm:
            rows = arm.ask("cases", ASKED.modules, ASKED.pattern, ASKED.every)
            known = [row for row in rows if row[3] and not row[2]]
            kernels = [Kernel(name, "both", scenario=scenario) for name, scenario, *_ in known]
            numbers = {name: arm.ask("numbers", name) for name, *_ in known}
        yield Setting(Side(states[0]), Side(states[1]), kernels, numbers)


@contextmanager
def bursts() -> Iterator[None]:
    """A process on the last core that computes for up to 0.2 s and rests for up to 0.4 s, over and over."""
    process = multiprocessing.get_context("spawn").Process(target=_burn, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _burn() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    chance = random.Random(1)
    while True:
        end = time.perf_counter() + chance.uniform(0, 0.2)
        while time.perf_counter() < end:
            sum(range(1000))
        time.sleep(chance.uniform(0, 0.4))


def raced(setting: Setting, rules: timing.Rules) -> Contest:
    with fork_server(setting.base.state.folder.parent) as server:
        found = contest(
            setting.base, setting.head, server, setting.kernels, setting.numbers.__getitem__, ASKED, rules, _silent
        )
    assert found is not None
    return found


def _silent(*_: object) -> None:
    """Nobody watches."""


def _comparisons(setting: Setting) -> int:
    """Its kernels, the canary and the controls."""
    return len(setting.kernels) + 1 + len(CONTROLS)


def judged(setting: Setting, run: int, budget_s: float) -> list[dict[str, object]]:
    """One run of the gate's clock, a row for each kernel and each control."""
    found = raced(setting, timing.Rules(budget_s=budget_s))
    rows = [_row(run, each, "") for each in found.timings.values()]
    return rows + [_row(run, each.timing, each.kind) for each in found.controls]


def _row(run: int, found: timing.Timing, control: str) -> dict[str, object]:
    return {
        "run": run,
        "kernel": found.id,
        "control": control,
        "judgement": found.judgement,
        "ratio": round(found.estimate.ratio, 5),
        "pairs": found.estimate.pairs,
        "seconds": round(found.seconds, 3),
    }


def ratios(setting: Setting, runs: int) -> list[dict[str, object]]:
    """The median ratio of each planted kernel over so many launch pairs, at 64-bit precision or where it is alone."""
    chosen = [kernel for kernel in setting.kernels if _represents(kernel.id)]
    never = timing.Rules(margin=1e-9, alpha=1e-300, budget_s=1e9)
    timing.MOST_PAIRS, timing.MOST_LAPS = runs, 1
    found = raced(replace(setting, kernels=chosen), never)
    return [
        {
            "plant": plant_of(each.id),
            "kernel": each.id,
            "ratio": round(each.estimate.ratio, 5),
            "low": round(each.estimate.low, 5),
            "high": round(each.estimate.high, 5),
            "pairs": each.estimate.pairs,
        }
        for each in found.timings.values()
    ]


def _represents(kernel: str) -> bool:
    """Of the instances of a plant, those whose true ratio is measured: double precision, or the one there is."""
    return plant_of(kernel) is not None and ("float64" in kernel or "smooth" in kernel)


def runs_so_far(name: str) -> int:
    path = RESULTS / f"{name}.json"
    return 1 + max(row["run"] for row in json.loads(path.read_text())["rows"]) if path.exists() else 0


def save(name: str, rows: list[dict[str, object]]) -> None:
    """Add rows to a file of results; what another machine or torch has measured is not added to."""
    path = RESULTS / f"{name}.json"
    here = {**describe(), "threads": 1, "cores_used": pairs.cores(), "allocator": ALLOCATOR}
    document = json.loads(path.read_text()) if path.exists() else {"environment": here, "rows": []}
    for key in ("processor", "torch", "python"):
        if document["environment"][key] != here[key]:
            sys.exit(f"{path} is of another machine ({key} {document['environment'][key]}); move it away")
    document["rows"] += rows
    lines = ",\n".join(json.dumps(row) for row in document["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f'{{"environment": {json.dumps(document["environment"])},\n"rows": [\n{lines}\n]}}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("same", "slow", "ratios"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--loaded", action="store_true", help="beside a process that computes in bursts")
    parser.add_argument("--whole", action="store_true", help="each run has the budget that the gate has by default")
    parser.add_argument("--cap", type=float, default=CAP_S, help="seconds of a comparison, on the average of its run")
    parser.add_argument("--into", metavar="NAME", help="the file of results, where it is another than the study's own")
    parser.add_argument("--kernels", action="append", metavar="PATTERN", help="only those whose name matches")
    options = parser.parse_args()
    name = options.into or "_".join((options.study, *("loaded",) * options.loaded, *("whole",) * options.whole))
    source = changed() if options.study == "same" else changed(*SLOW.values())
    with laid_out(source) as setting, bursts() if options.loaded else nullcontext():
        if options.kernels:
            chosen = [kernel for kernel in setting.kernels if any(fnmatch(kernel.id, each) for each in options.kernels)]
            setting = replace(setting, kernels=chosen)
        if options.study == "ratios":
            save(name, ratios(setting, options.runs))
            return
        first = runs_so_far(name)
        for run in range(first, first + options.runs):
            begin = time.monotonic()
            budget_s = timing.Rules().budget_s if options.whole else options.cap * _comparisons(setting)
            rows = judged(setting, run, budget_s)
            save(name, rows)
            same = sum(row["judgement"] == "same" for row in rows)
            slower = sum(row["judgement"] == "slower" for row in rows)
            took = median(float(str(row["seconds"])) for row in rows)
            print(
                f"run {run + 1} of {first + options.runs}: {time.monotonic() - begin:.0f} s, {len(rows)} comparisons, "
                f"{same} same, {slower} slower, {took:.2f} s each",
                flush=True,
            )


if __name__ == "__main__":
    main()
