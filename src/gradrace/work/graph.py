"""The autograd graph of a run, read just before the engine walks it: its nodes, its depth, the bytes it keeps.

`saved_tensors_hooks` would see the bytes, but torch.func forbids hooks inside its transforms, and a variant that
computes a gradient itself builds its graph where nobody else can see it. So the call into the engine is intercepted,
which torch.autograd.grad, Tensor.backward and torch.func have in common, and the graph is walked from its outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.multiprocessing.reductions import StorageWeakRef


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def storage_of(tensor: Tensor) -> Any:
    """The storage below all wrappers of torch.func; None where there is none, as of a sparse tensor."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    # A zero tensor of torch's has a size but no memory.
    return tensor.untyped_storage() if tensor.layout is torch.strided and not tensor._is_zerotensor() else None


class Graph:
    """What is known of all graphs that a run has handed to the engine.

    Each node counts once, however often it is walked: m pullbacks on one graph are one graph. Each storage counts
    once; of several graphs that follow one another, the bytes add up. Nodes are held, or the address of one that
    has died would pass for it in the next; a weak reference to a storage keeps its address but not its memory.
    """

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._heights: dict[Any, int] = {}
        storages = map(storage_of, inputs)
        self._storages = {StorageWeakRef(storage) for storage in storages if storage is not None}
        self.saved_bytes = 0
        self.is_compiled = False
        self.leaves_to_numpy = False

    @property
    def nodes(self) -> int:
        """Nodes, those that hand a gradient to an input (AccumulateGrad) included."""
        return len(self._heights)

    @property
    def order(self) -> tuple[Any, ...]:
        """The nodes, each after all that lie below it."""
        return tuple(self._heights)

    @property
    def depth(self) -> int:
        """Nodes on the longest path."""
        return max(self._heights.values(), default=0)

    def walk(self, outputs: Iterable[Tensor | GradientEdge]) -> None:
        """Visit every node below these outputs; without recursion, because a graph may be 10^5 nodes deep."""
        stack = [edge.node for edge in map(_edge, outputs) if edge is not None]
        heights = self._heights
        while stack:
            node = stack[-1]
            if node in heights:
                stack.pop()
                continue
            below = [child for child, _ in node.next_functions if child is not None]
            unseen = [child for child in below if child not in heights]
            if unseen:
                stack += unseen
                continue
            heights[stack.pop()] = 1 + max((heights[child] for child in below), default=0)
            self._note_saved(node)
            self.is_compiled |= node.name() == "CompiledFunctionBackward"

    def _note_saved(self, node: Any) -> None:
        for tensor in _saved_tensors(node):
            storage = None if _is_python_number(tensor) else storage_of(tensor)
            if storage is not None and (key := StorageWeakRef(storage)) not in self._storages:
                self._storages.add(key)
                self.saved_bytes += storage.nbytes()


def _edge(output: Tensor | GradientEdge) -> GradientEdge | None:
    if isinstance(output, GradientEdge):
        return output
    return get_gradient_edge(output) if output.requires_grad else None


_NARROW = {torch.float64: torch.float16, torch.complex128: torch.complex32, torch.int64: torch.int8}


def _is_python_number(tensor: Tensor) -> bool:
    """Is it the 2 of `2 * x`, which torch keeps as a tensor and no hook sees? It alone yields to a narrower dtype."""
    narrow = _NARROW.get(tensor.dtype) if tensor.dim() == 0 else None
    return narrow is not None and torch.result_type(tensor, torch.empty((), dtype=narrow)) == narrow


@cache
def _saved_names(kind: type) -> tuple[tuple[str, str], ...]:
    """The attributes of a kind of node that hold saved tensors, each with the one that shows how it is saved."""
    raw = [name for name in dir(kind) if name.startswith("_raw_saved_")]
    # A custom Function's node has one for all of them, of a name of its own.
    return tuple((name, name.removeprefix("_raw") if name != "_raw_saved_tensors" else "saved_tensors") for name in raw)


def _saved_tensors(node: Any) -> Iterator[Tensor]:
    for raw, name in _saved_names(type(node)):  # type: ignore[arg-type]
        yield from tensors_in(_saved(node, raw, name))
    # A custom Function may set what it keeps as an attribute of its ctx, which is its node.
    yield from tensors_in(getattr(node, "__dict__", {}))


def _saved(node: Any, raw: str, name: str) -> Any:
    """What a node keeps under this name. What a hook has packed is answered as it is packed, such as by checkpointing:
    to unpack it might mean to compute it again.
    """
    try:
        slots = getattr(node, raw)
        packed = [slot for slot in (slots if isinstance(slots, (tuple, list)) else (slots,)) if _is_packed(slot)]
        if packed:
            return [kept for slot in packed for kept in (slot.data, *_kept_to_recompute(slot.unpack_hook))]
        return getattr(node, name)
    except RuntimeError:  # freed by an earlier pass, or overwritten since: the engine will not read it
        return None


def _kept_to_recompute(unpack_hook: Any) -> Iterator[Tensor]:
    """The arguments of a checkpointed block, which its frame keeps."""
    for cell in getattr(unpack_hook, "__closure__", None) or ():
        frame = cell.cell_contents
        if type(frame).__module__ == "torch.utils.checkpoint":
            yield from tensors_in([slot.data for slot in frame.saved_args if hasattr(slot, "data")])


def _is_packed(slot: Any) -> bool:
    return getattr(slot, "unpack_hook", None) is not None


@contextmanager
def recorded(inputs: Iterable[Tensor]) -> Iterator[Graph]:
    """The graph of everything that is differentiated inside this block; `is_compiled` where compiled code runs, and
    `leaves_to_numpy` where NumPy is handed the memory of a tensor.
    """
    graph = Graph(inputs)
    autograd: Any = torch.autograd
    engine = autograd._engine_run_backward

    def run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
        graph.walk(outputs)
        return engine(outputs, *args, **kwargs)

    with (
        _replaced(autograd, "_engine_run_backward", run_backward),
        _noting_compiled_code(graph),
        _noting_numpy(graph),
    ):
        yield graph


@contextmanager
def _replaced(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, original)


@contextmanager
def _noting_compiled_code(graph: Graph) -> Iterator[None]:
    """Every call of a torch.compile'd function asks the stance for its callback: None or False when it runs eagerly.

    A graph alone would not tell: compiled code that is not differentiated has none.
    """
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None:  # not even imported, so nothing was compiled
        yield
        return
    ask = dynamo._callback_from_stance

    def noting(callback: Any) -> Any:
        answer = ask(callback)
        graph.is_compiled |= answer is not None and answer is not False
        return answer

    with _replaced(dynamo, "_callback_from_stance", noting):
        yield


@contextmanager
def _noting_numpy(graph: Graph) -> Iterator[None]:
    """Ways to NumPy lead through Tensor.numpy, such as np.asarray through Tensor.__array__; DLPack's is not seen."""
    hand_over = Tensor.numpy

    def numpy(tensor: Tensor, **how: Any) -> Any:
        graph.leaves_to_numpy = True
        return hand_over(tensor, **how)

    with _replaced(Tensor, "numpy", numpy):
        yield
