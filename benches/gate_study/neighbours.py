"""The same changes through asv continuous and pytest-benchmark: what do they call a regression?

    python benches/gate_study/neighbours.py times --runs 5      identical code, and the planted slowdowns
    python benches/gate_study/neighbours.py times --runs 5 --tool pytest-benchmark      with one of the tools alone
    python benches/gate_study/neighbours.py faults              changes that are no slower, and wrong, and the gate too

Both tools run with their defaults on the kernels of the study, in a repository of their own; pytest-benchmark with
--benchmark-compare-fail=mean:10% and min:5%. Rows are added to results/gate/neighbours.json and faults.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from plants import KERNELS, SLOW, SPOILT, WRONG, changed
from study import laid_out, runs_so_far, save

SOURCE = Path(__file__).parents[2] / "src"

ASV = "asv continuous"
PYTEST = "pytest-benchmark"
RULES = {"mean": "pytest-benchmark mean:10%", "min": "pytest-benchmark min:5%"}
GATE = "gradrace gate"

BENCH = """
import json
from pathlib import Path

NAMES = json.loads(Path(__file__).with_name("names.json").read_text())


def prepared(name):
    import torch

    from gradrace.cases import find_case
    from gradrace.operators import prepare_case

    torch.set_num_threads(1)
    return prepare_case(find_case(name, ("kernels",))).thunk
"""

ASV_BENCH = f"""{BENCH}

class Kernels:
    params = NAMES

    def setup(self, name):
        self.thunk = prepared(name)

    def time_kernel(self, name):
        self.thunk()
"""

PYTEST_BENCH = f"""{BENCH}
import pytest


@pytest.mark.parametrize("name", NAMES)
def test_kernel(name, benchmark):
    benchmark(prepared(name))
"""

INSTALL = """
import pathlib, shutil, sys, sysconfig
site = pathlib.Path(sysconfig.get_paths()["purelib"])
shutil.copy(sys.argv[1] + "/kernels.py", site)
(site / "packages.pth").write_text(sys.argv[2])
"""
"""An environment of asv's gets the kernels of its commit, and everything else from the environment of this study."""


