"""Who gets copies of what is sent to broadcast queues, and what is left of them at the end.

As with leases, `now` is the host's monotonic clock here, which stands still while the host sleeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cardoon.broker import Outgoing, Subscription, check_subscribers
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import document

MAX_ENDED_AT_ONCE = 100
"""How many subscriptions that are over one call looks at."""


def begin(
    transaction: Transaction, subscriptions: Sequence[Subscription], *, now: float, until: float
) -> list[bool]:
    """Begin or renew them; whether each was there. `ImproperlyConfigured` where there are too many."""
    rows = document(subscriptions)
    (known,) = transaction.row("subscribers.known", rows=rows, now=now)
    there = [bool(one) for one in json.loads(known)]
    transaction.run("subscribers.begin", rows=rows, now=now, until=until)
    if not all(there):
        for broadcast, count in transaction.rows("subscribers.count", rows=rows, now=now):
            check_subscribers(broadcast, count)
    return there


def spread(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float
) -> Iterator[Outgoing]:
    """A copy of each of these messages for each subscriber."""
    wanted = document([*{sent.queue for sent in outgoing}])
    (found,) = transaction.row("subscribers.of", broadcasts=wanted, now=now)
    queues: dict[str, list[str]] = {}
    for broadcast, queue in json.loads(found):
        queues.setdefault(broadcast, []).append(queue)
    return (sent.copy_for(queue) for sent in outgoing for queue in queues.get(sent.queue, ()))


def end(transaction: Transaction, subscriptions: Sequence[Subscription]) -> list[str]:
    """End them; return those of their queues that were subscribed, for `tidy_up`."""
    rows = transaction.rows("subscribers.end", rows=document(subscriptions))
    return [queue for (queue,) in rows]


def tidy_up(transaction: Transaction, queues: Sequence[str], *, now: float, limit: int) -> int:
    """Delete up to `limit` of the copies that wait in queues whose subscription is over."""
    packed = document(queues)
    deleted = transaction.run("subscribers.delete_copies", queues=packed, now=now, limit=limit)
    transaction.run("subscribers.forget", queues=packed, now=now)
    return deleted


def over(transaction: Transaction, *, now: float) -> list[str]:
    """Some of the queues whose subscription is over."""
    (found,) = transaction.row("subscribers.over", now=now, limit=MAX_ENDED_AT_ONCE)
    queues: list[str] = json.loads(found)
    return queues


def behind(database: Database, broadcast: str) -> list[str]:
    """The queues behind a broadcast queue, also of subscriptions that are over."""
    (found,) = database.row("subscribers.behind", broadcast=broadcast)
    queues: list[str] = json.loads(found)
    return queues


class Shown(NamedTuple):
    """Under whose name queues are shown, and how many subscribe to each."""

    names: Mapping[str, str]
    subscribers: Mapping[str, int]


def show(database: Database, *, now: float) -> Shown:
    """All subscriptions."""
    names: dict[str, str] = {}
    subscribers: dict[str, int] = {}
    for queue, broadcast, is_live in database.rows("subscribers.all", now=now):
        names[queue] = broadcast
        if is_live:
            subscribers[broadcast] = subscribers.get(broadcast, 0) + 1
    return Shown(names, subscribers)
