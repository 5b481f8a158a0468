"""The consumer: from a delivery to a job. Receive, open at the gate, claim the nonce, submit.

It claims no more than the pool has room for, so nothing waits here: urgent messages overtake others
in the broker till the last moment, and a worker that dies holds little.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cardoon import states
from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import (
    Ack,
    Broker,
    Cause,
    Completion,
    Delivery,
    Quarantine,
    Requeue,
)
from cardoon.clock import Clock
from cardoon.contents import join_codec, split_codec
from cardoon.exceptions import NotRegistered, OperationalError, Refusal, RefusedError
from cardoon.message.headers import TICK, parse_headers
from cardoon.message.protocol import Take
from cardoon.security.gate import DeniedError, Gate, VerifiedMessage
from cardoon.security.replay import Nonce, NonceState, ReplayGuard
from cardoon.worker.alarms import RefusalAlarm
from cardoon.worker.catalogue import RULES_OF_UNKNOWN, Catalogue, TaskRules
from cardoon.worker.claiming import Options
from cardoon.worker.concluding import (
    EXPIRED,
    Conclusion,
    ResultState,
    conclude,
    dead,
    denied,
    end_of_lost,
    own_words,
    revoked,
    skipped,
)
from cardoon.worker.early import acknowledge_early
from cardoon.worker.epochs import forgotten
from cardoon.worker.held import Held, HeldTable, nonce_claims
from cardoon.worker.inputs import Inputs, read_inputs
from cardoon.worker.isolation import NO_ISOLATION, Isolation, meant_for
from cardoon.worker.job_heads import make_job
from cardoon.worker.leasebook import LeaseBook
from cardoon.worker.leases import Revoked
from cardoon.worker.notices import Notices, Watcher, tell_received, tell_refused, tell_unknown
from cardoon.worker.opening import Opened, Opener, check_id, until_next_look
from cardoon.worker.pool import Job, Pool, Unreadable
from cardoon.worker.rates import Rates
from cardoon.worker.recording import TaskRecords
from cardoon.worker.settler import Bare, Concluded, Settler, State
from cardoon.worker.terms import expiry, time_left
from cardoon.worker.vitals import Deed, Loop, Vitals

logger = logging.getLogger(__name__)

MAX_CLAIM = 256
"""Messages in one claim."""
HELD_ELSEWHERE_DELAY = 5.0
"""Seconds until a message is looked at again whose copy is being carried out now."""
UNKNOWN_DELAY = 5.0
_MOST_RENEWALS = 3
"""Of leases whose time runs out before anything has begun; each may be late itself."""


class Consumer:
    """Feeds a pool from the broker, in a thread of its own."""

    def __init__(
        self,
        options: Options,
        *,
        broker: Broker,
        guard: ReplayGuard,
        gate: Gate,
        pool: Pool,
        settler: Settler,
        held: HeldTable,
        revoked_ids: Revoked,
        catalogue: Catalogue,
        audit: AuditLog,
        clock: Clock,
        notices: Notices | None = None,
        watchers: Sequence[Watcher] = (),
        book: LeaseBook | None = None,
        isolation: Isolation = NO_ISOLATION,
        alarm: RefusalAlarm | None = None,
        records: TaskRecords | None = None,
        vitals: Vitals | None = None,
    ) -> None:
        self._options = options
        self._broker = broker
        self._guard = guard
        self.broadcasts = options.broadcasts
        self.sources = (*options.queues, *options.broadcasts)
        """What messages are received from."""
        self._opener = Opener(gate, options.queues, options.broadcasts)
        self._pool = pool
        self._settler = settler
        self._held = held
        self._revoked = revoked_ids
        self._catalogue = catalogue
        self.rates = Rates({n: r.rate_limit for n, r in catalogue.items() if r.rate_limit})
        self._audit = audit
        self._clock = clock
        self._notices = notices
        self._watchers = watchers
        self._book = book
        self._isolation = isolation
        self._alarm = alarm
        self._records = records
        self._vitals = vitals or Vitals(clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self.refused = 0
        self.wanted: tuple[str, ...] | None = None
        """What it is to take from its next claim on, if that is to change."""
        self._failing_since: float | None = None

    def start(self) -> None:
        """Begin to consume."""
        self._thread.start()

    def consume_from(self, queues: Sequence[str]) -> None:
        """Take these queues from now on. For the thread that consumes; `wanted` is for any other."""
        self._options = self._options._replace(queues=tuple(queues))
        self.sources = (*queues, *self.broadcasts)
        self._opener.accept_queues(queues)

    def request_stop(self) -> None:
        """Claim no more; returns at once."""
        self._stop.set()

    def stop(self, timeout: float) -> None:
        """Claim no more, and wait for the last claim; safe twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._opener.close()

    def _run(self) -> None:
        delay = 0.05
        while not self._stop.is_set():
            self._vitals.turn(Loop.CONSUMER)
            try:
                self.consume()
                delay = 0.05
            except OperationalError as error:
                logger.warning("broker: %s; trying again", error)
                if self._failing_since is None:
                    self._failing_since = self._clock.monotonic()
                self._stop.wait(delay)
                delay = min(5.0, delay * 2)
            except Exception:  # it must outlive any one batch, whose leases bring the tasks back
                logger.exception("consumer")
                self._stop.wait(1.0)

    def consume(self) -> None:
        """One round: claim as many as there is room for, and hand them on."""
        room = self._pool.wait_for_room(0.5)
        if self.wanted is not None:
            wanted, self.wanted = self.wanted, None
            self.consume_from(wanted)
        if not self.sources:
            self._stop.wait(self._options.patience)
        if self._audit.must_pause:
            self._stop.wait(self._options.patience)
            return
        if room <= 0 or self._stop.is_set() or not self.sources:
            return
        asked_at = self._clock.monotonic()
        deliveries = self._broker.receive(
            self.sources,
            limit=min(room, MAX_CLAIM),
            lease=self._options.lease,
            timeout=self._options.patience,
        )
        self._vitals.done(Deed.CLAIM)
        if self._failing_since is not None:
            seconds = self._clock.monotonic() - self._failing_since
            logger.info("broker: claims again after %.1f s", seconds)
            self._failing_since = None
        if not deliveries:
            return
        if self._book is not None:
            self._book.note(deliveries)
        if self._takes_no_more():
            self._settler.put(*(Bare(Completion(Requeue(one))) for one in deliveries))
            return
        self.admit(deliveries, asked_at=asked_at)

    def _takes_no_more(self) -> bool:
        """Whether what was asked for came too late."""
        return self._stop.is_set() or self._audit.must_pause or self.wanted == ()

    def admit(self, deliveries: Sequence[Delivery], *, asked_at: float | None = None) -> None:
        """Open a batch at the gate, and make jobs of what may run now.

        `asked_at` is when they were asked for, by the monotonic clock: no lease began before.
        """
        now = self._clock.now()
        taken_at = self._clock.monotonic()
        due = []
        for delivery, opened in zip(deliveries, self._opener.open_all(deliveries), strict=True):
            if isinstance(opened, DeniedError):
                held = self._hold_denied(delivery, opened, taken_at)
            else:
                held = self._hold(delivery, opened, now, taken_at)
            if held is not None:
                due.append(held)
        ready = self._put_on_record(self._claim(due, now))
        ready = acknowledge_early(ready, broker=self._broker, guard=self._guard, book=self._book)
        if asked_at is not None:
            ready = self._still_leased(ready, asked_at)
        if not ready:
            return
        self._held.add(ready)
        if self._notices is not None:
            tell_received(self._notices, ready)
        for watcher in self._watchers:
            watcher.received(ready)
        jobs = [self._job(one) for one in ready]
        self._settler.put(*(State(one, _started(one)) for one in ready if one.rules.track_started))
        self._pool.submit(jobs)

    def _hold(
        self, delivery: Delivery, opened: Opened | RefusedError, now: float, taken_at: float
    ) -> Held | None:
        """The verified message, if it is due; otherwise its loan ends here."""
        try:
            if isinstance(opened, RefusedError):
                raise opened
            message = opened.message
            headers = parse_headers(message.claims.headers)
            check_id(delivery, message.claims, headers)
            inputs = read_inputs(message, opened.inputs)
            profile = self._profile_of(delivery, message, headers)
        except RefusedError as error:
            pause = until_next_look(error.reason, delivery.attempt)
            if pause is None:
                self._refuse(delivery, error)
            else:
                logger.warning("a message on queue %s is left for later: %s", delivery.queue, error)
                self._release(delivery, pause)
            return None
        claims = message.claims
        if (wait := time_left(claims, headers, inputs, now)) > 0.001:
            # Whoever can write the store can offer a message early; the signed time counts.
            self._release(delivery, wait)
            return None
        rules = self._catalogue.get(claims.task)
        if rules is None:
            if now - claims.issued_at < self._options.unknown_grace:
                self._release(delivery, UNKNOWN_DELAY)
                return None
            rules = RULES_OF_UNKNOWN
        elif wait := self.rates.wait_for(claims.task, taken_at):
            self._release(delivery, wait)
            return None
        held = self._make_held(delivery, message, rules, headers, taken_at=taken_at, inputs=inputs)
        held.profile = profile
        return held

    def _profile_of(
        self, delivery: Delivery, message: VerifiedMessage, headers: Mapping[str, Any]
    ) -> int:
        queue = self.broadcasts.get(delivery.queue, delivery.queue)
        queue = meant_for(message.claims.audience, queue)
        return self._isolation.index_for(message.claims.task, queue, headers)

    def _hold_denied(self, delivery: Delivery, error: DeniedError, taken_at: float) -> Held | None:
        """A message that must not run, whose sender is to be told."""
        message = error.message
        try:
            headers = parse_headers(message.claims.headers)
            check_id(delivery, message.claims, headers)
        except RefusedError as worse:
            self._refuse(delivery, worse, message)
            return None
        self._tell_refusal(delivery, error)
        rules = self._catalogue.get(message.claims.task, RULES_OF_UNKNOWN)
        held = self._make_held(delivery, message, rules, headers, taken_at=taken_at)
        held.denied = error.detail
        return held

    def _make_held(
        self,
        delivery: Delivery,
        message: VerifiedMessage,
        rules: TaskRules,
        headers: Mapping[str, Any],
        *,
        taken_at: float,
        inputs: Inputs | None = None,
    ) -> Held:
        answer = message.claims.codec
        if answer != self._options.result_codec:
            answer = join_codec(self._options.result_codec, split_codec(answer)[1])
        return Held(
            self._held.new_key(),
            delivery,
            message,
            rules,
            headers,
            taken_at=taken_at,
            inputs=inputs,
            answer_codec=answer,
            broadcast=self.broadcasts.get(delivery.queue),
        )

    def reopen(self, deliveries: Sequence[Delivery]) -> list[Held]:
        """Renew and hold what a dead worker held and whose body has ended: when it may begin is past."""
        found = []
        for delivery in self._broker.extend(deliveries, lease=self._options.lease):
            try:
                message = self._opener.open_sealed(delivery)
                headers = parse_headers(message.claims.headers)
            except RefusedError as error:
                logger.warning("a message on queue %s cannot be ended: %s", delivery.queue, error)
                continue
            rules = self._catalogue.get(message.claims.task)
            if rules is not None:
                now = self._clock.monotonic()
                found.append(self._make_held(delivery, message, rules, headers, taken_at=now))
        states = self._guard.claim(nonce_claims(found)) if found else ()
        ours = [
            one for one, state in zip(found, states, strict=True) if state is NonceState.CLAIMED
        ]
        self._held.add(ours)
        return ours

    def _claim(self, due: Sequence[Held], now: float) -> list[Held]:
        """Those that were never carried out before, and may be now."""
        if not due:
            return []
        ready = []
        for one, state in zip(due, self._guard.claim(nonce_claims(due)), strict=True):
            match state:
                case NonceState.CLAIMED:
                    conclusion = self._unseal(one) or self._end_at_once(one, now)
                    if conclusion is None:
                        ready.append(one)
                    else:
                        self._settler.put(Concluded(one, conclusion))
                case NonceState.HELD:
                    self._release(one.delivery, HELD_ELSEWHERE_DELAY)
                case NonceState.DONE if TICK not in one.headers:
                    error = RefusedError(Refusal.REPLAYED, "it was carried out before")
                    self._refuse(one.delivery, error, one.message)
                case NonceState.REPEATED | NonceState.DONE:
                    self._end_again(one)
                case NonceState.BEFORE_EPOCH:
                    # Marked, so that of its copies none but this one can ever be released.
                    error = forgotten(one)
                    self._refuse(one.delivery, error, one.message, one.message.nonce)
        return ready

    def _unseal(self, held: Held) -> Conclusion | None:
        """Decrypt what may be carried out; the conclusion of what cannot be."""
        error = None if held.denied is not None else self._opener.unseal(held)
        if error is None:
            return None
        self._tell_refusal(held.delivery, error)
        return conclude(held, Unreadable(error.reason, error.detail), now=0.0)

    def _end_at_once(self, held: Held, now: float) -> Conclusion | None:
        """The conclusion of a message that must not run, if it must not."""
        claims, rules = held.message.claims, held.rules
        if held.denied is not None:
            return denied(held, held.denied)
        if self._revoked.covers(held):
            return revoked(held, "revoked")
        if held.inputs is not None and not held.inputs.can_run:
            if held.inputs.take is Take.RESULT or not held.inputs.failure:
                return skipped(held, held.inputs)
            if rules is not RULES_OF_UNKNOWN:
                return None  # a process says which of several failed, and how
        if expiry(held) <= now:
            return revoked(held, EXPIRED, dead=True)
        if rules is RULES_OF_UNKNOWN:
            if self._notices is not None:
                tell_unknown(self._notices, held)
            error = NotRegistered(f"no worker on queue {held.queue!r} knows {claims.task!r}")
            return dead(held, error, f"unknown task {claims.task!r}")
        return end_of_lost(held)

    def _put_on_record(self, ready: list[Held]) -> list[Held]:
        """Those that may run: all, or none where each must be on record and cannot be."""
        if self._records is None or self._records.accept(ready):
            return ready
        logger.error("%d messages that cannot be put on record are handed back", len(ready))
        for one in ready:
            self._release(one.delivery, 0.0)
        return []

    def _still_leased(self, ready: list[Held], asked_at: float) -> list[Held]:
        """Those that may begin.

        The next renewal may be a third of the lease away, and a job may wait in the pool. So where a third
        is over before a job begins, as after a slow answer or a sleep of the host, all are renewed first.
        """
        lease = self._options.lease
        for left in range(_MOST_RENEWALS, -1, -1):
            leased = [one for one in ready if not one.settled]
            now = self._clock.monotonic()
            if not leased or now - asked_at <= lease / 3:
                return ready
            if not left:
                break
            asked_at = now
            try:
                kept = self._broker.extend([one.delivery for one in leased], lease=lease)
            except OperationalError as error:
                logger.warning("broker: %s", error)
                break
            still = {(delivery.receipt, delivery.attempt) for delivery in kept}
            ready = [
                one
                for one in ready
                if one.settled or (one.delivery.receipt, one.delivery.attempt) in still
            ]
        unsure = [one for one in ready if not one.settled]
        logger.warning("the store is too slow; %d messages are handed back unbegun", len(unsure))
        for one in unsure:
            self._release(one.delivery, 0.0)
        return [one for one in ready if one.settled]

    def _job(self, held: Held) -> Job:
        options = self._options
        held.isolation = self._isolation.told(held.profile)
        ticket = self._book.ticket(held.delivery).hex() if self._book is not None else ""
        return make_job(held, hostname=options.hostname, max_bytes=options.max_bytes, ticket=ticket)

    def _release(self, delivery: Delivery, delay: float) -> None:
        self._settler.put(Bare(Completion(Requeue(delivery, Cause.RELEASED, delay))))

    def _end_again(self, held: Held) -> None:
        """Acknowledge what has ended before. On record, for a broker may lie about its copies."""
        logger.info("task %s[%s] had ended before; its message came again", held.task, held.id)
        self._audit.record(
            "message.repeated", task=held.task, task_id=held.id, queue=held.delivery.queue
        )
        self._settler.put(Bare(Completion(Ack(held.delivery))))

    def _refuse(
        self,
        delivery: Delivery,
        error: RefusedError,
        message: VerifiedMessage | None = None,
        nonce: Nonce | None = None,
    ) -> None:
        """Quarantine, audit, count: nothing is dropped, and nobody's word but ours is in the log."""
        self._tell_refusal(delivery, error)
        claims = message.claims if message is not None else None
        self._audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="task",
            queue=delivery.queue,
            message=delivery.id,
            task=claims and claims.task,
            task_id=claims and claims.id,
            reason=error.reason.value,
            detail=error.detail,
        )
        settlement = Quarantine(delivery, error.reason.value, error.detail)
        self._settler.put(Bare(Completion(settlement, nonce=nonce)))

    def _tell_refusal(self, delivery: Delivery, error: RefusedError) -> None:
        """Count it, and say so to people and to receivers of signals."""
        self.refused += 1
        if self._alarm is not None:
            self._alarm.note(delivery.queue, error.reason)
        logger.warning("message on queue %s refused: %s", delivery.queue, error)
        if self._notices is not None:
            tell_refused(self._notices, delivery, error)
        for watcher in self._watchers:
            watcher.refused(delivery.queue, error.reason)


def _started(held: Held) -> ResultState:
    told = {"result": {"pid": os.getpid(), "task": held.task}}
    return own_words(states.STARTED, told, held)
