"""One connection to one server. It is not mended: after any error it is thrown away."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any

import hiredis

from cardoon.clock import SystemClock
from cardoon.endpoints import Endpoint
from cardoon.redis.failures import ConnectionLostError, ServerError

CONNECT_SECONDS = 3.0
"""How long one attempt to reach a server takes at most."""

ANSWER_SECONDS = 5.0
"""How long a server may be silent that owes an answer, before its connection counts as dead."""

_BUFFER_BYTES = 65_536

_REAL_TIME = SystemClock()


Argument = str | bytes | int


def pack(command: Sequence[Argument]) -> bytes:
    """A command as it travels; raises `UnicodeError` for text that cannot be written."""
    packed: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub takes one
    return packed


class Connection:
    """Sends commands and reads answers, in order. Not safe from threads."""

    __slots__ = ("_buffer", "_patience", "_reader", "_socket", "place")

    def __init__(self, socket_: socket.socket, place: str) -> None:
        self.place = place
        """For people: which server this is."""
        self._socket = socket_
        self._patience = socket_.gettimeout()
        self._reader = hiredis.Reader()
        self._buffer = bytearray(_BUFFER_BYTES)

    def send(self, packed: bytes, *, deadline: float) -> None:
        """Send what `pack` made; raises `ConnectionLostError`."""
        try:
            self._wait_at_most(_until(deadline, ANSWER_SECONDS))
            self._socket.sendall(packed)
        except OSError as error:
            raise ConnectionLostError(_say(error)) from error

    def read(self, *, deadline: float, silence: float = ANSWER_SECONDS) -> Any:
        """The next answer; raises `ServerError` for an error, or `ConnectionLostError` after `silence` seconds."""
        try:
            while (answer := self._reader.gets()) is False:
                self._wait_at_most(_until(deadline, silence))
                count = self._socket.recv_into(self._buffer)
                if not count:
                    raise ConnectionLostError("the server closed the connection")
                self._feed(count)
        except (OSError, hiredis.ProtocolError) as error:
            raise ConnectionLostError(_say(error)) from error
        if isinstance(answer, hiredis.ReplyError):
            raise ServerError(answer)
        return answer

    def read_many(self, seconds: float) -> list[Any]:
        """What arrives within some seconds: nothing, or the first and all that came with it."""
        found: list[Any] = []
        try:
            while (answer := self._reader.gets()) is not False:
                found.append(answer)
            if found:
                return found
            self._wait_at_most(max(seconds, 0.001))
            count = self._socket.recv_into(self._buffer)
        except TimeoutError:
            return found
        except (OSError, hiredis.ProtocolError) as error:
            raise ConnectionLostError(_say(error)) from error
        if not count:
            raise ConnectionLostError("the server closed the connection")
        self._feed(count)
        while (answer := self._reader.gets()) is not False:
            found.append(answer)
        return found

    def ask(self, *command: Argument, deadline: float, silence: float = ANSWER_SECONDS) -> Any:
        """Send one command, and read its answer, which may take `silence` seconds to begin."""
        self.send(pack(command), deadline=deadline)
        return self.read(deadline=deadline, silence=silence)

    def close(self) -> None:
        """Let go of the socket; safe twice."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _wait_at_most(self, seconds: float) -> None:
        # Each change is a system call, and while the deadline is far all calls wait equally long.
        if seconds != self._patience:
            self._socket.settimeout(seconds)
            self._patience = seconds

    def _feed(self, count: int) -> None:
        self._reader.feed(self._buffer, 0, count)  # type: ignore[arg-type]  # it takes any buffer


def connect(endpoint: Endpoint, context: ssl.SSLContext | None, *, deadline: float) -> Connection:
    """A connection to a server that answers; raises `ConnectionLostError` or `ServerError`."""
    try:
        raw = _open(endpoint, min(CONNECT_SECONDS, _until(deadline, CONNECT_SECONDS)))
    except OSError as error:
        raise ConnectionLostError(f"{endpoint}: {_say(error)}") from error
    connection = None
    try:
        connection = Connection(_secure(raw, endpoint, context), str(endpoint))
        _introduce(connection, endpoint, deadline)
    except BaseException:
        (raw if connection is None else connection).close()
        raise
    return connection


def _open(endpoint: Endpoint, seconds: float) -> socket.socket:
    if endpoint.socket:
        raw = socket.socket(socket.AF_UNIX)
        try:
            raw.settimeout(seconds)
            raw.connect(endpoint.socket)
        except OSError:
            raw.close()
            raise
        return raw
    raw = socket.create_connection((endpoint.host, endpoint.port), timeout=seconds)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return raw


def _secure(
    raw: socket.socket, endpoint: Endpoint, context: ssl.SSLContext | None
) -> socket.socket:
    if context is None or endpoint.tls is None:
        return raw
    try:
        return context.wrap_socket(raw, server_hostname=endpoint.tls.server_name or endpoint.host)
    except OSError as error:
        raise ConnectionLostError(f"{endpoint}: {_say(error)}") from error


def _introduce(connection: Connection, endpoint: Endpoint, deadline: float) -> None:
    if endpoint.password:
        who = (endpoint.username,) if endpoint.username else ()
        connection.ask("AUTH", *who, endpoint.password, deadline=deadline)
    if endpoint.path not in {"", "0"}:
        connection.ask("SELECT", endpoint.path, deadline=deadline)


def _until(deadline: float, most: float) -> float:
    remaining = deadline - _REAL_TIME.monotonic()
    if remaining <= 0:
        raise ConnectionLostError("the time is up")
    return min(remaining, most)


def _say(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it is silent"
    return str(error) or type(error).__name__
