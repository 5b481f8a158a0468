"""Which messages of the memory broker have to let others pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from cardoon.broker import RATE_SLACK_SECONDS, Limit, LimitUse
from cardoon.brokers.stored import Message


class Limits:
    """The limit of each key, as its latest send told it, and when its next message may be leased.

    How many are leased is not kept here but counted where it is asked. Not safe from threads.
    """

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}
        self._next: dict[str, float] = {}

    def __getitem__(self, key: str) -> Limit:
        return self._limits[key]

    def set(self, limit: Limit) -> None:
        """This is what counts for its key from now on."""
        self._limits[limit.key] = limit

    def is_open(self, key: str, running: int, now: float) -> bool:
        """Whether one more of a key may be leased."""
        return self.opens_at(key, running) <= now

    def opens_at(self, key: str, running: int) -> float:
        """When one more may be leased; infinity if only an end makes room."""
        limit = self._limits[key]
        if 0 < limit.most <= running:
            return math.inf
        return self._next.get(key, 0.0) if limit.gap else 0.0

    def due(self, message: Message, running: Mapping[str, int]) -> float:
        """When a message may be leased, by its own time and by its key's."""
        if message.limit is None:
            return message.due
        return max(message.due, self.opens_at(message.limit, running[message.limit]))

    def enter(self, key: str, now: float) -> None:
        """One more is leased."""
        gap = self._limits[key].gap
        if gap:
            self._next[key] = max(self._next.get(key, 0.0), now - RATE_SLACK_SECONDS) + gap

    def keep(self, keys: Collection[str], now: float) -> None:
        """Forget all keys but these, as far as their rate says nothing any more."""
        self._limits = {key: limit for key, limit in self._limits.items() if key in keys}
        self._next = {key: at for key, at in self._next.items() if key in keys or at > now}


def count_running(messages: Iterable[Message]) -> Counter[str]:
    """How many messages of each key are leased."""
    return Counter(
        message.limit
        for message in messages
        if message.limit is not None and message.lease_until is not None
    )


def held_back(messages: Collection[Message], limits: Limits, now: float) -> list[Message]:
    """Those that are due, but have to let others pass."""
    running = count_running(messages)
    return [
        message
        for message in messages
        if message.limit is not None
        and message.lease_until is None
        and message.dormant is None
        and message.due <= now
        and not limits.is_open(message.limit, running[message.limit], now)
    ]


def describe(messages: Collection[Message], limits: Limits, now: float) -> list[LimitUse]:
    """The keys that hold messages back, those with the most waiting first."""
    running = count_running(messages)
    waiting = Counter(message.limit or "" for message in held_back(messages, limits, now))
    uses = []
    for key, count in waiting.items():
        opens_at = limits.opens_at(key, 0)
        uses.append(
            LimitUse(
                key=key,
                most=limits[key].most,
                gap=limits[key].gap,
                running=running[key] if limits[key].most else 0,
                waiting=count,
                opens_in=opens_at - now if opens_at > now else None,
            )
        )
    return sorted(uses, key=lambda use: (-use.waiting, use.key))
