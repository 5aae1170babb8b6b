"""tanh far out: where the digits of its derivative go, by which law, and what keeps them."""

import math

import numpy as np
import pytest
import torch

from gradrace.families import tanh_tail as kernels

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

EXACT_AT_4 = 0.0013409506830259
FROM_T = ("tanh", "one_minus_square", "factored")
FROM_X = ("cosh", "exponential", "log_domain", "reflected_sigmoid", "custom_function", "closed_form")


def slopes(name, x):
    """tanh′ at the entries of x by a formulation, and how far off it is, relative to the exact one."""
    variant = next(each for each in kernels.tanh_tail.variants if each.name == name)
    if variant.computes == "vjp":
        found = variant.function(x, torch.ones_like(x))[1][0]
    else:
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad(variant.function(leaf).sum(), leaf)
    exact = kernels.reference({"x": x.double().numpy(), "cotangent": np.ones(x.numel())})["x"]
    return found, (np.abs(found.double().numpy() - exact) / exact).astype(float)


def test_the_reference_agrees_with_mpmath():
    """A second route: tanh itself differentiated by differences in fifty digits."""
    x = np.array([-18.0, -4.5, 0.3, 4.0, 8.5, 18.0])
    exact = kernels.reference({"x": x, "cotangent": np.full(x.size, 3.0)})
    with mpmath.workdps(50):
        assert np.allclose(exact["value"].astype(float), [float(mpmath.tanh(v)) for v in x], rtol=1e-15)
        by_mpmath = [float(3 * mpmath.diff(mpmath.tanh, mpmath.mpf(v))) for v in x]
    assert np.allclose(exact["x"].astype(float), by_mpmath, rtol=1e-15)
    at_4 = kernels.reference({"x": np.array([4.0]), "cotangent": np.ones(1)})["x"]
    assert math.isclose(at_4[0], EXACT_AT_4, rel_tol=1e-13)


@pytest.mark.parametrize(
    ("dtype", "published"), [(torch.float32, 0.0013408931), (torch.float64, 0.0013409506830259165)]
)
def test_the_derivative_of_torchs_tanh_at_4(dtype, published):
    found, _ = slopes("tanh", torch.tensor([4.0], dtype=dtype))
    assert math.isclose(found.item(), published, rel_tol=1e-8 if dtype == torch.float32 else 1e-15)


@pytest.mark.parametrize(
    ("dtype", "x", "published"),
    [
        (torch.float32, 4, 6.3e-5),
        (torch.float32, 6, 7.9e-4),
        (torch.float32, 8, 5.9e-2),
        (torch.float32, 9, 0.96),
        (torch.float64, 10, 1.1e-8),
        (torch.float64, 15, 1.7e-4),
        (torch.float64, 18, 4.3e-2),
    ],
)
def test_one_minus_square_has_the_published_errors_and_the_forms_of_x_have_none(dtype, x, published):
    point = torch.tensor([float(x)], dtype=dtype)
    assert math.isclose(slopes("one_minus_square", point)[1][0], published, rel_tol=0.03)
    for name in FROM_X:
        allowed = (
            (1 + x) * torch.finfo(dtype).eps if name == "log_domain" else 2e-7 if dtype == torch.float32 else 1e-15
        )
        assert slopes(name, point)[1][0] <= allowed, name


@pytest.mark.parametrize(("dtype", "at"), [(torch.float32, (4, 6, 8)), (torch.float64, (10, 15, 17))])
def test_the_error_is_up_to_epsilon_e_to_the_2x_over_8(dtype, at):
    """The law holds at the worst point of any short interval; on average the error is half of that."""
    for centre in at:
        x = torch.linspace(centre - 0.05, centre + 0.05, 4001, dtype=dtype)
        share = slopes("factored", x)[1] / (torch.finfo(dtype).eps * np.exp(2 * x.double().numpy()) / 8)
        assert 0.95 < share.max() < 1.1
        assert 0.45 < share.mean() < 0.55


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 24), (torch.float64, 53)])
@pytest.mark.parametrize("name", FROM_T)
def test_nothing_is_left_from_half_the_logarithm_of_4_over_u_on(name, dtype, bits):
    """9.011 in float32 and 19.06 in float64: there tanh x rounds to 1."""
    edge = (bits + 2) * math.log(2) / 2
    before, beyond = slopes(name, torch.tensor([edge - 0.01, edge + 0.01], dtype=dtype))[0]
    assert before > 0
    assert beyond == 0


def test_the_sigmoid_is_sick_on_one_side_only():
    x = torch.linspace(4, 18, 101, dtype=torch.float64)
    assert slopes("sigmoid", x)[1].max() > 0.04
    assert slopes("sigmoid", -x)[1].max() < 1e-15


def test_the_reflected_sigmoid_pays_with_a_kink_at_zero():
    assert slopes("reflected_sigmoid", torch.zeros(1))[0].item() == 0
    assert slopes("custom_function", torch.zeros(1))[0].item() == 1


def test_the_custom_function_can_be_differentiated_twice():
    x = torch.tensor([-9.0, 0.5, 9.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(kernels.custom_function(x).sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    t, exact = torch.tanh(x.detach()), kernels.reference({"x": x.detach().numpy(), "cotangent": np.ones(3)})["x"]
    assert np.allclose(curvature, -2 * t.numpy() * exact.astype(float), rtol=1e-14)


# ---- what it does to an optimiser ----


def test_gradient_descent_on_tanh_is_stuck_from_4():
    """tanh falls without end, and has no minimiser; a thousand steps of 0.1 do not leave the plateau."""
    x = 4.0
    for _ in range(1000):
        x -= 0.1 / math.cosh(x) ** 2
    assert math.isclose(math.exp(2 * x), math.exp(8) - 8 * 0.1 * 1000, rel_tol=0.01)  # x′ = −4 e^(−2x)
    assert x > 3.8


@pytest.mark.parametrize(("name", "leaves"), [("tanh", False), ("custom_function", True)])
def test_a_normalised_step_leaves_the_plateau_only_with_a_derivative_that_has_digits(name, leaves):
    """As in Adam the gradient is divided by its own size and ε = 1e-8: 5e-8 is enough to go by, and 0 is not."""
    x = torch.tensor([9.1])
    for _ in range(200):
        g, _ = slopes(name, x)
        x = x - 0.1 * g / (g.abs() + 1e-8)
    assert (x.item() < 0) is leaves
    assert leaves or x.item() == torch.tensor(9.1).item()


def test_the_same_loss_of_digits_in_a_logarithm():
    """log(x² + 1) of a small x is the value that is lost, and its derivative that is right."""
    x = torch.tensor(1e-4, requires_grad=True)
    naive, careful = torch.log(x**2 + 1), torch.log1p(x**2)
    assert naive.item() == 0
    assert math.isclose(careful.item(), 1e-8, rel_tol=1e-6)
    assert all(math.isclose(torch.autograd.grad(each, x)[0], 2e-4, rel_tol=1e-6) for each in (naive, careful))
