"""Many items, several processes: in order, and nothing waits for what is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from gradrace.errors import UsageError
from gradrace.report import spread as module
from gradrace.report.spread import FEWEST, spread

TWO = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux only")


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 2)


@pytest.mark.parametrize("count", [0, 1, FEWEST - 1, FEWEST, 100])
def test_results_come_in_the_order_of_their_items(count):
    with spread(lambda number: (time.sleep(0.002 * (number % 2)), number * number)[1], range(count)) as results:
        assert list(results) == [number * number for number in range(count)]


@TWO
def test_other_processes_work_where_it_is_worth_it():
    with spread(lambda _: os.getpid(), range(FEWEST)) as results:
        assert os.getpid() not in set(results)
    with spread(lambda _: os.getpid(), range(FEWEST - 1)) as results:
        assert set(results) == {os.getpid()}


def test_an_error_is_that_of_the_item():
    with pytest.raises(ZeroDivisionError), spread(lambda number: 1 / (number - 5), range(20)) as results:
        list(results)


@TWO
def test_a_process_that_is_killed_is_told_in_a_sentence():
    def work(number: int) -> None:
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UsageError, match="ended from outside"), spread(work, range(20)) as results:
        list(results)


ORPHANS = """
import os, sys, time
from gradrace.report import spread
spread.cores = lambda: 2
def work(number):
    os.write(1, b"here\\n")
    time.sleep(60)
with spread.spread(work, range(20)) as results:
    list(results)
"""


@TWO
def test_they_end_with_the_process_that_forked_them():
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert [parent.stdout.readline() for _ in range(2)] == ["here\n"] * 2
        parent.kill()
        begin = time.monotonic()
        assert parent.stdout.read() == ""  # until each end of the pipe is closed
        assert time.monotonic() - begin < 30
