"""The page in a browser: a person filters, sorts, opens, follows links and goes back, on a wide and a narrow screen."""

import os
from pathlib import Path

import pytest

from browser import Tab, browsing, find_chromium
from gradrace.report.page import page
from report_pages import many_results, sample_results

CHROMIUM = find_chromium() if os.name == "posix" else None

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")

CASE = "squares/odd/vjp/n1000/float64/cpu"
TIMES = ("squares/primal/n10", "squares/vjp/n10", "squares/vjp/n1000", "cubes/jvp/n10", "cubes/hessian/n5")
"""The races by the time of the winner; the last has none."""

ROWS = "[...document.querySelectorAll('.races > tbody > tr[id]')].map(row => row.id.slice(5).split('/', 3).join('/'))"
CASES = (
    "[...document.querySelectorAll('.cases tbody tr')].filter(row => row.checkVisibility())"
    ".map(row => row.querySelector('a').textContent)"
)
COUNT = "document.querySelector('.count').textContent"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


@pytest.fixture(scope="module")
def tab():
    with browsing(CHROMIUM) as tab:
        yield tab


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return save(sample_results(), tmp_path_factory.mktemp("page"))


@pytest.fixture
def at(tab, address):
    """The page, opened anew; whatever it complains of fails the test."""
    tab.complaints.clear()
    tab.resize(1280)
    tab.visit(address)
    yield tab
    assert tab.complaints == []


def save(results, folder: Path) -> str:
    file = folder / "index.html"
    file.write_text(page(results, [], folder), encoding="utf-8")
    return file.as_uri()


def choose(tab: Tab, name: str, word: str) -> None:
    tab.evaluate(
        f"(select => {{ select.value = '{word}'; select.dispatchEvent(new Event('change')) }})"
        f"(document.querySelector('[name={name}]'))"
    )


def write(tab: Tab, words: str) -> None:
    tab.evaluate("document.querySelector('[name=q]').select()")
    tab.type(words)


def click(tab: Tab, selector: str) -> None:
    tab.evaluate(f"document.querySelector({selector!r}).click()")


def head(key: str) -> str:
    return f".races th[data-key={key}] button"


def fragment(tab: Tab) -> str:
    return tab.evaluate("decodeURIComponent(location.hash)")


def test_first_all_races_stand_there_and_are_counted(at):
    assert len(at.evaluate(ROWS)) == 5
    assert at.evaluate(COUNT) == "5 of 5 races; 13 cases, 4 of them wrong"
    assert at.evaluate(CASES) == []


def test_words_are_found_in_ids_sources_and_reasons(at):
    write(at, "n1000")
    assert at.evaluate(ROWS) == ["squares/vjp/n1000"]
    assert at.evaluate(COUNT) == "1 of 5 races; 4 cases, 1 of them wrong"
    write(at, "wrong primal")
    assert at.evaluate(ROWS) == ["squares/primal/n10"]
    write(at, CASE)
    assert at.evaluate(COUNT) == "1 of 5 races; 1 case, 1 of them wrong"
    write(at, "example.org vjp")
    assert at.evaluate(ROWS) == ["squares/vjp/n10", "squares/vjp/n1000"]
    write(at, "nowhere")
    assert at.evaluate(ROWS) == []
    assert at.evaluate("document.querySelector('.message').textContent") == "No race holds all of this."


def test_filters_narrow_each_other_and_are_cleared_together(at):
    choose(at, "family", "squares")
    choose(at, "operator", "vjp")
    assert at.evaluate(ROWS) == ["squares/vjp/n10", "squares/vjp/n1000"]
    write(at, "n10/")
    assert at.evaluate(ROWS) == ["squares/vjp/n10"]
    assert fragment(at) == "#q=n10/&family=squares&operator=vjp"
    click(at, "[name=clear]")
    assert len(at.evaluate(ROWS)) == 5
    assert fragment(at) == ""
    choose(at, "dtype", "float32")
    assert at.evaluate(ROWS) == ["cubes/jvp/n10"]


