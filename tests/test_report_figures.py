"""The report's figures: what stands in them, that no texts overlap, and that they come out the same each time."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gradrace.report import figures, growth_figure, history_figure, race_figure
from gradrace.report.figures import Figure, draw
from gradrace.report.labels import apart
from gradrace.report.measures import Origin, coldness, error_units, gradient_ratio, roofline_fraction
from gradrace.report.ranking import races
from gradrace.report.rows import Bench, Law, Output, Point, Results, Roofline, Row, Time, Verdict
from gradrace.report.scale import Ruler, Scale, in_percent, in_powers, in_seconds, in_thousands, in_times
from gradrace.report.style import BLACK, LETTERS, LOOKS, WIDTH, Sheet, fitted, styled, width_of, wrapped

MACHINE = {
    "processor": "Some Processor",
    "cores": 2,
    "system": "Linux x86_64",
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "threads": 1,
    "device": "cpu",
    "commit": "abcdef123456",
    "numpy": "2.4.6",
}

ROOFLINE = Roofline(1e10, {"float64": 1e10})

AGREE = Output("agree", 1e-17, 1e-15)


def row(case: str, seconds: float | None, **facts: Any) -> Row:
    """A right case that takes so long; without seconds a wrong one, 12 tolerances off."""
    right = seconds is not None
    defaults: dict[str, Any] = {
        "id": f"{case}/float64/cpu" if case.count("/") == 3 else case,
        "status": "agree" if right else "disagree",
        "right": right,
        "source": "a test",
        "summary": "Σ x², for the test",
        "baseline": "slow",
        "outputs": {"value": AGREE, "x": AGREE if right else Output("disagree", 1.2e-14, 1e-15)},
        "has_kinks": False,
        "laws": (),
        "time": Time(seconds, 0.95 * seconds, 1.1 * seconds, 9, 3 * seconds) if right else None,
        "work": {"ops": 7, "flops": 1000, "saved_bytes": 0} if right else {},
        "compulsory_bytes": 800 if right else None,
        "environment": MACHINE,
    }
    return Row(**{**defaults, **facts})


def results(*rows: Row, points: tuple[Point, ...] = (), verdicts: tuple[Verdict, ...] = ()) -> Results:
    benches = (Bench("somewhere/bench.json", "2026-11-22T02:41:06", "abcdef123456", rows, {"cpu": ROOFLINE}),)
    return Results(benches, points, verdicts, {each.id: each for each in rows})


def powers() -> Results:
    """Times that grow as n² and n^0.5, a constant count and one that grows as n, and a wrong formulation."""
    law = (Law("n", "d5", {"flops": 2, "ops": 0, "saved_bytes": 1}),)
    rows = []
    for n in (10, 100, 1000):
        work = {"ops": 7, "flops": 3 * n**2, "saved_bytes": 8 * n}
        rows += [
            row(f"squares/slow/vjp/d5_n{n}", 1e-8 * n**2, laws=law, work=work),
            row(f"squares/quick/vjp/d5_n{n}", 1e-7 * n**0.5),
            row(f"squares/crooked/vjp/d5_n{n}", None),
        ]
    return results(*rows)


SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Written:
    """A text in an SVG and the box around it, in points."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    letters: float

    def touches(self, other: Written) -> bool:
        return min(self.right, other.right) - max(self.left, other.left) > 0.1 and min(self.bottom, other.bottom) > max(
            self.top, other.top
        )


def written(file: Path) -> list[Written]:
    found = []
    for element in ElementTree.parse(file).iter(f"{SVG}text"):
        style = str(element.get("style"))
        letters = float(re.search(r"font-size: ([\d.]+)px", style)[1])  # type: ignore[index]
        wide = 72 * width_of(str(element.text), letters, bold="weight: 700" in style)
        x, y = float(str(element.get("x"))), float(str(element.get("y")))
        anchor = re.search(r"text-anchor: (\w+)", style)[1]  # type: ignore[index]
        left = x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        found.append(Written(str(element.text), left, y - 0.73 * letters, left + wide, y + 0.1 * letters, letters))
    return found


def texts(folder: Path, name: str) -> list[str]:
    return [each.text for each in written(folder / "figures" / f"{name}.svg")]


