"""`python -m attacks`: all attacks, or some; exits with 1 if one succeeds that is not documented."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from attacks import catalogue, report
from attacks.matrix import ATTACKS, BROKERS, run
from attacks.site import WEAKNESSES


def main() -> int:
    """Run what was asked for, and print the table."""
    options = _parse_options()
    chosen = [
        one
        for one in catalogue.all_attacks()
        if not options.only or {one.name, one.category} & set(options.only)
    ]
    if options.list:
        for one in chosen:
            print(f"{one.name}  [{one.category}]  {one.text}")
        return 0
    rows = []
    for broker in options.broker:
        for row in run(chosen, broker, weakness=options.weaken):
            print(time.strftime("%H:%M:%S"), report.describe(row), flush=True)
            rows.append(row)
            if options.json:
                told = [dataclasses.asdict(one) for one in rows]
                options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"\n{report.make_table(rows)}\n")
    return 1 if any(row.is_finding for row in rows) else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m attacks", description=__doc__)
    parser.add_argument(
        "--broker",
        type=lambda text: list(BROKERS) if text == "all" else _names(text, list(BROKERS)),
        default=list(BROKERS),
        help="names with commas, or all",
    )
    known = [*ATTACKS, *dict.fromkeys(one.category for one in ATTACKS.values())]
    parser.add_argument(
        "--only",
        type=lambda text: _names(text, known),
        default=[],
        help="names of attacks or categories, with commas, or quick: those that run with the tests",
    )
    parser.add_argument("--list", action="store_true", help="say what there is, and do nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument(
        "--weaken",
        choices=[name for name in WEAKNESSES if name],
        default="",
        help="switch a protection off, to see that attacks can succeed",
    )
    return parser.parse_args()


def _names(text: str, known: list[str]) -> list[str]:
    if text == "quick":
        return list(catalogue.QUICK)
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; use {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
