"""The longer experiments and the sources' figures, at small size: they show what theory says. No time is judged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiment_scripts import script
from gradrace import families
from gradrace.families import hypergradient, lowrank

FIGURES = {
    "retrieval_success": ("retrieval_success",),
    "edge_of_stability": ("edge_of_stability",),
    "hypergradient_modes": ("hypergradient_modes",),
    "source_figures": ("source_beale", "source_descent", "source_soft_threshold", "source_two_faces"),
}
"""The figures of each script."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where the figures of a script lie, which is run once."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            script(name).main(["--small", "--output", str(made[name])])
        return made[name]

    return run


@pytest.fixture
def data(folder_of) -> Callable[..., dict[str, Any]]:
    """The data of a figure, of the script of the same name where none is given."""

    def read(figure: str, name: str | None = None) -> dict[str, Any]:
        return json.loads((folder_of(name or figure) / f"{figure}.json").read_text(encoding="utf-8"))["data"]

    return read


# ---- all of them ----


@pytest.mark.parametrize("name", FIGURES)
def test_a_script_makes_its_figures_and_their_data(name, folder_of):
    folder = folder_of(name)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{figure}.{kind}" for figure in FIGURES[name] for kind in ("json", "png")
    ]
    for figure in FIGURES[name]:
        document = json.loads((folder / f"{figure}.json").read_text(encoding="utf-8"))
        assert document["command"] == f"python benches/experiments/{name}.py --small"
        assert document["environment"]["threads"] == 1
        with Image.open(folder / f"{figure}.png") as image:
            assert image.width == 1050
            assert image.text["Description"] == document["sentence"]
        assert (folder / f"{figure}.png").stat().st_size < 150_000


# ---- phase retrieval ----


@pytest.fixture
def rates(data) -> dict[tuple[float, str, str], Any]:
    Rate = script("retrieval_success").Rate
    found = [Rate(**row) for row in data("retrieval_success")["rates"]]
    return {(rate.equations, rate.start, rate.solver): rate for rate in found}


def no_less(rate: Any, other: Any) -> bool:
    """May the true probability of `rate` be at least that of `other`?"""
    return rate.high >= other.low


def test_more_equations_and_a_better_start_find_the_solution_more_often(rates):
    module = script("retrieval_success")
    for solver in module.SOLVERS:
        for start in module.STARTS:
            curve = [rates[equations, start, solver] for equations in module.SMALL.ratios]
            assert all(no_less(more, fewer) for fewer, more in pairwise(curve))
            assert curve[-1].low > curve[0].high
        for equations in module.SMALL.ratios:
            assert no_less(rates[equations, "spectral", solver], rates[equations, "random", solver])


def test_newton_finds_it_less_often_than_gauss_newton_and_that_as_often_as_levenberg_marquardt(rates):
    for equations, start in {key[:2] for key in rates}:
        newton, gauss, damped = (rates[equations, start, each] for each in script("retrieval_success").SOLVERS)
        assert no_less(gauss, newton)
        assert no_less(gauss, damped)
        assert no_less(damped, gauss)
    # Where the difference is largest it is beyond chance.
    assert rates[5, "random", "Newton"].high < rates[5, "random", "Gauss–Newton"].low


def test_near_the_solution_both_methods_are_of_second_order(data):
    assert data("retrieval_success")["orders"] == pytest.approx({"Newton": 2, "Gauss–Newton": 2}, abs=0.15)
    assert script("retrieval_success").order([10.0**-k for k in (1, 3, 9)]) == pytest.approx(3)


def test_hessians_are_timed_against_the_closed_form_with_intervals(data):
    module, found = script("retrieval_success"), data("retrieval_success")
    assert len(found["ratios"]) == len(module.SMALL.unknowns) * (len(module.HESSIANS) - 1)
    assert all(row["low"] <= row["ratio"] <= row["high"] for row in found["ratios"])
    flops = found["flops"]
    for name in ("torch.func.hessian", "jacfwd of the gradient", "autograd.functional.hessian"):
        # Twice the products of the closed form, and a few with single vectors, which show at n = 10.
        assert flops[name] / flops[module.CLOSED] == pytest.approx(2, abs=4 / min(module.SMALL.unknowns))


# ---- the edge of stability ----


def test_descent_comes_to_the_limit_of_eckart_and_young(data):
    found = data("edge_of_stability")
    limits = found["least_loss_of_rank"]
    assert limits == pytest.approx({"0": 681.3706, "1": 51.3625858, "2": 15.2046443594}, rel=1e-9, abs=1e-4)
    losses = {path["step"]: np.array(path["loss"], dtype=float) for path in found["paths"]}
    for loss in losses.values():
        assert np.nanmin(loss) >= limits["2"] * (1 - 1e-9)
    assert losses[0.015][-1] == pytest.approx(limits["2"], abs=1e-8)
    # The slow one still stands at the saddle.
    assert losses[0.001][-1] == pytest.approx(limits["1"], abs=0.2)


