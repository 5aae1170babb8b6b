"""The inputs of a scenario: the same numbers for all its variants, in every run, on every device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from gradrace.cases import Scenario
from gradrace.declare import Family, Numbers


@dataclass(frozen=True)
class Inputs:
    """Tensors of the scenario's dtype on its device; constants that are plain scalars stay plain."""

    primals: tuple[torch.Tensor, ...]
    constants: tuple[Any, ...]
    tangents: tuple[torch.Tensor, ...] = ()
    cotangent: torch.Tensor | None = None


def seed_of(scenario: Scenario, draw: int = 0) -> int:
    """A seed that depends on the family, the size and the draw alone, so dtypes and devices share the numbers."""
    text = f"{scenario.family.name}/{scenario.size.word}/{draw}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


# Two scenarios at a time: consumers walk through the cases scenario by scenario, and large arrays must go.
@lru_cache(maxsize=2)
def draw_numbers(scenario: Scenario, draw: int = 0) -> Numbers:
    """Float64 numbers of a scenario, rounded to its dtype: primals, constants, `tangent_*`, `cotangent`.

    The reference is evaluated on these numbers, so that the rounding of the inputs is nobody's error.
    """
    family = scenario.family
    rng = np.random.Generator(np.random.PCG64(seed_of(scenario, draw)))
    numbers = family.numbers(scenario.size, rng)
    if scenario.operator in ("jvp", "hvp"):
        for name in family.primals:
            numbers[f"tangent_{name}"] = rng.standard_normal(np.shape(numbers[name]))
    if scenario.operator == "vjp":
        numbers["cotangent"] = rng.standard_normal(family.output_shape(family, numbers))
    return {name: _rounded(value, scenario.dtype) for name, value in numbers.items()}


def _rounded(value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value.astype(dtype).astype(np.float64)
    return value


def to_inputs(scenario: Scenario, numbers: Numbers) -> Inputs:
    """The numbers as tensors of the scenario's dtype on its device."""

    def tensor(name: str) -> Any:
        value = numbers[name]
        if not isinstance(value, np.ndarray):
            return value
        dtype = getattr(torch, scenario.dtype) if value.dtype == np.float64 else None
        return torch.tensor(value, dtype=dtype, device=scenario.device)

    family = scenario.family
    return Inputs(
        primals=tuple(tensor(name) for name in family.primals),
        constants=tuple(tensor(name) for name in family.constants),
        tangents=tuple(tensor(f"tangent_{name}") for name in family.primals if f"tangent_{name}" in numbers),
        cotangent=tensor("cotangent") if "cotangent" in numbers else None,
    )


def directions(family: Family, inputs: Inputs, draw: int = 0) -> tuple[torch.Tensor, ...]:
    """A random direction for each primal, standard normal; of a symmetric matrix it is symmetric, since only the
    symmetric part of its gradient is defined.
    """
    generator = torch.Generator().manual_seed(draw)

    def direction(name: str, primal: torch.Tensor) -> torch.Tensor:
        v = torch.randn(primal.shape, generator=generator, dtype=torch.float64).to(primal)
        return (v + v.mT) / 2 if name in family.symmetric else v

    return tuple(direction(name, primal) for name, primal in zip(family.primals, inputs.primals, strict=True))
