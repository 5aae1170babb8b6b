"""Small results for the page: five races, one a tie, one that nobody wins, and a source that would break out of it."""

from dataclasses import replace

from gradrace.report.rows import Bench, Point, Results, Roofline, Verdict
from report_documents import make_row

EVIL = "</script><script>alert(\"1 & 2\")</script><img src='https://example.org'> \u2028"

SECONDS = {
    **{"squares/plain/vjp/n10/float64/cpu": 4e-5, "squares/plain/vjp/n1000/float64/cpu": 1e-4},
    **{"squares/fast/vjp/n10/float64/cpu": 1e-5, "squares/fast/vjp/n1000/float64/cpu": 5e-4},
    **{"squares/near/vjp/n10/float64/cpu": 1.05e-5, "squares/near/vjp/n1000/float64/cpu": 8e-4},
    **{"squares/odd/vjp/n10/float64/cpu": None, "squares/odd/vjp/n1000/float64/cpu": None},
    **{"squares/plain/primal/n10/float64/cpu": 2e-6, "squares/odd/primal/n10/float64/cpu": 1e-6},
    **{"cubes/plain/jvp/n10/float32/cpu": 6e-3, "cubes/fast/jvp/n10/float32/cpu": 3e-3},
    **{"cubes/plain/hessian/n5/float64/cpu": None},
}
"""The median of each case; None where it is wrong."""

FINDING = {"id": "squares/fast/vjp/n10/float64/cpu", "what": "time", "colour": "red", "text": "slower: 1.2 <times>"}
ELSEWHERE = {"id": "gone/fast/vjp/n10/float64/cpu", "what": "work", "colour": "notice", "text": "+1 aten.clone"}


def sample_row(case_id, seconds):
    made = make_row(case_id, seconds or 1.0, spread=0.05, right=seconds is not None)
    time = replace(made.time, first=10 * made.time.median) if made.time else None
    work = {"ops": 7, "flops": 1234, "graph_nodes": 3, "saved_bytes": 640, "peak_bytes": 2048}
    return replace(made, source=EVIL if made.variant == "fast" else "a book", time=time, work=work)


def sample_results():
    rows = [sample_row(case_id, seconds) for case_id, seconds in SECONDS.items()]
    roofline = Roofline(1e10, {"float64": 2e10})
    benches = [Bench("bench.json", "2026-11-22T00:27:59.813653+00:00", "0123456789ab", rows, {"cpu": roofline})]
    return Results(benches, _points(), [_verdict()], {row.id: row for row in rows})


def many_results(count, variants=5):
    """`count` rows in races of so many variants, the last of which is wrong."""
    rows = [
        sample_row(
            f"family_{race % 9}/variant_{place}/vjp/d5_n{race}/float64/cpu",
            None if place == variants - 1 else 1e-5 * (1 + (7 * race + 3 * place) % 11),
        )
        for race in range(count // variants)
        for place in range(variants)
    ]
    return Results([Bench("bench.json", "2026-11-22", "0123456789ab", rows, {})], (), (), {row.id: row for row in rows})


def _points():
    """Over three commits: a time that rises beyond its interval, a counter that changes, one that does not."""
    lines = {"time": (1e-3, 1.01e-3, 2e-3), "saved_bytes": (640, 640, 320), "ops_forward": (3, 3, 3)}
    return [
        Point(
            **{"commit": f"{place}" * 40, "date": 1.79e9 + 86400 * place, "machine": "here", "torch": "2.13.0"},
            **{"hardware": "", "python": "3.11"},
            **{"benchmark": "squares/vjp", "what": what, "parameters": ("fast", "n10", "cpu"), "value": value},
            **({"low": 0.99 * value, "high": 1.01 * value} if what == "time" else {}),
        )
        for what, values in lines.items()
        for place, value in enumerate(values)
    ]


def _verdict():
    equal = {"status": "bitwise equal"}
    raced = {"id": FINDING["id"], "judgement": "slower", "ratio": 1.2, "low": 1.15, "high": 1.25, "pairs": 20}
    kernels = [{**raced, "gradient": equal, "work": {"status": "same"}}, {"id": "a/b/c/d/e/f", "gradient": equal}]
    return Verdict("gate.json", "regression", "0" * 40, "working tree", "2.13.0", [FINDING, ELSEWHERE], kernels)
