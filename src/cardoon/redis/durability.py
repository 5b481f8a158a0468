"""When a send or the end of a loan counts as stored: when the script ran, or not before a disk or replicas have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.redis.connection import Connection

_REAL_TIME = SystemClock()


@dataclass(frozen=True, slots=True)
class Durability:
    """What has to have happened before a call returns."""

    fsync: bool = False
    """The server's own disk has it; needs Redis 7.2."""
    replicas: int = 0
    """So many replicas have it in memory."""

    def ensure(self, connection: Connection, deadline: float) -> None:
        """Wait for it on the connection that wrote; raises `OperationalError` where it does not come."""
        seconds = deadline - _REAL_TIME.monotonic()
        left = max(1, int(seconds * 800))  # in time for the answer to arrive
        if self.fsync:
            local, _ = connection.ask("WAITAOF", 1, 0, left, deadline=deadline, silence=seconds)
            if local < 1:
                raise OperationalError(
                    "redis has it in memory, but its disk has not confirmed it in time; send it again"
                )
        if self.replicas:
            reached = connection.ask(
                "WAIT", self.replicas, left, deadline=deadline, silence=seconds
            )
            if reached < self.replicas:
                raise OperationalError(
                    f"redis has it, but {reached} of {self.replicas} replicas have confirmed it in "
                    "time; send it again"
                )


def parse_durability(transport: Mapping[str, Any]) -> Durability:
    """`durability` of the transport options: "fsync", or a number of replicas."""
    match transport.get("durability"):
        case None | "":
            return Durability()
        case "fsync":
            return Durability(fsync=True)
        case bool() as unknown:
            pass
        case int() as replicas if replicas > 0:
            return Durability(replicas=replicas)
        case str() as text if text.isdecimal() and int(text) > 0:
            return Durability(replicas=int(text))
        case unknown:
            pass
    raise ImproperlyConfigured(
        f"broker_transport_options: unknown durability {unknown!r}; use 'fsync' or a number of "
        "replicas"
    )
