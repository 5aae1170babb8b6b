"""The gate against the clock, in a foreign repository: real launches, of slowdowns that no machine can overlook."""

import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from gate_project import KERNELS, Project, arms_in, lives, until

SPIN = "sum(range(100_000)); "
"""Time without work: no operation, no byte, the same gradient. Several times what a kernel takes."""

FORGED = (
    'import runpy, sys, torch; torch.__version__ = "9.9"; del sys.argv[0]; '
    'runpy.run_path(sys.argv[0], run_name="__main__")'
)
"""An interpreter whose torch says that it is another version."""

SQUARES = ("HEAD", ".", "square/*")
ONE = ("HEAD", ".", "square/product/*")


def spinning(text, body):
    """The kernels, with one that spins before it computes."""
    assert text.count(body) == 1
    return text.replace(body, SPIN + body)


def after_some_calls(body, then):
    """The kernels, with one that does something else from its twentieth call on: comparing does not get that far."""
    changed = KERNELS.replace(body, f"calls.append(1)\n    if len(calls) > 20: {then}\n    {body}")
    return "import time\ncalls = []\n" + changed


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """Five kernels: one slower, one faster with more work, one that raises at last, two alike."""
    project = Project(tmp_path_factory.mktemp("raced"))
    project.write(spinning(KERNELS, "return (x**2).sum()"))
    project.commit()
    slower = spinning(KERNELS, "return (x * x).sum()")
    raises = after_some_calls("return (x * x * 1.0).sum()", "raise ValueError('tired')")
    body = "return (x * x * 1.0).sum()"
    start, end = raises.index("calls.append"), raises.index(body)
    project.write("calls = []\n" + slower.replace("(x**2)", "(x.clone()**2)").replace(body, raises[start:end] + body))
    return project.gate(*SQUARES, "--budget", "18", "--alpha", "0.2")


def of(raced, variant):
    """The kernel of a variant, and its findings."""
    _, document, _ = raced
    (kernel,) = (each for each in document["kernels"] if each["id"].split("/")[1] == variant and each["judgement"])
    return kernel, [each for each in document["findings"] if each["id"] == kernel["id"]]


def test_a_slower_kernel_is_red_at_equal_gradient_and_work(raced):
    kernel, findings = of(raced, "product")
    assert (kernel["judgement"], kernel["gradient"]["status"], kernel["work"]["status"]) == (
        "slower",
        "bitwise equal",
        "same",
    )
    assert kernel["low"] > 1.03 < kernel["ratio"] < kernel["high"]
    assert kernel["pairs"] >= 7
    assert [(each["colour"], each["what"]) for each in findings] == [("red", "time")]
    code, document, output = raced
    assert (code, document["verdict"]) == (1, "regression")
    assert "red: slower: " in output


def test_more_work_is_excused_by_less_time(raced):
    kernel, findings = of(raced, "power")
    assert (kernel["judgement"], kernel["work"]["status"]) == ("faster", "more")
    assert {each["what"]: each["colour"] for each in findings} == {"time": "gain", "saved_bytes,peak_bytes": "notice"}
    assert any(each["text"].endswith("(faster in return)") for each in findings)


def test_a_kernel_that_raises_only_when_it_is_timed_is_said_and_stops_nothing(raced):
    kernel, findings = of(raced, "wasteful")
    assert kernel["failure"].startswith("ValueError: tired")
    assert [each["colour"] for each in findings] == ["notice"]


def test_the_document_tells_the_rules_the_controls_and_the_machine(raced):
    _, document, output = raced
    assert (document["margin"], document["alpha"], document["budget_s"]) == (0.03, 0.2, 18)
    assert [each["kind"] for each in document["controls"]] == ["torch alone", *["base against base"] * 3]
    assert {each["judgement"] for each in document["controls"]} <= {"same", "undecided"}
    environment = document["environment"]
    assert (environment["launch"], environment["threads"]) == ("fork", 1)
    assert {"processor", "torch", "python", "pinned_to", "allocator"} <= environment.keys()
    judged = Counter(each["judgement"] for each in document["controls"])
    counted = ", ".join(f"{name} {count}" for name, count in judged.items())
    assert set(judged) <= {"same", "undecided"}
    assert f"controls that must tie (base against itself, and torch alone): {counted}" in output
    assert document["asked"]["pattern"] == "square/*"


