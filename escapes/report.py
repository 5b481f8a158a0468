"""Rows as a table: an attempt a line, a runner a column."""

from __future__ import annotations

from collections.abc import Sequence

from escapes.trial import Row


def describe(row: Row) -> str:
    """One line for a row that is done."""
    parts = [
        row.person,
        row.runner,
        row.attempt,
        verdict(row),
        f"[{row.told}]",
        f"{row.seconds:.1f} s",
    ]
    return "  ".join(parts)


def verdict(row: Row) -> str:
    """What came of it."""
    if row.must and not row.complaint:
        return f"works: {row.gained}" if row.gained else "BROKEN: what is granted cannot be used"
    if not row.level:
        if row.gained:
            return f"works: {row.gained}"
        return f"not here: {row.excuse}" if row.excuse else "PROVES NOTHING: it failed unconfined"
    if row.complaint:
        return f"DAMAGE: {row.complaint}"
    if row.gained:
        if row.level == "process":
            return f"open: {row.gained}"
        return f"as documented: {row.gained}" if row.excuse else f"SUCCEEDED: {row.gained}"
    return "withstood"


def make_table(rows: Sequence[Row]) -> str:
    """In Markdown, with a line that sums each column up."""
    columns = list(dict.fromkeys((row.person, row.runner) for row in rows))
    found = {(row.attempt, row.person, row.runner): row for row in rows}
    head = ["attempt", *(f"{runner} as {person}" for person, runner in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in dict.fromkeys(row.attempt for row in rows):
        cells = [_cell(found.get((name, *column))) for column in columns]
        lines.append(_line([name, *cells]))
    return "\n".join([*lines, "", *sum_up(rows)])


def sum_up(rows: Sequence[Row]) -> list[str]:
    """One line for each column."""
    found = []
    for person, runner in dict.fromkeys((row.person, row.runner) for row in rows):
        column = [row for row in rows if (row.person, row.runner) == (person, runner)]
        own = [row for row in column if not row.must]
        broken = [row for row in column if row.must and not row.gained]
        gained = [row for row in own if row.gained]
        told = f"{person}, {runner}: {len(own)} attempts, {len(gained)} succeeded"
        if column[0].level:
            known = [row for row in gained if row.excuse]
            damage = [row for row in own if row.complaint]
            told += f", {len(known)} of them as documented; {len(damage)} did damage"
        else:
            told += f", {sum(not row.gained and bool(row.excuse) for row in own)} not possible here"
        found.append(told + (f"; {len(broken)} uses of what is granted failed" if broken else ""))
    return found


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.complaint:
        return "DAMAGE"
    if row.must:
        return "works" if row.gained else "BROKEN"
    if not row.level:
        return "O" if row.gained else "not here" if row.excuse else "NOTHING"
    if not row.gained:
        return "-"
    return "o" if row.level == "process" else "documented" if row.excuse else "**O**"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
