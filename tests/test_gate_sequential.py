"""The statistics of the gate against known distributions: errors, coverage, optional stopping, ties, drift, bursts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from gradrace.gate.sequential import Decider, estimate, evidence, fewest, holm, needed, smallest_effect

MARGIN, LEVEL = 0.03, 0.01
FIRST = 9
"""The fewest pairs that can decide at this level."""


@pytest.mark.parametrize(("positive", "pairs"), [(0, 1), (1, 1), (3, 5), (7, 7), (9, 14), (30, 40)])
def test_evidence_is_the_integral(positive, pairs):
    integral, _ = integrate.quad(lambda p: 2 * (2 * p) ** positive * (2 * (1 - p)) ** (pairs - positive), 0.5, 1)
    assert evidence(positive, pairs) == pytest.approx(integral)


@pytest.mark.parametrize("pairs", [1, 6, 7, 9, 60])
def test_evidence_of_unanimous_pairs(pairs):
    assert evidence(pairs, pairs) == pytest.approx(2 ** (pairs + 1) * (1 - 2 ** -(pairs + 1)) / (pairs + 1))


def test_seven_unanimous_pairs_decide_at_five_percent_and_nine_at_one():
    assert needed(6, 0.05) is None
    assert needed(7, 0.05) == 7
    assert next(n for n in range(1, 20) if needed(n, 0.01) is not None) == FIRST


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_evidence_grows_with_the_positive_signs(pair):
    positive, pairs = pair
    assert evidence(positive, pairs) <= evidence(positive + 1, pairs)


@given(st.integers(1, 200), st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_evidence_is_a_martingale_under_fair_coins(pairs, positive):
    """E after one more fair coin is E now, on average: to the last bit of the integers, to a rounding error here."""
    positive = min(positive, pairs)
    after = (evidence(positive, pairs + 1) + evidence(positive + 1, pairs + 1)) / 2
    assert after == pytest.approx(evidence(positive, pairs), rel=1e-12)


def test_a_thousand_pairs_do_not_overflow():
    assert evidence(3000, 3000) == math.inf
    assert evidence(0, 3000) < 1e-3


def run(log_ratios, cap=120, level=LEVEL):
    """Look after every pair and stop at the first judgement: the boldest use that is allowed."""
    decider = Decider(MARGIN)
    for each in log_ratios[:cap]:
        decider.add(each)
        if (judgement := decider.judgement(level)) != "undecided":
            return judgement, len(decider.log_ratios)
    return "undecided", cap


def noise(kind, rng, count):
    """Paired log ratios of identical code: symmetric, because the order inside a pair is a fair coin."""
    coin = rng.choice((-1, 1), count)
    if kind == "launches":
        return rng.normal(0, 0.012, count)
    if kind == "bursts":
        return rng.normal(0, 0.01, count) + coin * (rng.random(count) < 0.12) * rng.exponential(0.2, count)
    if kind == "drift":  # one arm runs later than the other, on a machine that slows down
        return coin * 0.02 * np.abs(np.sin(np.arange(count) / 7)) + rng.normal(0, 0.005, count)
    if kind == "ties":  # a coarse clock
        return np.round(rng.normal(0, 0.02, count), 2)
    return stats.t(1.5).rvs(count, random_state=rng) * 0.02


@pytest.mark.parametrize("kind", ["launches", "bursts", "drift", "ties", "heavy tails"])
def test_identical_code_is_hardly_ever_red_although_every_pair_is_looked_at(kind):
    rng, trials = np.random.default_rng(1), 300
    reds = sum(run(noise(kind, rng, 120))[0] in ("slower", "faster") for _ in range(trials))
    assert stats.binom.sf(reds - 1, trials, LEVEL * 2) > 1e-6


@pytest.mark.parametrize("kind", ["launches", "bursts", "ties"])
def test_at_the_margin_itself_the_error_rate_is_the_level(kind):
    """The hardest null: the true ratio is exactly 1 + δ, and half of the signs are positive."""
    rng, trials = np.random.default_rng(2), 300
    reds = sum(run(noise(kind, rng, 120) + math.log1p(MARGIN))[0] == "slower" for _ in range(trials))
    assert stats.binom.sf(reds - 1, trials, LEVEL) > 1e-6


def test_identical_code_ends_as_the_same():
    rng = np.random.default_rng(3)
    ended = [run(noise("launches", rng, 120)) for _ in range(100)]
    assert sum(judgement == "same" for judgement, _ in ended) >= 99
    assert np.median([pairs for _, pairs in ended]) < 20


@pytest.mark.parametrize(("slowdown", "judgement"), [(1.05, "slower"), (1.1, "slower"), (1 / 1.1, "faster")])
def test_a_change_is_found_within_a_few_pairs(slowdown, judgement):
    rng = np.random.default_rng(4)
    ended = [run(noise("launches", rng, 120) + math.log(slowdown)) for _ in range(100)]
    assert sum(found == judgement for found, _ in ended) >= 99
    assert np.median([pairs for _, pairs in ended]) < 40


def test_judgements_exclude_each_other():
    decider = Decider(MARGIN)
    for _ in range(50):
        decider.add(0.5)
    assert decider.judgement(LEVEL) == "slower"
    assert decider.p_value("faster") == decider.p_value("same") == 1.0


def test_a_tie_with_the_bound_speaks_for_neither_side():
    decider = Decider(MARGIN)
    for _ in range(50):
        decider.add(math.log1p(MARGIN))
    assert decider.p_value("slower") == 1.0
    assert decider.p_value("same") == 1.0


def test_the_interval_covers_at_every_time_at_once():
    """A run is a miss when the interval misses the true median after any of its pairs."""
    rng, trials, misses = np.random.default_rng(5), 200, 0
    for _ in range(trials):
        sample = noise("bursts", rng, 80)
        intervals = (estimate(sample[:n], 0.05) for n in range(1, 81))
        misses += any(not each.low <= 1.0 <= each.high for each in intervals)
    assert stats.binom.sf(misses - 1, trials, 0.05) > 1e-6


@pytest.mark.parametrize("scatter", [0.01, 0.02, 0.03])
def test_what_is_shown_to_be_the_same_has_an_interval_within_the_margin(scatter):
    """Its two halves may be shown at different times, after which the pairs may scatter again."""
    rng = np.random.default_rng(7)
    for _ in range(300):
        decider = Decider(MARGIN)
        for each in rng.normal(0, scatter, 60):
            decider.add(each)
            if decider.judgement(LEVEL / 50, LEVEL) == "same":
                break
        found = decider.estimate(2 * LEVEL)
        is_within = found.low > 1 / (1 + MARGIN) and found.high < 1 + MARGIN
        assert is_within == (decider.p_value("same") <= LEVEL)


def test_an_interval_that_its_median_has_left_is_the_last_one():
    """Twenty pairs of one mind, and then forty of the other: what both have in common holds neither."""
    ratios = [0.2 + 0.001 * place for place in range(20)] + [-0.2 - 0.001 * place for place in range(40)]
    decider = Decider(MARGIN)
    for each in ratios:
        decider.add(each)
    assert decider.estimate(0.02) == estimate(ratios, 0.02)


def test_the_interval_is_made_of_order_statistics():
    found = estimate([math.log(x) for x in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)], 0.05)
    assert found.ratio == pytest.approx(math.sqrt(1.4 * 1.5))
    assert any(found.low == pytest.approx(x) for x in (1.0, 1.1, 1.2))
    assert any(found.high == pytest.approx(x) for x in (1.7, 1.8, 1.9))


def test_too_few_pairs_have_no_interval():
    assert estimate([0.0, 0.1]).low == 0.0
    assert estimate([0.0, 0.1]).high == math.inf
    assert math.isnan(estimate([]).ratio)


def test_the_fewest_pairs_are_those_that_reach_the_level():
    assert [fewest(level) for level in (0.05, 0.01, 0.01 / 54)] == [7, FIRST, 16]


def test_holm_is_the_step_down_procedure():
    assert holm([0.001, 0.04, 0.012, 0.8], 0.05) == [True, False, True, False]
    assert holm([0.02, 0.02, 0.02], 0.05) == [False, False, False]
    assert holm([], 0.05) == []


def test_the_smallest_effect_is_found_about_as_often_as_promised():
    rng, cap = np.random.default_rng(6), 100
    effect = smallest_effect(noise("launches", rng, 400), MARGIN, LEVEL, cap)
    assert 0.03 < effect < 0.06
    found = sum(run(noise("launches", rng, cap) + math.log1p(effect), cap)[0] == "slower" for _ in range(200))
    assert stats.binom.cdf(found, 200, 0.9) > 1e-6


def test_the_smallest_effect_of_too_small_a_cap_is_not_known():
    assert smallest_effect([0.0, 0.01], MARGIN, LEVEL, 5) is None
    assert smallest_effect([], MARGIN, LEVEL, 50) is None
