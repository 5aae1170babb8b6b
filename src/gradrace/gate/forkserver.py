"""A process that has imported torch, once, and forks arms off: a launch then costs milliseconds instead of seconds.

It has imported neither gradrace nor anything of the user, so that each arm imports its own state; and it has run no
operation, for a child hangs in backward when its parent has computed with two threads. Its first arguments are further
modules to import.

    hold(id of the scenario, numbers)                       numbers that every later arm finds in its memory
    fork(folder, import path, temporary folder, has baton)  -> the number of the process, an arm that serves the first
                                                               handle that follows; a second one is its baton
    wait(process)                                           -> its exit code, when it has ended
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import NoReturn

import arm  # type: ignore[import-not-found]  # its own folder is on the path when it starts

AHEAD = (
    "numpy",
    "scipy",
    "threadpoolctl",
    "torch.func",
    "torch.fx.experimental.symbolic_shapes",  # torch imports it at the first pullback
)
"""Imported before the first fork, where installed: nothing of it belongs to a state."""

PADDING_BYTES = 1 << 16


def main() -> None:
    *ahead, handle = sys.argv[1:]
    arm.begin()
    connection = Connection(int(handle))
    with arm.without_collector():
        for name in (*AHEAD, *ahead):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    # The children share these objects: a collection would touch, and so copy, the pages of all of them.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            name, arguments = connection.recv()
            if name == "hold":
                scenario, numbers = arguments
                arm.HELD[scenario] = numbers
            elif name == "fork":
                connection.send(_fork(connection, *arguments))
            else:
                connection.send(_exit_code(*arguments))
    os._exit(0)  # Python would take a quarter of a second to take all of torch apart first


def _fork(connection: Connection, folder: str, path: Sequence[str], temporary: str, has_baton: bool) -> int:
    handles = [recv_handle(connection) for _ in range(1 + has_baton)]
    process = os.fork()
    if process == 0:
        try:
            connection.close()
            connections = [Connection(handle) for handle in handles]
            arm.BATON.extend(connections[1:])
            _be_an_arm(connections[0], folder, path, temporary)
        finally:
            os._exit(1)  # whatever happens, a child must not go on as a server
    for handle in handles:
        os.close(handle)
    return process


def _be_an_arm(connection: Connection, folder: str, path: Sequence[str], temporary: str) -> NoReturn:
    arm.die_with_parent()
    sys.modules.pop("arm")  # a user's module may have this name
    # Where memory lies makes a launch faster or slower by a percent. Equal code would lie equally, and a change of
    # the code elsewhere: a random gap in front of everything makes noise of that, which pairs average out.
    gaps = [bytearray(random.SystemRandom().randrange(PADDING_BYTES)) for _ in range(4)]
    os.chdir(folder)
    os.environ["TMPDIR"] = temporary
    sys.path[:0] = path
    arm.serve(connection)
    del gaps
    os._exit(0)


def _exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    main()
