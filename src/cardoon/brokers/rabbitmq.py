"""The RabbitMQ driver of the Broker contract: a server of queues, and a companion for all else.

AMQP cannot deduplicate, fence, count, keep what sleeps, or remember. So plain messages travel through
RabbitMQ, and a batch that is taken is at once lent by the companion as well (`Adopting.adopt`), a broker of
another kind whose store is usually the result backend's. From then on a loan is the companion's: its
attempts, crashes, claims, results and ends are those of any other. RabbitMQ keeps its own copy until the
companion has written down how the loan ended, so that the loss of either loses nothing.

What cannot travel, lies in the companion from the start: what waits for others or for a time, what others
of the same batch wait for, what is unique or limited, what is broadcast; and all that goes back to its
queue. The companion also says who subscribes, and which queues rest.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from cardoon.broker import (
    Broker,
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
from cardoon.endpoints import Access, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.quarantine import Fill
from cardoon.rabbitmq.beside import Beside
from cardoon.rabbitmq.companion import Companion, Epochs
from cardoon.rabbitmq.parting import part
from cardoon.rabbitmq.queues import Names, Place
from cardoon.rabbitmq.resting import LOOK_AGAIN_SECONDS, Resting
from cardoon.recalling import Recalling
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState

try:
    from cardoon.rabbitmq.flow import Parcel
    from cardoon.rabbitmq.intake import Intake
    from cardoon.rabbitmq.line import GUEST, Line, open_line
    from cardoon.rabbitmq.publishing import Publisher
    from cardoon.rabbitmq.server import Server
    from cardoon.rabbitmq.watching import Watcher
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "pika":
        raise
    raise ImproperlyConfigured(
        "broker_url: amqp needs pika; pip install 'cardoon[rabbitmq]'"
    ) from missing

PREFIX = "cardoon"
"""With which the names of all queues on the server begin."""

OPTIONS = frozenset({"store", "global_keyprefix", "visibility_timeout"})
"""Of `broker_transport_options`: where the companion is, the prefix, and the worker's lease."""

IDLE_SECONDS = 2.0
"""How long a message may lie here without being taken, while others may have time for it."""

_TIME = SystemClock()


class _Loan(NamedTuple):
    """What the companion lends, and the server's copy of it."""

    delivery: Delivery
    parcel: Parcel
    until: float
    """By the monotonic clock."""


def connect(
    url: str,
    *,
    clock: Clock,
    timeout: float,
    access: Access,
    transport: Mapping[str, Any],
    companion: Broker | None,
) -> RabbitmqBroker:
    """The broker that an `amqp:` URL means, with its companion, which it will close."""
    endpoints = parse_endpoints(url, setting="broker_url", access=access)
    if unknown := sorted(set(transport) - OPTIONS):
        raise ImproperlyConfigured(
            f"broker_transport_options: {unknown[0]!r} is nothing that RabbitMQ is told; it takes "
            f"{', '.join(sorted(OPTIONS))}"
        )
    if companion is None:
        raise TypeError("RabbitMQ needs a companion")
    if not isinstance(companion, Companion):
        raise ImproperlyConfigured(
            f"broker_transport_options: its store, {type(companion).__name__}, cannot stand beside "
            "RabbitMQ; use sqlite, redis or postgresql"
        )

    # What it has to say of a connection that is lost, is in our own errors; the rest is noise.
    logging.getLogger("pika").setLevel(logging.CRITICAL)

    def open_one(purpose: str, deadline: float) -> Line:
        return open_line(endpoints, purpose=purpose, deadline=deadline, patience=timeout)

    names = Names(str(transport.get("global_keyprefix", PREFIX)))
    server = Server(names, open_one, endpoints[0].username or GUEST, timeout)
    return RabbitmqBroker(server, companion=companion, clock=clock)


