"""Files of results are recognised by what is in them, and each that cannot be read is answered in one sentence."""

import json
import math
import os
import sys

import pytest

from gradrace.declare import OPERATORS
from gradrace.errors import UsageError
from gradrace.families import FAMILIES
from gradrace.gate.changes import GradientChange, WorkChange
from gradrace.gate.comparing import Kernel
from gradrace.gate.verdict import as_json
from gradrace.report import asv as asv_files
from gradrace.report.reading import read
from gradrace.report.rows import RACED_ON
from report_documents import AGREES, COMMITTED, ENVIRONMENT, WORK, asv, bench, described, output, timed, verdict, write

CASE = "mine/plain/vjp/n10/float64/cpu"
WRONG = "mine/odd/vjp/n10/float64/cpu"

TIMES = [
    *([[1e-3, None, 3e-3, math.nan], [["'plain'", "'odd'"], ["'n10'", "'n20'"], ["'cpu'"]], "1"]),
    *([[0.9e-3, None, -math.inf, 1.0], [1.1e-3, None, math.inf, 1.0]]),
    *([[0.95e-3, None, 2.5e-3, 1.0], [1.05e-3, None, 3.5e-3, 1.0], [10, None, 4, 10]]),
]
COUNTS = [[7, 8], [["'plain'", "'odd'"], ["'n20'"], ["'cpu'"]], "1"]


def refusal(*paths):
    """The one sentence, which names the file and is no longer than a reader's patience."""
    with pytest.raises(UsageError) as caught:
        read(paths)
    message = str(caught.value)
    assert "\n" not in message
    assert str(paths[-1]) in message
    return message


def test_a_run_of_the_benches_is_read_as_rows(tmp_path):
    file = write(tmp_path / "bench.json", bench(timed(CASE), wrong=[described(WRONG, right=False)]))
    results = read([file])
    (run,) = results.benches
    assert (run.file, run.commit, run.rooflines["cpu"].gemm_flops_per_s) == (
        str(file),
        "0123456789ab",
        {"float64": 2e10},
    )
    right, wrong = results.by_id[CASE], results.by_id[WRONG]
    assert (right.time.median, right.time.low, right.time.rounds, right.time.first) == (1e-5, 0.9e-5, 12, 1e-3)
    assert right.outputs == {"x": output(AGREES)}
    assert (right.laws[0].axis, right.laws[0].exponents, right.compulsory_bytes) == ("n", {"flops": 1}, 64)
    assert not wrong.right
    assert wrong.time is None
    assert wrong.environment == right.environment
    assert set(RACED_ON) < set(right.environment)


def test_work_is_that_of_both_phases_and_unknown_where_one_is(tmp_path):
    file = write(tmp_path / "bench.json", bench(timed(CASE)))
    expected = {"ops": 7, "flops": None, "graph_nodes": 5, "graph_depth": 2, "saved_bytes": 640, "peak_bytes": None}
    assert read([file]).by_id[CASE].work == expected


