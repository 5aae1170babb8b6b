"""The page without a browser: what stands in it, that it is whole, small, and that nothing breaks out of it."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from zipfile import ZipFile

import pytest

from gradrace.report.figures import Figure
from gradrace.report.html import VOID, Markup, breakable, element, join
from gradrace.report.page import page
from gradrace.report.rows import Results
from report_pages import EVIL, SECONDS, many_results, sample_results

HERE = Path(__file__).parent
PARTS = ("page.html", "page.css", "page.js")


class Outline(HTMLParser):
    """The elements of a page with their attributes and texts; fails where they are not nested."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        made = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(made)
        if tag not in VOID | {"meta", "link"}:
            self.open.append(made)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for each in self.open:
            each["text"] += data

    def all(self, tag, **attributes):
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [each for each in self.elements if each["tag"] == tag and wanted.items() <= each.items()]

    def one(self, tag, **attributes):
        (found,) = self.all(tag, **attributes)
        return found


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return page(sample_results(), [], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


def told(outline):
    return json.loads(outline.one("script", type="application/json")["text"])


def cases_of(outline, scenario):
    (cases,) = [cases for name, _, cases in told(outline)["races"] if name == scenario]
    return cases


def test_the_page_is_nested_and_no_id_stands_twice(outline):
    ids = [each["id"] for each in outline.elements if "id" in each]
    assert len(ids) == len(set(ids))


def test_a_link_inside_the_page_leads_somewhere(outline):
    ids = {each.get("id") for each in outline.elements}
    links = {each["href"][1:] for each in outline.all("a")}
    families, cases = {"family=squares", "family=cubes"}, {f"case={name}" for name in SECONDS}
    assert links <= ids | families | cases
    assert links & families == families


def test_nothing_is_fetched_and_nothing_foreign_may_run(text, outline):
    policy = outline.one("meta", **{"http-equiv": "Content-Security-Policy"})["content"]
    assert policy.startswith("default-src 'none'; ")
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        inside = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        assert f"{rule} 'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'" in policy
    addresses = [each[key] for each in outline.elements for key in ("src", "href") if key in each]
    assert [each for each in addresses if not each.startswith(("#", "data:"))] == []
    assert [each for each in outline.elements if any(name.startswith("on") or name == "style" for name in each)] == []


def test_a_source_cannot_break_out_of_the_page(text, outline):
    assert EVIL in told(outline)["sources"]
    assert "alert(" not in text.replace('\\u003cscript>alert(\\"1 & 2\\")', "")
    assert "\u2028" not in text
    assert len(outline.all("script")) == 2
    assert "slower: 1.2 &lt;times&gt;" in text


def test_a_row_says_who_wins_and_by_how_much(outline):
    row = outline.one("tr", id="race=squares/vjp/n1000/float64/cpu")["text"]
    for part in ("squares", "vjp", "n1000", "float64 · cpu", "plain", "of 4", "is the baseline", "100 µs"):
        assert part in row
    assert "5.0 ×" in row
    assert "4.5 to 5.5 fast" in row
    assert "2.05 kB" in row
    assert "saved 640 B" in row
    assert "✗ 1" in row


def test_a_lead_within_the_scatter_is_a_tie(outline):
    row = outline.one("tr", id="race=squares/vjp/n10/float64/cpu")["text"]
    assert "≈ tie of 2" in row
    assert "tie0.95 to 1.16 near" in row


def test_a_race_that_nobody_wins_says_so(outline):
    assert "none is right" in outline.one("tr", id="race=cubes/hessian/n5/float64/cpu")["text"]


def test_formulations_stand_by_time_and_what_is_wrong_has_none(outline):
    cases = cases_of(outline, "squares/vjp/n10/float64/cpu")
    assert [(case[0], case[4]) for case in cases] == [
        *(("fast", "✓ winner"), ("near", "≈ ties"), ("plain", "✓ agrees"), ("odd", "✗ wrong")),
    ]
    assert cases[2][6:9] == ["40 µs", "4.0 ×", "3.62 to 4.42"]
    assert cases[2][10] == "400 µs"
    assert "x disagree" in cases[3][5]
    assert cases[3][6:11] == ["", "", "", 0, ""]


def test_a_value_whose_gradient_is_wrong_is_out_and_its_time_is_not_shown(outline):
    *_, odd = cases_of(outline, "squares/primal/n10/float64/cpu")
    assert odd[4:6] == ["✗ out of the race", "its vjp is wrong: x disagree (error 5e+14 × the tolerance)"]
    assert odd[6:11] == ["", "", "", 0, ""]


def test_rows_and_what_the_script_knows_of_them_stand_in_one_order(outline):
    rows = [each["id"].removeprefix("race=") for each in outline.all("tr") if each.get("id", "").startswith("race=")]
    assert rows == [scenario for scenario, _, _ in told(outline)["races"]]
    assert {len(keys) + 2 for _, keys, _ in told(outline)["races"]} == {
        len([each for each in outline.all("th", scope="col") if "data-key" in each])
    }


def test_the_head_says_where_and_when(outline):
    facts = outline.one("dl")["text"]
    for fact in ("a processor", "2.13.0+cpu", "0123456789ab", "2026-11-22 00:27", "10 GB/s", "20 GFLOP/s", "Threads 1"):
        assert fact in facts


def test_a_family_has_its_crossovers_exponents_and_wrong_ones(outline):
    section = outline.one("section", id="family-squares")["text"]
    assert "f(x) = |x|" in section
    assert "vjp (float64, cpu): fast up to about n = " in section
    assert "plain beyond (measured from n = 10 to 1,000)" in section
    assert "odd in vjp: x disagree (error 5e+14 × the tolerance), and in 2 more cases" in section
    assert "n = 10 to 1,000, float64, cpu (two sizes only)n≈0.2" in section


def test_the_history_shows_what_moved_and_nothing_else(outline):
    history = outline.one("section", id="history")["text"]
    assert "3 numbers over 3 commits; 1 of the commits moved some." in history
    assert "22222222" in history
    assert "squares/vjp/fast/n10/cputime1.01 ms2.00 ms▲ up 1.98 ×" in history
    assert "saved bytes640 B320 B▼ down 2 ×" in history
    assert "ops" not in history
    curves = [each["points"] for each in outline.all("polyline")]
    assert curves == ["0,0.0 50,0.0 100,20.0", "0,20.0 50,19.8 100,0.0"]


def test_the_gate_shows_its_findings_and_links_the_cases_that_are_here(outline):
    gate = outline.one("section", id="gate")["text"]
    assert "regression 00000000 → working tree" in gate
    assert "2 kernels were compared; gradients: bitwise equal 2; work: same 1; time: slower 1." in gate
    for part in ("✗ red", "! notice", "+1 aten.clone", "1.15 to 1.25"):
        assert part in gate
    names = [each["text"] for each in outline.all("a") if each["href"].startswith("#case=")]
    assert "squares/fast/vjp/n10/float64/cpu" in names
    assert "gone/fast/vjp/n10/float64/cpu" not in names


def test_an_interval_of_the_gate_that_is_not_known_is_told():
    """JSON has no infinity: the gate writes null."""
    unknown = {"id": "squares/fast/vjp/n10/float64/cpu", "judgement": "undecided", "ratio": 1.01, "pairs": 2}
    (known,) = sample_results().verdicts
    found = replace(known, kernels=[{**unknown, "low": 0.0, "high": None}])
    gate = Outline(page(Results(verdicts=[found]), [], HERE)).one("section", id="gate")["text"]
    assert "undecided1.0 ×scatter unknown2" in gate


def test_where_two_machines_were_measured_a_move_says_on_which():
    some = sample_results()
    there = [replace(point, machine="there") for point in some.points]
    alone, both = (
        Outline(page(Results(points=points), [], HERE)).one("section", id="history")["text"]
        for points in (some.points, [*some.points, *there])
    )
    assert "there, Python 3.11, torch 2.13.0" in both
    assert "Python" not in alone


def test_every_control_has_a_label_and_every_table_a_caption(text, outline):
    assert text.count("<table") == text.count("<caption")
    labels = [each["text"] for each in outline.all("label")]
    assert len(labels) == len(outline.all("select")) + len(outline.all("input"))
    assert all(each.get("scope") in ("col", "row") for each in outline.all("th"))


def test_what_was_not_given_has_no_section_and_the_title_asks_what_the_page_answers():
    some = sample_results()
    outline = Outline(page(Results(verdicts=some.verdicts), [], HERE))
    assert [each["id"] for each in outline.all("section")] == ["gate"]
    assert told(outline) == {"sources": [], "races": []}
    assert "regression" in outline.one("section", id="gate")["text"]
    assert outline.one("h1")["text"] == "What did the gate say?"
    answer = "Here are the gate's verdicts; no results of the benches were given, so no formulations race."
    assert outline.one("p", class_="answer")["text"] == answer
    of_asv = Outline(page(Results(points=some.points), [], HERE))
    assert of_asv.one("h1")["text"] == "What did the commits move?"
    assert of_asv.all("section")[0]["id"] == "history"


def drawn(folder, name, family, png=10, svg=11):
    """A figure with files of so many bytes."""
    place = folder / "figures"
    place.mkdir(exist_ok=True)
    (place / f"{name}.png").write_bytes(b"p" * png)
    (place / f"{name}.svg").write_bytes(b"s" * svg)
    return Figure(name, family, f"{name} <title>", "A sentence.")


def test_of_a_figure_the_smaller_file_is_in_the_page(tmp_path):
    figures = [drawn(tmp_path, "one", "squares"), drawn(tmp_path, "two", "squares", png=12)]
    one, two = Outline(page(sample_results(), figures, tmp_path)).all("img")
    assert one["src"] == f"data:image/png;base64,{b64encode(b'p' * 10).decode()}"
    assert two["src"] == f"data:image/svg+xml;base64,{b64encode(b's' * 11).decode()}"
    assert one["alt"] == "one <title>. A sentence."
    assert one["loading"] == "lazy"


def test_figures_stand_where_they_belong(tmp_path):
    places = {"race-squares": "squares", "overview": "", "history-1": "", "gate-1": ""}
    figures = [drawn(tmp_path, name, family) for name, family in places.items()]
    outline = Outline(page(sample_results(), figures, tmp_path))
    captions = {
        section["id"]: [name for name in places if f"{name} <title>A sentence." in section["text"]]
        for section in outline.all("section")
    }
    assert captions == {
        **{"races": [], "families": ["race-squares", "overview"], "history": ["history-1"], "gate": ["gate-1"]},
        **{"family-squares": ["race-squares"], "family-cubes": []},
    }


@pytest.mark.parametrize("variants", [2, 10])
def test_five_thousand_rows_are_less_than_five_megabytes(variants):
    text = page(many_results(5000, variants), [], HERE)
    assert len(text.encode()) < 5e6
    assert text.count('id="race=') == 5000 // variants


def luminance(colour):
    """Relative, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_every_ground_in_both_schemes(text, scheme):
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    plain = product(("ink", "soft", "link"), ("ground", "raised", "sunken", "target"))
    tags = [(name, f"{name}-ground") for name in ("good", "bad", "doubt")]
    faint = {pair: contrast(*(colours[name] for name in pair)) for pair in (*plain, *tags)}
    assert {pair: ratio for pair, ratio in faint.items() if ratio < 4.5} == {}


def test_the_templates_are_in_the_wheel(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=HERE.parent, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert {f"gradrace/report/{name}" for name in PARTS} <= set(ZipFile(wheel).namelist())


def test_what_is_no_markup_is_escaped():
    assert element("td", "a < b", class_="number") == '<td class="number">a &lt; b</td>'
    assert element("a", Markup("<b>x</b>"), None, ["&", 1], href='"') == '<a href="&quot;"><b>x</b>&amp;1</a>'
    assert element("input", value=0, hidden=True, checked=False, name=None) == '<input value="0" hidden>'
    assert join("<", Markup("<br>"), between="|") == "&lt;|<br>"
    assert breakable("a_b/<") == "a_<wbr>b/&lt;"
