"""The pytest plugin, run for real in a folder of its own: what is wrong is never shown as fast."""

import json
from types import SimpleNamespace

import pytest
import torch

from gradrace.environment import pin_threads

KERNELS = """
import torch
from gradrace import Family, Limit, size

def exact(numbers):
    return {"value": (numbers["x"]**2).sum(), "x": 2 * numbers["x"]}

mine = Family(name="mine", summary="", source="", primals=("x",), operators=("value_and_gradient",), baseline="slow",
              sizes=(size("test", "bench", n=3), size("large", n=4)), reference={"value_and_gradient": exact},
              draw=lambda size, rng: {"x": rng.standard_normal(size["n"])})

@mine.variant(source="a loop")
def slow(x):
    return sum(v * v for v in x.unbind())

@mine.variant(source="one call")
def fast(x):
    return x @ x

@mine.variant(source="half of the gradient", expected={"x": ("disagree", "a factor is detached")})
def specimen(x):
    return (x * x.detach()).sum()

@mine.variant(source="one too many", requires=("no_such_package",))
def absent(x):
    return x
"""

WRONG = """
@mine.variant(source="half of the gradient, not declared")
def wrong(x):
    return (x * x.detach()).sum()
"""

BENCH = "from gradrace.testing import test_kernel\n"


@pytest.fixture
def project(pytester, monkeypatch):
    """Run pytest inside this process, in a folder with a bench of these kernels."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # the inner run is none of its workers
    pytester.makepyfile(kernels=KERNELS, test_bench=BENCH)
    pytester.makeini("[pytest]\naddopts = -p gradrace.testing\nfilterwarnings = error\n")
    pytester.syspathinsert()

    def run(*arguments, quick=("--benchmark-max-time=0.01",)):
        options = ("-p", "no:cacheprovider", *quick, "--module", "kernels", "--family", "mine")
        threads = torch.get_num_threads()
        try:
            return pytester.runpytest_inprocess(*options, *arguments)
        finally:
            pin_threads(threads)

    return run


def test_a_users_kernels_are_checked_timed_and_raced(project, pytester):
    result = project("--benchmark-only", "--benchmark-json=out.json")
    assert result.ret == 0, f"{result.stdout}{result.stderr}"
    assert "2 passed, 1 skipped, 1 xfailed" in str(result.stdout)
    assert "mine/value_and_gradient  beside slow" in str(result.stdout)
    assert "specimen: WRONG, not timed" in str(result.stdout)
    document = json.loads((pytester.path / "out.json").read_text())
    rows = {bench["extra_info"]["variant"]: bench for bench in document["benchmarks"]}
    assert set(rows) == {"slow", "fast"}
    info = rows["fast"]["extra_info"]
    assert info["case"] == "mine/fast/value_and_gradient/n3/float64/cpu"
    assert (info["status"], info["source"], info["threads"], info["baseline"]) == ("agree", "one call", 1, "slow")
    assert info["environment"]["torch"] == torch.__version__
    assert info["first_call_s"] > 0
    assert info["work"]["forward"]["ops"]["total"] > 0
    assert info["work"]["id"] == info["case"]
    assert info["right"]
    assert info["outputs"]["x"]["error"] <= info["outputs"]["x"]["tolerance"]
    assert info["compulsory_bytes"] == 8 * (3 + 1 + 3), "x read, the value and its gradient written"
    (wrong,) = document["gradrace"]["wrong"]
    assert (wrong["variant"], wrong["right"], wrong["outputs"]["x"]["status"]) == ("specimen", False, "disagree")
    roofline = document["gradrace"]["roofline"]["cpu"]
    assert roofline["copy_bytes_per_s"] > 0
    assert roofline["gemm_flops_per_s"].keys() == {"float64", "float32"}
    assert rows["fast"]["group"] == "mine/value_and_gradient/n3/float64/cpu"
    assert rows["fast"]["options"]["timer"] == "clock"
    assert document["machine_info"]["gradrace"]["threads"] == 1


def test_a_wrong_variant_fails_its_bench_and_is_not_timed(project, pytester):
    (pytester.path / "kernels.py").write_text(KERNELS + WRONG)
    result = project("--benchmark-only", "--benchmark-json=out.json")
    assert result.ret == 1
    assert "1 failed, 2 passed" in str(result.stdout)
    assert "derivative for x disagrees" in str(result.stdout)
    assert "wrong: WRONG, not timed" in str(result.stdout)
    timed = {row["extra_info"]["variant"] for row in json.loads((pytester.path / "out.json").read_text())["benchmarks"]}
    assert timed == {"slow", "fast"}


RESTLESS = """
calls = []

@mine.variant(source="another value from the twentieth call on")
def restless(x):
    calls.append(1)
    return x @ x * (1 + (len(calls) > 20))
