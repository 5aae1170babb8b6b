"""How the gate races: plans, laps and rounds on arms that pretend, so that nothing here depends on a clock."""

import math
from collections import Counter
from contextlib import contextmanager
from random import Random

import pytest

from gradrace.gate import contest, pairs, timing
from gradrace.gate.arms import ArmError, ArmRefusal
from gradrace.gate.comparing import Asked, Kernel


class Pretender:
    """An arm whose kernels take known times: `seconds` by name, a number or a function of the launch."""

    def __init__(self, seconds, launch=0, busy=1.0):
        self.seconds, self.launch, self.busy = seconds, launch, busy
        self.asked, self._loaded, self._answer = [], None, None

    def ask(self, *question):
        self.tell(*question)
        return self.hear()

    def tell(self, name, *arguments):
        self.asked.append((name, *arguments))
        self._answer = getattr(self, f"_{name}")(*arguments)

    def hear(self):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def pin(self, core):
        self.asked.append(("pin", core))

    def _know(self, *_):
        return []

    def _load(self, name, _):
        self._loaded = self.seconds[name]

    def _call(self):
        return self._loaded(self.launch) if callable(self._loaded) else self._loaded

    def _spend(self, calls):
        if isinstance(self._call(), Exception):
            return self._call()
        return calls * self._call(), calls * self._call() * self.busy

    def _relay(self, calls, _, turns):
        return [calls * self._call() for mine in turns if mine]

    def _share(self, calls):
        return calls * self._call()


def loaded(first, second, **facts):
    arms = Pretender({"k": first}, **facts), Pretender({"k": second}, **facts)
    for arm in arms:
        arm.ask("load", "k", None)
    return arms


def test_a_short_call_goes_by_relay_in_blocks_of_a_fifth_of_a_millisecond():
    plan = pairs.plan(loaded(1e-5, 1e-5), can_share=True)
    assert (plan.calls, plan.warm) == (20, 1)
    assert plan.blocks == pytest.approx(pairs.LAP_S / 2 / 2e-4)


def test_a_long_call_shares_the_core_and_warms_itself_up():
    assert pairs.plan(loaded(0.5, 0.5), can_share=True) == pairs.Plan(calls=1, warm_up=0)
    assert pairs.plan(loaded(0.005, 0.005), can_share=True) == pairs.Plan(calls=5, warm_up=1)


def test_a_call_that_waits_is_timed_by_the_clock():
    """Processor time would not see a kernel that sleeps."""
    assert pairs.plan(loaded(0.005, 0.005, busy=0.1), can_share=True).blocks > 0


def test_cold_calls_are_not_believed():
    """The first calls take many times what the later ones do: timed by them, a lap would hold one call, not four."""
    arms = loaded(0.006, 0.006)
    for arm in arms:
        cold = iter([0.5] * 3 + [0.2] * 3 + [0.1] * 3)  # a question looks three times
        arm._call = lambda arm=arm, cold=cold: next(cold, 0.006)
    assert pairs.plan(arms, can_share=True).calls == 4


def test_without_a_core_to_share_everything_goes_by_relay():
    assert pairs.plan(loaded(0.5, 0.5), can_share=False) == pairs.Plan(calls=1, warm_up=1, warm=0, blocks=1)


