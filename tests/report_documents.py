"""Files of results as the benches, asv and the gate write them, small and made by hand; and rows as they are read."""

import json
from pathlib import Path

from gradrace.report.rows import Law, Output, Row, Time

COMMITTED = Path(__file__).parent.parent / "results"

ENVIRONMENT = {
    **{"processor": "a processor", "cores": 2, "system": "Linux x86_64", "python": "3.11.7", "numpy": "2.4.6"},
    **{"commit": "0123456789ab", "torch": "2.13.0+cpu", "threads": 1, "device": "cpu"},
}

AGREES = {"status": "agree", "expected": "agree", "error": 1e-16, "tolerance": 1e-15}
DISAGREES = {"status": "disagree", "expected": "disagree", "error": 0.5, "tolerance": 1e-15}

WORK = {
    "forward": {"ops": {"total": 3, "by_op": {"aten.mul.Tensor": 3}}, "flops": 40, "uncounted": []},
    "backward": {"ops": {"total": 4, "by_op": {"aten.mul.Tensor": 4}}, "flops": None, "uncounted": []},
    **{"graph_nodes": 5, "graph_depth": 2, "saved_bytes": 640, "peak_bytes": None, "reason": None},
}


def described(case_id, *, right=True, outputs=None, baseline="plain", **others):
    """What the plugin says of a case."""
    fact = {
        "case": case_id,
        "variant": case_id.split("/")[1],
        "baseline": baseline,
        "source": "a test",
        "summary": "f(x) = |x|",
        "status": "agree" if right else "disagree",
        "right": right,
        "outputs": outputs or {"x": AGREES if right else DISAGREES},
        "kinks": True,
        "laws": [{"axis": "n", "at": "", "exponents": {"flops": 1}}],
    }
    return {**fact, **others}


def timed(case_id, median=1e-5, environment=None, **others):
    """A benchmark of pytest-benchmark's, with what the plugin adds."""
    extra = {"first_call_s": 1e-3, "environment": environment or ENVIRONMENT, "work": WORK, "compulsory_bytes": 64}
    stats = {"median": median, "q1": 0.9 * median, "q3": 1.1 * median, "rounds": 12}
    return {"name": case_id, "extra_info": {**described(case_id, **others), **extra}, "stats": stats}


def bench(*benchmarks, wrong=(), date="2026-11-22T00:27:59.813653+00:00", environment=None):
    """A whole run."""
    facts = {**(environment or ENVIRONMENT)}
    del facts["commit"]
    roofline = {"copy_bytes_per_s": 1e10, "gemm_flops_per_s": {"float64": 2e10}}
    return {
        "machine_info": {"gradrace": facts},
        "commit_info": {"id": "fedcba9876543210", "dirty": False},
        "benchmarks": list(benchmarks),
        "datetime": date,
        "gradrace": {"wrong": list(wrong), "roofline": {"cpu": roofline}},
    }


STATS = ("ci_99_a", "ci_99_b", "q_25", "q_75", "repeat")


def asv(results, commit="c" * 40, date=1_795_263_549_594, **others):
    """A result file of one commit."""
    columns = ["result", "params", "version", *(f"stats_{name}" for name in STATS)]
    facts = {
        **{"commit_hash": commit, "date": date, "version": 2, "result_columns": columns, "results": results},
        **{"params": {"machine": "here", "torch": "2.13.0"}, "requirements": {"torch": "2.13.0"}, "durations": {}},
    }
    return {**facts, **others}


def verdict(word="pass", findings=(), kernels=()):
    """A document of `gradrace gate --json`."""
    state = {"gradrace": "/base", "python": "3.11.7", "torch": "2.13.0+cpu"}
    return {
        "verdict": word,
        "exit_code": 0,
        "base": {"label": "HEAD (01234567)", "commit": "0123456789" * 4, **state},
        "head": {"label": "working tree", "commit": None, **state},
        "kernels": list(kernels),
        "findings": list(findings),
    }


def write(file, document):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document))
    return file


def output(fact):
    """As it is read."""
    return Output(fact["status"], fact["error"], fact["tolerance"])


def make_row(case_id, median=1.0, spread=0.1, right=True, outputs=None, laws=(), baseline="plain"):
    """A row as it is read; spread: how far the quartiles lie from the median, as a part of it."""
    time = Time(median, median * (1 - spread), median * (1 + spread), 9, None)
    found = outputs or {"x": output(AGREES if right else DISAGREES)}
    return Row(
        **{"id": case_id, "status": "agree" if right else "disagree", "right": right, "source": "a test"},
        **{"summary": "f(x) = |x|", "baseline": baseline, "outputs": found, "has_kinks": False},
        **{"laws": [Law(*law) for law in laws], "time": time if right else None},
        **{"work": {"ops": 3, "peak_bytes": 2048}, "compulsory_bytes": 8, "environment": ENVIRONMENT},
    )