def test_a_column_sorts_both_ways_and_says_so(at):
    click(at, head("time"))
    assert tuple(at.evaluate(ROWS)) == TIMES
    assert at.evaluate("document.querySelector('[data-key=time]').ariaSort") == "ascending"
    click(at, head("time"))
    assert tuple(at.evaluate(ROWS)) == (*TIMES[3::-1], TIMES[4])  # what has no time stays last
    assert at.evaluate("document.querySelectorAll('.races [aria-sort=descending]').length") == 1
    assert fragment(at) == "#sort=-time"
    click(at, head("baseline"))
    assert at.evaluate(ROWS)[:2] == ["squares/vjp/n10", "cubes/jvp/n10"]
    click(at, head("size"))
    assert at.evaluate(ROWS)[-1] == "squares/vjp/n1000"


def test_a_row_opens_to_its_formulations_by_time_the_wrong_one_without(at):
    click(at, "[id='race=squares/vjp/n10/float64/cpu'] .opener")
    assert at.evaluate(CASES) == ["fast", "near", "plain", "odd"]
    assert at.evaluate("document.querySelector('.opener[aria-expanded=true]').getAttribute('aria-label')") == (
        "Formulations of squares/vjp/n10/float64/cpu"
    )
    cells = "[...document.querySelectorAll('.cases tr:nth-child({}) td')].map(cell => cell.innerText)"
    assert at.evaluate(cells.format(3))[:4] == ["✓ agrees", "40 µs", "4.0 ×\n3.62 to 4.42", "400 µs"]
    assert at.evaluate(cells.format(4)) == [
        *("✗ wrong\nx disagree (error 5e+14 × the tolerance)", "2.05 kB", "640 B", "7", "1.23 k", "3", "5e+14"),
    ]
    click(at, "[id='race=squares/vjp/n10/float64/cpu'] .opener")
    assert at.evaluate(CASES) == []


def test_every_case_is_shown_on_demand_and_a_word_picks_among_them(at):
    click(at, "[name=all]")
    assert len(at.evaluate(CASES)) == 13
    write(at, "wrong")
    assert at.evaluate(CASES) == ["odd", "odd", "odd", "plain"]
    assert at.evaluate(COUNT) == "4 of 5 races; 4 cases, 4 of them wrong"
    assert fragment(at) == "#q=wrong&all=1"


TARGET = "document.querySelector('.target a')"


def is_in_view(tab: Tab) -> bool:
    return tab.evaluate(
        f"(box => 0 <= box.top && box.bottom <= innerHeight && innerHeight > 0)({TARGET}.getBoundingClientRect())"
    )


@pytest.mark.parametrize("view", ["", "family=cubes&q=nowhere&"])
def test_a_link_opens_its_case_also_where_a_filter_would_hide_it(at, address, view):
    at.visit(f"{address}#{view}case={CASE}")
    assert at.evaluate(f"{TARGET}.textContent") == "odd"
    assert at.evaluate("document.querySelector('[aria-current] a').getAttribute('href')") == f"#case={CASE}"
    assert at.evaluate(f"document.activeElement === {TARGET}")
    assert is_in_view(at)


def test_a_link_to_what_is_not_there_says_so(at, address):
    at.visit(f"{address}#case=squares/gone/vjp/n10/float64/cpu")
    assert at.evaluate(COUNT).endswith("These results do not hold squares/gone/vjp/n10/float64/cpu")


def test_a_link_inside_the_page_keeps_the_filters(at):
    choose(at, "family", "squares")
    click(at, f"#gate a[href='#case={CASE.replace('odd', 'fast').replace('n1000', 'n10')}']")
    assert fragment(at) == "#family=squares&case=squares/fast/vjp/n10/float64/cpu"
    assert at.evaluate(f"{TARGET}.textContent") == "fast"
    assert is_in_view(at)
    click(at, "[href='#family=cubes']")
    assert at.evaluate(ROWS) == ["cubes/jvp/n10", "cubes/hessian/n5"]


