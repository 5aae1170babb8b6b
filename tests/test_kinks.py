"""The kink ledger: it is what this machine measures, holds the published numbers, and a change of it is seen."""

import functools
import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

import gradrace.cli.kinks
import gradrace.kinks
from conftest import make_family
from gradrace import Kink, UsageError, cli, ledger
from gradrace.cases import is_available
from gradrace.families import FAMILIES
from gradrace.kinks import COMPILER, record, record_family
from gradrace.ledger import BUILT_IN, Difference, Row

TORCH = ledger.release(torch.__version__)
KINKED = [family for family in FAMILIES if family.kinks]

needs_the_ledger_of_this_torch = pytest.mark.skipif(
    TORCH not in ledger.versions(BUILT_IN), reason=f"there is no ledger of torch {TORCH}"
)


@pytest.fixture(scope="module")
def eager():
    return record(FAMILIES, compiled=False)


# ---- the committed ledgers ----


@needs_the_ledger_of_this_torch
def test_the_ledger_is_what_this_machine_measures(eager):
    assert ledger.differences(ledger.read(BUILT_IN, TORCH), eager) == [], "run `gradrace kinks --update` and commit"


@pytest.mark.parametrize("version", ledger.versions(BUILT_IN))
def test_every_formulation_is_in_every_ledger(version, eager):
    rows = ledger.read(BUILT_IN, version)
    assert [row.id for row in rows] == [row.id for row in eager]
    assert {row.family for row in rows} == {family.name for family in KINKED}
    assert all(row.compiled_value is not None and len(row.derivatives) == 4 for row in rows)


def test_three_versions_are_recorded():
    assert ledger.versions(BUILT_IN) == ["2.6.0", "2.13.0", "2.15.0"]


@pytest.mark.parametrize("version", ledger.versions(BUILT_IN))
def test_writing_what_was_read_changes_no_byte(version, tmp_path):
    path = ledger.write(tmp_path, version, ledger.read(BUILT_IN, version))
    assert path.read_text() == ledger.path_of(BUILT_IN, version).read_text()


NAN = "nan"
AT_ZERO = {  # reverse mode at 0, torch 2.13.0
    "two_faces_relu": {
        "relu": 0, "clamp": 1, "clamp_min": 1, "maximum": 0.5, "max_of_two": 0.5, "fmax": 1, "fmax_zero_first": 0,
        "stack_max": 0.5, "stack_max_vmap": 1, "stack_amax": 0.5, "stack_max_axis": 1, "stack_zero_first": 0,
        "where_gt": 0, "where_ge": 1, "mask": 0, "mean_with_abs": 0.5, "reflected_relu": 1, "mean_with_root": NAN,
        "sign_plus_one": 0.5, "threshold": 0, "leaky_relu": 0, "hardtanh": 0, "relu6": 0, "softplus": 0.5, "elu": 0,
    },
    "two_faces_abs": {
        "absolute": 0, "root_of_square": NAN, "norm": 0, "vector_norm": 0, "maximum_of_signs": 0, "relu_plus_relu": 0,
        "times_sign": 0, "where_ge": 1, "where_gt": -1, "clamp_minus_clamp": 0, "hypot": NAN, "copysign": 0,
    },
    "two_faces_twice": {
        "twice": 2, "sign_squared": 0, "abs_sign": 0, "relu_minus_relu": 0, "clamp_plus_clamp": 4, "max_plus_min": 2,
        "plus_abs_sign": 1, "where_elsewhere": -3, "cubic_over_square": NAN, "plus_relus": 1,
    },
    "two_faces_jump": {
        "sign_factored_out": 0, "plus_sign": 2, "where_else_zero": 0, "where_else_2x": 2, "where_else_minus_3x": -3,
        "listing_2": 1,
    },
}  # fmt: skip

SOFT_THRESHOLD = {  # reverse mode at T, −T, 0 and NaN, torch 2.13.0
    "branching": (0, 0, 0, 0),
    "boolean_mask": (0, 0, 0, 0),
    "nested_where": (0, 0, 0, 0),
    "nested_where_ge": (1, 1, 0, 0),
    "sign_relu": (0, 0, 0, 0),
    "sign_clamp": (1, 1, 0, 0),
    "sign_maximum": (0.5, 0.5, 0, 0),
    "relu_relu": (0, 0, 0, 2),
    "y_minus_clamp": (0, 0, 0, 1),
    "y_minus_hardtanh": (1, 1, 0, "0 or 1"),
    "clamp_clamp": (1, 1, 0, 0),
    "max_min": (0.5, 0.5, 0, 2),
    "scaled": (0, 0, NAN, NAN),
    "misprinted": (0, 1, 1, 0),
    "softshrink": (0, 0, 0, "0 or 1"),
    "custom_function": (0, 0, 0, 1),
}


