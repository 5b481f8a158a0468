"""The Broker contract: moves opaque frames, and knows nothing of tasks or trust.

A message is `ready` (or scheduled for later), then `leased` to one worker, then gone: acknowledged,
put back, kept as a dead letter or kept in the quarantine.

    publish --> scheduled --> ready --receive--> leased --settle--> (acknowledged)
        |           ^           ^                  |                 dead letter
        |           |           +---- requeue -----+                 quarantine
        |           |           +-- lease expired -+
        +--> dormant, until the messages that it waits for have ended, or one has failed

One that is ready may have to let others pass: while as many as its `Limit` allows are leased, or until
the next of its key may begin. And one whose `Unique` key is taken is not stored at all. Of one that is
a `fanout`, a copy is stored for each queue that is subscribed at that moment, and each is a message.

Every claim raises `Delivery.attempt`, the fencing token: whoever names an older one in `extend` or
`settle` has lost the message, and changes nothing.

A driver passes the suite in `cardoon.testing` or does not ship.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.backend import SealedResult
from cardoon.exceptions import ImproperlyConfigured
from cardoon.security import gate
from cardoon.security.replay import Nonce

MAX_INPUT_BYTES = 256 * 2**20
"""Results that one delivery carries together, so that no message is the end of every worker that
takes it. As much as the largest single message may have."""

STRAY_GRACE_SECONDS = 10.0
"""How long after its sending a message may wait for one that is nowhere."""

MAX_SUBSCRIBERS = 10_000
"""Queues that may be subscribed to one broadcast queue at a time: one send stores so many copies."""

RATE_SLACK_SECONDS = 0.05
"""How much later than allowed a message may be leased without that being lost to the rate of its key."""


class Predecessor(NamedTuple):
    """A message that another one waits for."""

    id: str
    request: bytes
    """What its result is held against: SHA-256 over its task's name and the digest of its claims."""


class Trigger(enum.Enum):
    """Which end of its predecessors wakes a dormant message."""

    SUCCESS = "success"
    """All succeeded; or one failed, so that it never can run and is to be closed, at once."""
    FAILURE = "failure"
    """Its one predecessor failed. If that succeeds or was skipped, the message is deleted unread, and
    with it what is dormant and waits for it, directly or not, once all of the step has arrived."""


class Unique(NamedTuple):
    """What a message shares with those that need not be stored beside it."""

    key: str
    """Whose arguments' text it must not tell; see `cardoon.bounds`."""
    period: float = 0.0
    """Seconds from its sending for which it is the only one, though it may have ended."""


class Limit(NamedTuple):
    """Which messages take turns, and how. What the latest send of a key says counts for all of it."""

    key: str
    """Whose arguments' text it must not tell; see `cardoon.bounds`."""
    most: int = 0
    """So many are leased at a time, over all queues and workers; 0 for any number."""
    gap: float = 0.0
    """Seconds from one lease to the next, on average; 0 for none."""


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
    after: tuple[Predecessor, ...] = ()
    """What it waits for, stored or yet to come; only a `Transactional` broker takes such messages."""
    trigger: Trigger = Trigger.SUCCESS
    delay: float = 0.0
    """Seconds from the end of its last predecessor until it may run; `run_at` holds as well."""
    unique: Unique | None = None
    """Only a `Limiting` broker takes it, and `limit`."""
    limit: Limit | None = None
    fanout: bool = False
    """To each queue that is subscribed to `queue`, as `copy_for` says; only a `Subscribing` broker takes
    it, and never with `after`, `unique` or `limit`."""

    def copy_for(self, queue: str) -> Outgoing:
        """What a subscriber gets of a `fanout`: the same frame under an id of its own."""
        return self._replace(queue=queue, id=f"{self.id}>{queue}", fanout=False)


Input = gate.Input
"""How a predecessor of a delivered message ended: its id, its request digest, its signed result."""


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
    inputs: tuple[Input, ...] = ()
    """Of a message that waited: one for each predecessor, in order. What would make their frames more
    than `MAX_INPUT_BYTES` together is left out, as if it were gone."""


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

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        """Store all or none, durably, before returning; raise after `timeout` seconds.

        Returns who stands in for whom: by the id of each message that is not stored because of its
        `unique`, the id of the one that is stored or was within its period. That may be its own, where
        it was sent before.
        """
        ...

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages for `lease` seconds, the most urgent first.

        Waits up to `timeout` seconds for the first one. Queues are served in turn. Messages whose
        limit is reached hold up no others.
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


class Outcome(NamedTuple):
    """How a task ended, as those that wait for it are told."""

    frame: bytes
    """Its signed result."""
    succeeded: bool
    skipped: bool = False
    """It failed without having run, because a predecessor did: its errbacks are dropped, too."""


class Completion(NamedTuple):
    """How one delivery ends, with everything that must happen in the same step."""

    settlement: Settlement
    result: SealedResult | None = None
    publish: tuple[Outgoing, ...] = ()
    nonce: Nonce | None = None
    """Marked as done when the settlement is final; left claimable when it is a requeue."""
    outcome: Outcome | None = None
    """Wakes what waits for this task; ignored with a requeue. None where the task goes on under its
    id, or nothing waits for it."""


