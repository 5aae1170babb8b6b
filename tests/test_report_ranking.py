"""Who wins, what is a tie, where lines cross and how steep they are; and what is told of it in Markdown."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradrace.report.history import ENOUGH, MOVED, Move, moves, told_together
from gradrace.report.ranking import (
    crossovers,
    exponents,
    families,
    is_right,
    ladders,
    races,
    spell_interval,
    spell_power,
    spell_ratio,
    spell_seconds,
    spell_time,
    why,
)
from gradrace.report.reading import read
from gradrace.report.rows import Output, Point, Results, Time, Verdict
from gradrace.report.summary import markdown
from gradrace.verify import Outcome
from report_documents import DISAGREES, asv, bench, described, make_row, output, timed, verdict, write


def case(variant, size="n10", operator="vjp", dtype="float64", family="mine"):
    return f"{family}/{variant}/{operator}/{size}/{dtype}/cpu"


def only_race(*rows):
    (race,) = races(rows)
    return race


def test_the_fastest_right_one_wins_by_its_ratio_and_what_the_quartiles_leave_of_it():
    race = only_race(make_row(case("plain"), 4.0), make_row(case("fast"), 1.0), make_row(case("middle"), 2.0))
    assert [standing.variant for standing in race.standings] == ["fast", "middle", "plain"]
    assert (race.winner.ratio, race.winner.low, race.winner.high) == (1, 1, 1)
    assert race.is_clear
    assert race.second.ratio == 2
    assert (race.second.low, race.second.high) == pytest.approx((1.8 / 1.1, 2.2 / 0.9))
    assert race.baseline.ratio == 4
    assert (race.family, race.operator, race.size, race.dtype, race.device) == ("mine", "vjp", "n10", "float64", "cpu")


def test_a_lead_within_the_scatter_is_a_tie_of_all_that_are_so_near():
    rows = [make_row(case(name), seconds) for name, seconds in (("a", 1.0), ("b", 1.1), ("c", 1.2), ("d", 2.0))]
    race = only_race(*rows)
    assert not race.is_clear
    assert [standing.variant for standing in race.tied] == ["a", "b", "c"]


def test_a_lead_is_told_against_who_ties_where_a_faster_one_is_beaten():
    """The third scatters so widely that it may be as fast as the first, and the second may not."""
    rows = [make_row(case("a"), 1.0, 0.01), make_row(case("b"), 1.2, 0.01), make_row(case("c"), 1.3, 0.5)]
    race = only_race(*rows)
    assert [standing.variant for standing in race.tied] == ["a", "c"]
    assert (race.second.variant, race.second.is_tied) == ("c", True)


def test_what_is_wrong_never_wins():
    outputs = {"x": output(DISAGREES), "y": Output("zero", None, None), "z": Output("agree", 0, 1)}
    race = only_race(make_row(case("plain")), make_row(case("odd"), 0.1, right=False, outputs=outputs))
    assert race.winner.variant == "plain"
    (wrong,) = race.wrong
    assert (wrong.variant, wrong.why) == ("odd", "x disagree (error 5e+14 × the tolerance), y zero")


def test_a_race_without_a_right_one_has_no_winner():
    race = only_race(make_row(case("odd"), right=False))
    assert (race.winner, race.second, race.baseline, race.tied) == (None, None, None, ())


def test_a_value_whose_derivative_is_wrong_wins_nothing():
    rows = [
        *(make_row(case("plain", operator="primal"), 2.0), make_row(case("odd", operator="primal"), 1.0)),
        *(make_row(case("plain")), make_row(case("odd"), right=False)),
    ]
    values, derivatives = races(rows)
    assert values.winner.variant == "plain"
    assert values.wrong[0].why == "its vjp is wrong: x disagree (error 5e+14 × the tolerance)"
    assert derivatives.winner.variant == "plain"


def test_a_derivative_that_is_wrong_in_another_type_is_no_matter():
    rows = [make_row(case("odd", operator="primal")), make_row(case("odd", dtype="float32"), right=False)]
    assert races(rows)[0].winner.variant == "odd"


@pytest.mark.parametrize("status", ["agree", "noise", "none", "zero", "nan", "disagree", "error"])
@pytest.mark.parametrize("error", [None, 1.0])
def test_an_output_is_right_here_where_it_is_right_in_the_check(status, error):
    assert is_right(Output(status, error, 1.0)) == Outcome(status, "agree", error, 1.0).is_right


def test_why_a_case_is_wrong_is_said_also_without_an_error():
    assert why(make_row(case("odd"), right=False, outputs={"x": Output("agree", 0.0, 1.0)})) == (
        "a witness contradicts it"
    )
    beyond = {"x": Output("disagree", math.inf, 1.0)}
    assert why(make_row(case("odd"), right=False, outputs=beyond)) == "x disagree (error without bound)"


def test_families_keep_the_order_of_their_rows():
    rows = [make_row(case("plain", family=name)) for name in ("b", "a", "b")]
    assert {name: len(found) for name, found in families(rows).items()} == {"b": 2, "a": 1}
    assert list(families(rows)) == ["b", "a"]


def climb(seconds, sizes=(1, 10, 100, 1000), spread=0.01, size="n{}", **others):
    """A row for each size of each variant."""
    pairs = [(n, variant, of) for n in sizes for variant, of in seconds.items()]
    return [make_row(case(variant, size.format(n)), of(n), spread, **others) for n, variant, of in pairs]


def test_scenarios_that_differ_in_one_axis_are_a_ladder():
    sizes = ("d5_n1_warm", "d5_n10_warm", "d50_n10_warm", "d5_n10_cold", "word")
    rows = [make_row(case("plain", size)) for size in sizes]
    found = {(ladder.line.axis, ladder.line.at): [n for n, _ in ladder.rungs] for ladder in ladders(races(rows))}
    assert found == {("n", "d5_warm"): [1, 10], ("d", "n10_warm"): [5, 50]}


def test_lines_cross_where_the_winner_changes():
    rows = climb({"flat": lambda n: 30.0, "linear": lambda n: n})
    (found,) = crossovers(races(rows))
    assert (found.low, found.high, found.before, found.after) == (10, 100, "linear", "flat")
    assert found.size == pytest.approx(30)
    assert (found.line.axis, found.line.at, found.line.operator) == ("n", "", "vjp")


def test_a_change_within_the_scatter_is_no_crossover():
    assert crossovers(races(climb({"a": lambda n: 1.0, "b": lambda n: 1.05 if n < 50 else 0.95}, spread=0.1))) == []


def test_a_tie_between_two_clear_leads_belongs_to_the_crossing():
    rows = climb({"a": lambda n: n, "b": lambda n: 10.2}, spread=0.1)
    (found,) = crossovers(races(rows))
    assert (found.low, found.high) == (1, 100)
    assert found.size == pytest.approx(10.2)


def test_a_lead_that_was_never_clear_does_not_cross():
    assert crossovers(races(climb({"a": lambda n: 1.0, "b": lambda n: 1.01 if n == 1 else 0.1}, spread=0.1))) == []


def test_where_the_leader_ends_nothing_crosses():
    rows = [row for row in climb({"a": lambda n: n, "b": lambda n: 30.0}) if row.variant == "b" or row.axes["n"] < 50]
    assert crossovers(races(rows)) == []


def test_what_leads_twice_crosses_twice():
    rows = climb({"a": lambda n: 1.0, "b": lambda n: {1: 3.0, 10: 0.3, 100: 3.0, 1000: 3.0}[n]})
    assert [(each.before, each.after) for each in crossovers(races(rows))] == [("a", "b"), ("b", "a")]


@given(power=st.floats(-1, 3), scale=st.floats(1e-9, 1e3))
def test_an_exponent_is_found(power, scale):
    (found,) = exponents(races(climb({"a": lambda n: scale * n**power})))
    assert found.slope == pytest.approx(power, abs=1e-9)
    assert found.sizes == (1, 10, 100, 1000)
    assert not found.is_weak


def test_an_exponent_of_two_sizes_is_weak_and_of_one_is_none():
    rows = [*climb({"a": lambda n: n}, (1, 10)), *climb({"b": lambda n: n}, (1,))]
    (found,) = exponents(races(rows))
    assert (found.variant, found.is_weak) == ("a", True)


@pytest.mark.parametrize(
    ("laws", "declared"),
    [
        ([("n", "d5", {"flops": 1}), ("n", "d50", {"flops": 2})], {"flops": 1}),
        ([("n", "d7", {"flops": 2}), ("d", "n1", {"flops": 3})], {"flops": 2}),
        ([("n", "d7", {"flops": 2}), ("n", "d8", {"flops": 3})], {}),
        ([], {}),
    ],
)
def test_the_law_at_the_same_other_axes_stands_beside_an_exponent(laws, declared):
    (found,) = exponents(races(climb({"a": lambda n: n}, size="d5_n{}", laws=laws)))
    assert found.declared == declared


@pytest.mark.parametrize(
    ("ratio", "low", "high", "text"),
    [
        (3.31, 3.19, 3.37, "3.3 ×"),
        (3.31, 3.30, 3.32, "3.31 ×"),
        (1.0213, 1.0201, 1.0219, "1.021 ×"),
        (6210, 4310, 8410, "6,200 ×"),
        (2.1, 0.5, 13.0, "2.1 ×"),
        (1.0, 1.0, 1.0, "1.00 ×"),
        (0.04, 0.01, 3.0, "0.040 ×"),
        (14.4, 11.0, 22.0, "14 ×"),
        (144.0, 141.0, 180.0, "144 ×"),
        (1.06, 0.5, 1.06, "1.06 ×"),
        (1.449, 1.449, 9.0, "1.45 ×"),
    ],
)
def test_a_ratio_has_the_digits_that_its_spread_supports(ratio, low, high, text):
    assert spell_ratio(ratio, low, high) == text


@given(st.floats(1e-3, 1e4), st.floats(0, 0.9), st.floats(0, 9))
def test_a_rounded_ratio_stays_inside_its_interval(ratio, below, above):
    low, high = ratio * (1 - below), ratio * (1 + above)
    spelled = float(spell_ratio(ratio, low, high).removesuffix(" ×").replace(",", ""))
    assert low <= spelled <= high or low == high


@pytest.mark.parametrize(
    ("exponent", "sizes", "text"),
    [(0.984, 3, "0.98"), (0.984, 2, "≈1.0"), (-0.001, 3, "0.00"), (-0.01, 2, "≈0.0"), (-0.52, 3, "−0.52")],
)
def test_a_power_of_two_sizes_has_a_digit_less(exponent, sizes, text):
    assert spell_power(exponent, sizes) == text


@pytest.mark.parametrize(
    ("low", "high", "text"), [(3.19, 3.37, "3.19 to 3.37"), (1.04, 3.9, "1.0 to 3.9"), (4310, 8410, "4,300 to 8,400")]
)
def test_an_interval_has_one_digit_more(low, high, text):
    assert spell_interval(low, high) == text


@pytest.mark.parametrize(
    ("median", "low", "high", "text"),
    [
        (3.67e-4, 3.5e-4, 3.8e-4, "370 µs"),
        (9.96e-4, 9.0e-4, 11e-4, "1.00 ms"),
        (1.5e-9, 1.5e-9, 1.5e-9, "1.50 ns"),
        (12.0, 11.0, 14.0, "12 s"),
        (2e-7, 1e-7, 9e-6, "200 ns"),
    ],
)
def test_a_time_has_the_digits_that_its_quartiles_support(median, low, high, text):
    assert spell_time(Time(median, low, high, 5, None)) == text


def test_a_time_of_nothing_is_spelled():
    assert spell_seconds(0.0, 0.0, 0.0).startswith("0")


def point(date, value, low=None, high=None, what="time", **others):
    facts = {
        "machine": "here",
        "hardware": "",
        "python": "3.11",
        "torch": "2.13.0",
        "benchmark": "mine/vjp",
        "parameters": ("plain", "n10", "cpu"),
    }
    return Point(commit=str(date) * 12, date=date, what=what, value=value, low=low, high=high, **{**facts, **others})


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ((1.0, 0.9, 1.1), (1.5, 1.2, 1.6), False),
        ((1.0, 0.9, 1.1), (1.5, 1.3, 1.6), True),
        ((1.5, 1.3, 1.6), (1.0, 0.9, 1.1), True),
        ((1.0, 1.0, 1.0), (MOVED * 0.99, MOVED * 0.99, MOVED * 0.99), False),
        ((1.0, 1.0, 1.0), (MOVED * 1.01, MOVED * 1.01, MOVED * 1.01), True),
        ((1.0, None, None), (9.0, None, None), False),  # of single samples nobody knows how they scatter
        ((1.0, 0.9, 1.1), (9.0, None, None), False),
    ],
)
def test_a_time_moves_beyond_the_intervals(before, after, moved):
    assert bool(moves([point(1, *before), point(2, *after)])) == moved


def climbing(factors):
    """The times of many formulations at two commits, each by its factor."""
    names = [(f"v{place}", "n10", "cpu") for place in range(len(factors))]
    return [
        point(date, value, 0.99 * value, 1.01 * value, parameters=name)
        for name, factor in zip(names, factors, strict=True)
        for date, value in ((1, 1.0), (2, factor))
    ]


def test_a_commit_at_which_all_times_moved_is_not_blamed_for_each_of_them():
    """What they share moved them: a formulation is listed that moved further than the others, or the other way; not one
    that stayed, nor one that moved less.
    """
    points = climbing([1.5] * 19 + [3.0, 1.0, 1.2, 0.5])
    further, other_way = sorted(moves(points), key=lambda move: -move.after.value)
    assert (further.after.parameters[0], further.is_worse) == ("v19", True)
    assert further.distance == pytest.approx(math.log(2))
    assert (other_way.after.parameters[0], other_way.is_worse) == ("v22", False)
    assert other_way.distance == pytest.approx(math.log(3))
    (told,) = told_together(points)
    assert told.startswith("The times as a whole (their median) moved to 1.5 × at 222222222222: ")


def test_half_of_the_times_are_not_the_whole():
    """A regression of eleven kernels of twenty-one is one of each of them, and the ten that stayed did not fall."""
    points = climbing([2.0] * 11 + [1.0] * 10)
    assert told_together(points) == []
    assert [move.is_worse for move in moves(points)] == [True] * 11


def test_of_few_times_no_common_move_is_read():
    points = climbing([1.5] * (ENOUGH - 1))
    assert len(moves(points)) == ENOUGH - 1
    assert told_together(points) == []


def test_a_counter_is_what_it_is_also_where_all_times_moved():
    ops = [point(1, 7, what="ops_forward"), point(2, 8, what="ops_forward")]
    assert [move.after.what for move in moves([*climbing([1.5] * ENOUGH), *ops])] == ["ops_forward"]


def test_a_counter_moves_when_it_is_another_number():
    line = [point(date, value, what="ops_forward") for date, value in ((3, 8), (1, 7), (2, 7), (4, 0))]
    latest, first = moves(line)
    assert (first.before.date, first.after.date, first.is_worse) == (2, 3, True)
    assert (latest.after.date, latest.is_worse, latest.distance) == (4, False, math.inf)
    assert first.distance == pytest.approx(math.log(8 / 7))


@pytest.mark.parametrize(
    "difference",
    [{"machine": "there"}, {"torch": "2.6.0"}, {"parameters": ("odd",)}, {"python": "3.12"}, {"hardware": "another"}],
)
def test_only_the_same_number_of_the_same_machine_and_torch_moves(difference):
    assert moves([point(1, 1, what="flops"), point(2, 2, what="flops", **difference)]) == []


def test_one_commit_that_was_measured_twice_moved_nothing():
    assert moves([point(1, 1, what="flops"), point(1, 2, what="flops")]) == []


def test_a_move_is_between_commits_that_follow_each_other():
    (move,) = moves([point(1, 1, what="flops"), point(3, 2, what="flops"), point(2, 2, what="flops")])
    assert move == Move(point(1, 1, what="flops"), point(2, 2, what="flops"))


def test_the_summary_tells_winner_lead_wrong_ones_crossovers_and_where_it_was_made(tmp_path):
    sizes = [(n, n * 1e-6) for n in (10, 100, 1000)]
    runs = [timed(case("plain", f"n{n}"), seconds) for n, seconds in sizes]
    runs += [timed(case("flat", f"n{n}"), 5e-5) for n, _ in sizes]
    wrong = [described(case("odd", "n10"), right=False)]
    text = markdown(read([write(tmp_path / "bench.json", bench(*runs, wrong=wrong))]))
    lines = text.splitlines()
    assert "a processor, 2 cores, Linux x86_64, device cpu; Python 3.11.7, torch 2.13.0+cpu, NumPy 2.4.6" in text
    assert "threads 1; commit 0123456789ab on 2026-11-22. 7 cases, 1 of them wrong" in text
    assert r"f(x) = \|x\|" in lines
    ten = next(line for line in lines if line.startswith("| `vjp/n10/float64/cpu` |"))
    assert ten == (
        "| `vjp/n10/float64/cpu` | `plain` | 10 µs | 5.0 × (4.1 to 6.1) `flat` | it is the baseline | – | 7 | `odd` |"
    )
    thousand = next(line for line in lines if line.startswith("| `vjp/n1000/float64/cpu` |"))
    assert "| `flat` | 50 µs | 20 × (16.4 to 24.4) `plain` | 20 × (16.4 to 24.4) `plain` |" in thousand
    assert "- `odd`, vjp: x disagree (error 5e+14 × the tolerance)" in lines
    assert "- vjp/float64/cpu: `plain` up to n ≈ 50, `flat` above (measured at n = 10 and 100)" in lines


def test_too_few_rounds_know_no_scatter_and_so_no_lead(tmp_path):
    brief, long = timed(case("plain"), 1e-5), timed(case("fast"), 1e-6)
    brief["stats"]["rounds"] = 1
    text = markdown(read([write(tmp_path / "bench.json", bench(brief, long))]))
    assert "| `fast` ≈ `plain` | 1.0 µs | ≈ 10 × (scatter unknown) `plain` |" in text


def test_a_tie_is_told_as_a_tie(tmp_path):
    runs = [timed(case(name), 1e-5) for name in ("plain", "a", "b", "c", "d")]
    text = markdown(read([write(tmp_path / "bench.json", bench(*runs))]))
    assert "| `plain` ≈ `a` ≈ `b` ≈ 2 others | 10 µs | ≈ 1.0 × (0.82 to 1.22) `a` |" in text


def test_a_scenario_that_nobody_answers_rightly_says_so(tmp_path):
    run = bench(wrong=[described(case("odd"), right=False)])
    assert "| `vjp/n10/float64/cpu` | nobody is right |" in markdown(read([write(tmp_path / "bench.json", run)]))


def test_a_bar_or_a_tag_in_a_text_ends_no_cell():
    finding = {"id": "a|b", "what": "gradient", "colour": "red", "text": "x |y|\n<img src=x> *bold*"}
    found = Verdict("gate.json", "regression|", "base", "head", "2.13.0", [finding], [])
    text = markdown(Results(verdicts=[found]))
    assert r"| base | head | – | regression\| | red 1 | – | 2.13.0 |" in text
    assert r"- red: a\|b, x \|y\| \<img src=x> \*bold\*" in text


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# Of x", r"\# Of x"),
        ("#1 of x", "#1 of x"),
        ("> x", r"\> x"),
        ("- x", r"\- x"),
        ("-x", "-x"),
        ("1. x", r"1\. x"),
        ("1.5 x", "1.5 x"),
        ("~~x~~", r"\~\~x\~\~"),
        ("&lt; & <", r"\&lt; & \<"),
    ],
)
def test_what_markdown_would_read_as_its_own_is_escaped(text, written):
    found = Verdict("gate.json", text, "base", "head", "2.13.0", [], [])
    assert f"| base | head | – | {written} |" in markdown(Results(verdicts=[found]))


def test_the_summary_tells_verdicts_red_first(tmp_path):
    findings = [
        {"id": case("plain"), "what": "time", "colour": "gain", "text": "faster"},
        {"id": case("odd"), "what": "gradient", "colour": "red", "text": "changed"},
    ]
    kernels = [{"id": case(name), "judgement": word} for name, word in (("a", "same"), ("b", None), ("c", "same"))]
    document = verdict("regression", findings, kernels)
    document |= {"asked": {"pattern": "mine/*", "every": True}, "budget_s": 30, "date": "2026-11-22T08:00:00+00:00"}
    text = markdown(read([write(tmp_path / "gate.json", document)]))
    assert text.startswith("# What did the gate say?\n")
    asked = "mine/\\*, every size, 30 s for times"
    assert f"| 012345678901 | working tree | {asked} | regression | red 1, gain 1 | same 2 | 2.13.0+cpu |" in text
    assert text.index("- red: mine/odd") < text.index("- gain: mine/plain")


def test_the_summary_tells_what_commits_moved(tmp_path):
    for date, (seconds, ops) in enumerate([(1e-3, 7), (1e-3, 7), (2e-3, 9)]):
        axes = [["'plain'"], ["'n10'"], ["'cpu'"]]
        stats = [[seconds]] * 4 + [[9]]
        results = {
            "k.MineVjp.time_kernel": [[seconds], axes, "1", *stats],
            "k.MineVjp.track_ops_forward": [[ops], axes, "1"],
        }
        write(tmp_path / f"{date}-env.json", asv(results, commit=str(date) * 40, date=1000 * date))
    text = markdown(read([tmp_path]))
    assert "asv measured 3 commits; 1 of them moved a number." in text
    assert "### 222222222222" in text
    assert "work: 1, slower: 1" in text
    assert "| `mine/vjp` plain n10 cpu | ops_forward | 7 | 9 |" in text
    assert "| `mine/vjp` plain n10 cpu | time | 1.00 ms | 2.00 ms |" in text