"""


def test_what_changes_while_it_is_timed_stands_as_wrong_in_the_document(project, pytester):
    (pytester.path / "kernels.py").write_text(KERNELS + RESTLESS)
    result = project("--benchmark-only", "--benchmark-json=out.json")
    assert result.ret == 1
    assert "what was timed gives another value and x than what was checked" in str(result.stdout)
    document = json.loads((pytester.path / "out.json").read_text())
    rights = {row["extra_info"]["variant"]: row["extra_info"]["right"] for row in document["benchmarks"]}
    assert rights == {"slow": True, "fast": True, "restless": False}


RAISING = """
square = Family(name="square", summary="", source="", primals=("x",), operators=("primal", "value_and_gradient"),
                baseline="power", sizes=(size("test", "bench", n=3),),
                draw=lambda size, rng: {"x": rng.standard_normal(size["n"])})

@square.variant(source="a power")
def power(x):
    return (x**2).sum()

@square.variant(source="right as long as nobody differentiates")
def raising(x):
    if x.requires_grad:
        raise NotImplementedError("no gradient")
    return x @ x
"""


def test_a_variant_whose_gradient_is_wrong_wins_no_other_race(project, pytester):
    (pytester.path / "kernels.py").write_text(KERNELS + RAISING)
    result = project("--benchmark-only", "--family", "square")
    output = str(result.stdout)
    assert "raising: WRONG, by another operator, and out of this race" in output
    assert "raising: WRONG, not timed" in output
    lines = output.split("square/primal  beside")[1].splitlines()
    assert [line.split()[1:3] for line in lines if line.startswith(" n3 ")] == [["power", "1/2"]] * 2


def test_a_lead_within_the_scatter_is_marked():
    from gradrace.testing import Result, _race_row

    def row(name, median_s, iqr_s, is_baseline=False):
        case = SimpleNamespace(variant=SimpleNamespace(name=name), is_baseline=is_baseline)
        return Result(case, None, median_s, iqr_s)

    base = row("base", 1.2e-6, 0.05e-6, is_baseline=True)
    assert _race_row([base, row("near", 1.1e-6, 0.2e-6)], ())[3] == "≈ 1.09 ×"
    assert _race_row([base, row("far", 0.6e-6, 0.2e-6)], ())[3] == "2 ×"
    assert _race_row([base], ())[3] == "1 ×"


def test_options_select(project):
    result = project("--benchmark-only", "--size", "n4", "--variant", "fast", "--dtype", "float32", "-v")
    assert "test_kernel[mine/fast/value_and_gradient/n4/float32/cpu] PASSED" in str(result.stdout)
    assert "1 passed" in str(result.stdout)


def test_the_smoke_pass_times_nothing(project):
    result = project("--benchmark-disable", "--tier", "test", "--dtype", "float64")
    assert result.ret == 0
    assert "the race" not in str(result.stdout)


def test_threads_are_pinned(project, pytester):
    result = project("--benchmark-only", "--threads", "2", "--variant", "fast", "--benchmark-json=out.json")
    assert result.ret == 0
    (row,) = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
    assert row["extra_info"]["threads"] == row["extra_info"]["environment"]["threads"] == 2


def test_benches_are_brief_unless_something_else_is_said(project):
    output = str(project("--benchmark-only", "-v", quick=()).stdout)
    assert "max_time=0.05" in output
    assert "calibration_precision=1 " in output
    assert "StdDev" not in output
    said = ("--benchmark-max-time=0.02", "--benchmark-columns=max")
    output = str(project("--benchmark-only", "-v", quick=said).stdout)
    assert "max_time=0.02" in output
    assert " Max" in output


def test_autosave_and_compare_work(project, pytester):
    assert project("--benchmark-only", "--benchmark-autosave").ret == 0
    assert len(list((pytester.path / ".benchmarks").glob("*/0001_*.json"))) == 1
    result = project("--benchmark-only", "--benchmark-compare")
    assert result.ret == 0
    assert "0001" in str(result.stdout)
    assert "read no ratio" not in str(result.stdout)
    result = project("--benchmark-only", "--benchmark-compare", "--threads", "2")
    assert "read no ratio from the comparison, the runs differ in threads (1 then, 2 now)" in str(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--family", "nope"], "unknown family 'nope'"),
        (["--size", "n99"], "unknown size 'n99'"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--module", "no.such"], "cannot import the module 'no.such'"),
        (["--case", "zz*"], "the pattern 'zz*' selects no case"),
        (["--threads", "0"], "--threads must be at least 1"),
        pytest.param(
            ["--device", "cuda"],
            "no CUDA device is available",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(project, arguments, message):
    result = project("--benchmark-only", *arguments)
    output = f"{result.stdout}{result.stderr}"
    assert result.ret == 2, output
    assert sum("gradrace: " in line for line in output.splitlines()) == 1
    assert message in output
    assert "Traceback" not in output
    assert ".py:" not in output


def test_two_variants_of_one_name_exit_2(project, pytester):
    (pytester.path / "kernels.py").write_text(KERNELS + WRONG + WRONG)
    result = project("--benchmark-only")
    assert result.ret == 2
    assert "two variants of the name 'wrong'" in f"{result.stdout}{result.stderr}"


def test_pytests_own_option_errors_stay_4(project):
    assert project("--benchmark-sort=nonsense").ret == 4