def names(drawn: list[Figure]) -> list[str]:
    return [figure.name for figure in drawn]


def point(commit: str, what: str, value: float, **facts: Any) -> Point:
    defaults: dict[str, Any] = {
        "commit": commit * 40,
        "date": 86400.0 * ord(commit),
        "machine": "shared",
        "hardware": "a processor",
        "python": "3.11",
        "torch": "2.13.0",
        "benchmark": "squares/vjp",
        "parameters": ("quick", "n10", "cpu"),
    }
    return Point(what=what, value=value, **{**defaults, **facts})


HISTORY = tuple(
    point(commit, what, value, parameters=(variant, "n10", "cpu"))
    for variant, what, values in (
        ("quick", "time", (2e-6, 2e-6, 1e-6)),
        ("slow", "time", (3e-6, 3e-6, 3e-6)),
        ("broken", "time", (1e-6, 1e-6, 1e-7)),
        ("quick", "gradient_error", (0, 0, 0)),
        ("slow", "gradient_error", (0, 0, 0)),
        ("broken", "gradient_error", (0, 12, 1003)),
    )
    for commit, value in zip("abc", values, strict=True)
)

KERNELS = tuple(
    {"id": f"squares/{name}/vjp/n10/float64/cpu", "judgement": name, "ratio": ratio, "low": low, "high": high}
    for name, ratio, low, high in (
        ("same", 1.0, 0.99, 1.01),
        ("slower", 1.2, 1.15, 1.25),
        ("faster", 0.9, 0.89, 0.91),
        ("undecided", 1.02, 0.97, 1.07),
        (None, None, None, None),
    )
)

VERDICT = Verdict("/home/somebody/gate.json", "regression", "a" * 40, "working tree", "2.13.0", (), KERNELS)


def test_every_kind_of_figure_is_written_as_png_and_svg(tmp_path: Path) -> None:
    everything = replace(powers(), points=HISTORY, verdicts=(VERDICT,))
    drawn = draw(everything, tmp_path)
    assert names(drawn) == ["overview", "race-squares", "growth-squares-vjp", "history-1", "gate-1"]
    assert [figure.family for figure in drawn] == ["", "squares", "squares", "", ""]
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        f"{name}.{ending}" for name in names(drawn) for ending in ("png", "svg")
    }
    for figure in drawn:
        with Image.open(tmp_path / "figures" / f"{figure.name}.png") as picture:
            assert picture.format == "PNG"
            assert picture.width == 770
            assert set(picture.info) <= {"dpi", "srgb", "gamma"}
        assert figure.title
        assert figure.sentence.endswith(".")
        found = written(tmp_path / "figures" / f"{figure.name}.svg")
        assert min(each.letters for each in found) >= LETTERS
        assert not [each for each in found if each.left < 0 or each.right > 72 * WIDTH]
        overlapping = [(a.text, b.text) for a, b in combinations(found, 2) if a.touches(b)]
        assert not overlapping


def test_a_figure_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    draw(replace(powers(), points=HISTORY, verdicts=(VERDICT,)), tmp_path)
    for name in ("overview", "race-squares", "growth-squares-vjp"):
        source = " ".join(texts(tmp_path, name))
        for fact in ("Some Processor, 2 cores", "Python 3.11.7, torch 2.13.0+cpu", "1 thread ·", "· cpu ·"):
            assert fact in source
        assert "commit abcdef123456 on 2026-11-22" in source
    assert (
        "asv on shared, a processor · Python 3.11, torch 2.13.0 · threads as asv's benchmarks set them, which it does "
        "not record · cpu · 3 commits from aaaaaaaa (1970-04-08)" in " ".join(texts(tmp_path, "history-1"))
    )
    gate = " ".join(texts(tmp_path, "gate-1"))
    assert "gate.json: aaaaaaaa against working tree · torch 2.13.0" in gate
    assert "somebody" not in (tmp_path / "figures" / "gate-1.svg").read_text()


def test_the_latest_runs_are_named_and_the_older_ones_counted(tmp_path: Path) -> None:
    rows = [row(f"squares/{name}/vjp/n10", 1e-6) for name in ("slow", "a", "b", "c", "d")]
    benches = [Bench("a.json", f"2026-11-0{day}", f"c{day}", [each], {}) for day, each in enumerate(rows, 1)]
    draw(Results(benches, by_id={each.id: each for each in rows}), tmp_path)
    source = " ".join(texts(tmp_path, "race-squares"))
    assert "commit c5 on 2026-11-05, commit c4 on 2026-11-04, commit c3 on 2026-11-03 and 2 more runs" in source


