"""Exact work: closed forms, independent routes to the same numbers, and the same document in every process."""

import gc
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from gradrace import Family, cli, size
from gradrace.cases import Case, Scenario, Selection, all_cases
from gradrace.families import FAMILIES
from gradrace.operators import prepare_case
from gradrace.work import COMPILED, IN_NUMPY, count, count_prepared, count_run
from gradrace.work.dispatch import Dispatched
from gradrace.work.flops import apply_q_flops, form_q_flops, householder_flops, lu_flops, svd_flops

BY_NAME = {family.name: family for family in FAMILIES}


def case(family, variant, operator, dtype="float64", **axes):
    (found,) = (each for each in BY_NAME[family].variants if each.name == variant)
    return Case(Scenario(BY_NAME[family], operator, size(**axes), dtype, "cpu"), found)


# Nodes and saved bytes of φ = (r**2).sum() are known in closed form for d = 5: 3n + 10 and 320 + 280n, and so on. Here
# φ = r·r, one node in place of the two of the square and the sum.
@pytest.mark.parametrize("n", [1, 10, 37])
@pytest.mark.parametrize(
    ("variant", "nodes", "saved_bytes"),
    [
        ("wasteful", lambda n: 3 * n + 10, lambda n: 320 + 280 * n),
        ("hoisted_inverse", lambda n: 2 * n + 11, lambda n: 520 + 80 * n),
        ("efficient_inverse", lambda n: 9, lambda n: 320),
    ],
)
def test_closed_forms_of_the_sandwich(variant, nodes, saved_bytes, n):
    work = count(case("sandwich", variant, "value_and_gradient", d=5, n=n, cond=100))
    assert work.graph_nodes == nodes(n) - 1
    assert work.saved_bytes == saved_bytes(n)


@pytest.mark.parametrize(("variant", "nodes"), [("efficient_solve", 8), ("efficient_cholesky", 11)])
def test_nodes_of_the_efficient_formulations(variant, nodes):
    assert count(case("sandwich", variant, "value_and_gradient", d=5, n=3, cond=100)).graph_nodes == nodes - 1


# where keeps two boolean masks, sign and relu a tensor each; what is an input already costs nothing.
@pytest.mark.parametrize(
    ("variant", "nodes", "saved_bytes"),
    [
        ("softshrink", 2, 0),
        ("y_minus_clamp", 3, 0),
        ("nested_where", 5, 2000),
        ("boolean_mask", 6, 2000),
        ("sign_relu", 6, 16_000),
        ("relu_relu", 7, 16_000),
    ],
)
def test_closed_forms_of_the_soft_threshold(variant, nodes, saved_bytes):
    work = count(case("soft_threshold", variant, "vjp", n=1000))
    assert (work.graph_nodes, work.saved_bytes) == (nodes, saved_bytes)


def test_flops_of_the_wasteful_loop():
    """Forward n (2d³ for the inverse + 4d² for two products), and once 2d² for M x, 2d³ + 2d² for M⁻¹ s, 2d for r·r."""
    d, n = 5, 12
    work = count(case("sandwich", "wasteful", "value_and_gradient", d=d, n=n, cond=100))
    assert work.forward.flops == n * (2 * d**3 + 4 * d**2) + 2 * d**2 + 2 * d**3 + 2 * d**2 + 2 * d
    assert work.forward.uncounted == work.backward.uncounted == ()


def test_operations_of_each_phase():
    work = count(case("hello", "product", "value_and_gradient", n=1000))
    assert work.forward.by_op["aten.mul.Tensor"] == 1
    assert work.backward.by_op["aten.mul.Tensor"] == 2
    assert work.forward.ops == sum(work.forward.by_op.values())


MATRIX = torch.eye(7, dtype=torch.float64) * 3 + 0.1
TALL, VECTOR = torch.linspace(0, 1, 63, dtype=torch.float64).reshape(9, 7) ** 2, torch.ones(7, dtype=torch.float64)


