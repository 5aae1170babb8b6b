"""The tables of the gate study, from the rows in results/gate, between the marks of results/gate/README.md.

python benches/gate_study/summary.py            rewrites them
python benches/gate_study/summary.py --check    exit code 1 where they are not what the rows say
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from plants import PLANTED, plant_of
from scipy import stats

from gradrace.files import write_text

RESULTS = Path(__file__).parents[2] / "results" / "gate"
PAGE = RESULTS / "README.md"
BEGIN, END = "<!-- tables -->\n", "<!-- end of tables -->\n"

SIZES = (1.03, 1.05, 1.075, 1.15, math.inf)
"""True ratios in groups: about the margin, 5 %, 10 %, and 20 % and more."""

SAME = {"idle": "same", "loaded": "same_loaded", "idle, 200 s a run": "same_whole"}
"""The files of comparisons of identical code."""

WIDE = "study_wide"
"""How the kernels begin whose arrays no cache holds."""

Row = Mapping[str, Any]


def main() -> int:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page = before + BEGIN + "\n" + "\n".join(tables()) + "\n" + END + after
    if "--check" in sys.argv:
        return int(page != PAGE.read_text())
    write_text(PAGE, page)
    return 0


def tables() -> list[str]:
    lines = _same()
    measured = _together(_rows("ratios"))
    if slow := _rows("slow"):
        lines += ["", "Planted slowdowns:", "", *_slow(slow, measured), "", *_in_the_cache(slow, measured)]
    if slow := _rows("slow_few"):
        lines += ["", "The same, three kinds alone:", "", *_slow(slow, measured)]
    if slow := _rows("slow_whole"):
        lines += ["", "Those alone whose arrays no cache holds, in 200 s a run:", "", *_slow(slow, measured)]
    for name, section in (("neighbours", _neighbours), ("faults", _faults), ("turns", _turns)):
        if rows := _rows(name):
            lines += ["", *section(rows)]
    return lines


def _rows(name: str) -> list[Row]:
    path = RESULTS / f"{name}.json"
    found: list[Row] = json.loads(path.read_text())["rows"] if path.exists() else []
    return found


def _same() -> list[str]:
    lines = [
        "Identical code:",
        "",
        *_table(
            (
                *("machine", "comparisons", "false red", "at most (95 %)", "same", "same, in the cache"),
                *("undecided", "median seconds", "runs"),
            ),
            [_same_row(label, rows) for label, name in SAME.items() if (rows := _rows(name))],
        ),
    ]
    controls = [
        row for name in (*SAME.values(), "slow", "slow_few", "slow_whole") for row in _rows(name) if row["control"]
    ]
    flagged = sum(row["judgement"] in ("slower", "faster") for row in controls)
    return [*lines, "", f"{_altogether()} Controls flagged: {flagged} of {len(controls)}."]


def _altogether() -> str:
    """All as one: what no run may do is the same for each."""
    compared = [row for name in SAME.values() for row in _rows(name) if not row["control"]]
    red = sum(row["judgement"] == "slower" for row in compared)
    upper = stats.binomtest(red, len(compared)).proportion_ci(0.95, "exact").high
    return f"Together: {red} false red in {len(compared):,} comparisons, at most {upper:.2%} (95 %)."


def _same_row(label: str, rows: Iterable[Row]) -> tuple[str, ...]:
    compared = [row for row in rows if not row["control"]]
    counts = Counter(row["judgement"] for row in compared)
    cached = [row["judgement"] == "same" for row in compared if not row["kernel"].startswith(WIDE)]
    upper = stats.binomtest(counts["slower"], len(compared)).proportion_ci(0.95, "exact").high
    return (
        label,
        f"{len(compared):,}",
        str(counts["slower"]),
        f"{upper:.2%}",
        f"{counts['same'] / len(compared):.1%}",
        f"{fmean(cached):.1%}",
        f"{counts['undecided'] / len(compared):.1%}",
        f"{_quantile(compared, 0.5):.1f}",
        str(len({row["run"] for row in compared})),
    )


def _slow(rows: Sequence[Row], measured: Mapping[str, Row]) -> list[str]:
    """By plant and operator, for what an operation costs depends on it. Undecided counts as missed, at its cap."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if not row["control"] and (plant := plant_of(row["kernel"])):
            groups.setdefault((plant, row["kernel"].split("/")[2]), []).append(row)
    body = []
    for (plant, operator), found in sorted(groups.items(), key=lambda item: list(PLANTED.values()).index(item[0][0])):
        hits = sum(row["judgement"] == "slower" for row in found)
        interval = stats.binomtest(hits, len(found)).proportion_ci(0.95, "exact")
        true = [measured[row["kernel"]] for row in found if row["kernel"] in measured]
        body.append(
            (
                plant,
                operator,
                f"{true[0]['ratio']:.3f} ({true[0]['pairs']:,} pairs)" if true else "–",
                f"{_median(found, 'ratio'):.3f}",
                f"{hits} of {len(found)}",
                f"{interval.low:.1%}",
                f"{_quantile(found, 0.5):.1f}",
                f"{_quantile(found, 0.95):.1f}",
            )
        )
    header = (
        "planted",
        "operator",
        "true ratio",
        "median estimate",
        "found",
        "at least (95 %)",
        "median s",
        "95th percentile s",
    )
    return _table(header, body)


