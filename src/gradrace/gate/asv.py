"""The gate's times among asv's results, so that its dashboard and `asv compare` show the same numbers.

    Outcome  ->  for each state that is a commit: its result file, with the launch medians as samples

asv's own API reads and writes the files. What asv has measured there of the same cases is replaced.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradrace.errors import UsageError
from gradrace.gate.outcome import Outcome, Seen
from gradrace.gate.states import date_of

if TYPE_CHECKING:
    from asv.results import Results

AXES = ["variant", "size", "device"]
DTYPE = "float64"
"""What asv's benchmarks of this project run in: their parameters are the three axes alone."""


@dataclass(frozen=True)
class Place:
    """Where asv keeps the results of this machine, a result to take the environment from, and the benchmarks."""

    folder: Path
    template: Results
    benchmarks: Mapping[str, Mapping[str, Any]]


def find(repo: Path) -> Place:
    """Raises UsageError, with what to do, where asv or its results are missing."""
    if importlib.util.find_spec("asv") is None:
        raise UsageError("--asv needs asv; install it: pip install asv")
    if not (repo / "asv.conf.json").exists():
        raise UsageError(f"--asv needs an asv.conf.json in {repo}")
    from asv.benchmarks import Benchmarks
    from asv.config import Config
    from asv.results import Results
    from asv.util import UserError

    try:
        config = Config.load(str(repo / "asv.conf.json"))
        config.results_dir = str(repo / config.results_dir)
        folder = _machine(Path(config.results_dir))
        latest = max(folder.glob("*-*.json"), key=lambda path: path.stat().st_mtime, default=None)
        if latest is None:
            raise UsageError(f"--asv adds to what asv has measured, and {folder} holds no results; run asv once")
        return Place(folder, Results.load(str(latest), folder.name), Benchmarks.load(config))
    except UserError as error:
        raise UsageError(f"--asv: {str(error).partition(chr(10))[0]}; run asv once") from error


def _machine(results: Path) -> Path:
    """The one among asv's machines that its own file, in the user's home, says this is."""
    from asv.machine import MachineCollection

    file = Path(MachineCollection.get_machine_file_path())
    names = {platform.node(), *(json.loads(file.read_text()) if file.exists() else ())}
    known = [path.parent.name for path in results.glob("*/machine.json")]
    here = [name for name in known if name in names]
    if len(here) != 1:
        raise UsageError(
            f"--asv cannot tell which of asv's machines this is ({', '.join(known) or 'it knows none'}); "
            "name it with `asv machine --machine NAME`, and run asv once"
        )
    return results / here[0]


def add(place: Place, repo: Path, outcome: Outcome) -> list[str]:
    """Write the times of both states, and say for each of them what was written."""
    return [
        _add(place, repo, seen, _samples(outcome, role))
        for role, seen in (("base", outcome.base), ("head", outcome.head))
    ]


def _samples(outcome: Outcome, role: str) -> dict[str, Sequence[float]]:
    """Seconds of a call, a number for each launch, by case."""
    both = {name: (timing.base_samples, timing.head_samples) for name, timing in outcome.timings.items()}
    return {name: pair[role == "head"] for name, pair in both.items() if pair[0]}


def _add(place: Place, repo: Path, seen: Seen, samples: Mapping[str, Sequence[float]]) -> str:
    from asv.results import Results, get_filename

    if seen.commit is None:
        return f"asv: the {seen.label} is no commit, so its times are not written"
    like = place.template
    file = Path(get_filename(place.folder.name, seen.commit, like.env_name))
    if (place.folder.parent / file).exists():
        results = Results.load(str(place.folder.parent / file), place.folder.name)
    else:
        results = Results(
            like.params,
            like._requirements,
            seen.commit,
            1000 * date_of(repo, seen.commit),
            like._python,
            like.env_name,
            like.env_vars,
        )
    written = sum(_add_benchmark(results, benchmark, samples) for benchmark in place.benchmarks.values())
    if not written:
        return f"asv: none of its benchmarks times what was raced of {seen.label}"
    results.save(str(place.folder.parent))
    return f"asv: {written} times of {seen.label} in {place.folder.name}/{file.name}"


def _add_benchmark(results: Results, benchmark: Mapping[str, Any], samples: Mapping[str, Sequence[float]]) -> int:
    """How many parameters of a benchmark were written."""
    from asv.runner import BenchmarkResult

    if benchmark["param_names"] != AXES or benchmark["type"] != "time":
        return 0
    combinations = list(itertools.product(*benchmark["params"]))
    cases = {_case(name): values for name, values in samples.items() if name.split("/")[4] == DTYPE}
    owner = benchmark["name"].split(".")[-2]
    found = [cases.get((owner, *(value.strip("'") for value in each))) for each in combinations]
    chosen = {place for place, values in enumerate(found) if values is not None}
    if chosen:
        result = BenchmarkResult(
            result=[None if values is None else 0.0 for values in found],
            samples=[None if values is None else list(values) for values in found],
            number=[None if values is None else 1 for values in found],
            errcode=0,
            stderr="",
            profile=None,
        )
        results.add_result(benchmark, result, record_samples=False, selected_idx=chosen)
    return len(chosen)


def _case(name: str) -> tuple[str, str, str, str]:
    """The class of the benchmark, as the benches name it, and its parameters."""
    family, variant, operator, size, _, device = name.split("/")
    return "".join(word.title() for word in f"{family}_{operator}".split("_")), variant, size, device
