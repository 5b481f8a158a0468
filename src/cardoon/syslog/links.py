"""The way to one server: a connection over TCP or TLS, or datagrams; none of them blocks.

A link never waits by itself: it asks the `wait` that it was given, which goes on serving the queue.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cardoon.syslog_target import Target

CONNECT_SECONDS = 10.0
"""Until a server has answered, each of its addresses anew, and once more for the handshake of TLS."""
SILENCE_MILLISECONDS = 60_000
"""What was sent and nobody has acknowledged for so long ends a connection (TCP_USER_TIMEOUT)."""
SEND_BUFFER = 256 << 10
"""Bytes that lie in the kernel, at most: what lies here is sent again if the connection breaks."""
VERDICT_SECONDS = 0.25
"""In which a server says that it does not take our certificate, before a connection ends."""
MOST_READ = 65_536

Wait = Callable[[socket.socket, bool, float | None], None]
"""Waits until a socket can be read (False) or also written (True), for so many seconds; or raises `TimeoutError`."""


class PeerClosedError(ConnectionError):
    """The server has ended the connection in order, having read all that had come."""


class Link(Protocol):
    """A way to a server. Every method raises `OSError` if the way is gone."""

    def open(self) -> None:
        """Connect."""
        ...

    def send(self, messages: Sequence[bytes]) -> None:
        """Hand all of these to the kernel."""
        ...

    def check(self) -> None:
        """Raise if the server has gone; take what it has sent, which means nothing."""
        ...

    def end(self) -> None:
        """Say that nothing more comes, and wait until the server has read all and hangs up."""
        ...

    def close(self) -> None:
        """Let go of the way; safe twice."""
        ...

    @property
    def watched(self) -> socket.socket | None:
        """What to watch while nothing is sent; None for nothing."""
        ...


class DatagramLink:
    """UDP (RFC 5426) or a local socket: one way, so that nothing that comes back is ever looked at."""

    def __init__(self, target: Target, *, wait: Wait) -> None:
        self._target = target
        self._wait = wait
        self._socket: socket.socket | None = None
        self._address: Any = target.path

    @property
    def watched(self) -> socket.socket | None:
        """Nothing: nobody answers."""
        return None

    def open(self) -> None:
        """Make a socket. One of UDP is not connected, so that no answer of the network is heard."""
        family: int = socket.AF_UNIX
        if not self._target.path:
            where = self._target.host, self._target.port
            family, _, _, _, self._address = _look_up(*where, socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        if self._target.path:
            self._socket.connect(self._target.path)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each in a datagram of its own; one that the network does not take is cut in half."""
        for message in messages:
            self._send(message)

    def _send(self, message: bytes) -> None:
        assert self._socket is not None
        while True:
            try:
                if self._target.path:
                    self._socket.send(message)
                else:
                    self._socket.sendto(message, self._address)
            except BlockingIOError:
                self._wait(self._socket, True, None)
            except OSError as error:
                if error.errno != errno.EMSGSIZE or len(message) < 100:
                    raise
                message = message[: len(message) // 2].decode(errors="ignore").encode()
            else:
                return

    def check(self) -> None:
        """A local socket that is gone is noticed when something is sent."""

    def end(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class StreamLink:
    """TCP with octets counted (RFC 6587, 3.4.1), or TLS over it (RFC 5425)."""

    def __init__(
        self, target: Target, *, wait: Wait, context: ssl.SSLContext | None, server_name: str = ""
    ) -> None:
        self._target = target
        self._wait = wait
        self._context = context
        self._server_name = server_name or target.host
        self._socket: socket.socket | None = None

    @property
    def watched(self) -> socket.socket | None:
        """The connection, which can be read when the server hangs up."""
        return self._socket

    def open(self) -> None:
        """Connect to the first of the host's addresses that answers, and shake hands."""
        self.close()
        last: OSError = ConnectionError(f"{self._target.host} has no address")
        where = self._target.host, self._target.port
        for family, kind, number, _, address in _look_up(*where, socket.SOCK_STREAM):
            self._socket = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
            try:
                self._connect(self._socket, address)
            except OSError as error:
                last = error
                self.close()
            else:
                return
        raise last

    def send(self, messages: Sequence[bytes]) -> None:
        """Hand all of these to the kernel, each with the count of its octets before it."""
        rest = memoryview(b"".join(b"%d %b" % (len(one), one) for one in messages))
        while rest:
            self.check()
            assert self._socket is not None
            try:
                sent = self._socket.send(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(self._socket, True, None)
            except ssl.SSLWantReadError:
                self._wait(self._socket, False, None)
            else:
                rest = rest[sent:]

    def check(self) -> None:
        """Raise if the server has gone. Tickets of TLS 1.3 are read here: unread, they would reset the end."""
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not self._socket.recv(MOST_READ):
                raise PeerClosedError("the server has closed the connection")

    def end(self) -> None:
        """Say that nothing more comes, and wait until the server has read all and hangs up."""
        if self._socket is None:
            return
        if isinstance(self._socket, ssl.SSLSocket):
            self._end_tls(self._socket)
            return
        self._socket.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not self._socket.recv(MOST_READ):
                    return
            except BlockingIOError:
                self._wait(self._socket, False, None)

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self, plain: socket.socket, address: object) -> None:
        plain.setblocking(False)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)
        code = plain.connect_ex(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        if code == errno.EINPROGRESS:
            self._wait(plain, True, CONNECT_SECONDS)
            code = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        if self._context is not None:
            self._socket = self._shake_hands(plain, self._context)

    def _shake_hands(self, plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        secure = context.wrap_socket(
            plain, server_hostname=self._server_name, do_handshake_on_connect=False
        )
        self._socket = secure
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                self._wait(secure, False, CONNECT_SECONDS)
            except ssl.SSLWantWriteError:
                self._wait(secure, True, CONNECT_SECONDS)
            else:
                return secure

    def _end_tls(self, secure: ssl.SSLSocket) -> None:
        """As `end`, by close_notify."""
        # In TLS 1.3 a server says after our handshake whether it takes our certificate, and OpenSSL's
        # shutdown keeps silent about what comes during it. So it is given a moment to say so.
        with contextlib.suppress(TimeoutError):
            self._wait(secure, False, VERDICT_SECONDS)
        self.check()
        is_said = False
        while True:
            try:
                if is_said and not secure.recv(MOST_READ):
                    return
                if not is_said:
                    secure.unwrap()
                    return
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return  # it hangs up, with a word of its own or without one
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                if not is_said:
                    is_said = True
                    socket.socket.shutdown(secure, socket.SHUT_WR)  # its own would forget TLS
                self._wait(secure, False, None)


def _look_up(host: str, port: int, kind: socket.SocketKind) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=kind)
    except UnicodeError as error:  # a label of over 63 characters
        raise ConnectionError(f"{host} is no name of a host") from error
