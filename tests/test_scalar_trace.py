"""The four scalar functions: published values and traces, where they overflow, and what a gradient of them costs."""

import math

import numpy as np
import pytest
import torch

from gradrace import size
from gradrace.cases import Case, Scenario
from gradrace.families.scalar_trace import FUNCTIONS, REVERSE, draw, reference, s1, s2, s3, scalar_trace
from gradrace.families.soft_threshold import soft_threshold
from gradrace.families.two_faces import two_faces_abs, two_faces_relu, two_faces_twice
from gradrace.operators import prepare_case
from gradrace.verify import verify
from gradrace.work import count_run


def exact(name, *point):
    found = reference({"x": np.array([point]), "f": name})
    return float(found["value"]), found["x"].astype(float)[0]


def variant(name):
    (row,) = (each for each in scalar_trace.variants if each.name == name)
    return row


# ---- published values ----

POINTS = [
    ("s1", (1, 2), 2819.4135369423, (7.51830796390186, 11592.4838939861)),
    ("s1", (2, 1), 1.92947684597644, (-17.0620334652332, 75.1793206887077)),
    ("s1", (1, 1), 19.2638134395603, (-53.9115893867719, 183.635516332181)),
    ("s1", (3, 0.5), 233.530910274405, (375.416352226262, -2418.6581806109)),
    ("s3", (0,), 8.29835352575633, (20.9187277871505,)),
    ("s3", (1,), 24521.662861313, (429038.135493798,)),
    ("s3", (-1,), 2.13627422619235, (1.61557416973328,)),
    ("s3", (2,), 8.3310851202357e26, (9.71282525985437e28,)),
]


@pytest.mark.parametrize(("name", "point", "value", "gradient"), POINTS, ids=lambda each: str(each).replace(" ", ""))
def test_published_values_and_gradients(name, point, value, gradient):
    for found in (exact(name, *point), REVERSE[name](math, *point)):
        assert math.isclose(found[0], value, rel_tol=2e-12)
        assert np.allclose(found[1], gradient, rtol=2e-12)


def adjoints(variables, output):
    return [float(bar) for bar in torch.autograd.grad(output, variables, retain_graph=True)]


def leaves(*values):
    return [torch.tensor(float(value), dtype=torch.float64, requires_grad=True) for value in values]


def test_every_variable_and_adjoint_of_the_trace_of_s1():
    w1, w2 = leaves(1, 1.5)
    z1 = w1 / w2
    z2, z3 = torch.sin(2 * math.pi * z1), torch.exp(2 * w2)
    z4 = 3 * z1 - z3
    z5 = z2 + z4
    z6 = z5 * z4
    z = [
        0.666666666666667,
        -0.866025403784439,
        20.0855369231877,
        -18.0855369231877,
        -18.9515623269721,
        342.749180216546,
    ]
    assert np.allclose([float(each.detach()) for each in (z1, z2, z3, z4, z5, z6)], z, rtol=1e-13)
    assert z6.item() == s1(torch, w1, w2).item()
    bars = [-54.2939078164, -18.0855369232, 37.0370992502, -37.0370992502, -18.0855369232]
    assert np.allclose(adjoints((z1, z2, z3, z4, z5), z6), bars, rtol=1e-11)


def test_every_variable_dot_and_adjoint_of_the_trace_of_s2():
    """The dots are for x2; the four digits are those of the homework's answer."""

    def trace(x1, x2, x3):
        v1, v2 = x1 * x2, torch.sin(x3)
        v3, v4, v6 = v1 * v2, torch.exp(v1), 1 / x3
        v5 = v3 + v4
        return v1, v2, v3, v4, v5, v6, v5 * v6

    x = leaves(1, 1.5, 2)
    values, dots = torch.func.jvp(trace, tuple(x), tuple(leaves(0, 1, 0)))
    found = [float(value.detach()) for value in values]
    v = [1.5, 0.909297426825682, 1.36394614023852, 4.48168907033806, 5.84563521057659, 0.5, 2.92281760528829]
    assert np.allclose(found, v, rtol=1e-13)
    assert [round(each, 4) for each in found] == [1.5, 0.9093, 1.3639, 4.4817, 5.8456, 0.5, 2.9228]
    by_x2 = [1, 0, 0.909297426825682, 4.48168907033806, 5.39098649716375, 0, 2.69549324858187]
    assert np.allclose([float(dot.detach()) for dot in dots], by_x2, rtol=1e-13)
    *variables, output = trace(*x)
    bars = [2.69549324858187, 0.75, 0.5, 0.5, 0.5, 5.84563521057659]
    assert np.allclose(adjoints(variables, output), bars, rtol=1e-13)
    assert np.allclose(adjoints(x, output), [4.04323987287281, 2.69549324858187, -1.7735189300545], rtol=1e-13)


