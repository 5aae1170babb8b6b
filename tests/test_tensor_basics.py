"""What kernels are made of: tensor operations and the mechanics of autograd, on the numbers of the lecture notes.

Source: the numerical optimization notes of Z. Xu, sections 4.1 and 4.2; Data 598 homework 5 for None against zero.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gradrace.work.graph import Graph

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is available")


def same(tensor, numbers):
    """Equal in every entry, and in shape."""
    return tensor.tolist() == numbers


# ---- making tensors: shape and type ----


def test_the_type_follows_from_what_is_given():
    """One point makes floats of a whole list; what is made from nothing is float32."""
    assert torch.arange(0, 12, 1).dtype == torch.tensor([[1, 2, 3], [4, 5, 6]]).dtype == torch.int64
    assert torch.tensor([[1.0, 2, 3], [4, 5, 6]]).dtype == torch.float32
    assert torch.zeros((3, 4)).dtype == torch.ones((2, 5)).dtype == torch.randn(10).dtype == torch.float32
    assert torch.tensor(np.ones(2)).dtype == torch.float64
    for dtype in (torch.float64, torch.uint8, torch.int32, torch.bool):
        assert torch.ones(10, dtype=dtype).dtype == dtype
    assert torch.DoubleTensor([1, 2, 3]).dtype == torch.float64
    assert torch.ByteTensor([1, 2, 3]).dtype == torch.uint8


def test_randn_follows_its_seed_alone():
    first, second = (torch.randn(10, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0))
    other = torch.randn(10, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_reshape_changes_the_shape_alone_and_infers_one_length():
    """It is a view where the memory allows: no number moves. A transposed matrix has to be copied."""
    x = torch.arange(12)
    assert x.reshape(3, 4).shape == x.reshape(3, -1).shape == (3, 4)
    assert same(x.reshape(3, -1), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    assert x.reshape(3, 4).data_ptr() == x.data_ptr()
    transposed = x.reshape(3, 4).mT
    assert transposed.data_ptr() == x.data_ptr()
    assert same(transposed.reshape(-1), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    assert transposed.reshape(-1).data_ptr() != x.data_ptr()
    with pytest.raises(RuntimeError, match="shape '\\[5, -1\\]' is invalid for input of size 12"):
        x.reshape(5, -1)


def test_a_conversion_to_a_narrower_type_loses_digits():
    """To integers it cuts off, to float32 it rounds to 24 bits, and where nothing changes nothing is copied."""
    x = torch.tensor([-1.7, 0.5, 2.9], dtype=torch.float64)
    assert same(x.to(torch.int64), [-1, 0, 2])
    assert same(x.bool(), [True, True, True])
    assert x.to(torch.float64) is x
    assert torch.equal(x.float().double() == x, torch.tensor([False, True, False]))
    assert (x.float().double() - x).abs().max() < 2.9 * 2**-24
    assert torch.tensor(2**24 + 1).float() == 2**24


def test_mixed_types_meet_in_the_wider_one():
    """A Python number does not widen a tensor of its own kind."""
    integers, floats = torch.arange(3), torch.ones(3, dtype=torch.float64)
    assert (integers + floats).dtype == torch.float64
    assert (integers + 0.5).dtype == torch.float32
    assert (torch.ones(3) * math.pi).dtype == torch.float32
    assert (torch.ones(3) + floats).dtype == torch.float64


def test_the_first_number_of_the_homework_is_printed_in_short():
    x = torch.tensor(3.14159, requires_grad=True)
    assert repr(x) == "tensor(3.1416, requires_grad=True)"
    assert x.item() == float(np.float32(3.14159))


# ---- where tensors lie ----


def test_a_tensor_lies_in_main_memory_unless_it_is_told_otherwise():
    """A move to where it already lies is no move."""
    x = torch.ones(10)
    assert x.device == torch.device("cpu")
    assert x.to("cpu") is x
    assert torch.empty(10, device="meta").device.type == "meta"


@needs_cuda
def test_a_move_there_and_back_changes_no_bit_and_keeps_the_graph():
    x = torch.randn(100, requires_grad=True)
    there = x.to("cuda")
    assert there.device.type == torch.ones(5, device=0).device.type == torch.ones(5, device="cuda:0").device.type
    assert torch.equal(there.to("cpu"), x)
    there.square().sum().backward()
    assert x.grad.device.type == "cpu"
    assert torch.equal(x.grad, 2 * x)


@needs_cuda
def test_tensors_of_two_devices_do_not_add_up():
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(5) + torch.ones(5, device="cuda")


# ---- operations, entry by entry ----

X, Y = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([4.0, 3.0, 2.0, 1.0])


def test_arithmetic_goes_entry_by_entry():
    c = 1.0
    assert same(X + c, [2, 3, 5, 9])
    assert same(X * c, [1, 2, 4, 8])
    assert same(X**c, [1, 2, 4, 8])
    assert same(X + Y, [5, 5, 6, 9])
    assert same(X * Y, [4, 6, 8, 8])
    assert same(X**Y, [1, 8, 16, 8])


def test_mul_is_the_product_of_entries():
    A, B = torch.randn(2, 5, 4)
    assert torch.equal(torch.mul(A, B), A * B)
    assert all(torch.mul(A, B)[i, j] == A[i, j] * B[i, j] for i in range(5) for j in range(4))


def test_exp_has_its_digits():
    exact = [2.718281828, 7.389056099, 54.59815003, 2980.957987]
    assert np.allclose(torch.exp(X.double()), exact, rtol=5e-10, atol=0)
    assert [f"{each:.4e}" for each in torch.exp(X).tolist()] == ["2.7183e+00", "7.3891e+00", "5.4598e+01", "2.9810e+03"]
    assert torch.exp(torch.tensor(89.0)) == math.inf
    assert torch.exp(torch.tensor(89.0).double()) < math.inf


def test_powers_have_corners():
    """0⁰ is 1; a root of a negative number is NaN; integers know no negative power."""
    assert torch.tensor(0.0) ** 0 == 1
    assert (torch.tensor(-8.0) ** (1 / 3)).isnan()
    assert torch.tensor(-8.0) ** 3 == -512
    with pytest.raises(RuntimeError, match="negative integer powers"):
        torch.tensor([2, 4]) ** -1
    assert same(torch.tensor([2, 4]) ** -1.0, [0.5, 0.25])


def test_the_gradient_of_a_power_is_for_both_arguments():
    """∂x^y = y x^(y−1) and x^y ln x."""
    x, y = X.double().requires_grad_(), Y.double().requires_grad_()
    by_x, by_y = torch.autograd.grad((x**y).sum(), (x, y))
    assert same(by_x, [4, 12, 8, 1])
    assert torch.allclose(by_y, x**y * x.log(), rtol=1e-15)


def test_comparisons_make_booleans_that_no_gradient_passes():
    A, B = torch.arange(0, 12, 1).reshape(3, 4), 5 * torch.ones(3, 4)
    assert same(A == B, [[False] * 4, [False, True, False, False], [False] * 4])
    assert same(A > B, [[False] * 4, [False, False, True, True], [True] * 4])
    assert not (B.clone().requires_grad_() > A).requires_grad


# ---- products and shapes ----


def test_three_spellings_of_a_matrix_product_agree():
    A, B = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    assert torch.equal(torch.mm(A, B), A @ B)
    assert torch.allclose(torch.einsum("ik,kj->ij", A, B), A @ B, rtol=1e-14, atol=1e-15)
    by_hand = [[sum(A[i, k] * B[k, j] for k in range(3)) for j in range(5)] for i in range(4)]
    assert np.allclose(A @ B, by_hand, rtol=1e-14, atol=1e-15)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        A @ B.mT


def test_a_star_is_no_matrix_product():
    A, B = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert same(A @ B, [[2, 1], [4, 3]])
    assert same(A * B, [[0, 2], [3, 0]])


def test_the_adjoint_of_a_matrix_product_is_two_more():
    """With the cotangent C, Ā = C Bᵀ and B̄ = Aᵀ C, however the product is spelled."""
    A, B, C = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 3), (3, 5), (4, 5)))
    A.requires_grad_()
    B.requires_grad_()
    for product in (torch.mm(A, B), A @ B, torch.einsum("ik,kj->ij", A, B)):
        by_A, by_B = torch.autograd.grad(product, (A, B), C)
        assert torch.allclose(by_A, C @ B.mT, rtol=1e-14, atol=1e-15)
        assert torch.allclose(by_B, A.mT @ C, rtol=1e-14, atol=1e-15)


def test_cat_joins_along_an_axis_and_its_gradient_comes_apart():
    A, B = torch.arange(0, 12, 1).reshape(3, 4), torch.ones(3, 4)
    below, beside = torch.cat((A, B), dim=0), torch.cat((A, B), dim=1)
    assert (below.shape, beside.shape, below.dtype) == ((6, 4), (3, 8), torch.float32)
    assert same(below[2:4], [[8, 9, 10, 11], [1, 1, 1, 1]])
    assert same(beside[1], [4, 5, 6, 7, 1, 1, 1, 1])
    with pytest.raises(RuntimeError, match="must match except in dimension 0"):
        torch.cat((A, B[:, :3]), dim=0)
    B.requires_grad_()
    assert torch.equal(torch.autograd.grad(torch.cat((A, B)), B, torch.cat((A, 2 * A)).float())[0], 2 * A.float())


def test_broadcasting_repeats_an_axis_of_length_one():
    """In thought only: the expanded tensor has stride 0. Axes that differ and are not 1 do not fit."""
    a, b = torch.arange(3).reshape(3, 1), torch.arange(2).reshape(1, 2)
    assert same(a + b, [[0, 1], [1, 2], [2, 3]])
    assert torch.equal(a + b, a.repeat(1, 2) + b.repeat(3, 1))
    assert a.expand(3, 2).stride() == (1, 0)
    with pytest.raises(RuntimeError, match="must match the size"):
        torch.ones(3, 2) + torch.ones(3)


def test_the_adjoint_of_broadcasting_is_a_sum():
    """What is read n times gets n cotangents."""
    a, b = torch.ones(3, 1, requires_grad=True), torch.ones(1, 2, requires_grad=True)
    cotangent = torch.arange(6.0).reshape(3, 2)
    by_a, by_b = torch.autograd.grad(a + b, (a, b), cotangent)
    assert same(by_a, [[1], [5], [9]])
    assert same(by_b, [[6, 9]])


# ---- indices ----

SQUARE = torch.arange(16).reshape(4, 4)


def test_negative_indices_count_from_the_end_and_slices_are_views():
    assert same(SQUARE[-1], [12, 13, 14, 15])
    assert same(SQUARE[1:3], [[4, 5, 6, 7], [8, 9, 10, 11]])
    copy = SQUARE.clone()
    copy[1:3] = 0
    assert copy.sum() == SQUARE[0].sum() + SQUARE[3].sum()


def test_a_boolean_index_picks_a_copy_whose_length_depends_on_the_numbers():
    """So a device must be waited for, and no compiler knows the shape: `where` keeps the shape."""
    mask = SQUARE % 3 == 0
    assert same(SQUARE[mask], [0, 3, 6, 9, 12, 15])
    picked = SQUARE[mask]
    picked += 100
    assert SQUARE.max() == 15
    assert torch.where(mask, SQUARE, 0).shape == SQUARE.shape
    assert torch.where(mask, SQUARE, 0).sum() == SQUARE[mask].sum()
    zeroed = SQUARE.clone()
    zeroed[~mask] = 0
    assert torch.equal(zeroed, torch.where(mask, SQUARE, 0))


def test_a_boolean_index_and_where_have_the_same_gradient():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    mask = x > 0.5
    spellings = (x[mask] ** 2).sum(), (torch.where(mask, x, 0) ** 2).sum(), (x * mask).square().sum()
    for value in spellings:
        assert torch.equal(torch.autograd.grad(value, x)[0], 2 * x * mask)


def test_where_differentiates_the_arm_that_is_not_taken():
    """0 · ∞ is NaN: the gradient of √0 spoils an arm that where has thrown away. An index never computes it."""
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    mask = x > 0
    by_where = torch.autograd.grad(torch.where(mask, x.sqrt(), 0).sum(), x)[0]
    by_index = torch.autograd.grad(x[mask].sqrt().sum(), x)[0]
    by_safe_argument = torch.autograd.grad(torch.where(mask, torch.where(mask, x, 1).sqrt(), 0).sum(), x)[0]
    assert by_where[0].isnan()
    assert same(by_index, [0, 0.25])
    assert same(by_safe_argument, [0, 0.25])


# ---- leaves, and what is not one ----


def leaf(value, **facts):
    return torch.tensor(value, requires_grad=True, **facts)


def test_nothing_is_recorded_unless_a_leaf_asks_for_it():
    x = torch.tensor(5.0)
    y = 3 * x**2 + x
    assert (x.requires_grad, y.requires_grad, y.grad_fn) == (False, False, None)
    assert y == 80


def test_what_depends_on_a_leaf_has_a_node():
    x = leaf(5.0)
    y = 3 * x**2 + x + 4 * torch.sin(x)
    assert x.is_leaf
    assert x.grad_fn is None
    assert not y.is_leaf
    assert y.grad_fn.name() == "AddBackward0"
    assert f"{y.item():.4f}" == "76.1643"


def test_the_digits_of_the_first_example():
    x = leaf(5.0, dtype=torch.float64)
    y = 3 * x**2 + x + 4 * torch.sin(x)
    y.backward()
    assert math.isclose(y.item(), 76.1643029013, rel_tol=3e-12)
    assert math.isclose(x.grad.item(), 32.1346487419, rel_tol=3e-12)


def test_only_floats_have_a_gradient():
    with pytest.raises(RuntimeError, match="floating point"):
        torch.arange(5).requires_grad_()
    x = torch.arange(5.0).requires_grad_(True)
    assert x.is_leaf
    assert not x.long().requires_grad


def test_a_leaf_is_not_written_to_while_it_is_recorded():
    """A step of gradient descent belongs into no_grad, and what is made there is a leaf without a graph."""
    x = leaf(5.0)
    with pytest.raises(RuntimeError, match="in-place operation"):
        x -= 1
    with torch.no_grad():
        x -= 1
        y = x**2
    assert (x.item(), x.requires_grad) == (4, True)
    assert (y.requires_grad, y.is_leaf) == (False, True)
    with pytest.raises(RuntimeError, match="of leaf variables"):
        (x**2).requires_grad_(False)


def test_detach_cuts_the_graph_and_shares_the_memory():
    x = leaf([1.0, 2.0])
    y = x * x.detach()
    assert same(torch.autograd.grad(y.sum(), x)[0], [1, 2])  # half of the gradient of x²
    x.detach()[0] = 7.0
    assert same(x, [7, 2])


def test_a_conversion_of_type_is_differentiated_and_the_gradient_comes_back_in_the_type_of_the_leaf():
    x = leaf(5.0)
    (x.double() ** 2).backward()
    assert (x.grad.dtype, x.grad.item()) == (torch.float32, 10)


# ---- gradients: where they go, how they add up ----


def test_backward_leaves_the_gradients_in_the_leaves():
    x_1, x_2 = leaf(5.0), leaf(2.0)
    z = x_1**2 + x_2**2
    z.backward()
    assert (x_1.grad, x_2.grad, z) == (10, 4, 29)


def test_what_is_no_leaf_keeps_its_gradient_only_when_asked():
    x_1, x_2 = leaf(5.0), leaf(2.0)
    y = 0.5 * x_2**2
    z = x_1**2 + y
    y.retain_grad()
    z.backward()
    assert (x_1.grad, x_2.grad, y.grad, z) == (10, 2, 1, 27)
    y = 0.5 * x_2**2
    y.backward()
    with pytest.warns(UserWarning, match="not a leaf"):
        assert y.grad is None


def test_gradients_accumulate():
    x = leaf(5.0)
    for gradient in (30, 60):
        y = 3 * x**2
        y.backward()
        assert (x.grad, y) == (gradient, 75)


def test_there_is_nothing_to_zero_before_the_first_backward():
    x = leaf(5.0)
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'zero_'"):
        x.grad.zero_()
    for _ in range(2):
        if x.grad is not None:
            x.grad.zero_()
        (3 * x**2).backward()
        assert x.grad == 30


def test_a_module_drops_its_gradients_rather_than_zero_them():
    """None says that nothing has come yet; a zero would still be averaged into a momentum, and costs a write."""
    module = torch.nn.Linear(1, 1)
    module(torch.ones(1)).sum().backward()
    module.zero_grad()
    assert module.weight.grad is None
    module(torch.ones(1)).sum().backward()
    module.zero_grad(set_to_none=False)
    assert same(module.weight.grad, [[0]])


def test_autograd_grad_touches_no_leaf():
    x = leaf(5.0)
    (gradient,) = torch.autograd.grad(3 * x**2, x)
    assert (gradient, x.grad) == (30, None)


# ---- graphs: used once, kept when asked ----


def three_heads(x):
    y = x**2
    return x + y, x**2 + y, x**3 + y


def test_a_graph_that_is_kept_serves_several_heads():
    """11 + 20 + 85."""
    x = leaf(5.0)
    z_1, z_2, z_3 = three_heads(x)
    z_1.backward(retain_graph=True)
    assert x.grad == 11
    z_2.backward(retain_graph=True)
    assert x.grad == 31
    z_3.backward()
    assert x.grad == 116


def test_a_graph_is_freed_by_its_first_use():
    """What y has saved is gone, so the second head fails, and the gradient of the first one stays."""
    x = leaf(5.0)
    z_1, z_2, _ = three_heads(x)
    z_1.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        z_2.backward()
    assert x.grad == 11


def test_a_graph_that_has_saved_nothing_can_be_walked_again():
    x = leaf(5.0)
    z = x + 3
    z.backward()
    z.backward()
    assert x.grad == 2


@pytest.mark.parametrize(
    "pull",
    [
        lambda x, heads: sum(heads).backward(),
        lambda x, heads: torch.autograd.backward(heads),
    ],
    ids=["sum", "list"],
)
def test_one_walk_serves_all_heads(pull):
    """The same 116 without keeping a graph, and without walking the trunk three times."""
    x = leaf(5.0)
    pull(x, three_heads(x))
    assert x.grad == 116


def test_sum_of_squares():
    x = torch.arange(5.0).requires_grad_(True)
    y = torch.sum(x**2)
    y.backward()
    assert y == 30
    assert same(x.grad, [0, 2, 4, 6, 8])
    with pytest.raises(RuntimeError, match="only for scalar outputs"):
        (x**2).backward()


def test_mean_of_a_logarithm():
    x = torch.arange(5.0, dtype=torch.float64).requires_grad_(True)
    y = torch.mean(torch.log(x**2 + 1) + 5 * x)
    y.backward()
    assert math.isclose(y.item(), 11.487676706, rel_tol=1e-10)
    assert np.allclose(x.grad, [1, 1.2, 1.16, 1.12, 1.09411764706], rtol=1e-11)


def test_a_graph_of_the_gradient_has_a_gradient():
    x = leaf(5.0)
    (slope,) = torch.autograd.grad(3 * x**2, x, create_graph=True)
    assert torch.autograd.grad(slope, x)[0] == 6


# ---- the size of a graph ----


def nodes_and_depth(value):
    graph = Graph(())
    graph.walk([value])
    return graph.nodes, graph.depth


def test_a_graph_has_a_node_for_each_operation_and_each_leaf():
    """A product with a constant is a node too, an addition of one as well; a measure without noise."""
    x, x_1, x_2 = leaf(5.0), leaf(5.0), leaf(2.0)
    assert nodes_and_depth(3 * x**2 + x) == (4, 4)
    assert nodes_and_depth(3 * x**2 + x + 4 * torch.sin(x)) == (7, 5)
    assert nodes_and_depth(x_1**2 + x_2**2) == (5, 3)
    assert nodes_and_depth(x_1**2 + 0.5 * x_2**2) == (6, 4)


@pytest.mark.parametrize("shape", [(), (3, 4, 4), (300, 40)])
def test_a_graph_does_not_grow_with_its_tensors(shape):
    x = torch.randn(shape, requires_grad=True)
    assert nodes_and_depth(x**2 + torch.sin(x)) == (4, 3)


@pytest.mark.parametrize("n", [1, 10, 10_000])
def test_a_graph_grows_with_a_loop(n):
    """One node a turn. It is freed and walked without recursion, so no depth is too deep."""
    y = leaf(1.0)
    for _ in range(n):
        y = y * 0.5
    assert nodes_and_depth(y) == (n + 1, n + 1)


def test_graphs_are_dynamic():
    """Each run records the branch that it takes; what it has not taken has no derivative."""

    def program(x):
        return x**2 if x > 0 else torch.sin(x).exp()

    assert nodes_and_depth(program(leaf(1.0))) == (2, 2)
    assert nodes_and_depth(program(leaf(-1.0))) == (3, 3)


# ---- None is not zero ----


def test_an_input_that_is_not_read_has_no_gradient():
    """An error by default, None when it is allowed, and zeros when they are asked for."""
    x, unused = leaf(5.0), leaf([1.0, 2.0])
    value = 3 * x**2
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(value, (x, unused), retain_graph=True)
    assert torch.autograd.grad(value, (x, unused), retain_graph=True, allow_unused=True) == (30, None)
    by_x, zeros = torch.autograd.grad(value, (x, unused), retain_graph=True, materialize_grads=True)
    assert by_x == 30
    assert same(zeros, [0, 0])
    with pytest.raises(ValueError, match="allow_unused"):
        torch.autograd.grad(value, (x, unused), allow_unused=False, materialize_grads=True)


def test_a_flat_function_has_a_zero_gradient():
    """It is read and does not matter: zero, which autograd has computed. The homework's f_T at 1.2 with T = 3.14."""
    y = leaf(1.2)
    (slope,) = torch.autograd.grad(F.softshrink(y, 3.14), y)
    assert slope is not None
    assert slope == 0


def branching(y, T, flat):
    """The homework's threshold: a branch for each piece, and a constant of the caller's choice between −T and T."""
    if y > T:
        return y - T
    if y < -T:
        return y + T
    return flat()


@pytest.mark.parametrize("wants_grad", [False, True], ids=["a constant", "a fresh leaf"])
def test_the_flat_piece_of_a_branch_forgets_its_input(wants_grad):
    """softshrink again, with two other answers where it is flat: an error, and None in place of 0."""

    def flat():
        return torch.zeros((), requires_grad=wants_grad)

    y = leaf(5.0)
    assert torch.autograd.grad(branching(y, 3.14, flat), y)[0] == 1
    y = leaf(1.2)
    value = branching(y, 3.14, flat)
    assert value == F.softshrink(y, 3.14)
    if wants_grad:
        assert torch.autograd.grad(value, y, allow_unused=True) == (None,)
        assert torch.autograd.grad(value, y, materialize_grads=True) == (0,)
    else:
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(value, y, allow_unused=True)
