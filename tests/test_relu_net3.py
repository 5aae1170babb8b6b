"""The three-layer ReLU network: the homework's comparison of three ways, dead units, and a mask that is forgotten."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from gradrace.cases import Case, Scenario
from gradrace.families import relu_net3
from gradrace.families.relu_net3 import GAP, autograd, draw, expanded, mask_forgotten, reverse_pass, scalar_loops
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.operators import prepare

STEP = 1e-30
WEIGHTS = ("W1", "W2", "W3")


def homework(seed):
    """A sample x, y in R² and weights 2-3-3-2 by NumPy's legacy generator, in this order."""
    rng = np.random.RandomState(seed)
    x, y = rng.randn(1, 2), rng.randn(1, 2)
    return {"x": x, "y": y, "W1": rng.randn(3, 2), "W2": rng.randn(3, 3), "W3": rng.randn(2, 3)}


def tensors(numbers):
    return [torch.from_numpy(numbers[name]) for name in (*WEIGHTS, "x", "y")]


def by_autograd(numbers):
    *weights, x, y = tensors(numbers)
    leaves = [W.requires_grad_() for W in weights]
    value = autograd(*leaves, x, y)
    return value.item(), torch.autograd.grad(value, leaves)


GRADIENTS = {
    "W1": [[47.7551320891, 10.8327626364], [22.1875355153, 5.0330152009], [0, 0]],
    "W2": [
        [29.7807114881, 16.5698271845, 0],
        [7.4087493028, 4.1221881368, 0],
        [49.1323925165, 27.3369980930, 0],
    ],
    "W3": [[-9.5650949173, -3.6992054972, -13.8473064992], [23.3878150124, 9.0450052624, 33.8583407300]],
}
"""Of the network by seed 0, by hand, to ten decimals."""


@pytest.mark.parametrize("way", [expanded, reverse_pass, scalar_loops])
def test_the_homeworks_three_ways_agree(way):
    numbers = homework(0)
    value, gradients = by_autograd(numbers)
    assert math.isclose(value, 41.68122440952537, rel_tol=1e-15)
    other, others = way(*tensors(numbers))
    assert math.isclose(other, value, rel_tol=1e-15)
    for name, by_graph, by_hand in zip(WEIGHTS, gradients, others, strict=True):
        assert torch.allclose(by_graph, by_hand, rtol=1e-14, atol=0)
        assert np.allclose(by_hand, GRADIENTS[name], rtol=0, atol=6e-11)


def test_the_reference_agrees_with_a_complex_step():
    """A second route: f at W + i h e_k, the units switched on and off by the real part."""

    def relu(V):
        return np.where(V.real > 0, V, 0)

    def value(W1, W2, W3):
        D = numbers["y"] - relu(relu(numbers["x"] @ W1.T) @ W2.T) @ W3.T
        return (D * D).sum() / 2

    for numbers in (homework(0), draw(relu_net3.relu_net3.sizes[1], np.random.default_rng(0))):
        exact = relu_net3.reference(numbers)
        weights = {name: numbers[name].astype(complex) for name in WEIGHTS}
        assert math.isclose(exact["value"], value(**weights).real, rel_tol=1e-14)
        for name, W in weights.items():
            units = np.eye(W.size).reshape(-1, *W.shape)
            by_step = [value(**{**weights, name: W + 1j * STEP * unit}).imag / STEP for unit in units]
            assert np.allclose(exact[name].astype(float).ravel(), by_step, rtol=1e-12, atol=1e-14)


def in_every_formulation(numbers):
    """(specimen?, value, gradients) of each, by the thunk that is checked and timed."""
    scenario = Scenario(relu_net3.relu_net3, "value_and_gradient", relu_net3.relu_net3.sizes[0], "float64", "cpu")
    *weights, x, y = tensors(numbers)
    inputs = replace(to_inputs(scenario, draw_numbers(scenario)), primals=tuple(weights), constants=(x, y))
    for variant in relu_net3.relu_net3.variants:
        value, gradients = prepare(Case(scenario, variant), inputs)()
        yield variant.is_specimen, value.item(), gradients


def test_another_seed_has_its_published_value():
    assert math.isclose(relu_net3.reference(homework(2))["value"], 3.4496356656680476, rel_tol=1e-15)
    for _, value, _ in in_every_formulation(homework(2)):
        assert math.isclose(value, 3.4496356656680476, rel_tol=1e-14)


@pytest.mark.parametrize("seed", [3, 5])
def test_a_dead_second_layer_learns_nothing(seed):
    """Exact zeros in every formulation, for all three weights since V4 = 0.

    By seed 3 the first layer is dead and V3 = 0; by seed 5 all V3 are negative, and only without the mask [V3 > 0]
    would W1 and W2 learn.
    """
    numbers = homework(seed)
    assert (numbers["x"] @ numbers["W1"].T > 0).any() == (seed == 5)
    exact, half_square = relu_net3.reference(numbers), (numbers["y"] ** 2).sum() / 2
    assert math.isclose(exact["value"], half_square, rel_tol=1e-15)
    assert not any(exact[name].any() for name in WEIGHTS)
    found = list(in_every_formulation(numbers))
    assert len(found) >= 9
    for is_specimen, value, gradients in found:
        assert math.isclose(value, half_square, rel_tol=1e-15)
        learns = is_specimen and seed == 5
        assert [bool(gradient.any()) for gradient in gradients] == [learns, learns, False]


def test_a_row_of_zeros_stays_a_row_of_zeros():
    """relu′(0) = 0 by torch's convention, though the unit would be alive for a row on one side of zero."""
    numbers = homework(0)
    numbers["W1"][0] = 0
    at_zero, gradients = by_autograd(numbers)
    assert not gradients[0][0].any()
    numbers["W1"][0] = 1e-6 * numbers["x"]
    assert abs(by_autograd(numbers)[0] - at_zero) > 1e-7
    numbers["W1"][0] *= -1
    assert by_autograd(numbers)[0] == at_zero


def test_a_forgotten_mask_is_seen_in_the_layers_before_it_only():
    numbers = homework(0)
    numbers["W2"][0] *= -1  # so that the first unit of the second layer is dead
    value, right = by_autograd(numbers)
    other, wrong = mask_forgotten(*tensors(numbers))
    assert math.isclose(value, other, rel_tol=1e-15)
    assert not right[1][0].any()
    assert wrong[1][0].any()
    assert not torch.allclose(right[0], wrong[0], rtol=0.01)
    assert torch.allclose(right[2], wrong[2], rtol=1e-14)


@pytest.mark.parametrize("size", relu_net3.relu_net3.sizes[:3], ids=lambda size: size.word)
def test_each_layer_has_live_and_dead_units_and_none_near_the_kink(size):
    for seed in range(5):
        numbers = draw(size, np.random.default_rng(seed))
        V1 = numbers["x"] @ numbers["W1"].T
        V3 = np.maximum(V1, 0) @ numbers["W2"].T
        for V in (V1, V3):
            assert (V > 0).any(axis=1).all()
            assert (V < 0).any(axis=1).all()
            assert np.abs(V).min() >= GAP
