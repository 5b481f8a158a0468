"""Follows a log through its files, as it is on the disk, and hashes each line once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cardoon.transparency.lines import find_tree, read_lines
from cardoon.transparency.places import Places
from cardoon.transparency.tree import Frontier, Span


class LogReader:
    """Begins with the newest file that has record `start`, or the one before which it would be. For one thread."""

    def __init__(self, path: Path, start: int = 0) -> None:
        self._places = Places(path)
        self._file: IO[bytes] | None = None
        self._offset = 0
        self.tree = Frontier()
        """Of all lines that were read, and of those before the file that was read first."""
        files = list(self._files())
        found = [(tree, file) for tree, file in files if tree.size <= start]
        if found:
            self.tree, file = found[-1]
            self._open(file)
        self.is_lost = bool(files) and not found
        """Whether all files that are left begin with a later record."""
        self.span = Span(self.tree.size)
        """What was read since `mark`."""

    def mark(self) -> None:
        """Begin another span here."""
        self.span = Span(self.tree.size)

    def read_to(self, size: int) -> bool:
        """Read on until the tree has so many leaves; False if it has more already, or the log ends before."""
        while self.tree.size < size and (self._read_on(size) or self._go_on()):
            pass
        return self.tree.size == size

    def close(self) -> None:
        """Close the file; safe twice."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        """Let go of the file of a reader that nobody closed."""
        with contextlib.suppress(AttributeError):
            self.close()

    def _read_on(self, size: int) -> bool:
        """Read lines of this file; whether there were any."""
        before = self.tree.size
        if self._file is None:
            return False
        for line in read_lines(self._file, self._offset):
            if not line.is_whole:  # its writer is at it, or was killed, which the next one mends
                break
            self.tree.append(line.leaf)
            self.span.append(line.leaf)
            self._offset = line.end
            if self.tree.size == size:
                break
        return self.tree.size > before

    def _go_on(self) -> bool:
        """Open the file that begins where this one ends, if there is one."""
        current = None if self._file is None else os.fstat(self._file.fileno())
        for tree, file in self._files():
            is_next = tree.size == self.tree.size and tree.nodes == self.tree.nodes
            if is_next and not (current and _is_same(current, file)):
                self._open(file)
                return True
        return False

    def _open(self, file: Path) -> None:
        self.close()
        with contextlib.suppress(FileNotFoundError):  # it was put aside just now
            self._file = file.open("rb")
        self._offset = 0

    def _files(self) -> Iterator[tuple[Frontier, Path]]:
        """The log's files, and what each of them goes on with."""
        for file in [*self._places.earlier(), self._places.log]:
            with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
                line = next(read_lines(stream), None)
                if line is not None:
                    yield find_tree(line)[0], file


def _is_same(status: os.stat_result, file: Path) -> bool:
    try:
        return os.path.samestat(status, file.stat())
    except FileNotFoundError:
        return False
