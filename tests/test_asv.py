"""asv for real: the catalogue is the registry, and a planted fault is reported between two commits."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCH = ROOT / "benches" / "asv_bench"

spec = importlib.util.spec_from_file_location("write_catalogue", ROOT / "benches" / "write_catalogue.py")
write_catalogue = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_catalogue)


def test_the_catalogue_is_the_registry():
    committed = (BENCH / "catalogue.json").read_text()
    assert committed == write_catalogue.as_text(write_catalogue.catalogue()), "run `make catalogue` and commit"
    assert json.loads(committed) == write_catalogue.catalogue()


def test_the_folder_holds_nothing_that_asv_would_mistake():
    assert {path.name for path in BENCH.iterdir()} - {"__pycache__"} == {"__init__.py", "kernels.py", "catalogue.json"}


KERNELS = """
import os
import torch
from gradrace import Family, size
from gradrace.families.numerics import well_conditioned

def exact(numbers):
    return {"value": (numbers["x"]**2).sum(), "x": 2 * numbers["x"]}

planted = Family(name="planted", summary="", source="", primals=("x",), operators=("value_and_gradient",),
                 baseline="right", sizes=(size("test", "bench", n=3),), reference={"value_and_gradient": exact},
                 condition=well_conditioned,
                 draw=lambda size, rng: {"x": rng.standard_normal(size["n"])})

FAULTS = {
    "right": lambda g: g,
    "wrong": lambda g: 1.03 * g,
    "nan": lambda g: g * float("nan"),
    "none": lambda g: None,
    "zero": torch.zeros_like,
    "error": lambda g: 1 / 0,
    "heavier": lambda g: torch.stack((g, g))[0],
}

def formulation(fault):
    def variant(x):
        return (x * x).sum(), (fault(2 * x),)
    return variant

for name, fault in FAULTS.items():
    function = formulation(fault if os.environ["PLANTED"] == "1" else FAULTS["right"])
    function.__name__ = name
    planted.variant(source="a test", computes="value_and_gradient")(function)
"""

FAULTS = ("right", "wrong", "nan", "none", "zero", "error", "heavier")
TRACKED = r"track_gradient_error|track_(ops_forward|peak_bytes)\(.*'(right|wrong|heavier)'"
"""What asv runs, in a process for each number: the work of the other faults says nothing more."""


def run(*command, cwd, **variables):
    result = subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "ASV_PYTHONPATH": str(cwd), **variables},
    )
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """A repository of two commits, the second with a fault in each variant, and asv's results of both."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "planted_kernels.py").write_text(KERNELS)
    shutil.copytree(BENCH, folder / "benches", ignore=shutil.ignore_patterns("__pycache__"))
    rows = [
        {
            "family": "planted",
            "operator": "value_and_gradient",
            "variant": variant,
            "size": "n3",
            "device": "cpu",
            "version": "1",
        }
        for variant in ("missing", *FAULTS)
    ]
    (folder / "benches" / "catalogue.json").write_text(json.dumps({"modules": ["planted_kernels"], "cases": rows}))
    config = {
        "version": 1,
        "project": "planted",
        "repo": ".",
        "branches": ["main"],
        "environment_type": "existing",
        "benchmark_dir": "benches",
        "results_dir": "results",
        "html_dir": "html",
    }
    (folder / "asv.conf.json").write_text(json.dumps(config))
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    run("git", "init", "-q", "-b", "main", cwd=folder)
    asv = (sys.executable, "-m", "asv", "--config", "asv.conf.json")
    home = {"HOME": str(folder)}
    assert run(*asv, "machine", "--yes", "--machine", "m", cwd=folder, **home)[0] == 0
    commits = []
    for planted in ("0", "1"):
        run("git", *identity, "commit", "-q", "--allow-empty", "-m", planted, cwd=folder)
        commits.append(run("git", "rev-parse", "HEAD", cwd=folder)[1].strip())
        code, output = run(
            *asv,
            *("run", "--machine", "m", "--environment", f"existing:{sys.executable}", "--set-commit-hash"),
            *(commits[-1], "--bench", TRACKED, "--launch-method", "forkserver"),
            cwd=folder,
            PLANTED=planted,
            **home,
        )
        assert code == 0, output
    _, output = run(*asv, "compare", "--machine", "m", "--only-changed", *commits, cwd=folder, **home)
    return folder, commits, output


def changes(history, benchmark):
    """What `asv compare` says of each variant: the mark of a regression, the number before and after."""
    _, _, output = history
    rows = [[cell.strip() for cell in line.split("|")] for line in output.splitlines() if f".{benchmark}(" in line]
    return {row[5].split("'")[1]: tuple(row[1:4]) for row in rows}


def test_a_planted_fault_is_a_regression_between_two_commits(history):
    # 3 % is 2**45 times the tolerance C u = 8 · 2**-53 of this family.
    codes = {"wrong": "45", "none": "1001", "zero": "1002", "nan": "1003", "error": "1004"}
    assert changes(history, "track_gradient_error") == {name: ("+", "0", code) for name, code in codes.items()}


def test_more_work_is_a_regression_between_two_commits(history):
    marks = {name: row[0] for name, row in changes(history, "track_ops_forward").items()}
    assert marks["heavier"] == marks["wrong"] == "+"
    assert "right" not in marks
    # The stacked copy is 48 bytes on top of the gradient.
    mark, before, after = changes(history, "track_peak_bytes")["heavier"]
    assert (mark, int(after) - int(before)) == ("+", 48)


def test_what_a_commit_lacks_is_not_a_number_under_another_name(history):
    folder, commits, _ = history
    (path,) = (folder / "results" / "m").glob(f"{commits[0][:8]}*.json")
    document = json.loads(path.read_text())
    (name,) = (name for name in document["results"] if "track_gradient_error" in name)
    row = dict(zip(document["result_columns"], document["results"][name], strict=False))
    assert row["params"][0] == [repr(name) for name in ("missing", *FAULTS)]
    # NaN is asv's n/a; a benchmark that failed would be null.
    assert [str(value) for value in row["result"]] == ["nan", *["0"] * len(FAULTS)]
