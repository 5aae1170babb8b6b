"""The loops that solvers share, and how their end points are classified."""

import math

import numpy as np
import pytest
import torch

from gradrace.families import FAMILIES, beale, circle_reparam, lowrank, mse_linear, phase_retrieval
from gradrace.families.descent import Descent, descend, fixed, levenberg_marquardt, newton_like, of_results, together
from gradrace.families.endpoints import KINDS, Landscape, by_newton_step, classify, nowhere, tabulate


def column(*values):
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


# ---- the loop ----


def halving(seen):
    """x/2, which notes the size of the batch that it is given."""

    def step(k, x):
        seen.append(len(x))
        return x.norm(dim=-1) / 2, x / 2

    return step


def test_what_has_ended_is_dropped():
    seen = []
    found = descend(halving(seen), column(16, 1, 4, 0), tolerance=0.5, most=99)
    assert found.iterations.tolist() == [5, 1, 3, 1]
    assert seen == [4, 2, 2, 1, 1]
    assert found.x.flatten().tolist() == [0.5, 0.5, 0.5, 0]
    assert found.stopped.all()


def test_a_step_more_than_the_most_is_not_taken():
    found = descend(halving([]), column(16, 1), tolerance=0.5, most=2)
    assert found.x.flatten().tolist() == [4, 0.5]
    assert found.iterations.tolist() == [2, 1]
    assert found.stopped.tolist() == [False, True]


def test_instances_do_not_mix():
    """√a by Newton, a travelling with the state: each ends as it does alone, after as many steps, to the bit."""
    step = newton_like(lambda x, a: (a / x - x) / 2)
    starts, squares = column(1, 50, 1e-3, 7, 3, 900), column(2, 3, 5, 49, 11, 13)
    together = descend(step, starts, squares, tolerance=1e-12, most=99)
    alone = [descend(step, x[None], a[None], tolerance=1e-12, most=99) for x, a in zip(starts, squares, strict=True)]
    assert torch.allclose(together.x, squares.sqrt(), rtol=1e-14)
    assert torch.equal(together.x, torch.cat([each.x for each in alone]))
    assert torch.equal(together.iterations, torch.cat([each.iterations for each in alone]))
    assert len(set(together.iterations.tolist())) > 2


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_not_finite_keeps_its_last_finite_x_and_has_not_stopped(bad):
    def step(k, x):
        return (x[:, 0] > 0).double(), torch.where(x > 3, bad, x + 1)

    found = descend(step, column(-9, 2), tolerance=0.1, most=99)
    assert found.x.flatten().tolist() == [-8, 4]
    assert found.iterations.tolist() == [1, 3]
    assert found.stopped.tolist() == [True, False]


def test_a_length_that_is_not_a_number_ends_an_instance():
    found = descend(lambda k, x: (x[:, 0] * math.nan, x), column(1), tolerance=1.0, most=9)
    assert (found.iterations.item(), found.stopped.item()) == (1, False)


def test_a_tolerance_may_be_relative():
    found = descend(lambda k, x: (torch.ones(len(x)), x), column(1, 100), tolerance=0.1, most=9, relative=True)
    assert found.stopped.tolist() == [False, True]


def test_the_starts_are_not_written_to():
    starts = column(1, 2)
    descend(halving([]), starts, tolerance=0.6, most=9)
    assert starts.flatten().tolist() == [1, 2]


# ---- Levenberg–Marquardt ----


def exponential(x, t, y):
    """r = x₁ e^(x₂ t) − y and its Jacobian, of each instance."""
    power = torch.exp(x[:, 1:] * t)
    return x[:, :1] * power - y, torch.stack((power, x[:, :1] * t * power), dim=-1)


@pytest.fixture
def curves():
    """Eight exact curves, and starts beside them."""
    generator = torch.Generator().manual_seed(0)
    exact = torch.rand(8, 2, generator=generator, dtype=torch.float64) + torch.tensor([1.0, -2.0])
    t = torch.linspace(0, 2, 12, dtype=torch.float64).repeat(8, 1)
    start = exact + 0.8 * torch.randn(8, 2, generator=generator, dtype=torch.float64)
    return exact, start, t, exact[:, :1] * torch.exp(exact[:, 1:] * t)


def test_levenberg_marquardt_fits_curves_each_as_alone(curves):
    exact, start, *data = curves
    together = levenberg_marquardt(exponential, start, *data, tolerance=1e-12, most=99)
    assert together.stopped.all()
    assert torch.allclose(together.x, exact, atol=1e-10)
    for i in range(len(start)):
        alone = levenberg_marquardt(
            exponential, start[i : i + 1], *(each[i : i + 1] for each in data), tolerance=1e-12, most=99
        )
        assert torch.allclose(alone.x[0], together.x[i], atol=1e-12)


@pytest.mark.parametrize("most", range(1, 8))
def test_levenberg_marquardt_never_climbs(curves, most):
    _, start, *data = curves

    def cost(x):
        return exponential(x, *data)[0].square().sum(-1)

    before = levenberg_marquardt(exponential, start, *data, tolerance=0, most=most, damped=1e-9)
    after = levenberg_marquardt(exponential, start, *data, tolerance=0, most=most + 1, damped=1e-9)
    assert (cost(after.x) <= cost(before.x)).all()


