"""Rows as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attacks.matrix import Row

_HEAD = ("attack", "category", "broker", "outcome", "verdict", "took")


def make_table(rows: Sequence[Row]) -> str:
    """A table in Markdown, and a line that sums it up."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(_cells(row)) for row in rows]
    return "\n".join([*lines, "", *sum_up(rows)])


def sum_up(rows: Sequence[Row]) -> list[str]:
    """One line for each broker."""
    found = []
    for broker in dict.fromkeys(row.broker for row in rows):
        own = [row for row in rows if row.broker == broker]
        counts = Counter("limit" if row.limit else verdict(row).split(":")[0] for row in own)
        found.append(
            f"{broker}: {len(own)} attacks in {len({row.category for row in own})} categories: "
            f"{counts['withstood']} withstood, {counts['SUCCEEDED']} succeeded, "
            f"{counts['limit']} documented limits"
        )
    return found


def describe(row: Row) -> str:
    """One line for a row that is done."""
    return "  ".join(_cells(row))


def verdict(row: Row) -> str:
    """Whether it was withstood."""
    if row.is_finding:
        return "SUCCEEDED: " + "; ".join(row.succeeded)
    if row.succeeded:
        return f"as documented: {row.limit}"
    return "withstood"


def _cells(row: Row) -> list[str]:
    took = f"{row.seconds:.1f} s"
    return [row.attack, row.category, row.broker, row.outcome, verdict(row), took]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