def _in_the_cache(rows: Sequence[Row], measured: Mapping[str, Row]) -> list[str]:
    """By their true size, and all of 5 % and more together: those whose arrays a cache holds."""
    true = {(plant_of(name), name.split("/")[2]): row["ratio"] for name, row in measured.items()}
    found = [
        (true.get((plant_of(row["kernel"]), row["kernel"].split("/")[2]), 0.0), row["judgement"] == "slower")
        for row in rows
        if not row["control"] and not row["kernel"].startswith(WIDE)
    ]
    body = []
    for low, high in (*pairwise(SIZES), (SIZES[1], math.inf)):
        hits = [hit for ratio, hit in found if low <= ratio < high]
        if hits:
            label = f"{low - 1:.1%} and more" if high == math.inf else f"{low - 1:.1%} to {high - 1:.1%}"
            at_least = stats.binomtest(sum(hits), len(hits)).proportion_ci(0.95, "exact").low
            body.append((label, f"{sum(hits):,} of {len(hits):,}", f"{at_least:.1%}"))
    return [*_table(("true slowdown, in the cache", "found", "at least (95 %)"), body)] if body else []


def _together(rows: Iterable[Row]) -> dict[str, Row]:
    """True ratios that were measured in several runs: by kernel the geometric mean, each pair with equal weight."""
    by_kernel: dict[str, list[Row]] = {}
    for row in rows:
        by_kernel.setdefault(row["kernel"], []).append(row)
    found = {}
    for kernel, several in by_kernel.items():
        pairs = sum(row["pairs"] for row in several)
        log_ratio = sum(row["pairs"] * math.log(row["ratio"]) for row in several) / pairs
        found[kernel] = {"ratio": math.exp(log_ratio), "pairs": pairs}
    return found


def _neighbours(rows: Iterable[Row]) -> list[str]:
    """What the other tools call slower, of identical code and of each plant. A run is red where any kernel is."""
    groups: dict[str, list[Row]] = {}
    for row in [*rows, *_of_the_gate()]:
        groups.setdefault(row["tool"], []).append(row)
    body = []
    for tool, found in groups.items():
        same = [row for row in found if row["head"] == "same"]
        red_runs = {row["run"] for row in same if row["red"]}
        slow = [row for row in found if row["head"] == "slow" and plant_of(row["kernel"])]
        body.append(
            (
                tool,
                f"{sum(row['red'] for row in same)} of {len(same)}",
                f"{len(red_runs)} of {len({row['run'] for row in same})}",
                f"{sum(row['red'] for row in slow)} of {len(slow)}",
                f"{fmean(row['seconds'] for row in found):.1f}",
            )
        )
    header = ("tool", "false red", "runs with a false red", "planted slowdowns found, of any size", "seconds a kernel")
    return ["The neighbours, with their defaults, and the gate on the same kernels, idle:", "", *_table(header, body)]


def _of_the_gate() -> list[Row]:
    """The gate's own rows as if it were a neighbour, of the runs with all kernels; what its controls took is shared."""
    found = []
    for head, name in (("same", "same"), ("slow", "slow")):
        rows = _rows(name)
        runs = {row["run"] for row in rows if row["kernel"].startswith(WIDE) and not row["control"]}
        for run in sorted(runs):
            mine = [row for row in rows if row["run"] == run]
            kernels = [row for row in mine if not row["control"]]
            seconds = sum(row["seconds"] for row in mine) / len(kernels)
            facts = {"run": run, "head": head, "tool": "gradrace gate", "seconds": seconds}
            found += [{**facts, "kernel": row["kernel"], "red": row["judgement"] == "slower"} for row in kernels]
    return found


def _faults(rows: Iterable[Row]) -> list[str]:
    body = [(row["fault"], row["tool"], "red" if row["red"] else "not red", row["says"]) for row in rows]
    return [
        "Changes that are wrong (and no slower, but for the kink):",
        "",
        *_table(("change", "tool", "it is", "for its"), body),
    ]


def _turns(rows: Iterable[Row]) -> list[str]:
    body = [
        (
            f"`{row['kernel']}`, {1000 * row['call_s']:.2g} ms",
            row["turns"],
            f"{row['deviation']:.1%}",
            f"{1000 * row['lap_s']:.0f} ms",
        )
        for row in rows
    ]
    head = "How the arms take turns (scatter of laps of identical code in one launch, as a standard deviation):"
    return [head, "", *_table(("kernel, its call", "turns", "scatter", "a lap takes"), body)]


def _median(rows: Sequence[Row], key: str) -> float:
    return _quantile(rows, 0.5, key)


def _quantile(rows: Sequence[Row], share: float, key: str = "seconds") -> float:
    ordered = sorted(row[key] for row in rows)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


if __name__ == "__main__":
    sys.exit(main())
