"""Every question and every answer: scenarios, cases, their ids, how to select them, why one is skipped."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import torch

from gradrace.declare import DEVICES, DTYPES, OPERATORS, Family, Size, Variant
from gradrace.errors import UsageError, described, unknown, where

ENTRY_POINTS = "gradrace.families"


@dataclass(frozen=True)
class Scenario:
    """The question: a family, an operator, a size, a dtype and a device."""

    family: Family
    operator: str
    size: Size
    dtype: str
    device: str

    @property
    def id(self) -> str:
        return f"{self.family.name}/{self.operator}/{self.size.word}/{self.dtype}/{self.device}"

    @property
    def tiers(self) -> frozenset[str]:
        """Those of its size; where no size of this operator is marked for the gate, it takes what the bench does."""
        if "bench" not in self.size.tiers:
            return self.size.tiers
        rivals = (size for size in self.family.sizes if self.operator in (size.operators or self.family.operators))
        return self.size.tiers if any("gate" in size.tiers for size in rivals) else self.size.tiers | {"gate"}


@dataclass(frozen=True)
class Case:
    """One answer: a scenario and the variant that answers it."""

    scenario: Scenario
    variant: Variant

    @property
    def id(self) -> str:
        asked = self.scenario
        return "/".join(
            (asked.family.name, self.variant.name, asked.operator, asked.size.word, asked.dtype, asked.device)
        )

    @property
    def is_baseline(self) -> bool:
        return self.scenario.family.baseline_of(self.scenario.operator) == self.variant.name

    @property
    def skip_reason(self) -> str | None:
        """Why this case cannot run here, or None when it can."""
        asked, variant = self.scenario, self.variant
        for word in (asked.operator, asked.dtype, asked.device):
            if word in variant.unsupported:
                return variant.unsupported[word]
        for limit in variant.limits:
            if reason := limit.exceeded_by(asked.size):
                return reason
        if asked.device == "cuda" and not torch.cuda.is_available():
            return "no CUDA device is available"
        for requirement in variant.requires:
            if not is_available(requirement):
                return f"needs {requirement}, which is not installed"
        return None


@cache
def is_available(requirement: str) -> bool:
    if requirement == "a C++ compiler":
        return any(shutil.which(compiler) for compiler in ("c++", "g++", "clang++"))
    return importlib.util.find_spec(requirement.partition(".")[0]) is not None


def load_families(modules: Iterable[str] = ()) -> tuple[Family, ...]:
    """The built-in families, those of installed entry points, and those of the named modules.

    Raises UsageError for a module that cannot be imported or holds no family, and for two families of one name.
    """
    from gradrace.families import FAMILIES

    found: list[Family] = list(FAMILIES)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        source = f"the entry point {point.name!r}"
        found += _families_in(_loaded(point.load, source), source)
    for name in modules:
        found += _families_in(_import(name), f"the module {name!r}")
    named: dict[str, Family] = {}
    for family in found:
        if named.setdefault(family.name, family) is not family:
            raise UsageError(f"two families of the name {family.name!r} are loaded; rename one of them")
        family.check_complete()
    return tuple(named.values())


def _import(name: str) -> object:
    # A console script has its own folder on the path instead of the user's.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return _loaded(lambda: importlib.import_module(name), f"the module {name!r}")


def _loaded(load: Callable[[], object], what: str) -> object:
    try:
        return load()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # a script that ends in sys.exit() would end this one, with its code
        place = where(error)
        raise UsageError(
            f"cannot import {what} ({described(error)}{f' at {place}' if place else ''}); "
            "mend it, or give a dotted name that python can import from here"
        ) from error


def _families_in(holder: object, source: str) -> list[Family]:
    values = [holder] if isinstance(holder, Family) else holder
    if not isinstance(values, (list, tuple)):
        values = list(vars(holder).values())
    families = [value for value in values if isinstance(value, Family)]
    if not families:
        raise UsageError(f"{source} holds no gradrace.Family; declare one at its top level")
    return families


def scenarios(families: Iterable[Family]) -> list[Scenario]:
    """Every question that the families ask."""
    return [
        Scenario(family, operator, size, dtype, device)
        for family in families
        for operator in family.operators
        for size in family.sizes
        if operator in (size.operators or family.operators)
        for device in ("cpu", "cuda")
        if device == "cpu" or "cuda" in size.tiers
        for dtype in (size.dtypes or family.dtypes)
    ]


def all_cases(families: Iterable[Family] | None = None) -> list[Case]:
    """Every case of the families (by default of all that are installed): the one list that all consumers use."""
    return [
        Case(scenario, variant)
        for scenario in scenarios(load_families() if families is None else families)
        for variant in scenario.family.variants
        if scenario.operator in scenario.family.operators_of(variant)
        and scenario.dtype in (variant.dtypes or scenario.family.dtypes)
    ]


@dataclass(frozen=True)
class Selection:
    """What a person asked for. An axis that is named replaces the default choice on that axis.

    default: the tier of sizes that are chosen on the CPU when nothing is said of it.
    """

    pattern: str | None = None
    all: bool = False
    default: str = "bench"
    tier: str | None = None
    family: Sequence[str] = ()
    variant: Sequence[str] = ()
    operator: Sequence[str] = ()
    size: Sequence[str] = ()
    dtype: Sequence[str] = ()
    device: Sequence[str] = ()

    def _admits(self, case: Case) -> bool:
        asked = case.scenario
        words = {
            "family": asked.family.name,
            "variant": case.variant.name,
            "operator": asked.operator,
            "size": asked.size.word,
            "dtype": asked.dtype,
            "device": asked.device,
        }
        if any(getattr(self, axis) and word not in getattr(self, axis) for axis, word in words.items()):
            return False
        return self.pattern is None or fnmatchcase(case.id, self.pattern)

    def _is_wanted(self, case: Case) -> bool:
        asked = case.scenario
        if self.tier is not None:
            return self.tier in asked.tiers and (asked.device == "cuda") == (self.tier == "cuda")
        if self.all:
            return True
        tier = self.default if asked.device == "cpu" else "cuda"
        right_size = bool(self.size) or tier in asked.tiers
        right_dtype = bool(self.dtype) or asked.dtype == (asked.size.dtypes or asked.family.dtypes)[0]
        return right_size and right_dtype

    def apply(self, cases: Sequence[Case]) -> list[Case]:
        """The selected cases, in order.

        Raises UsageError for a word that no case has, for CUDA without a device, and when nothing is selected.
        """
        self._check_words(cases)
        admitted = [case for case in cases if self._admits(case)]
        selected = [case for case in admitted if self._is_wanted(case)]
        if not selected:
            raise UsageError(self._nothing(len(admitted), cases))
        return selected

    def _nothing(self, outside: int, cases: Sequence[Case]) -> str:
        asked = f"the pattern {self.pattern!r}" if self.pattern else "this choice"
        if outside:
            return (
                f"{asked} selects nothing of the default selection; "
                f"add --all (pytest: --all-cases) to reach {outside} others"
            )
        if self.pattern in {case.scenario.family.name for case in cases}:
            return f"{asked} selects no case; did you mean '{self.pattern}/*'?"
        return f"{asked} selects no case; `gradrace list --all` shows every case id"

    def _check_words(self, cases: Sequence[Case]) -> None:
        known = {
            "family": [case.scenario.family.name for case in cases],
            "variant": [case.variant.name for case in cases],
            "operator": list(OPERATORS),
            "size": [case.scenario.size.word for case in cases],
            "dtype": list(DTYPES),
            "device": list(DEVICES),
        }
        for kind, words in known.items():
            for word in getattr(self, kind):
                if word not in words:
                    raise unknown(kind, word, words)
        if "cuda" in self.device and not torch.cuda.is_available():
            raise UsageError("no CUDA device is available to this torch; leave out --device cuda")


def find_case(case_id: str, modules: Iterable[str] = ()) -> Case:
    """The case of this id. Raises UsageError where there is none."""
    cases = all_cases(load_families(modules))
    for case in cases:
        if case.id == case_id:
            return case
    raise unknown("case", case_id, [case.id for case in cases])