def test_both_arms_have_the_same_plan_and_it_is_that_of_the_slower():
    assert pairs.plan(loaded(1e-5, 4e-5), can_share=True) == pairs.plan(loaded(4e-5, 4e-5), can_share=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_turns_of_a_relay_are_each_others_complement_and_alternate(seed):
    arms = loaded(1e-4, 1e-4)
    pairs.lap(arms, pairs.Plan(calls=2, warm_up=0, warm=1, blocks=4), Random(seed), None)
    first, second = (next(question[3] for question in arm.asked if question[0] == "relay") for arm in arms)
    assert [not turn for turn in first] == second
    assert first in ([True, False, False, True] * 2, [False, True, True, False] * 2)


def test_a_fair_coin_decides_who_begins():
    begins = Counter()
    for seed in range(200):
        arms = loaded(1e-4, 1e-4)
        pairs.lap(arms, pairs.Plan(calls=1, warm_up=0, warm=0, blocks=1), Random(seed), None)
        begins[arms[0].asked[-1][3][0]] += 1
    assert 60 < begins[True] < 140


@pytest.mark.parametrize("plan", [pairs.Plan(1, 1, 1, 8), pairs.Plan(3, 1)])
def test_the_ratio_of_a_lap(plan):
    found = pairs.lap(loaded(0.01, 0.011), plan, Random(0), 0)
    assert found.log_ratio == pytest.approx(math.log(1.1))
    assert (found.first, found.second) == (pytest.approx(0.01), pytest.approx(0.011))


def test_that_an_arm_has_ended_matters_more_than_that_the_other_has_noticed():
    arms = loaded(0.01, 0.01)
    arms[0]._share = lambda calls: ArmRefusal("the other arm has ended")
    arms[1]._share = lambda calls: ArmError("ended by signal 9")
    with pytest.raises(ArmError, match="signal 9"):
        pairs.lap(arms, pairs.Plan(1, 0), Random(0), 0)


RULES = timing.Rules(budget_s=60)


def race(first, second, rules=RULES, reports=None, seed=1, suspects=()):
    """The timings of pretending arms, and how many pairs were launched."""
    launches = []

    def launch(seconds):
        @contextmanager
        def launched(baton):
            launches.append(1)
            yield Pretender(seconds, len(launches))

        return launched

    heat = timing.Heat(launch(first), launch(second), list(first), ("know",), suspects=suspects)
    report = (lambda *facts: reports.append(facts)) if reports is not None else lambda *facts: None
    ((*found,),) = timing.race([heat], rules, report, Random(seed))
    return {each.id: each for each in found}, len(launches) // 2


def test_slower_faster_and_the_same():
    found, _ = race({"a": 1e-5, "b": 1e-5, "c": 1e-5}, {"a": 1.1e-5, "b": 0.9e-5, "c": 1.01e-5})
    assert [each.judgement for each in found.values()] == ["slower", "faster", "same"]
    assert found["a"].estimate.ratio == pytest.approx(1.1)
    assert len(found["a"].base_samples) == len(found["a"].head_samples) == found["a"].estimate.pairs


def test_the_first_pair_counts_for_nothing():
    """Nine pairs of three kernels say that they are the same; a tenth was there to find out how to time them."""
    found, launches = race({"a": 1e-5, "b": 1e-5, "c": 1e-5}, {"a": 1e-5, "b": 1e-5, "c": 1e-5})
    assert {each.estimate.pairs for each in found.values()} == {9}
    assert launches == 10


def test_each_lap_lies_at_another_place_in_memory():
    """A kernel is loaded anew for every lap: what one place does to it must not decide a launch."""
    arms = Pretender({"k": 1e-5}), Pretender({"k": 1e-5})
    entry = timing.Entry("k", timing.Decider(0.03), plan=pairs.Plan(1, 1, 1, 8))
    heat = timing.Heat(None, None, ["k"], ("know",))
    timing._time(arms, entry, heat, math.inf, Random(0), 0)
    asked = [name for name, *_ in arms[0].asked if name in ("load", "relay")]
    assert asked == ["load", "relay"] * timing.MOST_LAPS


@pytest.mark.parametrize(("suites", "judgement"), [(("one", "two"), "slower"), (("one", "one"), "undecided")])
def test_heats_of_a_suite_share_its_error_rate(suites, judgement):
    """Nine pairs that agree are enough for a kernel by itself, and not for one of two."""
    rows = [[timing.Entry(name, timing.Decider(0.03))] for name in "ab"]
    for _ in range(9):
        rows[0][0].decider.add(0.1)
    heats = [timing.Heat(None, None, [row[0].name], (), suite) for row, suite in zip(rows, suites, strict=True)]
    ((found,), _) = timing._timings(heats, rows, RULES)
    assert found.judgement == judgement


def test_red_needs_more_pairs_in_a_larger_suite():
    few, _ = race({"a": 1e-5}, {"a": 1.1e-5})
    names = [f"k{number}" for number in range(100)]
    many, _ = race(dict.fromkeys(names, 1e-5), {**dict.fromkeys(names, 1e-5), "k0": 1.1e-5})
    assert few["a"].estimate.pairs < many["k0"].estimate.pairs
    assert many["k0"].judgement == "slower"


def test_what_lies_on_the_margin_ends_undecided_at_the_cap(monkeypatch):
    monkeypatch.setattr(timing, "MOST_PAIRS", 30)
    around = {"a": lambda launch: 1.04e-5 if (launch + 1) // 2 % 2 else 1.02e-5}
    found, launches = race({"a": 1e-5}, around)
    assert (found["a"].judgement, found["a"].estimate.pairs, launches) == ("undecided", 30, 31)


def test_no_budget_decides_nothing():
    found, launches = race({"a": 1e-5}, {"a": 1e-5}, timing.Rules(budget_s=0))
    assert (found["a"].judgement, found["a"].estimate.pairs, launches) == ("undecided", 0, 0)
    assert found["a"].smallest is None


def test_a_kernel_that_raises_when_it_is_timed_stops_neither_the_race_nor_itself():
    def breaks(launch):
        return ArmRefusal("ValueError: now and then") if launch > 3 else 1e-5

    found, _ = race({"a": breaks, "b": 1e-5}, {"a": 1e-5, "b": 1e-5})
    assert found["a"].failure == "ValueError: now and then"
    assert found["b"].judgement == "same"


def test_who_has_had_much_more_time_sits_out(monkeypatch):
    """A kernel of a minute beside one of a second gets as much time, and not as many pairs."""
    now, costs = [0.0], {"short": 1.0, "long": 60.0}
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])

    def take_time(arms, entry, heat, laps, random, core):
        now[0] += costs[entry.name]
        return pairs.Lap(1.0, 1.0, len(entry.laps) % 2)  # never decided

    monkeypatch.setattr(timing, "_time", take_time)
    kernels = dict.fromkeys(costs, 1e-5)
    found, _ = race(kernels, kernels, timing.Rules(budget_s=300))
    assert found["short"].estimate.pairs > 10 * found["long"].estimate.pairs > 0
    assert found["short"].seconds < found["long"].seconds < 4 * found["short"].seconds


