"""What is known of one message, for somebody who asks why it does not run."""

from __future__ import annotations

from collections.abc import Sequence

from cardoon.broker import KeptMessage
from cardoon.lookup import MAX_MISSING, Place, Whereabouts
from cardoon.postgres.database import Database
from cardoon.security.replay import Nonce


def trace(database: Database, id: str) -> Whereabouts | None:
    """All that is known of one message; what lies in a queue counts before what is kept."""
    for row in database.call("trace", database.now, id):
        (
            place,
            queue,
            frame,
            priority,
            attempt,
            crashes,
            retries,
            due,
            left,
            limit,
            unique,
            ahead,
        ) = row
        told = Whereabouts(
            Place(place),
            queue,
            frame,
            priority,
            attempt,
            crashes,
            retries,
            limit=limit,
            unique=unique,
        )
        match told.place:
            case Place.LEASED:
                return told._replace(lease_left=left)
            case Place.DORMANT:
                rows = database.call("trace_missing", id, MAX_MISSING)
                names = tuple(name for name, _ in rows)
                return told._replace(missing=names, waits_for=rows[0][1] if rows else 0)
            case Place.READY:
                return told._replace(due=due, ahead=ahead)
            case _:
                return told._replace(due=due)
    for place, priority, limit, unique, *kept in database.call("trace_kept", id):
        shown = KeptMessage(**dict(zip(_KEPT, kept, strict=True)))
        return Whereabouts.of_kept(
            Place(place), shown, priority=priority, limit=limit, unique=unique
        )
    return None


def were_done(database: Database, nonces: Sequence[Nonce]) -> list[bool]:
    """Whether what has these nonces was carried out."""
    sessions = [nonce.session for nonce in nonces]
    sequences = [nonce.sequence for nonce in nonces]
    return [done for (done,) in database.call("nonces_done", sessions, sequences)]


_KEPT = (
    *("number", "queue", "id", "reason", "detail", "kept_at", "frame", "attempt"),
    *("crashes", "retries"),
)
