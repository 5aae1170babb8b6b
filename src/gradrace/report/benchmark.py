"""pytest-benchmark's JSON, as the plugin of `gradrace.testing` fills it: one run of the benches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from types import NoneType
from typing import Any

from gradrace.errors import UsageError
from gradrace.report.document import Document
from gradrace.report.rows import RACED_ON, Bench, Law, Output, Roofline, Row, Time

FACTS = (*RACED_ON, "commit", "numpy")

COUNTERS = ("graph_nodes", "graph_depth", "saved_bytes", "peak_bytes")
"""Those that forward and backward share."""

_ID = re.compile(r"\w+(/\w+){5}")


def is_benchmark(content: Mapping[str, Any]) -> bool:
    """Does pytest-benchmark write such a document?"""
    return {"benchmarks", "machine_info"} <= content.keys()


def is_ours(document: Document) -> bool:
    """Was the plugin there?"""
    made = [each for each in document.each("benchmarks") if _is_case(each)]
    return bool(made) or "gradrace" in document.content


def read_benchmark(document: Document) -> Bench:
    """Every timed case, and the wrong ones. Raises UsageError for what an older gradrace wrote."""
    ours = [each for each in document.each("benchmarks") if _is_case(each)]
    if "gradrace" not in document.content:
        raise _older(document, "the wrong formulations")
    beside = document.inside("gradrace")
    machine = document.inside("machine_info").inside("gradrace").content
    timed = [_timed(each) for each in ours]
    commit = _commit(document, timed)
    devices = {row.device: row.environment for row in timed}
    wrong = [_wrong(each, devices, {**machine, "commit": commit}) for each in beside.each("wrong")]
    rooflines = {device: _roofline(each) for device, each in beside.entries("roofline").items()}
    return Bench(document.name, _date(document), commit, [*timed, *wrong], rooflines)


def moment(date: str) -> datetime:
    """A date as ISO text; without a zone it is UTC."""
    found = datetime.fromisoformat(date)
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _is_case(benchmark: Document) -> bool:
    extra = benchmark.content.get("extra_info")
    return isinstance(extra, dict) and "case" in extra


def _older(document: Document, lacking: str) -> UsageError:
    return UsageError(
        f"{document.file} was made by an older gradrace, which did not write {lacking}; run the benches again"
    )


def _date(document: Document) -> str:
    date = document.text("datetime")
    try:
        moment(date)
    except ValueError:
        raise document.complaint(f"datetime is {date!r} where a date belongs") from None
    return date


def _commit(document: Document, timed: Sequence[Row]) -> str:
    """What the rows say; where none was timed, pytest-benchmark's own word."""
    if timed and timed[0].environment["commit"]:
        return str(timed[0].environment["commit"])
    found = document.content.get("commit_info")
    facts = found if isinstance(found, dict) else {}
    return str(facts.get("id") or "unknown")[:12]


def _timed(benchmark: Document) -> Row:
    extra = benchmark.inside("extra_info")
    extra = extra.at(_id(extra))
    stats = benchmark.at(extra.place).inside("stats")
    time = Time(
        median=stats.positive("median"),
        low=stats.positive("q1"),
        high=stats.positive("q3"),
        rounds=int(stats.positive("rounds")),
        first=extra.positive_if_any("first_call_s"),
    )
    compulsory = extra.number_if_any("compulsory_bytes")
    return _row(
        extra,
        time=time,
        work=_work(extra),
        compulsory_bytes=None if compulsory is None else int(compulsory),
        environment=_environment(extra, extra.inside("environment").content),
    )


def _wrong(fact: Document, devices: Mapping[str, Mapping[str, Any]], machine: Mapping[str, Any]) -> Row:
    fact = fact.at(_id(fact))
    device = fact.place.split("/")[5]
    facts = _environment(fact, devices.get(device, machine))
    row = _row(fact, time=None, work={}, compulsory_bytes=None, environment=facts)
    if row.right:
        raise fact.complaint("it stands among the wrong ones, and is right")
    return row


def _id(fact: Document) -> str:
    name = fact.text("case")
    if not _ID.fullmatch(name):
        raise fact.complaint(f"{name!r} is no id of a case")
    return name


def _row(
    fact: Document,
    *,
    time: Time | None,
    work: Mapping[str, float | None],
    compulsory_bytes: int | None,
    environment: Mapping[str, Any],
) -> Row:
    for key in ("right", "outputs", "baseline", "laws"):
        if key not in fact.content:
            raise _older(fact, repr(key))
    right = fact.yes("right")
    return Row(
        id=fact.place,
        status=fact.text("status"),
        right=right,
        source=fact.text("source"),
        summary=fact.text("summary"),
        baseline=fact.text("baseline"),
        outputs={name: _output(each) for name, each in fact.entries("outputs").items()},
        has_kinks=fact.yes("kinks"),
        laws=[_law(each) for each in fact.each("laws")],
        time=time if right else None,
        work=work,
        compulsory_bytes=compulsory_bytes,
        environment=environment,
    )


def _output(fact: Document) -> Output:
    return Output(fact.text("status"), fact.number_if_any("error"), fact.number_if_any("tolerance"))


def _law(fact: Document) -> Law:
    exponents = fact.inside("exponents")
    return Law(fact.text("axis"), fact.text("at"), {name: exponents.number(name) for name in exponents.content})


def _work(extra: Document) -> dict[str, float | None]:
    """The counters, forward and backward together; None what was not counted."""
    if extra.content.get("work") is None:
        return dict.fromkeys(("ops", "flops", *COUNTERS))
    work = extra.inside("work")
    phases = [work.inside("forward"), work.inside("backward")]
    ops = [phase.inside("ops").number("total") if phase.content.get("ops") is not None else None for phase in phases]
    flops = [phase.number_if_any("flops") for phase in phases]
    counters = {name: work.number_if_any(name) for name in COUNTERS}
    return {"ops": _sum(ops), "flops": _sum(flops), **counters}


def _sum(parts: list[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _environment(fact: Document, found: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [key for key in RACED_ON if key not in found]:
        raise _older(fact, f"the {missing[0]} that it ran on")
    if strange := [key for key in FACTS if not isinstance(found.get(key), (str, int, NoneType))]:
        raise fact.complaint(f"{strange[0]} is {found[strange[0]]!r} where a name or a whole number belongs")
    return {key: found.get(key) for key in FACTS}


def _roofline(fact: Document) -> Roofline:
    products = fact.inside("gemm_flops_per_s")
    return Roofline(fact.positive("copy_bytes_per_s"), {dtype: products.positive(dtype) for dtype in products.content})
