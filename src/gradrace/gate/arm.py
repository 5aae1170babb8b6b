"""One arm of the gate: a process that imports one state of the code and answers questions about it.

This file is started by itself, with the interpreter and the import path of its state, or forked off `forkserver.py`;
of gradrace it uses what that state has, and imports nothing of the gate. A question is (name, arguments), and its
answer ("ok", answer) or ("failed", a sentence).

    hello()                          -> where the packages of this state come from, and their versions
    cases(modules, pattern, all)     -> [(id, id of the scenario, why it is skipped or "", whether it is selected)]
    know(modules, ids)               -> makes these cases known: what a launch needs, in place of all cases
    numbers(id)                      -> the numbers of the case's scenario, which both arms are handed
    examine(id, numbers)             -> outputs and work of a case on these numbers, and the seconds of its first call
    yardsticks(id)                   -> the tolerance and the scale of each output
    homes(modules)                   -> for each family the modules that it is made in; None where one cannot be told
    kinks(modules, families)         -> what the formulations of these families answer at their kinks, eager
    load(id, numbers)                -> makes a case ready for timing, each time at another place in memory; no numbers:
                                        those that the fork server holds
    spend(calls)                     -> the seconds of so many calls of what is loaded, by the clock and of processor
    relay(calls, warm, turns)        -> the seconds of so many calls for each of its turns (True), in turn with the
                                        other arm of the pair; after so many warm calls that count for nothing
    share(calls)                     -> the processor seconds of so many calls, while the other arm does the same
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

CASES: dict[str, Any] = {}

HELD: dict[str, Any] = {}
"""Numbers by scenario. Filled before the fork: both arms then read the very same memory."""

LOADED: list[Callable[[], Any]] = []

GAPS: list[bytearray] = []
"""What lies between one kernel's memory and the next."""

GAP_BYTES = 1 << 21
"""The largest of the gaps: a huge page, within which an address decides where in the caches its content goes."""

BATON: list[Connection] = []
"""What both arms of a pair hand to and fro, so that one of them computes at a time."""

CANARY = "canary"
"""Not a case: work of torch alone, which no change of the code can make slower or faster."""


def hello() -> dict[str, Any]:
    import torch

    import gradrace

    return {
        "gradrace": os.path.dirname(gradrace.__file__),
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),  # of a class of torch's own, for which the gate would import torch too
    }


def cases(modules: Sequence[str], pattern: str | None, every: bool) -> list[tuple[str, str, str, bool]]:
    """All cases of this state; that none is selected is for the gate to judge."""
    from gradrace.cases import all_cases, load_families

    known = all_cases(load_families(_existing(modules)))
    _remember(known)
    selected = {case.id for case in _selected(known, pattern, every)}
    return [(case.id, case.scenario.id, case.skip_reason or "", case.id in selected) for case in known]


def know(modules: Sequence[str], ids: Sequence[str]) -> None:
    from gradrace.cases import all_cases, load_families

    names = {case_id.partition("/")[0] for case_id in ids}
    _remember(all_cases([family for family in load_families(_existing(modules)) if family.name in names]))


def _remember(known: Sequence[Any]) -> None:
    CASES.update((case.id, case) for case in known)
    # What has been imported stays: a collection need not walk through all of torch each time.
    gc.collect()
    gc.freeze()


def _selected(known: Sequence[Any], pattern: str | None, every: bool) -> Sequence[Any]:
    """What the gate looks at, as this state has it."""
    from dataclasses import fields

    from gradrace.cases import Selection
    from gradrace.errors import UsageError

    # A state may be older than the sizes that are for the gate.
    choice = {"default": "gate"} if "default" in {field.name for field in fields(Selection)} else {}
    try:
        return Selection(pattern, all=every, **choice).apply(known)
    except UsageError:
        return []


def _existing(modules: Sequence[str]) -> list[str]:
    """The modules that this state has: one that came later is no error of the base."""
    return [name for name in modules if _exists(name)]


