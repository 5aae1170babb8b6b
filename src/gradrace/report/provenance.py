"""Where numbers come from, in one line: machine, versions, threads, device, commit and date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import PurePath

from gradrace.report.measures import Origin
from gradrace.report.rows import Point, Row, Verdict

FEW = 3
"""So many runs are named; of the rest the number."""


def of_rows(rows: Sequence[Row], where: Mapping[str, Origin]) -> str:
    """All rows are of one machine and one torch, maybe of several runs and devices."""
    facts = rows[0].environment
    devices = dict.fromkeys(str(row.environment["device"]) for row in rows)
    runs = {(where[row.id].date, where[row.id].commit) for row in rows}
    told = [f"commit {commit} on {date[:10]}" for date, commit in sorted(runs, reverse=True)]
    threads = facts["threads"]
    return _joined(
        f"{facts['processor']}, {facts['cores']} cores, {facts['system']}",
        f"Python {facts['python']}, torch {facts['torch']}",
        f"{threads} thread{'s' * (threads != 1)}",
        " and ".join(devices),
        ", ".join(told[:FEW]) + (f" and {len(told) - FEW} more runs" if len(told) > FEW else ""),
    )


def of_points(points: Sequence[Point]) -> str:
    """What asv keeps: a name of the machine, torch, device, commits and their dates."""
    ends = sorted(points, key=lambda point: point.date)
    commits = dict.fromkeys(point.commit for point in ends)
    devices = dict.fromkeys(point.parameters[-1] for point in points)
    return _joined(
        ", ".join(part for part in (f"asv on {points[0].machine}", points[0].hardware) if part),
        f"Python {points[0].python}, torch {points[0].torch}",
        "threads as asv's benchmarks set them, which it does not record",
        " and ".join(devices),
        f"{len(commits)} commits from {short(ends[0].commit)} ({day(ends[0].date)}) "
        f"to {short(ends[-1].commit)} ({day(ends[-1].date)})",
    )


def of_verdict(verdict: Verdict) -> str:
    """What a document of the gate says of its two states, and of the machine."""
    facts = verdict.environment
    machine = [str(facts[key]) for key in ("processor", "system") if facts.get(key)]
    counts = [f"{facts[key]} {key[:-1] if facts[key] == 1 else key}" for key in ("cores", "threads") if facts.get(key)]
    return _joined(
        f"{PurePath(verdict.file).name}: {short(verdict.base)} against {short(verdict.head)}",
        ", ".join([*machine, *counts]),
        f"torch {verdict.torch}",
        verdict.date[:10],
    )


def short(commit: str) -> str:
    """Eight digits of a hash; what is no hash stays as it is."""
    return commit[:8] if len(commit) == 40 else commit


def day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)
