"""Terminals: a program behind a pseudo terminal, and what its user sees there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pyte

from tests.e2e.sites import DEADLINE

_SIZE = ("LINES", "COLUMNS")


class Terminal:
    """A program in a terminal of so many lines and columns."""

    def __init__(
        self,
        words: list[str],
        *,
        folder: Path,
        lines: int = 24,
        columns: int = 120,
        **environment: str,
    ) -> None:
        # Readline notes the size of the terminal that the tests were started in there.
        inherited = {name: os.environ[name] for name in os.environ if name not in _SIZE}
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._near, far = pty.openpty()
        self._set_size(lines, columns)
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env={**inherited, "TERM": "linux", "LC_ALL": "C.UTF-8", **environment},
            stdin=far,
            stdout=far,
            stderr=far,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509  # it locks nothing
        )
        os.close(far)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._near, keys.encode())

    def resize(self, lines: int, columns: int) -> None:
        """Change the size of the window."""
        self._screen.resize(lines, columns)
        self._set_size(lines, columns)

    def text(self) -> str:
        """What is on the screen now."""
        self._read(0)
        return "\n".join(line.rstrip() for line in self._screen.display)

    def until_shows(self, *wanted: str) -> str:
        """Wait until all of these are on the screen; returns what is."""
        deadline = time.monotonic() + DEADLINE
        while not all(one in (text := self.text()) for one in wanted):
            assert time.monotonic() < deadline, f"not {wanted!r}, but:\n{text}"
            self._read(0.2)
        return text

    def wait(self) -> int:
        """Wait for the program's end; returns its exit code."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            self._read(0.1)
        return self.process.returncode

    def close(self) -> None:
        """End the program, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._near)

    def _set_size(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self._near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, timeout: float) -> None:
        while select.select([self._near], [], [], timeout)[0]:
            try:
                data = os.read(self._near, 65536)
            except OSError:  # the other side was closed
                return
            self._stream.feed(data)
            timeout = 0


def _take_terminal() -> None:
    """As a shell starts a program in the foreground, whatever the tests themselves ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
