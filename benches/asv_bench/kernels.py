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
from gradrace.verify import quantise, verify

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
    """Time and gradient error of the cases of one family and operator."""

    family = operator = ""
    param_names = AXES
    timer = staticmethod(clock)
    rounds = 2
    repeat = (2, 4, 0.04)
    # The first call in a forked child is up to a hundred times slower than the rest: a sample must be longer than it.
    sample_time = 0.01
    warmup_time = 0.03
    timeout = 120

    def setup(self, variant, size, device):
        pin_threads(1)
        self.case = _find(self.family, self.operator, variant, size, device)
        with contextlib.suppress(Exception):  # track_gradient_error gives this error its number
            prepared = prepare_case(self.case)
            self.thunk = getattr(prepared, "thunk", prepared)  # once it was the thunk itself

    def track_gradient_error(self, variant, size, device):
        check = verify(self.case)
        if check.status == "skipped":
            raise SkipNotImplemented(check.message)
        return quantise(check)

    track_gradient_error.unit = "log2 of the error over its tolerance"


class _Work:
    """The exact counters of one family and operator, at its last size: they say little more at the others, and asv
    forks a process for every single number.
    """

    family = operator = ""
    param_names = AXES
    timeout = 120

    def setup_cache(self):
        """The counters of all families: asv runs this once a commit, because it stands at one place."""
        pin_threads(1)
        counted = {}
        for (family, operator), rows in _groups().items():
            for parameters in itertools.product(*_columns(_at_last_size(rows))):
                # What a commit lacks is n/a, and track_gradient_error has a number for what raises.
                with contextlib.suppress(Exception):
                    place = (family, operator, *parameters)
                    counted[place] = count(_find(*place)).counters
        return counted

    setup_cache.timeout = 600

    def count_of(self, name, counted, *parameters):
        counters = counted.get((self.family, self.operator, *parameters), {})
        if counters.get(name) is None:
            raise SkipNotImplemented("not counted on this commit, or not known of this case")
        return counters[name]


def _tracker(name, unit):
    def track(self, *arguments):
        return self.count_of(name, *arguments)

    track.unit = unit
    track.__name__ = f"track_{name}"
    return track


def _classes(family, operator, rows):
    """The benchmark classes of one family and operator, by name."""

    def racers_only(variant, size, device):
        if _find(family, operator, variant, size, device).variant.is_specimen:
            raise NotImplementedError("a wrong formulation does not race")

    def time_kernel(self, variant, size, device):
        self.thunk()

    time_kernel.setup = racers_only
    name = "".join(word.title() for word in f"{family}_{operator}".split("_"))
    facts = {"family": family, "operator": operator, "version": rows[0]["version"], "__module__": __name__}
    trackers = {f"track_{counter}": _tracker(counter, unit) for counter, unit in COUNTERS.items()}
    kernel = {**facts, "params": _columns(rows), "time_kernel": time_kernel}
    work = {**facts, "params": _columns(_at_last_size(rows)), **trackers}
    return {name: type(name, (_Kernel,), kernel), f"{name}Work": type(f"{name}Work", (_Work,), work)}


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
    globals().update(_classes(*_group, _rows))
