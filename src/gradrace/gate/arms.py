"""The gate's side of an arm: start the process of a state, ask, and end it whatever happens.

State  ->  started(state): an Arm with a Python of its own
State  ->  ForkServer.forked(state): an Arm that is forked off a process which has imported torch already
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any, Protocol

from gradrace.gate.states import State

ARM = Path(__file__).with_name("arm.py")
FORKSERVER = Path(__file__).with_name("forkserver.py")

FOR_LAUNCHES = ("torch._dynamo",)
"""torch imports it at the first transform, for two seconds: the first two arms do so side by side, and only where they
have a transform; later ones must not wait for it.
"""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

ALLOCATOR = {
    # A large block is not mapped and unmapped at each call, which costs more in one arm than in the other.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),  # the most that glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
    # Huge pages: how small ones collide in the cache is a lottery at each launch.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""The allocator of what is timed, for both arms alike; elsewhere than on Linux it is ignored."""


PATIENCE_S = 900.0
"""Longer than this no question may take: the arm hangs."""


class ArmError(Exception):
    """An arm has crashed, or cannot import its state: the gate has no verdict."""


class ArmRefusal(Exception):
    """A case of an arm has raised; the sentence says what."""


class Process(Protocol):
    """What an arm runs in."""

    number: int

    def exit_code(self) -> int | None:
        """Wait for its end; None where it goes on."""

    def kill(self) -> None: ...


class Arm:
    """One state of the code, in a process of its own."""

    def __init__(self, state: State, connection: Connection, process: Process) -> None:
        self.state = state
        self._connection = connection
        self._process = process

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer. Raises ArmRefusal for a question that raises there, ArmError for a process that has ended."""
        self.tell(question, *arguments)
        return self.hear()

    def tell(self, question: str, *arguments: Any) -> None:
        """Ask without waiting: the other arm may have to be asked before this one can answer."""
        with self._noticing_its_end():
            self._connection.send((question, arguments))

    def hear(self) -> Any:
        """The answer to what it was told."""
        with self._noticing_its_end():
            if not self._connection.poll(PATIENCE_S):
                self.kill()
                raise ArmError(f"the arm of {self.state.label} has not answered for {PATIENCE_S / 60:g} minutes")
            verdict, answer = self._connection.recv()
        if verdict == "failed":
            raise ArmRefusal(answer)
        return answer

    @contextmanager
    def _noticing_its_end(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise ArmError(f"the arm of {self.state.label} has ended {_how(self._process)}") from error

    def pin(self, core: int) -> None:
        """Let it run on this core alone."""
        with contextlib.suppress(ProcessLookupError):  # it has ended: who asks it next is told
            os.sched_setaffinity(self._process.number, {core})

    def kill(self) -> None:
        """End it now, whatever it computes; who waits for its answer sees it end."""
        self._process.kill()

    @cached_property
    def facts(self) -> dict[str, str]:
        """Where gradrace comes from, and the versions. Raises ArmError where this state does not import."""
        try:
            found: dict[str, str] = self.ask("hello")
        except ArmRefusal as refusal:
            raise ArmError(f"{self.state.label} does not import: {refusal}") from refusal
        return found

    @property
    def has_own_package(self) -> bool:
        """Does gradrace come from this state's folder, and not from what is installed?"""
        return Path(self.facts["gradrace"]).resolve().is_relative_to(self.state.folder.resolve())

    @property
    def place(self) -> str:
        """Where its package lies: in the state itself, or installed."""
        package = Path(self.facts["gradrace"]).resolve()
        return f"its own {package.relative_to(self.state.folder.resolve())}" if self.has_own_package else str(package)


def _how(process: Process) -> str:
    code = process.exit_code()
    if code is None:
        return "its answers without ending itself"
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


