"""Drivers of the ResultBackend contract, chosen by URL scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cardoon.backend import ResultBackend
from cardoon.broker import Accompanied, Broker
from cardoon.clock import Clock
from cardoon.endpoints import PLAIN_ACCESS, Access, kind_of
from cardoon.exceptions import ImproperlyConfigured
from cardoon.rabbitmq.server import SharesServer

_NO_OPTIONS: Mapping[str, Any] = {}


def connect(
    url: str,
    *,
    clock: Clock,
    beside: Broker | None = None,
    timeout: float = 10.0,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, Any] = _NO_OPTIONS,
) -> ResultBackend:
    """The result backend that a URL names; nothing is opened before it is needed.

    It shares the store of the broker `beside` it, or of that one's companion, where both mean the same
    one, so that a result and the end of its message are one step. Raises `ImproperlyConfigured`.
    """
    broker: object = beside
    store = broker.companion if isinstance(broker, Accompanied) else broker
    match kind_of(url):
        case "redis" | "sentinel":
            from cardoon.backends import redis  # noqa: PLC0415 - load what is chosen

            return redis.connect(
                url, clock=clock, beside=store, timeout=timeout, access=access, transport=transport
            )
        case "postgresql":
            from cardoon.backends import postgres  # noqa: PLC0415 - load what is chosen

            return postgres.connect(
                url, clock=clock, beside=store, timeout=timeout, access=access, transport=transport
            )
    # What does not look like a scheme may hold a password, and is not repeated.
    scheme = re.match(r"([\w+.-]+)://", url)
    match scheme[1].lower() if scheme else "":
        case "memory" | "cache+memory":
            from cardoon.backends import memory  # noqa: PLC0415 - load what is chosen

            return memory.connect(clock=clock, beside=store)
        case "sqlite" | "db+sqlite":
            from cardoon.backends import sqlite  # noqa: PLC0415 - load what is chosen

            return sqlite.connect(url, clock=clock, beside=store, timeout=timeout)
        case "rpc":
            if not isinstance(broker, SharesServer):
                raise ImproperlyConfigured(
                    "result_backend: rpc:// needs RabbitMQ as broker_url; leave result_backend out, so that "
                    "results are kept in the broker's own store"
                )
            from cardoon.backends import rpc  # noqa: PLC0415 - load what is chosen

            return rpc.connect(url, clock=clock, beside=broker)
        case "":
            raise ImproperlyConfigured(
                "result_backend: not a URL; use sqlite:///results.db, or memory:// within one"
                " process"
            )
        case unknown:
            raise ImproperlyConfigured(
                f"result_backend: unknown scheme {unknown!r}; use sqlite, redis, postgresql, rpc"
            )
