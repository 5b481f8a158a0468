"""What a Redis server answers to a stranger, and to our own user."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from cardoon.doctor.lines import (
    agrees_to_old_tls,
    answer,
    ask_encrypted,
    at_once,
    connected,
    encrypted,
    shown_certificate,
)
from cardoon.endpoints import Endpoint

_PING = b"PING\r\n"
_COMMANDS = (
    ("CONFIG", "GET", "maxmemory-policy"),
    ("MODULE", "LIST"),
    ("ACL", "USERS"),
    ("SLOWLOG", "LEN"),
    ("LATENCY", "LATEST"),
)
"""Of @admin and @dangerous, those that change nothing."""
_FOREIGN = "a-key-that-is-not-of-"


def ask_as_stranger(endpoint: Endpoint) -> dict[str, Any]:
    """Whether it talks without TLS, without a password, without a certificate; raises `OSError`."""
    plain, shown, old = at_once(
        lambda: _ask_plainly(endpoint),
        lambda: _ask_encrypted(endpoint),
        lambda: agrees_to_old_tls(endpoint),
    )
    return plain() or {"plaintext": False, **shown(), "old_tls": old()}


def _ask_plainly(endpoint: Endpoint) -> dict[str, Any]:
    """Nothing where it speaks TLS alone."""
    with connected(endpoint) as line:
        told = answer(line, _PING)
    if told[:1] not in {b"+", b"-"}:
        return {}
    return {"plaintext": True, "open_to_all": told.startswith(b"+PONG")}


def _ask_encrypted(endpoint: Endpoint) -> dict[str, Any]:
    found, told = ask_encrypted(endpoint, _PING)
    return {**found, "open_to_all": told.startswith(b"+PONG")}


def ask_with_account(endpoint: Endpoint, prefix: str) -> dict[str, Any]:
    """What our user may do beyond its work, and what the server says of itself; raises `OSError`."""
    with _logged_in(endpoint) as talk:
        told = talk.ask("INFO")
        if not isinstance(told, bytes):
            raise OSError(f"INFO: {told}")
        lines = (line.partition(":") for line in told.decode("utf-8", "replace").splitlines())
        info = {name: value for name, _, value in lines}
        product = info.get("server_name", "redis")
        return {
            **shown_certificate(talk.line),
            "user": endpoint.username or "default",
            "product": product,
            "version": info.get(f"{product}_version", info.get("redis_version", "")),
            "eviction": info.get("maxmemory_policy", ""),
            "persistent": info["aof_enabled"] == "1" if "aof_enabled" in info else None,
            "may": tuple(" ".join(words) for words in _COMMANDS if talk.may(*words)),
            "reaches": ("keys that do not begin with its prefix",)
            if talk.may("EXISTS", _FOREIGN + prefix)
            else (),
        }


class _Talk:
    """Commands and answers."""

    def __init__(self, line: socket.socket) -> None:
        import hiredis  # noqa: PLC0415 - an extra

        self.line = line
        self._reader = hiredis.Reader()
        self._pack = hiredis.pack_command

    def ask(self, *words: str) -> Any:
        """The answer to one command; of a refusal, the error itself."""
        self.line.sendall(self._pack(words))  # type: ignore[arg-type]  # its stub takes one
        while (told := self._reader.gets()) is False:
            more = self.line.recv(65_536)
            if not more:
                raise OSError("the server has hung up")
            self._reader.feed(more)
        return told

    def may(self, *words: str) -> bool:
        """Whether the server carries out a command."""
        return not isinstance(self.ask(*words), Exception)


@contextlib.contextmanager
def _logged_in(endpoint: Endpoint) -> Iterator[_Talk]:
    with contextlib.ExitStack() as stack:
        line: socket.socket = stack.enter_context(connected(endpoint))
        if endpoint.tls is not None:
            line = stack.enter_context(encrypted(line, endpoint.tls.context(), endpoint))
        talk = _Talk(line)
        if endpoint.password:
            user = (endpoint.username,) if endpoint.username else ()
            told = talk.ask("AUTH", *user, endpoint.password)
            if isinstance(told, Exception):
                raise OSError(f"our user is refused: {str(told).partition(' ')[0]}")
        yield talk
