"""Where messages of the memory broker lie."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cardoon.broker import Kept
from cardoon.brokers.stored import Message, Put
from cardoon.lookup import Place


def find_places(
    ids: Sequence[str], by_id: Mapping[str, Message], kept: Iterable[Put], *, now: float
) -> dict[str, Place]:
    """The place of each of these messages that is anywhere."""
    wanted = set(ids)
    found = {
        put.shown.id: Place.DEAD_LETTER if put.place is Kept.DEAD_LETTER else Place.QUARANTINE
        for put in kept
        if put.shown.id in wanted
    }
    found.update((each, _place_of(by_id[each], now)) for each in wanted if each in by_id)
    return found


def _place_of(message: Message, now: float) -> Place:
    if message.lease_until is not None:
        return Place.LEASED
    if message.dormant is not None:
        return Place.DORMANT
    return Place.READY if message.due <= now else Place.SCHEDULED