def test_what_the_plugin_writes_is_read(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(test_bench="from gradrace.testing import test_kernel\n")
    pytester.makeini("[pytest]\naddopts = -p gradrace.testing\n")
    options = ("-p", "no:cacheprovider", "--benchmark-json=bench.json", "--benchmark-max-time=0.01")
    done = pytester.runpytest_inprocess(*options, "--case", "two_faces_jump/*_2*/vjp/*/float64/cpu")
    done.assert_outcomes(passed=1, xfailed=1)
    results = read([pytester.path / "bench.json"])
    by_right = {row.right: row for row in results.by_id.values()}
    assert by_right[True].variant == "where_else_2x"
    assert by_right[True].work["ops"] > 0
    assert by_right[True].compulsory_bytes > 0
    assert by_right[False].variant == "listing_2"
    assert by_right[False].outputs["x"].units > 1
    assert results.benches[0].rooflines["cpu"].copy_bytes_per_s > 0


def test_of_a_scenario_the_latest_run_counts_alone(tmp_path):
    """A formulation that has been removed since does not race any more, and a scenario that was not run again does."""
    gone, elsewhere = CASE.replace("plain", "gone"), CASE.replace("n10", "n20")
    late = write(tmp_path / "a.json", bench(timed(CASE, 2e-5), date="2026-11-22T10:00:00+00:00"))
    runs = [timed(CASE, 1e-5), timed(gone, 1e-6), timed(elsewhere)]
    early = write(tmp_path / "b.json", bench(*runs, date="2026-11-22T11:00:00+02:00"))
    results = read([late, early])
    assert [run.file for run in results.benches] == [str(early), str(late)]
    assert results.by_id[CASE].time.median == 2e-5
    assert set(results.by_id) == {CASE, elsewhere}


def test_a_file_that_is_found_twice_is_read_once(tmp_path):
    file = write(tmp_path / "bench.json", bench(timed(CASE)))
    assert len(read([tmp_path, file, file]).benches) == 1


@pytest.mark.parametrize(("key", "other"), [("torch", "2.6.0"), ("threads", 4), ("processor", "another")])
def test_runs_of_machines_that_differ_are_not_put_together(tmp_path, key, other):
    elsewhere = {**ENVIRONMENT, key: other}
    first = write(tmp_path / "first.json", bench(timed(CASE)))
    second = write(tmp_path / "second.json", bench(timed(CASE, environment=elsewhere), environment=elsewhere))
    message = refusal(first, second)
    assert str(first) in message
    assert f"{key} ({ENVIRONMENT[key]} and {other})" in message


def test_one_run_on_two_machines_is_named_once(tmp_path):
    elsewhere = {**ENVIRONMENT, "torch": "2.6.0"}
    file = write(tmp_path / "bench.json", bench(timed(CASE), timed(WRONG, environment=elsewhere)))
    assert refusal(file).count(str(file)) == 1


def test_runs_of_two_commits_on_a_cpu_and_a_gpu_of_one_machine_are_put_together(tmp_path):
    gpu = {**ENVIRONMENT, "device": "a GPU", "commit": "another"}
    first = write(tmp_path / "first.json", bench(timed(CASE)))
    second = write(tmp_path / "second.json", bench(timed(CASE.replace("cpu", "cuda"), environment=gpu)))
    assert len(read([first, second]).by_id) == 2


@pytest.mark.parametrize(("key", "other"), [("torch", "2.6.0"), ("processor", "another")])
def test_a_cpu_and_a_gpu_of_two_machines_are_not(tmp_path, key, other):
    gpu = {**ENVIRONMENT, "device": "a GPU", key: other}
    first = write(tmp_path / "first.json", bench(timed(CASE)))
    second = write(tmp_path / "second.json", bench(timed(CASE.replace("cpu", "cuda"), environment=gpu)))
    message = refusal(first, second)
    assert f"{key} ({ENVIRONMENT[key]} and {other})" in message
    assert "device" not in message


def test_a_right_case_among_the_wrong_ones_is_refused(tmp_path):
    file = write(tmp_path / "bench.json", bench(timed(CASE), wrong=[described(WRONG)]))
    assert "it stands among the wrong ones, and is right" in refusal(file)


def test_a_run_in_which_nothing_ran_is_no_result(tmp_path):
    assert "there are no results in" in refusal(write(tmp_path / "bench.json", bench()))


def test_a_name_that_is_no_text_is_spelled(tmp_path):
    file = write(tmp_path / os.fsdecode(b"gate\xff.json"), verdict())
    assert read([file]).verdicts[0].file == f"{tmp_path}/gate?.json"


def test_half_of_a_letter_is_no_text(tmp_path):
    whole = write(tmp_path / "whole.json", verdict("\U0001f600"))
    assert read([whole]).verdicts[0].verdict == "\U0001f600"
    assert "holds half of a letter" in refusal(write(tmp_path / "half.json", verdict("\ud83d")))


def test_a_wrong_case_ran_on_the_device_of_the_others(tmp_path):
    gpu = {**ENVIRONMENT, "device": "a GPU"}
    cases = [name.replace("cpu", "cuda") for name in (CASE, WRONG)]
    run = bench(timed(cases[0], environment=gpu), wrong=[described(cases[1], right=False)])
    assert read([write(tmp_path / "bench.json", run)]).by_id[cases[1]].environment["device"] == "a GPU"


def test_asv_results_are_points(tmp_path):
    folder = tmp_path / "asv" / "here"
    write(tmp_path / "asv" / "benchmarks.json", {"kernels.MineVjp.time_kernel": {"param_names": []}, "version": 2})
    write(folder / "machine.json", {"machine": "here", "version": 1})
    results = {
        "kernels.MineVjp.time_kernel": TIMES,
        "kernels.MineVjp.track_ops_forward": COUNTS,
        "kernels.MineVjp.track_flops": None,
        "kernels.MineVjp.track_graph_depth": [None, [["'plain'"], ["'n20'"], ["'cpu'"]], "1"],
        "suite.TimeSomethingElse.time_it": [[1.0], [], "1"],
    }
    write(folder / "cccccccc-env.json", asv(results))
    points = {(point.what, *point.parameters[:2]): point for point in read([tmp_path / "asv"]).points}
    assert set(points) == {
        *{("time", "plain", "n10"), ("time", "odd", "n10")},
        *{("ops_forward", "plain", "n20"), ("ops_forward", "odd", "n20")},
    }
    first = points["time", "plain", "n10"]
    assert (first.benchmark, first.machine, first.torch, first.value) == ("mine/vjp", "here", "2.13.0", 1e-3)
    assert (first.low, first.high, first.date) == (0.9e-3, 1.1e-3, 1_795_263_549.594)
    few_samples = points["time", "odd", "n10"]
    assert (few_samples.low, few_samples.high) == (2.5e-3, 3.5e-3)
    assert points["ops_forward", "odd", "n20"].low is None


def test_quartiles_of_a_single_sample_are_no_interval(tmp_path):
    single = [*TIMES[:-1], [10, None, 1, 10]]
    points = read([write(tmp_path / "cccccccc-env.json", asv({"kernels.MineVjp.time_kernel": single}))]).points
    assert [(point.low, point.high) for point in points if point.parameters[0] == "odd"] == [(None, None)]


def test_machines_of_one_name_are_told_apart_by_processor_and_python(tmp_path):
    for place, (cpu, python) in enumerate((("EPYC", "3.11"), ("Xeon", "3.11"), ("EPYC", "3.12"))):
        facts = {"machine": "here", "torch": "2.13.0", "cpu": cpu, "python": python, "ram": str(place)}
        write(tmp_path / f"{place}-env.json", asv({"kernels.MineVjp.time_kernel": TIMES}, params=facts))
    assert len({point.measured_on for point in read([tmp_path]).points}) == 3


def test_the_committed_results_of_asv_are_read():
    points = read([COMMITTED / "asv"]).points
    assert len({point.commit for point in points}) >= 4
    assert {"time", "gradient_error", "peak_bytes"} <= {point.what for point in points}
    assert {point.benchmark.split("/")[0] for point in points} <= {family.name for family in FAMILIES}


def test_the_words_of_the_operators_are_those_of_the_package():
    assert asv_files.OPERATORS == OPERATORS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_class_of_asv_tells_its_family_and_operator(family):
    for operator in OPERATORS:
        assert asv_files.benchmark_of(asv_files.titled(f"{family.name}_{operator}")) == f"{family.name}/{operator}"


@pytest.mark.parametrize("owner", ["Vjp", "Suite", "notOurVjp", "sandwichVjp"])
def test_a_class_of_somebody_else_is_passed_over(owner):
    assert asv_files.benchmark_of(owner) is None


def test_a_document_of_the_gate_is_a_verdict(tmp_path):
    change = GradientChange("changed", "x", (0,), 1.0, 2.0, 5e3)
    kernels = [as_json(Kernel(CASE, "both", gradient=change, work=WorkChange({"ops": (3, 4)})))]
    findings = [{"id": CASE, "what": "gradient", "colour": "red", "text": str(change)}]
    (found,) = read([write(tmp_path / "gate.json", verdict("regression", findings, kernels))]).verdicts
    assert (found.verdict, found.base, found.head) == ("regression", "0123456789" * 4, "working tree")
    assert (found.torch, list(found.findings), list(found.kernels)) == ("2.13.0+cpu", findings, kernels)


def test_a_folder_is_searched_and_what_is_none_of_ours_is_passed_over(tmp_path):
    write(tmp_path / "runs" / "deep" / "bench.json", bench(timed(CASE)))
    write(tmp_path / "experiment.json", {"environment": ENVIRONMENT, "rows": []})
    write(tmp_path / "list.json", [1, 2])
    write(tmp_path / "foreign.json", {"benchmarks": [{"extra_info": {}}], "machine_info": {}})
    (tmp_path / "README.md").write_text("# Results")
    (tmp_path / "figure.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "broken.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    assert list(read([tmp_path]).by_id) == [CASE]


def test_the_committed_results_can_be_searched():
    assert read([COMMITTED]).points


def test_a_file_that_is_cut_off_is_named_in_a_folder_too(tmp_path):
    write(tmp_path / "bench.json", bench(timed(CASE)))
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(bench(timed(CASE)))[:200])
    with pytest.raises(UsageError, match=r"cut\.json is no JSON from line 1, column \d+ on .* as if it was cut off"):
        read([tmp_path])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\xff", "is no text"),
        (b"# Results", "is no JSON; name a file of results"),
        (b"{", "is no JSON from line 1"),
        (b"[" * 100_000, "is no JSON that can be read"),
        (b"9" * 5000, "is no JSON that can be read"),
        (b"[1, 2]", "JSON of another kind"),
        (b"null", "JSON of another kind"),
        (b'{"rows": []}', "JSON of another kind"),
        (b'{"machine": "here", "version": 1}', "name the folder of asv's results"),
        (b'{"benchmarks": [], "machine_info": {}}', "run the benches with `-p gradrace.testing`"),
        (b'{"benchmarks": {}, "machine_info": {}}', "benchmarks is {} where a list belongs"),
        (b'{"benchmarks": [3], "machine_info": {}}', "benchmarks holds 3 where an object belongs"),
    ],
)
def test_a_file_of_no_results_is_answered_in_a_sentence(tmp_path, content, complaint):
    file = tmp_path / "results.json"
    file.write_bytes(content)
    assert complaint in refusal(file)


