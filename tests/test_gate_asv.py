"""The gate's times among asv's results: real files of this project, read back by asv itself."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import git
from gradrace import UsageError
from gradrace.gate.asv import add, find
from gradrace.gate.outcome import Seen

RESULTS = Path(__file__).parents[1] / "results" / "asv"
CASE = "hello/dot/primal/n1000/float64/cpu"
BENCHMARK = "kernels.HelloPrimal.time_kernel"


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository of one commit with one of asv's results, on a machine that asv knows by name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".asv-machine.json").write_text(json.dumps({"shared-2core": {}, "version": 1}))
    folder = tmp_path / "repo"
    machine = folder / "results" / "shared-2core"
    machine.mkdir(parents=True)
    (folder / "asv.conf.json").write_text(
        '{"version": 1, "project": "p", "repo": ".", "branches": ["main"], "results_dir": "results"}'
    )
    shutil.copy(RESULTS / "benchmarks.json", folder / "results")
    for file in (RESULTS / "shared-2core" / "machine.json", next((RESULTS / "shared-2core").glob("*-*.json"))):
        shutil.copy(file, machine)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def outcome(commit):
    timing = SimpleNamespace(base_samples=[1e-6, 2e-6, 3e-6], head_samples=[2e-6, 4e-6, 6e-6])
    return SimpleNamespace(
        base=Seen("HEAD", commit, {}, ""), head=Seen("working tree", None, {}, ""), timings={CASE: timing}
    )


def test_the_medians_of_a_commit_are_where_asv_looks_for_them(repo):
    from asv.results import Results

    commit = git(repo, "rev-parse", "HEAD")
    said = add(find(repo), repo, outcome(commit))
    assert said[0].startswith("asv: 1 times of HEAD in shared-2core/")
    assert said[1] == "asv: the working tree is no commit, so its times are not written"
    (file,) = (repo / "results" / "shared-2core").glob(f"{commit[:8]}-*.json")
    results = Results.load(str(file), "shared-2core")
    benchmark = json.loads((repo / "results" / "benchmarks.json").read_text())[BENCHMARK]
    values = results.get_result_value(BENCHMARK, benchmark["params"])
    assert [value for value in values if value == value and value is not None] == [2e-6]
    assert results.date == 1000 * int(git(repo, "show", "-s", "--format=%ct"))


def test_what_asv_has_measured_elsewhere_stays(repo):
    from asv.results import Results

    template = find(repo).template
    before = template.get_all_result_keys()
    add(find(repo), repo, outcome(template.commit_hash))
    (file,) = (repo / "results" / "shared-2core").glob(f"{template.commit_hash[:8]}-*.json")
    assert set(before) <= set(Results.load(str(file), "shared-2core").get_all_result_keys())


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("asv.conf.json", "--asv needs an asv.conf.json"),
        ("results/shared-2core/machine.json", "cannot tell which of asv's machines this is"),
        ("results/benchmarks.json", "run asv once"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(repo, remove, message):
    (repo / remove).unlink()
    with pytest.raises(UsageError, match=message):
        find(repo)


def test_the_times_of_another_machine_are_not_added_to(repo, tmp_path):
    (tmp_path / "home" / ".asv-machine.json").write_text('{"mine": {}, "version": 1}')
    with pytest.raises(UsageError, match=r"cannot tell which .* \(shared-2core\)"):
        find(repo)
