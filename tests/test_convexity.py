"""Convex sets and functions, the descent lemma, and families judged by their own gradients, as properties.

What is convex must hold on all that is drawn; what is not must be caught, or the property could not fail.

Source: the numerical optimization notes of Z. Xu, sections 1.3 and 1.4 (its positive semidefinite matrices have
xᵀAx ≤ 0, where ≥ is meant); ECE 046211 homework 1, question 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian

from gradrace.cases import all_cases
from gradrace.families import two_faces
from gradrace.families.beale import literal_powers
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import name_outputs, prepare

pytest.importorskip("hypothesis", reason="comes with the extra `test`")
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

SLACK = 1e-12
"""Rounding errors, relative to the largest number of a comparison."""


def numbers_of(seed, count=9):
    """Between −3 and 3, about a third of them whole, so that zeros and ties are hit."""
    rng = np.random.default_rng(seed)
    numbers = rng.uniform(-3, 3, count)
    return np.where(rng.random(count) < 1 / 3, np.round(numbers), numbers)


SEED = st.integers(0, 2**32 - 1)

RAW = SEED.map(numbers_of)
"""Of which each set and each function makes a point of its own. One draw a point: a draw for each number takes
seconds."""

SHARE = st.floats(0, 1, allow_subnormal=False)

properties = settings(max_examples=25)


def counterexample(strategy, breaks):
    """A drawn example that breaks a property. Raises hypothesis.errors.NoSuchExample where none is found."""
    search = settings(properties, max_examples=2000, phases=[Phase.generate])
    return find(strategy, breaks, settings=search, random=random.Random(0))


# ---- sets ----


@dataclass(frozen=True)
class Region:
    """A set: its point for any nine numbers, and whether a point is in it."""

    point: Callable[[np.ndarray], np.ndarray]
    contains: Callable[[np.ndarray], bool]


def of_gauge(gauge):
    """{x : gauge(x) ≤ 1}, for a gauge that scales with x."""
    return Region(lambda raw: raw / max(1.0, gauge(raw)), lambda x: gauge(x) <= 1 + SLACK)


def spectral(point, holds):
    """Symmetric 3 × 3 matrices by what holds of their eigenvalues, which round in units of the largest one."""

    def contains(matrix):
        values = np.linalg.eigvalsh(matrix)
        return np.array_equal(matrix, matrix.T) and holds(values, SLACK * np.abs(values).max())

    return Region(lambda raw: point(raw.reshape(3, 3) @ raw.reshape(3, 3).T), contains)


RNG = np.random.default_rng(0)
ROWS, BOUNDS = RNG.standard_normal((4, 9)), RNG.uniform(0.5, 2, 4)
NULL_SPACE = np.linalg.svd(ROWS)[2][4:].T
ON_PLANE = np.linalg.lstsq(ROWS, BOUNDS, rcond=None)[0]
EYE, E1 = np.eye(3), np.eye(9)[0]


def norm(p):
    return lambda x: float(np.linalg.norm(x, p))


BALL, POLYHEDRON = of_gauge(norm(2)), of_gauge(lambda x: float((ROWS @ x / BOUNDS).max()))

CONVEX_SETS = {
    "all of R^n": Region(lambda raw: raw, lambda x: bool(np.isfinite(x).all())),
    "the non-negative orthant": Region(np.abs, lambda x: bool((x >= 0).all())),
    "the 1-norm ball": of_gauge(norm(1)),
    "the 2-norm ball": BALL,
    "the maximum-norm ball": of_gauge(norm(np.inf)),
    "an affine set": Region(lambda raw: ON_PLANE + NULL_SPACE @ raw[:5], lambda x: np.allclose(ROWS @ x, BOUNDS)),
    "a polyhedron": POLYHEDRON,
    "positive semidefinite matrices": spectral(lambda S: S, lambda values, rounding: values[0] >= -rounding),
    "positive definite matrices": spectral(lambda S: S + 0.1 * EYE, lambda values, _: values[0] > 0),
    "negative semidefinite matrices": spectral(lambda S: -S, lambda values, rounding: values[-1] <= rounding),
    "negative definite matrices": spectral(lambda S: -S - 0.1 * EYE, lambda values, _: values[-1] < 0),
    "the intersection of a ball, a polyhedron and an orthant": Region(
        lambda raw: POLYHEDRON.point(np.abs(raw)) / max(1.0, norm(2)(raw)),
        lambda x: BALL.contains(x) and POLYHEDRON.contains(x) and bool((x >= 0).all()),
    ),
}

OTHER_SETS = {
    "the union of two balls": Region(
        lambda raw: BALL.point(raw) + np.copysign(2, raw[0]) * E1,
        lambda x: BALL.contains(x - 2 * E1) or BALL.contains(x + 2 * E1),
    ),
    "a sphere": Region(lambda raw: raw / norm(2)(raw) if raw.any() else E1, lambda x: abs(norm(2)(x) - 1) <= SLACK),
    "matrices of rank one": spectral(
        lambda S: np.outer(S[0], S[0]), lambda values, rounding: bool((np.abs(values[:-1]) <= rounding).all())
    ),
    "integers": Region(np.round, lambda x: bool((x == np.round(x)).all())),
}

SEGMENT = st.tuples(RAW, RAW, SHARE)


def stays(region, segment):
    """Is θ x + (1 − θ) y in the set?"""
    first, second, share = segment
    return region.contains(share * region.point(first) + (1 - share) * region.point(second))


@pytest.mark.parametrize("name", [*CONVEX_SETS, *OTHER_SETS])
@properties
@given(raw=RAW)
def test_points_lie_in_their_set(name, raw):
    region = {**CONVEX_SETS, **OTHER_SETS}[name]
    assert region.contains(region.point(raw))


@pytest.mark.parametrize("name", CONVEX_SETS)
@properties
@given(segment=SEGMENT)
def test_a_convex_set_holds_the_segment_between_its_points(name, segment):
    assert stays(CONVEX_SETS[name], segment)


@pytest.mark.parametrize("name", OTHER_SETS)
def test_a_set_that_is_not_convex_is_caught(name):
    """The union of convex sets is one of them: from one ball to the other the way leads outside."""
    counterexample(SEGMENT, lambda segment: not stays(OTHER_SETS[name], segment))


# ---- functions ----

F = RNG.standard_normal((3, 3))
POSITIVE = torch.from_numpy(F @ F.T)
INDEFINITE = POSITIVE - 2 * torch.eye(3)
SLOPE = torch.from_numpy(RNG.standard_normal(3))


def quadratic(matrix):
    return lambda x: x @ matrix @ x / 2 + SLOPE @ x + 1


SMOOTH = {
    "e^(ax), a = 2": lambda x: torch.exp(2 * x[0]),
    "e^(ax), a = -1": lambda x: torch.exp(-x[0]),
    "-log": lambda x: -torch.log(x[0]),
    "affine": lambda x: SLOPE @ x + 1,
    "minus affine": lambda x: -(SLOPE @ x + 1),
    "quadratic": quadratic(POSITIVE),
    "the squared norm": lambda x: x @ x,
    "log sum exp": lambda x: torch.logsumexp(x, 0),
    "a sum of weights 2, 0, 1/2": lambda x: 2 * torch.exp(x[1]) - 0 * torch.tanh(x[0]) + quadratic(POSITIVE)(x) / 2,
}

KINKED = {
    "the 1-norm": lambda x: x.abs().sum(),
    "the 2-norm": lambda x: torch.linalg.vector_norm(x),
    "the maximum norm": lambda x: x.abs().max(),
    "|x| + (x - 5)^2": lambda x: x[0].abs() + (x[0] - 5) ** 2,
}

NOT_CONVEX = {
    "log": lambda x: torch.log(x[0]),
    "tanh": lambda x: torch.tanh(x[0]),
    "x cos 4x + 2|x|": lambda x: x[0] * torch.cos(4 * x[0]) + 2 * x[0].abs(),
    "an indefinite quadratic": quadratic(INDEFINITE),
    "a sum with a negative weight": lambda x: torch.exp(x[1]) - 2 * (x @ x),
    "minus the 2-norm": lambda x: -torch.linalg.vector_norm(x),
    "Beale's function": lambda x: literal_powers(x[:2]),
}

LOGARITHMS = {"log", "-log"}


def point_of(name, raw):
    """A point of the function's domain: the line of positive numbers for a logarithm, else all of R³."""
    return np.abs(raw[:3]) + 0.01 if name in LOGARITHMS else raw[:3]


