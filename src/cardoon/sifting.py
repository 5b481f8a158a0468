"""Which messages of a batch are not stored because another one stands in: one rule for all databases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cardoon.broker import Outgoing


def sift_unique(
    outgoing: Sequence[Outgoing], known: Iterable[tuple[bool, str | None]]
) -> tuple[Sequence[Outgoing], Mapping[str, str]]:
    """Those that are to be stored, and who stands in for each of the others.

    `known` says, for each message that is `unique`, in order, whether its id is stored and who has its
    key in the store.
    """
    found = iter(known)
    kept: list[Outgoing] = []
    ids: set[str] = set()
    holders: dict[str, str] = {}
    stand_ins: dict[str, str] = {}
    for message in outgoing:
        if message.unique is not None:
            is_stored, stored_holder = next(found)
            holder = holders.get(message.unique.key, stored_holder)
            if is_stored or message.id in ids:
                holder = message.id
            if holder is not None:
                stand_ins[message.id] = holder
                continue
            holders[message.unique.key] = message.id
        ids.add(message.id)
        kept.append(message)
    return kept, stand_ins
