"""Descent in one variable by the notes' numbers: where a small step stalls, and the largest that a minimum holds."""

import math

import numpy as np
import pytest
import torch

from gradrace.families.gd_1d import FLOATS, cosine, cosine_slope, cosine_slope_and_curvature, descend, python_floats

mpmath = pytest.importorskip("mpmath", reason="comes with the extra `test`")

# ---- |x| + (x − 5)²: how far from 4.5 a descent stalls ----

RATES = (0.25, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001, 1e-4)

STALLED = {
    np.float32: (0, 9.5367e-7, 1.90735e-6, 5.7220e-6, 1.14441e-5, 2.38419e-5, 1.19209e-4, 1.19209e-3),
    np.float64: (0, 1.776e-15, 3.553e-15, 1.0658e-14, 2.1316e-14, 4.4409e-14, 2.2204e-13, 2.2204e-12),
}
"""Of each step size η of RATES."""


@pytest.mark.parametrize(("dtype", "steps"), [(np.float32, 12), (np.float64, 36)], ids=["float32", "float64"])
def test_where_each_step_stalls(dtype, steps):
    """From 0 and 10, `steps`/η steps, by which the exact error is e^(−2 steps) of what it was.

    A further step changes nothing: 2 η |e| is at most half an ulp of 4.5, and one ulp further out it would be more. So
    the error of the smallest step is the largest, and nine decades larger in float32 than in float64.
    """
    ulp = float(np.spacing(dtype(4.5)))
    for rate, stalled in zip(RATES, STALLED[dtype], strict=True):
        for start in (0, 10):
            end = descend(np, dtype(start), "absolute", dtype(rate), int(steps / rate))
            assert end.dtype == dtype
            assert end == descend(np, end, "absolute", dtype(rate), 1)
            error = abs(float(end) - 4.5)
            assert math.isclose(error, stalled, rel_tol=5e-4)
            if rate < 0.25:  # which halves the error exactly
                assert ulp / (4 * rate) - 1.001 * ulp < error < ulp / (4 * rate) * (1 + 1e-6)


# ---- x cos 4x + 2 |x|: two over the curvature ----

STABLE = {
    -4.699063257647: 0.0268,
    -3.121483710037: 0.0407,
    -1.529166939939: 0.0877,
    0.683767017659: 0.290,
    2.329151124320: 0.0553,
    3.910966323574: 0.0323,
}
"""The local minima, and the step 2/f″ there."""


def test_the_local_minima_agree_with_mpmath():
    """A second route: the root of mpmath's own derivative of f, to thirty digits."""
    with mpmath.workdps(30):
        for x, stable in STABLE.items():
            side = math.copysign(1, x)

            def f(z, side=side):
                return z * mpmath.cos(4 * z) + 2 * side * z

            root = mpmath.findroot(lambda z, f=f: mpmath.diff(f, z), x)
            assert abs(root - x) < 6e-13
            assert math.isclose(cosine(torch.tensor(x, dtype=torch.float64)), f(root), rel_tol=1e-15)
            assert math.isclose(cosine_slope(FLOATS, x), 0, abs_tol=1e-10)
            curvature = cosine_slope_and_curvature(FLOATS, x)[1]
            assert math.isclose(curvature, mpmath.diff(f, root, 2), rel_tol=1e-11)
            assert float(f"{2 / curvature:.3g}") == stable


@pytest.mark.parametrize("x", STABLE)
def test_a_minimum_holds_steps_below_two_over_its_curvature(x):
    """A hundred steps of s · 2/f″ from 1e-6 beside the minimum: each multiplies the distance by 1 − 2s."""
    edge = 2 / cosine_slope_and_curvature(FLOATS, x)[1]
    for share in (0.99, 1.01):
        end = python_floats(torch.tensor([x + 1e-6], dtype=torch.float64), "cosine", share * edge, 100).item()
        assert math.isclose((end - x) / 1e-6, (1 - 2 * share) ** 100, rel_tol=1e-3)
