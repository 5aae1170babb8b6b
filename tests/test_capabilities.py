"""Capabilities are measured: what runs and is wrong is told from what raises, and both from what is right."""

import json

import pytest
import torch

from conftest import make_family
from gradrace import cli
from gradrace.capabilities import CAPABILITIES, capabilities
from gradrace.cases import load_families

NONE = {"unused": ("none", "f does not read it")}


def measure(function, compiling=False, family=None, **facts):
    family = family or make_family()
    family.variant(source="a test", name="subject", **{"expected": NONE, **facts})(function)
    (variant,) = (row for row in family.variants if row.name == "subject")
    return {name: found.verdict for name, found in capabilities(family, variant, compiling).items()}


def test_plain_torch_can_do_everything():
    found = measure(lambda x, unused: (x * x).sum())
    assert tuple(found) == CAPABILITIES
    assert [found[what] for what in ("reverse", "forward", "twice", "vmap", "float32")] == ["yes"] * 5
    assert found["compile"] == "–"


class _SavesItsDerivative(torch.autograd.Function):
    """Right once; a second backward pass takes the saved derivative for a constant, and gives zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(2 * x)
        return (x * x).sum()

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.saved_tensors[0] * cotangent


def test_a_second_derivative_that_runs_and_is_wrong_is_told():
    found = measure(lambda x, unused: _SavesItsDerivative.apply(x))
    assert (found["reverse"], found["forward"], found["twice"], found["vmap"]) == ("yes", "no", "wrong", "no")


def test_inputs_of_a_thousandth_are_moved_by_a_part_of_themselves():
    """x / (|x| + 10⁻³) bends within a thousandth: differences over a longer step call its right derivative wrong."""
    family = make_family(
        draw=lambda size, rng: {"x": 1e-3 * (1 + rng.random(size["n"])), "unused": rng.standard_normal(size["n"])}
    )
    found = measure(lambda x, unused: (x / (x.abs() + 1e-3)).sum(), family=family)
    assert (found["reverse"], found["forward"], found["twice"]) == ("yes", "yes", "yes")


def test_a_wrong_gradient_is_wrong_in_both_modes():
    found = measure(lambda x, unused: (x * x.detach()).sum(), expected={"x": ("disagree", "half"), **NONE})
    assert (found["reverse"], found["forward"], found["float32"]) == ("wrong", "wrong", "wrong")


def test_a_kernel_that_looks_at_its_data_cannot_be_batched():
    found = measure(lambda x, unused: (x * x).sum() if x.sum() > -1e9 else x.sum())
    assert (found["reverse"], found["vmap"]) == ("yes", "no")


def test_a_batch_that_mixes_its_instances_is_wrong(monkeypatch):
    monkeypatch.setattr(torch.func, "vmap", lambda f, in_dims: lambda x, u: [(x * x).sum(1).flip(0)])
    assert measure(lambda x, unused: (x * x).sum())["vmap"] == "wrong"


def test_a_formulation_that_returns_derivatives_is_not_differentiated():
    found = measure(lambda x, unused: ((x * x).sum(), (2 * x, None)), computes="value_and_gradient")
    assert (found["reverse"], found["forward"], found["twice"]) == ("–", "–", "–")
    assert (found["vmap"], found["float32"]) == ("yes", "yes")


def test_a_family_without_a_test_size_says_so():
    family = make_family(sizes=())
    assert set(measure(lambda x, unused: (x * x).sum(), family=family).values()) == {"–"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_not_claimed_without_a_device():
    assert measure(lambda x, unused: (x * x).sum())["cuda"] == "–"


def test_compile_is_tried_whole_and_in_pieces():
    found = measure(lambda x, unused: (x * x).sum() if float(x.detach().sum()) > -1e9 else x.sum(), compiling=True)
    assert found["compile"] in ("breaks", "yes")


def test_no_formulation_of_the_catalogue_is_wrong_twice():
    """What cannot be differentiated twice must raise, and not answer in silence.

    But where torch hands numbers over to NumPy it drops the tangent of forward mode: such a value is offered alone.
    """
    (family,) = (family for family in load_families() if family.name == "sandwich")
    for variant in family.variants:
        if not variant.is_specimen:
            found = capabilities(family, variant, compiling=False)
            wrong = {what for what, each in found.items() if each.verdict == "wrong"}
            assert wrong <= ({"forward"} if family.operators_of(variant) == ("primal",) else set()), (
                variant.name,
                found,
            )


def test_the_command(capsys):
    assert cli.main(["capabilities", "--no-compile", "hello/*"]) == 0
    output = capsys.readouterr().out
    assert "hello/dot" in output
    assert all(what in output for what in CAPABILITIES)
    assert cli.main(["capabilities", "--no-compile", "--json", "hello/dot"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["id"] == "hello/dot"
    assert row["twice"] == {"verdict": "yes", "reason": ""}
    assert cli.main(["capabilities", "nothing"]) == 2
    assert "selects no formulation" in capsys.readouterr().err
