"""`gradrace report`: a whole report or none, and nobody's files are lost."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradrace import cli
from report_documents import asv, bench, described, timed, verdict, write

CASE = "mine/plain/vjp/n10/float64/cpu"
OTHER = "mine/fast/vjp/n10/float64/cpu"
WRONG = "mine/odd/vjp/n10/float64/cpu"


@pytest.fixture
def results(tmp_path):
    """A folder with something of each kind."""
    folder = tmp_path / "results"
    write(folder / "bench.json", bench(timed(CASE), timed(OTHER, 2e-5), wrong=[described(WRONG, right=False)]))
    axes = [["'plain'"], ["'n10'"], ["'cpu'"]]
    write(folder / "asv" / "here" / "c-env.json", asv({"k.MineVjp.track_ops_forward": [[7], axes, "1"]}))
    write(folder / "gate.json", verdict())
    return folder


@pytest.fixture
def parts(monkeypatch):
    """Stand-ins for the figures and the page, whose work is not what is tested here."""

    def draw(results, folder, watch):
        (folder / "figures").mkdir()
        (folder / "figures" / "mine.svg").write_text("<svg/>")
        return ["a figure"]

    stand_ins = SimpleNamespace(draw=draw, page=lambda results, figures, folder: f"{len(results.by_id)} {figures}")
    for name in ("figures", "page"):
        monkeypatch.setitem(sys.modules, f"gradrace.report.{name}", stand_ins)
    return stand_ins


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def report(*arguments):
    return cli.main(["report", *map(str, arguments)])


def test_a_report_is_a_page_a_summary_and_figures(results, parts, tmp_path, capsys):
    target = tmp_path / "deep" / "report"
    assert report(results, "-o", target) == 0
    assert names(target) == [".gradrace-report", "figures", "index.html", "summary.md"]
    assert (target / "index.html").read_text() == "3 ['a figure']"
    assert "| `vjp/n10/float64/cpu` | `plain` |" in (target / "summary.md").read_text()
    assert names(target.parent) == ["report"]
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        str(target / "index.html"),
        "read: 3 cases, 1 of them wrong, in 1 run; 1 commit of asv's; 1 verdict of the gate's",
    ]
    assert output.err == ""


def test_only_what_was_read_is_told(results, parts, tmp_path, capsys):
    assert report(results / "gate.json", "-o", tmp_path / "report") == 0
    assert capsys.readouterr().out.splitlines()[1] == "read: 1 verdict of the gate's"


def test_the_report_stands_in_the_build_folder_by_default(results, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert report(results) == 0
    assert (tmp_path / "build" / "report" / "index.html").exists()


def test_a_report_is_replaced_as_a_whole(results, parts, tmp_path):
    target = tmp_path / "report"
    assert report(results, "-o", target) == 0
    (target / "figures" / "of_yesterday.svg").write_text("<svg/>")
    (target / "index.html").write_text("yesterday")
    assert report(results, "-o", target) == 0
    assert names(target / "figures") == ["mine.svg"]
    assert (target / "index.html").read_text() != "yesterday"
    assert names(tmp_path) == ["report", "results"]


def test_an_empty_folder_and_a_link_to_one_are_filled(results, parts, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert report(results, "-o", tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "index.html").exists()


def test_a_person_stays_in_the_folder_that_is_filled(results, parts, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for _ in range(2):
        assert report(results, "-o", ".") == 0
        assert names(Path.cwd()) == [".gradrace-report", "figures", "index.html", "summary.md"]


def test_what_a_report_left_that_was_ended_from_outside_is_swept(results, parts, tmp_path):
    target = tmp_path / "report"
    (target / ".new-report-abc" / "new").mkdir(parents=True)
    assert report(results, "-o", target) == 0
    assert names(target) == [".gradrace-report", "figures", "index.html", "summary.md"]


def test_a_file_of_ones_own_among_the_figures_is_not_touched(results, parts, tmp_path, capsys):
    target = tmp_path / "report"
    assert report(results, "-o", target) == 0
    own = target / "figures" / "mine.txt"
    own.write_text("mine")
    assert report(results, "-o", target) == 2
    assert "figures/mine.txt in it is none of its files" in capsys.readouterr().err
    assert own.read_text() == "mine"


def test_links_that_lead_in_a_circle_are_answered(results, parts, tmp_path, capsys):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert report(results, "-o", tmp_path / "one") == 2
    assert "is no folder that can be read" in capsys.readouterr().err


@pytest.mark.parametrize("files", [["notes.txt"], ["index.html"], ["index.html", ".gradrace-report", "notes.txt"]])
def test_a_folder_with_other_files_is_not_touched(results, parts, tmp_path, capsys, files):
    target = tmp_path / "target"
    target.mkdir()
    for name in files:
        (target / name).write_text("mine")
    assert report(results, "-o", target) == 2
    assert {path.read_text() for path in target.iterdir()} == {"mine"}
    (line,) = capsys.readouterr().err.splitlines()
    assert str(target) in line


def test_a_file_is_no_folder(results, parts, tmp_path, capsys):
    file = write(tmp_path / "report", [])
    assert report(results, "-o", file) == 2
    assert f"{file} is a file; name a folder" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"benchmarks": [], "machine_info": {}}'])
def test_bad_input_is_a_sentence_and_leaves_nothing(parts, tmp_path, capsys, content):
    file = tmp_path / "bench.json"
    file.write_text(content)
    assert report(file, "-o", tmp_path / "report") == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"gradrace: {file} ")
    assert output.err.count("\n") == 1
    assert names(tmp_path) == ["bench.json"]


@pytest.mark.parametrize(
    ("error", "code"), [(OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130), (RuntimeError(), None)]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_what_fails_half_way_leaves_what_was_there(results, parts, tmp_path, monkeypatch, error, code, is_first):
    target = tmp_path / "report"
    if not is_first:
        assert report(results, "-o", target) == 0
    before = names(tmp_path)

    def fail(results, figures, folder):
        raise error

    monkeypatch.setattr(parts, "page", fail)
    if code is None:
        with pytest.raises(RuntimeError):
            report(results, "-o", target)
    else:
        assert report(results, "-o", target) == code
    assert names(tmp_path) == before
    assert is_first or (target / "index.html").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_swallowed", [True, False])
def test_a_signal_leaves_nothing_whatever_becomes_of_it(
    results, parts, tmp_path, monkeypatch, capsys, number, is_swallowed
):
    """As in compiled code, which answers an interruption with an error of its own, or not at all."""

    def interrupted(results, figures, folder):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if not is_swallowed:
                raise ValueError("no matrix") from None
        return "page"

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(parts, "page", interrupted)
    assert report(results, "-o", tmp_path / "report") == 130
    assert names(tmp_path) == ["results"]
    assert "nothing is left behind" in capsys.readouterr().err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_report_that_cannot_take_its_place_brings_the_old_one_back(results, parts, tmp_path, monkeypatch, capsys):
    target = tmp_path / "report"
    assert report(results, "-o", target) == 0
    (target / "index.html").write_text("yesterday")
    rename = Path.rename

    def refuse(self, to):
        if self.parent.name == "new" and self.name == "index.html":
            raise OSError(16, "Device or resource busy")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    assert report(results, "-o", target) == 2
    assert "cannot be written (Device or resource busy)" in capsys.readouterr().err
    assert (target / "index.html").read_text() == "yesterday"
    assert names(tmp_path) == ["report", "results"]


def test_a_folder_that_cannot_be_made_is_named(results, parts, tmp_path, capsys):
    assert report(results, "-o", results / "gate.json" / "report") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_without_matplotlib_the_command_says_what_to_install(results, tmp_path, monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    assert report(results, "-o", tmp_path / "report") == 2
    assert "pip install matplotlib" in capsys.readouterr().err


def run_without_torch(script, *arguments):
    """In a process of its own, in which neither torch nor a family may be loaded."""
    after = "heavy = {'torch', 'gradrace.families', 'gradrace.declare'} & set(sys.modules); assert not heavy, heavy"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {script}; {after}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_part_of_the_report_loads_torch():
    folder = Path(cli.__file__).parent.parent / "report"
    modules = [f"gradrace.report.{path.stem}" for path in folder.glob("*.py")]
    done = run_without_torch(f"import gradrace.cli.report, {', '.join(modules)}")
    assert done.returncode == 0, done.stderr


def test_a_whole_report_is_made_without_torch(results, tmp_path):
    target = tmp_path / "report"
    script = "from gradrace.cli import main; assert main(sys.argv[1:]) == 0"
    done = run_without_torch(script, "report", results, "-o", target)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert {".gradrace-report", "figures", "index.html", "summary.md"} == set(names(target))
    assert list((target / "figures").glob("*.svg"))
    assert "mine" in (target / "index.html").read_text()