def test_back_and_forward_walk_through_the_views(at):
    choose(at, "family", "squares")
    click(at, head("time"))
    assert len(at.evaluate(ROWS)) == 3
    for delta, hash_, count in ((-1, "#family=squares", 3), (-1, "", 5), (1, "#family=squares", 3)):
        at.evaluate(f"history.go({delta})")
        at.wait(f"location.hash === '{hash_}' && {ROWS}.length === {count}")
    assert at.evaluate("document.querySelector('[name=family]').value") == "squares"


def test_a_view_comes_back_when_its_address_is_opened(at, address):
    at.visit(f"{address}#q=vjp&sort=-time&all=1")
    assert at.evaluate(ROWS) == ["squares/vjp/n1000", "squares/vjp/n10", "squares/primal/n10"]
    assert at.evaluate("document.querySelector('[name=q]').value") == "vjp"
    assert at.evaluate("document.querySelector('[name=all]').checked")


def test_a_plain_anchor_leaves_the_view_as_it_is(at):
    choose(at, "family", "squares")
    click(at, "nav [href='#history']")
    at.wait("location.hash === '#history'")
    assert len(at.evaluate(ROWS)) == 3


def test_the_keyboard_is_enough(at):
    at.evaluate(f"document.querySelector('{head('time')}').focus()")
    at.press("Enter", 13)
    assert tuple(at.evaluate(ROWS)) == TIMES
    at.evaluate(f"document.querySelector('{head('wrong')}').focus()")
    at.press("Tab", 9)
    assert at.evaluate("document.activeElement.className") == "opener"
    at.press("Enter", 13)
    assert at.evaluate(CASES) == ["plain", "odd"]
    assert at.evaluate("document.activeElement.className") == "opener"  # the focus stays where it was
    assert at.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_the_page_never_scrolls_sideways(at, width):
    at.resize(width)
    click(at, "[name=all]")
    at.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    inside, outside = at.evaluate(WIDTHS)
    assert inside == outside <= width


@pytest.mark.parametrize("width", [360, 1280])
def test_without_a_script_the_winners_are_there_and_no_dead_control(tab, address, width):
    tab.resize(width)
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.visit(address)
        seen = "[...document.querySelectorAll('{}')].filter(each => each.checkVisibility()).length"
        rows, controls = (tab.evaluate(seen.format(what)) for what in (".races > tbody > tr", "button, input, select"))
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert (rows, controls) == (5, 0)


def test_of_thousands_of_rows_some_are_laid_out_and_all_are_found(tab, tmp_path):
    tab.complaints.clear()
    tab.resize(1280)
    address = save(many_results(2000), tmp_path)
    tab.visit(address)
    assert tab.evaluate(COUNT) == "400 of 400 races; 2,000 cases, 400 of them wrong"
    assert len(tab.evaluate(ROWS)) == 100
    assert tab.evaluate("document.querySelector('.more').textContent") == "Show more (300 are left)"
    click(tab, ".more button")
    assert len(tab.evaluate(ROWS)) == 400
    write(tab, "d5_n77/")
    assert tab.evaluate(ROWS) == ["family_5/vjp/d5_n77"]
    tab.visit(f"{address}#case=family_0/variant_4/vjp/d5_n396/float64/cpu")
    assert tab.evaluate(f"{TARGET}.textContent") == "variant_4"
    assert is_in_view(tab)
    assert tab.complaints == []


def test_on_paper_all_rows_stand_and_no_control(at):
    choose(at, "family", "squares")
    at.call("Emulation.setEmulatedMedia", media="print")
    try:
        at.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert len(at.evaluate(ROWS)) == 3
        assert not at.evaluate("document.querySelector('.filters').checkVisibility()")
    finally:
        at.call("Emulation.setEmulatedMedia", media="")


def test_a_complaint_of_a_page_would_be_noticed(tab):
    tab.complaints.clear()
    tab.visit("data:text/html,<script>setTimeout(() => console.error('a'));throw Error('b')</script>")
    tab.wait("true")
    assert len(tab.complaints) >= 2
