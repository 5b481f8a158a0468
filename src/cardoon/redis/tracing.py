"""What is known of one message, for somebody who asks why it does not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cardoon.lookup import MAX_MISSING, Place, Whereabouts
from cardoon.redis.failures import understood
from cardoon.redis.inspecting import read_kept
from cardoon.redis.packing import pack_nonces
from cardoon.redis.store import Store
from cardoon.security.replay import Nonce

PLACES = {
    b"R": Place.READY,
    b"S": Place.SCHEDULED,
    b"d": Place.DORMANT,
    b"l": Place.LEASED,
    b"D": Place.DEAD_LETTER,
    b"Q": Place.QUARANTINE,
}
"""As scripts name them."""


def trace(store: Store, id: str) -> Whereabouts | None:
    """All that is known of one message; what lies in a queue counts before what is kept."""
    told = store.run("trace", (id, MAX_MISSING))
    if not told:
        return None
    with understood(store.place):
        return _describe(told) if PLACES[told[0]] in _QUEUED else _describe_kept(told)


def were_done(store: Store, nonces: Sequence[Nonce]) -> list[bool]:
    """Whether what has these nonces was carried out."""
    return [bool(done) for done in store.run("were_done", pack_nonces(nonces))] if nonces else []


_QUEUED = frozenset({Place.READY, Place.SCHEDULED, Place.DORMANT, Place.LEASED})


def _describe(told: Sequence[Any]) -> Whereabouts:
    where, queue, frame, priority, attempt, crashes, retries, due, left, limit, unique = told[:11]
    ahead, waits_for, missing = told[11:]
    place = PLACES[where]
    return Whereabouts(
        place,
        queue.decode(),
        frame,
        int(priority),
        int(attempt),
        int(crashes),
        int(retries),
        due=float(due) if due and place in (Place.READY, Place.SCHEDULED) else None,
        ahead=ahead,
        lease_left=float(left) if left else None,
        limit=limit.decode(),
        unique=unique.decode(),
        waits_for=waits_for,
        missing=tuple(name.decode() for name in missing),
    )


def _describe_kept(told: Sequence[Any]) -> Whereabouts:
    where, priority, limit, unique, row = told
    return Whereabouts.of_kept(
        PLACES[where],
        read_kept(row),
        priority=int(priority),
        limit=limit.decode(),
        unique=unique.decode(),
    )
