"""endpoints: where solvers end, over many starts. An end point is judged by what it is, not by what its solver says.

end points (b, …) on a landscape  ->  the kind of each  ->  one row for each solver
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from gradrace.declare import Family
from gradrace.families.descent import Descent, fixed, together

KINDS = ("solution", "minimum", "maximum", "saddle", "infinity", "unfinished")
"""The known solution; another critical point, whose Hessian is positive definite, negative definite or neither; far
away; none of these.
"""

CLOSE = 1e-3
"""A solver has come to a point that is this near."""

# ---- what a family knows of its points ----

Critical = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""From points x (b, …) and what is close to two arrays (b,): which points are beside a critical point other than the
solution, and the sign that all eigenvalues of the Hessian share there: 1 at a minimum, −1 at a maximum, 0 at a saddle,
where they share none. What it says of a point that is not finite does not count.
"""


@dataclass(frozen=True)
class Landscape:
    """What is known of points x (b, …): residual (b,), of which the least is sought, and distance from the solution.

    critical: a family's own notion of other critical points; most take `by_newton_step`. far: a point whose norm is not
    below this has run away.
    """

    residual: Callable[[Tensor], Tensor]
    distance: Callable[[Tensor], Tensor]
    critical: Critical
    far: float


def by_newton_step(
    gradient: Callable[[Tensor], Tensor], hessian: Callable[[Tensor], Tensor], distance: Callable[[Tensor], Tensor]
) -> Critical:
    """Critical is where the Newton step is at most `close` times 1 + ‖x‖, and does not lead to the solution.

    gradient: x (b, n) -> (b, n). hessian: x -> (b, n, n), regular at critical points. Of numbers x (b,), n is 1.
    """

    def critical(x: Tensor, close: float) -> tuple[Tensor, Tensor]:
        H = hessian(x)
        newton = torch.linalg.solve_ex(H, gradient(x))[0].reshape(x.shape)
        found = (_norm(newton) <= close * (1 + _norm(x))) & (distance(x - newton) > close)
        # Elsewhere the Hessian may be infinite, of which eigvalsh would raise.
        eigenvalues = torch.linalg.eigvalsh(torch.where(found[:, None, None], H, 0))
        return found, (eigenvalues > 0).all(1).int() - (eigenvalues < 0).all(1).int()

    return critical


def nowhere(x: Tensor, close: float) -> tuple[Tensor, Tensor]:
    """A convex function has no critical point but its solutions."""
    none = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return none, none


def _norm(x: Tensor) -> Tensor:
    """‖x‖ of each point, whatever its shape: (b,)."""
    return x.reshape(len(x), -1).norm(dim=-1)


# ---- solvers ----

Solver = Callable[..., Descent]


class Solvers(dict[str, Solver]):
    """The solvers of a family by name: starts (b, …) and the family's constants -> Descent.

    Each is declared as a variant as well, which answers with the end points alone. in_turns: the function takes a
    single start; here it runs from one after the other.
    """

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def iterative(self, in_turns: bool = False, **facts: Any) -> Callable[[Solver], Solver]:
        """Declare a function that returns a Descent."""

        def declare(solve: Solver) -> Solver:
            @wraps(solve)
            def ends(*inputs: Tensor) -> Tensor:
                return solve(*inputs).x

            self[solve.__name__] = _in_turns(solve) if in_turns else solve
            self.family.variant(computes="solve", **facts)(ends)
            return solve

        return declare

    def direct(
        self, iterations: int = 0, in_turns: bool = False, stopped: bool = True, **facts: Any
    ) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
        """Declare a function that returns its end points, after this many iterations from everywhere."""

        def declare(solve: Callable[..., Tensor]) -> Callable[..., Tensor]:
            def counted(starts: Tensor, *constants: Tensor) -> Descent:
                return fixed(solve(starts, *constants), iterations, 1 if in_turns else len(starts), stopped)

            self[solve.__name__] = _in_turns(counted) if in_turns else counted
            return self.family.variant(computes="solve", **facts)(solve)

        return declare

    def race(self, landscape: Landscape, names: tuple[str, ...] | None, *inputs: Tensor) -> list[Row]:
        """How these solvers, or all, fare from the same starts: one row each."""
        return tabulate(landscape, {name: self[name](*inputs) for name in names or self})


def _in_turns(solve: Solver) -> Solver:
    return lambda starts, *constants: together([solve(start, *constants) for start in starts])


# ---- where they ended ----


@dataclass(frozen=True)
class Row:
    """How one solver fared: medians over the starts, and how many of them ended at each kind of point."""

    solver: str
    starts: int
    iterations: float
    residual: float
    distance: float
    kinds: Mapping[str, int]


def classify(landscape: Landscape, x: Tensor, close: float = CLOSE) -> list[str]:
    """The kind of each point x (b, …), one of KINDS. The solution is found within the distance `close`."""
    is_critical, sign = landscape.critical(x, close)
    kind = torch.full_like(is_critical, KINDS.index("unfinished"), dtype=torch.int64)
    kind[is_critical] = KINDS.index("saddle")
    kind[is_critical & (sign > 0)] = KINDS.index("minimum")
    kind[is_critical & (sign < 0)] = KINDS.index("maximum")
    kind[landscape.distance(x) <= close] = KINDS.index("solution")
    kind[~(_norm(x) < landscape.far)] = KINDS.index("infinity")  # NaN too
    return [KINDS[index] for index in kind.tolist()]


def tabulate(landscape: Landscape, found: Mapping[str, Descent], close: float = CLOSE) -> list[Row]:
    """A row for each solver, from where it ended."""
    return [
        Row(
            solver=solver,
            starts=len(descent.x),
            iterations=descent.iterations.double().median().item(),
            residual=landscape.residual(descent.x).median().item(),
            distance=landscape.distance(descent.x).median().item(),
            kinds=Counter(classify(landscape, descent.x, close)),
        )
        for solver, descent in found.items()
    ]
