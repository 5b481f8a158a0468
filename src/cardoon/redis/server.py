"""What a server must be, and what is said of one that may lose messages."""

from __future__ import annotations

import logging

from cardoon.exceptions import ImproperlyConfigured
from cardoon.redis.connection import Connection
from cardoon.redis.failures import ServerError

logger = logging.getLogger(__name__)

OLDEST = (7, 0)


def check_server(connection: Connection, deadline: float) -> None:
    """Raise `ImproperlyConfigured` for a server that is too old; warn where it forgets messages."""
    try:
        told = connection.ask("INFO", deadline=deadline)
    except ServerError as refused:
        if refused.code == "NOPERM":
            logger.debug("%s does not tell what it is: %s", connection.place, refused)
            return
        raise
    facts = dict(
        line.split(":", 1) for line in told.decode("utf-8", "replace").splitlines() if ":" in line
    )
    version = facts.get("redis_version", "0")
    major, _, rest = version.partition(".")
    if (int(major), int(rest.partition(".")[0] or 0)) < OLDEST:
        raise ImproperlyConfigured(
            f"broker_url: redis at {connection.place} is version {version}; 7.0 is the oldest that "
            "has what scripts and access rules need"
        )
    if facts.get("aof_enabled") == "0":
        logger.warning(
            "redis at %s has appendonly off: what it stored since its last snapshot is lost when it"
            " dies; set appendonly yes",
            connection.place,
        )
    if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy") != "noeviction":
        logger.warning(
            "redis at %s has maxmemory-policy %s: it deletes messages and replay marks when it is"
            " full; set maxmemory-policy noeviction",
            connection.place,
            facts.get("maxmemory_policy"),
        )
