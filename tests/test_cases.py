"""Every consumer takes its cases from one list; bad words are answered with the nearest good ones."""

import re
import sys

import pytest
import torch

from conftest import make_family, only_case
from gradrace.cases import Selection, all_cases, find_case, load_families
from gradrace.declare import Limit
from gradrace.errors import UsageError

CASES = all_cases()
ID = re.compile(r"\w+/\w+/\w+/\w+/float(64|32)/(cpu|cuda)")


def test_ids_are_words_and_unique():
    ids = [case.id for case in CASES]
    assert len(set(ids)) == len(ids)
    assert all(ID.fullmatch(name) and "-" not in name for name in ids)


SELECTIONS = {"default": Selection(), "test": Selection(tier="test"), "gate": Selection(default="gate")}


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_no_variant_is_left_out(selection):
    """The default bench, the tests, and the gate (and asv with it) hold a case of every family and variant."""
    chosen = {(case.scenario.family.name, case.variant.name) for case in selection.apply(CASES)}
    assert chosen == {(family.name, variant.name) for family in load_families() for variant in family.variants}


def test_every_scenario_has_its_baseline():
    scenarios = {case.scenario.id for case in CASES}
    assert {case.scenario.id for case in CASES if case.is_baseline} == scenarios


def test_every_scenario_is_a_race():
    for scenario in {case.scenario for case in CASES}:
        assert sum(case.scenario == scenario for case in CASES) > 1, scenario.id


def test_the_headline_sizes_are_declared():
    sizes = {f"{case.scenario.family.name}/{case.scenario.size.word}" for case in CASES}
    assert {"soft_threshold/n1", "soft_threshold/n10000000", "sandwich/d5_n10000_cond100"} <= sizes
    assert {"sandwich/d1000_n10000_cond100", "phase_retrieval/n20_m100_b1000_random"} <= sizes


def test_what_cannot_be_reached_says_why():
    reasons = {case.id: case.skip_reason for case in CASES}
    branching = reasons["soft_threshold/branching/vjp/n10000000/float64/cpu"]
    assert branching is not None
    assert "one Python step" in branching
    wasteful = reasons["sandwich/wasteful/value_and_gradient/d1000_n10000_cond100/float64/cpu"]
    assert wasteful is not None
    assert "8e+10" in wasteful


def test_cuda_is_skipped_with_its_reason_where_there_is_none():
    reason = find_case("hello/dot/primal/n1000/float64/cuda").skip_reason
    assert reason == (None if torch.cuda.is_available() else "no CUDA device is available")


def test_a_missing_requirement_is_a_reason():
    case = only_case(make_family(), lambda x, unused: x, requires=("no_such_package",))
    assert case.skip_reason == "needs no_such_package, which is not installed"


def test_an_unsupported_dtype_and_a_limit_are_reasons():
    case = only_case(make_family(), lambda x, unused: x, unsupported={"float64": "a reason"})
    assert case.skip_reason == "a reason"
    case = only_case(make_family(), lambda x, unused: x, limits=(Limit(lambda size: size["n"], 4, "too many"),))
    assert case.skip_reason == "too many: 5 is over the limit of 4"


def test_an_axis_that_is_named_replaces_the_default_choice():
    chosen = Selection(family=["soft_threshold"], size=["n10000000"], dtype=["float32"], device=["cpu"]).apply(CASES)
    assert {case.scenario.id for case in chosen} == {
        "soft_threshold/primal/n10000000/float32/cpu",
        "soft_threshold/vjp/n10000000/float32/cpu",
    }


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(family=["sandwhich"]), "unknown family 'sandwhich'; did you mean sandwich\\?"),
        (Selection(size=["n999"]), "unknown size 'n999'"),
        (Selection(dtype=["float16"]), "unknown dtype 'float16'"),
        (Selection(device=["tpu"]), "unknown device 'tpu'"),
        (Selection(variant=["adjiont"]), "unknown variant 'adjiont'; did you mean adjoint"),
        (Selection("zz*"), "the pattern 'zz\\*' selects no case"),
        (Selection("*n10000000*float32*"), "add --all \\(pytest: --all-cases\\) to reach"),
    ],
)
def test_bad_words_are_answered(selection, message):
    with pytest.raises(UsageError, match=message):
        selection.apply(CASES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_bad_input():
    with pytest.raises(UsageError, match="no CUDA device is available to this torch; leave out"):
        Selection(device=["cuda"]).apply(CASES)


KERNELS = """
from gradrace import Family, size
mine = Family(name="{name}", summary="", source="", primals=("x",), operators=("primal",), baseline="one",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {{"x": rng.standard_normal(size["n"])}})
@mine.variant(source="a test")
def one(x):
    return x
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working folder and forget it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_a_users_module_joins_the_list(module):
    families = load_families([module("my_kernels", KERNELS.format(name="mine"))])
    assert families[-1].name == "mine"
    assert find_case("mine/one/primal/n3/float64/cpu", ["my_kernels"]).skip_reason is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot import the module 'broken' \\(ModuleNotFoundError"),
        ("1 / 0", "cannot import the module 'broken' \\(ZeroDivisionError"),
        ("x = 1", "the module 'broken' holds no gradrace.Family"),
        (KERNELS.format(name="hello"), "two families of the name 'hello' are loaded; rename"),
        (KERNELS.format(name="m") + "mine.variant(source='', name='one')(one)", "two variants of the name 'one'"),
    ],
)
def test_a_bad_module_is_answered(module, text, message):
    if text is not None:
        module("broken", text)
    with pytest.raises(UsageError, match=message):
        load_families(["broken"])


class BrokenPoint:
    name = "theirs"

    def load(self):
        raise ImportError("no such thing\nand a second line")


def test_a_broken_entry_point_is_answered(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [BrokenPoint()])
    with pytest.raises(
        UsageError, match=r"cannot import the entry point 'theirs' \(ImportError: no such thing at .*test_cases"
    ):
        load_families()


def test_an_entry_point_joins_the_list(monkeypatch):
    family = make_family()
    family.variant(source="a test", name="right")(lambda x, unused: (x * x).sum())
    point = type("Point", (), {"name": "theirs", "load": lambda self: family})()
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])
    assert load_families()[-1] is family


def test_an_unknown_case_is_answered():
    with pytest.raises(UsageError, match="unknown case 'hello/dotty/primal/n7/float64/cpu'; did you mean hello/dot/"):
        find_case("hello/dotty/primal/n7/float64/cpu")
