"""The Broker contract: moves opaque frames, and knows nothing of tasks or trust.

A message is `ready` (or scheduled for later), then `leased` to one worker, then gone: acknowledged,
put back, kept as a dead letter or kept in the quarantine.

    publish --> scheduled --> ready --receive--> leased --settle--> (acknowledged)
                                ^                  |                 dead letter
                                +---- requeue -----+                 quarantine
                                +-- lease expired -+

Every claim raises `Delivery.attempt`, the fencing token: whoever names an older one in `extend` or
`settle` has lost the message, and changes nothing.

A driver passes the suite in `cardoon.testing` or does not ship.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.backend import SealedResult
from cardoon.security.replay import Nonce


class Outgoing(NamedTuple):
    """One message to publish. Everything but the frame is a hint that is not signed."""

    queue: str
    id: str
    """Sends are idempotent by id: while a message with it is stored, a second is dropped."""
    frame: bytes
    priority: int = 0
    """0 to 9, 9 first."""
    run_at: float | None = None
    """Not before this time, in seconds since the epoch."""


class Delivery(NamedTuple):
    """One message on loan."""

    queue: str
    id: str
    frame: bytes
    receipt: int | str
    """The broker's own name for the stored message."""
    attempt: int
    """How often it was delivered, this time included: the fencing token."""
    crashes: int = 0
    """How many of the processes that held it were lost."""
    retries: int = 0
    """How often the task itself asked to run again."""
    priority: int = 0


class Cause(enum.Enum):
    """Why a message goes back to its queue."""

    RELEASED = "released"
    """Not begun, or handed back by a worker that stops; nobody is to blame."""
    RETRIED = "retried"
    """The task asked for it: `retries` rises by one."""
    CRASHED = "crashed"
    """The process that ran it died: `crashes` rises by one."""


@dataclass(frozen=True, slots=True)
class Ack:
    """The message is done; forget it."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Requeue:
    """Deliver it again, `delay` seconds from now, at its old place in the line."""

    delivery: Delivery
    cause: Cause = Cause.RELEASED
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Keep it, whole, with the reason: a verified task that cannot be completed."""

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keep it, whole, with the reason: a message that was refused."""

    delivery: Delivery
    reason: str
    detail: str = ""


Settlement = Ack | Requeue | DeadLetter | Quarantine


class Broker(Protocol):
    """At-least-once delivery. Batch-first, blocking, safe from threads.

    Every method raises `OperationalError` when the store does not answer within the driver's
    deadline, and nothing else for reasons of the store.
    """

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues; doing it again changes nothing."""
        ...

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> None:
        """Store all or none, durably, before returning; raise after `timeout` seconds."""
        ...

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages for `lease` seconds, the most urgent first.

        Waits up to `timeout` seconds for the first one. Queues are served in turn.
        """
        ...

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        ...

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before. Twice is a no-op."""
        ...

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        ...


class Completion(NamedTuple):
    """How one delivery ends, with everything that must happen in the same step."""

    settlement: Settlement
    result: SealedResult | None = None
    publish: tuple[Outgoing, ...] = ()
    nonce: Nonce | None = None
    """Marked as done when the settlement is final; left claimable when it is a requeue."""


@runtime_checkable
class Transactional(Protocol):
    """A broker whose store also holds the results and the replay marks."""

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces and publish successors, in one transaction.

        A completion whose lease was lost has no effect at all and yields False. A final result
        replaces whatever lies there: only who holds the lease says how a task ends, so a forgery that
        was written first must not keep the true one out.
        """
        ...


@runtime_checkable
class Maintained(Protocol):
    """A broker whose leases do not run out by themselves."""

    def maintain(self) -> int:
        """Take back what dead or silent workers held, each with one crash; return how many.

        Cheap when there is nothing to do; every worker calls it every few seconds.
        """
        ...


@runtime_checkable
class Broadcaster(Protocol):
    """A broker that can tell every worker something."""

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires (seconds since the epoch)."""
        ...

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """What lies in one queue."""

    queue: str
    ready: int
    scheduled: int
    leased: int
    oldest: float | None
    """Age of the oldest ready message, in seconds."""


class Kept(enum.StrEnum):
    """The two places where messages are kept for people to look at."""

    DEAD_LETTER = "dead"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMessage:
    """A dead letter or a quarantined message."""

    number: int
    queue: str
    id: str
    reason: str
    detail: str
    kept_at: float
    """Seconds since the epoch."""
    frame: bytes
    attempt: int
    crashes: int
    retries: int


@runtime_checkable
class Inspectable(Protocol):
    """A broker that can be looked into."""

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue, by name."""
        ...

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue, ready and scheduled; return how many."""
        ...

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        ...

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back in their queues with a clean record; return how many."""
        ...

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        ...

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue, such as a refused result."""
        ...