def value_and_gradient(function):
    """x -> f(x), ∇f(x) by autograd."""

    def at(x):
        leaf = torch.from_numpy(x).clone().requires_grad_()
        value = function(leaf)
        return value.item(), torch.autograd.grad(value, leaf, materialize_grads=True)[0].numpy()

    return at


# Each property is a number that is not negative for a convex f, and the largest number that it is made of.


def jensen(oracle, points, weights):
    """Σ w_i f(x_i) − f(Σ w_i x_i)."""
    values = np.array([oracle(x)[0] for x in points])
    middle = oracle(np.einsum("i,ij->j", weights, np.stack(points)))[0]
    return weights @ values - middle, max(np.abs(values).max(), abs(middle))


def above_tangent(oracle, x, y):
    """f(y) − f(x) − ∇f(x)·(y − x)."""
    (at_x, slope), at_y = oracle(x), oracle(y)[0]
    return at_y - at_x - slope @ (y - x), max(abs(at_x), abs(at_y), np.abs(slope).max() * np.abs(y - x).sum())


def least_curvature(function, x):
    """λ_min(∇²f(x))."""
    values = np.linalg.eigvalsh(hessian(function, torch.from_numpy(x)).numpy())
    return values[0], np.abs(values).max()


def holds(gap):
    margin, scale = gap
    return margin >= -10 * SLACK * (1 + scale)


