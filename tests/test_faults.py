"""Every planted fault is killed in every case, and a check that could not fail is found out."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import make_family, only_case
from gradrace import cli, verify
from gradrace.cases import Case, Scenario, Selection, all_cases
from gradrace.declare import size
from gradrace.faults import FAULTS, try_faults
from gradrace.operators import prepare_case

NONE = {"unused": ("none", "f does not read it")}
ALL = [case for case in Selection(tier="test").apply(all_cases()) if case.variant.name != "compiled"]
ONE_OF_FLOAT32 = {
    (case.scenario.family, case.scenario.operator, case.variant): case
    for case in ALL
    if case.scenario.dtype == "float32"
}
CASES = [case for case in ALL if case.scenario.dtype == "float64" or case in ONE_OF_FLOAT32.values()]
"""In float64 every size; in float32 one of each formulation and operator."""
FAMILIES = sorted({case.scenario.family.name for case in CASES})


def trials_of(case):
    if case.skip_reason:
        return []
    prepared = prepare_case(case)
    return try_faults(prepared, verify.check(prepared))


@pytest.fixture(scope="module")
def all_trials():
    return {}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_fault_survives_in_any_case(family, all_trials):
    cases = [case for case in CASES if case.scenario.family.name == family]
    trials = all_trials[family] = [trial for case in cases for trial in trials_of(case)]
    assert [trial for trial in trials if trial.outcome == "survived"] == []
    blind = {trial.fault for trial in trials if trial.outcome == "invisible" and "/float64/" in trial.id}
    assert blind <= {"transposed", "rounded", "nudged", "stale", "swapped"}, "sign, zero, NaN and None are always seen"


def test_hardly_any_fault_is_invisible_in_float64(all_trials):
    wide = [trial for trials in all_trials.values() for trial in trials if "/float64/" in trial.id]
    if len(all_trials) < len(FAMILIES):
        pytest.skip("needs the trials of all families: run the whole file")
    assert {trial.fault for trial in wide} == {fault.name for fault in FAULTS}
    assert sum(trial.outcome == "invisible" for trial in wide) <= 0.05 * len(wide)


def right(x, unused):
    return (x * x).sum()


def test_each_fault_is_killed_by_its_own_symptom():
    case = only_case(make_family(), right, expected=NONE)
    killers = {trial.fault: trial.by for trial in trials_of(case)}
    assert killers == {
        "sign": "disagree",
        "zeros": "zero",
        "nan": "nan",
        "infinity": "nan",
        "none": "none",
        "scaled": "disagree",
        "nudged": "disagree",
        "rounded": "disagree",
        "detached": "error",
        "stale": "disagree",
    }


def test_faults_without_a_meaning_are_not_planted():
    assert "nudged" not in {
        trial.fault for trial in trials_of(only_case(make_family(), right, "float32", expected=NONE))
    }
    family = make_family(operators=("primal",), reference={})
    family.variant(source="a test", name="right")(right)
    assert trials_of(only_case(family, right)) == []
    wrong = only_case(make_family(), lambda x, u: (x * x.detach()).sum(), expected={"x": ("disagree", "half"), **NONE})
    assert trials_of(wrong) == []
    undeclared = only_case(make_family(), lambda x, u: (x * x.detach()).sum(), expected=NONE)
    assert trials_of(undeclared) == [], "a case that fails its own check is mended first"


def test_a_tolerance_that_is_too_wide_lets_a_fault_survive():
    family = make_family(condition=lambda size, numbers, reference: {"x": 1e13})
    outcomes = {trial.fault: trial for trial in trials_of(only_case(family, right, expected=NONE))}
    assert outcomes["rounded"].outcome == outcomes["nudged"].outcome == "survived"
    assert "the tolerance 8.9e-03" in outcomes["nudged"].reason
    assert outcomes["scaled"].outcome == "killed"


@pytest.mark.parametrize("blind", ["nan", "none", "zero"])
def test_a_check_that_is_blind_is_found_out(blind, monkeypatch):
    """The classical mistakes, made in the judge itself: NaN that compares as small, None equal to None, zeros passed.

    The formulation computes its gradient by itself, so that no other mode can testify against it.
    """
    judge = verify._judge

    def forgiving(case, name, output, draw):
        found = judge(case, name, output, draw)
        return verify.Outcome("agree", "agree", 0.0, found.tolerance or 1e-15) if found.status == blind else found

    family = make_family(primals=("x",), draw=lambda size, rng: {"x": rng.standard_normal(5)})
    case = only_case(family, lambda x: (squares(x), (2 * x,)), computes="value_and_gradient")
    monkeypatch.setattr(verify, "_judge", forgiving)
    survivors = {trial.fault for trial in trials_of(case) if trial.outcome == "survived"}
    assert survivors == {"nan": {"nan", "infinity"}, "none": {"none"}, "zero": {"zeros"}}[blind]


def squares(x):
    return (x * x).sum()


def matrix_family(symmetric):
    matrix = np.array([[1.0, 2.0], [2.0, 5.0]]) if symmetric else np.array([[1.0, 2.0], [3.0, 5.0]])
    return make_family(
        primals=("x",),
        draw=lambda size, rng: {"x": matrix * rng.uniform(1, 2)},
        reference={"value_and_gradient": lambda n: {"value": (n["x"] ** 2).sum(), "x": 2 * n["x"]}},
    )


def test_a_transposed_gradient_is_killed_unless_it_is_symmetric():
    outcomes = [
        {trial.fault: trial for trial in trials_of(only_case(matrix_family(symmetric), squares))}["transposed"]
        for symmetric in (False, True)
    ]
    assert [trial.outcome for trial in outcomes] == ["killed", "invisible"]
    assert outcomes[1].reason == "it leaves the exact derivative as it is"


def test_a_round_trip_of_what_float32_holds_is_invisible():
    family = make_family(
        primals=("x",),
        draw=lambda size, rng: {"x": rng.integers(1, 9, size["n"]).astype(np.float64)},
        reference={"value_and_gradient": lambda n: {"value": (n["x"] ** 2).sum(), "x": 2 * n["x"]}},
    )
    outcomes = {trial.fault: trial.outcome for trial in trials_of(only_case(family, squares))}
    assert outcomes["rounded"] == "invisible"
    assert Counter(outcomes.values())["survived"] == 0


def test_the_gradient_of_another_primal_is_seen_where_the_shapes_are_equal():
    def exact(n):
        return {"value": n["x"] @ n["unused"], "x": n["unused"], "unused": n["x"]}

    family = make_family(reference={"value_and_gradient": exact})
    swapped = [t for t in trials_of(only_case(family, lambda x, u: x @ u)) if t.fault == "swapped"]
    assert [(trial.primal, trial.outcome, trial.by) for trial in swapped] == [
        ("x", "killed", "disagree"),
        ("unused", "killed", "disagree"),
    ]


def test_a_detached_tangent_is_seen():
    family = make_family(
        primals=("x",),
        operators=("jvp",),
        sizes=(size("test", n=3),),
        draw=lambda size, rng: {"x": rng.standard_normal(3)},
        reference={"jvp": lambda n: {"value": n["x"] ** 2, "tangent": 2 * n["x"] * n["tangent_x"]}},
    )
    family.variant(source="a test", name="subject")(lambda x: x * x)
    case = Case(Scenario(family, "jvp", family.sizes[0], "float64", "cpu"), family.variants[0])
    assert {trial.fault: trial.by for trial in trials_of(case)}["detached"] == "none"


def test_the_kernel_runs_a_few_times_whatever_the_number_of_faults():
    calls = []

    def counted(x, unused):
        calls.append(1)
        return (x * x).sum()

    trials = trials_of(only_case(make_family(), counted, expected=NONE))
    assert len(trials) == 10
    # The check and its two witnesses, the recorded run, the stale one, the detached one.
    assert len(calls) == 6


KERNELS = """
from gradrace import Family, size
wide = Family(name="wide", summary="", source="", primals=("x",), operators=("value_and_gradient",), baseline="right",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
              condition=lambda size, numbers, reference: {"x": 1e13})
