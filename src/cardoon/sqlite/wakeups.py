"""Hints between processes on one host, so that nobody has to poll fast.

Who waits has a datagram socket in the directory beside the database; who commits sends a byte to
each. A hint may be lost and may be false: whoever waits looks again each second, hint or not, and
believes only the database.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import logging
import os
import select
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cardoon.clock import SystemClock

_LOG = logging.getLogger("cardoon.sqlite")

_MAX_ADDRESS_BYTES = 103
"""What `sun_path` holds on every system (104 on macOS and the BSDs, 108 on Linux), less a NUL."""

_NAME_BYTES = 32
"""Room for `/`, the bell, 16 hexadecimal digits and `.sock`."""

_POLL_SECONDS = 0.02
"""How often to look where there are no hints."""

_SETTLED_SECONDS = 0.05
"""A directory changed less than this before it was listed may have changed again within the same
tick of the file system's clock, 1 to 10 ms, so that its time would not show it."""

_REAL_TIME = SystemClock()


class Bell(enum.Enum):
    """What a hint is about."""

    MESSAGES = "q"
    RESULTS = "r"
    POSTS = "p"


class Listener:
    """One waiting caller's ear; polls where the system gives it no socket."""

    def __init__(self, path: Path | None, ear: socket.socket | None) -> None:
        self._path = path
        self._ear = ear

    def drain(self) -> None:
        """Forget hints so far. Look only afterwards, or a hint is lost between the two."""
        if self._ear is not None:
            with contextlib.suppress(OSError):
                while self._ear.recv(1):
                    pass

    def wait(self, seconds: float) -> bool:
        """Return after a hint, or after so many seconds at the latest; whether there was a hint."""
        if self._ear is None:
            time.sleep(min(seconds, _POLL_SECONDS))
            return False
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Stop listening, and leave no trace; safe twice."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptor only, as a child does with what is its parent's."""
        self._path = None
        if self._ear is not None:
            self._ear.close()
            self._ear = None


class Wakeups:
    """The hints of one database. Safe from threads."""

    def __init__(self, directory: Path, *, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._directory = directory
        self._address: str | None = None
        self._lock = threading.Lock()  # guards everything below
        self._spare: dict[Bell, Listener] = {}
        self._open: set[Listener] = set()
        self._voice: socket.socket | None = None
        self._base: int | None = None
        self._listed: tuple[int, bool] = (0, False)
        self._names: list[str] = []
        self._silent = False

    @contextlib.contextmanager
    def listen(self, bell: Bell) -> Iterator[Listener]:
        """A listener of one's own for as long as the context lasts."""
        with self._lock:
            listener = self._spare.pop(bell, None) or self._bind(bell)
        try:
            yield listener
        finally:
            # Making a socket file costs more than many hints, so one is kept for the next caller.
            with self._lock:
                kept = listener in self._open and self._spare.setdefault(bell, listener) is listener
                if not kept:
                    self._open.discard(listener)
                    listener.close()

    def ring(self, bell: Bell) -> None:
        """Tell everyone who waits for this; never fails, never blocks."""
        with self._lock, contextlib.suppress(OSError):
            for name in self._list():
                if name.startswith(bell.value):
                    self._send(name)

    def close(self) -> None:
        """Stop listening; safe twice. Whoever listens at the moment is left to finish."""
        with self._lock:
            for listener in self._spare.values():
                listener.close()
            self._open.clear()
            self._forget()

    def abandon(self) -> None:
        """Close in a forked child what is its parent's, or it looks alive after its death."""
        self._lock = threading.Lock()
        for listener in self._open:
            listener.abandon()
        self._open.clear()
        self._forget()

    def _forget(self) -> None:
        self._spare.clear()
        if self._voice is not None:
            self._voice.close()
            self._voice = None
        if self._base is not None:
            os.close(self._base)
            self._base = None
        self._address = None

    def _bind(self, bell: Bell) -> Listener:
        name = f"{bell.value}-{self._random(8).hex()}.sock"
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            ear.setblocking(False)
            ear.bind(f"{self._prepare()}/{name}")
        except OSError as error:
            ear.close()
            if not self._silent:
                self._silent = True
                _LOG.warning("polling for messages: no socket in %s: %s", self._directory, error)
            return Listener(None, None)
        listener = Listener(self._directory / name, ear)
        self._open.add(listener)
        return listener

    def _send(self, name: str) -> None:
        if self._voice is None:
            self._voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._voice.setblocking(False)
        try:
            self._voice.sendto(b"!", f"{self._prepare()}/{name}")
        except OSError as error:
            # A full buffer holds hints enough. Names are never used twice, so where nobody listens
            # any more nobody ever will.
            if isinstance(error, ConnectionRefusedError):
                with contextlib.suppress(OSError):
                    (self._directory / name).unlink()

    def _list(self) -> list[str]:
        found = self._directory.stat()
        if self._listed != (found.st_mtime_ns, True):
            # Read the clock before the directory: what changes later must show.
            settled = _REAL_TIME.now() - found.st_mtime > _SETTLED_SECONDS
            self._names = [
                path.name for path in self._directory.iterdir() if path.suffix == ".sock"
            ]
            self._listed = (found.st_mtime_ns, settled)
        return self._names

    def _prepare(self) -> str:
        """The directory as a socket address takes it, which is short of room."""
        if self._address is None:
            if len(os.fsencode(self._directory)) + _NAME_BYTES <= _MAX_ADDRESS_BYTES:
                self._address = str(self._directory)
            else:
                self._base = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
                self._address = f"/proc/self/fd/{self._base}"
        return self._address


def choose_directory(beside: Path) -> Path:
    """Where sockets go: beside the database, unless that is too far down for an address.

    Linux reaches any directory by a short name, so there it is always the one beside.
    """
    if sys.platform != "linux" and len(os.fsencode(beside)) + _NAME_BYTES > _MAX_ADDRESS_BYTES:
        return make_short_directory(beside)
    return beside


def make_short_directory(beside: Path) -> Path:
    """A directory in the temporary one, named after the one beside and ours alone, or that one."""
    digest = hashlib.sha256(os.fsencode(beside)).hexdigest()[:16]
    short = Path(tempfile.gettempdir(), f"cardoon-{os.getuid()}-{digest}")
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    # Anyone may have put something there before us.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        return beside
    return short
