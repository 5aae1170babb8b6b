"""The states of the gate: real repositories, the working tree untouched, nothing left behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from conftest import git
from gradrace import UsageError
from gradrace.gate.states import WORKING_TREE, State, default_base, lay_out, repository, resolve, sweep, workspace


@pytest.fixture
def repo(tmp_path):
    """Two commits: a.py says 1 and then 2; b.py comes with the second."""
    folder = tmp_path / "repo"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "src" / "a.py").write_text("1")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "one")
    (folder / "src" / "a.py").write_text("2")
    (folder / "b.py").write_text("new")
    git(folder, "add", "--all")
    git(folder, "commit", "-q", "-m", "two")
    return folder


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_commit_is_laid_out_as_it_was(repo, tmp_path):
    state = lay_out(repo, "HEAD~1", tmp_path / "base")
    assert (state.folder / "src" / "a.py").read_text() == "1"
    assert not (state.folder / "b.py").exists()
    assert state.commit == git(repo, "rev-parse", "HEAD~1")
    assert state.label == f"HEAD~1 ({state.commit[:8]})"
    assert state.import_path == (state.folder / "src", state.folder)


def test_packages_beside_sources_in_another_language_are_found(tmp_path):
    (tmp_path / "python").mkdir()
    state = State("a", None, tmp_path)
    assert state.import_path == (tmp_path / "python", tmp_path)
    (tmp_path / "python" / "__init__.py").touch()
    assert state.import_path == (tmp_path,), "it is a package itself"


def test_a_hash_is_its_own_label(repo, tmp_path):
    commit = git(repo, "rev-parse", "HEAD")
    assert lay_out(repo, commit, tmp_path / "head").label == commit[:8]


def test_the_working_tree_is_copied_as_git_sees_it_and_not_touched(repo, tmp_path):
    (repo / "src" / "a.py").write_text("3")
    (repo / "untracked.py").write_text("u")
    (repo / "noise.log").write_text("ignored")
    (repo / "b.py").unlink()
    (repo / "link").symlink_to("src/a.py")
    (repo / "name with spaces é.py").write_text("s")
    before = git(repo, "status", "--porcelain"), (repo / ".git" / "index").read_bytes()
    state = lay_out(repo, None, tmp_path / "head")
    assert (git(repo, "status", "--porcelain"), (repo / ".git" / "index").read_bytes()) == before
    assert (state.label, state.commit) == (WORKING_TREE, None)
    names = {str(path.relative_to(state.folder)) for path in state.folder.rglob("*") if not path.is_dir()}
    assert names == {".gitignore", "src/a.py", "untracked.py", "link", "name with spaces é.py"}
    assert (state.folder / "src" / "a.py").read_text() == "3"
    assert (state.folder / "link").is_symlink()


def test_the_default_base_is_where_the_branch_began(repo):
    began = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "-q", "-b", "topic")
    git(repo, "commit", "-q", "--allow-empty", "-m", "three")
    assert default_base(repo) == began


def test_without_a_main_branch_the_base_must_be_named(repo):
    git(repo, "branch", "-m", "trunk")
    with pytest.raises(UsageError, match="no branch main or master to compare with; name the base"):
        default_base(repo)


def test_an_unknown_revision_is_bad_input(repo):
    with pytest.raises(UsageError, match=r"'nope' is no commit of this repository$"):
        resolve(repo, "nope")
    with pytest.raises(UsageError, match="'--all' is no commit"):
        resolve(repo, "--all")


def test_a_shallow_clone_says_what_to_fetch(repo, tmp_path):
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repo}", "shallow")
    with pytest.raises(UsageError, match=r"shallow, with 1 commits: `git fetch --unshallow`, or in CI .* fetch depth"):
        resolve(tmp_path / "shallow", "HEAD~1")


def test_outside_of_a_repository_is_bad_input(tmp_path):
    with pytest.raises(UsageError, match="is not in a git repository"):
        repository(tmp_path)


def test_inside_of_one_it_is_found(repo):
    assert repository(repo / "src") == repo.resolve()


def test_a_workspace_goes_away_even_when_the_run_fails(temporary):
    def fails():
        with workspace() as folder:
            (folder / "tree" / "deep").mkdir(parents=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_leaves_the_next_one_sweeps(temporary):
    script = "from gradrace.gate.states import workspace\nwith workspace() as w: print(w, flush=True); input()"
    command, env = [sys.executable, "-c", script], {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env) as run:
        left = Path(run.stdout.readline().strip())
        assert sweep() == []  # it lives
        run.kill()
    assert left.is_dir()
    with workspace() as mine:
        assert not left.exists()
        assert mine.is_dir()


def test_a_process_that_has_the_number_of_a_dead_one_keeps_nothing(temporary):
    folder = temporary / f"gradrace-gate-{os.getpid()}-left"
    folder.mkdir()
    (folder / "began").write_text("long ago")
    assert sweep() == [folder]


def test_folders_of_others_are_left_alone(temporary):
    (temporary / "gradrace-gate-notes-of-mine").mkdir()
    assert sweep() == []


def test_what_is_kept_out_of_releases_is_laid_out_all_the_same(repo, tmp_path):
    """`git archive` would leave it out, and the base would have no kernels."""
    (repo / ".gitattributes").write_text("src export-ignore\n")
    git(repo, "add", "--all")
    git(repo, "commit", "-q", "-m", "three")
    before = git(repo, "status", "--porcelain")
    assert (lay_out(repo, "HEAD", tmp_path / "head").folder / "src" / "a.py").read_text() == "2"
    assert git(repo, "status", "--porcelain") == before == ""
