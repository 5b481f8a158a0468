"""Who gets copies of what is sent to broadcast queues, for the memory broker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cardoon.broker import Outgoing, Subscription, check_subscribers


class _Entry(NamedTuple):
    broadcast: str
    until: float
    """By the monotonic clock."""


class Shown(NamedTuple):
    """Under whose name queues are shown, and how many subscribe to each broadcast queue."""

    names: Mapping[str, str]
    subscribers: Counter[str]


class Subscribers:
    """Subscribed queues, and those whose subscription is over but not yet tidied up.

    Not safe from threads. `now` and `until` are of the monotonic clock, as leases are.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def begin(
        self, subscriptions: Sequence[Subscription], *, now: float, until: float
    ) -> list[bool]:
        """Begin or renew; whether each was there. All or none."""
        changed = dict(self._entries)
        there = []
        for broadcast, queue in subscriptions:
            before = changed.get(queue)
            there.append(before is not None and before.until > now and before[0] == broadcast)
            changed[queue] = _Entry(broadcast, until)
        sizes = Counter(entry.broadcast for entry in changed.values() if entry.until > now)
        for broadcast, _ in subscriptions:
            check_subscribers(broadcast, sizes[broadcast])
        self._entries = changed
        return there

    def end(self, subscriptions: Iterable[Subscription]) -> list[str]:
        """End these; the queues whose subscription that was."""
        ended = [
            queue
            for broadcast, queue in subscriptions
            if queue in self._entries and self._entries[queue].broadcast == broadcast
        ]
        for queue in ended:
            self._entries[queue] = self._entries[queue]._replace(until=-math.inf)
        return ended

    def over(self, now: float) -> list[str]:
        """The queues whose subscription is over."""
        return [queue for queue, entry in self._entries.items() if entry.until <= now]

    def forget(self, queues: Iterable[str]) -> None:
        """These are tidied up."""
        for queue in queues:
            self._entries.pop(queue, None)

    def queues_of(self, broadcast: str) -> list[str]:
        """The queues behind a broadcast queue, also of subscriptions that are over."""
        return [queue for queue, entry in self._entries.items() if entry.broadcast == broadcast]

    def spread(self, outgoing: Iterable[Outgoing], now: float) -> Iterator[Outgoing]:
        """The messages, with a copy for each subscriber in the place of what is broadcast."""
        for sent in outgoing:
            if not sent.fanout:
                yield sent
                continue
            for queue, entry in self._entries.items():
                if entry.broadcast == sent.queue and entry.until > now:
                    yield sent.copy_for(queue)

    def shown(self, now: float) -> Shown:
        """What is to be said of them to people."""
        names = {queue: entry.broadcast for queue, entry in self._entries.items()}
        live = (entry.broadcast for entry in self._entries.values() if entry.until > now)
        return Shown(names, Counter(live))
