"""`gradrace trace`: a scalar function step by step, v_i with v̇_i or v̄_i; or the autograd graph of a formulation."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradrace.cli.common import add_json_option, add_module_option, print_json, print_numbers
from gradrace.errors import UsageError, described, unknown
from gradrace.files import write_text

if TYPE_CHECKING:
    from rich.table import Table

    from gradrace.autodiff.trace import Trace
    from gradrace.cases import Case
    from gradrace.cli.graph_svg import Box

NAME = "trace"
HELP = "show a scalar function step by step with its derivatives, or the autograd graph of a formulation"

POINTS: Mapping[str, tuple[float, ...]] = {"s1": (1.0, 1.5), "s2": (1.0, 1.5, 2.0), "s3": (0.5,), "s4": (2.0, 5.0)}
"""Where each function is traced unless `--at` says otherwise: the point of its own homework."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "name",
        metavar="NAME",
        help=f"{', '.join(POINTS)}: a function of the family scalar_trace; FAMILY/VARIANT: its autograd graph",
    )
    command.add_argument("--at", type=float, nargs="+", metavar="X", help="the point (default: that of the source)")
    # argparse before Python 3.14 takes -1e-3 for the name of an option.
    command._negative_number_matcher = re.compile(r"-(\d|\.\d|inf)")
    command.add_argument("--mode", choices=("forward", "reverse"), help="how to differentiate (default: forward)")
    command.add_argument("--wrt", metavar="I", help="forward mode for this input alone: its number or its name")
    command.add_argument("--graph", type=Path, metavar="FILE.svg", help="draw the graph as well")
    add_json_option(command)
    add_module_option(command)


def run(options: argparse.Namespace) -> int:
    if options.graph is not None and options.graph.suffix != ".svg":
        raise UsageError(f"--graph {options.graph}: the graph is drawn as SVG; end the name of the file in .svg")
    return _run_autograd(options) if "/" in options.name else _run_scalar(options)


def _save(file: Path | None, boxes: Sequence[Box], title: str) -> None:
    if file is None:
        return
    from gradrace.cli.graph_svg import draw

    try:
        write_text(file, draw(boxes, title))
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}); name a file in a folder of yours") from error


# ---- a scalar function ----


@dataclass(frozen=True)
class _Sweep:
    """The derivatives of one mode: for each row a symbol and a formula, for each input (of the result) a column."""

    mode: str
    symbols: Sequence[str]
    formulas: Sequence[str]
    columns: Mapping[str, Sequence[float]]


def _run_scalar(options: argparse.Namespace) -> int:
    from gradrace.autodiff import trace
    from gradrace.families.scalar_trace import FUNCTIONS

    name = options.name
    if name not in FUNCTIONS:
        raise UsageError(f"{unknown('function', name, FUNCTIONS)}; a formulation is named FAMILY/VARIANT")
    _, *inputs = signature(FUNCTIONS[name]).parameters
    at = options.at or POINTS[name]
    if len(at) != len(inputs):
        raise UsageError(f"--at gives {len(at)} coordinates where {name} takes {len(inputs)}: {', '.join(inputs)}")
    chosen = _chosen(options, inputs)
    title = f"{name}({', '.join(inputs)}) at ({', '.join(f'{x:g}' for x in at)})"
    try:
        found = trace.trace(partial(FUNCTIONS[name], trace), at, inputs)
    except trace.OutsideDomain as error:
        raise UsageError(f"{title} has no trace: {error}; choose another point with --at") from error
    sweep = _reverse(found, name) if options.mode == "reverse" else _forward(found, inputs, chosen)
    _save(options.graph, _trace_boxes(found, sweep), f"{title}, {sweep.mode} mode")
    if options.json:
        print_json({"function": name, "at": dict(zip(inputs, at, strict=True)), **_as_json(found, sweep)})
    else:
        print(f"{title}, {sweep.mode} mode")
        print_numbers(_trace_table(found, sweep))
    return 0


def _chosen(options: argparse.Namespace, inputs: Sequence[str]) -> list[int]:
    """The places of the inputs whose forward sweeps are asked for."""
    wrt = options.wrt
    if wrt is None:
        return list(range(len(inputs)))
    if options.mode == "reverse":
        raise UsageError("one reverse sweep serves all inputs; leave out --wrt, which chooses a forward sweep")
    numbers = [str(number) for number in range(1, len(inputs) + 1)]
    for words in (numbers, inputs):
        if wrt in words:
            return [words.index(wrt)]
    raise unknown("input", wrt, [*numbers, *inputs])


def _forward(found: Trace, inputs: Sequence[str], chosen: Sequence[int]) -> _Sweep:
    columns = {inputs[place]: found.dots(place) for place in chosen}
    return _Sweep("forward", [row.dot for row in found.rows], found.dot_formulas(), columns)


def _reverse(found: Trace, name: str) -> _Sweep:
    return _Sweep("reverse", [row.bar for row in found.rows], found.bar_formulas(), {name: found.bars()})


