"""What a service tells systemd: that it is ready, what it does, and that it still makes progress.

The protocol of sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Without that variable nothing is
told, so whoever uses this need not ask whether systemd is there. Nothing here raises.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)

VARIABLES = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""What says where to tell it. Not for processes that run tasks: these could tell of progress that there is not."""
_MAX_STATUS = 200
"""Characters of a status line."""


class Notifier:
    """Tells the service manager. Safe from threads."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ)
        """Within how many seconds `alive` must be called again; None where nobody waits for it."""
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The service has begun, or has read its settings again."""
        self._tell("READY=1", _status(status))

    def status(self, text: str) -> None:
        """One line for people, in `systemctl status`."""
        self._tell(_status(text))

    def alive(self) -> None:
        """It makes progress. Only to be called when that is known."""
        self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """It reads its settings again; `ready` says when that is over."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """It ends."""
        self._tell("STOPPING=1", _status(status))

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes so many seconds more, from now on."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def close(self) -> None:
        """Let go of the socket; safe twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str) -> None:
        told, address = self._socket, self._address
        if told is None or address is None:
            return
        try:
            told.sendto("\n".join(filter(None, lines)).encode(), address)
        except OSError as error:  # a manager that does not listen must not stop the work
            logger.debug("sd_notify: %s", error)


def _address(name: str) -> str | None:
    """The socket's address: a path, or an abstract name behind `@`; other kinds are not supported."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """`WATCHDOG_USEC`, if it is meant for this process."""
    try:
        micros, pid = int(environ.get("WATCHDOG_USEC", "0")), environ.get("WATCHDOG_PID", "")
        if micros <= 0 or (pid and int(pid) != os.getpid()):
            return None
    except ValueError:
        return None
    return micros / 1e6


def _status(text: str) -> str:
    line = " ".join(text[:_MAX_STATUS].split())
    return f"STATUS={line}" if line else ""
