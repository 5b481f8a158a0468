"""What a RabbitMQ server answers to a stranger, to guest, and to our own user (AMQP 0-9-1)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any

from cardoon.doctor.lines import (
    SECONDS,
    agrees_to_old_tls,
    answer,
    ask_encrypted,
    at_once,
    connected,
    encrypted,
    shown_certificate,
    stranger,
)
from cardoon.endpoints import Endpoint

_HELLO = b"AMQP\x00\x00\x09\x01"
_MANAGEMENT = 15_672
_START, _TUNE, _OPEN_OK, _CLOSE = (10, 10), (10, 30), (10, 41), (10, 50)
_DECLARED = (50, 11)
_MOST_FRAME = 1 << 17
_CHANNELS = 1
"""0 would be no limit, which a server refuses that has one."""
_FOREIGN = "doctor-"

Method = tuple[int, int]


def ask_as_stranger(endpoint: Endpoint) -> dict[str, Any]:
    """Whether it talks without TLS or a password, and who it says it is; raises `OSError`."""
    plain, shown, old = at_once(
        lambda: _greet_plainly(endpoint),
        lambda: ask_encrypted(endpoint, _HELLO),
        lambda: agrees_to_old_tls(endpoint),
    )
    greeting = plain()
    found: dict[str, Any] = {"plaintext": greeting[:1] == b"\x01"}
    if not found["plaintext"]:
        told, greeting = shown()
        found |= {**told, "old_tls": old()}
    found |= _name(greeting)
    if not greeting:  # without a certificate nobody gets as far
        return {**found, "open_to_all": False, "guest": False}
    open_to_all, guest = at_once(
        lambda: b"ANONYMOUS" in greeting and _lets_in(endpoint, "ANONYMOUS", b""),
        lambda: _lets_in(endpoint, "PLAIN", b"\0guest\0guest"),
    )
    return {**found, "open_to_all": open_to_all(), "guest": guest()}


def _greet_plainly(endpoint: Endpoint) -> bytes:
    with connected(endpoint) as line:
        return answer(line, _HELLO)


def _name(greeting: bytes) -> dict[str, str]:
    """Product and version, as the server's first method tells them."""
    return {"product": _read(greeting, "product").lower(), "version": _read(greeting, "version")}


def _read(told: bytes, name: str) -> str:
    """A property of the server: a short name, `S`, and its text."""
    mark = bytes((len(name),)) + name.encode() + b"S"
    at = told.find(mark)
    if at < 0:
        return ""
    start = at + len(mark) + 4
    size = int.from_bytes(told[start - 4 : start], "big")
    text = told[start : start + min(size, 80)].decode("ascii", "replace")
    return re.sub(r"[^\w.+-]", "", text)


def _lets_in(endpoint: Endpoint, mechanism: str, response: bytes) -> bool:
    with contextlib.suppress(OSError, ValueError), _talking(endpoint, stranger()) as talk:
        return talk.begin(mechanism, response) == _TUNE
    return False


def ask_with_account(endpoint: Endpoint, prefix: str) -> dict[str, Any]:
    """Whether our user may make queues that are not ours, and its tags where the management tells them."""
    context = endpoint.tls.context() if endpoint.tls else None
    login = f"\0{endpoint.username or 'guest'}\0{endpoint.password or 'guest'}".encode()
    with _talking(endpoint, context) as talk:
        shown = shown_certificate(talk.line)
        if talk.begin("PLAIN", login) != _TUNE:
            raise OSError("our user is refused")
        may = talk.may_declare(endpoint.path or "/", _FOREIGN + prefix)
    return {
        **_name(talk.greeting),
        **shown,
        "user": endpoint.username or "guest",
        "reaches": ("a queue that does not begin with its prefix",) if may else (),
        "attributes": _find_tags(endpoint),
        "manageable": endpoint.is_local or _answers(endpoint.host, _MANAGEMENT),
    }


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError:
        return False
    return True


def _find_tags(endpoint: Endpoint) -> tuple[str, ...] | None:
    """As the management tells them; None if it was not asked, or says something else.

    None at all where it does not listen: there they open nothing.
    """
    login = base64.b64encode(f"{endpoint.username}:{endpoint.password}".encode()).decode()
    if not endpoint.is_local:
        return None  # the way there is not encrypted
    line = http.client.HTTPConnection(endpoint.host, _MANAGEMENT, timeout=SECONDS)
    try:
        line.request("GET", "/api/whoami", headers={"Authorization": f"Basic {login}"})
        told = json.loads(line.getresponse().read(4096))
        tags = told["tags"]
    except ConnectionRefusedError:
        return ()
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        line.close()
    return tuple(tags.split(",") if isinstance(tags, str) else map(str, tags))


class _Talk:
    """Methods, one by one, each in a frame (AMQP 0-9-1, 4.2)."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.greeting = b""
        """The server's first method: who it says it is."""

    def begin(self, mechanism: str, response: bytes) -> Method:
        """Log in; the method that answers is `_TUNE` if it was taken."""
        self.line.sendall(_HELLO)
        if self.read() != _START:
            raise ValueError("no RabbitMQ answers here")
        # So that a refusal is said, and not only shown by silence.
        wish = _short("authentication_failure_close") + b"t\x01"
        table = _short("capabilities") + b"F" + struct.pack(">I", len(wish)) + wish
        self._send(
            0,
            (10, 11),
            struct.pack(">I", len(table))
            + table
            + _short(mechanism)
            + _long(response)
            + _short("en_US"),
        )
        return self.read()

    def may_declare(self, vhost: str, name: str) -> bool:
        """Whether a queue may be made, which goes away with the connection."""
        self._send(0, (10, 31), struct.pack(">HIH", _CHANNELS, _MOST_FRAME, 0))
        self._send(0, (10, 40), _short(vhost) + b"\0\0")
        if self.read() != _OPEN_OK:
            raise OSError(f"the virtual host {vhost!r} is refused")
        self._send(1, (20, 10), b"\0")
        self.read()
        exclusive_and_deleted = bytes((0b0000_1100,))
        self._send(1, (50, 10), b"\0\0" + _short(name) + exclusive_and_deleted + b"\0\0\0\0")
        found = self.read() == _DECLARED
        with contextlib.suppress(OSError):
            self._send(0, _CLOSE, b"\0\0\0\0\0\0\0")
        return found

    def read(self) -> Method:
        """The next method; heartbeats are passed over."""
        while True:
            kind, _, size = struct.unpack(">BHI", self._exactly(7))
            if size > _MOST_FRAME:
                raise ValueError("a frame that is too large")
            body = self._exactly(size + 1)
            if kind == 1 and size >= 4:
                self.greeting = self.greeting or body
                first, second = struct.unpack(">HH", body[:4])
                return first, second

    def _send(self, channel: int, method: Method, rest: bytes) -> None:
        body = struct.pack(">HH", *method) + rest
        self.line.sendall(struct.pack(">BHI", 1, channel, len(body)) + body + b"\xce")

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self.line.recv(size - len(found))
            if not more:
                raise OSError("the server has hung up")
            found += more
        return found


def _short(text: str) -> bytes:
    raw = text.encode()[:255]
    return bytes((len(raw),)) + raw


def _long(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


@contextlib.contextmanager
def _talking(endpoint: Endpoint, context: ssl.SSLContext | None) -> Iterator[_Talk]:
    """In TLS, where the settings ask for it."""
    with connected(endpoint) as line:
        if endpoint.tls is None:
            yield _Talk(line)
        else:
            assert context is not None
            with encrypted(line, context, endpoint) as wrapped:
                yield _Talk(wrapped)