@contextmanager
def started(state: State, python: str = sys.executable, baton: Connection | None = None) -> Iterator[Arm]:
    """The arm of a state, ended at the end of the block. Raises ArmError where its interpreter cannot be started."""
    path = os.pathsep.join(map(str, state.import_path))
    environment = {"PYTHONPATH": path, "TMPDIR": str(_temporary(state)), **(ALLOCATOR if baton else {})}
    what = f"the interpreter {python} of {state.label}"
    with _spawned([python, str(ARM)], state.folder, environment, what, baton) as (connection, process):
        yield Arm(state, connection, process)


class ForkServer:
    """The gate's side of `forkserver.py`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def hold(self, scenario: str, numbers: Mapping[str, Any]) -> None:
        """Numbers for every arm that is forked from now on."""
        self._send("hold", scenario, numbers)

    @contextmanager
    def forked(self, state: State, baton: Connection | None = None) -> Iterator[Arm]:
        """A new arm of a state, ended at the end of the block."""
        ours, theirs = Pipe()
        with ours:
            with theirs:
                path, temporary = list(map(str, state.import_path)), str(_temporary(state))
                self._send("fork", str(state.folder), path, temporary, baton is not None)
                with _serving():
                    for end in (theirs, baton):
                        if end is not None:
                            send_handle(self._connection, end.fileno(), None)
                process = _Forked(self, self._receive())
            yield Arm(state, ours, process)
        process.exit_code()

    def exit_code(self, process: int) -> int:
        """Of an arm that has ended, or is about to."""
        self._send("wait", process)
        return self._receive()

    def _send(self, name: str, *arguments: Any) -> None:
        with _serving():
            self._connection.send((name, arguments))

    def _receive(self) -> int:
        with _serving():
            number: int = self._connection.recv()
        return number


@contextmanager
def _serving() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError) as error:
        raise ArmError("the process that forks the arms has ended") from error


class _Forked:
    """An arm that is a child of the fork server, and so can be waited for there only."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self._server, self.number = server, number
        self._code: int | None = None

    def exit_code(self) -> int:
        if self._code is None:
            self._code = self._server.exit_code(self.number)
        return self._code

    def kill(self) -> None:
        if self._code is None:  # else its number may be somebody else's by now
            os.kill(self.number, signal.SIGKILL)


@contextmanager
def fork_server(
    folder: Path, pythons: tuple[str, str] = (sys.executable, sys.executable), *, is_raced: bool = True
) -> Iterator[ForkServer | None]:
    """A process to fork the arms of these interpreters from, with the environment of what is timed; None where arms
    must be started. folder: goes away with the run. is_raced: are there launches to come after the first two?
    """
    if sys.platform != "linux" or pythons[0] != pythons[1]:
        yield None
        return
    environment = {**ALLOCATOR, "TMPDIR": str(_made(folder / "forkserver-tmp"))}
    ahead = FOR_LAUNCHES if is_raced else ()
    command = [pythons[0], str(FORKSERVER), *ahead]
    with _spawned(command, folder, environment, "the fork server") as (connection, _):
        yield ForkServer(connection)


class _Spawned:
    """An arm that is a child of the gate."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self.number = process, process.pid

    def exit_code(self) -> int | None:
        try:
            return self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()


@contextmanager
def _spawned(
    command: list[str], folder: Path, environment: Mapping[str, str], what: str, baton: Connection | None = None
) -> Iterator[tuple[Connection, _Spawned]]:
    """A process in this folder, and the connection whose number is its next argument; that of a baton follows."""
    ours, theirs = Pipe()
    handles = [end.fileno() for end in (theirs, baton) if end is not None]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with ours:
        try:
            process = subprocess.Popen(
                [*command, *map(str, handles)],
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={"PYTHONHASHSEED": "0", **inherited, **dict.fromkeys(THREADS, "1"), **environment},
                pass_fds=handles,
            )
        except OSError as error:
            raise ArmError(f"{what} cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        try:
            yield ours, _Spawned(process)
        finally:
            ours.close()  # a process that waits for a question ends by that
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
            process.kill()
            process.wait()


def _temporary(state: State) -> Path:
    """Where a state may write: nothing that it leaves there outlives the run."""
    return _made(state.folder.with_name(f"{state.folder.name}-tmp"))


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder
