"""The gate's side of an arm: start the process of a state, ask, and end it whatever happens."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

from gradrace.gate.states import State

ARM = Path(__file__).with_name("arm.py")

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ArmError(Exception):
    """An arm has crashed, or cannot import its state: the gate has no verdict."""


class ArmRefusal(Exception):
    """A case of an arm has raised; the sentence says what."""


class Arm:
    """One state of the code, in a process of its own."""

    def __init__(self, state: State, process: subprocess.Popen[bytes]) -> None:
        self.state = state
        self._process = process

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer. Raises ArmRefusal for a question that raises there, ArmError for a process that has ended."""
        try:
            pickle.dump((question, arguments), self._stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._stdin.flush()
            verdict, answer = pickle.load(cast(IO[bytes], self._process.stdout))
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise ArmError(f"the arm of {self.state.label} has ended {_how(self._process)}") from error
        if verdict == "failed":
            raise ArmRefusal(answer)
        return answer

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
    def _stdin(self) -> IO[bytes]:
        return cast(IO[bytes], self._process.stdin)


def _how(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        return "its answers without ending itself"
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


@contextmanager
def started(state: State, python: str = sys.executable) -> Iterator[Arm]:
    """The arm of a state, ended at the end of the block. Raises ArmError where its packages cannot be imported."""
    path = os.pathsep.join(map(str, state.import_path))
    # The same environment for both but for the folder: one thread, and nothing written that would outlive the run.
    temporary = state.folder.with_name(f"{state.folder.name}-tmp")
    temporary.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(temporary),
    }
    environment.setdefault("PYTHONHASHSEED", "0")
    try:
        process = subprocess.Popen(
            [python, str(ARM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=state.folder,
            env=environment,
        )
    except OSError as error:
        raise ArmError(f"the interpreter {python} of {state.label} cannot be started: {error.strerror}") from error
    try:
        yield Arm(state, process)
    finally:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                cast(IO[bytes], stream).close()  # an arm that waits for a question ends by that
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
