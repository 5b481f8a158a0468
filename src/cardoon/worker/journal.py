"""The outcome journal: how jobs ended, in files, for the next worker of this name on this host.

Between the end of a body and the commit of its outcome lie some milliseconds, in a socket, a queue and
the store. A task process therefore writes each outcome down before it tells it: what a killed process has
written is in the file. Nothing is flushed, and what cannot be written costs no more than that.

A process has two files of its own, handed to it open, to which it can only append; when one is full, it
empties the other and goes on there. What they say is as untrusted as what it says on its channel, and is
read by the same code. And it must name the ticket that it was given with the job, which only the worker
can make, so no process can speak for a job that it was not handed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from cardoon.worker.ipc import FROM_CHILD, FrameReader, FrameType, IpcError
from cardoon.worker.pool import Ending, parse_ending

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
"""Of one file, beyond which the other one is begun: some hundred outcomes, and no process holds more jobs
than `pacing.MAX_DEPTH`."""
MAX_OUTCOME = 64 * 1024
"""Bytes of an outcome; a larger one is not written down."""
TICKET_BYTES = 16
_HEAD = struct.Struct(f"!{TICKET_BYTES}sI")
_PERMITTED = {FrameType.OUTCOME: FROM_CHILD[FrameType.OUTCOME]}


class Writer:
    """A task process's end: appends outcomes. Safe from threads."""

    def __init__(self, first: int, second: int) -> None:
        self._lock = threading.Lock()  # protects the rest
        self._file, self._other = first, second
        if os.fstat(first).st_size >= MAX_BYTES:
            self._file, self._other = second, first
        self._size = os.fstat(self._file).st_size
        self._is_open = True

    def write(self, ticket: str, outcome: bytes) -> None:
        """Append an OUTCOME frame under the job's ticket; what cannot be written ends the journal."""
        if len(outcome) > MAX_OUTCOME:
            return
        record = _HEAD.pack(bytes.fromhex(ticket), len(outcome)) + outcome
        with self._lock:
            if not self._is_open:
                return
            try:
                if self._size >= MAX_BYTES:
                    self._turn_over()
                written = os.write(self._file, record)
            except OSError:
                written = 0
            self._size += written
            # Behind half a record nobody would find the next one.
            self._is_open = written == len(record)

    def _turn_over(self) -> None:
        self._file, self._other = self._other, self._file
        os.ftruncate(self._file, 0)
        self._size = 0


class Pages:
    """Two files lent to one task process."""

    def __init__(self, journal: Journal, slot: int, files: Sequence[int]) -> None:
        self._journal = journal
        self._slot = slot
        self.files = tuple(files)

    def let_go(self) -> None:
        """The process has them now; safe twice."""
        for file in self.files:
            os.close(file)
        self.files = ()

    def give_back(self) -> None:
        """The process is dead; another one may go on in them. Once."""
        self.let_go()
        self._journal.take_back(self._slot)


class Journal:
    """The worker's end: lends files, reads what dead processes wrote, deletes all in the end."""

    def __init__(self, folder: Path, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._lent: set[int] = set()

    def lend(self) -> Pages | None:
        """Two files for a new process, which goes on behind a dead one; None if there can be none."""
        slot = next(number for number in itertools.count() if number not in self._lent)
        files: list[int] = []
        try:
            for path in self._paths_of(slot):
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                files.append(os.open(path, flags, 0o600))
                # Its last writer may have been killed in the middle of a record.
                os.ftruncate(files[-1], _whole(_read(path)))
        except OSError as error:
            logger.warning("outcome journal: %s; what has just ended at a kill runs again", error)
            for one in files:
                os.close(one)
            return None
        self._lent.add(slot)
        return Pages(self, slot, files)

    def take_back(self, slot: int) -> None:
        """See `Pages.give_back`."""
        self._lent.discard(slot)

    def read(self, wanted: Collection[bytes]) -> dict[bytes, Ending]:
        """How the jobs with these tickets ended, as far as that was written and makes sense."""
        found: dict[bytes, Ending] = {}
        for path in self._paths():
            for ticket, outcome in _records(_read(path)):
                if ticket in wanted and ticket not in found:
                    with contextlib.suppress(IpcError):
                        found[ticket] = _parse(outcome)
        return found

    def discard(self) -> None:
        """Delete it all: every outcome has been stored."""
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._stem}.*.outcomes"))

    def _paths_of(self, slot: int) -> list[Path]:
        return [self._folder / f"{self._stem}.{slot}{half}.outcomes" for half in "ab"]


def _read(path: Path) -> bytes:
    """What is in a file, which may be longer than it should be, or gone."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + MAX_OUTCOME + _HEAD.size)
    except OSError:
        return b""


def _parse(outcome: bytes) -> Ending:
    frames = FrameReader(_PERMITTED).feed(outcome)
    if len(frames) != 1:
        raise IpcError("a record of the journal is not one frame")
    return parse_ending(frames[0])


def _records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Tickets and outcomes, up to the first that is not whole."""
    start = 0
    while len(text) - start >= _HEAD.size:
        ticket, size = _HEAD.unpack_from(text, start)
        start += _HEAD.size
        if size > MAX_OUTCOME or len(text) - start < size:
            return
        yield ticket, text[start : start + size]
        start += size


def _whole(text: bytes) -> int:
    """How many bytes whole records take from the beginning."""
    return sum(_HEAD.size + len(outcome) for _, outcome in _records(text))
