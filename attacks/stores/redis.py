"""Plain commands to the server of the redis drivers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from cardoon.endpoints import Endpoint
from cardoon.redis import connection

_PREFIX = "{cardoon}:"
_SECONDS = 20.0
_LEVEL = 281474976710656
_FOR_LONG = 86_400.0


class RedisStore:
    """The server, to somebody who knows its password."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        endpoint = Endpoint(
            kind="redis",
            host=parts.hostname,
            port=parts.port,
            username=parts.username or "",
            password=parts.password or "",
            path=parts.path.strip("/") or "0",
        )
        self._connection = connection.connect(endpoint, None, deadline=time.monotonic() + _SECONDS)

    def ask(self, *words: Any) -> Any:
        """Any command; the first key, or each word that begins with a dot, is below the prefix."""
        told = [
            _PREFIX + word[1:] if isinstance(word, str) and word.startswith(".") else word
            for word in words
        ]
        return self._connection.ask(*told, deadline=time.monotonic() + _SECONDS)

    def offer(self, id: str, frame: bytes, *, queue: str, priority: int = 0) -> None:
        """See `Store`."""
        self.offer_fields(id, frame, queue=queue, priority=priority)

    def offer_fields(
        self, id: str | bytes, frame: bytes | None, *, queue: str = "celery", **fields: Any
    ) -> None:
        """A message, with any values in its fields."""
        number = int(self.ask("INCR", ".last"))
        told = {"id": id, "queue": queue, "priority": 0, "due": repr(time.time())} | fields
        if "queue_field" in told:  # another one than that in which it lies
            told["queue"] = told.pop("queue_field")
        flat = [part for name, value in told.items() for part in (name, value)]
        self.ask("HSET", f".m:{number}", *flat)
        if frame is not None:
            self.ask("SET", f".f:{number}", frame)
        self.ask("HSET", ".ids", id, number)
        self.ask("SADD", ".used", queue)
        self.ask("ZADD", f".ready:{queue}", str(9 * _LEVEL + number), number)
        self.ask("LPUSH", f".bell:{queue}", "")

    def waiting(self, id: str) -> bytes | None:
        """See `Store`."""
        number = self.ask("HGET", ".ids", id)
        found: bytes | None = number and self.ask("GET", f".f:{int(number)}")
        return found

    def alter(self, id: str, frame: bytes) -> None:
        """See `Store`."""
        self.ask("SET", f".f:{self._number(id)}", frame)

    def remove(self, id: str) -> None:
        """See `Store`."""
        number = self.ask("HGET", ".ids", id)
        if number is not None:
            self.ask("DEL", f".m:{int(number)}", f".f:{int(number)}")
            self.ask("HDEL", ".ids", id)

    def result(self, id: str) -> bytes | None:
        """See `Answers`."""
        found = self.ask("GET", f".result:{id}")
        return None if found is None else found.partition(b"\n")[2]

    def lay_result(self, id: str, frame: bytes) -> None:
        """See `Answers`."""
        value = f"1{time.time() + _FOR_LONG!r}\n".encode() + frame
        self.ask("SET", f".result:{id}", value)
        self.ask("PUBLISH", f".done:{id}", value)
        self.ask("PUBLISH", ".done", id)

    def command(self, frame: bytes) -> None:
        """See `Answers`."""
        number = int(self.ask("INCR", ".last"))
        until = repr(time.time() + _FOR_LONG)
        self.ask("SET", f".broadcast:{number}", until.encode() + b" " + frame)
        self.ask("ZADD", ".broadcasts", number, number)

    def inputs(self, id: str) -> list[tuple[str, bytes]]:
        """See `Answers`."""
        unpack = "return cmsgpack.unpack(redis.call('GET', KEYS[1]))"
        flat = self.ask("EVAL", unpack, 1, f".after:{self._number(id)}")
        return [
            (name.decode(), request) for name, request in zip(flat[::2], flat[1::2], strict=True)
        ]

    def set_inputs(self, id: str, inputs: Sequence[tuple[str, bytes]]) -> None:
        """See `Answers`."""
        number = self._number(id)
        pack = "redis.call('SET', KEYS[1], cmsgpack.pack(ARGV))"
        flat = [part for pair in inputs for part in pair]
        self.ask("EVAL", pack, 1, f".after:{number}", *flat)
        self.ask("HSET", f".m:{number}", "waits", len(inputs))

    def lay_outcome(self, predecessor: str, frame: bytes) -> None:
        """See `Answers`."""
        self.ask("SET", f".outcome:{predecessor}", b"S" + frame)

    def close(self) -> None:
        """See `Store`."""
        self._connection.close()

    def _number(self, id: str) -> int:
        return int(self.ask("HGET", ".ids", id))
