"""Lookup: where a message lies, by its id. A hint of the store's, which nobody has signed."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.broker import KeptMessage
from cardoon.security.replay import Nonce

MAX_MISSING = 100
"""Of those that a message waits for, so many are named."""


class Place(enum.StrEnum):
    """Where a message can be. What lies in a queue counts before what is kept under its id."""

    READY = "ready"
    SCHEDULED = "scheduled"
    DORMANT = "dormant"
    """It waits for others to end."""
    LEASED = "leased"
    DEAD_LETTER = "dead"
    QUARANTINE = "quarantine"


@runtime_checkable
class Findable(Protocol):
    """A broker that can be asked for messages by id, at the cost of a look into an index."""

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies; those that are nowhere are left out."""
        ...


class Whereabouts(NamedTuple):
    """All that a store knows of one message. But for the frame, nobody has signed it."""

    place: Place
    queue: str
    frame: bytes
    priority: int = 0
    attempt: int = 0
    crashes: int = 0
    retries: int = 0
    """As in `Delivery`; `attempt` is 0 for one that was never lent."""
    due: float | None = None
    """Since when it may be lent, or from when; seconds since the epoch. Only of one that waits."""
    ahead: int = 0
    """Of one that is ready: about how many of its queue are lent before it, but for those with a limit."""
    lease_left: float | None = None
    """Seconds until its lease is over, less than 0 where it is; only of one that is leased."""
    holder: str = ""
    """Who has it on loan, in the store's own words; empty where it does not know."""
    limit: str = ""
    """The key of its `Limit`."""
    unique: str = ""
    """The key that it holds, of its `Unique`."""
    waits_for: int = 0
    """How many have to end before it may run; only of one that is dormant."""
    missing: tuple[str, ...] = ()
    """Their ids, the first `MAX_MISSING` of them."""
    kept: KeptMessage | None = None
    """What people see of it, where it is kept: of several with its id the latest."""

    @classmethod
    def of_kept(
        cls, place: Place, shown: KeptMessage, *, priority: int, limit: str, unique: str
    ) -> Whereabouts:
        """Where one lies that is kept for people."""
        return cls(
            place,
            shown.queue,
            shown.frame,
            priority,
            shown.attempt,
            shown.crashes,
            shown.retries,
            limit=limit,
            unique=unique,
            kept=shown,
        )


@runtime_checkable
class Traceable(Protocol):
    """A broker that can say all it knows of one message, for somebody who asks why it does not run."""

    def trace(self, id: str) -> Whereabouts | None:
        """Where it lies, and what it waits for; None where it is nowhere."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A broker that can be asked what was carried out, without claiming anything."""

    def were_done(self, nonces: Sequence[Nonce]) -> Sequence[bool]:
        """Whether the message with each of these nonces was carried out to its end.

        What was kept for people counts as that, until it is put back.
        """
        ...
