"""The second opinion knows nothing of the reference, and agrees with it about every case."""

import math

import numpy as np
import pytest

from conftest import make_family, only_case
from gradrace import cli
from gradrace.cases import Selection, all_cases
from gradrace.errors import UsageError
from gradrace.taylor import HAS_DERIVATIVE, judge, taylor

CASES = {
    case.id: case
    for case in Selection(tier="test", dtype=("float64",), operator=HAS_DERIVATIVE).apply(all_cases())
    if case.variant.name != "compiled" and not case.skip_reason
}


ONE_SIZE = {(case.scenario.family, case.scenario.operator, case.variant): name for name, case in CASES.items()}
"""One size of each formulation and operator, the last that is declared."""


@pytest.mark.parametrize("case_id", ONE_SIZE.values())
def test_every_derivative_is_that_of_its_own_value(case_id):
    """The specimens whose values are wrong too may have the right derivative of a wrong function."""
    case, opinion = CASES[case_id], taylor(CASES[case_id])
    if not case.variant.is_specimen:
        assert opinion.verdict in ("second order", "linear"), opinion


def test_the_detaching_specimen_is_seen_without_a_reference():
    case = CASES["sandwich/detached/value_and_gradient/d5_n1_cond100/float64/cpu"]
    opinion = taylor(case)
    assert opinion.verdict == "first order"
    assert math.isclose(opinion.order, 1, abs_tol=0.05)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1, "second order"), (1.03, "first order"), (1 + 1e-6, "first order"), (-1, "first order")]
)
def test_a_wrong_factor_shows_down_to_a_millionth(factor, verdict):
    assert judge(lambda h: np.asarray(math.exp(h)), np.asarray(factor)).verdict == verdict


def test_a_line_is_verified_too():
    assert judge(lambda h: np.asarray(1 + 3 * h), np.asarray(3.0)).verdict == "linear"
    assert judge(lambda h: np.asarray(1 + 3 * h), np.asarray(3.1)).verdict == "first order"


def test_a_kink_beyond_the_smallest_steps_does_not_matter():
    assert judge(lambda h: np.asarray(2 + max(h, 0.01)), np.asarray(0.0)).verdict != "first order"
    assert judge(lambda h: np.asarray(2 + h + 5 * max(h - 0.01, 0)), np.asarray(1.0)).verdict == "linear"


def test_noise_leaves_no_usable_window():
    rng = np.random.default_rng(0)
    noisy = judge(lambda h: np.asarray(math.exp(h) + 1e-3 * rng.standard_normal()), np.asarray(1.0))
    assert noisy.verdict == "no usable window"
    undefined = judge(lambda h: np.asarray(math.nan if h else 1.0), np.asarray(1.0))
    assert undefined.verdict == "no usable window"


def test_float32_has_no_usable_window():
    case = only_case(make_family(), lambda x, unused: (x * x).sum(), "float32")
    assert taylor(case).verdict == "no usable window"


def test_what_has_no_derivative_is_answered():
    family = make_family(operators=("primal",), reference={})
    family.variant(source="a test", name="right")(lambda x, unused: (x * x).sum())
    with pytest.raises(UsageError, match="has no derivative"):
        taylor(only_case(family, lambda x, unused: (x * x).sum()))


def test_the_command_shows_the_order_and_exits_1_for_a_wrong_one(capsys, tmp_path, monkeypatch):
    assert cli.main(["verify", "--taylor", "jacobian_modes/*/n1_m256/*"]) == 0
    assert "order 2.0" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taylor_kernels.py").write_text(
        "from gradrace import Family, size\n"
        "def exact(n):\n"
        "    return {'value': (n['x'] ** 2).sum(), 'x': n['x']}\n"  # the reference shares the kernel's mistake
        "blessed = Family(name='blessed', summary='', source='', primals=('x',), operators=('value_and_gradient',),\n"
        "    baseline='half', sizes=(size('test', 'bench', n=3),), reference={'value_and_gradient': exact},\n"
        "    draw=lambda size, rng: {'x': rng.standard_normal(3)})\n"
        "@blessed.variant(source='a test')\n"
        "def half(x):\n"
        "    return (x * x.detach()).sum()\n"
    )
    assert cli.main(["verify", "--module", "taylor_kernels", "blessed/*"]) == 0
    assert cli.main(["verify", "--taylor", "--module", "taylor_kernels", "blessed/*"]) == 1
    assert (
        "blessed/half/value_and_gradient/n3/float64/cpu: the Taylor remainder falls by order 1"
        in capsys.readouterr().err
    )