def entries(version, column="reverse"):
    return {row.id: getattr(row, column) for row in ledger.read(BUILT_IN, version)}


@pytest.mark.parametrize("family", AT_ZERO)
def test_one_function_has_these_derivatives_at_zero(family):
    found = {name: slope for name, slope in entries("2.13.0").items() if name.startswith(f"{family}/")}
    assert {name: slope for name, slope in found.items() if name.endswith("/zero")} == {
        f"{family}/{variant}/zero": slope for variant, slope in AT_ZERO[family].items()
    }


def test_soft_threshold_has_these_derivatives_at_its_kinks():
    found = {name: slope for name, slope in entries("2.13.0").items() if name.startswith("soft_threshold/")}
    assert found == {
        f"soft_threshold/{variant}/{point}": slope
        for variant, slopes in SOFT_THRESHOLD.items()
        for point, slope in zip(("T", "minus_T", "zero", "nan"), slopes, strict=True)
    }


def test_only_formulations_that_choose_swallow_a_nan():
    swallowed = {name for name, value in entries("2.13.0", "value").items() if name.endswith("/nan") and value == 0}
    assert swallowed == {
        "soft_threshold/nested_where/nan", "soft_threshold/nested_where_ge/nan", "soft_threshold/misprinted/nan",
        "two_faces_relu/where_gt/nan", "two_faces_relu/where_ge/nan", "two_faces_relu/fmax/nan",
        "two_faces_relu/fmax_zero_first/nan", "two_faces_jump/where_else_zero/nan",
    }  # fmt: skip


def test_forward_and_reverse_mode_part_at_these_ties():
    """At a tie torch.fmax gives the whole slope to the first argument in reverse mode, to the second in forward."""
    reverse, forward = entries("2.13.0"), entries("2.13.0", "forward")
    assert {name for name, slope in reverse.items() if not name.endswith("/nan") and slope != forward[name]} == {
        "two_faces_relu/fmax/zero", "two_faces_relu/fmax_zero_first/zero", "soft_threshold/scaled/zero",
    }  # fmt: skip


def test_what_changed_from_torch_2_13_to_2_15():
    found = ledger.differences(ledger.read(BUILT_IN, "2.13.0"), ledger.read(BUILT_IN, "2.15.0"))
    assert list(map(str, found)) == [
        "soft_threshold/branching/nan: compiled_value 0 → nan",
        "soft_threshold/y_minus_clamp/T: derivative 0 → 1",
        "soft_threshold/y_minus_clamp/minus_T: derivative 0 → 1",
        "soft_threshold/clamp_clamp/T: derivative 1 → 0",
        "soft_threshold/clamp_clamp/minus_T: derivative 1 → 0",
        "soft_threshold/sign_clamp/T: derivative 1 → 0",
        "soft_threshold/sign_clamp/minus_T: derivative 1 → 0",
        "soft_threshold/softshrink/nan: compiled_value 0 → nan",
        "soft_threshold/custom_function/nan: compiled_value 0 → nan",
        "soft_threshold/custom_function/nan: compiled_reverse 0 → 1",
        "two_faces_relu/clamp/zero: derivative 1 → 0",
        "two_faces_relu/clamp_min/zero: derivative 1 → 0",
        "two_faces_relu/fmax/zero: reverse 1 → 0.5",
        "two_faces_relu/fmax/zero: forward 0 → 0.5",
        "two_faces_relu/fmax_zero_first/zero: reverse 0 → 0.5",
        "two_faces_relu/fmax_zero_first/zero: forward 1 → 0.5",
        "two_faces_twice/clamp_plus_clamp/zero: derivative 4 → 0",
    ]


def test_invalid_at_a_differentiable_point_and_outside_of_clarkes_interval():
    invalid = {row.id for row in ledger.read(BUILT_IN, "2.13.0") if row.valid is False}
    assert invalid == {
        "soft_threshold/scaled/zero", "soft_threshold/misprinted/zero", "two_faces_relu/mean_with_root/zero",
        "two_faces_abs/root_of_square/zero", "two_faces_abs/hypot/zero",
        *(f"two_faces_twice/{name}/zero" for name, slope in AT_ZERO["two_faces_twice"].items() if slope != 2),
    }  # fmt: skip


# ---- measuring ----


