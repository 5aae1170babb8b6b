"""descent: the loops that iterative solvers share. A batch of instances, each until its own stop rule.

    a start (b, n), a step  ->  Descent: where each instance ended, after how many steps, and whether it stopped itself

Source: H. B. Nielsen, IMM-REP-1999-05 (1999) for the damping of Levenberg–Marquardt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Descent:
    """x (b, n): where each instance ended. iterations (b,): steps taken. stopped (b,): did its own stop rule end it?

    An instance whose step or norm becomes infinite or NaN keeps its last finite x, and has not stopped. Of one start
    that came without a batch axis, x has none either, and b is 1.
    """

    x: Tensor
    iterations: Tensor
    stopped: Tensor


def fixed(x: Tensor, iterations: int, starts: int, stopped: bool = False) -> Descent:
    """The descent of a solver that takes this many iterations from each of its starts."""
    counts = torch.full((starts,), iterations, device=x.device)
    return Descent(x, counts, torch.full_like(counts, stopped, dtype=torch.bool))


def together(descents: Sequence[Descent]) -> Descent:
    """The descents of single starts, whose x have no batch axis, as one of a batch."""
    return Descent(
        torch.stack([each.x for each in descents]),
        torch.cat([each.iterations for each in descents]),
        torch.cat([each.stopped for each in descents]),
    )


def of_results(results: Sequence[Any]) -> Descent:
    """What scipy.optimize found, one result a start; its iterations are its evaluations of the function."""
    x = torch.from_numpy(np.stack([each.x for each in results]))
    return Descent(x, *(torch.tensor([each[what] for each in results]) for what in ("nfev", "success")))


Step = Callable[..., tuple[Tensor, ...]]
"""From k = 1, 2, … and the state (x, …) to (length, x, …): the length (b,) of the step that was tried, and the new
state. Every tensor of the state has the batch as its first axis; what does not change may be part of it.
"""


def descend(step: Step, *start: Tensor, tolerance: float, most: int, relative: bool = False) -> Descent:
    """Steps until the length of one is at most `tolerance` (times ‖x‖ where `relative`), or `most` are done.

    What has ended is dropped from the batch: the work is that of the instances that still go.
    """
    x, *rest = start
    ended_at, iterations = x.clone(), torch.full((len(x),), most, device=x.device)
    stopped = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    alive = torch.arange(len(x), device=x.device)
    for k in range(1, most + 1):
        length, moved, *rest = step(k, x, *rest)
        size = moved.norm(dim=-1)
        finite = size + length < math.inf  # and not NaN, which is not less than anything
        going = finite & (length > (tolerance * size if relative else tolerance))
        if going.all():
            x = moved
            continue
        over = ~going
        ended_at[alive[over]] = torch.where(finite.unsqueeze(-1), moved, x)[over]
        iterations[alive[over]], stopped[alive[over]] = k, finite[over]
        alive, x, rest = alive[going], moved[going], [each[going] for each in rest]
        if not len(alive):
            break
    ended_at[alive] = x
    return Descent(ended_at, iterations, stopped)


def newton_like(direction: Callable[..., Tensor]) -> Step:
    """The step x + direction(x, …), undamped; the rest of the state stays as it is."""

    def step(_: int, x: Tensor, *constants: Tensor) -> tuple[Tensor, ...]:
        p = direction(x, *constants)
        return p.norm(dim=-1), x + p, *constants

    return step


def levenberg_marquardt(
    linearise: Callable[..., tuple[Tensor, Tensor]],
    x: Tensor,
    *constants: Tensor,
    tolerance: float,
    most: int,
    damped: float = 1e-3,
) -> Descent:
    """Minimise ½ ‖r(x)‖² of each instance, with Nielsen's damping.

    linearise: `linearise(x, *constants)` gives r (b, m) and J (b, m, n). damped: the first damping, as a share of the
    largest diagonal entry of JᵀJ.
    """
    r, J = linearise(x, *constants)
    damping = damped * (J * J).sum(-2).amax(-1)
    growth = torch.full_like(damping, 2.0)

    def step(
        _: int, x: Tensor, damping: Tensor, growth: Tensor, r: Tensor, J: Tensor, *constants: Tensor
    ) -> tuple[Tensor, ...]:
        gradient = (J.mT @ r.unsqueeze(-1)).squeeze(-1)
        H = J.mT @ J
        H.diagonal(dim1=-2, dim2=-1).add_(damping.unsqueeze(-1))
        p = -torch.linalg.solve_ex(H, gradient)[0]
        tried_r, tried_J = linearise(x + p, *constants)
        fall = ((r * r).sum(-1) - (tried_r * tried_r).sum(-1)) / 2
        gain = fall / ((p * (damping.unsqueeze(-1) * p - gradient)).sum(-1) / 2)
        good = gain > 0
        column = good.unsqueeze(-1)
        return (
            p.norm(dim=-1),
            torch.where(column, x + p, x),
            damping * torch.where(good, (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3), growth),
            torch.where(good, 2.0, 2 * growth),
            torch.where(column, tried_r, r),
            torch.where(column.unsqueeze(-1), tried_J, J),
            *constants,
        )

    return descend(step, x, damping, growth, r, J, *constants, tolerance=tolerance, most=most)
