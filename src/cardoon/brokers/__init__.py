"""Drivers of the Broker contract, chosen by URL scheme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.endpoints import PLAIN_ACCESS, Access, kind_of
from cardoon.exceptions import ImproperlyConfigured

_NO_OPTIONS: Mapping[str, Any] = {}


def connect(
    url: str,
    *,
    clock: Clock,
    timeout: float = 10.0,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, Any] = _NO_OPTIONS,
    companion: Broker | None = None,
) -> Broker:
    """The broker that a URL names; nothing is opened before it is needed.

    `timeout` bounds every call in seconds, but for those that say their own. `access` says how servers
    may be reached, and `transport` has the driver's own options. `companion` is the broker beside RabbitMQ, which closes
    it; others need none. Raises `ImproperlyConfigured`, whose message never shows more of the URL than its
    scheme and host.
    """
    match kind_of(url):
        case "redis" | "sentinel":
            from cardoon.brokers import redis  # noqa: PLC0415 - load what is chosen

            return redis.connect(
                url, clock=clock, timeout=timeout, access=access, transport=transport
            )
        case "postgresql":
            from cardoon.brokers import postgres  # noqa: PLC0415 - load what is chosen

            return postgres.connect(
                url, clock=clock, timeout=timeout, access=access, transport=transport
            )
        case "amqp":
            from cardoon.brokers import rabbitmq  # noqa: PLC0415 - load what is chosen

            return rabbitmq.connect(
                url,
                clock=clock,
                timeout=timeout,
                access=access,
                transport=transport,
                companion=companion,
            )
    # What does not look like a scheme may hold a password, and is not repeated.
    scheme = re.match(r"([\w+.-]+)://", url)
    match scheme[1].lower() if scheme else "":
        case "memory":
            from cardoon.brokers.memory import MemoryBroker  # noqa: PLC0415 - load what is chosen

            return MemoryBroker(clock=clock)
        case "sqlite" | "sqla+sqlite":
            from cardoon.brokers import sqlite  # noqa: PLC0415 - load what is chosen

            return sqlite.connect(url, clock=clock, timeout=timeout)
        case "":
            raise ImproperlyConfigured(
                "broker_url: not a URL; use sqlite:///cardoon.db, or memory:// within one process"
            )
        case unknown:
            raise ImproperlyConfigured(
                f"broker_url: unknown scheme {unknown!r}; use sqlite, redis, amqp, postgresql"
            )