def test_what_is_not_there_is_named(tmp_path):
    assert "there is no file or folder" in refusal(tmp_path / "nowhere.json")
    assert "there are no results in" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    file = write(tmp_path / "bench.json", bench(timed(CASE)))
    file.chmod(0)
    assert "cannot be read (Permission denied)" in refusal(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    file = write(tmp_path / "bench.json", bench(timed(CASE)))

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(file), "read_bytes", refuse)
    assert "cannot be read (Permission denied)" in refusal(file)


@pytest.mark.parametrize("key", ["right", "outputs", "laws", "baseline"])
@pytest.mark.parametrize("where", ["timed", "wrong"])
def test_a_run_of_an_older_gradrace_is_named(tmp_path, key, where):
    old = {name: value for name, value in described(CASE).items() if name != key}
    benchmark = timed(CASE)
    del benchmark["extra_info"][key]
    run = bench(benchmark) if where == "timed" else bench(wrong=[old])
    message = refusal(write(tmp_path / "bench.json", run))
    assert "older gradrace" in message
    assert key in message


def test_a_run_of_an_older_gradrace_without_its_wrong_ones_is_named(tmp_path):
    run = bench(timed(CASE))
    del run["gradrace"]
    assert "older gradrace" in refusal(write(tmp_path / "bench.json", run))


