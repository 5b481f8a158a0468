"""`python -m faults`: the matrix, or a part of it; exits with 1 if a goal is missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

from faults import on_brokers, on_chords, on_clocks, on_messages, on_workers, report
from faults.matrix import FAULTS, QUICK, is_for, run
from faults.places import PLACES

_ = (on_brokers, on_chords, on_clocks, on_messages, on_workers)  # which have entered their faults


def main() -> int:
    """Run what was asked for, and print the table."""
    options = _parse_options()
    rows = []
    for broker in options.broker:
        for name in options.fault:
            if not is_for(FAULTS[name], broker):
                continue
            row = run(FAULTS[name], broker, count=options.count)
            print(time.strftime("%H:%M:%S"), report.describe(row), flush=True)
            if row.missed and row.evidence:
                print(row.evidence, flush=True)
            rows.append(row)
            if options.json:
                told = [dataclasses.asdict(one) for one in rows]
                options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"\n{report.make_table(rows)}\n")
    return 1 if any(row.missed for row in rows) else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument(
        "--broker",
        type=lambda text: _names(text, list(PLACES), everything=list(PLACES)),
        default=list(PLACES),
        help="names with commas, or all",
    )
    parser.add_argument(
        "--fault",
        type=lambda text: _names(text, list(FAULTS), everything=list(FAULTS)),
        default=list(FAULTS),
        help="names with commas, all, or quick: those that run with the tests",
    )
    parser.add_argument("--count", type=int, default=2000, help="tasks in a run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    return parser.parse_args()


def _names(text: str, known: list[str], *, everything: list[str]) -> list[str]:
    if text == "all":
        return everything
    if text == "quick":
        return list(QUICK)
    names = text.split(",")
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; use {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
