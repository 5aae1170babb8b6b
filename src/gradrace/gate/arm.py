"""One arm of the gate: a process that imports one state of the code and answers questions about it.

This file is started by itself, with the interpreter and the import path of its state; of gradrace it uses what that
state has, and imports nothing of the gate. Questions come as pickles on standard input, (name, arguments), and each is
answered by one pickle on standard output: ("ok", answer), or ("failed", a sentence).

    hello()                          -> where the packages of this state come from, and their versions
    cases(modules, pattern, all)     -> [(id, id of the scenario, why it is skipped or "")]
    numbers(id)                      -> the numbers of the case's scenario, which both arms are handed
    examine(id, numbers)             -> outputs, their tolerances and scales, and the work of a case on these numbers
    kinks(modules, families)         -> what the formulations of these families answer at their kinks, eager
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

CASES: dict[str, Any] = {}


def hello() -> dict[str, Any]:
    import torch

    import gradrace

    return {
        "gradrace": os.path.dirname(gradrace.__file__),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


def cases(modules: Sequence[str], pattern: str | None, all_sizes: bool) -> list[tuple[str, str, str]]:
    """The selected cases; none where nothing matches, which is for the gate to judge."""
    from gradrace.cases import Selection, all_cases, load_families
    from gradrace.errors import UsageError

    known = all_cases(load_families(_existing(modules)))
    CASES.update((case.id, case) for case in known)
    try:
        selected = Selection(pattern, all=all_sizes).apply(known)
    except UsageError:
        selected = []
    return [(case.id, case.scenario.id, case.skip_reason or "") for case in selected]


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
    named = name_outputs(case, thunk())
    outputs = {name: None if output is None else _array(output) for name, output in named.items()}
    return {"outputs": outputs, **_yardsticks(case, outputs), "work": _work(case_id, thunk, inputs)}


def _array(output: Any) -> Any:
    """In the dtype that it came in: bitwise equality is asked first."""
    import numpy as np
    import torch

    return np.array(output.detach().cpu().numpy() if isinstance(output, torch.Tensor) else output)


def _yardsticks(case: Any, outputs: Mapping[str, Any]) -> dict[str, dict[str, float]]:
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
    exact, family = reference(case.scenario), case.scenario.family
    magnitude = family.magnitude(draw_numbers(case.scenario)) if family.magnitude else {}
    scales = {}
    for name in outputs:
        size = float(np.abs(exact[name]).max(initial=0.0)) if name in exact else 0.0
        scales[name] = size or float(magnitude.get(name, 1.0))
    # A solver's answer has no rounding error to speak of: it has found the solution or it has not.
    is_solver = case.scenario.operator == "solve"
    allowed = {name: 1e-6 if is_solver else float(np.max(tolerance(case, name))) for name in outputs}
    return {"tolerances": allowed, "scales": scales}


def _work(case_id: str, thunk: Callable[[], Any], inputs: Any) -> dict[str, Any] | None:
    """The exact counters; None where this state cannot count."""
    try:
        from gradrace.work import count_run
    except ImportError:
        return None
    given = (inputs.primals, inputs.constants, inputs.tangents, (inputs.cotangent,))
    work = count_run(case_id, thunk, given, CASES[case_id].scenario.device == "cuda")
    return {**work.as_json(), "counters": work.counters}


def kinks(modules: Sequence[str], families: Sequence[str]) -> list[dict[str, Any]] | None:
    """None where this state knows nothing of kinks."""
    from gradrace.cases import load_families

    try:
        from gradrace.kinks import record
    except ImportError:
        return None
    asked = [family for family in load_families(_existing(modules)) if family.name in families]
    return [row.as_json() for row in record(asked, compiled=False)]


QUESTIONS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (hello, cases, numbers, examine, kinks)}


def _answer(name: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        return "ok", QUESTIONS[name](*arguments)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        first_line = str(error).partition("\n")[0]
        return "failed", f"{type(error).__name__}: {first_line} ({os.path.basename(place.filename)}:{place.lineno})"


def _die_with_parent() -> None:
    """A gate that is killed takes its arms along, even one that computes and does not read."""
    with contextlib.suppress(Exception):
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux


def main() -> None:
    _die_with_parent()
    # What a kernel prints must not be read as an answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = os.fdopen(os.dup(0), "rb")
    with contextlib.suppress(EOFError), contextlib.suppress(BrokenPipeError):
        # One thread: sums are then taken in one order, and equal code gives equal bits.
        importlib.import_module("torch").set_num_threads(1)
        while True:
            name, arguments = pickle.load(questions)
            pickle.dump(_answer(name, arguments), answers, protocol=pickle.HIGHEST_PROTOCOL)
            answers.flush()


if __name__ == "__main__":
    main()