class RabbitmqBroker(Beside):
    """Broker, with all optional powers but `Findable`: nobody can ask AMQP where a message is."""

    def __init__(self, server: Server, *, companion: Companion, clock: Clock) -> None:
        self.server = server
        self._companion = companion
        self._clock = clock
        self._timeout = server.timeout
        self._begin()

    def _begin(self) -> None:
        names, open_line = self.server.names, self.server.open_line
        self._process = os.getpid()
        self._publisher = Publisher(names, partial(open_line, "publishing"))
        self._intake = Intake(names, partial(open_line, "taking"))
        self._watcher = Watcher(self._companion, self._intake.changed)
        self._resting = Resting(self._companion)
        self._epochs = Epochs(self._companion)
        self._lock = threading.Lock()  # guards the loans
        self._loans: dict[int | str, _Loan] = {}
        self._receipts: dict[str, int | str] = {}
        self._turn = 0

    def _renew(self) -> None:
        """In a forked child, begin anew: connections, threads and locks are the parent's."""
        if self._process != os.getpid():
            self._begin()

    @property
    def companion(self) -> Broker:
        """The broker beside it, for a result backend that shares its store."""
        return self._companion

    def declare(self, queues: Sequence[str]) -> None:
        """Make the queues, here and there; doing it again changes nothing."""
        self._renew()
        self._companion.declare(queues)
        places = [Place(queue, 0) for queue in queues]
        self._publisher.declare(places, self._deadline())
        self._intake.know(places)

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> Mapping[str, str]:
        """Store durably before returning; say who stands in for whom.

        What RabbitMQ cannot carry is stored first, all or none of it; then the rest, in one round of
        confirms. When this raises, some of the rest may be stored: the same ids may be sent again.
        """
        self._renew()
        deadline = _TIME.monotonic() + timeout
        plain, other = part(outgoing, now=self._clock.now())
        stand_ins: Mapping[str, str] = {}
        if other:
            stand_ins = self._companion.publish(other, timeout=timeout)
        if plain:
            self._publisher.publish(plain, deadline)
            self._epochs.ensure()
            self._intake.know({Place(sent.queue, sent.priority) for sent in plain})
        return stand_ins

    def receive(
        self, queues: Sequence[str], *, limit: int, lease: float, timeout: float
    ) -> Sequence[Delivery]:
        """Lease up to `limit` due messages, the most urgent first; the queues take turns.

        So do the two stores, each of which knows only its own messages' priorities.
        """
        self._renew()
        deadline = _TIME.monotonic() + timeout
        intake, watcher = self._intake, self._watcher
        known = intake.news
        found = self._look(queues, limit, lease, is_exact=timeout <= 0)
        try:
            while not found and (remaining := deadline - _TIME.monotonic()) > 0:
                watcher.watch(queues, lease)
                with intake.changed:
                    intake.changed.wait_for(
                        lambda: (
                            watcher.has_any
                            or intake.has_any(queues)
                            or intake.news != known  # noqa: B023  # it is called at once
                            or not intake.is_connected
                        ),
                        min(remaining, LOOK_AGAIN_SECONDS),
                    )
                    has_spare, known = watcher.has_any, intake.news
                found = self._look(queues, limit, lease, asks_companion=has_spare)
        finally:
            watcher.rest()
        return found

    def extend(self, deliveries: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew the leases, and return those that are still held."""
        self._renew()
        kept = self._companion.extend(deliveries, lease=lease)
        still = {(delivery.receipt, delivery.attempt) for delivery in kept}
        until = self._clock.monotonic() + lease
        lost = []
        with self._lock:
            for delivery in deliveries:
                loan = self._loan_of(delivery)
                if loan is None:
                    continue
                if (delivery.receipt, delivery.attempt) in still:
                    self._loans[delivery.receipt] = loan._replace(until=until)
                else:
                    lost.append(self._forget(loan))
        self._intake.put_back(lost)
        return kept

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[bool]:
        """End each loan; False where the lease was lost before."""
        return self.complete([Completion(settlement) for settlement in settlements])

    def close(self) -> None:
        """Let go of every connection, the companion's too; safe twice."""
        self._renew()
        self._watcher.close()
        self._intake.close()
        self._publisher.close()
        self._companion.close()

    def complete(self, completions: Sequence[Completion]) -> Sequence[bool]:
        """End loans in one step of the companion; then RabbitMQ may forget its copies.

        What is published goes into the companion, in that same step.
        """
        self._renew()
        taken = self._companion.complete(completions)
        done: list[Parcel] = []
        lost: list[Parcel] = []
        with self._lock:
            for completion, took in zip(completions, taken, strict=True):
                loan = self._loan_of(completion.settlement.delivery)
                if loan is not None:
                    (done if took else lost).append(self._forget(loan))
        self._intake.acknowledge(done)
        self._intake.put_back(lost)
        return taken

    @property
    def claimant(self) -> str:
        """What the claims of this process go by in the companion."""
        return self._companion.claimant if isinstance(self._companion, Recalling) else ""

    def recall(self, claimant: str) -> Sequence[Delivery]:
        """What a claimant took; a companion that is a file knows by itself who is dead."""
        if not claimant or not isinstance(self._companion, Recalling):
            return []
        return self._companion.recall(claimant)

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step."""
        self._renew()
        states = self._companion.claim(self._epochs.judged(claims))
        with self._lock:
            return [
                NonceState.REPEATED if state is NonceState.DONE and self._is_copy(asked) else state
                for asked, state in zip(claims, states, strict=True)
            ]

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done, durably."""
        self._companion.finish(nonces)

    def memory(self) -> Memory:
        """How far back the companion remembers."""
        return self._companion.memory()

    def begin_anew(self) -> Memory:
        """Begin another epoch."""
        return self._companion.begin_anew()

    def maintain(self) -> int:
        """Take back what silent workers held, and give back what nobody here has taken."""
        self._renew()
        taken_back = self._companion.maintain()
        now = self._clock.monotonic()
        with self._lock:
            # The companion has taken these back. Its copy is checked once more by who gets ours.
            overdue = [loan for loan in self._loans.values() if loan.until <= now]
            parcels = [self._forget(loan) for loan in overdue]
        self._intake.put_back(parcels)
        self._intake.give_back(IDLE_SECONDS)
        self._watcher.release(IDLE_SECONDS)
        return taken_back

    def subscribe(self, subscriptions: Sequence[Subscription], *, seconds: float) -> Sequence[bool]:
        """Begin them, or renew them; their queues are the companion's alone."""
        self._renew()
        self._resting.leave_to_companion(one.queue for one in subscriptions)
        return self._companion.subscribe(subscriptions, seconds=seconds)

    def unsubscribe(self, subscriptions: Sequence[Subscription]) -> int:
        """End them, and delete the copies that wait; return how many."""
        return self._companion.unsubscribe(subscriptions)

    def broadcast(self, frame: bytes, *, expires_at: float) -> None:
        """Keep a frame for every worker until it expires."""
        self._companion.broadcast(frame, expires_at=expires_at)

    def heard(self, after: int) -> Sequence[tuple[int, bytes]]:
        """Frames numbered higher than `after`, in order, each with its number."""
        return self._companion.heard(after)

    def pause(self, queues: Sequence[str]) -> None:
        """Let queues rest. Workers elsewhere notice within `LOOK_AGAIN_SECONDS`."""
        self._companion.pause(queues)
        self._resting.look_anew()

    def resume(self, queues: Sequence[str]) -> None:
        """Let queues go on."""
        self._companion.resume(queues)
        self._resting.look_anew()

    def resting(self) -> Collection[str]:
        """The queues that rest."""
        return self._companion.resting()

    def depths(self) -> Sequence[QueueDepth]:
        """What lies in each queue. How old it is, RabbitMQ cannot tell, so `oldest` is the companion's."""
        self._renew()
        deadline = self._deadline()
        return [
            dataclasses.replace(
                depth, ready=depth.ready + self._intake.count(depth.queue, deadline)
            )
            for depth in self._companion.depths()
        ]

    def purge(self, queue: str) -> int:
        """Delete what waits in a queue: ready, limited, scheduled and dormant; return how many."""
        self._renew()
        return self._companion.purge(queue) + self._intake.purge(queue, self._deadline())

    def limits(self, *, limit: int) -> Sequence[LimitUse]:
        """The keys that hold messages back, those with the most waiting first."""
        return self._companion.limits(limit=limit)

    def kept(self, where: Kept, *, limit: int, after: int = 0) -> Sequence[KeptMessage]:
        """Kept messages by number, from the one behind `after`."""
        return self._companion.kept(where, limit=limit, after=after)

    def restore(self, where: Kept, numbers: Sequence[int]) -> int:
        """Put kept messages back; return how many. Whether an id waits in RabbitMQ nobody can tell."""
        return self._companion.restore(where, numbers)

    def discard(self, where: Kept, numbers: Sequence[int] | None) -> int:
        """Delete kept messages, all of them for None; return how many."""
        return self._companion.discard(where, numbers)

    def quarantine(self, *, queue: str, id: str, frame: bytes, reason: str, detail: str) -> None:
        """Keep a frame that came by another way than a queue."""
        self._companion.quarantine(queue=queue, id=id, frame=frame, reason=reason, detail=detail)

    def quarantined(self) -> Sequence[Fill]:
        """How much lies in the quarantine for each reason."""
        return self._companion.quarantined()

    def thin_out(self, reason: str, *, messages: int, bytes: int) -> Fill:
        """Delete the oldest of a reason until at most so much is left; return what is gone."""
        return self._companion.thin_out(reason, messages=messages, bytes=bytes)

    def _deadline(self) -> float:
        return _TIME.monotonic() + self._timeout

    def _look(
        self,
        queues: Sequence[str],
        limit: int,
        lease: float,
        *,
        is_exact: bool = False,
        asks_companion: bool = True,
    ) -> list[Delivery]:
        """What is due at this moment, in either store."""
        self._turn += 1
        start = self._turn % len(queues)
        turned = [*queues[start:], *queues[:start]]
        there: list[Delivery] = []
        here: list[Delivery] = []
        failure: OperationalError | None = None
        # Who is away must not keep the other one's messages from anybody.
        is_first = self._turn % 2 == 0 and self._intake.is_connected
        for is_here in (True, False) if is_first else (False, True):
            try:
                if is_here:
                    here = self._take(turned, limit - len(there), lease, is_exact=is_exact)
                elif asks_companion:
                    there = self._receive(turned, limit - len(here), lease)
            except OperationalError as error:
                failure = error
        if failure is not None and not (here or there):
            raise failure
        # What lies in the companion was sent first, as a rule: it has waited, or has run before.
        return sorted([*there, *here], key=lambda delivery: -delivery.priority)

    def _receive(self, queues: Sequence[str], limit: int, lease: float) -> list[Delivery]:
        """What is due in the companion."""
        if limit <= 0:
            return []
        spare = self._watcher.take(queues)
        if len(spare) == limit:
            return spare
        rest = self._companion.receive(queues, limit=limit - len(spare), lease=lease, timeout=0)
        return [*spare, *rest]

    def _take(
        self, queues: Sequence[str], limit: int, lease: float, *, is_exact: bool
    ) -> list[Delivery]:
        """What has come from the server, lent by the companion."""
        awake, resting = self._resting.part(queues)
        self._intake.rest(resting)
        parcels = self._intake.take(awake, limit, self._deadline(), is_exact=is_exact)
        if not parcels:
            return []
        messages = [
            Outgoing(each.place.queue, each.id, each.frame, each.place.level) for each in parcels
        ]
        try:
            # A copy is acknowledged when the companion has the message, so that must be on disk.
            durable = any(each.is_copy for each in parcels)
            lent = self._companion.adopt(messages, lease=lease, durable=durable)
        except OperationalError:
            self._intake.untake(parcels)
            raise
        return self._note(parcels, lent, until=self._clock.monotonic() + lease)

    def _note(
        self, parcels: Sequence[Parcel], lent: Iterable[Delivery | None], *, until: float
    ) -> list[Delivery]:
        """Remember which copies belong to what was lent; copies of what is stored have had their day."""
        found, needless = [], []
        with self._lock:
            for parcel, delivery in zip(parcels, lent, strict=True):
                if delivery is not None:
                    self._loans[delivery.receipt] = _Loan(delivery, parcel, until)
                    self._receipts[delivery.id] = delivery.receipt
                    found.append(delivery)
                    continue
                held = self._loans.get(self._receipts.get(parcel.id, ""))
                if held is not None and not held.parcel.line.is_alive:
                    # It runs here, and was delivered again because its connection was lost.
                    self._loans[held.delivery.receipt] = held._replace(parcel=parcel)
                else:
                    needless.append(parcel)
        self._intake.acknowledge(needless)
        return found

    def _loan_of(self, delivery: Delivery) -> _Loan | None:
        """Called with the lock held."""
        loan = self._loans.get(delivery.receipt)
        if loan is None:
            return None
        named = (loan.delivery.id, loan.delivery.attempt)
        return loan if named == (delivery.id, delivery.attempt) else None

    def _forget(self, loan: _Loan) -> Parcel:
        """Called with the lock held."""
        del self._loans[loan.delivery.receipt]
        if self._receipts.get(loan.delivery.id) == loan.delivery.receipt:
            del self._receipts[loan.delivery.id]
        return loan.parcel

    def _is_copy(self, asked: NonceClaim) -> bool:
        """Called with the lock held. Who died with it in the companion may have got it as a copy."""
        loan = self._loans.get(asked.receipt)
        return asked.crashes > 0 or (loan is not None and loan.parcel.is_copy)