def test_what_is_wrong_is_shown_as_wrong_and_without_a_time(tmp_path: Path) -> None:
    (_, race, growth) = draw(powers(), tmp_path)
    assert "×  wrong: disagree" in texts(tmp_path, "race-squares")
    assert "Never timed: × crooked (wrong: disagree)." in texts(tmp_path, "growth-squares-vjp")
    assert "wrong and not timed: crooked" in race.sentence
    tree = ElementTree.parse(tmp_path / "figures" / "race-squares.svg")
    lines = [each for each in written(tmp_path / "figures" / "race-squares.svg") if each.text == "crooked"]
    counts = []
    for line in lines:
        marks = [use for use in tree.iter(f"{SVG}use") if line.top < float(str(use.get("y"))) < line.bottom]
        colours = {re.search("stroke: (#[0-9a-f]+)", str(mark.get("style")))[1] for mark in marks}  # type: ignore[index]
        counts.append(len(marks))
        assert colours <= {"#d55e00"}
    # In one of the two bands its errors at the three sizes; no time in the other.
    assert sorted(counts) == [0, 3]
    assert "crooked" not in growth.sentence


def test_an_error_that_is_no_number_is_spelled(tmp_path: Path) -> None:
    nothing = {"value": Output("nan", None, None)}
    draw(
        results(row("squares/slow/vjp/n10", 1e-6), row("squares/odd/vjp/n10", None, status="nan", outputs=nothing)),
        tmp_path,
    )
    assert {"×  wrong: nan", "×  nan"} <= set(texts(tmp_path, "race-squares"))


def test_a_value_whose_derivative_is_wrong_has_no_time_either(tmp_path: Path) -> None:
    rows = [
        row("squares/slow/primal/n10", 2e-6),
        row("squares/half/primal/n10", 1e-6),
        row("squares/slow/vjp/n10", 3e-6),
        row("squares/half/vjp/n10", None),
    ]
    draw(results(*rows), tmp_path)
    assert {"×  its derivative is wrong", "×  wrong: disagree"} <= set(texts(tmp_path, "race-squares"))


def test_a_formulation_that_is_wrong_at_one_size_is_timed_at_the_other(tmp_path: Path) -> None:
    rows = [
        row("squares/slow/vjp/n10", 2e-6),
        row("squares/slow/vjp/n20", 3e-6),
        row("squares/half/vjp/n10", 1e-6),
        row("squares/half/vjp/n20", None),
    ]
    draw(results(*rows), tmp_path)
    assert "half (wrong at n20)" in texts(tmp_path, "race-squares")


def test_the_exponents_of_perfect_powers_are_right(tmp_path: Path) -> None:
    *_, growth = draw(powers(), tmp_path)
    found = texts(tmp_path, "growth-squares-vjp")
    # Of the time and of the FLOPs, of the time of the other, of a constant, of the bytes saved.
    assert found.count("2.00 (2)") == 2
    assert "0.50" in found
    assert "0.00 (0)" in found
    assert "1.00 (1)" in found
    assert "n^0.50 (quick) to n^2.00 (slow)" in growth.sentence


@pytest.mark.parametrize(
    ("points", "slope"),
    [(((1, 5), (10, 5)), 0.0), (((1, 0), (10, 0)), 0.0), (((1, 0), (10, 3)), None), (((2, 8), (4, 32)), 2.0)],
)
def test_a_zero_among_other_counts_is_no_power(points: growth_figure.Points, slope: float | None) -> None:
    assert growth_figure.power(points) == (None if slope is None else pytest.approx(slope))


def test_without_results_there_is_no_figure(tmp_path: Path) -> None:
    assert draw(Results(), tmp_path) == []
    assert list((tmp_path / "figures").iterdir()) == []