def fails(gap):
    """By more than any rounding."""
    margin, scale = gap
    return margin < -1e-6 * (1 + scale)


def mixture_of(seed):
    """Two to five points, and weights that sum to one."""
    rng = np.random.default_rng(seed)
    points = [numbers_of(rng) for _ in range(rng.integers(2, 6))]
    return points, rng.dirichlet(np.ones(len(points)))


MIXTURE = SEED.map(mixture_of)
PAIR = st.tuples(RAW, RAW)


def pairs_of(count):
    """Two points of this many numbers."""
    point = SEED.map(partial(numbers_of, count=count))
    return st.tuples(point, point)


CONVEX = {**SMOOTH, **KINKED}


@pytest.mark.parametrize("name", CONVEX)
@properties
@given(mixture=MIXTURE)
def test_the_mean_of_values_is_above_the_value_of_the_mean(name, mixture):
    """Jensen's inequality; with two points it is the definition."""
    points, weights = mixture
    assert holds(jensen(value_and_gradient(CONVEX[name]), [point_of(name, raw) for raw in points], weights))


@pytest.mark.parametrize("name", CONVEX)
@properties
@given(pair=PAIR)
def test_a_convex_function_lies_above_its_tangents(name, pair):
    """The first-order condition; at a kink whatever autograd answers has to be a subgradient for it to hold."""
    assert holds(above_tangent(value_and_gradient(CONVEX[name]), *(point_of(name, raw) for raw in pair)))


@pytest.mark.parametrize("name", SMOOTH)
@properties
@given(raw=RAW)
def test_the_hessian_of_a_convex_function_is_positive_semidefinite(name, raw):
    assert holds(least_curvature(SMOOTH[name], point_of(name, raw)))


@pytest.mark.parametrize("name", NOT_CONVEX)
def test_a_function_that_is_not_convex_is_caught_by_its_values(name):
    oracle = value_and_gradient(NOT_CONVEX[name])
    counterexample(
        MIXTURE, lambda mixture: fails(jensen(oracle, [point_of(name, raw) for raw in mixture[0]], mixture[1]))
    )


@pytest.mark.parametrize("name", NOT_CONVEX)
def test_a_function_that_is_not_convex_is_caught_by_its_tangents(name):
    oracle = value_and_gradient(NOT_CONVEX[name])
    counterexample(PAIR, lambda pair: fails(above_tangent(oracle, *(point_of(name, raw) for raw in pair))))


@pytest.mark.parametrize("name", [name for name in NOT_CONVEX if name != "minus the 2-norm"])
def test_a_function_that_is_not_convex_is_caught_by_its_curvature(name):
    counterexample(RAW, lambda raw: fails(least_curvature(NOT_CONVEX[name], point_of(name, raw))))


