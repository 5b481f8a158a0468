"""The PostgreSQL driver of the Broker contract, with all optional powers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Mapping, Sequence

from cardoon.broker import (
    Completion,
    Delivery,
    Kept,
    KeptMessage,
    LimitUse,
    Outgoing,
    QueueDepth,
    Settlement,
    Subscription,
)
from cardoon.clock import Clock, SystemClock
from cardoon.endpoints import PLAIN_ACCESS, Access
from cardoon.lookup import Place, Whereabouts
from cardoon.postgres import messages, replay, settling, subscribers, tracing
from cardoon.postgres.database import Database, Session
from cardoon.postgres.location import locate
from cardoon.postgres.posting import Posts, Records
from cardoon.postgres.wakeups import Bell, Ear, Wakeups, hints, queues_of
from cardoon.quarantine import Fill
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the tables this often."""

_LOOK_LATER_SECONDS = 0.02
"""After a claim that took all there was: what it brought has the processors first. A send is told of meanwhile;
what was scheduled before may be so much later."""

_MIN_PAUSE_SECONDS = 0.005
_MAX_UPKEEP_ROUNDS = 20
_MAX_ROWS_AT_ONCE = 5000
"""How much one transaction deletes, so that nobody waits long for its end."""

_REAL_TIME = SystemClock()


def connect(
    url: str,
    *,
    clock: Clock,
    timeout: float,
    access: Access = PLAIN_ACCESS,
    transport: Mapping[str, object] | None = None,
) -> PostgresBroker:
    """The broker in the database that a `postgresql:` URL means; nothing is opened before it is needed."""
    location = locate(url, setting="broker_url", access=access, transport=transport)
    return PostgresBroker(Database(location, clock=clock, timeout=timeout))