def test_where_all_are_wrong_there_is_a_figure_without_a_time(tmp_path: Path) -> None:
    drawn = draw(
        results(*(row(f"squares/{name}/vjp/n{n}", None) for name in ("slow", "odd") for n in (10, 20))), tmp_path
    )
    assert names(drawn) == ["race-squares"]
    assert "none is right and timed" in drawn[0].sentence


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    everything = replace(powers(), points=HISTORY, verdicts=(VERDICT,))
    once, again = tmp_path / "once", tmp_path / "again"
    draw(everything, once)
    draw(everything, again)
    for file in (once / "figures").iterdir():
        assert file.read_bytes() == (again / "figures" / file.name).read_bytes()


def test_matplotlib_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw(powers(), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_neither_pyplot_nor_torch_is_loaded() -> None:
    code = (
        "import sys, gradrace.report.figures; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib.pyplot', 'gradrace.families')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_text_is_no_mathematics_and_may_have_letters_that_the_font_lacks(tmp_path: Path) -> None:
    summary = "costs $5 and $6, 漢字 & <b>"
    draw(results(row("squares/slow/vjp/n10", 1e-6, summary=summary)), tmp_path)
    assert summary in texts(tmp_path, "race-squares")


def test_more_than_the_roofline_is_explained(tmp_path: Path) -> None:
    draw(results(row("squares/slow/vjp/n10", 1e-6, compulsory_bytes=20000)), tmp_path)
    assert race_figure.IN_CACHE in texts(tmp_path, "race-squares")


def test_the_bound_of_a_gradient_is_explained_where_there_is_one(tmp_path: Path) -> None:
    gradient = row("squares/slow/vjp/n10", 1e-6)
    draw(results(gradient), tmp_path)
    assert race_figure.IN_OPERATIONS not in texts(tmp_path, "race-squares")
    draw(results(gradient, row("squares/slow/primal/n10", 1e-7)), tmp_path)
    assert {race_figure.IN_OPERATIONS, "gradient / value (≤ 5)"} <= set(texts(tmp_path, "race-squares"))


def test_a_person_without_the_font_gets_one_like_it(tmp_path: Path) -> None:
    draw(powers(), tmp_path)
    assert "'DejaVu Sans', Verdana, sans-serif" in (tmp_path / "figures" / "race-squares.svg").read_text()


def test_a_large_family_has_a_figure_for_each_operator(tmp_path: Path) -> None:
    rows = [row(f"squares/v{n}/{operator}/n10", 1e-6 * n) for operator in ("primal", "vjp") for n in range(1, 20)]
    drawn = draw(results(*rows), tmp_path)
    assert names(drawn) == ["race-squares-primal", "race-squares-vjp"]


def test_of_many_formulations_and_sizes_some_are_left_out_and_counted() -> None:
    rows = [row(f"squares/v{v}/vjp/n{n}", 1e-6 * v * n) for v in range(1, 51) for n in range(1, 10)]
    found = race_figure.block(races([*rows, *(row(f"squares/slow/vjp/n{n}", 1.0) for n in range(1, 10))]))
    assert len(found.entries) <= race_figure.MOST_VARIANTS
    assert found.sizes == ("n1", "n3", "n5", "n7", "n9")
    assert found.entries[-1].is_baseline
    assert "left out of vjp: 4 more sizes and 20 more formulations" in race_figure.sentence([found])


def test_of_many_families_some_have_no_figure_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST", 2)
    drawn = draw(results(*(row(f"family{n}/slow/vjp/n10", 1e-6) for n in range(500))), tmp_path)
    assert names(drawn) == ["overview", "race-family0", "race-family1"]
    assert "498 more figures of families are left out" in drawn[0].sentence
    assert "440 operators with the smallest leads are not shown" in drawn[0].sentence


def test_a_size_of_zero_is_on_no_logarithmic_axis(tmp_path: Path) -> None:
    rows = [row(f"squares/slow/vjp/n{n}", 1e-6 * (n + 1)) for n in (0, 10)]
    assert names(draw(results(*rows), tmp_path)) == ["overview", "race-squares"]
    rows.append(row("squares/slow/vjp/n100", 1e-4))
    assert names(draw(results(*rows), tmp_path)) == ["overview", "race-squares", "growth-squares-vjp"]


def test_float64_on_the_cpu_comes_first_and_the_others_are_named(tmp_path: Path) -> None:
    rows = [row(f"squares/slow/vjp/n10/{place}", 1e-6) for place in ("float32/cuda", "float64/cpu")]
    assert names(draw(results(*rows), tmp_path)) == ["overview", "race-squares", "race-squares-float32-cuda"]


def test_at_most_so_many_lines_stand_out_and_the_winner_and_the_baseline_are_among_them(tmp_path: Path) -> None:
    rows = [row(f"squares/v{v}/vjp/n{n}", 1e-6 * (v + 1) * n) for v in range(12) for n in (10, 100)]
    rows += [row(f"squares/slow/vjp/n{n}", 6.5e-6 * n) for n in (10, 100)]
    draw(results(*rows), tmp_path)
    found = texts(tmp_path, "growth-squares-vjp")
    assert {"slow", "v0", "v11"} <= set(found)
    note = next(text for text in found if text.startswith("Grey: "))
    assert note.count("v") == 13 - len(LOOKS)


def test_history_follows_those_that_win_and_are_right(tmp_path: Path) -> None:
    assert [track.name for track in history_figure.winners(HISTORY)] == ["squares/vjp n10 quick"]
    (figure,) = draw(Results(points=HISTORY), tmp_path)
    found = texts(tmp_path, "history-1")
    assert "0.5 ×  squares/vjp n10 quick" in found
    assert "within → none, NaN  squares/vjp n10 broken" in found
    assert "to 0.5 × of that at the first commit" in figure.sentence
    assert "1 gradient error changed" in figure.sentence


def test_history_says_that_no_error_changed(tmp_path: Path) -> None:
    (figure,) = draw(Results(points=[each for each in HISTORY if each.parameters[0] == "quick"]), tmp_path)
    assert "of 1 gradient errors none changed, and 0 are beyond the tolerance at every commit" in figure.sentence


def test_machines_and_versions_of_torch_have_a_history_of_their_own(tmp_path: Path) -> None:
    other = tuple(replace(each, torch="2.6.0") for each in HISTORY[:3])
    alone = replace(HISTORY[0], machine="seen once")
    drawn = draw(Results(points=(*HISTORY, *other, alone)), tmp_path)
    assert names(drawn) == ["history-1", "history-2"]
    assert any("torch 2.6.0" in text for text in texts(tmp_path, "history-2"))
    assert not any("2.6.0" in text for text in texts(tmp_path, "history-1"))


def test_a_verdict_shows_the_kernels_that_raced(tmp_path: Path) -> None:
    (figure,) = draw(Results(verdicts=(VERDICT, replace(VERDICT, kernels=()))), tmp_path)
    found = texts(tmp_path, "gate-1")
    assert [text for text in found if text.startswith("squares/")] == [
        f"squares/{name}/vjp/n10" for name in ("slower", "undecided", "same", "faster")
    ]
    assert "1.2 ×" in found
    assert "regression of working tree beside aaaaaaaa: of 4 kernels that were raced 1 slower" in figure.sentence


def test_an_interval_that_is_not_known_reaches_to_the_ends_of_the_axis(tmp_path: Path) -> None:
    """JSON has no infinity: the gate writes null."""
    unknown = {"id": "squares/quick/vjp/n10/float64/cpu", "judgement": "undecided", "ratio": 1.0234, "pairs": 2}
    draw(Results(verdicts=(replace(VERDICT, kernels=({**unknown, "low": 0.0, "high": None},)),)), tmp_path)
    assert "1 ×" in texts(tmp_path, "gate-1")
    paths = ElementTree.parse(tmp_path / "figures" / "gate-1.svg").iter(f"{SVG}path")
    xs = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", str(path.get("d")))] for path in paths]
    wide = [round(max(each) - min(each)) for each in xs if len(each) == 2]
    assert wide.count(max(wide)) == 2  # the axis, and the bar


def test_a_figure_of_the_gate_says_on_what_machine(tmp_path: Path) -> None:
    facts = {"processor": "Some Processor", "cores": 2, "threads": 1}
    draw(Results(verdicts=(replace(VERDICT, environment=facts),)), tmp_path)
    assert "· Some Processor, 2 cores, 1 thread · torch 2.13.0" in " ".join(texts(tmp_path, "gate-1"))


def test_a_formulation_as_fast_as_the_baseline_is_not_called_the_baseline(tmp_path: Path) -> None:
    same = [row(f"squares/{name}/vjp/n10", 1e-6, baseline="slow") for name in ("aaa", "slow")]
    draw(results(*same), tmp_path)
    assert "aaa, the baseline" not in texts(tmp_path, "overview")


def test_ties_at_all_sizes_have_no_winner_in_the_caption(tmp_path: Path) -> None:
    rows = [
        row(f"squares/{name}/vjp/n{n}", seconds * n) for n in (1, 2) for name, seconds in (("a", 1), ("slow", 1.01))
    ]
    _, race, *_ = draw(results(*rows), tmp_path)
    assert "vjp: a tie at each of 2 sizes" in race.sentence


def test_a_title_stays_on_its_sheet(tmp_path: Path) -> None:
    draw(results(row(f"{'long_' * 30}family/slow/vjp/n10", 1e-6)), tmp_path)
    name = next(path.stem for path in (tmp_path / "figures").glob("race-*.svg"))
    assert max(each.right for each in written(tmp_path / "figures" / f"{name}.svg")) <= 72 * WIDTH


def test_over_the_commits_only_what_is_right_wins(tmp_path: Path) -> None:
    """A value whose derivative is wrong, and a time whose error was not measured, are no winners."""
    lines = []
    for name, seconds, error in (("good", 3e-3, 0.0), ("crooked", 1e-3, 12.0), ("unknown", 2e-3, None)):
        for commit in "ab":
            where = {"parameters": (name, "n10", "cpu")}
            lines += [
                point(commit, "time", seconds, benchmark=f"squares/{each}", **where) for each in ("primal", "vjp")
            ]
            lines += [] if error is None else [point(commit, "gradient_error", error, **where)]
    won = {track.name for track in history_figure.winners([*lines])}
    assert won == {"squares/vjp n10 good", "squares/primal n10 unknown"}


def test_measures() -> None:
    primal, gradient = row("squares/slow/primal/n10", 1e-6), row("squares/slow/vjp/n10", 4e-6)
    assert error_units(gradient) == pytest.approx(0.01)
    assert coldness(gradient) == pytest.approx(3)
    by_id, here, then = {primal.id: primal}, Origin("2026-11-22", "b", ROOFLINE), Origin("2026-11-21", "a", ROOFLINE)
    where = dict.fromkeys((primal.id, gradient.id), here)
    assert gradient_ratio(gradient, by_id, where) == pytest.approx(4)
    assert gradient_ratio(gradient, by_id, {**where, primal.id: then}) is None, "a value of another run"
    assert gradient_ratio(gradient, {}, where) is None
    assert gradient_ratio(primal, by_id, where) is None
    # 1000 FLOPs and 800 bytes in 4 µs, where 40000 of either are possible.
    assert roofline_fraction(gradient, ROOFLINE) == pytest.approx(1000 / 40000)
    assert roofline_fraction(replace(gradient, work={}), ROOFLINE) == pytest.approx(800 / 40000)
    assert roofline_fraction(gradient, None) is None
    wrong = row("squares/slow/vjp/n10", None)
    assert (roofline_fraction(wrong, ROOFLINE), coldness(wrong), gradient_ratio(wrong, {}, {})) == (None, None, None)


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        (in_seconds(2e-5), "20 µs"),
        (in_seconds(1.0), "1 s"),
        (in_seconds(3e-10), "0.3 ns"),
        (in_thousands(2e4), "20k"),
        (in_thousands(7), "7"),
        (in_powers(1e-3), "10⁻³"),
        (in_powers(0.1), "0.1"),
        (in_powers(100.0), "100"),
        (in_powers(3000.0), "3000"),
        (in_powers(1e5), "10⁵"),
        (in_percent(0.03), "3 %"),
        (in_percent(1e-7), "10⁻⁵ %"),
        (in_times(1.5), "1.5 ×"),
        (in_times(1.002), "1.002 ×"),
        (in_times(8000.0), "8,000 ×"),
        (in_times(1e5), "10⁵ ×"),
    ],
)
def test_spelling(spelled: str, text: str) -> None:
    assert spelled == text


