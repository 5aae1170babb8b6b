"""The clock of every timing here: seconds, read after the device has finished its work."""

from __future__ import annotations

import time

import torch


def clock() -> float:
    """Seconds of the monotonic clock. Queued CUDA work is waited for; without CUDA this costs one comparison."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
