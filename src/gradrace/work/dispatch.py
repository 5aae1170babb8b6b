"""What a run asks of torch's dispatcher: the operations and FLOPs of each phase, and the most bytes alive at once."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gradrace.work.flops import formula_of, is_uncounted
from gradrace.work.graph import storage_of, tensors_in

aten = torch.ops.aten

FRESH = (aten.lift_fresh.default,)
"""Operations that are the first to see a storage although their schema calls the output a view: a tensor made of
Python numbers."""

VIEWS = (aten._unsafe_view.default,)
"""Operations that give a view although their schema does not say so."""


class Facts(NamedTuple):
    """What is known of an operation before it is called."""

    name: str
    formula: Callable[..., int] | None
    is_uncounted: bool
    is_composite: bool
    makes_storage: bool
    writes: bool


@cache
def facts_of(operation: Any) -> Facts:
    schema = getattr(operation, "_schema", None)
    is_fresh = schema is None or all(output.alias_info is None for output in schema.returns)
    composite = torch._C.DispatchKey.CompositeImplicitAutograd
    return Facts(
        name=str(operation),
        formula=formula_of(operation),
        is_uncounted=is_uncounted(operation),
        is_composite=schema is not None and torch._C._dispatch_has_kernel_for_dispatch_key(operation.name(), composite),
        makes_storage=operation in FRESH or (is_fresh and operation not in VIEWS),
        writes=schema is not None and schema.is_mutable,
    )


class Tally:
    """Operations by name, FLOPs, and the names of operations whose FLOPs are unknown."""

    def __init__(self) -> None:
        self.by_op: Counter[str] = Counter()
        self.flops = 0
        self.uncounted: set[str] = set()

    def add(self, facts: Facts, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        self.by_op[facts.name] += 1
        if facts.formula:
            self.flops += int(facts.formula(*args, **kwargs, out_val=output))
        elif facts.is_uncounted:
            self.uncounted.add(facts.name)


class Memory:
    """The bytes of the storages that operations have made and that are alive, and the most of them at once.

    Workspaces inside an operation are not seen, nor is what NumPy or Python allocates: `gradrace.work` tells no peak of
    what NumPy computes.
    """

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        self._sizes: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        # An operation may hand an input's own storage on.
        self._inputs = {storage._cdata for tensor in inputs if (storage := storage_of(tensor)) is not None}
        self.alive = 0
        self.peak = 0

    def see(self, facts: Facts, output: Any) -> None:
        """Note what an operation has made, or made larger: `out=` and resize_ do that to a storage that was there."""
        if not facts.makes_storage and not facts.writes:
            return
        for tensor in tensors_in(output):
            storage = storage_of(tensor)
            if storage is None or (key := storage._cdata) in self._inputs:
                continue
            if key not in self._sizes:
                if not facts.makes_storage:
                    continue
                self._references[key] = weakref.ref(storage, self._forget(key))
                self._sizes[key] = 0
            self._resize(key, storage.nbytes())

    def _resize(self, key: int, size: int) -> None:
        self.alive += size - self._sizes[key]
        self._sizes[key] = size
        self.peak = max(self.peak, self.alive)

    def _forget(self, key: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            self.alive -= self._sizes.pop(key)
            del self._references[key]

        return forget


class Dispatched(TorchDispatchMode):
    """Counts the operations of the block. Backward are those that the autograd engine runs, forward all others.

    The engine hands its modes to its worker threads, which evaluate the nodes on CUDA, and each thread knows the node
    that it evaluates: phases are told apart there as here.
    """

    supports_higher_order_operators = True

    def __init__(self, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.forward, self.backward = Tally(), Tally()
        self.memory = Memory(inputs)


def _dispatch(
    self: Dispatched, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> Any:
    kwargs = kwargs or {}
    facts = facts_of(func)
    if facts.is_composite:  # seen whole in inference mode, say: count what it is made of, as anywhere else
        with self:
            return func.decompose(*args, **kwargs)
    output = func(*args, **kwargs)
    phase = self.forward if torch._C._current_autograd_node() is None else self.backward
    phase.add(facts, args, kwargs, output)
    self.memory.see(facts, output)
    return output


# Set after the class is made: torch wraps a handler that stands in the class body so that torch.compile passes it by,
# and for that imports the compiler, for three seconds. No compiled code runs under this mode.
Dispatched.__torch_dispatch__ = _dispatch  # type: ignore[assignment, method-assign]