def test_the_hessian_of_s2():
    x = torch.tensor([1, 1.5, 2], dtype=torch.float64)
    found = torch.func.hessian(lambda x: s2(torch, *x))(x)
    published = [
        [5.04190020413, 6.05676005134, -2.33373006385],
        [6.05676005134, 2.24084453517, -1.55582004256],
        [-2.33373006385, -1.55582004256, 1.09154585994],
    ]
    assert np.allclose(found, published, rtol=1e-11)
    moved = [[exact("s2", *(x + h * e).tolist())[1] for h in (1e-6, -1e-6)] for e in torch.eye(3).double()]
    assert np.allclose(found, [(ahead - behind) / 2e-6 for ahead, behind in moved], rtol=1e-8)


def test_s3_in_single_precision_as_the_homework_prints_it():
    x = torch.tensor(0.5, requires_grad=True)
    value = s3(torch, x)
    (slope,) = torch.autograd.grad(value, x)
    assert math.isclose(value.item(), 77.86614227, rel_tol=1e-7)
    assert math.isclose(slope.item(), 555.9718628, rel_tol=1e-7)
    assert math.isclose(REVERSE["s3"](torch, x.detach())[1][0].item(), 555.9718628, rel_tol=1e-7)
    a, b, c = math.exp(0.5), math.exp(1), math.exp(0.5) + math.exp(1)
    trace = [1.64872127070013, 2.71828182845905, 4.36700309915917, 78.8071003807483, -0.94094487879637]
    assert np.allclose([a, b, c, math.exp(c), math.sin(c)], trace, rtol=1e-13)
    bar_c = math.exp(c) + math.cos(c)
    assert np.allclose([bar_c, bar_c + 2 * a * bar_c], [78.46854058534, 337.214044473033], rtol=1e-13)


def test_the_notes_polynomials_and_their_mean():
    (x,) = leaves(5)
    assert (3 * x**2 + x).item() == 80
    value = 3 * x**2 + x + 4 * torch.sin(x)
    assert math.isclose(value.item(), 76.1643029013, rel_tol=1e-12)
    assert math.isclose(adjoints([x], value)[0], 32.1346487419, rel_tol=1e-11)
    v = torch.arange(5, dtype=torch.float64, requires_grad=True)
    mean = (torch.log(v**2 + 1) + 5 * v).mean()
    (slope,) = torch.autograd.grad(mean, v)
    assert math.isclose(mean.item(), 11.487676706, rel_tol=1e-10)
    assert np.allclose(slope, [1, 1.2, 1.16, 1.12, 1.09411764706], rtol=1e-11)


# ---- where s3 is ill-conditioned, and where it overflows ----


@pytest.mark.parametrize(("x", "condition"), [(0.5, 3.57), (1, 17.5), (1.5, 67), (2, 233)])
def test_the_condition_of_s3(x, condition):
    value, (slope,) = exact("s3", x)
    assert math.isclose(x * slope / value, condition, rel_tol=0.005)


@pytest.mark.parametrize(
    ("dtype", "slope_up_to", "value_up_to"),
    [(torch.float32, 2.158718, 2.189701), (torch.float64, 3.258498, 3.263713)],
)
@pytest.mark.parametrize("differentiate", [torch.func.grad, None], ids=["autograd", "by hand"])
def test_the_derivative_of_s3_overflows_before_its_value(dtype, slope_up_to, value_up_to, differentiate):
    """Between the two, the value is finite and the derivative is not."""

    def finite(x):
        x = torch.tensor(x, dtype=dtype)
        slope = differentiate(lambda x: s3(torch, x))(x) if differentiate else REVERSE["s3"](torch, x)[1][0]
        return bool(s3(torch, x).isfinite()), bool(slope.isfinite())

    assert finite(slope_up_to - 2e-6) == (True, True)
    assert finite(slope_up_to + 2e-6) == (True, False)
    assert finite(value_up_to - 2e-6) == (True, False)
    assert finite(value_up_to + 2e-6) == (False, False)


