"""Moves messages that wait from one broker's store to another's, as they are, and none without having verified it.

One batch after the other: lease at the source, open at the gate, claim the nonces at both stores, publish at the
destination, and only then acknowledge at the source. So what is interrupted anywhere has left every message in at
least one of the two stores, and to run it again finds those: a publish of what is stored already is dropped, and
what was carried out meanwhile is not published again. A mark in each store keeps copies from being carried out
there later.

It runs nothing and reads no arguments.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import (
    Ack,
    Broadcaster,
    Broker,
    Completion,
    Delivery,
    Inspectable,
    Outgoing,
    Quarantine,
    Requeue,
    Transactional,
)
from cardoon.clock import Clock
from cardoon.config import Settings, follow
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError
from cardoon.lookup import Traceable
from cardoon.message.headers import parse_headers
from cardoon.message.protocol import Kind
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.security.replay import NonceClaim, NonceState, ReplayGuard
from cardoon.worker.leases import open_revocation
from cardoon.worker.opening import check_id

BATCH = 50
LEASE_SECONDS = 60.0
"""Far more than a batch takes; what an interrupted run held is back at the source after it."""
PUBLISH_SECONDS = 10.0
MAX_ASIDE = 5_000
"""Messages that stay, held meanwhile so that they do not come again and again."""

ELSEWHERE = "of another task"
LIMITED = "unique or limited"
WITH_INPUTS = "it brings the results that it waited for"
HELD = "in hand at the moment"
LOST = "also moved: its lease was lost meanwhile, so it may run in both places"


class Store(Broker, Inspectable, Transactional, ReplayGuard, Protocol):
    """What both ends have to be."""


@dataclass
class Tally:
    """What became of messages so far."""

    moved: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By the reason: in the source's quarantine."""
    left: Counter[str] = field(default_factory=Counter)
    """By the reason: still at the source."""
    revocations: int = 0
    waiting: int = 0
    """Left at the source because they are not due."""
    leased: int = 0
    """Left at the source because somebody has them on loan."""
    interrupted: bool = False

    def describe(self) -> dict[str, object]:
        """For JSON."""
        return {
            "moved": self.moved,
            "refused": dict(self.refused),
            "left": {**self.left, "not due": self.waiting, "on loan": self.leased},
            "revocations": self.revocations,
            "interrupted": self.interrupted,
        }


class Plan(NamedTuple):
    """What is to be moved."""

    queues: Sequence[str]
    tasks: Collection[str]
    """By name; all if there are none."""
    limit: int
    """So many at most; 0 for all."""
    timeout: float
    """Seconds that are waited for a further message."""
    forever: bool


class _Due(NamedTuple):
    delivery: Delivery
    message: VerifiedMessage


@contextmanager
def open_store(settings: Settings, url: str, *, clock: Clock, name: str) -> Iterator[Store]:
    """The broker of a URL, reached as the project's settings say; `name` is the argument's, for errors."""
    plain = follow(url, name=name)
    if plain.partition(":")[0].lower() in {"memory", "cache+memory"}:
        raise ImproperlyConfigured(f"{name}: memory has nothing that another process could move")
    deployment = Deployment(replace(settings, broker_url=plain), clock=clock)
    broker = deployment.open_broker()
    with contextlib.closing(broker):
        powers = (Inspectable, Transactional, ReplayGuard)
        if not all(isinstance(broker, power) for power in powers):
            raise ImproperlyConfigured(f"{name}: messages of this broker cannot be moved")
        yield broker  # type: ignore[misc]  # the powers have just been seen