def _factored(matrix):
    return torch.linalg.lu_factor(matrix)


@pytest.mark.parametrize(
    ("run", "flops"),
    [
        (lambda: TALL @ MATRIX, 2 * 9 * 7 * 7),
        (lambda: TALL @ VECTOR, 2 * 9 * 7),
        (lambda: VECTOR @ VECTOR, 2 * 7),
        (lambda: torch.outer(VECTOR, VECTOR), 0),
        (lambda: torch.addmv(TALL[:, 0], TALL, VECTOR), 2 * 9 * 7),
        (lambda: torch.linalg.inv(MATRIX), 2 * 7**3),
        (lambda: torch.linalg.solve(MATRIX, VECTOR), 2 * 7**3 // 3 + 2 * 7**2),
        (lambda: torch.linalg.solve(MATRIX, TALL.mT), 2 * 7**3 // 3 + 2 * 7**2 * 9),
        (lambda: _factored(MATRIX), 2 * 7**3 // 3),
        (lambda: torch.linalg.cholesky(MATRIX), 7**3 // 3),
        (lambda: torch.linalg.det(MATRIX), 2 * 7**3 // 3),
        (lambda: torch.linalg.qr(TALL), householder_flops(9, 7) + form_q_flops(9, 7, 7)),
        (lambda: torch.linalg.qr(TALL, mode="r"), householder_flops(9, 7)),
        (lambda: torch.linalg.svd(TALL, full_matrices=False), svd_flops(9, 7, vectors=True, full=False)),
        # Where any mode listens, and where a gradient may be asked for, torch computes the vectors of these as well.
        (lambda: torch.linalg.svdvals(TALL), svd_flops(9, 7, vectors=True, full=False)),
        (lambda: torch.linalg.eigvalsh(MATRIX), 9 * 7**3),
        (lambda: torch.linalg.solve_triangular(MATRIX, VECTOR[:, None], upper=True), 7**2),
        (lambda: torch.linalg.inv(MATRIX.expand(4, 7, 7)), 4 * 2 * 7**3),
        (lambda: VECTOR + VECTOR, 0),
    ],
)
def test_flops_of_an_operation(run, flops):
    with Dispatched(()) as dispatched:
        run()
    assert dispatched.forward.flops == flops
    assert not dispatched.forward.uncounted


def test_the_formulas_agree_where_they_must():
    """A square LU costs 2n³/3; R alone costs twice as much; Q of n reflectors is the reflectors applied to I, and the
    leading terms of both ways are those of the literature for large sizes."""
    n = 3000
    assert lu_flops(n, n) == 2 * n**3 // 3
    assert householder_flops(n, n) == 2 * lu_flops(n, n)
    assert form_q_flops(n, n, n) == 4 * n**3 // 3
    assert apply_q_flops(n, 1, 1) == 4 * n - 2
    assert lu_flops(5, 9) == lu_flops(9, 5)
    assert svd_flops(n, n, vectors=False, full=False) == 8 * n**3 // 3


def test_a_black_box_is_named_and_not_counted_as_nothing():
    @torch.library.custom_op("gradrace_test::black_box", mutates_args=())
    def black_box(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    with Dispatched(()) as dispatched:
        black_box(VECTOR)
    assert dispatched.forward.uncounted == {"gradrace_test.black_box.default"}


def test_peak_counts_what_is_alive_at_once():
    given = torch.zeros(1000, dtype=torch.float64)
    with Dispatched([given]) as dispatched:
        first = given + 1  # 8000 bytes
        second = first + 1  # 16000
        del first
        third = second.view(10, 100)  # a view allocates nothing
        fourth = third * 2  # still 16000
        given.mul_(2)  # writes into an input
        del second, third, fourth
        torch.zeros(100, dtype=torch.float64)
    assert dispatched.memory.peak == 16_000
    assert dispatched.memory.alive == 0


def _saved_by_hooks(prepared):
    """The bytes that hooks see, each storage once, without the inputs: torch's own route to the same number."""
    inputs = {tensor.untyped_storage().data_ptr() for tensor in prepared.inputs.primals}
    inputs |= {c.untyped_storage().data_ptr() for c in prepared.inputs.constants if isinstance(c, torch.Tensor)}
    if prepared.inputs.cotangent is not None:
        inputs.add(prepared.inputs.cotangent.untyped_storage().data_ptr())
    seen, held = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            held.append(tensor)  # or its address would be used again
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prepared.thunk()
    return sum(seen.values())


@pytest.mark.parametrize(
    "subject",
    [
        case("sandwich", variant, "value_and_gradient", d=6, n=4, cond=100)
        for variant in (
            *("wasteful", "hoisted_inverse", "factored_once", "efficient_inverse", "efficient_solve"),
            *("efficient_cholesky", "custom_function"),
        )
    ]
    + [case("soft_threshold", variant, "vjp", n=257) for variant in ("sign_maximum", "scaled", "y_minus_hardtanh")]
    + [case("two_faces_relu", "stack_max", "vjp", n=101)],
    ids=lambda subject: subject.id,
)
def test_saved_bytes_are_what_hooks_see(subject):
    prepared = prepare_case(subject)
    assert count_prepared(prepared).saved_bytes == _saved_by_hooks(prepared)


class _KeepsAttribute(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.kept = x.exp()
        return ctx.kept.sum()

    @staticmethod
    def backward(ctx, cotangent):
        return ctx.kept * cotangent


def _checkpointed(x):
    return checkpoint(lambda y: y.exp().sin().sum(), 2 * x, use_reentrant=False)


@pytest.mark.parametrize("function", [_KeepsAttribute.apply, _checkpointed], ids=["attribute", "checkpoint"])
def test_what_is_kept_outside_of_saved_tensors_is_kept(function):
    """An attribute of ctx, and the argument of a checkpointed block: 1000 numbers that hooks do not see."""
    x = torch.linspace(0, 1, 1000, dtype=torch.float64, requires_grad=True)
    assert count_run("f", lambda: torch.autograd.grad(function(x), x), (x,)).saved_bytes == 8000


def test_a_sparse_input_has_no_storage_to_exclude():
    matrix = torch.eye(3, dtype=torch.float64).to_sparse()
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    work = count_run("f", lambda: torch.autograd.grad((matrix @ x).sum(), x), (matrix, x))
    assert work.graph_nodes > 0


def test_compiled_code_has_a_graph_and_nothing_else_that_is_known():
    work = count(case("soft_threshold", "compiled", "vjp", n=1000))
    assert work.graph_nodes == 2
    assert work.saved_bytes > 0
    assert work.counters["ops"] is work.counters["flops"] is work.peak_bytes is None
    assert work.reason == COMPILED


@pytest.mark.parametrize("hand_over", [lambda x: x.numpy(), lambda x: x.numpy(force=True), np.asarray])
def test_what_numpy_computes_has_no_peak_that_is_known(hand_over):
    work = count_run("f", lambda: torch.from_numpy(hand_over(VECTOR) + 1), (VECTOR,))
    assert work.peak_bytes is None
    assert work.reason == IN_NUMPY
    assert work.counters["ops"] is not None
    assert isinstance(VECTOR.numpy(), np.ndarray)
    assert count_run("f", lambda: VECTOR + 1, (VECTOR,)).peak_bytes == 56


def test_float32_saves_half_the_bytes():
    by_dtype = [
        count(case("soft_threshold", "sign_relu", "vjp", dtype, n=1000)).saved_bytes for dtype in ("float64", "float32")
    ]
    assert by_dtype == [16_000, 8_000]


@pytest.fixture
def leaky():
    """A family whose one variant needs a reference cycle: only the garbage collector frees what it has allocated."""
    family = Family(
        name="leaky",
        summary="",
        source="",
        primals=("x",),
        operators=("primal",),
        baseline="cycle",
        sizes=(size("test", "bench", n=1000),),
        draw=lambda size, rng: {"x": rng.standard_normal(size["n"])},
    )

    @family.variant(source="a test")
    def cycle(x):
        ring = [x + 1]
        ring.append(ring)
        return x + 2

    return Case(Scenario(family, "primal", size(n=1000), "float64", "cpu"), family.variants[0])


def test_the_garbage_collector_does_not_change_a_count(leaky):
    threshold = gc.get_threshold()
    try:
        gc.set_threshold(1)
        often = count(leaky)
    finally:
        gc.set_threshold(*threshold)
    assert often == count(leaky)
    assert often.peak_bytes == 16_000
    assert gc.isenabled()


COUNT = """
import json, sys
import torch
torch.set_num_threads(int(sys.argv[1]))
from gradrace.cases import all_cases
from gradrace.work import count
asked = set(json.load(sys.stdin))
json.dump({case.id: count(case).as_json() for case in all_cases() if case.id in asked}, sys.stdout)
"""


def test_two_processes_count_the_same():
    """For every family, over hash seeds and numbers of threads."""
    cases = Selection(tier="test", dtype=("float64",)).apply(all_cases())
    cases = [case for case in cases if not case.skip_reason and "compiled" not in case.variant.name]
    cases = [
        case for case in cases if case.scenario.operator != "solve"
    ]  # thousands of steps of what is counted anyway
    # One size of each.
    cases = {(case.scenario.family, case.scenario.operator, case.variant): case for case in cases[::-1]}.values()
    assert len(cases) > 100
    assert {case.scenario.family.name for case in cases} == set(BY_NAME)
    asked = json.dumps([case.id for case in cases])
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(lambda threads: _counted(asked, threads), (1, 2))
    assert [(one[name], other[name]) for name in one if one[name] != other[name]] == []


def _counted(asked: str, threads: int) -> dict[str, object]:
    """By a process of its own with so many threads, whose hash seed is another for each number of them."""
    environment = {**os.environ, "PYTHONHASHSEED": str(threads), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", COUNT, str(threads)]
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def test_the_command_follows_the_contract(capsys):
    assert cli.main(["work", "sandwich/*/value_and_gradient/d5_n1_cond100/float64/cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    by_variant = {row["id"].split("/")[1]: row for row in document}
    wasteful = by_variant["wasteful"]
    assert set(wasteful) == {
        *("id", "forward", "backward", "graph_nodes", "graph_depth", "saved_bytes", "peak_bytes", "reason"),
    }
    assert set(wasteful["forward"]) == {"ops", "flops", "uncounted"}
    assert wasteful["forward"]["ops"]["total"] == sum(wasteful["forward"]["ops"]["by_op"].values())


def test_the_table_cuts_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["work", "soft_threshold/*/vjp/n1000/float64/cpu"]) == 0
    output = capsys.readouterr().out
    assert "…" not in output
    assert "soft_threshold/nested_where/vjp/n1000/float64/cpu" in output
    assert "2.00 kB" in output
    assert "–: compiled code" in output


BROKEN = """
import torch
from gradrace import Family, size
mine = Family(name="mine", summary="", source="", primals=("x",), operators=("primal",), baseline="fine",
              sizes=(size("test", "bench", n=3),), draw=lambda size, rng: {"x": rng.standard_normal(size["n"])})
@mine.variant(source="a test")
def fine(x):
    return x + 1
@mine.variant(source="a test")
def broken(x):
    return x @ torch.ones(4, dtype=x.dtype)
"""


def test_a_kernel_that_raises_is_a_sentence_and_the_others_are_counted(tmp_path, monkeypatch, capsys):
    (tmp_path / "work_kernels.py").write_text(BROKEN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli.main(["work", "mine/*", "--module", "work_kernels"]) == 1
    streams = capsys.readouterr()
    assert "mine/fine/primal/n3/float64/cpu" in streams.out
    assert "FAILED mine/broken/primal/n3/float64/cpu: raised RuntimeError" in streams.err
    assert "Traceback" not in streams.err