def make_kinked(**facts):
    """|x| with its kink at 0, and no formulation yet."""
    kinks = (Kink("zero", 0.0, allowed=(-1.0, 1.0), value=0.0),)
    return make_family(name="kinked", primals=("x",), operators=("vjp",), kinks=kinks, reference={}, **facts)


def only_row(function, **facts):
    family = make_kinked()
    family.variant(source="a test", name="subject", **facts)(function)
    (row,) = record_family(family, compiled=False)
    return row


def raise_an_error(x):
    raise ValueError("no")


@pytest.mark.parametrize(
    ("function", "value", "reverse", "forward"),
    [
        (torch.abs, 0, 0, 0),
        (lambda x: -torch.abs(-x) * 1.0, 0, 0, 0),  # a negative zero is a zero
        (lambda x: torch.sqrt(x), 0, "inf", "inf"),
        (lambda x: -torch.sqrt(x), 0, "-inf", "-inf"),
        (lambda x: torch.sqrt(x * x), 0, "nan", "nan"),
        (lambda x: x.detach().abs(), 0, "none", "none"),
        (lambda x: x.abs().sum(), "error: shape", 0, "error: shape"),
        (raise_an_error, "error: ValueError", "error: ValueError", "error: ValueError"),
        (lambda x: x * torch.arange(x.numel()).eq(0), 0, "0 or 1", "0 or 1"),
    ],
)
def test_an_entry_is_a_number_or_a_word(function, value, reverse, forward):
    row = only_row(function)
    assert (row.value, row.reverse, row.forward) == (value, reverse, forward)
    assert row.valid == (not isinstance(reverse, str) and not isinstance(forward, str))
    if not isinstance(row.value, str):
        assert math.copysign(1, row.value) == 1


def test_what_is_not_installed_has_a_row_without_entries():
    row = only_row(torch.abs, requires=("no_such_package",))
    assert (row.value, row.derivatives, row.valid, row.value_valid) == (None, {}, None, None)
    assert ledger.differences([only_row(torch.abs)], [row]) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"unsupported": {"cpu": "a test"}},
        {"prepare": lambda function, *arguments: function},
    ],
)
def test_what_cannot_run_here_has_no_row(facts):
    family = make_kinked()
    family.variant(source="a test", name="subject", **facts)(lambda x: x.abs())
    assert record_family(family, compiled=False) == []


def test_kinks_are_points_of_one_variable():
    with pytest.raises(UsageError, match="kinks= are points of one variable"):
        make_family(kinks=(Kink("zero", 0.0, None, None),))


def where_ge(x):
    return torch.where(x >= 0, x, -x)


def breaks_the_graph(x):
    return -x if x.sum() > 0 else x.abs()


ALL_MODES = ("reverse", "forward", "compiled_reverse", "compiled_forward")


@pytest.mark.skipif(not is_available(COMPILER), reason="needs a C++ compiler")
def test_compiled_columns():
    family = make_kinked()
    family.variant(source="a test", name="one")(where_ge)
    family.variant(source="a test", name="root")(lambda x: torch.sqrt(x * x))
    one, root = record_family(family)
    assert one.derivatives == dict.fromkeys(ALL_MODES, 1)
    assert root.derivatives == dict.fromkeys(ALL_MODES, "nan")
    assert one.compiled_value == root.compiled_value == 0


def test_a_formulation_that_breaks_the_graph_is_compiled_alone(monkeypatch):
    monkeypatch.setattr(gradrace.kinks, "is_available", lambda requirement: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    family = make_kinked()
    for function in (where_ge, breaks_the_graph, raise_an_error):
        family.variant(source="a test")(function)
    whole, broken, failing = record_family(family)
    assert whole.derivatives == dict.fromkeys(ALL_MODES, 1)
    assert broken.derivatives == dict.fromkeys(ALL_MODES, 0)
    assert failing.derivatives["reverse"] == "error: ValueError"
    assert failing.derivatives["compiled_reverse"].startswith("error: ")


# ---- comparing ----

ROW = Row("f", "v", "zero", at=0.0, allowed=(0.0, 1.0), right=0.0, value=0.0, reverse=0.5, forward=0.5)


def changed(**entries):
    return Row(**{**vars(ROW), **entries})


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (ROW, []),
        (changed(compiled_reverse=7.0), []),
        (changed(forward=None), []),
        (changed(reverse=1.0), ["f/v/zero: reverse 0.5 → 1"]),
        (changed(reverse="nan", forward="nan"), ["f/v/zero: reverse, forward 0.5 → nan"]),
        (changed(allowed=None), ["f/v/zero: allowed [0, 1] → None"]),
        (changed(variant="w"), ["f/v/zero: is gone", "f/w/zero: is new"]),
    ],
)
def test_a_difference_is_a_sentence(new, expected):
    assert list(map(str, ledger.differences([ROW], [new]))) == expected


