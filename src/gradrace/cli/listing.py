"""`gradrace list`: the cases."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from gradrace.cli.common import add_selection, print_json, print_table, select

if TYPE_CHECKING:
    from gradrace.cases import Case

NAME = "list"
HELP = "show the cases"
add_arguments = add_selection


def run(options: argparse.Namespace) -> int:
    cases = select(options)
    if options.json:
        print_json([row(case) for case in cases])
        return 0
    from rich.markup import escape
    from rich.table import Table

    table = Table("case", "", "source", title=f"{len(cases)} cases", title_justify="left")
    for case in cases:
        table.add_row(case.id, "baseline" if case.is_baseline else "", escape(case.variant.source))
    print_table(table, [case.id for case in cases])
    return 0


def row(case: Case) -> dict[str, Any]:
    scenario = case.scenario
    baseline = scenario.family.baseline_of(scenario.operator)
    return {
        "id": case.id,
        "family": scenario.family.name,
        "variant": case.variant.name,
        "operator": scenario.operator,
        "size": scenario.size.word,
        "dtype": scenario.dtype,
        "device": scenario.device,
        "source": case.variant.source,
        "reference": "analytic" if scenario.operator in (*scenario.family.reference, "solve") else baseline,
        "baseline": baseline,
        "version": scenario.family.version,
    }
