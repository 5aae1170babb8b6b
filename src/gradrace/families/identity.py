"""identity: f(x) = x. Teaches what the harness, one autograd node and one allocation cost by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gradrace.declare import Family, Numbers, Size, size
from gradrace.families.numerics import well_conditioned


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    return {"x": rng.standard_normal(size["n"])}


def reference_vjp(numbers: Numbers) -> Mapping[str, Any]:
    return {"value": numbers["x"], "x": numbers["cotangent"]}


identity = Family(
    name="identity",
    summary="f(x) = x: the overhead of the harness, of a node, of an allocation",
    source="the empty benchmark of every harness",
    primals=("x",),
    operators=("primal", "vjp"),
    sizes=(size("test", "bench", "cuda", n=1), size("gate", "cuda", n=1000)),
    draw=draw,
    baseline="empty",
    condition=well_conditioned,
    reference={"primal": lambda numbers: {"value": numbers["x"]}, "vjp": reference_vjp},
)


@identity.variant(source="no work at all: what is timed is the harness")
def empty(x: Tensor) -> Tensor:
    return x


@identity.variant(source="torch.Tensor.view_as: one dispatch, one node, no arithmetic")
def view(x: Tensor) -> Tensor:
    return x.view_as(x)


@identity.variant(source="torch.clone: one dispatch, one node, one allocation")
def clone(x: Tensor) -> Tensor:
    return x.clone()