def test_a_run_that_does_not_say_where_is_of_an_older_gradrace(tmp_path):
    elsewhere = {key: value for key, value in ENVIRONMENT.items() if key != "torch"}
    message = refusal(write(tmp_path / "bench.json", bench(timed(CASE, environment=elsewhere))))
    assert "older gradrace, which did not write the torch that it ran on" in message


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        (("stats", "median"), math.nan, "median is NaN"),
        (("stats", "median"), math.inf, "median is Infinity"),
        (("stats", "median"), None, "median is missing"),
        (("stats", "median"), 0, "median is 0 where a number above 0 belongs"),
        (("stats", "q1"), -1.0, "q1 is -1 where"),
        (("stats", "q3"), "1", 'q3 is "1"'),
        (("stats", "rounds"), True, "rounds is true"),
        (("stats", "median"), 10**400, "median is 1000"),
        (("extra_info", "first_call_s"), 0, "first_call_s is 0"),
        (("extra_info", "case"), "mine/plain", "no id of a case"),
        (("extra_info", "case"), "mine/<b>/vjp/n10/float64/cpu", "no id of a case"),
        (("extra_info", "case"), 7, "case is 7 where a text belongs"),
        (("extra_info", "right"), "yes", 'right is "yes" where true or false belongs'),
        (("extra_info", "outputs"), {"x": None}, "outputs holds null where an object belongs"),
        (("extra_info", "outputs"), {"x": {**AGREES, "error": math.nan}}, "error is NaN"),
        (("extra_info", "laws"), [{"axis": "n", "at": "", "exponents": {"ops": "1"}}], 'ops is "1"'),
        (("extra_info", "work"), {**WORK, "graph_nodes": []}, "graph_nodes is []"),
        (("extra_info", "environment"), {**ENVIRONMENT, "threads": [1]}, "threads is [1]"),
        (("stats",), None, "stats is missing"),
    ],
)
def test_a_broken_row_is_answered_in_a_sentence(tmp_path, place, value, complaint):
    benchmark = timed(CASE)
    *parents, last = place
    inner = benchmark[parents[0]] if parents else benchmark
    inner[last] = value
    assert complaint in refusal(write(tmp_path / "bench.json", bench(benchmark)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"datetime": "yesterday"}, "datetime is 'yesterday' where a date belongs"),
        ({"machine_info": {"gradrace": 1}}, "gradrace is 1 where an object belongs"),
        ({"gradrace": {"wrong": [], "roofline": {"cpu": {"gemm_flops_per_s": {}}}}}, "copy_bytes_per_s is missing"),
    ],
)
def test_a_broken_run_is_answered_in_a_sentence(tmp_path, change, complaint):
    run = {**bench(timed(CASE)), **change}
    assert complaint in refusal(write(tmp_path / "bench.json", run))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": 1}, "run `asv update`"),
        ({"date": None}, "date is missing"),
        ({"results": []}, "results is [] where an object belongs"),
        ({"results": {"kernels.MineVjp.time_kernel": 3}}, "the result of kernels.MineVjp.time_kernel is no row"),
        ({"results": {"k.MineVjp.time_kernel": [[1.0], *COUNTS[1:]]}}, "result holds 1 numbers for 2 combinations"),
        ({"results": {"k.MineVjp.time_kernel": [[1.0, "2"], *COUNTS[1:]]}}, "result holds '2' where a number belongs"),
        ({"results": {"k.MineVjp.time_kernel": [[1.0, math.inf], *COUNTS[1:]]}}, "result holds inf where"),
    ],
)
def test_a_broken_file_of_asv_is_answered_in_a_sentence(tmp_path, change, complaint):
    assert complaint in refusal(write(tmp_path / "c-env.json", {**asv({}), **change}))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"findings": None}, "findings is missing where a list belongs"),
        ({"findings": [{"id": CASE}]}, "what is missing"),
        ({"base": {}}, "label is missing"),
        ({"kernels": [{"id": CASE, "ratio": math.inf}]}, "ratio is Infinity"),
        ({"kernels": [{}]}, "id is missing"),
    ],
)
def test_a_broken_document_of_the_gate_is_answered_in_a_sentence(tmp_path, change, complaint):
    assert complaint in refusal(write(tmp_path / "gate.json", {**verdict(), **change}))


def test_an_error_beyond_all_measure_has_units_all_the_same(tmp_path):
    worst = {"x": {"status": "disagree", "expected": "agree", "error": sys.float_info.max, "tolerance": 1e-15}}
    run = bench(wrong=[described(WRONG, right=False, outputs=worst)])
    assert read([write(tmp_path / "bench.json", run)]).by_id[WRONG].outputs["x"].units == math.inf
