"""The kernels of the gate study: small ones that stay in the cache, and one that does not.

Each marked line is where `plants.py` puts a change; what stands here is the base.
"""

import numpy as np
import torch

from gradrace import Family, Kink, size


def _drawn(size, rng):
    return {"x": rng.standard_normal(size["n"])}


chain = Family(
    name="study_chain",
    summary="sum of c^m x, one multiplication after the other",
    source="made for this study",
    primals=("x",),
    operators=("primal", "value_and_gradient"),
    baseline="chain_32",
    sizes=(size("test", "bench", n=1000),),
    draw=_drawn,
)


def _multiplied(x, times):
    for _ in range(times):
        x = x * 0.999
    return x.sum()


@chain.variant(source="32 multiplications")
def chain_32(x):
    return _multiplied(x, 32)


@chain.variant(source="16 multiplications")
def chain_16(x):
    return _multiplied(x, 16)


@chain.variant(source="8 multiplications")
def chain_8(x):
    return _multiplied(x, 8)


@chain.variant(source="4 multiplications")
def chain_4(x):
    return _multiplied(x, 4)


class _Cubic(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x * x).sum()

    @staticmethod
    def backward(ctx, cotangent):
        (x,) = ctx.saved_tensors
        return 3 * x * x * cotangent


cubic = Family(
    name="study_cubic",
    summary="sum of x^3, with a gradient written by hand",
    source="made for this study",
    primals=("x",),
    operators=("primal", "value_and_gradient"),
    baseline="by_hand",
    sizes=(size("test", "bench", n=5000),),
    draw=_drawn,
)


@cubic.variant(source="a custom function")
def by_hand(x):
    return _Cubic.apply(x)


def _positive_definite(size, rng):
    a = rng.standard_normal((size["d"], size["d"]))
    return {"matrix": a @ a.T + size["d"] * np.eye(size["d"]), "b": rng.standard_normal(size["d"])}


solve = Family(
    name="study_solve",
    summary="b . M^-1 b and log det M from one factor",
    source="made for this study",
    primals=("matrix", "b"),
    operators=("primal", "value_and_gradient"),
    baseline="factored",
    sizes=(size("test", "bench", d=60),),
    draw=_positive_definite,
)


@solve.variant(source="a Cholesky factor")
def factored(matrix, b):
    factor = torch.linalg.cholesky(matrix)
    solution = torch.cholesky_solve(b[:, None], factor)[:, 0]
    return b @ solution + 2 * factor.diagonal().log().sum()


smooth = Family(
    name="study_smooth",
    summary="sum of tanh(x)^2 in single precision",
    source="made for this study",
    primals=("x",),
    operators=("primal", "value_and_gradient"),
    dtypes=("float32",),
    baseline="squared",
    sizes=(size("test", "bench", n=5000),),
    draw=_drawn,
)


@smooth.variant(source="a square")
def squared(x):
    y = torch.tanh(x)
    return (y * y).sum()


wide = Family(
    name="study_wide",
    summary="sum of c^m x of an array that no cache holds",
    source="made for this study",
    primals=("x",),
    operators=("primal", "value_and_gradient"),
    baseline="wide_8",
    sizes=(size("test", "bench", n=500_000),),
    draw=_drawn,
)


@wide.variant(source="8 multiplications")
def wide_8(x):
    return _multiplied(x, 8)


hinge = Family(
    name="study_hinge",
    summary="sum of max(0, x)",
    source="made for this study",
    primals=("x",),
    operators=("value_and_gradient",),
    baseline="rectified",
    sizes=(size("test", "bench", n=1000),),
    draw=_drawn,
    kinks=(Kink("zero", at=0.0, allowed=(0.0, 1.0), value=0.0),),
)


@hinge.variant(source="relu")
def rectified(x):
    return torch.relu(x).sum()


class _Quartic(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        square = x * x
        quartic = square * square
        ctx.save_for_backward(x, square)
        return quartic.sum()

    @staticmethod
    def backward(ctx, cotangent):
        x, square, *_ = ctx.saved_tensors
        return 4 * square * x * cotangent


quartic = Family(
    name="fault_quartic",
    summary="sum of x^4, with a gradient written by hand",
    source="made for this study",
    primals=("x",),
    operators=("value_and_gradient",),
    dtypes=("float64",),
    baseline="keeps_the_square",
    sizes=(size("test", "bench", n=5000),),
    draw=_drawn,
)


@quartic.variant(source="a custom function that keeps the square")
def keeps_the_square(x):
    return _Quartic.apply(x)
