"""Lets the processes of some users ask an agent, over a socket in the file system.

One thread for all: a signature takes microseconds, and whoever is slow to ask or to listen keeps nobody
waiting. The kernel says whose a connection is; strangers are hung up on before they have said anything.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.security import files
from cardoon.signers.exchange import LENGTH, MAX_REQUEST, Status

MAX_CONNECTIONS = 512
"""One for each process that sends; beyond that somebody is at fault, and the newest are hung up on."""
_RECEIVE = 64 * 1024
_CREDENTIALS = struct.Struct("3i")
"""Process, user, group (unix(7), SO_PEERCRED)."""


class Refused(Exception):  # noqa: N818  # not an error of ours
    """A connection that is worth nothing more."""


class Server:
    """Listens at `path`, and answers with `answer` what processes of `users` (numbers) ask.

    `on_refusal` is told of connections that were hung up on, and why. `SecurityError` if the folder is
    open to others.
    """

    def __init__(
        self,
        path: Path,
        answer: Callable[[bytes], bytes],
        *,
        users: Collection[int],
        on_refusal: Callable[[str], None],
    ) -> None:
        self.path = path
        self._answer = answer
        self._users = frozenset(users)
        self._on_refusal = on_refusal
        self._listener = _listen(path, shared=self._users != {os.geteuid()})
        self._selector = selectors.DefaultSelector()
        self._waking, self._waker = socket.socketpair()
        for each in (self._waking, self._waker):
            each.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waking, selectors.EVENT_READ)
        self._heard: dict[socket.socket, bytearray] = {}
        self._stopping = False

    def run(self) -> None:
        """Answer until `stop`; then hang up, and take the socket away."""
        try:
            while not self._stopping:
                for key, _ in self._selector.select():
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    if end is self._listener:
                        self._accept()
                    elif end is not self._waking:
                        self._listen_to(end)
        finally:
            self._close()

    def stop(self) -> None:
        """Have `run` end; for other threads and signals."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:  # it has hung up again, or we have no file left for it
            return
        user = _user_of(end)
        if user is not None and user not in self._users:
            end.close()
            self._on_refusal(f"user {user} may not have anything signed; see --allow")
        elif len(self._heard) >= MAX_CONNECTIONS:
            end.close()
            self._on_refusal(f"more than {MAX_CONNECTIONS} connections")
        else:
            end.setblocking(False)
            self._heard[end] = bytearray()
            self._selector.register(end, selectors.EVENT_READ)

    def _listen_to(self, end: socket.socket) -> None:
        try:
            more = end.recv(_RECEIVE)
            if more:
                self._heard[end] += more
                self._serve(end, self._heard[end])
            else:
                self._hang_up(end)
        except OSError:
            self._hang_up(end)
        except Refused as error:
            self._hang_up(end)
            self._on_refusal(str(error))

    def _serve(self, end: socket.socket, heard: bytearray) -> None:
        while (request := _take(heard)) is not None:
            answer = self._answer(request)
            # It asks one thing at a time, so there is room for the answer, or it does not listen.
            if end.send(answer) != len(answer):
                raise Refused("it does not listen to its answers")
            if answer[LENGTH.size] == Status.REFUSED:
                raise Refused(answer[LENGTH.size + 1 :].decode(errors="replace"))

    def _hang_up(self, end: socket.socket) -> None:
        del self._heard[end]
        self._selector.unregister(end)
        end.close()

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        for end in list(self._heard):
            self._hang_up(end)
        self._selector.close()
        for each in (self._listener, self._waking, self._waker):
            each.close()


def _take(heard: bytearray) -> bytes | None:
    """The first request, if it has come whole."""
    if len(heard) < LENGTH.size:
        return None
    [length] = LENGTH.unpack_from(heard)
    if length > MAX_REQUEST:
        raise Refused(f"a request of {length} bytes; at most {MAX_REQUEST}")
    end = LENGTH.size + length
    if len(heard) < end:
        return None
    request = bytes(heard[LENGTH.size : end])
    del heard[:end]
    return request


def _listen(path: Path, *, shared: bool) -> socket.socket:
    """Listen; the socket appears when it has its mode, in place of one that nobody answers at."""
    if shared and sys.platform != "linux":
        raise ImproperlyConfigured("--allow: only Linux tells whose a connection is; leave it out")
    files.check_directory(path.parent)
    if _is_answered(path):
        raise ImproperlyConfigured(f"{path}: another agent answers there; stop it, or name another")
    new = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            listener.bind(str(new))
        finally:
            os.umask(before)
        listener.listen(MAX_CONNECTIONS)
        listener.setblocking(False)
        # Whoever connects is asked for, so the mode is no more than a first door.
        new.chmod(0o666 if shared else 0o600)
        new.replace(path)
    except OSError as error:
        listener.close()
        new.unlink(missing_ok=True)
        raise SecurityError(f"{path}: cannot listen there: {error.strerror or error}") from error
    return listener


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1.0)
        try:
            trial.connect(str(path))
        except OSError:
            return False
    return True


def _user_of(end: socket.socket) -> int | None:
    """Whose process is at the other end; None where nobody tells, and the mode is all."""
    if sys.platform != "linux":
        return None
    found = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(found)[1]
    return user
