"""Write benches/asv_bench/catalogue.json: the cases that asv tracks, from the families that are declared now.

Usage: python benches/write_catalogue.py [--module M ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradrace.cases import Selection, all_cases, load_families
from gradrace.files import write_text

CATALOGUE = Path(__file__).parent / "asv_bench" / "catalogue.json"

SLOW = ("d5_n10000_cond100", "d500_n1_cond100", "d1000_n1_cond100")
"""Sizes whose inputs or whose baseline take seconds, which asv would pay in every forked process."""


def catalogue(modules: Sequence[str] = ()) -> dict[str, Any]:
    """The sizes for the gate in float64, as plain values; asv's parameters are read from it by position."""
    selected = Selection(dtype=("float64",), default="gate").apply(all_cases(load_families(modules)))
    cases = [case for case in selected if case.scenario.size.word not in SLOW]
    return {
        "modules": list(modules),
        "cases": [
            {
                "family": case.scenario.family.name,
                "operator": case.scenario.operator,
                "variant": case.variant.name,
                "size": case.scenario.size.word,
                "device": case.scenario.device,
                "version": case.scenario.family.version,
            }
            for case in cases
        ],
    }


def as_text(document: dict[str, Any]) -> str:
    """One case a line, so that a new variant is one line of a diff."""
    rows = ",\n".join("  " + json.dumps(row) for row in document["cases"])
    return f'{{\n "modules": {json.dumps(document["modules"])},\n "cases": [\n{rows}\n ]\n}}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", default=[], metavar="M")
    write_text(CATALOGUE, as_text(catalogue(parser.parse_args().module)))


if __name__ == "__main__":
    main()
