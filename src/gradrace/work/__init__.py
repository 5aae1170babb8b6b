"""Work: exact counters of a case that need no clock.

Operations and FLOPs of the forward and the backward pass apart, the nodes and the depth of the autograd graph, the
bytes that it saves for the backward pass, and the most bytes alive at once. The same code, torch and inputs give
the same numbers on any machine, however noisy; only where the code itself looks at rounded numbers, as the stop rule
of a solver does, may a count depend on the BLAS and its threads.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from gradrace.cases import Case
from gradrace.operators import Prepared, Thunk, prepare_case
from gradrace.work.dispatch import Dispatched, Tally
from gradrace.work.graph import recorded, tensors_in

COMPILED = "compiled code runs eagerly where operations are counted, so only its graph is"
IN_NUMPY = "NumPy allocates where torch does not see it, so no peak is known"


@dataclass(frozen=True)
class Phase:
    """The forward or the backward pass: dispatched operations by name, and FLOPs; None where they cannot be known.

    uncounted: dense linear algebra without a formula, and black boxes; the FLOPs of these are missing.
    """

    by_op: Mapping[str, int] | None = None
    flops: int | None = None
    uncounted: tuple[str, ...] = ()

    @property
    def ops(self) -> int | None:
        return None if self.by_op is None else sum(self.by_op.values())

    def as_json(self) -> dict[str, Any]:
        ops = None if self.by_op is None else {"total": self.ops, "by_op": dict(self.by_op)}
        return {"ops": ops, "flops": self.flops, "uncounted": list(self.uncounted)}


@dataclass(frozen=True)
class Work:
    """The counters of a case; `reason` says why some are None."""

    id: str
    graph_nodes: int
    graph_depth: int
    saved_bytes: int
    peak_bytes: int | None
    forward: Phase = field(default_factory=Phase)
    backward: Phase = field(default_factory=Phase)
    reason: str | None = None

    @property
    def counters(self) -> dict[str, int | None]:
        """Every counter by name, of the phases each and both together."""
        return {
            "ops": _sum(self.forward.ops, self.backward.ops),
            "ops_forward": self.forward.ops,
            "ops_backward": self.backward.ops,
            "flops": _sum(self.forward.flops, self.backward.flops),
            "flops_forward": self.forward.flops,
            "flops_backward": self.backward.flops,
            "graph_nodes": self.graph_nodes,
            "graph_depth": self.graph_depth,
            "saved_bytes": self.saved_bytes,
            "peak_bytes": self.peak_bytes,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "forward": self.forward.as_json(),
            "backward": self.backward.as_json(),
            "graph_nodes": self.graph_nodes,
            "graph_depth": self.graph_depth,
            "saved_bytes": self.saved_bytes,
            "peak_bytes": self.peak_bytes,
            "reason": self.reason,
        }


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def count(case: Case) -> Work:
    """The work of a case. Raises what its thunk raises."""
    return count_prepared(warm(case))


def warm(case: Case) -> Prepared:
    """The prepared case, after a run that has paid what is paid once, such as a compilation."""
    prepared = prepare_case(case)
    prepared.thunk()
    return prepared


def count_prepared(prepared: Prepared) -> Work:
    """The work of this very thunk, which has run before."""
    inputs = prepared.inputs
    given = (inputs.primals, inputs.constants, inputs.tangents, (inputs.cotangent,))
    return count_run(prepared.case.id, prepared.thunk, given, prepared.case.scenario.device == "cuda")


def count_run(name: str, thunk: Thunk, inputs: Any, on_cuda: bool = False) -> Work:
    """The work of a thunk that has run before, from two further runs; the tensors in `inputs` cost nothing.

    The graph is read in the first, the operations in the second: in one run the graph's nodes, which have to be held,
    would be held as memory too.
    """
    given = list(tensors_in(inputs))
    with _without_collector():
        with recorded(given) as graph:
            thunk()
        facts: dict[str, Any] = {
            "id": name,
            "graph_nodes": graph.nodes,
            "graph_depth": graph.depth,
            "saved_bytes": graph.saved_bytes,
        }
        is_compiled, leaves_to_numpy = graph.is_compiled, graph.leaves_to_numpy
        del graph
        peak_on_cuda = _peak_on_cuda(thunk) if on_cuda else None
        if is_compiled:
            return Work(**facts, peak_bytes=peak_on_cuda, reason=COMPILED)
        with Dispatched(given) as dispatched:
            thunk()
    is_hidden = leaves_to_numpy and not on_cuda  # the allocator of a device knows it all
    peak = peak_on_cuda if on_cuda else None if is_hidden else dispatched.memory.peak
    return Work(
        **facts,
        peak_bytes=peak,
        forward=_phase(dispatched.forward),
        backward=_phase(dispatched.backward),
        reason=IN_NUMPY if is_hidden else None,
    )


def _phase(tally: Tally) -> Phase:
    return Phase(dict(sorted(tally.by_op.items())), tally.flops, tuple(sorted(tally.uncounted)))


def _peak_on_cuda(thunk: Thunk) -> int:
    """The most bytes that the allocator held at once beyond those it held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    thunk()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside the block, which would free the memory of reference cycles at a random moment."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