def test_a_head_that_disturbs_the_clock_itself_makes_the_machine_unfit(tmp_path):
    """It slows torch itself down, and that is no kernel's fault."""
    project = Project(tmp_path)
    patch = "tanh = torch.tanh\ntorch.tanh = lambda x: [tanh(x) for _ in range(50)][-1]\n"
    project.write("import torch\n" + patch + KERNELS)
    code, document, output = project.gate(*ONE, "--budget", "14", "--margin", "0.5", "--alpha", "0.2")
    assert (code, document["verdict"]) == (4, "machine unfit")
    assert "machine unfit: a kernel of torch alone is slower" in output


def test_an_arm_that_is_killed_while_it_races_has_no_verdict(tmp_path):
    project = Project(tmp_path)
    project.write(after_some_calls("return (x * x).sum()", "os.kill(os.getpid(), signal.SIGKILL)"))
    code, document, output = project.gate(*ONE, "--budget", "60")
    assert (code, document) == (5, None)
    assert "the arm of working tree has ended by signal 9; there is no verdict" in output


def test_an_interrupted_race_leaves_nothing(tmp_path):
    project = Project(tmp_path)
    project.write(after_some_calls("return (x * x).sum()", "print('asleep', flush=True); time.sleep(60)"))
    with subprocess.Popen(
        project.command(*ONE, "--budget", "60"),
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has the jobs in its background ignore SIGINT, and they hand that down: here it must arrive.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert any("asleep" in line for line in iter(run.stderr.readline, ""))
        arms = arms_in(project.temporary)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them at once
        _, errors = run.communicate(timeout=30)
    assert len(arms) >= 4, "two that compared, and the pair"
    assert run.returncode == 130
    assert errors.strip() == "gradrace: interrupted; nothing is left behind"
    assert list(project.temporary.iterdir()) == []
    assert until(lambda: not any(map(lives, arms)))


def test_two_interpreters_are_raced_by_spawning_and_their_times_only_reported(tmp_path):
    project = Project(tmp_path)
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{FORGED}' \"$@\"\n")
    other.chmod(0o755)
    project.write(spinning(KERNELS, "return (x * x).sum()").replace("(x**2)", "(x.clone()**2)"))
    code, document, _ = project.gate(
        "HEAD", ".", "square/p*/*", "--head-python", str(other), "--budget", "0.1", "--strict"
    )
    assert (code, document["environment"]["launch"]) == (0, "spawn")
    assert document["base"]["torch"] != document["head"]["torch"] == "9.9"
    assert {each["colour"] for each in document["findings"]} == {"notice"}
    assert {each["what"] for each in document["findings"]} == {"undecided", "saved_bytes,peak_bytes"}


SECOND = """
from gradrace import Family, size

cube = Family(
    name="cube", summary="sum x^3", source="a test", primals=("x",), operators=("value_and_gradient",),
    baseline="product", sizes=(size("test", "bench", n=1000),),
    draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
)

@cube.variant(source="a product")
def product(x):
    return (x * x * x).sum()
"""


def test_what_no_change_has_touched_does_not_race_unless_asked_for(tmp_path):
    project = Project(tmp_path)
    project.write(SECOND, "second.py")
    project.commit()
    project.write(SECOND.replace("(x * x * x)", "(x * (x * x))"), "second.py")
    states = ("HEAD", ".", "--module", "second", "--budget", "0.1")
    code, document, output = project.gate(*states)
    assert code == 0
    families = {kernel["id"].split("/")[0] for kernel in document["kernels"]}
    assert families == {"hinge", "square", "cube"}, "what is installed is the same in both states"
    raced = {kernel["id"].split("/")[0] for kernel in document["kernels"] if kernel["judgement"]}
    touched = {kernel["id"].split("/")[0] for kernel in document["kernels"] if kernel["touched"]}
    assert raced == touched == {"cube"}
    assert "not raced for their code is the same 6" in output
