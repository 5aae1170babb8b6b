"""Declarations refuse what could not work, in a sentence that says what to change."""

import pytest

from conftest import make_family
from gradrace.declare import Limit, size
from gradrace.errors import UsageError


def test_the_function_is_returned_unchanged():
    def function(x, unused):
        return x

    assert make_family().variant(source="a test")(function) is function


def test_two_variants_of_one_name_are_refused():
    family = make_family()
    family.variant(source="a test", name="same")(lambda x, unused: x)
    with pytest.raises(UsageError, match=r"two variants of the name 'same'; rename"):
        family.variant(source="a test", name="same")(lambda x, unused: x)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"operators": ("gradient",)}, "unknown operator 'gradient'"),
        ({"name": "two-words"}, "letters, digits and underscores"),
    ],
)
def test_a_family_of_unknown_words_is_refused(facts, message):
    with pytest.raises(UsageError, match=message):
        make_family(**facts)


@pytest.mark.parametrize(
    "facts", [{"operators": ("vpj",)}, {"expected": {"y": ("agree", "")}}, {"expected": {"x": ("fine", "")}}]
)
def test_a_variant_of_unknown_words_is_refused(facts):
    with pytest.raises(UsageError, match=r"squares/odd"):
        make_family().variant(source="a test", name="odd", **facts)(lambda x, unused: x)


def test_a_size_spells_its_axes():
    made = size("test", n=20, m=100, start="near")
    assert made.word == "n20_m100_near"
    assert made["m"] == 100
    assert made.get("b") is None
    with pytest.raises(UsageError, match="unknown tier"):
        size("tset", n=1)


def test_a_limit_speaks_only_beyond_itself():
    limit = Limit(lambda size: size["n"], 10, "a step an element")
    assert limit.exceeded_by(size("test", n=10)) is None
    assert limit.exceeded_by(size("test", n=11)) == "a step an element: 11 is over the limit of 10"


def test_a_baseline_must_be_named_for_the_operator():
    with pytest.raises(UsageError, match="names no baseline for the operator"):
        make_family(baseline={"vjp": "right"}).baseline_of("value_and_gradient")