def test_all_modes_together_are_the_derivative():
    assert str(Difference("f/v/zero", ALL_MODES, 1.0, 0.0)) == "f/v/zero: derivative 1 → 0"
    assert str(Difference("f/v/zero", ALL_MODES[::2], 1.0, 0.0)) == "f/v/zero: reverse 1 → 0"


@pytest.mark.parametrize(
    ("entries", "valid"),
    [
        ({}, True),
        ({"forward": 1.5}, False),
        ({"compiled_reverse": "nan"}, False),
        ({"reverse": "none"}, False),
        ({"reverse": "error: ValueError", "allowed": None}, None),
    ],
)
def test_valid_is_inside_of_the_interval_in_every_mode(entries, valid):
    assert changed(**entries).valid is valid


def test_the_nearest_version(tmp_path):
    assert ledger.nearest(tmp_path, "2.13.0") is None
    for version in ("2.6.0", "2.13.0"):
        ledger.write(tmp_path, version, [ROW])
    found = [ledger.nearest(tmp_path, version) for version in ("2.5", "2.9.1", "2.13.0", "2.13.1", "3.0")]
    assert found == ["2.6.0", "2.6.0", "2.13.0", "2.13.0", "2.13.0"]
    assert [ledger.release(version) for version in ("2.13.0+cpu", "2.14.0a0+git1")] == ["2.13.0", "2.14.0"]


# ---- the command ----

KERNELS = """
import torch
from gradrace import Family, Kink, size
mine = Family(name="mine", summary="", source="", primals=("x",), operators=("vjp",), baseline="right",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
              kinks=(Kink("zero", 0.0, allowed=(0.0, 1.0), value=0.0),))
@mine.variant(source="a test")
def right(x):
    return torch.relu(x)
"""