def test_a_larger_step_comes_nearer_until_none_arrives(data):
    module, found = script("edge_of_stability"), data("edge_of_stability")
    gaps = {
        row["step"]: [math.inf if gap is None else gap for gap in row["starts"]] for row in found["above_the_limit"]
    }
    assert np.median(gaps[0.005]) > 1
    assert np.median(gaps[0.015]) < 1e-9
    assert 1 / (2 * found["sigma1"]) < 0.021
    assert min(gaps[0.021]) > module.ARRIVED


def test_descent_settles_where_the_sharpness_is_below_two_over_the_step(data):
    found = data("edge_of_stability")
    for path in found["paths"]:
        first, last = path["sharpness"][0], path["sharpness"][-1]
        if path["step"] in (0.01, 0.015):
            assert first > 2 / path["step"] > last
            assert last >= 4 * found["sigma1"] * (1 - 1e-6)


def test_the_flattest_minimum_is_the_balanced_one():
    module = script("edge_of_stability")
    here = module.table()
    U, sigma, Vt = torch.linalg.svd(here.A, full_matrices=False)
    for gauge in (1.0, 2.0):
        W = torch.cat((U[:, :2] * sigma[:2].sqrt() * gauge, Vt[:2].mT * sigma[:2].sqrt() / gauge))
        assert float(lowrank.mse_loss(W, here.A)) == pytest.approx(here.limit)
        largest = 2 * here.sigma1 * (gauge**2 + gauge**-2)
        assert module.sharpness(W, here.A) == pytest.approx(largest)
    assert module.sharpness(torch.full_like(W, math.inf), here.A) == math.inf


def test_solvers_end_on_beale_where_theory_has_them(data):
    walks = {walk["solver"]: walk for walk in data("edge_of_stability")["walks"]}
    assert {solver: walk["kind"] for solver, walk in walks.items()} == {
        "Newton": "saddle",
        "L.–M., damping 0.001": "infinity",
        "L.–M., damping 1": "solution",
        "Adam": "solution",
    }
    assert walks["Newton"]["iterations"] == 6
    assert walks["Newton"]["end"] == pytest.approx([0, 1], abs=1e-9)
    assert walks["Adam"]["iterations"] == pytest.approx(725, abs=2)
    ends = {row["solver"]: row["kinds"] for row in data("edge_of_stability")["ends_of_all_solvers"]}
    assert ends["scipy_least_squares"] == {"infinity": 1}


# ---- forward and reverse ----


def test_reverse_mode_takes_the_same_work_for_any_number_of_inputs_and_forward_mode_a_pass_for_each(data):
    module = script("hypergradient_modes")
    counted = {(row["n"], row["what"]): row["operations"] for row in data("hypergradient_modes")["modes"]}
    reverse = {counted[n, "reverse"] for n in module.SMALL.inputs}
    assert len(reverse) == 1
    assert max(reverse) < 5
    for n, twice in pairwise(module.SMALL.inputs):
        assert counted[twice, "forward"] / counted[n, "forward"] == pytest.approx(2, rel=0.02)


def test_the_work_of_hypergradients_grows_as_theory_says(data):
    """The exponents at T = 16, where lower terms still bend those of the product."""
    found = {row["what"]: row["exponents"] for row in data("hypergradient_modes")["growths"]}
    operations = {what: exponents["operations"] for what, exponents in found.items()}
    for what in ("T forward passes", "product of HVPs"):
        assert operations.pop(what) == pytest.approx(2, abs=0.25)
    assert operations == pytest.approx(dict.fromkeys(operations, 1), abs=0.2)
    memory = {"adjoint": 1, "unrolled": 1, "checkpointed": 0.5, "one pass, common η": 0, "T forward passes": 0}
    assert {what: found[what]["bytes"] for what in memory} == pytest.approx(memory, abs=0.15)


def test_a_wrong_hypergradient_is_not_counted():
    module = script("hypergradient_modes")
    eta, start = torch.full((5,), 0.05, dtype=torch.float64), torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    exact = hypergradient.adjoint(eta, start, "ring")[1][0]
    module.check(module.single_pass(eta, start, "ring"), exact)
    with pytest.raises(AssertionError):
        module.check(hypergradient.greedy(eta, start, "ring"), exact)


# ---- the sources' figures ----


def test_the_soft_threshold_is_flat_between_its_kinks_and_rises_beyond(data):
    found = data("source_soft_threshold", "source_figures")
    y, value, slope = (np.array(found[name]) for name in ("y", "value", "slope"))
    beyond = np.abs(y) > found["T"]
    assert len(y) == 201
    assert np.array_equal(slope, beyond)
    assert np.allclose(value, np.sign(y) * np.maximum(np.abs(y) - found["T"], 0), atol=1e-5)
    assert all(0 <= answer <= 1 for each in found["at_kinks"].values() for answer in each)
    assert found["at_kinks"]["softshrink"] == [0, 0]
    assert found["at_kinks"]["sign · maximum"] == [0.5, 0.5]


