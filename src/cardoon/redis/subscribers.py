"""Who gets copies of what is sent to broadcast queues, and the names of all queues."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from cardoon.broker import MAX_SUBSCRIBERS, Subscription, check_subscribers
from cardoon.redis.connection import Argument
from cardoon.redis.store import Store

MAX_COPIES_AT_ONCE = 500
"""How many copies one step deletes."""


class Names(NamedTuple):
    """All queues, and what is said of them."""

    queues: list[str]
    declared: set[str]
    resting: set[str]
    broadcasts: dict[str, str]
    """The broadcast queue of each queue that is subscribed, or was and is not tidied up."""
    live: set[str]
    """The queues whose subscription is not over."""


def begin(store: Store, subscriptions: Sequence[Subscription], *, seconds: float) -> list[bool]:
    """Begin or renew them; whether each was there. `ImproperlyConfigured` where there are too many."""
    terms: list[Argument] = [MAX_SUBSCRIBERS, repr(float(seconds))]
    arguments = [*terms, *chain.from_iterable(subscriptions)]
    told = store.run("subscribe", arguments, durably=True)
    if isinstance(told, bytes):
        check_subscribers(told.decode(), MAX_SUBSCRIBERS + 1)
    return [one == 1 for one in told]


def end(store: Store, subscriptions: Sequence[Subscription]) -> int:
    """End them, and delete the copies that wait, in small steps; return how many."""
    arguments = [*chain.from_iterable(subscriptions)]
    ended = store.run("unsubscribe", arguments, durably=True)
    return sum(_tidy_up(store, queue.decode()) for queue in ended)


def behind(store: Store, broadcast: str) -> list[str]:
    """The queues behind a broadcast queue, also of subscriptions that are over."""
    (found,) = store.ask_many([("ZRANGE", store.key("subscribers", broadcast), 0, -1)])
    return [queue.decode() for queue in found]


def names(store: Store) -> Names:
    """All queues."""
    queues, declared, resting, subscribed, live = (
        [name.decode() for name in found] for found in store.run("names", ())
    )
    broadcasts = dict(zip(subscribed[::2], subscribed[1::2], strict=True))
    return Names(queues, set(declared), set(resting), broadcasts, set(live))


def _tidy_up(store: Store, queue: str) -> int:
    deleted = 0
    while True:
        count: int = store.run("tidy_up", (queue, MAX_COPIES_AT_ONCE))
        deleted += count
        if count < MAX_COPIES_AT_ONCE:
            return deleted