def test_a_point_without_a_residual_is_never_accepted():
    """r = log x − 1 from beyond e²: the undamped step lands below 0, where the residual is NaN."""

    def logarithm(x):
        return x.log() - 1, (1 / x).unsqueeze(-1)

    found = levenberg_marquardt(logarithm, column(8, 50), tolerance=1e-12, most=99, damped=1e-9)
    assert found.stopped.all()
    assert torch.allclose(found.x, column(math.e, math.e), rtol=1e-12)


# ---- end points ----

TILT = 0.2


def to_the_lower_well(x):
    return (x - torch.tensor([-1.0241, 0.0])).norm(dim=-1)


WELLS = Landscape(
    residual=lambda x: (x[:, 0] ** 2 - 1) ** 2 + TILT * x[:, 0] + 1 - x[:, 1].cos(),
    distance=to_the_lower_well,
    critical=by_newton_step(
        lambda x: torch.stack((4 * x[:, 0] * (x[:, 0] ** 2 - 1) + TILT, x[:, 1].sin()), dim=-1),
        lambda x: torch.diag_embed(torch.stack((12 * x[:, 0] ** 2 - 4, x[:, 1].cos()), dim=-1)),
        to_the_lower_well,
    ),
    far=1e3,
)
"""(u² − 1)² + u/5 + 1 − cos v: at v = 0 the lower well at u = −1.0241 is the solution, the other at 0.9740, a saddle
at 0.0501; at v = π the wells are saddles, and what lies between them is a maximum.
"""

POINTS = torch.tensor(
    [
        *([-1.0241, 0], [0.9740, 0], [0.0501, 0], [0.9740, math.pi], [0.0501, math.pi]),
        *([0.5, 0.5], [2e3, 0], [math.inf, 0], [math.nan, 0], [-1.04, 0]),
    ],
    dtype=torch.float64,
)


def test_end_points_are_classified():
    critical = ["solution", "minimum", "saddle", "saddle", "maximum"]
    kinds = [*critical, "unfinished", "infinity", "infinity", "infinity", "unfinished"]
    assert classify(WELLS, POINTS) == kinds
    assert set(kinds) == set(KINDS)
    assert classify(WELLS, POINTS[-1:], close=0.02) == ["solution"]


def test_beside_the_solution_is_no_other_minimum():
    """Newton's step from there is short, and leads to the solution."""
    assert classify(WELLS, torch.tensor([[-1.0256, 0.0]], dtype=torch.float64)) == ["unfinished"]


def test_the_table_has_medians_and_counts():
    found = Descent(POINTS[:3], torch.tensor([4, 9, 5]), torch.tensor([True, True, True]))
    (row,) = tabulate(WELLS, {"mine": found})
    assert (row.solver, row.starts, row.iterations) == ("mine", 3, 5)
    assert row.residual == sorted(WELLS.residual(POINTS[:3]).tolist())[1]
    assert row.distance == WELLS.distance(POINTS[:3])[2]
    assert row.kinds == {"solution": 1, "minimum": 1, "saddle": 1}


def test_a_family_may_have_its_own_notion_of_a_critical_point():
    """Of any shape of x, and none at all where the function is convex."""

    def flat(x, close):
        size = x.flatten(1).norm(dim=-1)
        return (size - 5).abs() <= close, (5 - size).sign()

    kept = Landscape(lambda x: x.sum((1, 2)), lambda x: x.abs().amax((1, 2)), flat, far=100)
    x = torch.tensor([0, 2.5, 2.4999, 2.5001, 1, 50, math.nan]).double()[:, None, None].expand(7, 2, 2)
    assert classify(kept, x) == ["solution", "saddle", "minimum", "maximum", "unfinished", "infinity", "infinity"]
    convex = Landscape(kept.residual, kept.distance, nowhere, far=100)
    assert classify(convex, x) == ["solution", *["unfinished"] * 4, "infinity", "infinity"]


# ---- solvers as descents ----


def test_single_descents_make_a_batch():
    ends = [fixed(torch.full((2,), float(k)), iterations=k, starts=1, stopped=k > 0) for k in range(3)]
    found = together(ends)
    assert found.x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert (found.iterations.tolist(), found.stopped.tolist()) == ([0, 1, 2], [False, True, True])


def test_results_of_scipy_count_their_evaluations():
    class Result(dict):
        x = np.ones(2)

    found = of_results([Result(nfev=7, success=True), Result(nfev=9, success=False)])
    assert (found.iterations.tolist(), found.stopped.tolist()) == ([7, 9], [True, False])
    assert torch.equal(found.x, torch.ones(2, 2).double())


SOLVING = [
    (beale.beale, beale.SOLVERS),
    (circle_reparam.circle_reparam, circle_reparam.SOLVERS),
    (lowrank.lowrank, lowrank.SOLVERS),
    (mse_linear.mse_linear, mse_linear.SOLVERS),
    (phase_retrieval.phase_retrieval, phase_retrieval.SOLVERS),
]


@pytest.mark.parametrize(("family", "solvers"), SOLVING, ids=lambda each: getattr(each, "name", ""))
def test_every_variant_that_solves_takes_part_in_the_race(family, solvers):
    assert list(solvers) == [each.name for each in family.variants if each.computes == "solve"]


def test_every_family_that_solves_has_a_race():
    assert {family.name for family in FAMILIES if "solve" in family.operators} == {family.name for family, _ in SOLVING}