class Clock:
    """A clock on which each lap takes a second, and nothing else any time."""

    def __init__(self, monkeypatch, ratios):
        self.now, self.order = 0.0, []
        monkeypatch.setattr(timing.time, "monotonic", lambda: self.now)

        def take_time(arms, entry, heat, until, random, core):
            self.now += 1.0
            self.order.append(entry.name)
            return pairs.Lap(1.0, 1.0, ratios(entry))

        monkeypatch.setattr(timing, "_time", take_time)


MANY = dict.fromkeys([f"k{number}" for number in range(20)], 1e-5)


def test_a_kernel_whose_work_changed_is_decided_before_the_others_begin(monkeypatch):
    clock = Clock(monkeypatch, lambda entry: 0.1 if entry.name == "k7" else 0.0)
    found, _ = race(MANY, MANY, timing.Rules(budget_s=60), suspects={"k7"})
    assert found["k7"].judgement == "slower"
    assert set(clock.order[: found["k7"].fewest]) == {"k7"}


def test_a_kernel_that_seems_slower_is_decided_where_the_budget_is_too_short_for_all(monkeypatch):
    """Ten rounds of twenty kernels: not the fourteen that red takes, but for the one that is looked at alone."""
    clock = Clock(monkeypatch, lambda entry: 0.1 if entry.name == "k7" else 0.02 * (-1) ** len(entry.laps))
    found, _ = race(MANY, MANY, timing.Rules(budget_s=200))
    assert found["k7"].judgement == "slower"
    assert found["k7"].fewest > max(each.estimate.pairs for name, each in found.items() if name != "k7")
    alone = [name for name, following in zip(clock.order, clock.order[1:], strict=False) if name == following]
    assert set(alone) == {"k7"}


