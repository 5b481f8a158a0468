"""Where the process is that signs: behind a socket, or a program that is run here.

    unix:/run/cardoon/signer.sock       somebody runs it, such as `cardoon signer`
    exec:/usr/local/bin/sign --slot 3   run for each process that signs; it reads requests from its
                                        standard input and writes answers to its standard output

Nothing is checked of who answers on the socket: an answer is a signature, and it is verified.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple, Protocol

from cardoon.exceptions import ImproperlyConfigured
from cardoon.security import files

_SOCKET, _PROGRAM, _TOKEN = "unix:", "exec:", "pkcs11:"


class Line(NamedTuple):
    """A connection to what signs."""

    end: socket.socket
    process: subprocess.Popen[bytes] | None = None
    """The program that was run for it."""


class Place(Protocol):
    """What can be connected to. Its text, which has no secrets, names it in errors."""

    def connect(self, timeout: float) -> Line:
        """Connect; `OSError` or `SecurityError` where that is not possible."""
        ...


def find_place(key: str) -> Place | None:
    """Where `security_key` says that the key is; None for a file."""
    if key.startswith(_SOCKET):
        return _Socket(_whole(key, key.removeprefix(_SOCKET)))
    if key.startswith(_PROGRAM):
        try:
            words = shlex.split(key.removeprefix(_PROGRAM))
        except ValueError as error:
            raise ImproperlyConfigured(f"security_key: {_PROGRAM} {error}; close it") from error
        return _Program(_whole(key, words[0] if words else ""), tuple(words[1:]))
    if key.startswith(_TOKEN):
        raise ImproperlyConfigured(
            "security_key: tokens are used by a process of their own; run `cardoon signer --key "
            "pkcs11:...`, and give the path of its socket here, as unix:PATH"
        )
    return None


def _whole(key: str, path: str) -> Path:
    if not path.startswith("/"):
        kind = key.partition(":")[0]
        raise ImproperlyConfigured(f"security_key: {kind}:{path!r}; give a path from / on")
    return Path(path)


class _Socket(NamedTuple):
    path: Path

    def __str__(self) -> str:
        return f"{_SOCKET}{self.path}"

    def connect(self, timeout: float) -> Line:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.settimeout(timeout)
            end.connect(str(self.path))
        except BaseException:
            end.close()
            raise
        return Line(end)


class _Program(NamedTuple):
    path: Path
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{_PROGRAM}{self.path}"

    def connect(self, timeout: float) -> Line:  # noqa: ARG002  # to start it takes no time worth a bound
        files.check_program(self.path)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                # A session of its own, so that Ctrl-C ends us first, who may still have to sign.
                process = subprocess.Popen(
                    [str(self.path), *self.arguments],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return Line(ours, process)