def test_two_faces_part_at_zero_alone(data):
    faces = data("source_two_faces", "source_figures")["faces"]
    assert [each["slope_at_zero"] for each in faces] == [0, 2, 0, 2]
    assert all(each["slope_elsewhere"] == [2] for each in faces)


def test_adams_path_is_the_homeworks(data):
    found = data("source_beale", "source_figures")
    assert found["steps"] == pytest.approx(725, abs=2)
    assert found["end"] == pytest.approx([2.99999665, 0.49999916], abs=1e-7)
    assert found["path"][:1] == [[0.7, 1.4]]
    points = script("source_figures").adam_path().points
    assert points[[1, 10, 100]].ravel() == pytest.approx(
        [0.6, 1.3, 0.12385315, 0.61973475, 2.68040308, 0.41600982], abs=1e-7
    )


def test_descents_end_where_the_notes_have_them(data):
    finals = [orbit["final"] for orbit in data("source_descent", "source_figures")["orbits"]]
    assert [final[-1] for final in finals[:2]] == pytest.approx([4.499998, 4.500002], abs=1e-6)
    assert sorted(finals[2]) == pytest.approx([-3.29595926, -2.85507], abs=1e-5)
    due = [-3.1216740269, -3.1182930066, -1.5404819697, -1.2083705081, -0.1211516193]
    assert [final[-1] for final in finals[3:]] == pytest.approx(due, abs=1e-5)


# ---- where solvers end ----


@pytest.fixture(scope="module")
def endings(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("solver_endpoints")
    script("solver_endpoints").main(["--small", "--output", str(folder)])
    assert [path.name for path in folder.iterdir()] == ["solver_endpoints.json"]
    return json.loads((folder / "solver_endpoints.json").read_text(encoding="utf-8"))


def test_every_family_has_a_row_for_each_solver(endings):
    assert endings["command"] == "python benches/experiments/solver_endpoints.py --small"
    assert endings["environment"]["threads"] == 1
    assert {"processor", "torch", "commit"} <= endings["environment"].keys()
    due = {family: set(getattr(families, family).SOLVERS) for family in ("lowrank", "phase_retrieval", "mse_linear")}
    due |= {"circle_reparam": set(families.circle_reparam.SOLVERS)}
    due |= {"gd_1d": {each.__name__ for each in families.gd_1d.DESCENTS}}
    found: dict[str, set[str]] = {}
    for row in endings["rows"]:
        found.setdefault(row["family"], set()).add(row["solver"])
        assert sum(row["kinds"].values()) == row["starts"]
    assert found == due


def test_what_is_direct_ends_at_the_solution_from_everywhere(endings):
    direct = [row for row in endings["rows"] if row["iterations"] <= 1]
    assert {row["solver"] for row in direct} == {
        *("svd", "svd_lowrank", "subspace_iteration", "eigh_of_gram", "eigh", "jacobi_angle", "jacobi_angle_in_numpy"),
        *("cholesky_preconditioner", "normal_equations", "normal_equations_lapack", "lstsq"),
    }
    assert all(row["kinds"] == {"solution": row["starts"]} and row["distance"] < 1e-12 for row in direct)


def test_descents_end_where_their_steps_let_them(endings):
    rows = {(row["from"], row["solver"]): row for row in endings["rows"]}
    assert rows["cosine, notes", "backward"]["kinds"] == {"minimum": 3, "unfinished": 2}
    assert rows["absolute, notes", "closed_orbit"]["kinds"] == {"solution": 2}
    assert rows["normal", "harmonic"]["kinds"] == {"unfinished": 3}
    assert rows["uniform", "newton"]["kinds"].keys() == {"solution", "maximum"}
    assert rows["Iris, uniform", "descent_sgd"]["kinds"] == rows["Iris, uniform", "descent_autograd"]["kinds"]
    assert rows["random", "newton"]["kinds"]["minimum"] > 0


def test_the_starts_on_iris_are_the_published_ones():
    W, rng = script("solver_endpoints").published(3), np.random.RandomState(3)
    assert np.array_equal(W[:150], rng.rand(150, 2))
    assert np.array_equal(W[150:].T, rng.rand(2, 4))


def test_a_median_that_is_not_finite_is_written_as_none():
    module = script("solver_endpoints")
    row = module.Row("mine", 2, 1.0, math.nan, math.inf, {"infinity": 2})
    (written,) = module.as_json({("family", "start"): [row]})
    assert (written["residual"], written["distance"], written["kinds"]) == (None, None, {"infinity": 2})
