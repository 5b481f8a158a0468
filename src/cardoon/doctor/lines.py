"""Lines to servers: raw sockets that say a few bytes, as somebody without an account would. Bounded in time."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cardoon.endpoints import Endpoint

SECONDS = 1.0
"""For each connection, and for each answer."""
_CIPHERS = bytes.fromhex("c013c014c009c00a002f0035")
"""Of TLS 1.1: what any server that still knows it would take."""


def at_once(*asks: Callable[[], Any]) -> list[Callable[[], Any]]:
    """What each of them answers, all asked at the same time: a silent server costs its second once.

    Each answer is called for, and raises what asking has raised: not all of them are wanted of every server.
    """
    with ThreadPoolExecutor(len(asks), thread_name_prefix="doctor-line") as pool:
        return [one.result for one in [pool.submit(one) for one in asks]]


@contextlib.contextmanager
def connected(endpoint: Endpoint) -> Iterator[socket.socket]:
    """A connection to a server; raises `OSError`."""
    if endpoint.socket:
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(SECONDS)
        path = endpoint.socket
        if endpoint.kind == "postgresql":
            path = f"{path}/.s.PGSQL.{endpoint.port}"
        try:
            line.connect(path)
        except OSError:
            line.close()
            raise
    else:
        line = socket.create_connection((endpoint.host, endpoint.port), SECONDS)
    with line:
        yield line


@contextlib.contextmanager
def encrypted(
    line: socket.socket, context: ssl.SSLContext, endpoint: Endpoint
) -> Iterator[ssl.SSLSocket]:
    """The same connection with TLS; raises `OSError`."""
    name = endpoint.tls.server_name if endpoint.tls and endpoint.tls.server_name else endpoint.host
    with context.wrap_socket(line, server_hostname=name) as wrapped:
        yield wrapped


def stranger() -> ssl.SSLContext:
    """TLS of somebody who shows no certificate and looks at none: to see what a server gives away.

    Nothing that is secret is sent through it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown_certificate(line: socket.socket) -> dict[str, bytes]:
    """What the server has shown to us, in DER; with TLS 1.2 one that wants a certificate may show a stranger none."""
    found = line.getpeercert(binary_form=True) if isinstance(line, ssl.SSLSocket) else None
    return {"certificate": found} if found else {}


def answer(line: socket.socket, said: bytes, *, most: int = 4096) -> bytes:
    """The first bytes that come back; empty where there is nothing, be it silence or the end."""
    try:
        line.sendall(said)
        return line.recv(most)
    except OSError:
        return b""


def ask_encrypted(endpoint: Endpoint, said: bytes) -> tuple[dict[str, Any], bytes]:
    """What a server shows to a stranger who shows no certificate, and what it answers; raises `OSError`.

    Where it demands one, or speaks no TLS, nothing is answered.
    """
    found: dict[str, Any] = {"demands_certificate": True}
    told = b""
    with (
        contextlib.suppress(ssl.SSLError),
        connected(endpoint) as line,
        encrypted(line, stranger(), endpoint) as wrapped,
    ):
        found["certificate"] = wrapped.getpeercert(binary_form=True) or b""
        # With TLS 1.3 a server that demands a certificate says so with the first answer.
        told = answer(wrapped, said)
        found["demands_certificate"] = not told
    return found, told


def agrees_to_old_tls(endpoint: Endpoint, *, before: bytes = b"") -> bool:
    """Whether a server goes on with who offers TLS 1.1 and no more (RFC 4346, 7.4.1.2).

    `before` is what asks for TLS, where that has to be asked for; its answer is one byte. Raises `OSError`.

    The bytes are ours, since OpenSSL may be built without it, and would then find nothing.
    """
    groups = bytes.fromhex("000a00080006001700180019") + bytes.fromhex("000b00020100")
    body = b"".join(
        (
            b"\x03\x02",
            os.urandom(32),
            b"\x00",
            len(_CIPHERS).to_bytes(2, "big"),
            _CIPHERS,
            b"\x01\x00",
            len(groups).to_bytes(2, "big"),
            groups,
        )
    )
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    with connected(endpoint) as line:
        if before:
            answer(line, before, most=1)
        told = answer(line, b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello)
    return told[:1] == b"\x16" and told[9:11] == b"\x03\x02"