def _exists(module: str) -> bool:
    parent = module.rpartition(".")[0]
    if parent and not _exists(parent):
        return False
    return importlib.util.find_spec(module) is not None


def numbers(case_id: str) -> dict[str, Any]:
    from gradrace.inputs import draw_numbers

    return dict(draw_numbers(CASES[case_id].scenario))


def examine(case_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    from gradrace.inputs import to_inputs
    from gradrace.operators import name_outputs, prepare

    case = CASES[case_id]
    inputs = to_inputs(case.scenario, given)
    thunk = prepare(case, inputs)
    begin = time.perf_counter()
    named = name_outputs(case, thunk())
    seconds = time.perf_counter() - begin
    outputs = {name: None if output is None else _array(output) for name, output in named.items()}
    return {"outputs": outputs, "seconds": seconds, "work": _work(case_id, thunk, inputs)}


def _array(output: Any) -> Any:
    """In the dtype that it came in: bitwise equality is asked first."""
    import numpy as np
    import torch

    return np.array(output.detach().cpu().numpy() if isinstance(output, torch.Tensor) else output)


def _work(case_id: str, thunk: Callable[[], Any], inputs: Any) -> dict[str, Any] | None:
    """The exact counters; None where this state cannot count."""
    try:
        from gradrace.work import COMPILED, count_run
    except ImportError:
        return None
    given = (inputs.primals, inputs.constants, inputs.tangents, (inputs.cotangent,))
    work = count_run(case_id, thunk, given, CASES[case_id].scenario.device == "cuda")
    return {**work.as_json(), "counters": work.counters, "is_compiled": work.reason == COMPILED}


def yardsticks(case_id: str) -> dict[str, dict[str, float]]:
    """For each output its tolerance and the size of its exact value, by which a difference is measured.

    None of either where this state is older than they are: the other state's will do.
    """
    import numpy as np

    from gradrace.inputs import draw_numbers

    try:
        from gradrace.reference import reference
        from gradrace.tolerance import tolerance
    except ImportError:
        return {"tolerances": {}, "scales": {}}
    case = CASES[case_id]
    exact, family = reference(case.scenario), case.scenario.family
    magnitude = family.magnitude(draw_numbers(case.scenario)) if family.magnitude else {}
    sizes = {name: float(np.abs(value).max(initial=0.0)) for name, value in exact.items()}
    scales = {name: size or float(magnitude.get(name, 1.0)) for name, size in sizes.items()}
    # A solver's answer has no rounding error to speak of: it has found the solution or it has not.
    is_solver = case.scenario.operator == "solve"
    allowed = {name: 1e-6 if is_solver else float(np.max(tolerance(case, name))) for name in exact}
    return {"tolerances": allowed, "scales": scales}


def kinks(modules: Sequence[str], families: Sequence[str]) -> list[dict[str, Any]] | None:
    """None where this state knows nothing of kinks."""
    from gradrace.cases import load_families

    try:
        from gradrace.kinks import record
    except ImportError:
        return None
    asked = [family for family in load_families(_existing(modules)) if family.name in families]
    return [row.as_json() for row in record(asked, compiled=False)]


def homes(modules: Sequence[str]) -> dict[str, list[str] | None]:
    from gradrace.cases import load_families

    found: dict[str, list[str] | None] = {}
    for family in load_families(_existing(modules)):
        functions = [family.draw, *(variant.function for variant in family.variants)]
        names = {getattr(function, "__module__", None) for function in functions}
        # What declares a family may have all its functions from elsewhere. An older state does not know what does.
        names.update(getattr(family, "homes", ()))
        found[family.name] = None if None in names else sorted(filter(None, names))
    return found


def load(case_id: str, given: Mapping[str, Any] | None) -> None:
    LOADED.clear()
    gc.collect()
    # Where arrays lie to one another decides how well the caches hold them: a kernel that is loaded anew lies anew.
    GAPS[:] = [bytearray(random.SystemRandom().randrange(0, GAP_BYTES, 64)) for _ in range(3)]
    LOADED.append(_canary() if case_id == CANARY else _thunk(case_id, given))


def _thunk(case_id: str, given: Mapping[str, Any] | None) -> Callable[[], Any]:
    from gradrace.inputs import to_inputs
    from gradrace.operators import prepare

    case = CASES[case_id]
    return prepare(case, to_inputs(case.scenario, HELD[case.scenario.id] if given is None else given))


def _canary() -> Callable[[], Any]:
    import torch

    x = torch.linspace(-1, 1, 1000, dtype=torch.float64, requires_grad=True)

    def sing() -> Any:
        return torch.autograd.grad(torch.tanh(x).square().sum(), x)

    return sing


def spend(calls: int) -> tuple[float, float]:
    begin = time.perf_counter(), time.process_time()
    with without_collector():
        for _ in repeat(None, calls):
            LOADED[0]()
        _waiter()()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def relay(calls: int, warm: int, turns: Sequence[bool]) -> list[float]:
    """The arms hand over to one another directly: nobody else wakes up between their blocks."""
    thunk, wait, clock = LOADED[0], _waiter(), time.perf_counter
    seconds = []
    with without_collector(), _never_waited_for(len(turns)):
        for was_mine, is_mine, will_be_mine in zip([True, *turns], turns, [*turns[1:], True], strict=False):
            if not is_mine:
                continue
            if not was_mine:
                _take_over()
            for _ in repeat(None, warm):
                thunk()
            wait()
            begin = clock()
            for _ in repeat(None, calls):
                thunk()
            wait()
            seconds.append(clock() - begin)
            if not will_be_mine:
                _hand_over()
    return seconds


def share(calls: int) -> float:
    """Both arms on one core: the scheduler alternates them, inside of a call too."""
    _hand_over()
    _take_over()
    begin = time.process_time()
    with without_collector():
        for _ in repeat(None, calls):
            LOADED[0]()
    return time.process_time() - begin


def _hand_over() -> None:
    os.write(BATON[0].fileno(), b"!")


def _take_over() -> None:
    if not os.read(BATON[0].fileno(), 1):
        raise EOFError("the other arm has ended")


@contextlib.contextmanager
def _never_waited_for(turns: int) -> Iterator[None]:
    """A kernel that raises: the other arm must not wait for this one, which is done with its turns."""
    try:
        yield
    except BaseException:
        for _ in range(turns):
            _hand_over()
        raise


def _waiter() -> Callable[[], Any]:
    """Waits for what a GPU has still to do."""
    import torch

    return torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection inside the block. It costs a tenth of an import too, and finds nothing there."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


QUESTIONS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (hello, cases, know, numbers, examine, yardsticks, homes, kinks, load, spend, relay, share)
}


def _answer(name: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        return "ok", QUESTIONS[name](*arguments)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        first_line = str(error).partition("\n")[0]
        return "failed", f"{type(error).__name__}: {first_line} ({os.path.basename(place.filename)}:{place.lineno})"


def serve(connection: Connection) -> None:
    """Answer until nobody asks any more."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.send(_answer(*connection.recv()))


def begin() -> None:
    """What every process of the gate does first."""
    # A terminal interrupts all of them at once: the gate alone answers, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    # What a kernel prints goes where a person sees it, and nowhere else.
    os.dup2(2, 1)
    # Python has put the folder of this file on the path, and a user may have modules of the names that are there.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]
    # One thread: sums are then taken in one order, and equal code gives equal bits.
    with without_collector():
        importlib.import_module("torch").set_num_threads(1)


def die_with_parent() -> None:
    """A gate that is killed takes its arms along, even one that computes and does not read."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux


if __name__ == "__main__":
    begin()
    first, *rest = (Connection(int(handle)) for handle in sys.argv[1:])
    BATON.extend(rest)
    serve(first)