@pytest.fixture
def built_in(tmp_path, monkeypatch):
    """A copy of the built-in ledgers, in place of them."""
    folder = tmp_path / "built_in"
    shutil.copytree(BUILT_IN, folder, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    monkeypatch.setattr(gradrace.cli.kinks, "BUILT_IN", folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def kernels(tmp_path, monkeypatch, built_in):
    (tmp_path / "kinked_kernels.py").write_text(KERNELS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "kinked_kernels"
    sys.modules.pop("kinked_kernels", None)


def kinks(*arguments):
    return cli.main(["kinks", "--no-compile", *arguments])


def plant(folder, version=TORCH):
    """Change one entry of a ledger: what max(x, 0) by clamp answers at 0."""
    path = ledger.path_of(folder, version)
    lines = path.read_text().splitlines()
    (place,) = (i for i, line in enumerate(lines) if '"clamp", "point": "zero"' in line)
    row = json.loads(lines[place].rstrip(","))
    lines[place] = json.dumps({**row, "reverse": 0.25, "forward": 0.25}) + ","
    path.write_text("\n".join(lines))


@needs_the_ledger_of_this_torch
def test_a_table_of_eighty_columns_and_exit_0(built_in, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert kinks() == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "two_faces_relu/fmax_zero_first/zero" in output
    assert "invalid" in output
    assert f"170 rows are as in the ledger of torch {TORCH}" in output


@needs_the_ledger_of_this_torch
def test_a_change_exits_1_and_names_the_row(built_in, capsys):
    plant(built_in)
    assert kinks() == 1
    error = capsys.readouterr().err
    assert error.startswith("FAILED two_faces_relu/clamp/zero: reverse, forward 0.25 → ")
    assert error.endswith(f"(ledger of torch {TORCH})\n")
    assert error.count("\n") == 1


@needs_the_ledger_of_this_torch
def test_json_is_one_document(built_in, capsys):
    plant(built_in)
    assert kinks("--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["torch"] == TORCH
    assert len(document["rows"]) == 170
    (found,) = document["ledgers"]
    assert (found["built_in"], found["torch"]) == (True, TORCH)
    assert [each["id"] for each in found["differences"]] == ["two_faces_relu/clamp/zero"]


@needs_the_ledger_of_this_torch
def test_update_mends_the_ledger_and_keeps_what_was_not_measured(built_in, capsys):
    path = ledger.path_of(built_in, TORCH)
    committed = path.read_text()
    plant(built_in)
    assert kinks("--update") == 0
    assert path.read_text() == committed
    assert kinks("--update") == 0
    assert path.read_text() == committed
    assert "170 rows" in capsys.readouterr().out
    assert kinks() == 0


@needs_the_ledger_of_this_torch
def test_a_torch_without_a_ledger_sees_the_nearest(built_in, monkeypatch, capsys):
    monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
    for version in ledger.versions(built_in):
        if version != TORCH:
            ledger.path_of(built_in, version).unlink()
    plant(built_in)
    assert kinks() == 0
    output = capsys.readouterr().out
    assert "torch 2.99.0 has no ledger yet" in output
    assert f"differences from torch {TORCH}, the nearest: 1" in output
    assert "two_faces_relu/clamp/zero" in output
    assert kinks("--update") == 0
    assert "2.99.0" in ledger.versions(built_in)


BROKEN_ROW = (
    '{"rows": [{"family": "f", "variant": "v", "point": "p", "at": 0.0, "allowed": %s, "right": 0.0, "reverse": %s}]}'
)


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '{"rows": [{"family": "x"}]}', '{"rows": 3}', '{"rows": {}}', ""),
        *(BROKEN_ROW % ("[0.0]", "0.0"), BROKEN_ROW % ("null", "[1, 2]"), BROKEN_ROW % ('["a", "b"]', "0.0")),
    ],
)
def test_a_broken_ledger_is_one_sentence_and_stays(built_in, text, capsys):
    path = ledger.path_of(built_in, ledger.nearest(built_in, TORCH))
    path.write_text(text)
    for arguments in ([], ["--update"]):
        assert kinks(*arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(f"gradrace: {path} is no kink ledger")
        assert captured.err.count("\n") == 1
    assert path.read_text() == text


def test_a_users_ledger_lies_in_a_folder_of_their_own(kernels, built_in, tmp_path, capsys):
    before = {path: path.read_text() for path in built_in.iterdir()}
    assert kinks("--module", kernels) == 0
    assert "kinks holds no ledger; `gradrace kinks --update` records" in capsys.readouterr().out
    assert kinks("--module", kernels, "--update", "--ledger", "elsewhere") == 0
    assert [row.id for row in ledger.read(tmp_path / "elsewhere", TORCH)] == ["mine/right/zero"]
    assert kinks("--module", kernels, "--update") == 0
    if TORCH in ledger.versions(BUILT_IN):
        assert before == {path: path.read_text() for path in built_in.iterdir()}
    path = ledger.path_of(tmp_path / "kinks", TORCH)
    path.write_text(path.read_text().replace('"reverse": 0.0', '"reverse": 1.0'))
    assert kinks("--module", kernels) == 1
    assert "mine/right/zero: reverse 1 → 0" in capsys.readouterr().err
    assert kinks() == 0, "what is not loaded is not compared"


def test_update_keeps_the_rows_of_families_that_are_not_loaded(kernels, tmp_path):
    ledger.write(tmp_path / "kinks", TORCH, [ROW])
    assert kinks("--module", kernels) == 1
    assert kinks("--module", kernels, "--update") == 0
    assert [row.id for row in ledger.read(tmp_path / "kinks", TORCH)] == ["mine/right/zero", "f/v/zero"]
    assert kinks("--module", kernels) == 0


def test_compare_two_versions(built_in, capsys):
    assert cli.main(["kinks", "--compare", "2.13.0", "2.15.0"]) == 0
    output = capsys.readouterr().out
    assert "two_faces_twice/clamp_plus_clamp/zero" in output
    assert "differences from torch 2.13.0 to 2.15.0: 17" in output
    assert cli.main(["kinks", "--compare", "2.13.0+cpu", "2.13.0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"old": "2.13.0", "new": "2.13.0", "differences": []}


def test_compare_with_an_unknown_version_names_the_known_ones(built_in, capsys):
    assert cli.main(["kinks", "--compare", "2.13.0", "1.0"]) == 2
    error = capsys.readouterr().err
    assert error == "gradrace: there is no ledger of torch 1.0; choose from: 2.6.0, 2.13.0, 2.15.0\n"


def test_compare_needs_both_versions_in_one_folder(built_in, tmp_path, capsys):
    """A version that only a user's folder has, and one that only the built-in folder has: nothing to compare."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "torch_99.0.json").write_text('{"torch": "99.0", "rows": []}')
    assert cli.main(["kinks", "--compare", ledger.versions(built_in)[-1], "99.0", "--ledger", str(folder)]) == 2
    assert "no folder holds ledgers of both torch" in capsys.readouterr().err


def test_compare_needs_no_torch():
    script = (
        "import sys; from gradrace import cli; assert cli.main(['kinks', '--compare', '2.13.0', '2.15.0']) == 0;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
