"""The ledger: what really happened, one line for each event, in the order in which it did.

A line is one write to a file that is opened for appending, so no SIGKILL tears one or takes one back.

    try, sent, failed    a client is about to send, has sent (with the task's id), could not send
    begin, end           a task's body
    other                anything else that a body has to tell
"""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

PATH_VARIABLE = "FAULTS_LEDGER"
_MAX_NOTE = 160

_descriptor: tuple[int, int] | None = None


def write(kind: str, ident: str, note: object = "-") -> None:
    """Add a line to the ledger that the environment names."""
    global _descriptor
    pid = os.getpid()
    if _descriptor is None or _descriptor[0] != pid:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        _descriptor = pid, os.open(os.environ[PATH_VARIABLE], flags, 0o600)
    text = "_".join(str(note).split())[:_MAX_NOTE] or "-"
    os.write(_descriptor[1], f"{kind} {ident} {pid} {time.monotonic():.6f} {text}\n".encode())


class Entry(NamedTuple):
    """One line."""

    kind: str
    ident: str
    pid: int
    at: float
    """By the monotonic clock, which all processes of a host share."""
    note: str


class Ledger:
    """Reads a ledger while others write it. Idents that begin with `probe` are left out of all counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.entries: defaultdict[str, list[Entry]] = defaultdict(list)
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.probes: set[str] = set()
        """Probes that have ended."""

    def read(self) -> Ledger:
        """Take in what was added since the last time."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.decode().splitlines():
                kind, ident, pid, at, note = line.split(" ", 4)
                self._add(Entry(kind, ident, int(pid), float(at), note))
        return self

    def _add(self, entry: Entry) -> None:
        if entry.ident.startswith("probe"):
            if entry.kind == "end":
                self.probes.add(entry.ident)
            return
        self.entries[entry.kind].append(entry)
        self.counts[entry.kind][entry.ident] += 1

    def idents(self, kind: str) -> set[str]:
        """The idents with an entry of this kind."""
        return set(self.counts[kind])

    @property
    def ended(self) -> int:
        """How many different bodies have ended."""
        return len(self.counts["end"])

    @property
    def sent(self) -> int:
        """How many sends have returned."""
        return len(self.counts["sent"])

    def longest_pause(self, *, after: float) -> float:
        """The longest time after a moment in which no body ended, and one did afterwards; in seconds."""
        ends = sorted(entry.at for entry in self.entries["end"] if entry.at > after)
        return max((b - a for a, b in itertools.pairwise([after, *ends])), default=0.0)

    def last_end(self, idents: set[str], *, after: float) -> float | None:
        """When the last of these ended for the first time after a moment; None if one has not."""
        first: dict[str, float] = {}
        for entry in self.entries["end"]:
            if entry.ident in idents and entry.at > after:
                first.setdefault(entry.ident, entry.at)
        return max(first.values(), default=after) if first.keys() == idents else None
