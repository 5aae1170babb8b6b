"""Small helpers of several tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _pytest.pytester
import numpy as np
import pytest
import torch
from hypothesis import settings

from gradrace.cases import Case, Scenario
from gradrace.declare import Family, size
from gradrace.families.numerics import well_conditioned

pytest_plugins = ["pytester"]

# A verdict belongs to the commit: the examples are the same in every run; `--hypothesis-profile=default` seeks on.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


LONG = (
    *("test_gate_clock", "test_families", "test_growth", "test_gate", "test_asv", "test_walkthrough", "test_faults"),
    *("test_devices", "test_report_figures", "test_work", "test_taylor", "test_experiment_races", "test_plugin"),
    *("test_report_browser", "test_kinks", "test_experiments"),
)
"""Files that take long: they go first, the longest before all, so that no worker is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _what_is_loaded_stays(tmp_path_factory):
    """pytester forgets whatever an inner run imports, and an extension module cannot be loaded a second time: only the
    modules of its own folder may go.
    """

    class Snapshot(_pytest.pytester.SysModulesSnapshot):
        def __init__(self, preserve=None):  # noqa: ARG002
            super().__init__(lambda name: not str(getattr(sys.modules[name], "__file__", "")).startswith(folder))

    folder = str(tmp_path_factory.getbasetemp())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pytest.pytester, "SysModulesSnapshot", Snapshot)
        yield


def make_family(**facts: Any) -> Family:
    """f(x) = Σ x², with an exact reference, and a second primal that f does not read."""

    def exact(numbers: Any) -> dict[str, Any]:
        x = numbers["x"]
        return {"value": (x * x).sum(), "x": 2 * x, "unused": np.zeros_like(x)}

    defaults: dict[str, Any] = {
        "name": "squares",
        "summary": "Σ x²",
        "source": "a test",
        "primals": ("x", "unused"),
        "operators": ("value_and_gradient",),
        "sizes": (size("test", "bench", n=5),),
        "draw": lambda size, rng: {"x": rng.standard_normal(size["n"]), "unused": rng.standard_normal(size["n"])},
        "baseline": "right",
        "condition": well_conditioned,
        "reference": {"value_and_gradient": exact},
    }
    return Family(**{**defaults, **facts})


def git(repo: Path, *arguments: str) -> str:
    """What git answers in this repository, as an author who exists nowhere."""
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=repo, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def another_hash_seed() -> dict[str, str]:
    """The environment of a process whose sets have another order than ours."""
    return {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}


def only_case(family: Family, function: Callable[..., Any], dtype: str = "float64", **facts: Any) -> Case:
    """The case of one function, declared as a variant of the family."""
    family.variant(source="a test", name="subject", **facts)(function)
    (variant,) = (row for row in family.variants if row.name == "subject")
    operator = family.operators_of(variant)[0]
    return Case(Scenario(family, operator, family.sizes[0], dtype, "cpu"), variant)
