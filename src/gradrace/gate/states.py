"""The two states of a repository, laid out side by side in a folder that goes away with the run.

    a revision, or the working tree  ->  State: its files in a folder of their own

The user's working tree and index are never touched: a commit is checked out by an index of its own, and the working
tree is copied as git sees it, with what is not committed and without what is ignored.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gradrace.errors import UsageError

WORKING_TREE = "working tree"
MAIN = ("main", "origin/main", "master", "origin/master")
"""Names under which the branch is looked for that changes are merged into."""

PREFIX = "gradrace-gate-"


@dataclass(frozen=True)
class State:
    """A state of the code: `commit` is the full hash, None for the working tree; `folder` holds its files."""

    label: str
    commit: str | None
    folder: Path

    @property
    def import_path(self) -> tuple[Path, ...]:
        """Where Python finds the packages of this state first."""
        source, beside_rust = self.folder / "src", self.folder / "python"
        found = [source] if source.is_dir() else []
        # With an `__init__.py` it holds no packages, but is one.
        if beside_rust.is_dir() and not (beside_rust / "__init__.py").exists():
            found.append(beside_rust)
        return (*found, self.folder)


def repository(start: Path) -> Path:
    """The top folder of the repository around `start`. Raises UsageError where there is none."""
    found = _git(start, "rev-parse", "--show-toplevel")
    if found is None:
        raise UsageError(f"{start} is not in a git repository; run the gate inside the one that holds the two states")
    return Path(found)


def default_base(repo: Path) -> str:
    """The commit where this work left the branch that it will be merged into."""
    for name in MAIN:
        if _git(repo, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}") is None:
            continue
        if (base := _git(repo, "merge-base", name, "HEAD")) is not None:
            return base
        raise UsageError(f"HEAD and {name} share no commit here{_if_shallow(repo)}; name the base")
    raise UsageError(f"there is no branch {' or '.join(MAIN[:1] + MAIN[2:3])} to compare with; name the base")


def resolve(repo: Path, revision: str) -> str:
    """The full hash of a revision. Raises UsageError where there is none, with what a shallow clone has to fetch."""
    commit = _git(repo, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise UsageError(f"{revision!r} is no commit of this repository{_if_shallow(repo)}")
    return commit


def date_of(repo: Path, commit: str) -> int:
    """When a commit was made, in seconds since 1970."""
    return int(_git(repo, "show", "-s", "--format=%ct", commit) or 0)


def _if_shallow(repo: Path) -> str:
    if _git(repo, "rev-parse", "--is-shallow-repository") != "true":
        return ""
    depth = _git(repo, "rev-list", "--count", "HEAD")
    return (
        f"; this clone is shallow, with {depth} commits: `git fetch --unshallow`, or in CI check out with a fetch "
        "depth that reaches the base (0 is everything)"
    )


def lay_out(repo: Path, revision: str | None, into: Path) -> State:
    """The files of a revision, or of the working tree for None, in a new folder `into`."""
    into.mkdir(parents=True)
    if revision is None:
        _copy_working_tree(repo, into)
        return State(WORKING_TREE, None, into)
    commit = resolve(repo, revision)
    # Not by `git archive`, which leaves out what .gitattributes keeps out of releases, such as benches.
    index = {**os.environ, "GIT_INDEX_FILE": str(into.with_name(f"{into.name}-index"))}
    for arguments in (("read-tree", commit), ("checkout-index", "--all", f"--prefix={into}{os.sep}")):
        subprocess.run(["git", *arguments], cwd=repo, env=index, capture_output=True, check=True)
    short = commit[:8]
    return State(short if commit.startswith(revision) else f"{revision} ({short})", commit, into)


def _copy_working_tree(repo: Path, into: Path) -> None:
    """What `git add --all` would commit now; a tracked file that is gone is gone."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repo,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split(b"\0")):
        source, target = repo / os.fsdecode(name), into / os.fsdecode(name)
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers in a line; None where it refuses."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError("git is not installed; the gate compares two states of a git repository") from error
    return done.stdout.strip() if done.returncode == 0 else None


# ---- the folder of a run ----


@contextmanager
def workspace() -> Iterator[Path]:
    """A temporary folder that is removed at the end of the run, or by the next run if this one is killed.

    Its name holds the process, and a file inside it when that process began: another one may have its number by then.
    """
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        (folder / "began").write_text(_began(os.getpid()))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the folders of runs that were killed, and return them; those of runs that go on are left alone."""
    dead = [folder for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*") if _is_dead(folder)]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return dead


def _is_dead(folder: Path) -> bool:
    process = folder.name.removeprefix(PREFIX).partition("-")[0]
    if not process.isdigit() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        return False
    now = _began(int(process))
    try:
        return now == "" or (folder / "began").read_text() != now
    except OSError:  # it is being made or removed at this moment
        return now == ""


def _began(process: int) -> str:
    """The moment a process began, in clock ticks since boot; empty where there is no such process."""
    try:
        # The second field, in parentheses, may hold spaces; the 22nd of all is the start.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return _lives(process)


def _lives(process: int) -> str:
    """Where there is no /proc: a word for a process that lives, empty for one that does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "lives"
    return "lives"