def _trace_boxes(found: Trace, sweep: _Sweep) -> list[Box]:
    from gradrace.cli.graph_svg import Box

    def lines(place: int) -> tuple[str, ...]:
        row = found.rows[place]
        derivatives = ", ".join(f"{column[place]:.6g}" for column in sweep.columns.values())
        return f"{row} = {row.expression}", f"{row.value:.6g}", f"{sweep.symbols[place]} = {derivatives}"

    return [Box(lines(place), tuple(each.of for each in row.partials)) for place, row in enumerate(found.rows)]


def _trace_table(found: Trace, sweep: _Sweep) -> Table:
    from rich.table import Table

    is_forward = sweep.mode == "forward"
    table = Table()
    table.add_column("v ↓")
    table.add_column("value", justify="right")
    table.add_column("v̇ = ∂v/∂x ↓" if is_forward else "v̄ = ∂f/∂v ↑")
    for of in sweep.columns:
        table.add_column(f"∂/∂{of}" if is_forward else f"∂{of}/∂v", justify="right")
    for place, row in enumerate(found.rows):
        numbers = (f"{column[place]:.15g}" for column in sweep.columns.values())
        formula = f" = {sweep.formulas[place]}" if sweep.formulas[place] else ""
        table.add_row(f"{row} = {row.expression}", f"{row.value:.15g}", f"{sweep.symbols[place]}{formula}", *numbers)
    return table


def _as_json(found: Trace, sweep: _Sweep) -> dict[str, Any]:
    return {
        "mode": sweep.mode,
        "rows": [
            {
                "i": place + 1 - found.inputs,
                "expression": row.expression,
                "value": row.value,
                "formula": sweep.formulas[place],
                "dot" if sweep.mode == "forward" else "bar": {
                    of: column[place] for of, column in sweep.columns.items()
                },
            }
            for place, row in enumerate(found.rows)
        ],
    }


# ---- the autograd graph of a formulation ----


@dataclass(frozen=True)
class _Node:
    """An operation of a graph or a leaf of it, the shapes of its results, and the places of the nodes that it reads."""

    operation: str
    shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]

    @property
    def shape(self) -> str:
        counts = Counter(f"({', '.join(map(str, shape))})" for shape in self.shapes)
        return ", ".join(shape if count == 1 else f"{count} × {shape}" for shape, count in counts.items())


def _run_autograd(options: argparse.Namespace) -> int:
    from gradrace.cli.graph_svg import Box

    if options.at or options.mode or options.wrt:
        raise UsageError("--at, --mode and --wrt are of a scalar function; leave them out for a formulation")
    case, nodes = _autograd_graph(options)
    title = f"autograd graph of {case.id}"
    _save(options.graph, [Box((node.operation, node.shape), node.inputs) for node in nodes], title)
    if options.json:
        print_json({"case": case.id, "nodes": [asdict(node) for node in nodes]})
    else:
        print(title)
        print_numbers(_graph_table(nodes))
    return 0


def _autograd_graph(options: argparse.Namespace) -> tuple[Case, list[_Node]]:
    """The first operator of the formulation that builds a graph, at its first test size."""
    from gradrace.cases import all_cases, load_families

    cases = all_cases(load_families(options.module))
    names = [f"{case.scenario.family.name}/{case.variant.name}" for case in cases]
    if options.name not in names:
        raise unknown("formulation", options.name, names)
    own = [case for name, case in zip(names, cases, strict=True) if name == options.name and not case.skip_reason]
    own.sort(key=lambda case: "test" not in case.scenario.size.tiers)
    for case in own:
        if case.scenario.size == own[0].scenario.size and (nodes := _nodes(case)):
            return case, nodes
    raise UsageError(f"{options.name} builds no autograd graph here; choose a formulation that autograd differentiates")


def _nodes(case: Case) -> list[_Node]:
    """The graph of a run, each node after those that it reads."""
    from gradrace.operators import prepare_case
    from gradrace.work.graph import recorded, storage_of

    try:
        prepared = prepare_case(case)
        with recorded(prepared.inputs.primals) as graph:
            prepared.thunk()
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(f"{case.id} raised {described(error)}; choose another formulation") from error
    names = {
        storage_of(primal).data_ptr(): name
        for name, primal in zip(case.scenario.family.primals, prepared.inputs.primals, strict=True)
    }

    def operation(node: Any) -> str:
        if node.name() == "torch::autograd::AccumulateGrad":
            return names.get(storage_of(node.variable).data_ptr(), "leaf")
        return re.sub(r"Backward\d*$", "", node.name())

    places = {node: place for place, node in enumerate(graph.order)}
    return [
        _Node(
            operation(node),
            tuple(tuple(each.shape) for each in node._input_metadata),
            tuple(places[below] for below, _ in node.next_functions if below is not None),
        )
        for node in places
    ]


def _graph_table(nodes: Sequence[_Node]) -> Table:
    from rich.table import Table

    table = Table("node", "operation", "shape", "of")
    for place, node in enumerate(nodes, 1):
        table.add_row(str(place), node.operation, node.shape, ", ".join(str(each + 1) for each in node.inputs))
    return table