@given(
    values=st.lists(st.floats(0), min_size=1, max_size=8),
    inches=st.floats(0.6, 5),
    spell=st.sampled_from([in_seconds, in_thousands, in_powers, in_times, in_percent]),
)
@example([5e-324], 1.0, in_seconds)
@example([5e-324, math.inf], 1.0, in_seconds)
def test_ticks_lie_on_the_axis_and_their_labels_apart(values: list[float], inches: float, spell: Any) -> None:
    ruler = Ruler(Scale.over(values), 1.0, 1.0 + inches)
    assert all(1.0 <= ruler.at(value) <= 1.0 + inches for value in values)
    ticks = ruler.ticks(spell)
    assert all(1.0 <= place <= 1.0 + inches for place, _ in ticks)
    for (place, label), (after, following) in pairwise(ticks):
        assert after - place >= (width_of(label) + width_of(following)) / 2


def test_zero_has_a_place_below_everything_else() -> None:
    ruler = Ruler(Scale.over([0, 1e-9, 1]), 0, 1)
    assert ruler.at(0) < ruler.at(1e-9) < ruler.at(1)
    assert ruler.ticks(in_powers)[0] == (ruler.at(0), "0")


@pytest.mark.parametrize("values", [[1.4e-4, 6.5e-4], [10, 70], [0.98, 1.04], [1, 1.19], [3e-6, 4], [5]])
def test_an_axis_has_two_ticks_at_least(values: list[float]) -> None:
    assert len(Ruler(Scale.over(values), 0, 1.2).ticks(in_thousands)) >= 2


