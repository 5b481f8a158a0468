"""The SQLite driver of the Broker contract, with all optional powers.

Messages, results, replay marks and what is kept lie in one file on one host; see
`cardoon.sqlite.database` for what durable means there. Leases are counted by the host's monotonic
clock, which stands still while the host is suspended, as the workers do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypedDict

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
from cardoon.exceptions import OperationalError
from cardoon.lookup import Place, Whereabouts
from cardoon.quarantine import Fill
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState
from cardoon.sqlite import (
    kept,
    limits,
    lookup,
    mending,
    messages,
    replay,
    settling,
    subscribers,
    upkeep,
)
from cardoon.sqlite.database import Database
from cardoon.sqlite.failures import explained
from cardoon.sqlite.location import parse_database_url
from cardoon.sqlite.posting import Posts, Records
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell

_LOOK_AGAIN_SECONDS = 1.0
"""Hints may be lost, so whoever waits looks at the database this often."""

_LEAVE_SECONDS = 1.0
"""How long a broker that closes tries to tidy up behind itself."""

_REAL_TIME = SystemClock()


class _Moment(TypedDict):
    """What time it is, by both clocks."""

    now: float
    monotonic: float


def connect(url: str, *, clock: Clock, timeout: float) -> SqliteBroker:
    """The broker in the file that a `sqlite:` URL means."""
    path = parse_database_url(url, setting="broker_url")
    return SqliteBroker(Database(path, clock=clock, timeout=timeout))


class SqliteBroker(Posts, Records):
    """Broker, with all optional powers."""

    def __init__(self, database: Database, *, boot: str | None = None) -> None:
        self._database = database
        self._boot = upkeep.load_boot_id() if boot is None else boot
        self._owner = upkeep.Owner(0, "", "")
        self._turn = 0

    @property
    def database(self) -> Database:
        """The database, for a result backend that shares it."""
        return self._database

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues; doing it again changes nothing."""
        with self._database.write(durable=True) as transaction:
            transaction.run("messages.declare", queues=document(queues))

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        """Store all or none, durably, before returning; say who stands in for whom."""
        if not outgoing:
            return {}
        with self._database.write(durable=True, timeout=timeout) as transaction:
            transaction.bells.add(Bell.MESSAGES)
            return messages.publish(transaction, outgoing, **self._moment())

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages, the most urgent first; the queues take turns."""
        deadline = _REAL_TIME.monotonic() + timeout
        with self._database.listen(Bell.MESSAGES) as listener:
            hinted = False
            while True:
                listener.drain()
                # After a hint the claim itself is the look, a good part of a millisecond sooner.
                ready, due = (True, None) if hinted else messages.look_out(self._database, queues)
                pause = _LOOK_AGAIN_SECONDS
                if due is not None:
                    pause = min(pause, due - self._database.clock.now())
                if ready or pause <= 0:
                    deliveries = self._claim_or_mend(queues, limit, lease, is_any_due=pause <= 0)
                    if deliveries:
                        return deliveries
                    if hinted:
                        hinted = False
                        continue
                    pause = max(pause, 0.0)
                remaining = deadline - _REAL_TIME.monotonic()
                if remaining <= 0:
                    return []
                hinted = listener.wait(min(pause, remaining))

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        if not deliveries:
            return []
        with self._database.write(durable=False) as transaction:
            until = self._database.clock.monotonic() + lease
            return messages.extend(transaction, deliveries, lease_until=until)

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before."""
        return self.complete([Completion(settlement) for settlement in settlements])

    def close(self) -> None:
        """Let go of every connection and of the lock that shows life; safe twice."""
        self._leave()
        self._database.close()

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """Settle, store results, mark nonces, publish and wake successors, in one transaction."""
        if not completions:
            return []
        with self._database.write(durable=True) as transaction:
            return settling.complete(transaction, completions, **self._moment())

    def adopt(
        self, messages_: Sequence[Outgoing], *, lease: float, durable: bool
    ) -> Sequence[Delivery | None]:
        """Store messages as lent to this process; None where the id is stored."""
        if not messages_:
            return []
        clock = self._database.clock
        owner = self._enter()
        with self._database.write(durable=durable) as transaction:
            return messages.adopt(
                transaction,
                messages_,
                owner=owner,
                now=clock.now(),
                lease_until=clock.monotonic() + lease,
            )

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step."""
        if not claims:
            return []
        with self._database.write(durable=False) as transaction:
            return replay.claim(transaction, claims, now=self._database.clock.now())

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done, durably."""
        with self._database.write(durable=True) as transaction:
            replay.finish(transaction, nonces)

    def memory(self) -> Memory:
        """How far back it remembers."""
        return replay.load_memory(self._database)

    def begin_anew(self) -> Memory:
        """Begin another epoch, durably."""
        with self._database.write(durable=True) as transaction:
            replay.begin_anew(transaction, now=self._database.clock.now())
        return self.memory()

    def maintain(self) -> int:
        """Take back what silent workers held, wake strays, and delete what has expired."""
        database, clock = self._database, self._database.clock
        now, monotonic = clock.now(), clock.monotonic()
        with explained(database.path):
            dead = upkeep.find_dead(database, database.presence, boot=self._boot)
        if not dead and not upkeep.is_anything_overdue(database, now=now, monotonic=monotonic):
            return 0
        taken_back = upkeep.tidy(database, dead, now=now, monotonic=monotonic)
        for owner in dead:
            database.presence.remove(owner.name)
        return taken_back

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them, for so many seconds; whether each was there."""
        if not subscriptions:
            return []
        now = self._database.clock.monotonic()
        with self._database.write(durable=True) as transaction:
            return subscribers.begin(transaction, subscriptions, now=now, until=now + seconds)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many."""
        if not subscriptions:
            return 0
        deleted, count = 0, kept.MAX_ROWS_AT_ONCE
        with self._database.write(durable=True) as transaction:
            queues = subscribers.end(transaction, subscriptions)
        while count == kept.MAX_ROWS_AT_ONCE:
            now = self._database.clock.monotonic()
            with self._database.write(durable=False) as transaction:
                count = subscribers.tidy_up(
                    transaction, queues, now=now, limit=kept.MAX_ROWS_AT_ONCE
                )
            deleted += count
        return deleted

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires."""
        with self._database.write(durable=True) as transaction:
            transaction.run("broadcasts.add", expires_at=expires_at, frame=frame)

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        now = self._database.clock.now()
        return self._database.rows("broadcasts.after", number=after, now=now)

    def pause(self, queues: Sequence[str]) -> None:
        """Let queues rest."""
        with self._database.write(durable=True) as transaction:
            transaction.run("pausing.pause", queues=document(list(queues)))

    def resume(self, queues: Sequence[str]) -> None:
        """Let queues go on."""
        with self._database.write(durable=True) as transaction:
            transaction.run("pausing.resume", queues=document(list(queues)))
            transaction.bells.add(Bell.MESSAGES)

    def resting(self) -> Collection[str]:
        """The queues that rest."""
        return {queue for (queue,) in self._database.rows("pausing.all")}

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies."""
        return lookup.find(self._database, ids, now=self._database.clock.now())

    def trace(self, id: str) -> Whereabouts | None:
        """All that is known of one message."""
        return lookup.trace(self._database, id, **self._moment())

    def were_done(self, nonces: Sequence[Nonce]) -> Sequence[bool]:
        """Whether what has these nonces was carried out."""
        return lookup.were_done(self._database, nonces)

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue, by name."""
        return kept.measure(self._database, **self._moment())

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many."""
        return sum(
            self._delete_in_steps(statements, place)
            for place in (queue, *subscribers.behind(self._database, queue))
            for statements in (
                ("kept.purge_dormant",),
                ("kept.purge_blocked", "kept.purge_ready"),
                ("kept.purge_scheduled",),
            )
        )

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        return limits.show(self._database, now=self._database.clock.now())[:limit]

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        return kept.show(self._database, where, limit=limit, after=after)

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back in their queues; return how many."""
        with self._database.write(durable=True) as transaction:
            return kept.restore(transaction, where, numbers, now=self._database.clock.now())

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        if numbers is None:
            return self._delete_in_steps(("kept.discard_some",), where.value)
        with self._database.write(durable=True) as transaction:
            return transaction.run("kept.discard", place=where.value, numbers=document(numbers))

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue."""
        with self._database.write(durable=True) as transaction:
            transaction.run(
                "kept.quarantine",
                queue=settling.printable(queue),
                id=settling.printable(id),
                frame=frame,
                reason=settling.printable(reason),
                detail=settling.printable(detail),
                now=self._database.clock.now(),
            )

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        return kept.fills(self._database)

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much is left; return what is gone."""
        with self._database.write(durable=False) as transaction:
            return kept.thin_out(transaction, reason, messages=messages, bytes=bytes)

    def _moment(self) -> _Moment:
        clock = self._database.clock
        return {"now": clock.now(), "monotonic": clock.monotonic()}

    def _claim_or_mend(
        self, queues: Sequence[str], limit: int, lease: float, *, is_any_due: bool
    ) -> list[Delivery]:
        """A claim that does not fail twice over the same odd rows."""
        try:
            return self._claim(queues, limit, lease, is_any_due=is_any_due)
        except OperationalError as error:
            if not mending.may_mend(error) or not mending.mend(self._database, queues):
                raise
        return self._claim(queues, limit, lease, is_any_due=is_any_due)

    def _claim(
        self, queues: Sequence[str], limit: int, lease: float, *, is_any_due: bool
    ) -> list[Delivery]:
        clock = self._database.clock
        owner = self._enter()
        self._turn += 1
        start = self._turn % len(queues)
        while True:
            with self._database.write(durable=False) as transaction:
                claim = messages.Claim(
                    transaction,
                    limit=limit,
                    now=clock.now(),
                    owner=owner,
                    lease_until=clock.monotonic() + lease,
                )
                deliveries = claim.take([*queues[start:], *queues[:start]], is_any_due=is_any_due)
            if deliveries or not claim.is_cut_short:
                return deliveries

    def _enter(self) -> int:
        """The number under which this process holds leases; it changes in a forked child."""
        name = self._database.show_life()
        if self._owner.name != name:
            with self._database.write(durable=False) as transaction:
                (number,) = transaction.row("upkeep.enter", name=name, boot=self._boot)
            self._owner = upkeep.Owner(number, name, self._boot)
        return self._owner.number

    def _leave(self) -> None:
        """Strike this process from the owners, unless it still holds leases."""
        owner, self._owner = self._owner, upkeep.Owner(0, "", "")
        if not owner.name or owner.name != self._database.presence.name:
            return
        try:
            with self._database.write(durable=False, timeout=_LEAVE_SECONDS) as transaction:
                left = transaction.run("upkeep.leave", owner=owner.number)
        except OperationalError:
            return  # the next worker finds the lock free and tidies up
        if left:
            self._database.presence.remove(owner.name)

    def _delete_in_steps(self, statements: Sequence[str], place: str) -> int:
        """A statement begins to delete in the step in which the one before it comes to its end."""
        deleted = 0
        while True:
            room = kept.MAX_ROWS_AT_ONCE
            with self._database.write(durable=True) as transaction:
                for statement in statements:
                    room -= transaction.run(statement, place=place, limit=room)
            deleted += kept.MAX_ROWS_AT_ONCE - room
            if room:
                return deleted