@contextmanager
def heeding_signals() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end a run behind its batch; yields whether one came."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: came.append(1)) for number in numbers]
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class Mover:
    """One run."""

    def __init__(
        self, source: Store, destination: Store, gate: Gate, *, clock: Clock, audit: AuditLog
    ) -> None:
        self._source = source
        self._destination = destination
        self._gate = gate
        self._clock = clock
        self._audit = audit
        self._aside: list[Delivery] = []
        self._renewed_at = clock.monotonic()
        self.tally = Tally()

    def run(
        self, plan: Plan, *, stopped: Callable[[], bool], on_progress: Callable[[Tally], None]
    ) -> Tally:
        """Move what is there, and with `forever` what comes; ends behind a batch once `stopped`."""
        self._check_apart()
        self._check_dormant()
        self._destination.declare(plan.queues)
        quiet_since = self._clock.monotonic()
        try:
            while not stopped() and (room := self._room(plan)) > 0:
                left = quiet_since + plan.timeout - self._clock.monotonic()
                deliveries = self._source.receive(
                    plan.queues,
                    limit=room,
                    lease=LEASE_SECONDS,
                    timeout=1.0 if plan.forever else max(0.0, min(left, 1.0)),
                )
                if deliveries:
                    self._move(deliveries, plan)
                    on_progress(self.tally)
                    quiet_since = self._clock.monotonic()
                elif left <= 1.0 and not plan.forever:
                    break
                self._renew_aside()
            self.tally.interrupted = stopped() and not plan.forever
        finally:
            self._give_back(self._aside)
        depths = [one for one in self._source.depths() if one.queue in set(plan.queues)]
        self.tally.waiting = sum(one.scheduled for one in depths)
        self.tally.leased = sum(one.leased for one in depths)
        return self.tally

    def copy_revocations(self, *, max_bytes: int) -> None:
        """Tell the destination's workers what was revoked at the source, before they get anything to run."""
        if not isinstance(self._source, Broadcaster):
            return
        if not isinstance(self._destination, Broadcaster):
            raise ImproperlyConfigured("the destination cannot keep what was revoked at the source")
        known = {hashlib.sha256(frame).digest() for _, frame in self._destination.heard(0)}
        for _, frame in self._source.heard(0):
            if hashlib.sha256(frame).digest() in known:
                continue
            try:
                _, until = open_revocation(self._gate, frame, max_bytes=max_bytes)
            except RefusedError:
                continue  # no worker would have heeded it either
            self._destination.broadcast(frame, expires_at=until)
            self.tally.revocations += 1

    def _check_apart(self) -> None:
        since = self._source.memory().since
        if since and since == self._destination.memory().since:
            raise ImproperlyConfigured(
                "migrate: both URLs lead to one store, or to a copy of it; name another destination"
            )

    def _check_dormant(self) -> None:
        """What waits for others is woken by their ends, which would be elsewhere."""
        dormant = {one.queue: one.dormant for one in self._source.depths() if one.dormant}
        if dormant:
            told = ", ".join(f"{count} in {queue}" for queue, count in dormant.items())
            raise ImproperlyConfigured(
                f"migrate: messages of workflows wait at the source for others to end ({told}), and would "
                "wait in vain; have workers there finish them first, while nobody sends more"
            )

    def _room(self, plan: Plan) -> int:
        """How many may be taken next."""
        room = min(BATCH, MAX_ASIDE - len(self._aside))
        return min(room, plan.limit - self.tally.moved) if plan.limit else room

    def _move(self, deliveries: Sequence[Delivery], plan: Plan) -> None:
        try:
            self._check_dormant()  # with what was just taken, as what waits for it is stored in its step
        except ImproperlyConfigured:
            self._give_back(deliveries)
            raise
        due = [one for one in map(self._open, deliveries) if one is not None]
        wanted = []
        for one in due:
            why = self._why_left(one, plan)
            if why:
                self._set_aside(one.delivery, why)
            else:
                wanted.append(one)
        self._carry_over(self._claim_at_source(wanted))

    def _open(self, delivery: Delivery) -> _Due | None:
        """The verified message; what does not verify goes to the quarantine, as a worker would put it."""
        try:
            message = self._gate.open(
                delivery.frame,
                kind=Kind.TASK,
                audience=frozenset({f"q:{delivery.queue}"}),
                queue=delivery.queue,
            )
            check_id(delivery, message.claims, parse_headers(message.claims.headers))
        except RefusedError as error:
            self._refuse(delivery, error)
            return None
        return _Due(delivery, message)

    def _why_left(self, one: _Due, plan: Plan) -> str:
        """Why a message stays where it is; nothing for one that goes."""
        if plan.tasks and one.message.claims.task not in plan.tasks:
            return ELSEWHERE
        if one.delivery.inputs:
            return WITH_INPUTS
        if isinstance(self._source, Traceable):
            where = self._source.trace(one.delivery.id)
            if where is not None and (where.limit or where.unique):
                return LIMITED
        return ""

    def _claim_at_source(self, due: Sequence[_Due]) -> list[_Due]:
        """Those that were not carried out there, as far as it knows."""
        if not due:
            return []
        states = self._source.claim(
            [
                NonceClaim(
                    one.message.nonce,
                    one.delivery.receipt,
                    one.delivery.attempt,
                    one.delivery.crashes,
                )
                for one in due
            ]
        )
        ours = []
        for one, state in zip(due, states, strict=True):
            match state:
                case NonceState.CLAIMED:
                    ours.append(one)
                case NonceState.HELD | NonceState.REPEATED:
                    self._set_aside(one.delivery, HELD)
                case NonceState.DONE:
                    self._refuse(
                        one.delivery,
                        RefusedError(Refusal.REPLAYED, "it was carried out before, at the source"),
                    )
                case NonceState.BEFORE_EPOCH:
                    error = RefusedError(
                        Refusal.BEFORE_EPOCH,
                        "the replay store began to remember after it was signed, so it may have run before",
                    )
                    self._refuse(one.delivery, error, one.message)
        return ours

    def _carry_over(self, due: Sequence[_Due]) -> None:
        """Publish at the destination what was not carried out there, and then forget it here."""
        if not due:
            return
        # No age is told: that they are no replays the source knows, whatever the destination remembers. And no
        # delivery has the number 0, so the one to come may claim what is claimed here.
        states = self._destination.claim(
            [NonceClaim(one.message.nonce._replace(signed_by=float("inf")), 0, 0) for one in due]
        )
        going = []
        for one, state in zip(due, states, strict=True):
            if state is NonceState.CLAIMED:
                going.append(one)
            elif state is NonceState.HELD:
                self._set_aside(one.delivery, HELD)
            else:
                error = RefusedError(
                    Refusal.REPLAYED, "it was carried out before, at the destination"
                )
                self._refuse(one.delivery, error)
        if not going:
            return
        self._destination.publish([self._outgoing(one) for one in going], timeout=PUBLISH_SECONDS)
        ended = self._source.complete(
            [Completion(Ack(one.delivery), nonce=one.message.nonce) for one in going]
        )
        self.tally.moved += len(going)
        if lost := ended.count(False):
            self.tally.left[LOST] += lost

    def _outgoing(self, one: _Due) -> Outgoing:
        delivery, eta = one.delivery, one.message.claims.eta
        run_at = (
            None if eta is None else eta / 1000
        )  # whoever can write a store can offer one early
        if run_at is not None and run_at <= self._clock.now():
            run_at = None
        return Outgoing(delivery.queue, delivery.id, delivery.frame, delivery.priority, run_at)

    def _refuse(
        self, delivery: Delivery, error: RefusedError, marked: VerifiedMessage | None = None
    ) -> None:
        nonce = None if marked is None else marked.nonce
        kept = Quarantine(delivery, error.reason.value, error.detail)
        self._source.complete([Completion(kept, nonce=nonce)])
        self.tally.refused[error.reason.value] += 1
        self._audit.record(
            REFUSAL_EVENTS[error.reason],
            queue=delivery.queue,
            message=delivery.id,
            reason=error.reason.value,
            detail=error.detail,
        )

    def _set_aside(self, delivery: Delivery, why: str) -> None:
        """Keep it on loan until the end of the run, without its bytes."""
        self._aside.append(delivery._replace(frame=b"", inputs=()))
        self.tally.left[why] += 1

    def _renew_aside(self) -> None:
        now = self._clock.monotonic()
        if self._aside and now - self._renewed_at > LEASE_SECONDS / 3:
            self._renewed_at = now
            self._source.extend(self._aside, lease=LEASE_SECONDS)

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        if deliveries:
            self._source.complete([Completion(Requeue(one)) for one in deliveries])
