"""The lease book: what this worker holds, in a file, for the next worker of its name on this host.

A broker on a server cannot tell a dead worker from a slow one before the lease ends. The next worker of
the same name can: whoever gets the lock on the book knows that nobody else has it, and gives back what
it names. Fencing tokens make that safe: what is not held any more is not touched.

A line is a batch, followed by the messages that it notes, so it costs a write for each claim and for
each commit, and nothing is flushed: what a killed process has written is in the file, and after a power
failure the leases end by themselves.

A claim that was answered and not yet noted when the worker was killed is found by the name that its
claims went by, which stands in the book as well; see `cardoon.recalling`.

Small messages are noted whole, so that one whose body had ended can be ended without being claimed again;
see `cardoon.worker.journal` and `cardoon.worker.resuming`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from cardoon.broker import Broker, Cause, Delivery, Requeue
from cardoon.recalling import Recalling
from cardoon.worker.journal import TICKET_BYTES, Journal

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""Beyond this the book is written anew, with what is held; or beyond twice what that takes."""
MAX_FRAME = 8 * 1024
"""Bytes of a message; of a larger one only the name is noted."""
_MAX_LINE = 64 << 20
_SECRET_BYTES = 32
FIRST_PAUSE = 1.0
LATER_PAUSE = 10.0
"""Seconds that a message rests after the first crash of its process, and after later ones."""
_AT_ONCE = 500

_Key = tuple[int | str, int]


class LeaseBook:
    """One worker's, and his alone while he lives. Safe from threads; a full disk only ends it."""

    def __init__(self, lock: int, path: Path, left: Left, secret: bytes) -> None:
        self._lock_file: int | None = lock
        self._path = path
        self.left: Sequence[Delivery] = left.deliveries
        """What the last worker of the name held when it ended."""
        self.claimant = left.claimant
        """What its claims went by, until `begin`; then what ours do."""
        self.journal = Journal(path.parent, path.stem)
        self._secret = secret
        self._guard = threading.Lock()  # protects the rest
        self._held: dict[_Key, Delivery] = {}
        self._file: int | None = None
        self._size = 0
        self._most = MAX_BYTES
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
        return cls(lock, path, read_left(path), _read_secret(lock))

    def ticket(self, delivery: Delivery) -> bytes:
        """What a process must show to speak for this delivery in the journal: who has none makes none.

        The frame is part of it: the outcome of one message must not become that of another.
        """
        name = f"{delivery.receipt} {delivery.attempt} ".encode()
        digest = hashlib.blake2b(name, digest_size=TICKET_BYTES, key=self._secret)
        digest.update(delivery.frame)
        return digest.digest()

    def begin(self, claimant: str) -> None:
        """Claims go by this name from now on."""
        with self._guard, self._forgiving():
            self.claimant = claimant
            self._write(_pack_line([2, claimant]))

    def note(self, deliveries: Sequence[Delivery]) -> None:
        """These are held now."""
        with self._guard, self._forgiving():
            self._held.update(((one.receipt, one.attempt), one) for one in deliveries)
            self._write(_pack_note(deliveries))

    def strike(self, deliveries: Iterable[Delivery]) -> None:
        """These are not, or no longer."""
        keys = [(delivery.receipt, delivery.attempt) for delivery in deliveries]
        with self._guard, self._forgiving():
            gone = [key for key in keys if self._held.pop(key, None) is not None]
            if gone:
                self._write(_pack_line([0, gone]))

    def take_over(self, deliveries: Sequence[Delivery]) -> None:
        """These were left, and are held now by this worker."""
        keys = {(one.receipt, one.attempt) for one in deliveries}
        self.left = [one for one in self.left if (one.receipt, one.attempt) not in keys]
        self.note(deliveries)

    def close(self) -> None:
        """Let go of it; what is still noted stays for the next one. Safe twice."""
        with self._guard:
            if self._lock_file is not None and not self._held and not self.left:
                self.journal.discard()
            self._end()
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _write(self, packed: bytes) -> None:
        if self._file is None:
            return
        if self._size > self._most:
            self._rewrite()
            return
        _write_whole(self._file, packed)
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
        packed = _pack_line([2, self.claimant])
        packed += _pack_note([*self.left, *self._held.values()])
        _write_whole(file, packed)
        self._size = len(packed)
        self._most = max(MAX_BYTES, 2 * self._size)
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


