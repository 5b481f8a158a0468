"""What people see: headings, tables, bars and progress; in colour where that is wanted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

_WIDTH = 40
"""Characters of a bar."""
_REDRAW_SECONDS = 0.1
_STEPS = 4
"""Lines that a progress is told in where there is no terminal."""


class Screen:
    """Writes to standard output. No colour but on a terminal, nor if NO_COLOR is set."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self.is_terminal and not os.environ.get("NO_COLOR")

    def write(self, text: str = "") -> None:
        """One line, indented."""
        print(f"  {text}" if text else "", flush=True)

    def head(self, title: str, remark: str = "") -> None:
        """Begin a section."""
        print(f"\n{self._paint('1', title)}  {self._paint('2', remark)}".rstrip(), flush=True)

    def explain(self, text: str) -> None:
        """Say what is being shown."""
        self.write(self._paint("2", text))

    def check(self, text: str, *, holds: bool) -> bool:
        """Say whether something is as it must be, and return it."""
        self.write(f"{self._verdict(holds=holds)}  {text}")
        return holds

    def chart(self, title: str, counts: Sequence[tuple[str, int]]) -> None:
        """Numbers as bars."""
        self.write(self._paint("1", title))
        widest = max((len(name) for name, _ in counts), default=0)
        most = max((count for _, count in counts), default=1)
        for name, count in counts:
            bar = "#" * max(1, round(_WIDTH * count / most))
            self.write(f"  {name:<{widest}}  {self._paint('32', bar)} {count:,}")

    def table(self, heads: Sequence[str], rows: Sequence[tuple[bool, Sequence[str]]]) -> None:
        """Columns, each row with whether it is as it must be."""
        widths = [
            max(len(head), *(len(cells[column]) for _, cells in rows))
            for column, head in enumerate(heads)
        ]
        self.write(self._paint("1", _row(("", *heads), (4, *widths))))
        for holds, cells in rows:
            self.write(f"{self._verdict(holds=holds)}  {_row(cells, widths)}")

    def _verdict(self, *, holds: bool) -> str:
        return self._paint("32", "ok  ") if holds else self._paint("1;31", "FAIL")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._has_colour and text else text


class Progress:
    """How far a job is: one line that is drawn anew on a terminal, or else a few lines."""

    def __init__(self, screen: Screen, label: str, total: int) -> None:
        self._screen = screen
        self._label = label
        self._total = total
        self._began = time.monotonic()
        self._drawn = 0.0
        self._told = 0

    def update(self, done: int) -> None:
        """Say that so many are done."""
        if not self._screen.is_terminal:
            step = done * _STEPS // self._total
            if step > self._told:
                self._told = step
                self._screen.write(self._line(done))
            return
        now = time.monotonic()
        is_last = done == self._total
        if is_last or now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            end = "\n" if is_last else ""
            print(f"\r\x1b[K  {self._line(done)}", end=end, flush=True)

    def _line(self, done: int) -> str:
        rate = done / max(0.001, time.monotonic() - self._began)
        full = _WIDTH * done // self._total
        bar = "#" * full + "." * (_WIDTH - full)
        return f"{self._label:<10} [{bar}] {done}/{self._total}  {rate:.0f}/s"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
