"""The experiments' figures: each shows the mathematics that its sentence says, and is made again the same."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image

from experiment_scripts import script
from gradrace import ledger
from gradrace.ledger import BUILT_IN

MEASURED = {
    "kink_atlas": lambda module: module.read(),
    "phantom_gradient": lambda module: module.measure(module.SMALL_STEPS),
    "tanh_cliff": lambda module: [module.measure(dtype, module.SMALL_POINTS) for dtype in module.REACH],
    "smaller_step": lambda module: module.measure(module.SMALL_STEPS),
    "exploding_mean": lambda module: module.measure(module.SMALL_PATHS),
}


@cache
def measured(name: str) -> Any:
    return MEASURED[name](script(name))


@pytest.fixture
def atlas() -> Any:
    return measured("kink_atlas")


@pytest.fixture
def phantoms() -> Any:
    return measured("phantom_gradient")


@pytest.fixture
def cliffs() -> dict[str, Any]:
    return {cliff.dtype: cliff for cliff in measured("tanh_cliff")}


@pytest.fixture
def ends() -> Any:
    return measured("smaller_step")


@pytest.fixture
def explosion() -> Any:
    return measured("exploding_mean")


# ---- all of them ----


@pytest.mark.parametrize("name", MEASURED)
def test_an_experiment_makes_a_figure_and_its_data_the_same_each_time(name, tmp_path, capsys):
    settings, folder = dict(matplotlib.rcParams), tmp_path / "made" / "here"
    script(name).main(["--small", "--output", str(folder)])
    assert sorted(path.name for path in folder.iterdir()) == [f"{name}.json", f"{name}.png"]
    assert dict(matplotlib.rcParams) == settings

    document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    again = script(name).as_json(measured(name))
    assert document["data"] == json.loads(json.dumps(again))
    assert document["command"] == f"python benches/experiments/{name}.py --small"
    assert {"processor", "cores", "system", "python", "numpy", "commit"} <= document["environment"].keys()
    assert capsys.readouterr().out == f"{document['sentence']}\n"

    with Image.open(folder / f"{name}.png") as image:
        assert image.format == "PNG"
        assert image.width == 1050
        assert image.text["Description"] == document["sentence"]
    assert (folder / f"{name}.png").stat().st_size < 130_000


def test_an_output_that_is_a_file_is_refused(tmp_path, capsys):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SystemExit) as refused:
        script("kink_atlas").main(["--output", str(path)])
    assert refused.value.code == 2
    assert "cannot be a folder" in capsys.readouterr().err


def test_few_points_are_no_result(monkeypatch, tmp_path):
    monkeypatch.setattr(script("figure"), "ROOT", tmp_path)
    assert script("figure").parse("", []).output == tmp_path / "results"
    assert script("figure").parse("", ["--small"]).output == tmp_path / "build" / "experiments"


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    figure = script("figure")
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        figure._write_bytes(tmp_path / "a.png", b"whole")
    assert list(tmp_path.iterdir()) == []


def test_documents_are_json_and_have_a_row_on_a_line():
    document = {"a": 1, "b": {"rows": [{"x": [1, 2]}, {"x": []}], "empty": {}}, "c": [[1.5, None], ["ü", True]]}
    text = script("figure").in_lines(document)
    assert json.loads(text) == document
    assert '   {"x": [1, 2]},\n' in text


def test_numbers_are_written_shortly():
    figure = script("figure")
    assert [figure.short(number) for number in (0.1875, 4.88e-7, 12.0)] == ["0.19", "4.9e-7", "12"]
    assert [figure.power_of_ten(exponent) for exponent in (29.9, -66.2)] == ["10³⁰", "10⁻⁶⁶"]
    assert figure.rounded([1.23456789, math.nan, -math.inf], 3) == [1.23, None, None]


# ---- the kink atlas ----


def test_the_atlas_has_every_kink_of_the_ledger(atlas):
    module = script("kink_atlas")
    shown = {(block.family, point) for block in (*module.LEFT, *module.RIGHT) for point in block.points}
    rows = ledger.read(BUILT_IN, atlas.versions[-1])
    assert shown == {(row.family, row.point) for row in rows if row.point != "nan"}
    assert atlas.versions == tuple(ledger.versions(BUILT_IN))


def test_what_moved_is_what_the_ledgers_differ_in(atlas):
    module = script("kink_atlas")
    for i, (old, new) in enumerate(zip(atlas.versions, atlas.versions[1:], strict=False)):
        found = ledger.differences(ledger.read(BUILT_IN, old), ledger.read(BUILT_IN, new))
        derivatives = {each.id for each in found if set(each.columns) & set(module.DERIVATIVES)}
        due = {id.split("/")[1] for id in derivatives if not id.endswith("/nan")}
        assert {line.formulation for line in atlas.lines if line.moved[i]} == due


def test_clamps_and_fmax_moved_with_torch_2_15(atlas):
    step = atlas.versions.index("2.15.0") - 1
    moved = {
        line.formulation: [entries[step : step + 2] for entries in line.entries.values()]
        for line in atlas.lines
        if line.moved[step]
    }
    assert moved == {
        **{name: [(1, 0), (1, 0)] for name in ("clamp", "clamp_min", "clamp_clamp", "sign_clamp")},
        "y_minus_clamp": [(0, 1), (0, 1)],
        "clamp_plus_clamp": [(4, 0), (4, 0)],
        "fmax": [(1, 0.5), (0, 0.5)],
        "fmax_zero_first": [(0, 0.5), (1, 0.5)],
    }


def test_a_compiled_mode_is_left_out_where_it_answers_as_the_eager_one(atlas):
    assert (atlas.modes, atlas.twins) == (("reverse", "forward"), ("compiled_reverse", "compiled_forward"))
    module = script("kink_atlas")
    line = module.Line("", "", None, {"reverse": (1.0,), "compiled_reverse": (0.0,), "forward": ("nan",)})
    assert not module._is_twin("compiled_reverse", [line])
    assert not module._is_twin("reverse", [line])
    silent = replace(line, entries={**line.entries, "compiled_reverse": (None,) * len(line.entries["reverse"])})
    assert not module._is_twin("compiled_reverse", [silent])


def test_the_answers_for_2x_are_named_in_order(atlas):
    assert "2x is answered with −3, 0, 1, 2, 4, nan," in script("kink_atlas").word(atlas)


def test_what_is_no_derivative_is_marked(atlas):
    invalid = {
        (line.block, line.formulation)
        for line in atlas.lines
        if any(line.is_invalid(entry) for entries in line.entries.values() for entry in entries)
    }
    assert len([block for block, _ in invalid if block.startswith("2x at 0")]) == 8
    assert ("max(x, 0) at 0", "mean_with_root") in invalid
    assert ("|x| at 0", "where_gt") not in invalid


# ---- the phantom gradient ----


def test_the_phantom_grows_as_the_steps(phantoms):
    slopes = phantoms.slopes[np.isfinite(phantoms.slopes)]
    assert len(slopes) == 9
    assert abs(np.median(slopes) - 1) < 0.2
    assert ((slopes > 0.5) & (slopes < 1.5)).all()


def test_divided_by_the_law_the_phantoms_are_one_level(phantoms):
    """Over more than twelve decades of n u cond(A)."""
    lost, constants = phantoms.lost[phantoms.valid], phantoms.constant[phantoms.valid]
    assert math.log10(lost.max() / lost.min()) > 12
    assert constants.min() > 0.01
    assert constants.max() < 1
    # Without the condition in the law there is no level.
    without = phantoms.constant * np.array(script("phantom_gradient").CONDITIONS)
    assert without[phantoms.valid].max() / without[phantoms.valid].min() > 1e4


def test_the_phantom_reaches_the_true_gradient_in_float32_alone(phantoms):
    assert phantoms.ratio[0, -1, -1] > 0.1
    assert phantoms.ratio[1].max() < 1e-7


def test_slopes_constant_and_crossings_are_those_of_a_law_that_is_known(phantoms):
    """0.1 n u cond(A) times terms of 2, beside a true gradient of 1 everywhere."""
    ones = np.ones(phantoms.terms.shape)
    planted = replace(phantoms, phantom=0.2 * phantoms.lost[..., None] * ones, gradient_x=ones, terms=2 * ones)
    assert np.allclose(planted.constant, 0.1)
    assert np.allclose(planted.slopes[np.isfinite(planted.slopes)], 1)
    # 0.2 · 300 · 2⁻²⁴ · 10⁶ is 3.6, and 0.2 · 100 · 2⁻²⁴ · 10⁶ is 1.2.
    assert planted.crossings == {1e6: 100}


def test_the_loop_of_all_problems_is_the_loop_of_each():
    import torch

    from gradrace.families import sandwich

    module = script("phantom_gradient")
    problems = [module.problem(condition, 0) for condition in (10.0, 1000.0)]
    # In float64 its noise is of the same size, alone and together; not the same, since rounding is not.
    together = module.phantoms(problems, "float64", 30)
    for numbers, found in zip(problems, together, strict=True):
        x, A, M = (torch.tensor(numbers[name]) for name in "xAM")
        A.requires_grad_()
        value = sandwich.objective(sandwich.wasteful(x, A, M, sandwich.THRESHOLD, 30), x)
        alone = torch.autograd.grad(value, A)[0].norm().item()
        assert found / 30 < alone < 30 * found


# ---- the cliff ----


@pytest.mark.parametrize(("dtype", "edge"), [("float32", 9.011), ("float64", 19.062)])
def test_the_cliff_is_where_tanh_rounds_to_one(cliffs, dtype, edge):
    cliff = cliffs[dtype]
    assert cliff.edge == pytest.approx(edge, abs=1e-3)
    spacing = cliff.centres[1] - cliff.centres[0]
    for name in ("tanh", "one_minus_square", "factored"):
        assert cliff.gone[name] == pytest.approx(edge, abs=spacing)
        assert (cliff.errors[name][cliff.centres > edge + spacing] == 1).all()
    # σ(2x) rounds to 1 half an ulp below 1, which is half as wide: a factor 4 in e^(2x) earlier.
    assert cliff.gone["sigmoid"] == pytest.approx(edge - math.log(4) / 2, abs=spacing)


def test_before_the_cliff_the_error_follows_the_law(cliffs):
    for cliff in cliffs.values():
        inside = (cliff.centres > 2) & (cliff.centres < cliff.edge - 1)
        x, errors = cliff.centres[inside], cliff.errors["tanh"][inside]
        assert np.polyfit(x, np.log(errors), 1)[0] == pytest.approx(2, abs=0.1)
        assert (errors / cliff.law[inside]).max() < 4
        assert (errors / cliff.law[inside]).min() > 0.25


def test_formulations_that_start_from_x_keep_every_digit(cliffs):
    for cliff in cliffs.values():
        assert set(cliff.lost) == {"tanh", "one_minus_square", "factored", "sigmoid"}
        assert len(cliff.kept) == 6
        for name in cliff.kept:
            assert cliff.gone[name] is None
            # Rounding a logarithm of 2x moves what it is the logarithm of by 2x u.
            most = 8 + (2 * cliff.centres if name == "log_domain" else 0)
            assert (cliff.errors[name] <= most * cliff.unit).all()


# ---- the smaller step ----


def test_plain_descents_stall_on_the_line(ends):
    module = script("smaller_step")
    for dtype, least in (("bfloat16", 6), ("float32", 10), ("float64", 8)):
        on, errors = ends.on_the_line(dtype), ends.errors[dtype]["plain"]
        assert on.sum() >= least
        assert (errors[on] <= module.line(dtype)[on]).all()
        # An ulp, and 2 of them where half an ulp is one of the slope's.
        assert (errors[on] >= module.line(dtype)[on] - module.ulp(dtype)).all()


def test_a_smaller_step_is_a_worse_answer(ends):
    """Exactly as 1/η from a power of two to the next."""
    for dtype in ("float32", "float64"):
        module = script("smaller_step")
        powers = np.log2(module.RATES) == np.round(np.log2(module.RATES))
        errors = ends.errors[dtype]["plain"][ends.on_the_line(dtype) & powers]
        assert len(errors) > 3
        assert (errors[:-1] == 2 * errors[1:]).all()


def test_before_the_line_is_the_error_of_the_iteration(ends):
    for dtype in ("float32", "float64"):
        module = script("smaller_step")
        before = ends.iteration > 10 * module.line(dtype)
        assert before.sum() > 10
        assert np.allclose(ends.errors[dtype]["plain"][before], ends.iteration[before], rtol=0.1)


def test_compensation_is_the_cure(ends):
    module = script("smaller_step")
    for dtype in ("float32", "float64"):
        arrived = ends.iteration < module.ulp(dtype) / 4
        assert arrived.sum() > 8
        assert (ends.errors[dtype]["compensated"][arrived] == 0).all()
    # In bfloat16 what is carried stalls as well, a unit roundoff further down.
    law = module.compensated_line("bfloat16")
    carried = np.isfinite(law) & (ends.iteration < law)
    assert (ends.errors["bfloat16"]["compensated"][carried] <= law[carried]).all()


def test_the_notes_own_run_is_on_the_line(ends):
    assert 4.5 - ends.notes == pytest.approx(4.499998, abs=5e-7)
    law = 2**-21 / (4 * 0.05)
    assert law - 2**-21 <= ends.notes <= law


# ---- the exploding mean ----


def test_the_theory_rises_and_every_path_falls(explosion):
    assert 10 ** explosion.theory[-1] == pytest.approx(8.84e29, rel=5e-4)
    assert explosion.paths.shape == (200, 201)
    assert explosion.paths[:, -1].max() < -60
    assert explosion.sampled[-1] < explosion.paths[:, -1].max()
    assert explosion.missed > 90


def test_the_paths_fall_as_their_exponent(explosion):
    module = script("exploding_mean")
    q = module.exponent(0.95, module.H)
    spread = np.log(np.abs(1 - 0.95 * np.array(module.H))).std() / math.sqrt(200 * 200)
    assert abs(explosion.paths[:, -1].mean() * math.log(10) / 400 - q) < 5 * spread


def test_each_convergence_ends_at_its_threshold(explosion):
    module = script("exploding_mean")
    assert np.allclose(explosion.ends, (1.0, 0.857143, 1.245244), atol=5e-7)
    due = {"E w": explosion.ends.mean, "E w²": explosion.ends.mean_square, "almost every path": explosion.ends[2]}
    for name, end in due.items():
        away = np.abs(module.ETAS - end) > 1e-9
        assert ((explosion.rates[name] < 0) == (end > module.ETAS))[away].all()


def test_a_sampled_mean_lies_between_the_paths_and_the_theory(explosion):
    module = script("exploding_mean")
    theory = np.interp(module.SAMPLED, module.ETAS, explosion.rates["E w²"])
    paths = [module.exponent(eta, module.H) / math.log(10) for eta in module.SAMPLED]
    assert (explosion.sampled_rates < theory + 0.01).all()
    assert (explosion.sampled_rates < theory - 0.05)[module.SAMPLED > 0.5].all()
    assert (explosion.sampled_rates > np.array(paths)).all()


def test_so_many_paths_carry_the_mean():
    """A second route: the probability of all counts of draws whose w² are the largest and make up half of E w²."""
    from scipy.stats import multinomial

    module = script("exploding_mean")
    factors = np.abs(1 - module.ETA * np.array(module.H))
    counts = np.array([(a, b, 200 - a - b) for a in range(30) for b in range(201 - a)])
    log_probability = multinomial.logpmf(counts, 200, np.full(3, 1 / 3))
    log_square = 2 * counts @ np.log(factors)
    share = np.exp(log_probability + log_square - module.STEPS * math.log(np.mean(factors**2)))
    assert share.sum() == pytest.approx(1, abs=1e-9)
    largest = np.argsort(log_square)[::-1]
    carriers = largest[: np.searchsorted(share[largest].cumsum(), 0.5)]
    assert -np.logaddexp.reduce(log_probability[carriers]) / math.log(10) == pytest.approx(module.paths_needed(), abs=2)
