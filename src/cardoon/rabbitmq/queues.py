"""How queues are named and declared on the server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from cardoon.exceptions import ImproperlyConfigured

LEVELS = range(9, -1, -1)
"""Priorities, the most urgent first. Quorum queues of this age know none, so each used one has a queue."""

MAX_NAME_BYTES = 255
"""AMQP's own limit."""

DELIVERY_LIMIT = 2**31 - 1
"""How often the server delivers a message before it drops it: so often that it never does. Some versions
have a limit of 20 unless another is said, and a lost connection counts. What becomes of a task that ends
its workers is the companion's business, which counts them."""


class Place(NamedTuple):
    """One queue of the server: those messages of a queue of ours that have one priority."""

    queue: str
    level: int


class Names:
    """Names on the server under a prefix, so that nobody else's queues are ever mixed with ours."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    @property
    def levels(self) -> str:
        """The exchange over which it is told which priorities are used."""
        return f"{self._prefix}.levels"

    @property
    def ear(self) -> str:
        """The name of a queue in which one process hears that."""
        return f"{self._prefix}.levels.{uuid.uuid4().hex}"

    def of(self, place: Place) -> str:
        """The name of one queue on the server; raises `ImproperlyConfigured` for one that is too long."""
        # The priority comes first, so that no two places have one name.
        return self._bounded(f"{self._prefix}.{place.level}.{place.queue}", place.queue)

    def reply(self, address: str) -> str:
        """The name of a queue of results; whatever the address is, it is the name of nothing else."""
        return self._bounded(f"{self._prefix}.reply.{address}", address)

    def _bounded(self, name: str, part: str) -> str:
        if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            raise ImproperlyConfigured(
                f"queue {part[:40]!r}...: its name on RabbitMQ is longer than {MAX_NAME_BYTES} "
                "bytes; use a shorter one"
            )
        return name

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Of every queue of tasks."""
        return {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


def tell_place(place: Place) -> bytes:
    """A place, as it is told over the exchange of levels."""
    return json.dumps([place.queue, place.level]).encode()


def parse_place(told: bytes) -> Place | None:
    """What was told; None if it makes no sense, for anyone may have said it."""
    try:
        match json.loads(told):
            case [str(queue), int(level)] if level in LEVELS and type(level) is int:
                return Place(queue, level)
    except (ValueError, RecursionError):
        pass
    return None
