"""The command line: exit codes, JSON on standard output and nothing else there, errors in a sentence."""

import json
import subprocess
import sys

import pytest
import torch

from gradrace import cli

KERNELS = """
import torch
from gradrace import Family, size
mine = Family(name="mine", summary="", source="", primals=("x",), operators=("value_and_gradient",), baseline="right",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
              reference={"value_and_gradient": lambda n: {"value": (n["x"]**2).sum(), "x": 2 * n["x"]}})
@mine.variant(source="a test")
def right(x):
    return (x * x).sum()
@mine.variant(source="a test")
def wrong(x):
    return (x * x.detach()).sum()
"""


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_kernels.py").write_text(KERNELS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "cli_kernels"


def test_list_is_a_table(capsys):
    assert cli.main(["list", "hello/*"]) == 0
    output = capsys.readouterr().out
    assert "hello/dot/value_and_gradient/n1000/float64/cpu" in output
    assert "baseline" in output


def test_list_json_follows_the_contract(capsys):
    assert cli.main(["list", "--all", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"id", "family", "variant", "operator", "size", "dtype", "device", "source", "reference", "baseline"}
    assert all(keys <= set(row) for row in rows)
    assert {row["family"] for row in rows} >= {"soft_threshold", "sandwich", "jacobian_modes", "phase_retrieval"}


def test_verify_json_follows_the_contract(capsys):
    assert cli.main(["verify", "sandwich/*/d5_n1_cond100/*", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    statuses = {case["id"].split("/")[1]: case for case in document["cases"] if "value_and" in case["id"]}
    assert statuses["adjoint"]["primals"]["A"]["status"] == "none"
    assert statuses["wasteful"]["primals"]["A"]["status"] == "noise"
    assert statuses["detached"]["primals"]["x"]["status"] == "disagree"
    assert all(case["ok"] for case in document["cases"])


def test_verify_exits_1_and_names_what_failed(kernels, capsys):
    assert cli.main(["verify", "mine/*", "--module", kernels]) == 1
    captured = capsys.readouterr()
    assert "1 as declared, 1 failed, 0 skipped" in captured.out
    assert "mine/wrong/value_and_gradient/n3/float64/cpu: derivative for x disagrees" in captured.err
    assert cli.main(["verify", "mine/right/*", "--module", kernels]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "nothing*"], "the pattern 'nothing*' selects no case"),
        (["verify", "nothing*"], "the pattern 'nothing*' selects no case"),
        (["list", "*n10000000/float32*"], "add --all (pytest: --all-cases) to reach"),
        pytest.param(
            ["verify", "hello/*/cuda"],
            "nothing was verified: each selected case is skipped, the first because: no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["verify", "--module", "no.such.module"], "cannot import the module 'no.such.module'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gradrace: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_an_unknown_command_exits_2():
    with pytest.raises(SystemExit) as stopped:
        cli.main(["frobnicate"])
    assert stopped.value.code == 2


def test_a_module_that_exits_is_bad_input(tmp_path, monkeypatch, capsys):
    (tmp_path / "exiting.py").write_text("import sys; sys.exit(0)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["verify", "--module", "exiting"]) == 2
    assert "cannot import the module 'exiting' (SystemExit: 0" in capsys.readouterr().err


def test_the_name_of_a_family_is_nearly_a_pattern(capsys):
    assert cli.main(["verify", "hello"]) == 2
    assert "did you mean 'hello/*'?" in capsys.readouterr().err


def test_both_opinions_and_faults_are_printed(capsys):
    assert cli.main(["verify", "hello/dot/value*/n1000/*", "--taylor", "--planted-faults"]) == 0
    output = capsys.readouterr().out
    assert "Taylor" in output
    assert "10 faults planted: 10 killed" in output


def test_json_holds_no_infinity(capsys):
    """The Taylor test of float32 has no noise to speak of; Python would write Infinity, which is no JSON."""
    assert cli.main(["verify", "hello/dot/value_and_gradient/n7/float32/cpu", "--all", "--taylor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert document["cases"][0]["taylor"]["noise"] is None


def test_a_closed_pipe_is_no_traceback():
    script = f"{sys.executable} -m gradrace.cli list --all --json | head -1"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in result.stderr


def test_importing_the_package_does_not_import_torch():
    script = "import sys, gradrace; assert 'torch' not in sys.modules; gradrace.size; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_loading_the_families_imports_no_heavy_package():
    script = (
        "import sys; from gradrace.cases import all_cases; all_cases();"
        "heavy = {'scipy', 'matplotlib', 'rich', 'pytest', 'torch._inductor'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