@runtime_checkable
class Transactional(Protocol):
    """A broker whose store also holds the results and the replay marks."""

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces, publish and wake successors, in one transaction.

        A completion whose lease was lost has no effect at all and yields False. A final result
        replaces whatever lies there: only who holds the lease says how a task ends, so a forgery that
        was written first must not keep the true one out.

        Loans end one after the other, then all that was sent is stored, then the outcomes arrive; so
        what one completion publishes may wait for what another one ends. The first outcome of an id
        counts, and is kept for as long as a message is that waits or waited for it.

        What a completion publishes is stored even where it is not unique, since it takes the place of
        one that ended: a key that another message holds stays with that one.
        """
        ...


@runtime_checkable
class Adopting(Protocol):
    """A broker that can lend what another one still keeps, and so be its companion."""

    def adopt(
        self, messages: Sequence[Outgoing], *, lease: float, durable: bool
    ) -> Sequence[Delivery | None]:
        """Store messages as if they had been received here, in one step; None where the id is stored.

        From then on each is a message of this broker as any other. For plain ones only: without `after`,
        `unique`, `limit` and `run_at`. They survive the end of this process when this returns; of its
        host, if `durable`, as does all that was written before. Otherwise whoever calls keeps them.
        """
        ...


@runtime_checkable
class Accompanied(Protocol):
    """A broker whose loans, marks and ends lie in another one's store."""

    @property
    def companion(self) -> Broker:
        """The other one; closed with it."""
        ...


@runtime_checkable
class Maintained(Protocol):
    """A broker whose leases do not run out by themselves."""

    def maintain(self) -> int:
        """Take back what dead or silent workers held, each with one crash; return how many.

        Cheap when there is nothing to do; every worker calls it every few seconds.

        Also wakes, for a worker to close them, dormant messages with a predecessor that is nowhere:
        neither stored nor kept nor ended. Not within `STRAY_GRACE_SECONDS` of their sending, but within
        a minute after that, or after their predecessor was lost.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """A key whose limit holds messages back at this moment."""

    key: str
    most: int
    gap: float
    """As in `Limit`."""
    running: int
    """Leased."""
    waiting: int
    """Due, in all queues."""
    opens_in: float | None
    """Seconds until the rate allows the next one; None where only an end does."""


@runtime_checkable
class Limiting(Protocol):
    """A broker that takes messages with `unique` and `limit`.

    A `Unique` key is free again, and a leased message counts no longer against its `Limit`, in the step
    in which it ends, goes back or is taken back: there is no lock and no counter that could outlive it.
    One that is acknowledged, kept or deleted has ended, and so no other may stand behind it.

    Of the due messages of a key the most urgent is leased first, and of those the oldest. The one
    that is leased at `now` sets the moment of the next to `max(moment, now - RATE_SLACK_SECONDS) + gap`.
    """

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        ...


class Subscription(NamedTuple):
    """That a queue gets a copy of each `fanout` message to a broadcast queue."""

    broadcast: str
    """The broadcast queue."""
    queue: str
    """Of one subscriber. It is subscribed to one broadcast queue at a time, the one named last."""


def check_subscribers(broadcast: str, count: int) -> None:
    """`ImproperlyConfigured` where a broadcast queue would have too many subscribers."""
    if count > MAX_SUBSCRIBERS:
        raise ImproperlyConfigured(
            f"broadcast queue {broadcast!r} has {MAX_SUBSCRIBERS} subscribers already, the most there "
            "may be; let fewer workers consume it"
        )


@runtime_checkable
class Subscribing(Protocol):
    """A broker that takes messages with `fanout`.

    `publish` and `complete` store the copies in the step in which they store everything else, as
    durably, and idempotent by the copy's id. Where nobody is subscribed, nothing is stored. A copy is
    a message like any other from then on: `receive` takes it from the subscriber's queue.

    A subscription ends by `unsubscribe`, or when nobody has renewed it in time. From that moment on
    its queue gets no copies; those that wait in it are deleted, by `unsubscribe` or else by
    `Maintained.maintain`, in as many calls as it takes. Copies on loan end as all loans do; what of them
    goes back to the queue is deleted as well. Whoever subscribes the queue again before that takes over
    all that is left.
    """

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them, for so many seconds from now, durably and all or none.

        Returns for each whether it was there already. Raises `ImproperlyConfigured`, and changes
        nothing, where a broadcast queue would have more than `MAX_SUBSCRIBERS`.
        """
        ...

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many. Not there is fine."""
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
    dormant: int
    """Waiting for others to end."""
    leased: int
    oldest: float | None
    """Age of the oldest ready message, in seconds."""
    limited: int = 0
    """Due, but held back by the limit of their key; not counted as ready."""
    paused: bool = False
    """Whether nothing is lent from it; see `cardoon.pausing`."""
    subscribers: int = 0
    """Of a broadcast queue. What lies in their queues is counted here, and those are not listed."""


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
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many.

        Of a broadcast queue, what waits in the queues of its subscribers as well.
        """
        ...

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        ...

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back in their queues with a clean record; return how many.

        Not those whose id or unique key is in a queue again. Their limit is the one that counts for
        their key, and where there is none, the one that did when they were put away.
        """
        ...

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        ...

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue, such as a refused result."""
        ...
