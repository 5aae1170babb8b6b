"""How should the two arms of a pair take turns? The scatter of laps of identical code, within a launch.

python benches/gate_study/turns.py --launches 8 --laps 8        writes results/gate/turns.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median, quantiles

from plants import changed
from study import ASKED, Setting, laid_out, save

from gradrace.gate import pairs
from gradrace.gate.arms import Arm, ForkServer, fork_server

KERNELS = (
    "study_chain/chain_4/primal/n1000/float64/cpu",
    "study_chain/chain_16/value_and_gradient/n1000/float64/cpu",
    "study_wide/wide_8/primal/n500000/float64/cpu",
    "study_wide/wide_8/value_and_gradient/n500000/float64/cpu",
)

RELAY_S, SHARED_S = 0.016, 0.05


@dataclass(frozen=True)
class Turns:
    """A way to take turns: by relay, in blocks of `block_s` after `warm` calls; or at once, with a beat or without."""

    name: str
    block_s: float = 0.0
    warm: int = 0
    beat_s: float = 0.0

    def plan(self, call_s: float) -> pairs.Plan:
        if not self.block_s:
            return pairs.Plan(max(1, round(SHARED_S / call_s)), 0)
        calls = max(1, round(self.block_s / call_s))
        return pairs.Plan(calls, 0, self.warm, max(1, round(RELAY_S / 2 / (calls * call_s))))


WAYS = (
    Turns("blocks of 2 ms, a warm call before each", block_s=0.002, warm=1),
    Turns("blocks of 0.2 ms", block_s=0.0002),
    Turns("blocks of 0.2 ms, a warm call before each", block_s=0.0002, warm=1),
    Turns("at once, as the scheduler alternates", beat_s=0.0),
    Turns("at once, alternating every 0.3 ms", beat_s=0.0003),
)


@contextmanager
def launched(setting: Setting, server: ForkServer, random: Random, core: int) -> Iterator[tuple[Arm, Arm]]:
    first, second = (partial(server.forked, side.state) for side in (setting.base, setting.head))
    with pairs.launched(first, second, random) as arms:
        for arm in arms:
            arm.ask("know", ASKED.modules, KERNELS)
            arm.pin(core)
        yield arms


def measure(setting: Setting, server: ForkServer, launches: int, laps: int) -> list[dict[str, object]]:
    """A row for each kernel and way: the scatter of its laps about the median of their launch, and what a lap takes."""
    random, core = Random(), max(pairs.cores())
    calls: dict[str, float] = {}
    residuals: dict[tuple[str, Turns], list[float]] = {}
    seconds: dict[tuple[str, Turns], list[float]] = {}
    for _ in range(launches):
        with launched(setting, server, random, core) as arms:
            for kernel in KERNELS:
                for arm in arms:
                    arm.ask("load", kernel, None)
                if kernel not in calls:
                    calls[kernel] = min(arms[0].ask("spend", 5)[0] / 5 for _ in range(20))
                found: dict[Turns, list[float]] = {way: [] for way in WAYS}
                for _ in range(laps):
                    for way in random.sample(WAYS, len(WAYS)):
                        pairs.BEAT_S = way.beat_s
                        begin = time.monotonic()
                        lap = pairs.lap(arms, way.plan(calls[kernel]), random, core if way.beat_s else None)
                        found[way].append(lap.log_ratio)
                        seconds.setdefault((kernel, way), []).append(time.monotonic() - begin)
                for way, ratios in found.items():
                    centre = median(ratios)
                    residuals.setdefault((kernel, way), []).extend(each - centre for each in ratios)
    return [
        {
            "kernel": kernel,
            "call_s": calls[kernel],
            "turns": way.name,
            "deviation": round(_robust(values), 5),
            "lap_s": round(median(seconds[kernel, way]), 4),
            "laps": len(values),
        }
        for (kernel, way), values in residuals.items()
    ]


def _robust(values: list[float]) -> float:
    """The interquartile range, as the standard deviation that a normal distribution with it would have."""
    low, _, high = quantiles(values, n=4)
    return (high - low) / 1.349


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--launches", type=int, default=8)
    parser.add_argument("--laps", type=int, default=8)
    options = parser.parse_args()
    with laid_out(changed()) as setting, fork_server(setting.base.state.folder.parent) as server:
        assert server is not None, "this study is for Linux"
        scenarios = {kernel.id: kernel.scenario for kernel in setting.kernels}
        for kernel in KERNELS:
            server.hold(scenarios[kernel], setting.numbers[kernel])  # type: ignore[arg-type]
        save("turns", measure(setting, server, options.launches, options.laps))


if __name__ == "__main__":
    main()
