"""A small server of status pages: metrics and health, over HTTP/1.1, for machines that ask.

One thread and no library. It reads a request's head, answers and closes: no bodies, no ranges, nothing kept alive. All
that a stranger can take is bounded: connections, bytes of a head, seconds until it is there and until the answer is
read. So nobody who asks slowly, much or wrongly holds up anything but itself.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import selectors
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cardoon.exceptions import ImproperlyConfigured
from cardoon.status_address import Address

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
"""At a time; the oldest makes room for one more."""
MAX_HEAD = 8192
"""Bytes of a request."""
SECONDS = 5.0
"""From a connection's beginning to its end, whatever it does."""
_READ_BYTES = 4096
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """A page."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class Question(NamedTuple):
    """Who asks for a page."""

    is_trusted: bool
    """Whether it has shown the token, or where none is wanted: whether it came by an address of this machine."""


Page = Callable[[Question], Answer]


def as_json(status: int, told: Mapping[str, Any]) -> Answer:
    """A page of JSON."""
    body = json.dumps(told, ensure_ascii=True, indent=1).encode() + b"\n"
    return Answer(status, body, "application/json")


class _Line:
    """One connection."""

    __slots__ = ("deadline", "inbox", "is_answered", "outbox", "socket")

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.socket = connection
        self.deadline = deadline
        self.inbox = bytearray()
        self.outbox = b""
        self.is_answered = False


class StatusServer:
    """Serves pages from a thread of its own.

    With a `token`, whoever shows it as `Authorization: Bearer ...` is trusted, and nobody else. Without one everybody
    is who can connect: `open` says that this is wanted for an address that other machines reach.
    """

    def __init__(
        self,
        address: Address,
        pages: Mapping[str, Page],
        *,
        token: str = "",
        open: bool = False,  # as one says it of a port
    ) -> None:
        if not address.is_local and not token and not open:
            raise ImproperlyConfigured(
                f"worker_metrics_address: {address} can be reached from other machines, where anybody could read task "
                "names and counts; set worker_metrics_token (env:NAME or file:PATH), listen on 127.0.0.1 or "
                "unix:PATH, or set unsafe_allow_open_metrics=True"
            )
        try:
            self._listener = _listen(address)
        except OSError as error:
            raise ImproperlyConfigured(
                f"worker_metrics_address: {address} cannot be listened on: {error.strerror or error}; use another "
                "port, or unix:PATH"
            ) from error
        self.address = address
        self._pages = pages
        self._token = token.encode()
        self._lines: dict[socket.socket, _Line] = {}
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        if not address.path:
            port = self._listener.getsockname()[1]
            self.address = address._replace(port=port)

    def start(self) -> None:
        """Begin to answer."""
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and let go of the address; safe twice, and before `start`."""
        self._is_stopping = True
        with contextlib.suppress(OSError):
            self._wake_write.send(b"\0")
        if self._thread.is_alive():
            self._thread.join(SECONDS)
        else:
            self._selector.close()
        self._listener.close()
        self._wake_read.close()
        self._wake_write.close()
        if self.address.path:
            with contextlib.suppress(OSError):
                os.unlink(self.address.path)  # noqa: PTH108  # a path from settings, as bind takes it

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                self._turn()
            except Exception:  # the loop must outlive whatever a stranger sends
                logger.exception("status server")
                time.sleep(0.1)
        for line in list(self._lines.values()):
            self._drop(line)
        self._selector.close()

    def _turn(self) -> None:
        now = time.monotonic()
        due = min((line.deadline for line in self._lines.values()), default=now + 60.0)
        for key, _ in self._selector.select(max(0.0, due - now)):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, _Line):
                self._serve(key.data)
        now = time.monotonic()
        for line in [one for one in self._lines.values() if one.deadline <= now]:
            self._drop(line)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            if len(self._lines) >= MAX_CONNECTIONS:
                self._drop(next(iter(self._lines.values())))
            line = _Line(connection, time.monotonic() + SECONDS)
            self._lines[connection] = line
            self._selector.register(connection, selectors.EVENT_READ, line)

    def _serve(self, line: _Line) -> None:
        if line.socket not in self._lines:  # dropped to make room, in this turn
            return
        try:
            if line.is_answered:
                self._send(line)
            else:
                self._receive(line)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._drop(line)

    def _receive(self, line: _Line) -> None:
        received = line.socket.recv(_READ_BYTES)
        if not received:
            self._drop(line)
            return
        line.inbox += received
        end = line.inbox.find(b"\r\n\r\n")
        if end < 0 and len(line.inbox) < MAX_HEAD:
            return
        if end < 0 or end > MAX_HEAD:
            answer, is_head = Answer(431, b"the request is too large\n"), False
        else:
            answer, is_head = self._answer(bytes(line.inbox[:end]))
        line.inbox.clear()
        line.outbox = _packed(answer, is_head=is_head)
        line.is_answered = True
        self._selector.modify(line.socket, selectors.EVENT_WRITE, line)
        self._send(line)

    def _send(self, line: _Line) -> None:
        sent = line.socket.send(line.outbox)
        line.outbox = line.outbox[sent:]
        if not line.outbox:
            with contextlib.suppress(OSError):
                line.socket.shutdown(socket.SHUT_WR)
            self._drop(line)

    def _drop(self, line: _Line) -> None:
        self._lines.pop(line.socket, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(line.socket)
        line.socket.close()

    def _answer(self, head: bytes) -> tuple[Answer, bool]:
        """The page that a request asks for, and whether only its head is wanted."""
        first, _, rest = head.decode("latin-1").partition("\r\n")
        parts = first.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return Answer(400, b"not an HTTP request\n"), False
        method, target, _ = parts
        fields = _fields(rest)
        if fields is None:
            return Answer(400, b"malformed header\n"), False
        if method not in {"GET", "HEAD"}:
            return Answer(405, b"only GET and HEAD\n"), False
        is_head = method == "HEAD"
        if not self._is_meant(fields):
            return Answer(421, b"not the name of this server\n"), is_head
        page = self._pages.get(target.partition("?")[0])
        if page is None:
            return Answer(404, b"no such page\n"), is_head
        try:
            return page(Question(self._is_trusted(fields))), is_head
        except Exception:  # a page is the worker's own; what went wrong is for its log alone
            logger.exception("status page %s", target[:100])
            return Answer(500, b"internal error\n"), is_head

    def _is_meant(self, fields: Mapping[str, str]) -> bool:
        """Whether it was meant for us: a page in a browser can have a name of its own resolve to 127.0.0.1."""
        if self.address.path or not self.address.is_local or "host" not in fields:
            return True
        host = fields["host"]
        name = host[: host.rfind("]") + 1] if host.startswith("[") else host.partition(":")[0]
        name = name.removeprefix("[").removesuffix("]")
        return name in {"localhost", self.address.host} or Address(name, 0).is_local

    def _is_trusted(self, fields: Mapping[str, str]) -> bool:
        if not self._token:
            return True
        kind, _, shown = fields.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(shown.strip().encode("latin-1"), self._token)
        return kind.lower() == "bearer" and matches


def trusted_only(page: Page) -> Page:
    """The page for those who are trusted; others are told to show a token."""

    def guarded(question: Question) -> Answer:
        if not question.is_trusted:
            return Answer(401, b"show the token: Authorization: Bearer ...\n")
        return page(question)

    return guarded


def _listen(address: Address) -> socket.socket:
    if address.path:
        return _listen_unix(address.path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(MAX_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _listen_unix(path: str) -> socket.socket:
    """A socket that only its owner can use; one that a dead process left is taken away."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_served(path):
            os.unlink(path)  # noqa: PTH108
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.fchmod(
            listener.fileno(), 0o600
        )  # before it has a name, so there is no moment in between
        listener.bind(path)
        os.chmod(path, 0o600)  # noqa: PTH101
        listener.listen(MAX_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


def _fields(text: str) -> dict[str, str] | None:
    """The header's fields by small name; None if a line is none, or if one is there twice that must not be."""
    fields: dict[str, str] = {}
    for line in text.split("\r\n") if text else ():
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or "\n" in line or "\0" in line:
            return None
        small = name.lower()
        if small in fields and small in {"host", "authorization", "content-length"}:
            return None
        fields[small] = value.strip()
    return fields


def _packed(answer: Answer, *, is_head: bool) -> bytes:
    status = f"{answer.status} {_REASONS.get(answer.status, 'Status')}"
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    ]
    if answer.status == 401:
        head.append('WWW-Authenticate: Bearer realm="cardoon"')
    return "\r\n".join([*head, "", ""]).encode() + (b"" if is_head else answer.body)
