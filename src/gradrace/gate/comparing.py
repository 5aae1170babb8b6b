"""Two arms, case by case: what changed in gradients, kinks and work, with no clock involved.

Arm, Arm  ->  [Kernel], [Difference of kinks]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gradrace import ledger
from gradrace.gate import sources
from gradrace.gate.arms import Arm, ArmRefusal
from gradrace.gate.changes import GradientChange, WorkChange, are_identical, compare_outputs, compare_work


@dataclass(frozen=True)
class Kernel:
    """One case in both states.

    state: `both`, `new`, `gone`, `skipped` (in head), `broken` (head raises where base does not), `mended` (the other
    way round) or `refused` (both raise); `reason` says more. seconds: of its first call in head. is_touched: may its
    time have changed? Not where its code is the same in both states, and its work too.
    """

    id: str
    state: str
    reason: str = ""
    gradient: GradientChange | None = None
    work: WorkChange | None = None
    scenario: str = ""
    is_compiled: bool = False
    seconds: float = 0.0
    is_touched: bool = True

    @property
    def family(self) -> str:
        return _family(self.id)

    @property
    def variant(self) -> str:
        return self.id.split("/")[1]

    @property
    def operator(self) -> str:
        return self.id.split("/")[2]


@dataclass(frozen=True)
class Asked:
    """What to compare: the families of these modules too, a glob on the case id, every size or those for the gate.

    untouched: race also what no change has touched.
    """

    modules: Sequence[str] = ()
    pattern: str | None = None
    every: bool = False
    untouched: bool = False


Track = Callable[[Sequence[str]], Iterable[str]]


def compare(base: Arm, head: Arm, asked: Asked, track: Track) -> list[Kernel]:
    """Every case that either state has. Raises ArmRefusal where a state does not import, ArmError where an arm ends."""
    # A base older than the package would be compared with the one that is installed.
    is_older = head.has_own_package and not base.has_own_package
    old, new = (arm.ask("cases", asked.modules, asked.pattern, asked.every) for arm in (base, head))
    if is_older:
        old = []
    origin = _Origin(base, head, asked)
    in_head = {case_id for case_id, *_ in new}
    in_base = {case_id for case_id, _, reason, _ in old if not reason}
    # What is looked at is for the head to say: a size that it has marked or unmarked has neither come nor gone.
    new = [row for row in new if row[3] and origin.is_looked_at(_family(row[0]))]
    skipped = {case_id: reason for case_id, _, reason, _ in new if reason}
    scenario_of = {case_id: scenario for case_id, scenario, *_ in new}
    kernels = [Kernel(case_id, "gone") for case_id, *_, is_selected in old if is_selected and case_id not in in_head]
    kernels += [Kernel(case_id, "skipped", reason) for case_id, reason in skipped.items()]
    kernels += [Kernel(name, "new") for name in scenario_of if name not in skipped and name not in in_base]
    both = [name for name in scenario_of if name not in skipped and name in in_base]
    unchanged = {name for name in {_family(case_id) for case_id in both} if origin.is_unchanged(name)}
    numbers: tuple[str, Any] = ("", None)
    with _both_at_once(base, head) as pool:
        for name in track(both):
            if numbers[0] != scenario_of[name]:  # cases stand scenario by scenario
                numbers = (scenario_of[name], head.ask("numbers", name))
            asked_both = partial(_ask_both, pool, base, head)
            kernel = _kernel(name, scenario_of[name], numbers[1], asked_both)
            same_work = kernel.work is None or kernel.work.status == "same"
            kernels.append(replace(kernel, is_touched=not (same_work and kernel.family in unchanged)))
    return kernels


class _Origin:
    """Where the families come from, and whether their code is the same in both states."""

    def __init__(self, base: Arm, head: Arm, asked: Asked) -> None:
        self._states = base.state, head.state
        self._looks_everywhere = asked.every or asked.pattern is not None or asked.untouched
        self._old, self._new = (arm.ask("homes", asked.modules) for arm in (base, head))

    def is_looked_at(self, family: str) -> bool:
        """Is it asked for, or a part of the repository? What is installed beside it is the same for both states."""
        modules = self._new[family]
        return self._looks_everywhere or not modules or any(sources.holds(state, modules) for state in self._states)

    def is_unchanged(self, family: str) -> bool:
        modules = self._new[family]
        if not modules or modules != self._old.get(family):
            return False
        first, second = (sources.digest(state, modules) for state in self._states)
        return first == second


def _family(case_id: str) -> str:
    return case_id.split("/")[0]


@contextmanager
def _both_at_once(*arms: Arm) -> Iterator[ThreadPoolExecutor]:
    """A thread for each arm. When the block fails, or is interrupted, nobody waits for what the arms compute."""
    with ThreadPoolExecutor(len(arms)) as pool:
        try:
            yield pool
        except BaseException:
            for arm in arms:
                arm.kill()
            raise


def _ask_both(pool: ThreadPoolExecutor, base: Arm, head: Arm, *question: Any) -> list[Any]:
    """Both answers; in place of one a sentence, where the case raises."""

    def answer(arm: Arm) -> Any:
        try:
            return arm.ask(*question)
        except ArmRefusal as refusal:
            return str(refusal)

    return list(pool.map(answer, (base, head)))


def _kernel(name: str, scenario: str, numbers: Any, ask_both: Callable[..., list[Any]]) -> Kernel:
    base, head = ask_both("examine", name, numbers)
    if isinstance(head, str):
        return Kernel(name, "refused" if isinstance(base, str) else "broken", head)
    if isinstance(base, str):
        return Kernel(name, "mended", base)
    outputs = base["outputs"], head["outputs"]
    # Exact values may take a second: only a difference has to be measured.
    yardsticks = [] if are_identical(*outputs) else ask_both("yardsticks", name)
    return Kernel(
        name,
        "both",
        "",
        compare_outputs(*outputs, [each for each in yardsticks if not isinstance(each, str)]),
        compare_work(base["work"], head["work"]),
        scenario,
        is_compiled=bool(head["work"]) and head["work"]["is_compiled"],
        seconds=head["seconds"],
    )


def compare_kinks(base: Arm, head: Arm, asked: Asked, kernels: Iterable[Kernel]) -> list[ledger.Difference]:
    """The rows of the kink ledger that changed; a row that came or went, with its variant, is no change of a kink."""
    families = sorted({kernel.family for kernel in kernels if kernel.gradient is not None})
    with _both_at_once(base, head) as pool:
        old, new = pool.map(lambda arm: arm.ask("kinks", asked.modules, families), (base, head))
    if old is None or new is None:
        return []
    found = ledger.differences(map(ledger.row, old), map(ledger.row, new))
    return [difference for difference in found if difference.columns]