@properties
@given(mixture=MIXTURE)
def test_only_affine_functions_are_convex_and_concave(mixture):
    """Both inequalities are equalities."""
    points, weights = mixture
    margin, scale = jensen(value_and_gradient(SMOOTH["affine"]), [raw[:3] for raw in points], weights)
    assert abs(margin) <= 10 * SLACK * (1 + scale)


@properties
@given(segment=SEGMENT)
def test_the_squared_norm_is_strictly_convex(segment):
    """By exactly θ (1 − θ) ‖x − y‖². In the form ½ xᵀAx it has A = 2 I."""
    first, second, share = segment
    x, y = first[:3], second[:3]
    margin, scale = jensen(value_and_gradient(SMOOTH["the squared norm"]), [x, y], np.array([share, 1 - share]))
    assert abs(margin - share * (1 - share) * ((x - y) ** 2).sum()) <= 10 * SLACK * (1 + scale)
    assert torch.equal(hessian(SMOOTH["the squared norm"], torch.from_numpy(x)), 2 * torch.eye(3).double())


# ---- the descent lemma ----


def below_parabola(oracle, beta, x, y):
    """β/2 ‖y − x‖² − (f(y) − f(x) − ∇f(x)·(y − x))."""
    rise, scale = above_tangent(oracle, x, y)
    parabola = beta / 2 * ((y - x) ** 2).sum()
    return parabola - rise, max(scale, parabola)


@pytest.mark.parametrize("matrix", [POSITIVE, INDEFINITE], ids=["convex", "indefinite"])
@properties
@given(pair=PAIR)
def test_a_quadratic_obeys_the_descent_lemma(matrix, pair):
    """β = λ_max, convex or not; its gradient is Lipschitz with max |λ|."""
    oracle, values = value_and_gradient(quadratic(matrix)), np.linalg.eigvalsh(matrix)
    x, y = (raw[:3] for raw in pair)
    assert holds(below_parabola(oracle, values[-1], x, y))
    steepest = np.abs(values).max() * np.linalg.norm(x - y)
    assert np.linalg.norm(oracle(x)[1] - oracle(y)[1]) <= steepest * (1 + SLACK) + SLACK


@properties
@given(raw=RAW)
def test_a_step_of_one_over_beta_descends(raw):
    """By at least ‖∇f‖² / 2β: what the lemma is for."""
    oracle, beta = value_and_gradient(quadratic(POSITIVE)), np.linalg.eigvalsh(POSITIVE)[-1]
    value, slope = oracle(raw[:3])
    reached = oracle(raw[:3] - slope / beta)[0]
    assert holds((value - reached - slope @ slope / (2 * beta), abs(value)))


def test_no_smaller_beta_will_do():
    oracle, values = value_and_gradient(quadratic(POSITIVE)), np.linalg.eigvalsh(POSITIVE)
    counterexample(PAIR, lambda pair: fails(below_parabola(oracle, 0.9 * values[-1], *(raw[:3] for raw in pair))))


# ---- families, by their own gradients ----

CASES = {case.id: case for case in all_cases() if "test" in case.scenario.size.tiers}


def oracle_of(case, sign=1.0):
    """x -> ± value, ± gradient for the first primal, by the very thunk that is checked and timed."""
    inputs = to_inputs(case.scenario, draw_numbers(case.scenario))
    first, *others = inputs.primals

    def at(x):
        primal = torch.from_numpy(x).reshape(first.shape)
        moved = replace(inputs, primals=(primal, *others))
        value, gradient, *_ = name_outputs(case, prepare(case, moved)()).values()
        return sign * value.sum().item(), sign * gradient.numpy().ravel()

    return at, first.numel()


def right_cases(scenario):
    family, *rest = scenario.split("/")
    return [
        name
        for name, case in CASES.items()
        if name.split("/") == [family, case.variant.name, *rest]
        and not case.variant.is_specimen
        and not case.skip_reason
    ]


