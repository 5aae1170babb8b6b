"""hello: f(x) = Σ x_i², the template of a family. Teaches how to declare one; copy this file to start.

Adding a variant is one decorated function. Adding a family is one file like this and one line in FAMILIES.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gradrace.declare import Family, Numbers, Size, size
from gradrace.families.numerics import well_conditioned


def draw(size: Size, rng: np.random.Generator) -> dict[str, Any]:
    """The inputs by name, in float64; the harness rounds them and moves them where they are needed."""
    return {"x": rng.standard_normal(size["n"])}


def reference(numbers: Numbers) -> Mapping[str, Any]:
    """The exact value and the exact gradient, in NumPy, by a route of their own: ∇f = 2x."""
    x = numbers["x"].astype(np.longdouble)
    return {"value": (x * x).sum(), "x": 2 * x}


hello = Family(
    name="hello",
    summary="f(x) = Σ x²: the template",
    source="the template",
    primals=("x",),
    operators=("primal", "value_and_gradient"),
    sizes=(size("test", n=7), size("bench", "cuda", n=1000)),
    draw=draw,
    baseline="power",
    reference={"primal": reference, "value_and_gradient": reference},
    # A sum of n positive terms: κ = 1, and pairwise summation lets log2 n rounding errors add up.
    condition=well_conditioned,
    depth=lambda size: 1 + np.log2(size["n"]),
)


@hello.variant(source="as people write it")
def power(x: Tensor) -> Tensor:
    return (x**2).sum()


@hello.variant(source="no special case for the exponent")
def product(x: Tensor) -> Tensor:
    return (x * x).sum()


@hello.variant(source="one BLAS call, no temporary")
def dot(x: Tensor) -> Tensor:
    return x @ x