@given(wanted=st.lists(st.floats(-5, 15), min_size=1, max_size=7))
def test_labels_are_moved_apart_and_keep_their_order(wanted: list[float]) -> None:
    places = apart(wanted, 1.0, 0.0, 10.0)
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    found = [places[place] for place in order]
    assert all(after - before >= 1 - 1e-9 for before, after in pairwise(found))
    assert found[0] >= -1e-9
    assert found[-1] <= 10 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert apart([7.0, 1.0, 3.0], 1.0, 0.0, 10.0) == [7.0, 1.0, 3.0]
    assert apart([5.0, 5.0], 1.0, 0.0, 10.0) == [4.5, 5.5]


@given(text=st.text("abc def_", max_size=80), width=st.floats(0.3, 3))
@settings(max_examples=50)
def test_text_is_broken_and_cut_to_a_width(text: str, width: float) -> None:
    lines = wrapped(text, width)
    assert " ".join(lines) == " ".join(text.split())
    assert all(width_of(line) <= width or " " not in line for line in lines)
    assert width_of(fitted(text, width)) <= max(width, width_of("wwwww"))


def test_a_place_on_a_sheet_is_inches_from_the_upper_left_corner(tmp_path: Path) -> None:
    with styled():
        sheet = Sheet("title", "", 1.0, [], "source")
        sheet.mark([1.0], [0.5], "o", BLACK, BLACK)
        sheet.save(tmp_path, "dot")
    pixels = np.asarray(Image.open(tmp_path / "dot.png").convert("L"))
    assert pixels[55, 110] < 30
    assert pixels[55, 130] > 250