# ---- differences and complex steps ----


def step_error(differentiate):
    """The median relative error of a derivative of s4 over drawn points."""
    x = draw(size(f="s4", b=1000), np.random.default_rng(0))["x"][:, 0]
    return float(np.median(np.abs(differentiate(x) - (1 / x + 2)) / (1 / x + 2)))


def s4_of(x):
    return FUNCTIONS["s4"](np, x, 2.0)


def test_a_central_difference_is_best_at_the_cube_root_of_epsilon():
    """There its error is ε^(2/3) = 3.7e-11; a larger step leaves h², a smaller one ε / h."""
    eps = np.finfo(float).eps
    error = {h: step_error(lambda x, h=h: (s4_of(x + h) - s4_of(x - h)) / (2 * h)) for h in (1e-3, 1e-4, 1e-7, 1e-8)}
    best = step_error(lambda x: (s4_of(x + eps ** (1 / 3)) - s4_of(x - eps ** (1 / 3))) / (2 * eps ** (1 / 3)))
    assert best < min(error.values())
    assert eps ** (2 / 3) / 30 < best < 3 * eps ** (2 / 3)
    assert 50 < error[1e-3] / error[1e-4] < 200
    assert 3 < error[1e-8] / error[1e-7] < 30


def test_a_complex_step_is_exact_for_any_small_step():
    for h in (1e-8, 1e-20, 1e-100, 1e-300):
        assert step_error(lambda x, h=h: s4_of(x + 1j * h).imag / h) < 1e-16


def test_the_central_difference_is_seen_as_wrong_in_every_draw():
    scenario = Scenario(scalar_trace, "value_and_gradient", size(f="s4", b=1), "float64", "cpu")
    for row in range(5):
        found = verify(Case(scenario, variant("central_difference")), row)
        assert found.ok, found.message
        assert found.status == "disagree"


# ---- the price of a gradient ----

CHEAP, CHEAP_WITH_KINKS = 5, 6
"""Griewank and Walther (2008), section 4.6, for reverse mode; S. Kakade and J. Lee, NeurIPS 2018, with branches."""


def ratio(primal, gradient, inputs):
    """Operations of a gradient, forward and backward together, over those of its function."""
    return count_run("g", gradient, inputs).counters["ops"] / count_run("f", primal, inputs).counters["ops"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_gradient_costs_at_most_five_functions(name):
    x = torch.from_numpy(draw(size(f=name, b=3), np.random.default_rng(0))["x"])
    columns = x.unbind(1)
    inputs = [column.clone().requires_grad_() for column in columns]

    def primal():
        return FUNCTIONS[name](torch, *columns)

    def gradient():
        value = FUNCTIONS[name](torch, *inputs)
        return torch.autograd.grad(value, inputs, torch.ones_like(value))

    assert 2 < ratio(primal, gradient, [*columns, *inputs]) <= CHEAP
    assert ratio(primal, lambda: REVERSE[name](torch, *columns), columns) < 3


KINKED = [
    (family, row)
    for family in (two_faces_relu, two_faces_abs, two_faces_twice, soft_threshold)
    for row in family.variants
    if row.computes == "primal" and not row.limits and not row.prepare and not row.is_specimen
]


@pytest.mark.parametrize(("family", "row"), KINKED, ids=lambda each: each.name)
def test_a_gradient_costs_at_most_six_functions_where_there_are_kinks(family, row):
    """But for |x| by torch.maximum, one operation whose rule for ties is made of ten."""
    prepared = prepare_case(Case(Scenario(family, "vjp", size(n=9), "float64", "cpu"), row))
    inputs = prepared.inputs
    arguments = (*inputs.primals, *inputs.constants)
    found = ratio(lambda: row.function(*arguments), prepared.thunk, [*inputs.primals, inputs.cotangent])
    assert found <= CHEAP_WITH_KINKS or (row.name == "maximum_of_signs" and found < 8)
