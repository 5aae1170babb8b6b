"""One function over many items, by as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from gradrace.errors import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEWEST = 8
"""Items: with less a process costs more than it saves."""

_job: list[Callable[[int], Any]] = []
"""Of a forked process: what it does with the item of a number."""


@contextmanager
def spread(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Iterator[Result]]:
    """`work` of each item, in their order. The processes are forked on entry and so hold the items already; results are
    sent back by pickle. Where forking is not to be had, or not worth it, this process does the work.
    """
    if len(items) < FEWEST or cores() < 2 or "fork" not in multiprocessing.get_all_start_methods():
        yield map(work, items)
        return
    pool = ProcessPoolExecutor(
        min(cores(), len(items)), multiprocessing.get_context("fork"), _begin, (lambda number: work(items[number]),)
    )
    try:
        yield pool.map(_nth, range(len(items)))
    except BrokenProcessPool as error:
        raise UsageError(
            "a process that helped was ended from outside; run the command again, memory may lack"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(job: Callable[[int], Any]) -> None:
    """In a new process: the one that forked it hears of signals, and what outlives that one would wait forever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _job.append(job)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _nth(number: int) -> Any:
    return _job[-1](number)
