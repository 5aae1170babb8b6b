"""Laws of growth: the declared ones hold, a false one is contradicted, and the time is told but not judged."""

import json
import sys

import pytest

from gradrace import Growth, cli, size
from gradrace.cases import Selection, all_cases
from gradrace.errors import UsageError
from gradrace.families import FAMILIES
from gradrace.families.sandwich import sandwich
from gradrace.growth import LIMIT, Law, Rung, climb, declared, fit
from gradrace.work import COMPILED, Work, count

CASES = Selection().apply(all_cases())
DECLARED = [each for each in declared(CASES) if "compiled" not in each[1].name]


@pytest.mark.parametrize("law", DECLARED, ids=lambda law: f"{law[0].name}-{law[1].name}-{law[2].axis}")
def test_every_declared_law_holds(law):
    rungs = {case: Rung(count(case), 1.0) for case in climb([law])}
    laws = fit([law], rungs)
    assert {each.counter for each in laws} == {*law[2].exponents, "seconds"}
    assert [each.complaint for each in laws if not each.ok] == []


def test_every_family_of_many_sizes_declares_a_law():
    silent = {family.name for family in FAMILIES if not family.growth}
    # Their only size that matters is one, or their work is one operation.
    assert silent <= {
        *("identity", "hello", "sgd_exponent"),
        *("two_faces_relu", "two_faces_abs", "two_faces_twice", "two_faces_jump"),
    }


def law(counts, exponent, ladder=(64, 128, 256)):
    return Law("f", "v", "primal", "n", "d5", "flops", ladder, tuple(counts), exponent)


@pytest.mark.parametrize(
    ("counts", "exponent", "ok"),
    [
        ([64**3, 128**3, 256**3], 3, True),
        ([64**3, 128**3, 256**3], 2, False),
        ([7, 7, 7], 0, True),
        ([0, 0, 0], 0, True),
        ([0, 0, 0], 1, False),
        ([0, 10, 20], 1, False),  # no power at all
        ([64**2 + 64, 128**2 + 128, 256**2 + 256], 2, True),  # a lower term of a hundredth
        ([64 + 640, 128 + 640, 256 + 640], 1, False),  # a constant that dominates
    ],
)
def test_a_fit_tells_a_law_from_another(counts, exponent, ok):
    assert law(counts, exponent).ok is ok


def test_the_limit_is_far_below_the_distance_of_two_laws():
    """n^1.5 beside n^1 or n^2, and n ln n beside n on the ladders in use, differ by more than the limit."""
    fitted = law([n**1.5 for n in (64, 128, 256)], 1).fitted
    assert abs(fitted - 1) > 4 * LIMIT
    assert abs(fitted - 2) > 4 * LIMIT


def test_time_is_fitted_and_not_judged():
    told = law([0.1, 0.1, 7.0], None)
    assert told.ok
    assert told.as_json()["declared"] is None


def test_a_law_of_what_is_not_known_asks_for_another():
    (compiled,) = (each for each in CASES if each.id == "soft_threshold/compiled/vjp/n1000/float64/cpu")
    growth = Growth("n", (10, 20, 40), "vjp", {"flops": 1})
    wish = (compiled.scenario.family, compiled.variant, growth)
    graph_only = Work(compiled.id, graph_nodes=2, graph_depth=2, saved_bytes=0, peak_bytes=None, reason=COMPILED)
    rungs = {case: Rung(graph_only, 1.0) for case in climb([wish])}
    with pytest.raises(UsageError, match=r"flops is not known .*compiled code runs eagerly.*grows="):
        fit([wish], rungs)


def test_a_variant_overrides_the_law_of_its_family_for_one_axis():
    (wasteful,) = (variant for variant in sandwich.variants if variant.name == "wasteful")
    laws = {each.axis: each.exponents["flops"] for each in sandwich.growth_of(wasteful)}
    assert laws == {"n": 1, "d": 3}


QUADRATIC = """
import torch
from gradrace import Family, Growth, size
mine = Family(name="mine", summary="", source="", primals=("x",), operators=("primal",), baseline="product",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
              growth=(Growth("n", (128, 256, 512), "primal", {"flops": 1, "peak_bytes": 1}),))
@mine.variant(source="a test")
def product(x):
    return x @ x
@mine.variant(source="a test")
def by_matrix(x):
    return (torch.outer(x, x) @ torch.ones_like(x)) @ x
"""


LIMITED = 'Limit(lambda size: size["n"], 300, "too long")'


@pytest.fixture
def quadratic(tmp_path, monkeypatch):
    (tmp_path / "growth_kernels.py").write_text(QUADRATIC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "growth_kernels"


def test_a_contradicted_exponent_fails(quadratic, capsys):
    assert cli.main(["work", "mine/*", "--module", quadratic, "--exponents"]) == 1
    errors = " ".join(capsys.readouterr().err.split())
    assert "mine/by_matrix/primal/" in errors
    assert "flops grows as n^1.9" in errors or "flops grows as n^2.0" in errors
    assert "where n^1 is declared; fix the variant, or give it a law of its own by grows=" in errors


def test_the_document_holds_the_fit_beside_the_declaration(quadratic, capsys):
    cli.main(["work", "mine/*", "--module", quadratic, "--exponents", "--json"])
    rows = json.loads(capsys.readouterr().out)
    flops = {row["variant"]: row for row in rows if row["counter"] == "flops"}
    assert flops["product"]["fitted"] == pytest.approx(1)
    assert flops["by_matrix"]["fitted"] == pytest.approx(2, abs=0.05)
    assert flops["by_matrix"]["declared"] == 1
    assert flops["by_matrix"]["ok"] is False
    assert {row["counter"] for row in rows} == {"flops", "peak_bytes", "seconds"}
    assert all(min(row["counts"]) > 0 for row in rows if row["counter"] == "seconds")


def test_a_ladder_with_a_size_that_is_skipped_is_not_passed_over(tmp_path, monkeypatch, capsys):
    limited = QUADRATIC.replace(
        '@mine.variant(source="a test")', f"@mine.variant(source='a test', limits=({LIMITED},))"
    )
    (tmp_path / "limited_kernels.py").write_text("from gradrace import Limit\n" + limited)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["work", "mine/*", "--module", "limited_kernels", "--exponents"]) == 2
    error = capsys.readouterr().err
    assert "no law was judged: each ladder has a size that is skipped" in error
    assert "n512" in error


def test_a_pattern_without_a_law_says_what_to_do(capsys):
    assert cli.main(["work", "hello/*", "--exponents"]) == 2
    assert "no law of growth is declared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("growth", "message"),
    [
        (Growth("n", (8, 16), "primal", {"flops": 1}), "three values or more that increase"),
        (Growth("n", (8, 32, 16), "primal", {"flops": 1}), "three values or more that increase"),
        (Growth("n", (8, 16, 32), "primal", {"speed": 1}), "counter"),
        (Growth("n", (8, 16, 32), "sprint", {"flops": 1}), "operator"),
        (Growth("n", (8, 16, 32), "primal", {"flops": 1}, at=size(n=3)), "holds the axis 'n' fixed"),
    ],
)
def test_a_wrong_declaration_is_refused(growth, message):
    from gradrace import Family

    with pytest.raises(UsageError, match=message):
        Family(
            name="f",
            summary="",
            source="",
            primals=("x",),
            operators=("primal",),
            baseline="a",
            sizes=(size("test", n=3),),
            draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
            growth=(growth,),
        )
