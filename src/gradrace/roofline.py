"""What the machine can do at most, measured beside the benches: bytes moved and floating-point operations per second.

A kernel cannot be faster than its compulsory bytes over the one, nor than its FLOPs over the other (S. Williams,
A. Waterman, D. Patterson, Roofline, CACM 52, 2009).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradrace.clock import clock

REPETITIONS = 7
COPIED_BYTES = 1 << 26
"""More than a cache holds."""

MATRIX = {"cpu": 512, "cuda": 4096}


def measure(device: str, dtypes: tuple[str, ...] = ("float64", "float32")) -> dict[str, Any]:
    """Bytes per second of a copy between warm buffers, and FLOP per second of a square product in each dtype."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copying_s = _shortest(lambda: target.copy_(source))
    return {
        "copy_bytes_per_s": 2 * COPIED_BYTES / copying_s,
        "gemm_flops_per_s": {dtype: _product(device, getattr(torch, dtype)) for dtype in dtypes},
    }


def _product(device: str, dtype: torch.dtype) -> float:
    n = MATRIX[device]
    matrix, target = torch.ones(n, n, dtype=dtype, device=device), torch.empty(n, n, dtype=dtype, device=device)
    return 2 * n**3 / _shortest(lambda: torch.mm(matrix, matrix, out=target))


def _shortest(run: Callable[[], Any]) -> float:
    """Seconds of the shortest of some runs, after one that counts for nothing."""
    run()
    return min(_seconds(run) for _ in range(REPETITIONS))


def _seconds(run: Callable[[], Any]) -> float:
    start = clock()
    run()
    return clock() - start
