"""Many losses on one trunk: the reference by a complex step, how often the trunk is walked, and the notes' numbers."""

import math

import numpy as np
import pytest
import torch

from gradrace.cases import Case, Scenario
from gradrace.families import multi_backward
from gradrace.families.multi_backward import draw, losses, matrix_of_heads, not_cleared
from gradrace.work import count

STEP = 1e-30
SIZE = multi_backward.multi_backward.sizes[1]
NUMBERS = draw(SIZE, np.random.default_rng(0))


def tensors():
    return [torch.from_numpy(NUMBERS[name]) for name in ("x", "trunk", "heads")]


def test_the_reference_agrees_with_a_complex_step():
    """A second route: the losses one by one, at x + i h e_j."""

    def total(x):
        t = np.tanh(NUMBERS["trunk"] @ x)
        return sum((c @ t) ** 2 / 2 for c in NUMBERS["heads"])

    x, exact = NUMBERS["x"], multi_backward.reference(NUMBERS)
    by_step = [total(x + 1j * STEP * e).imag / STEP for e in np.eye(len(x))]
    assert np.allclose(exact["x"].astype(float), by_step, rtol=1e-13)
    assert math.isclose(exact["value"], total(x), rel_tol=1e-14)


PASSES = {
    **dict.fromkeys(("backward_head_by_head", "trunk_for_each_head", "gradients_added"), SIZE["k"]),
    **dict.fromkeys(("batched_pullbacks", "jacrev_rows_added"), SIZE["k"]),
    **dict.fromkeys(("losses_added", "backward_of_list", "grad_of_list", "matrix_of_heads", "func_grad"), 1),
    "not_cleared": 2,
    "closed_form": 0,
}
"""How many backward passes go through the trunk."""


@pytest.mark.parametrize("variant", multi_backward.multi_backward.variants, ids=lambda variant: variant.name)
def test_the_trunk_is_walked_as_often_as_said(variant):
    """One pass through the trunk is one product with Wᵀ, and those with C cost less."""
    case = Case(Scenario(multi_backward.multi_backward, "value_and_gradient", SIZE, "float64", "cpu"), variant)
    assert count(case).backward.flops // (2 * SIZE["h"] * SIZE["n"]) == PASSES[variant.name]


def test_a_gradient_that_is_not_cleared_holds_it_twice():
    x, trunk, heads = tensors()
    leaf = x.clone().requires_grad_()
    (right,) = torch.autograd.grad(matrix_of_heads(leaf, trunk, heads), leaf)
    value, (wrong,) = not_cleared(x, trunk, heads)
    assert torch.equal(wrong, 2 * right)
    assert torch.allclose(value, torch.stack(losses(x, trunk, heads)).sum(), rtol=1e-14)


# ---- the notes' numbers: how autograd accumulates, retains and frees ----

EXACT = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)


def leaf(value, dtype=torch.float64):
    return torch.tensor(value, dtype=dtype, requires_grad=True)


@EXACT
def test_three_losses_on_a_shared_square_add_up_to_116(dtype):
    x = leaf(5.0, dtype)
    y = x**2
    gradients = []
    for z in (x + y, x**2 + y, x**3 + y):
        before = 0 if x.grad is None else x.grad.clone()
        z.backward(retain_graph=True)
        gradients.append((x.grad - before).item())
    assert gradients == [11, 20, 85]
    assert x.grad == 116


@EXACT
def test_without_retaining_the_graph_the_second_loss_finds_it_freed(dtype):
    x = leaf(5.0, dtype)
    y = x**2
    (x + y).backward()
    assert x.grad == 11
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        (x**2 + y).backward()
    assert x.grad == 11


def test_the_losses_added_need_no_graph_retained():
    x = leaf(5.0)
    y = x**2
    torch.autograd.backward([x + y, x**2 + y, x**3 + y])
    assert x.grad == 116


def test_a_leaf_adds_up_its_gradients_until_it_is_cleared():
    x = leaf(5.0)
    assert x.grad is None  # so there is nothing yet to call zero_() on
    for total in (30, 60):
        y = 3 * x**2
        y.backward()
        assert (y.item(), x.grad.item()) == (75, total)
    for _ in range(2):
        x.grad.zero_()
        (3 * x**2).backward()
        assert x.grad == 30


def test_only_leaves_keep_their_gradients_unless_asked():
    x1, x2 = leaf(5.0), leaf(2.0)
    z = x1**2 + x2**2
    z.backward()
    assert (z.item(), x1.grad.item(), x2.grad.item()) == (29, 10, 4)
    assert x1.is_leaf
    assert not z.is_leaf

    x1, x2 = leaf(5.0), leaf(2.0)
    y = x2**2 / 2
    y.retain_grad()
    z = x1**2 + y
    z.backward()
    assert (z.item(), x1.grad.item(), x2.grad.item(), y.grad.item()) == (27, 10, 2, 1)


def test_vectors_of_the_notes():
    x = leaf([0.0, 1.0, 2.0, 3.0, 4.0])
    (gradient,) = torch.autograd.grad((x**2).sum(), x)
    assert (x**2).sum() == 30
    assert gradient.tolist() == [0, 2, 4, 6, 8]

    value = (torch.log(x**2 + 1) + 5 * x).mean()
    (gradient,) = torch.autograd.grad(value, x)
    assert math.isclose(value.item(), 11.487676706, abs_tol=5e-10)
    assert np.allclose(gradient, [1, 1.2, 1.16, 1.12, 1.09411764706], rtol=0, atol=5e-12)