CONVEX_FAMILIES = {
    **dict.fromkeys(right_cases("hello/value_and_gradient/n7/float64/cpu"), 1.0),
    **dict.fromkeys(right_cases("mse_linear/value_and_gradient/n11_d3_cond10/float64/cpu"), 1.0),
    # J is a loss and a penalty.
    **dict.fromkeys(right_cases("logistic/value_and_gradient/n40_d5/float64/cpu"), 1.0),
    # J is a log-likelihood less a penalty, so −J is convex.
    **dict.fromkeys(right_cases("softmax_refclass/value_and_gradient/n7_d3_r4/float64/cpu"), -1.0),
}

OTHER_FAMILIES = {
    "phase_retrieval/autograd/value_and_gradient/n5_m25/float64/cpu": (1.0, 0.1),
    "phase_retrieval/gradient_closed_form/value_and_gradient/n5_m25/float64/cpu": (1.0, 0.1),
    "sandwich/efficient_solve/value_and_gradient/d5_n1_cond100/float64/cpu": (1.0, 1.0),
    "sandwich/adjoint/value_and_gradient/d5_n1_cond100/float64/cpu": (1.0, 1.0),
    "beale/literal_powers/value_and_gradient/b1/float64/cpu": (1.0, 1.0),
    "beale/closed_form/value_and_gradient/b1/float64/cpu": (1.0, 1.0),
    "circle_reparam/autograd/value_and_gradient/b1/float64/cpu": (1.0, 1.0),
    "circle_reparam/closed_form/value_and_gradient/b1/float64/cpu": (1.0, 1.0),
    "lowrank/mse_loss/value_and_gradient/random_m7_n5_r2/float64/cpu": (1.0, 0.1),
    "lowrank/gram/value_and_gradient/random_m7_n5_r2/float64/cpu": (1.0, 0.1),
    "relu_net3/autograd/value_and_gradient/n1_p2_h3_q2/float64/cpu": (1.0, 1.0),
    "relu_net3/reverse_pass/value_and_gradient/n1_p2_h3_q2/float64/cpu": (1.0, 1.0),
    "logistic/logsigmoid/value_and_gradient/n40_d5/float64/cpu": (-1.0, 1.0),
    "softmax_refclass/plus_lambda/value_and_gradient/n7_d3_r4/float64/cpu": (-1.0, 10.0),
}
"""Sign and scale: quartics bend down near the origin alone; −J of the logistic loss is a log-likelihood, which is
concave; with the homework's sign of the penalty −J bends down far from the origin, and falls without bound."""


def test_there_are_families_to_judge():
    assert len(CONVEX_FAMILIES) >= 20
    families = {case_id.split("/")[0] for case_id in CONVEX_FAMILIES}
    assert families == {"hello", "mse_linear", "logistic", "softmax_refclass"}


@pytest.mark.parametrize("case_id", CONVEX_FAMILIES)
def test_a_convex_family_lies_above_its_tangents(case_id):
    oracle, n = oracle_of(CASES[case_id], CONVEX_FAMILIES[case_id])

    @properties
    @given(pairs_of(n))
    def check(pair):
        assert holds(above_tangent(oracle, *pair))

    check()


@pytest.mark.parametrize("case_id", CONVEX_FAMILIES)
def test_the_gradient_of_a_convex_family_is_monotone(case_id):
    """(∇f(x) − ∇f(y))·(x − y) ≥ 0: the gradient alone, without a value."""
    oracle, n = oracle_of(CASES[case_id], CONVEX_FAMILIES[case_id])

    @properties
    @given(pairs_of(n))
    def check(pair):
        x, y = pair
        slopes = oracle(x)[1], oracle(y)[1]
        assert holds(((slopes[0] - slopes[1]) @ (x - y), np.abs(slopes).max() * np.abs(x - y).sum()))

    check()


@pytest.mark.parametrize("case_id", OTHER_FAMILIES)
def test_a_family_that_is_not_convex_is_caught(case_id):
    """By its tangents; and, without its gradient, by a segment whose middle lies above the mean of its ends."""
    sign, scale = OTHER_FAMILIES[case_id]
    oracle, n = oracle_of(CASES[case_id], sign)
    counterexample(pairs_of(n), lambda pair: fails(above_tangent(oracle, *(scale * x for x in pair))))
    counterexample(pairs_of(n), lambda pair: fails(jensen(oracle, [scale * x for x in pair], np.array([0.5, 0.5]))))


