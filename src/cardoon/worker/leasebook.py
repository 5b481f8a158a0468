"""The lease book: what this worker holds, in a file, for the next worker of its name on this host.

A broker on a server cannot tell a dead worker from a slow one before the lease ends. The next worker of
the same name can: whoever gets the lock on the book knows that nobody else has it, and gives back what
it names. Fencing tokens make that safe: what is not held any more is not touched.

A line is a batch, so it costs a write for each claim and for each commit, and nothing is flushed: what a
killed process has written is in the file, and after a power failure the leases end by themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from cardoon.broker import Broker, Cause, Delivery, Requeue

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""Beyond this the book is written anew, with what is held. Twice as much is read at the most."""
FIRST_PAUSE = 1.0
LATER_PAUSE = 10.0
"""Seconds that a message rests after the first crash of its process, and after later ones."""
_AT_ONCE = 500

_Key = tuple[int | str, int]


class LeaseBook:
    """One worker's, and his alone while he lives. Safe from threads; a full disk only ends it."""

    def __init__(self, lock: int, path: Path, left: Sequence[Delivery]) -> None:
        self._lock_file: int | None = lock
        self._path = path
        self.left = left
        """What the last worker of the name held when it ended."""
        self._guard = threading.Lock()  # protects the rest
        self._held: dict[_Key, list[Any]] = {}
        self._file: int | None = None
        self._size = 0
        with self._guard, self._forgiving():
            self._rewrite()

    @classmethod
    def open(cls, folder: Path, name: str) -> Self | None:
        """The book of a worker's name; None where another one holds it, or none can be written."""
        # A name may hold what no file name can.
        stem = hashlib.sha256(name.encode()).hexdigest()[:32]
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(folder / f"{stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            logger.warning("lease book: %s; leases of a killed worker end by themselves", error)
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            logger.warning("another worker here is called %s as well; give each its own -n", name)
            return None
        path = folder / f"{stem}.leases"
        return cls(lock, path, read_left(path))

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """These are held now."""
        rows = {(one.receipt, one.attempt): _row(one) for one in deliveries}
        with self._guard, self._forgiving():
            self._held.update(rows)
            self._write([1, list(rows.values())])

    def strike(self, deliveries: Iterable[Delivery]) -> None:
        """These are not, or no longer."""
        keys = [(delivery.receipt, delivery.attempt) for delivery in deliveries]
        with self._guard, self._forgiving():
            gone = [key for key in keys if self._held.pop(key, None) is not None]
            if gone:
                self._write([0, gone])

    def close(self) -> None:
        """Let go of it; what is still noted stays for the next one. Safe twice."""
        with self._guard:
            self._end()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _write(self, line: list[Any]) -> None:
        if self._file is None:
            return
        if self._size > MAX_BYTES:
            self._rewrite()
            return
        packed = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        os.write(self._file, packed)
        self._size += len(packed)

    def _rewrite(self) -> None:
        """Replace the file by one that has only what is held."""
        fresh = self._path.with_suffix(".fresh")
        file = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._end()
        self._file, self._size = file, 0
        # What was left stays in the book until somebody has given it back.
        kept = [*map(_row, self.left), *self._held.values()]
        packed = json.dumps([1, kept], separators=(",", ":")).encode()
        os.write(file, packed + b"\n")
        fresh.replace(self._path)

    def _end(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        """The book is a convenience: what goes wrong with it must not stop a worker."""
        try:
            yield
        except OSError as error:
            logger.warning("lease book: %s; leases of a killed worker end by themselves", error)
            self._end()
            with contextlib.suppress(OSError):
                self._path.unlink()


def _row(delivery: Delivery) -> list[Any]:
    return [
        delivery.receipt,
        delivery.attempt,
        delivery.queue,
        delivery.id,
        delivery.crashes,
    ]


def read_left(path: Path) -> list[Delivery]:
    """What a book says is held; nothing of what cannot be read, such as a line that was cut off."""
    try:
        with path.open("rb") as file:
            text = file.read(2 * MAX_BYTES)
    except OSError:
        return []
    held: dict[_Key, Delivery] = {}
    for line in text.splitlines():
        try:
            match json.loads(line):
                case [1, list(rows)]:
                    for receipt, attempt, queue, name, crashes in rows:
                        held[receipt, attempt] = Delivery(
                            str(queue), str(name), b"", receipt, int(attempt), int(crashes)
                        )
                case [0, list(keys)]:
                    for receipt, attempt in keys:
                        held.pop((receipt, attempt), None)
        except (ValueError, TypeError):
            continue
    return list(held.values())


def return_leases(broker: Broker, book: LeaseBook) -> None:
    """`give_back` as a worker's first step, which says what it did."""
    if returned := give_back(broker, book):
        logger.warning("gave back %d messages of the worker that was killed here", returned)


def give_back(broker: Broker, book: LeaseBook) -> int:
    """Give back what the last worker held, each with one crash; return how many were still its own.

    Raises `OperationalError` like the broker, and may then be called again.
    """
    returned = 0
    while book.left:
        batch = book.left[:_AT_ONCE]
        pauses = (LATER_PAUSE if delivery.crashes else FIRST_PAUSE for delivery in batch)
        settled = broker.settle(
            [Requeue(one, Cause.CRASHED, pause) for one, pause in zip(batch, pauses, strict=True)]
        )
        returned += sum(settled)
        book.left = book.left[_AT_ONCE:]
    return returned