class PostgresBroker(Posts, Records):
    """Broker with all powers: Transactional, Maintained, Limiting, Subscribing and the others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = database.location.schema
        self._turn = 0
        self._ear: Ear | None = None
        self._hears: Wakeups | None = None
        """What the ear is attached to, which a forked child has anew."""
        self._calm_until = 0.0
        """Until then, by the monotonic clock, nothing is due of which there is no hint."""
        self._first_token = int.from_bytes(os.urandom(7), "big")
        self._tokens = itertools.count(self._first_token)

    @property
    def postgres(self) -> Database:
        """The database, for a result backend that shares it."""
        return self._database

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues; doing it again changes nothing."""
        self._database.call("declare_queues", list(queues))

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        """Store all or none, durably, before returning; say who stands in for whom."""
        if not outgoing:
            return {}
        now = self._database.now
        then = hints(self._schema, Bell.MESSAGES, queues_of(outgoing))
        return self._database.attempt(
            lambda session: messages.publish(session, outgoing, now=now, then=then),
            timeout=timeout,
        )

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages, the most urgent first; the queues take turns."""
        if timeout <= 0:
            return self._claim(queues, limit, lease).deliveries
        deadline = _REAL_TIME.monotonic() + timeout
        ear = self._attend(queues)
        while True:
            pause = min(self._calm_until, deadline) - _REAL_TIME.monotonic()
            if pause > 0:
                ear.wait(pause)
            self._calm_until = 0.0  # for as long as it is not known
            claimed = self._claim(queues, limit, lease)
            now = _REAL_TIME.monotonic()
            if len(claimed.deliveries) < limit:
                self._calm_until = now + _pause_after(claimed)
            if claimed.deliveries or now >= deadline:
                return claimed.deliveries

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        if not deliveries:
            return []
        now = self._database.now
        return self._database.attempt(
            lambda session: messages.extend(session, deliveries, lease=lease, now=now)
        )

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before."""
        return self.complete([Completion(settlement) for settlement in settlements])

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._unhear()
        self._database.close()

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces, publish and wake successors, in one transaction."""
        if not completions:
            return []
        now = self._database.now
        tries = itertools.count()
        return self._database.attempt(
            lambda session: settling.complete(
                session,
                completions,
                now=now,
                schema=self._schema,
                is_repeat=next(tries) > 0,
            )
        )

    def adopt(
        self,
        messages_: Sequence[Outgoing],
        *,
        lease: float,
        durable: bool,  # noqa: ARG002  # it always is
    ) -> Sequence[Delivery | None]:
        """Store messages as lent, so many at a time; None where the id is stored."""
        return [each for some in messages.split(messages_) for each in self._adopt(some, lease)]

    @property
    def claimant(self) -> str:
        """What the claims of this process go by."""
        return str(self._first_token)

    def recall(self, claimant: str) -> Sequence[Delivery]:
        """What a claimant took and still has on loan."""
        first = int(claimant) if claimant.isdecimal() else -1
        if not 0 <= first < 1 << 56:
            return []
        return messages.recall(self._database, first)

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step."""
        return replay.claim(self._database, claims) if claims else []

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done, durably."""
        if nonces:
            replay.finish(self._database, nonces)

    def memory(self) -> Memory:
        """How far back it remembers."""
        return replay.load_memory(self._database)

    def begin_anew(self) -> Memory:
        """Begin another epoch, durably."""
        replay.begin_anew(self._database)
        return self.memory()

    def maintain(self) -> int:
        """Take back what silent workers held, wake strays, and delete what has expired."""
        total = woken_in_all = 0
        for _ in range(_MAX_UPKEEP_ROUNDS):
            [(taken_back, woken, is_more)] = self._database.call("maintain", self._database.now)
            total += taken_back
            woken_in_all += woken
            if not is_more:
                break
        if woken_in_all:
            self._ring()
        return total

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them, for so many seconds; whether each was there."""
        return subscribers.begin(self._database, subscriptions, seconds=seconds)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many."""
        return subscribers.end(self._database, subscriptions, at_once=_MAX_ROWS_AT_ONCE)

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires."""
        self._database.call("broadcast", frame, expires_at)

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        rows = self._database.call("heard", self._database.now, after)
        return [(number, frame) for number, frame in rows]

    def pause(self, queues: Sequence[str]) -> None:
        """Let queues rest."""
        self._database.call("pause_queues", list(queues))

    def resume(self, queues: Sequence[str]) -> None:
        """Let queues go on."""
        # Those who wait may wait for a queue behind one of these, so all are told.
        then = hints(self._schema, Bell.MESSAGES)
        self._database.call("resume_queues", list(queues), then=then)

    def resting(self) -> Collection[str]:
        """The queues that rest."""
        return {queue for (queue,) in self._database.call("resting_queues")}

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies."""
        rows = self._database.call("find_places", self._database.now, list(ids))
        return {name: Place(place) for name, place in rows}

    def trace(self, id: str) -> Whereabouts | None:
        """All that is known of one message."""
        return tracing.trace(self._database, id)

    def were_done(self, nonces: Sequence[Nonce]) -> Sequence[bool]:
        """Whether what has these nonces was carried out."""
        return tracing.were_done(self._database, nonces)

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue, by name."""
        return [
            QueueDepth(
                queue=queue,
                ready=ready,
                scheduled=scheduled,
                dormant=dormant,
                leased=leased,
                oldest=oldest,
                limited=limited,
                paused=paused,
                subscribers=subscribed,
            )
            for queue, ready, scheduled, dormant, leased, oldest, limited, paused, subscribed
            in self._database.call("depths", self._database.now)
        ]  # fmt: skip

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many."""
        deleted = 0
        while True:
            [(count,)] = self._database.call("purge", self._database.now, queue, _MAX_ROWS_AT_ONCE)
            deleted += int(count)
            if count < _MAX_ROWS_AT_ONCE:
                return deleted

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        rows = self._database.call("limits", self._database.now)
        return [
            LimitUse(
                key=key, most=most, gap=gap, running=running, waiting=waiting, opens_in=opens_in
            )
            for key, most, gap, running, waiting, opens_in in rows[:limit]
        ]

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        return [
            KeptMessage(
                number=number,
                queue=queue,
                id=message_id,
                reason=reason,
                detail=detail,
                kept_at=kept_at,
                frame=frame,
                attempt=attempt,
                crashes=crashes,
                retries=retries,
            )
            for number, queue, message_id, reason, detail, kept_at, frame, attempt, crashes, retries
            in self._database.call("kept", where.value, after, limit)
        ]  # fmt: skip

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back in their queues; return how many."""
        [(count,)] = self._database.call("restore", self._database.now, where.value, list(numbers))
        if count:
            self._ring()
        return int(count)

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        deleted = 0
        wanted = None if numbers is None else list(numbers)
        while True:
            [(count,)] = self._database.call("discard", where.value, wanted, _MAX_ROWS_AT_ONCE)
            deleted += int(count)
            if count < _MAX_ROWS_AT_ONCE:
                return deleted

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue."""
        self._database.call(
            "quarantine",
            self._database.now,
            settling.printable(queue),
            settling.printable(id),
            frame,
            settling.printable(reason),
            settling.printable(detail),
        )

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        return [Fill(*row) for row in self._database.call("quarantined")]

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much is left; return what is gone."""
        wanted = (reason, messages, bytes, _MAX_ROWS_AT_ONCE)
        [(gone, freed)] = self._database.call("thin_out", *wanted)
        return Fill(reason, gone, freed)

    def _attend(self, queues: Sequence[str]) -> Ear:
        """An ear for these queues, which goes on hearing between one claim and the next."""
        wakeups = self._database.wakeups
        if self._ear is None or self._ear.queues != frozenset(queues) or self._hears is not wakeups:
            self._unhear()
            self._ear, self._hears = Ear(Bell.MESSAGES, frozenset(queues)), wakeups
        if wakeups.attach(self._ear) or self._database.now is not None:
            self._calm_until = 0.0  # hints may have been missed, or a test has set the clock
        return self._ear

    def _unhear(self) -> None:
        if self._ear is not None and self._hears is self._database.wakeups:  # not a parent's
            self._hears.detach(self._ear)
        self._ear = self._hears = None

    def _claim(self, queues: Sequence[str], limit: int, lease: float) -> messages.Claimed:
        self._turn += 1
        start = self._turn % len(queues)
        order = [*queues[start:], *queues[:start]]
        token = next(self._tokens)
        now = self._database.now
        tries = itertools.count()

        def claim(session: Session) -> messages.Claimed:
            if next(tries):  # what came of the time before is not known
                session.call("unclaim", now, token)
            return messages.claim(session, order, limit=limit, lease=lease, now=now, token=token)

        while True:
            claimed = self._database.attempt(claim)
            if not claimed.is_more:
                return claimed
            tries = itertools.count()

    def _adopt(self, some: Sequence[Outgoing], lease: float) -> Sequence[Delivery | None]:
        token = next(self._tokens)
        now = self._database.now
        return self._database.attempt(
            lambda session: messages.adopt(session, some, lease=lease, now=now, token=token)
        )

    def _ring(self) -> None:
        self._database.attempt(lambda session: session.run(hints(self._schema, Bell.MESSAGES)))


def _pause_after(claimed: messages.Claimed) -> float:
    """Seconds for which nothing more is due, as far as a claim can tell that took all there was."""
    if claimed.deliveries:
        return _LOOK_LATER_SECONDS
    if claimed.pause is None:
        return _LOOK_AGAIN_SECONDS
    return max(_MIN_PAUSE_SECONDS, min(_LOOK_AGAIN_SECONDS, claimed.pause))
