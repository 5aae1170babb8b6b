"""endpoints: where solvers end, over many starts. An end point is judged by what it is, not by what its solver says.

end points (b, n) on a landscape  ->  the kind of each  ->  one row for each solver
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradrace.families.descent import Descent

KINDS = ("solution", "minimum", "saddle", "infinity", "unfinished")
"""The known solution; another critical point, with a positive definite Hessian or without; far away; none of these."""


@dataclass(frozen=True)
class Landscape:
    """What is known of points x (b, n): residual (b,), distance from the solution (b,), gradient (b, n), Hessian
    (b, n, n).

    far: a point whose norm is not below this has run away.
    """

    residual: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    hessian: Callable[[Tensor], Tensor]
    far: float


@dataclass(frozen=True)
class Row:
    """How one solver fared: medians over the starts, and how many of them ended at each kind of point."""

    solver: str
    starts: int
    iterations: float
    residual: float
    distance: float
    kinds: Mapping[str, int]


def classify(landscape: Landscape, x: Tensor, close: float = 1e-3) -> list[str]:
    """The kind of each point x (b, n), one of KINDS.

    The solution is found within the distance `close`. Another critical point is where the Newton step is at most
    `close` times 1 + ‖x‖, and does not lead to the solution.
    """
    size, hessian = x.norm(dim=-1), landscape.hessian(x)
    newton = torch.linalg.solve_ex(hessian, landscape.gradient(x))[0]
    is_critical = (newton.norm(dim=-1) <= close * (1 + size)) & (landscape.distance(x - newton) > close)
    # Elsewhere the Hessian may be infinite, of which eigvalsh would raise.
    lowest = torch.linalg.eigvalsh(torch.where(is_critical[:, None, None], hessian, 0))[:, 0]
    kind = torch.full_like(size, KINDS.index("unfinished"), dtype=torch.int64)
    kind[is_critical] = KINDS.index("saddle")
    kind[is_critical & (lowest > 0)] = KINDS.index("minimum")
    kind[landscape.distance(x) <= close] = KINDS.index("solution")
    kind[~(size < landscape.far)] = KINDS.index("infinity")  # NaN too
    return [KINDS[index] for index in kind.tolist()]


def tabulate(landscape: Landscape, found: Mapping[str, Descent]) -> list[Row]:
    """A row for each solver, from where it ended."""
    return [
        Row(
            solver=solver,
            starts=len(descent.x),
            iterations=descent.iterations.double().median().item(),
            residual=landscape.residual(descent.x).median().item(),
            distance=landscape.distance(descent.x).median().item(),
            kinds=Counter(classify(landscape, descent.x)),
        )
        for solver, descent in found.items()
    ]