@wide.variant(source="a test")
def right(x):
    return (x * x).sum()
"""


def test_the_command_prints_the_matrix_and_exits_0(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["verify", "--planted-faults", "hello/*"]) == 0
    output = capsys.readouterr().out
    assert "hello/value_and_gradient" in output
    assert all(fault.mark in output for fault in FAULTS)
    assert "0 survived" in output
    assert max(map(len, output.splitlines())) <= 80


def test_a_survivor_exits_1_and_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wide_kernels.py").write_text(KERNELS)
    assert cli.main(["verify", "--planted-faults", "--module", "wide_kernels", "wide/*"]) == 1
    captured = capsys.readouterr()
    assert "wide/right/value_and_gradient/n3/float64/cpu: the fault 'nudged' in x survived" in captured.err
    assert "!" in captured.out


def test_json_follows_the_contract(capsys):
    import json

    assert cli.main(["verify", "--planted-faults", "hello/dot/*", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"id", "fault", "outcome", "by", "reason"} <= set(document["faults"][0])
    assert {row["outcome"] for row in document["faults"]} == {"killed"}


def test_nothing_to_plant_is_answered(capsys):
    assert cli.main(["verify", "--planted-faults", "hello/*/primal/*"]) == 2
    assert "no fault was planted" in capsys.readouterr().err


def _wide(name, gradient, **facts):
    """A case whose tolerance is far too wide, so that a round trip through float32 must survive."""
    family = make_family(name=name, depth=1e9, **facts)

    def subject(x, unused):
        return (x * x).sum(), (gradient(x), None)

    return trials_of(only_case(family, subject, computes="value_and_gradient", expected=NONE))


def test_a_kernel_that_uses_its_buffers_again_does_not_kill_faults_by_that():
    buffer = torch.empty(5, dtype=torch.float64)

    def outcomes(trials):
        return {trial.fault: trial.outcome for trial in trials}

    into_buffer = outcomes(_wide("buffered", lambda x: torch.mul(x, 2, out=buffer)))
    assert into_buffer == outcomes(_wide("fresh", lambda x: 2 * x))
    assert into_buffer["rounded"] == "survived"


def test_a_check_that_always_fails_is_found_out(monkeypatch):
    """It would kill every fault; what has no fault at all must pass."""
    prepared = prepare_case(only_case(make_family(), lambda x, unused: (x * x).sum(), expected=NONE))
    own = verify.check(prepared)
    broken = replace(own, ok=False, message="always")
    monkeypatch.setattr("gradrace.faults.check", lambda *_, **__: broken)
    *killed, control = try_faults(prepared, own)
    assert {trial.outcome for trial in killed} == {"killed"}
    assert (control.fault, control.outcome) == ("control", "survived")
    assert "without any fault the check fails as well: always" in control.reason


def test_the_floor_is_that_of_the_instance_that_the_fault_hits():
    """The second instance has a large error, within its own tolerance; the fault in the first can be seen."""

    def exact(numbers):
        x = numbers["x"]
        return {"value": (x * x).sum(), "x": 2 * x}

    family = make_family(
        name="batch",
        primals=("x",),
        sizes=(size("test", b=2, n=3),),
        draw=lambda size, rng: {"x": np.array([[3.0, 2.0, 1.0], [0.3, 0.2, 0.1]])},
        reference={"value_and_gradient": exact},
        condition=lambda size, numbers, reference: {"x": np.array([1e10, 1e12])},
    )

    def subject(x):
        gradient = 2 * x
        gradient[1] *= 1 + 5e-5
        return (x * x).sum(), (gradient,)

    trials = trials_of(only_case(family, subject, computes="value_and_gradient"))
    assert {trial.fault: trial.outcome for trial in trials}["nudged"] == "survived"


def test_a_kernel_that_cannot_do_with_other_inputs_has_no_stale_closure():
    seen = []

    def choosy(x, unused):
        seen.append(float(x.detach()[0]))
        if seen[-1] != seen[0]:
            raise ValueError("no such branch yet")
        return (x * x).sum()

    found = {trial.fault for trial in trials_of(only_case(make_family(), choosy, expected=NONE))}
    assert "stale" not in found
    assert {"sign", "zeros", "none"} <= found


def test_a_fault_in_float64_does_not_change_what_was_recorded():
    """Planting works on copies: the recorded output is the kernel's own to the end."""
    recorded = torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64)
    for fault in FAULTS:
        if fault.plant is not None and fault.name != "transposed":
            fault.plant(recorded)
    assert recorded.tolist() == [1.0, -3.0, 2.0]
