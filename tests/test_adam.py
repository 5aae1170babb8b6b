"""Adam against a complex step and against itself on Beale's function; what a step costs; its known-wrong specimens."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gradrace.cases import Case, Scenario
from gradrace.declare import size
from gradrace.families import adam
from gradrace.families.adam import RATES, textbook_step
from gradrace.families.beale import HOMEWORK_START, gradient_of_squares
from gradrace.inputs import draw_numbers, to_inputs
from gradrace.work import count

VARIANTS = {row.name: row for row in adam.adam.variants}
SMALL = Scenario(adam.adam, "vjp", size(t=6, p=4), "float64", "cpu")


@pytest.fixture
def numbers():
    return dict(draw_numbers(SMALL))


def run(name, numbers, **changes):
    """The value of a variant on these numbers."""
    changed = {**numbers, **changes}
    return VARIANTS[name].function(*(torch.tensor(changed[name]) for name in ("g", "w")), *(changed[r] for r in RATES))


# ---- the reference ----


def complex_adam(g, w, lr, beta1, beta2, eps):
    """The rule with m and v as explicit sums: analytic in g."""
    for t in range(1, len(g) + 1):
        powers = np.arange(t - 1, -1, -1)[:, None]
        mean = ((1 - beta1) * beta1**powers * g[:t]).sum(axis=0) / (1 - beta1**t)
        square = ((1 - beta2) * beta2**powers * g[:t] ** 2).sum(axis=0) / (1 - beta2**t)
        w = w - lr * mean / (np.sqrt(square) + eps)
    return w


def test_the_reference_agrees_with_a_complex_step(numbers):
    exact = adam.reference_vjp(numbers)
    assert np.allclose(exact["value"].astype(float), complex_adam(numbers["g"], numbers["w"], **RATES), rtol=1e-13)
    assert np.array_equal(exact["value"], adam.reference_primal(numbers)["value"])
    for t in range(6):
        moved = numbers["g"].astype(complex)
        moved[t] += 1e-30j  # each parameter sees its own gradients alone, so one step serves them all
        by_step = complex_adam(moved, numbers["w"], **RATES).imag / 1e-30
        assert np.allclose(exact["g"][t].astype(float), numbers["cotangent"] * by_step, rtol=1e-11)


def test_the_first_step_is_the_sign_of_the_gradient(numbers):
    g = numbers["g"][:1]
    expected = numbers["w"] - RATES["lr"] * g[0] / (np.abs(g[0]) + RATES["eps"])
    assert np.allclose(adam.reference_primal({**numbers, "g": g})["value"].astype(float), expected, rtol=1e-14)


def test_the_scale_of_the_gradients_does_not_matter_but_for_eps(numbers):
    scaled = {**numbers, "g": 1000 * numbers["g"], "eps": 1000 * numbers["eps"]}
    by = [adam.reference_primal(each)["value"].astype(float) for each in (numbers, scaled)]
    assert np.allclose(*by, rtol=1e-14)


# ---- the homework: Beale's function, 100 steps ----

STEPS = 100


def textbook_path():
    w = torch.tensor([HOMEWORK_START], dtype=torch.float64)
    m = v = torch.zeros_like(w)
    for t in range(1, STEPS + 1):
        w, m, v = textbook_step(w, gradient_of_squares(w), m, v, t, **RATES)
        yield w


@pytest.mark.parametrize("how", ["foreach=False", "foreach=True", "fused=True"])
def test_the_textbook_and_torch_agree_along_a_path(how):
    word, _, value = how.partition("=")
    w = torch.tensor([HOMEWORK_START], dtype=torch.float64)
    optimiser = torch.optim.Adam([w], lr=0.1, **{word: value == "True"})
    for expected in textbook_path():
        w.grad = gradient_of_squares(w)
        optimiser.step()
        assert torch.allclose(w, expected, rtol=0, atol=1e-12)


# ---- what a step costs ----


def kernels_of_a_step(name, operator="primal", **axes):
    """Dispatched operations, from runs of 10 and of 20 steps, that the 10 more take each."""

    def ops(t):
        return count(Case(Scenario(adam.adam, operator, size(t=t, **axes, p=3), "float64", "cpu"), VARIANTS[name]))

    few, many = ops(10), ops(20)
    return (many.forward.ops - few.forward.ops) / 10, (many.backward.ops - few.backward.ops) / 10


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("textbook", 14), ("in_place", 6), ("foreach_kernels", 6), ("fused_kernel", 2), ("closed_form", 0)],
)
def test_kernels_of_a_step(name, kernels):
    """The fused one's second kernel counts the steps."""
    assert kernels_of_a_step(name) == (kernels, 0)


def test_torch_optim_needs_more_of_them():
    for name, own in (("optim_loop", "in_place"), ("optim_fused", "fused_kernel")):
        assert kernels_of_a_step(name) > kernels_of_a_step(own)


def test_a_graph_doubles_the_kernels_and_the_adjoint_needs_four():
    forward, backward = kernels_of_a_step("textbook", "vjp")
    assert forward >= 14
    assert backward > forward
    assert kernels_of_a_step("adjoint_scans", "vjp") == (4, 0)
    assert kernels_of_a_step("adjoint_products", "vjp") == (0, 0)


