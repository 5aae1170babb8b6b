"""One benchmark class for each family and operator of the committed catalogue.

The parameters come from catalogue.json and never from the installed package: asv stores results by the position of
a parameter, so on a commit with other variants a result would appear under a wrong name. What a commit lacks is n/a.
"""

import contextlib
import importlib
import itertools
import json
import os
from pathlib import Path

# Asks the driver whether there is a GPU without starting CUDA, which a forked child could not use any more.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch
from asv_runner.benchmarks.mark import SkipNotImplemented

from gradrace.cases import all_cases, load_families
from gradrace.clock import clock
from gradrace.environment import pin_threads
from gradrace.verify import ERROR_CODES, quantise, verify

# This file runs on old commits too, with what they had.
try:
    from gradrace.operators import prepare_case
except ImportError:
    from gradrace.verify import prepare_case
try:
    from gradrace.work import count
except ImportError:
    count = None

CATALOGUE = json.loads((Path(__file__).parent / "catalogue.json").read_text())

# Listed once, in the process that asv forks for every single parameter.
CASES = {case.id: case for case in all_cases(load_families(CATALOGUE["modules"]))}


COUNTERS = {
    "ops_forward": "operations",
    "ops_backward": "operations",
    "flops": "FLOPs",
    "graph_nodes": "nodes",
    "graph_depth": "nodes",
    "saved_bytes": "B",
    "peak_bytes": "B",
}
"""The counters of `gradrace work` that are tracked, with their units."""

AXES = ("variant", "size", "device")


def _find(family, operator, variant, size, device):
    """The case, or NotImplementedError, which asv shows as n/a."""
    case = CASES.get(f"{family}/{variant}/{operator}/{size}/float64/{device}")
    if case is None:
        raise NotImplementedError("this commit has no such case")
    if case.skip_reason:
        raise NotImplementedError(case.skip_reason)
    return case


class _Kernel:
    """The benchmarks of one family and operator. asv hands each of them what `setup_cache` has found."""

    family = operator = ""
    param_names = AXES
    timer = staticmethod(clock)
    rounds = 1  # a second one would take a commit from five minutes to seven
    repeat = (3, 6, 0.06)
    # The first call in a forked child is up to a hundred times slower than the rest: a sample must be longer than it.
    sample_time = 0.01
    warmup_time = 0.03
    timeout = 120

    def setup_cache(self):
        """Gradient error and work of the whole catalogue, once a commit: for asv a cache is where its code stands."""
        pin_threads(1)
        return {
            (family, operator, *parameters): _track(family, operator, *parameters)
            for (family, operator), rows in _groups().items()
            for parameters in itertools.product(*_columns(rows))
        }

    setup_cache.timeout = 600

    def setup(self, found, variant, size, device):
        pin_threads(1)
        case = _find(self.family, self.operator, variant, size, device)
        with contextlib.suppress(Exception):  # the gradient error has a number for what raises
            prepared = prepare_case(case)
            self.thunk = getattr(prepared, "thunk", prepared)  # once it was the thunk itself

    def track_gradient_error(self, found, variant, size, device):
        return self._tracked(found, "gradient_error", variant, size, device)

    track_gradient_error.unit = "log2 of the error over its tolerance"

    def _tracked(self, found, name, *parameters):
        number = found[(self.family, self.operator, *parameters)].get(name)
        if number is None:
            raise SkipNotImplemented("this commit lacks it, or it cannot be known of this case")
        return number


def _track(*place):
    """The numbers of a case, by name; without those that this commit lacks."""
    try:
        case = _find(*place)
    except NotImplementedError:
        return {}
    try:
        check = verify(case)
    except Exception:
        return {"gradient_error": ERROR_CODES["error"]}
    if check.status == "skipped":
        return {}
    numbers = {"gradient_error": quantise(check)}
    with contextlib.suppress(Exception):
        numbers |= count(case).counters
    return numbers


def _tracker(counter, unit):
    def track(self, found, *parameters):
        return self._tracked(found, counter, *parameters)

    track.unit = unit
    return track


def _class(family, operator, rows):
    """The benchmark class of one family and operator.

    Work is tracked at the last size alone: at the others it says little more, and asv forks a process for every number.
    """

    def time_kernel(self, found, variant, size, device):
        self.thunk()

    def racers_only(found, variant, size, device):
        if _find(family, operator, variant, size, device).variant.is_specimen:
            raise NotImplementedError("a wrong formulation does not race")

    time_kernel.setup = racers_only
    facts = {
        "family": family,
        "operator": operator,
        "params": _columns(rows),
        "version": rows[0]["version"],
        "time_kernel": time_kernel,
        "__module__": __name__,
    }
    trackers = {}
    for counter, unit in COUNTERS.items():
        trackers[f"track_{counter}"] = track = _tracker(counter, unit)
        track.params = _columns(_at_last_size(rows))
    return type("".join(word.title() for word in f"{family}_{operator}".split("_")), (_Kernel,), {**facts, **trackers})


def _columns(rows):
    """asv's parameters: the values on each axis, of which it takes the product."""
    return [list(dict.fromkeys(row[axis] for row in rows)) for axis in AXES]


def _at_last_size(rows):
    last = {row["device"]: row["size"] for row in rows}
    return [row for row in rows if row["size"] == last[row["device"]]]


def _groups():
    """The rows of the catalogue by family and operator, those that this machine can run."""
    groups = {}
    for row in CATALOGUE["cases"]:
        # The machine decides, not the commit: a third of all parameters would be n/a without a GPU.
        if row["device"] == "cuda" and not torch.cuda.is_available():
            continue
        groups.setdefault((row["family"], row["operator"]), []).append(row)
    return groups


# torch imports these at the first pullback and the first torch.func transform, for up to a second: once here instead
# of in every forked child. Only imports: a child hangs in backward when its parent has run operations in threads.
for _module in ("torch.fx.experimental.symbolic_shapes", "torch._dynamo"):
    importlib.import_module(_module)
for _group, _rows in _groups().items():
    _kind = _class(*_group, _rows)
    globals()[_kind.__name__] = _kind
