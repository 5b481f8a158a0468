"""The calls on who gets copies of what is sent to broadcast queues."""

from __future__ import annotations

from collections.abc import Sequence

from cardoon.broker import MAX_SUBSCRIBERS, Subscription, check_subscribers
from cardoon.postgres.database import Database


def begin(
    database: Database, subscriptions: Sequence[Subscription], *, seconds: float
) -> list[bool]:
    """Begin or renew them; whether each was there. `ImproperlyConfigured` where there are too many."""
    if not subscriptions:
        return []
    broadcasts, queues = _columns(subscriptions)
    rows = database.call("subscribe", database.now, broadcasts, queues, seconds, MAX_SUBSCRIBERS)
    [(_, crowded), *_] = rows
    if crowded is not None:
        check_subscribers(crowded, MAX_SUBSCRIBERS + 1)
    return [is_there for is_there, _ in rows]


def end(database: Database, subscriptions: Sequence[Subscription], *, at_once: int) -> int:
    """End them, and delete the copies that wait, so many in one transaction; return how many."""
    if not subscriptions:
        return 0
    queues = [queue for (queue,) in database.call("unsubscribe", *_columns(subscriptions))]
    deleted = 0
    while True:
        [(count,)] = database.call("delete_copies", database.now, queues, at_once)
        deleted += int(count)
        if count < at_once:
            return deleted


def _columns(subscriptions: Sequence[Subscription]) -> tuple[list[str], list[str]]:
    return [one.broadcast for one in subscriptions], [one.queue for one in subscriptions]
