"""One benchmark class for each family and operator of the committed catalogue.

The parameters come from catalogue.json and never from the installed package: asv stores results by the position of
a parameter, so on a commit with other variants a result would appear under a wrong name. What a commit lacks is n/a.
"""

import contextlib
import importlib
import json
import os
from pathlib import Path

# Asks the driver whether there is a GPU without starting CUDA, which a forked child could not use any more.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import torch

from gradrace.cases import all_cases, load_families
from gradrace.clock import clock
from gradrace.environment import pin_threads
from gradrace.operators import prepare_case
from gradrace.verify import quantise, verify

CATALOGUE = json.loads((Path(__file__).parent / "catalogue.json").read_text())

# Listed once, in the process that asv forks for every single parameter.
CASES = {case.id: case for case in all_cases(load_families(CATALOGUE["modules"]))}


def _find(family, operator, variant, size, device):
    """The case, or NotImplementedError, which asv shows as n/a."""
    case = CASES.get(f"{family}/{variant}/{operator}/{size}/float64/{device}")
    if case is None:
        raise NotImplementedError("this commit has no such case")
    if case.skip_reason:
        raise NotImplementedError(case.skip_reason)
    return case


class _Kernel:
    family = operator = ""
    param_names = ("variant", "size", "device")
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
            self.thunk = prepare_case(self.case).thunk

    def track_gradient_error(self, variant, size, device):
        check = verify(self.case)
        if check.status == "skipped":
            raise NotImplementedError(check.message)
        return quantise(check)

    track_gradient_error.unit = "log2 of the error over its tolerance"


def _benchmark(family, operator, rows):
    def racers_only(variant, size, device):
        if _find(family, operator, variant, size, device).variant.is_specimen:
            raise NotImplementedError("a wrong formulation does not race")

    def time_kernel(self, variant, size, device):
        self.thunk()

    time_kernel.setup = racers_only
    name = "".join(word.title() for word in f"{family}_{operator}".split("_"))
    columns = [list(dict.fromkeys(row[axis] for row in rows)) for axis in _Kernel.param_names]
    body = {
        "family": family,
        "operator": operator,
        "params": columns,
        "version": rows[0]["version"],
        "time_kernel": time_kernel,
    }
    return name, type(name, (_Kernel,), {**body, "__module__": __name__})


def _benchmarks():
    groups = {}
    for row in CATALOGUE["cases"]:
        # The machine decides, not the commit: a third of all parameters would be n/a without a GPU.
        if row["device"] == "cuda" and not torch.cuda.is_available():
            continue
        groups.setdefault((row["family"], row["operator"]), []).append(row)
    return dict(_benchmark(family, operator, rows) for (family, operator), rows in groups.items())


# torch imports these at the first pullback and the first torch.func transform, for up to a second: once here instead
# of in every forked child. Only imports: a child hangs in backward when its parent has run operations in threads.
for _module in ("torch.fx.experimental.symbolic_shapes", "torch._dynamo"):
    importlib.import_module(_module)
globals().update(_benchmarks())
