"""Where messages of the memory broker lie, and what is known of them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from cardoon.broker import Kept
from cardoon.brokers.inputs import Inputs
from cardoon.brokers.marks import Marks
from cardoon.brokers.shelf import Shelf
from cardoon.brokers.stored import Message, Put
from cardoon.clock import Clock
from cardoon.lookup import MAX_MISSING, Place, Whereabouts
from cardoon.security.replay import Nonce


class Lookup:
    """What the memory broker says of single messages: Findable, Traceable and Remembering."""

    _clock: Clock
    _changed: threading.Condition
    """Guards the others."""
    _messages: dict[int, Message]
    _by_id: dict[str, Message]
    _kept: Shelf
    _inputs: Inputs
    _marks: Marks

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies."""
        with self._changed:
            return find_places(ids, self._by_id, self._kept, now=self._clock.now())

    def trace(self, id: str) -> Whereabouts | None:
        """All that is known of one message."""
        with self._changed:
            message = self._by_id.get(id)
            if message is not None:
                return self._describe(message)
            puts = [put for put in self._kept if put.shown.id == id]
            return _describe_put(max(puts, key=lambda put: put.shown.number)) if puts else None

    def were_done(self, nonces: Sequence[Nonce]) -> Sequence[bool]:
        """Whether what has these nonces was carried out."""
        with self._changed:
            return [self._marks.is_done(nonce) for nonce in nonces]

    def _describe(self, message: Message) -> Whereabouts:
        now = self._clock.now()
        place = _place_of(message, now)
        dormant = message.dormant
        names = dict.fromkeys(one.id for one in self._inputs.predecessors(message.number))
        missing = [] if dormant is None else [one for one in names if one in dormant.missing]
        until = message.lease_until
        return Whereabouts(
            place,
            message.queue,
            message.frame,
            message.priority,
            message.attempt,
            message.crashes,
            message.retries,
            due=message.due if place in (Place.READY, Place.SCHEDULED) else None,
            ahead=self._count_ahead(message, now) if place is Place.READY else 0,
            lease_left=None if until is None else until - self._clock.monotonic(),
            limit=message.limit or "",
            unique=message.unique or "",
            waits_for=len(missing),
            missing=tuple(missing[:MAX_MISSING]),
        )

    def _count_ahead(self, message: Message, now: float) -> int:
        own = (-message.priority, message.number)
        return sum(
            other.queue == message.queue
            and other.limit is None
            and (-other.priority, other.number) < own
            and _place_of(other, now) is Place.READY
            for other in self._messages.values()
        )


def find_places(
    ids: Sequence[str], by_id: Mapping[str, Message], kept: Iterable[Put], *, now: float
) -> dict[str, Place]:
    """The place of each of these messages that is anywhere."""
    wanted = set(ids)
    found = {put.shown.id: _place_kept(put) for put in kept if put.shown.id in wanted}
    found.update((each, _place_of(by_id[each], now)) for each in wanted if each in by_id)
    return found


def _place_kept(put: Put) -> Place:
    return Place.DEAD_LETTER if put.place is Kept.DEAD_LETTER else Place.QUARANTINE


def _describe_put(put: Put) -> Whereabouts:
    return Whereabouts.of_kept(
        _place_kept(put),
        put.shown,
        priority=put.priority,
        limit="" if put.limit is None else put.limit.key,
        unique=put.unique or "",
    )


def _place_of(message: Message, now: float) -> Place:
    if message.lease_until is not None:
        return Place.LEASED
    if message.dormant is not None:
        return Place.DORMANT
    return Place.READY if message.due <= now else Place.SCHEDULED