@pytest.mark.parametrize(
    "name", ["textbook", "in_place", "foreach_kernels", "fused_kernel", "optim_fused", "closed_form"]
)
def test_many_tensors_take_the_kernels_of_one(name):
    assert kernels_of_a_step(name, k=10) == kernels_of_a_step(name, k=1)


@pytest.mark.parametrize(("name", "each"), [("optim_loop", 9), ("optim_foreach", 2)])
def test_but_not_tensor_by_tensor(name, each):
    """Nine for every tensor; two are left to foreach, which reads a count of steps for either bias correction."""
    few, many = (kernels_of_a_step(name, k=k)[0] for k in (2, 10))
    assert many - few == 8 * each


def test_many_tensors_are_optimised_as_one_array():
    """Whichever way the parameters are cut, each of them sees its own gradients alone."""
    cut = dict(draw_numbers(Scenario(adam.adam, "primal", size(t=6, k=4, p=5), "float64", "cpu")))
    whole = {**cut, "g": cut["g"].reshape(6, 20), "w": cut["w"].reshape(20)}
    for name in ("in_place", "foreach_kernels", "fused_kernel", "optim_loop", "optim_foreach", "optim_fused"):
        assert run(name, cut).shape == (4, 5)
        assert torch.allclose(run(name, cut).flatten(), run(name, whole), rtol=0, atol=1e-15), name


class Words(TorchDispatchMode):
    """Counts the vectors that an operation reads, each once, and the one that it writes."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._fused_adam_.default:
            self.total += 4 + 3  # w, g, m and v are read; w, m and v are written
        elif not function.is_view and output.dim():
            self.total += 1 + len({id(each) for each in args if isinstance(each, torch.Tensor)})
        return output


@pytest.mark.parametrize(("name", "words"), [("textbook", 32), ("in_place", 16), ("fused_kernel", 7)])
def test_words_of_a_step(name, words):
    """Where a step is long, that is what it costs."""

    def moved(t):
        inputs = to_inputs(SMALL, draw_numbers(Scenario(adam.adam, "vjp", size(t=t, p=4), "float64", "cpu")))
        with Words() as seen:
            VARIANTS[name].function(*inputs.primals, *inputs.constants)
        return seen.total

    assert moved(20) - moved(10) == 10 * words


# ---- closed forms ----


def test_the_triangular_matrices_average(numbers):
    """Rows of weights that sum to 1: the mean of equal gradients is that gradient, from the first step on."""
    for beta in (0.9, 0.999):
        L = adam.averaging(50, beta)
        assert np.allclose(L.sum(axis=1), 1, rtol=1e-12)
        assert np.array_equal(L, np.tril(L))


def test_the_matrices_are_made_in_float64():
    """In float32 the first 1 − β₂ᵗ alone would be wrong by 1e-5."""
    (L,), (exact,) = (adam.averages(torch.zeros(50, dtype=dtype), 0.999) for dtype in (torch.float32, torch.float64))
    assert torch.equal(L, exact.float())
    in_float32 = 1 - torch.tensor(0.999) ** torch.arange(1, 51)
    assert abs(in_float32[0].double() / (1 - 0.999) - 1) > 1e-5


def test_an_adjoint_in_many_chunks_is_the_adjoint(monkeypatch):
    rng = np.random.default_rng(2)
    g, w, cotangent = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((4, 11), 11, 11))
    value, (whole,) = adam.adjoint_products(g, w, *RATES.values(), cotangent)
    monkeypatch.setattr(adam, "CHUNK", 5)
    value_of_chunks, (chunks,) = adam.adjoint_products(g, w, *RATES.values(), cotangent)
    assert torch.allclose(value, value_of_chunks, rtol=1e-14)
    assert torch.allclose(whole, chunks, rtol=1e-13)


# ---- known to be wrong ----


def test_a_time_from_zero_divides_infinity_by_infinity(numbers):
    """Not 0/0: m and v have taken in the first gradient by then."""
    w, g = torch.zeros(3), torch.tensor([1.0, -2.0, 0.0])
    _, _, mean, square = adam.unbiased_moments(g, w, w, 0, 0.9, 0.999)
    assert mean[:2].isinf().all()
    assert square[:2].isinf().all()
    assert mean[2].isnan()  # but of a gradient of 0 it is
    assert run("time_from_zero", numbers).isnan().all()


def test_eps_in_the_root_is_another_rule_unless_it_is_zero(numbers):
    inside, outside = run("eps_in_the_root", numbers), run("textbook", numbers)
    assert (inside - outside).abs().max() > 1e-4
    assert torch.allclose(run("eps_in_the_root", numbers, eps=0.0), run("textbook", numbers, eps=0.0), rtol=1e-14)


def test_the_differentiable_optimiser_counts_its_steps_in_float32(numbers):
    """That is all that is wrong with it: where float64 is the default dtype it is right."""
    exact = torch.from_numpy(adam.reference_primal(numbers)["value"].astype(float))
    assert 1e-7 < (run("optim_differentiable_float32_step", numbers) - exact).abs().max() < 1e-4
    assert torch.allclose(run("optim_differentiable", numbers), exact, rtol=1e-13)
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.allclose(run("optim_differentiable_float32_step", numbers), exact, rtol=1e-13)
    finally:
        torch.set_default_dtype(default)
