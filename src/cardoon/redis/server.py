"""What a server must be, and what is said of one that may lose messages."""

from __future__ import annotations

import logging

from cardoon.exceptions import ImproperlyConfigured
from cardoon.redis.connection import Connection
from cardoon.redis.failures import ServerError

logger = logging.getLogger(__name__)

OLDEST = (7, 0)


def check_server(connection: Connection, deadline: float, *, allow_eviction: bool) -> None:
    """Raise `ImproperlyConfigured` for a server that is too old, or deletes what it was given.

    Warn of one that forgets messages when it dies, or does not say whether it deletes any.
    """
    try:
        told = connection.ask("INFO", deadline=deadline)
    except ServerError as refused:
        if refused.code == "NOPERM":
            logger.warning(
                "redis at %s lets this user not ask what it is; see to it that its maxmemory-policy is "
                "noeviction, or allow INFO, as the rules of `cardoon acl` do",
                connection.place,
            )
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
    policy = facts.get("maxmemory_policy")
    if facts.get("maxmemory", "0") == "0" or policy == "noeviction":
        return
    told = (
        f"redis at {connection.place} has maxmemory-policy {policy}: when it is full it deletes messages, and "
        "forgets which ones have run"
    )
    if not allow_eviction:
        raise ImproperlyConfigured(
            f"{told}; set maxmemory-policy noeviction there, or unsafe_allow_eviction=True here"
        )
    logger.warning("%s; set maxmemory-policy noeviction", told)
