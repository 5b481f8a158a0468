"""Rows as a table."""

from __future__ import annotations

from collections.abc import Sequence

from faults.matrix import FAULTS, Row

_HIDDEN = frozenset({"sent", "ended", "lost", "stuck", "doubles"})
_HEAD = ("fault", "broker", "lost/stuck/double", "other figures", "goals", "took")


def make_table(rows: Sequence[Row]) -> str:
    """A table in Markdown."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(_cells(row)) for row in rows]
    return "\n".join(lines)


def describe(row: Row) -> str:
    """One line for a row that is done."""
    return "  ".join(_cells(row))


def verdict(row: Row) -> str:
    """Whether its goals were met."""
    if row.reason:
        return row.reason
    return "met" if not row.missed else "MISSED: " + "; ".join(row.missed)


def _cells(row: Row) -> list[str]:
    figures = row.figures
    three = [figures[name] for name in ("lost", "stuck", "doubles")] if figures else []
    fault = FAULTS[row.fault]
    others = [
        f"{name} {_number(value)}"
        for name, value in figures.items()
        if name not in _HIDDEN and (value or name in fault.exactly)
    ]
    return [
        row.fault,
        row.broker,
        "/".join(f"{value:g}" for value in three),
        ", ".join(others),
        verdict(row),
        "" if row.reason else f"{row.seconds:.0f} s",
    ]


def _number(value: float) -> str:
    return f"{value:g}" if value == int(value) else f"{value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