def luminance(colour: str) -> float:
    """L* of CIELAB."""
    return float(lab(linear(colour))[0])


def linear(colour: str) -> np.ndarray[Any, Any]:
    levels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ rgb, 1e-9, None) / (to_xyz @ np.ones(3)))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""G. Machado, M. Oliveira and L. Fernandes, IEEE Trans. Vis. Comput. Graph. 15 (2009), at severity 1."""


@pytest.mark.parametrize("kind", BLIND)
def test_neighbouring_lines_differ_for_everybody(kind: str) -> None:
    seen = [lab(np.clip(np.array(BLIND[kind]) @ linear(look.colour), 0, 1)) for look in LOOKS]
    assert all(math.dist(one, other) > 12 for one, other in pairwise(seen))


def test_neighbouring_lines_differ_in_grey_print() -> None:
    assert all(abs(luminance(a.colour) - luminance(b.colour)) > 10 for a, b in pairwise(LOOKS))
    assert len({look.marker for look in LOOKS}) == len({look.dash for look in LOOKS}) == len(LOOKS)


def test_what_stands_out_is_darker_than_what_does_not() -> None:
    from gradrace.report.style import BLUE, FAINT, OTHER

    assert luminance(BLUE) + 15 < luminance(OTHER) < luminance(FAINT) - 15