def _write_whole(file: int, packed: bytes) -> None:
    """Behind half a line nothing could be read; `OSError` where only so much was written."""
    if os.write(file, packed) != len(packed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _pack_line(line: list[Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _pack_note(deliveries: Sequence[Delivery]) -> bytes:
    """A line of rows, and behind it their frames: as they are, since JSON would take longer than all else."""
    frames = [one.frame if len(one.frame) <= MAX_FRAME else b"" for one in deliveries]
    rows = [
        [
            one.receipt,
            one.attempt,
            one.queue,
            one.id,
            one.crashes,
            one.retries,
            one.priority,
            len(frame),
        ]
        for one, frame in zip(deliveries, frames, strict=True)
    ]
    return b"".join([_pack_line([1, rows]), *frames])


def _read_note(row: Sequence[Any], file: BinaryIO) -> Delivery:
    receipt, attempt, queue, name, crashes, retries, priority, size = row
    if not 0 <= size <= MAX_FRAME:
        raise ValueError("a lease book has a frame that is too large")
    frame = file.read(size)
    if len(frame) < size:
        raise ValueError("a lease book ends in the middle of a frame")
    return Delivery(
        str(queue),
        str(name),
        frame,
        receipt,
        int(attempt),
        int(crashes),
        int(retries),
        int(priority),
    )


def _read_secret(lock: int) -> bytes:
    """What tickets are made with; kept in the lock file, for the next worker of the name."""
    with contextlib.suppress(OSError):
        secret = os.pread(lock, _SECRET_BYTES, 0)
        if len(secret) == _SECRET_BYTES:
            return secret
    secret = secrets.token_bytes(_SECRET_BYTES)
    with contextlib.suppress(OSError):  # a full disk: then the next one cannot read the journal
        os.pwrite(lock, secret, 0)
    return secret


class Left(NamedTuple):
    """What a book says of the worker that wrote it."""

    deliveries: Sequence[Delivery] = ()
    """What it holds."""
    claimant: str = ""
    """What its claims went by; empty if nothing is known of them."""


def read_left(path: Path) -> Left:
    """What a book says, up to what cannot be read, such as a line that was cut off."""
    held: dict[_Key, Delivery] = {}
    claimant = ""
    with (
        contextlib.suppress(OSError, ValueError, TypeError, RecursionError),
        path.open("rb") as file,
    ):
        while line := file.readline(_MAX_LINE):
            match json.loads(line):
                case [1, list(rows)]:
                    for one in [_read_note(row, file) for row in rows]:
                        held[one.receipt, one.attempt] = one
                case [0, list(keys)]:
                    for receipt, attempt in keys:
                        held.pop((receipt, attempt), None)
                case [2, str(claimant)]:
                    pass
    return Left(list(held.values()), claimant)


def release_unnoted(broker: Broker, book: LeaseBook) -> int:
    """Give back what the last worker had claimed and not noted, unharmed; return how many.

    Raises `OperationalError` like the broker, and may then be called again.
    """
    if not isinstance(broker, Recalling):
        return 0
    noted = {(one.receipt, one.attempt) for one in book.left}
    unnoted = [
        one for one in broker.recall(book.claimant) if (one.receipt, one.attempt) not in noted
    ]
    released = broker.settle([Requeue(one, Cause.RELEASED) for one in unnoted])
    book.begin(broker.claimant)
    return sum(released)


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
