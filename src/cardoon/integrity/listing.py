"""What a baseline says of the files that code comes from, kept in memory to be asked at each import."""

from __future__ import annotations

import os
from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quote
from typing import NamedTuple

from cardoon.integrity.baseline import Baseline
from cardoon.integrity.manifest import Entry, parse_entry

_MAX_LINKS = 40
"""That lead from one to the next, as the kernel has it."""


class Said(NamedTuple):
    """What a baseline says of one path."""

    digest: str
    """SHA-256 in hexadecimal digits; empty for a file that it does not list."""
    is_covered: bool
    """Whether the path lies beneath one of its roots."""


class Listing:
    """The lines of a baseline by their paths. Links are followed as it has them, and not as they are now."""

    def __init__(self, serial: int, roots: Iterable[str], lines: Iterable[bytes]) -> None:
        self.serial = serial
        self._roots = frozenset(roots)
        self._within = tuple(root.rstrip("/") + "/" for root in self._roots)
        # A line is read when it is asked for. A name with a quote in it is cut too short, so it is not listed.
        self._lines = {line[2 : line.find(b'",', 2)]: line for line in lines}
        self._folders: dict[str, str] = {}
        """Folders that were asked for, and where they are."""

    def has(self, path: str, digest: str) -> bool:
        """Whether the path is listed as it is written, with this SHA-256 in hexadecimal digits. The fast way."""
        key = quote(path)[1:-1].encode()
        line = self._lines.get(key, b"")
        kind, *numbers_and_digest = line[len(key) + 4 :].split(b",", 10)
        return kind == b'"f"' and numbers_and_digest[8:9] == [b'"%s"' % digest.encode()]

    def ask(self, path: str) -> Said:
        """What is said of a path, however it is written."""
        entry = self._find(path)
        if entry is None or entry.kind != "f":
            path = self._resolve(path)
            entry = self._find(path)
        if entry is not None and entry.kind == "f" and not entry.content.startswith("!"):
            return Said(entry.content, is_covered=True)
        return Said("", self._covers(path))

    def _find(self, path: str) -> Entry | None:
        line = self._lines.get(quote(path)[1:-1].encode())
        return None if line is None else parse_entry(line)

    def _covers(self, path: str) -> bool:
        return path.startswith(self._within) or path in self._roots

    def _resolve(self, path: str, depth: int = 0) -> str:
        """Where a path leads. Only above the roots are links followed that the baseline does not have."""
        folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100 - without following links
        if not name:
            return folder
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._resolve(folder, depth)
        found = os.path.join(real, name)  # noqa: PTH118 - text stays text
        entry = self._find(found)
        if entry is not None and entry.kind == "l":
            target = entry.content
        elif not self._covers(found) and os.path.islink(found):  # noqa: PTH114
            target = os.path.realpath(found)
        else:
            return found
        if depth >= _MAX_LINKS:
            return found
        return self._resolve(os.path.join(real, target), depth + 1)  # noqa: PTH118


def read_listing(baseline: Baseline) -> Listing:
    """All that a baseline lists; `SecurityError` if it is cut off, or was changed since it was opened."""
    head = baseline.head
    return Listing(head.serial, head.rules.outermost_roots(), baseline.read_lines())