class Repository:
    """A git repository whose commits hold the kernels, and the benches of both tools."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        asv, pytest = folder / "asv_bench", folder / "pytest_bench"
        for place, name, text in ((asv, "bench.py", ASV_BENCH), (pytest, "test_bench.py", PYTEST_BENCH)):
            place.mkdir(parents=True)
            (place / name).write_text(text)
            (place / "names.json").write_text(json.dumps(names))
        (asv / "__init__.py").touch()
        (folder / "install.py").write_text(INSTALL)
        (folder / "asv.conf.json").write_text(json.dumps(self._config()))
        self.run("git", "init", "-q", "-b", "main")
        self.run("asv", "machine", "--yes", "--machine", "here")

    def _config(self) -> dict[str, object]:
        packages = next(path for path in sys.path if path.endswith("site-packages"))
        return {
            "version": 1,
            "project": "study",
            "repo": ".",
            "branches": ["main"],
            "environment_type": "virtualenv",
            "matrix": {"req": {"pip+asv_runner": ["0.2.5"]}},
            "build_command": [],
            "install_command": [
                f"in-dir={{env_dir}} python {self.folder / 'install.py'} {{build_dir}} '{SOURCE}\n{packages}'"
            ],
            "benchmark_dir": "asv_bench",
            "results_dir": "asv_results",
        }

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "asv", *command[1:]] if command[0] == "asv" else list(command)
        return subprocess.run(
            program,
            cwd=self.folder,
            env={**os.environ, "HOME": str(self.folder), "OMP_NUM_THREADS": "1", **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def commit(self, source: str) -> str:
        (self.folder / "kernels.py").write_text(source)
        self.run("git", "add", "kernels.py")
        identity = ("-c", "user.name=study", "-c", "user.email=study@localhost")
        self.run("git", *identity, "commit", "-q", "--allow-empty", "-m", "kernels")
        return self.run("git", "rev-parse", "HEAD").stdout.strip()


def asv_reds(repository: Repository, base: str, head: str) -> dict[str, set[str]]:
    """The kernels that `asv continuous` reports as slower."""
    done = repository.run("asv", "continuous", "--machine", "here", base, head)
    if done.returncode not in (0, 1) or "time_kernel" not in done.stdout:
        sys.exit(f"asv continuous did not run:\n{done.stdout}{done.stderr}")
    rows = [line for line in done.stdout.splitlines() if line.startswith("| +")]
    found = {match[1] for row in rows if (match := re.search(r"time_kernel\('([^']+)'\)", row))}
    assert bool(found) == bool(done.returncode), "what it prints is what it exits with"
    return {ASV: found}


def pytest_reds(repository: Repository, base: str, head: str) -> dict[str, set[str]]:
    """By rule, the kernels that `--benchmark-compare-fail` reports."""
    storage = tempfile.mkdtemp(dir=repository.folder)
    common = (sys.executable, "-m", "pytest", "-q", "pytest_bench", "-p", "no:cacheprovider", "--benchmark-only")
    common += (f"--benchmark-storage={storage}", "--rootdir=.")
    options = {base: ["--benchmark-save=base"], head: ["--benchmark-compare"]}
    # One option with two values: given twice, the second takes the place of the first.
    options[head] += ["--benchmark-compare-fail", *(rule.split()[-1] for rule in RULES.values())]
    done = None
    for commit, more in options.items():
        repository.run("git", "checkout", "-q", commit, "--", "kernels.py")
        place = f"{repository.folder}:{SOURCE}"
        done = repository.run(*common, *more, PYTHONPATH=place)
    assert done is not None
    # What it calls a regression it lists on standard error, and raises as an exception in place of its last line.
    has_red = "PerformanceRegression" in done.stderr
    if done.returncode not in (0, 1) or not (" passed" in done.stdout or has_red):
        sys.exit(f"pytest-benchmark did not run:\n{done.stdout}{done.stderr}")
    found: dict[str, set[str]] = {rule: set() for rule in RULES.values()}
    for name, statistic in re.findall(r"test_kernel\[([^\]]+)\].*?[Ff]ield '(\w+)' has failed", done.stderr):
        found[RULES[statistic]].add(name)
    assert any(found.values()) == has_red, "what it lists is what it raises for"
    return found


TOOLS = {ASV: asv_reds, PYTEST: pytest_reds}


def gate_reds(repository: Repository, base: str, head: str) -> list[dict[str, str]]:
    """The red findings of `gradrace gate` with its defaults."""
    document = repository.folder / "gate.json"
    command = (sys.executable, "-m", "gradrace.cli", "gate", base, head, "--module", "kernels")
    done = repository.run(*command, "--json", str(document), PYTHONPATH=str(SOURCE))
    if done.returncode not in (0, 1):
        sys.exit(f"the gate did not run:\n{done.stdout}{done.stderr}")
    findings = json.loads(document.read_text())["findings"]
    return [finding for finding in findings if finding["colour"] == "red"]


@contextmanager
def repository(names: Sequence[str]) -> Iterator[Repository]:
    with tempfile.TemporaryDirectory() as folder:
        yield Repository(Path(folder) / "study", names)


def times(runs: int, tools: Sequence[str]) -> None:
    """Rows: one kernel, one tool, one head that is the same or slower; seconds: of the run, by kernel."""
    with laid_out(changed()) as setting:
        names = [kernel.id for kernel in setting.kernels]
    with repository(names) as repo:
        base = repo.commit(changed())
        heads = {"same": repo.commit(changed() + "\n"), "slow": repo.commit(changed(*SLOW.values()))}
        first = runs_so_far("neighbours")
        for run in range(first, first + runs):
            for kind, head in heads.items():
                found, seconds = timed(repo, base, head, len(names), tools)
                rows = [
                    {
                        "run": run,
                        "head": kind,
                        "tool": tool,
                        "kernel": name,
                        "red": name in red,
                        "seconds": seconds[tool],
                    }
                    for tool, red in found.items()
                    for name in names
                ]
                save("neighbours", rows)
                counts = {tool: len(red) for tool, red in found.items()}
                print(f"run {run + 1}, {kind}: red of {len(names)}: {counts}; seconds a kernel {seconds}", flush=True)


def timed(
    repo: Repository, base: str, head: str, count: int, tools: Sequence[str]
) -> tuple[dict[str, set[str]], dict[str, float]]:
    """What each tool calls slower, and the seconds that it takes for a kernel."""
    found: dict[str, set[str]] = {}
    seconds: dict[str, float] = {}
    for tool in tools:
        begin = time.monotonic()
        reds = TOOLS[tool](repo, base, head)
        found |= reds
        seconds |= dict.fromkeys(reds, round((time.monotonic() - begin) / count, 2))
    return found, seconds


def faults() -> None:
    """Rows: one fault, one tool, and whether it is red on the kernel that is spoilt."""
    for fault, change in WRONG.items():
        name = SPOILT[fault]
        with repository([name]) as repo:
            base, head = repo.commit(changed()), repo.commit(changed(change))
            reds = [finding for finding in gate_reds(repo, base, head) if finding["id"].split("/")[0] in name]
            found, _ = timed(repo, base, head, 1, tuple(TOOLS))
        says = "; ".join(sorted({finding["what"] for finding in reds}))
        rows = [{"fault": fault, "tool": GATE, "red": bool(reds), "says": says}]
        rows += [{"fault": fault, "tool": tool, "red": name in red, "says": ""} for tool, red in found.items()]
        print(*rows, sep="\n", flush=True)
        save("faults", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("times", "faults"))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--tool", choices=tuple(TOOLS), help="this one alone")
    options = parser.parse_args()
    assert KERNELS.exists()
    if options.study == "times":
        times(options.runs, (options.tool,) if options.tool else tuple(TOOLS))
    else:
        faults()


if __name__ == "__main__":
    main()