def test_suspects_have_half_of_the_budget_at_most(monkeypatch):
    """One that lies on the margin for ever does not keep the others from being decided."""
    clock = Clock(monkeypatch, lambda entry: 0.03 + 0.01 * (-1) ** len(entry.laps) if entry.name == "k7" else 0.0)
    found, _ = race(MANY, MANY, timing.Rules(budget_s=400), suspects={"k7"})
    assert clock.order[:200] == ["k7"] * 200
    assert {each.judgement for name, each in found.items() if name != "k7"} == {"same"}


def test_many_suspects_leave_the_others_their_half(monkeypatch):
    """Also where a single round of theirs would take all the time."""
    clock = Clock(monkeypatch, lambda entry: 0.0)
    race(MANY, MANY, timing.Rules(budget_s=16), suspects={name for name in MANY if name not in ("k0", "k1")})
    assert {"k0", "k1"} <= set(clock.order)


def test_a_kernel_that_seems_slower_and_had_too_few_pairs_leans():
    rows = [[timing.Entry(name, timing.Decider(0.03))] for name in ("slower", "unsure", "one")]
    for row, ratio in zip(rows, (0.1, 0.029, 0.1), strict=True):
        for _ in range(1 if row[0].name == "one" else 10):
            row[0].decider.add(ratio)
    heats = [timing.Heat(None, None, [row[0].name], (), "suite") for row in rows]
    ((slower,), (unsure,), (one,)) = timing._timings(heats, rows, timing.Rules(alpha=0.001))
    assert (slower.judgement, slower.leans, slower.estimate.pairs) == ("undecided", False, 10)
    ((slower,), (unsure,), (one,)) = timing._timings(heats, rows, timing.Rules(alpha=0.01))
    assert (slower.judgement, slower.leans, slower.fewest) == ("undecided", True, 11)
    assert not unsure.leans
    assert not one.leans


def test_progress_counts_up_to_all():
    reports = []
    race({"a": 1e-5, "b": 1e-5}, {"a": 1e-5, "b": 1e-5}, reports=reports)
    decided = [each[0] for each in reports]
    assert decided == sorted(decided)
    assert reports[-1][:2] == (2, 2)
    assert all(left <= 60 for *_, left in reports)


def test_a_run_says_the_least_slowdown_that_it_would_have_found():
    rng = Random(3)
    noisy = {"a": lambda launch: 1e-5 * math.exp(rng.gauss(0, 0.01))}
    found, _ = race(noisy, noisy)
    assert 0.03 < found["a"].smallest < 0.08


def racing(kernels, **asked):
    """The cases that are timed, each by its family, variant and operator."""
    return ["/".join(kernel.id.split("/")[:3]) for kernel in contest._racing(kernels, Asked(**asked))]


def kernel(name, state="both", **facts):
    return Kernel(f"{name}/n1/float64/cpu", state, **facts)


def test_a_primal_is_timed_by_itself_only_where_no_derivative_of_it_is_or_somebody_asks():
    names = ["a/v/primal", "a/v/vjp", "a/only/primal", "b/v/primal"]
    kernels = [*map(kernel, names), kernel("b/v/vjp", "new"), kernel("b/v/jvp", is_compiled=True)]
    assert racing(kernels) == names[1:]
    assert racing(kernels, untouched=True) == names[1:]
    assert racing(kernels, pattern="a/*") == racing(kernels, every=True) == names


def test_what_no_change_has_touched_is_raced_only_where_somebody_asks():
    kernels = [kernel("a/v/primal"), kernel("a/v/vjp", is_touched=False), kernel("b/v/vjp", is_touched=False)]
    assert racing(kernels) == ["a/v/primal"], "its derivative does not race, and so does not time it"
    assert racing(kernels, untouched=True) == ["a/v/vjp", "b/v/vjp"]
    assert racing(kernels, pattern="*") == racing(kernels, every=True) == ["a/v/primal", "a/v/vjp", "b/v/vjp"]