def test_a_wrong_gradient_of_a_convex_family_is_caught():
    """With its sign flipped, as a planted fault would: f is convex, and lies below what is no tangent."""
    oracle, n = oracle_of(CASES["hello/dot/value_and_gradient/n7/float64/cpu"])

    def flipped(x):
        value, slope = oracle(x)
        return value, -slope

    counterexample(pairs_of(n), lambda pair: fails(above_tangent(flipped, *pair)))


def test_phase_retrieval_curves_down_at_the_origin_and_up_at_the_solution():
    """∇²f(0) = −Aᵀ diag(y) A is negative definite: a stationary point that is a maximum."""
    case = CASES["phase_retrieval/hessian_gemm/hessian/n5_m25/float64/cpu"]
    numbers = draw_numbers(case.scenario)
    inputs = to_inputs(case.scenario, numbers)

    def eigenvalues(x):
        moved = replace(inputs, primals=(torch.from_numpy(x),))
        return np.linalg.eigvalsh(prepare(case, moved)().numpy())

    assert (eigenvalues(np.zeros(5)) < 0).all()
    assert (eigenvalues(numbers["solution"]) > 0).all()


def test_logistic_regression_obeys_the_descent_lemma():
    """∇² log Σ exp ≤ ½ I (D. Böhning, Ann. Inst. Statist. Math. 44, 1992), so −J has β = ½ λ_max(XᵀX) + λ."""
    case = CASES["softmax_refclass/closed_form/value_and_gradient/n7_d3_r4/float64/cpu"]
    numbers, oracle = draw_numbers(case.scenario), oracle_of(case, -1.0)[0]
    beta = np.linalg.eigvalsh(numbers["X"].T @ numbers["X"])[-1] / 2 + numbers["lam"]

    @properties
    @given(PAIR)
    def check(pair):
        assert holds(below_parabola(oracle, beta, *pair))

    check()


def test_phase_retrieval_has_no_beta():
    """A quartic outgrows every parabola."""
    oracle, n = oracle_of(CASES["phase_retrieval/autograd/value_and_gradient/n5_m25/float64/cpu"])
    counterexample(pairs_of(n), lambda pair: fails(below_parabola(oracle, 1e4, *(100 * x for x in pair))))


# ---- kinks: what autograd answers there must be a subgradient ----


def slopes_at_zero(family):
    """Each formulation's derivative at 0 by reverse mode, NaN where it is no number."""
    found = {}
    for variant in family.variants:
        if not variant.is_specimen and variant.name != "compiled":
            x = torch.zeros(1, dtype=torch.float64, requires_grad=variant.computes == "primal")
            if x.requires_grad:
                found[variant.name] = torch.autograd.grad(variant.function(x).sum(), x)[0].item()
            else:
                found[variant.name] = variant.function(x, torch.ones_like(x))[1][0].item()
    return found


def lies_above(family, slope):
    """f(y) ≥ f(0) + slope · y on a grid, for the family's own exact f."""
    y = np.linspace(-5, 5, 101)
    exact = family.reference["vjp"]({"x": y, "cotangent": np.ones_like(y)})["value"]
    return bool((exact >= slope * y - SLACK).all())


@pytest.mark.parametrize("family", [two_faces.two_faces_relu, two_faces.two_faces_abs], ids=lambda family: family.name)
def test_conventions_at_the_kink_of_a_convex_function_are_subgradients(family):
    """0, ½ and 1 are all right for max(x, 0), and so is anything between −1 and 1 for |x|; NaN is none."""
    slopes = slopes_at_zero(family)
    assert len(slopes) > 10
    assert {name for name, slope in slopes.items() if not lies_above(family, slope)} == {
        name for name, slope in slopes.items() if np.isnan(slope)
    }


def test_a_wrong_slope_of_an_affine_function_is_no_subgradient():
    """2x has one subgradient, 2: the same inequality finds the formulations that answer −3, 0, 1 or 4."""
    slopes = slopes_at_zero(two_faces.two_faces_twice)
    right = {name for name, slope in slopes.items() if lies_above(two_faces.two_faces_twice, slope)}
    assert "twice" in right
    assert not {"sign_squared", "where_elsewhere", "plus_abs_sign", "cubic_over_square"} & right
