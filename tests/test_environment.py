"""The clock and the record of the environment."""

import json
import time

import torch

from gradrace.clock import clock
from gradrace.environment import describe, pin_threads


def test_the_clock_counts_seconds():
    start = clock()
    time.sleep(0.02)
    assert 0.02 <= clock() - start < 2


def test_the_environment_is_plain_and_complete():
    facts = describe()
    assert json.loads(json.dumps(facts)) == facts
    assert {"processor", "cores", "system", "python", "torch", "numpy", "commit", "threads", "device"} <= set(facts)
    assert facts["torch"] == torch.__version__


def test_threads_are_pinned_for_torch_and_blas():
    import threadpoolctl

    before = torch.get_num_threads()
    try:
        pin_threads(1)
        assert describe()["threads"] == 1
        assert {library["num_threads"] for library in threadpoolctl.threadpool_info()} == {1}
    finally:
        pin_threads(before)
