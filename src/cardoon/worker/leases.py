"""Keeps what the worker holds: renews leases, takes back what the dead held, hears revocations.

It also looks now and then at how long certificates are still good.

A thread of its own, which no task and no slow claim can hold up. A worker that is stopped for longer
than a lease loses its messages; it finds out here, and stops what it still runs of them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import Broadcaster, Broker, Inspectable, Maintained
from cardoon.clock import Clock
from cardoon.commands import TERMINATE
from cardoon.exceptions import CardoonError, Refusal, RefusedError
from cardoon.message.protocol import (
    EVERY_WORKER,
    REVOKE,
    REVOKE_BY_STAMPS,
    STANDING_COMMANDS,
    Kind,
)
from cardoon.message.serializers import decode_body
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.sender import Revocation
from cardoon.stamps import RevokedStamps
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.orders import Orders, check_pattern, wants_reply
from cardoon.worker.subscribing import Subscriptions
from cardoon.worker.vitals import Deed, Loop, Vitals

logger = logging.getLogger(__name__)

TICK = 1.0
MAX_REVOKED = 50_000
"""Revoked ids remembered; as many as Celery does."""
MAX_UNTOLD = 100
"""Revocations whose effect is remembered until it is told; nobody asks after most of them."""
CONTROL = "control"
"""Where a refused control message says it came from, in the quarantine."""


class Revoked:
    """The ids and the stamps that are not to run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the table
        self._ids: OrderedDict[str, None] = OrderedDict()
        self.stamps = RevokedStamps()
        self._stopped: OrderedDict[str, list[str]] = OrderedDict()

    def add(self, ids: tuple[str, ...]) -> None:
        """Remember these; the oldest are forgotten beyond the bound."""
        with self._lock:
            for one in ids:
                self._ids[one] = None
                self._ids.move_to_end(one)
            while len(self._ids) > MAX_REVOKED:
                self._ids.popitem(last=False)

    def all(self) -> list[str]:
        """The ids, the oldest first."""
        with self._lock:
            return list(self._ids)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids

    def note_stopped(self, revocation: Revocation, ids: list[str]) -> None:
        """Remember which tasks a revocation has stopped, until that is told: they may be gone by then."""
        with self._lock:
            self._stopped[_key_of(revocation)] = ids
            while len(self._stopped) > MAX_UNTOLD:
                self._stopped.popitem(last=False)

    def take_stopped(self, revocation: Revocation) -> list[str]:
        """Those tasks, once."""
        with self._lock:
            return self._stopped.pop(_key_of(revocation), [])

    def covers(self, held: Held) -> bool:
        """Whether a message that has come is revoked. Stamps cost nothing while none are."""
        if held.id in self._ids:
            return True
        return bool(self.stamps) and self.stamps.covers(held.headers.get("stamps"))


def _key_of(revocation: Revocation) -> str:
    return json.dumps([sorted(set(revocation.task_ids)), dict(revocation.stamps)], sort_keys=True)


class Chore(Protocol):
    """What else is looked after. Raises `OperationalError` while the store is away."""

    def look(self) -> None:
        """See to it; called before the first claim, and about once a second from then on."""
        ...

    def end(self) -> None:
        """Leave nothing untold."""
        ...


class Keeper:
    """Renews, maintains and listens, about once a second."""

    def __init__(
        self,
        *,
        broker: Broker,
        orders: Orders,
        held: HeldTable,
        revoked: Revoked,
        audit: AuditLog,
        clock: Clock,
        lease: float,
        max_bytes: int,
        on_lost: Callable[[Held], None],
        on_terminate: Callable[[Held, str], object],
        subscriptions: Subscriptions | None = None,
        chores: Sequence[Chore] = (),
        vitals: Vitals | None = None,
        on_command: Callable[[VerifiedMessage], object] | None = None,
    ) -> None:
        self._broker = broker
        self._orders = orders
        self._held = held
        self._revoked = revoked
        self._audit = audit
        self._clock = clock
        self._lease = lease
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._on_terminate = on_terminate
        self._subscriptions = subscriptions
        self._chores = chores
        self._vitals = vitals or Vitals(clock)
        self.on_command = on_command
        self._listening = threading.Lock()  # protects what was heard
        self.heard = 0
        """The number of the last broadcast."""
        self._renewed = clock.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Subscribe, hear which revocations there were before, then begin."""
        if self._subscriptions is not None:
            self._subscriptions.begin()
        self.listen(at_first=True)
        for chore in self._chores:
            chore.look()
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End, and the subscriptions as well; safe twice."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        if self._subscriptions is not None:
            self._subscriptions.end()
        for chore in self._chores:
            chore.end()

    def _run(self) -> None:
        while not self._stop.wait(min(TICK, self._lease / 6)):
            self._vitals.turn(Loop.KEEPER)
            try:
                self.tick()
            except CardoonError as error:
                logger.warning("leases: %s", error)
            except Exception:  # the loop must outlive any one tick
                logger.exception("leases")

    def tick(self) -> None:
        """One round."""
        if self._clock.monotonic() - self._renewed >= self._lease / 3:
            self.renew()
        if self._subscriptions is not None:
            self._subscriptions.renew()
        if isinstance(self._broker, Maintained):
            taken = self._broker.maintain()
            if taken:
                logger.warning("took back %d messages of workers that are gone", taken)
        self.listen()
        if isinstance(self._broker, Maintained | Broadcaster):
            self._vitals.done(Deed.KEEPING)
        for chore in self._chores:
            chore.look()

    def renew(self) -> None:
        """Renew every lease in one call, and give up what is no longer ours.

        What the store does not answer is asked again at the next tick, and before anything is taken back:
        after an outage, leases that are over but that nobody has taken are still ours.
        """
        held = [one for one in self._held.all() if not one.settled]
        asked_at = self._clock.monotonic()
        kept = (
            self._broker.extend([one.delivery for one in held], lease=self._lease) if held else ()
        )
        self._renewed = asked_at
        self._vitals.done(Deed.RENEWAL)
        still = {(delivery.receipt, delivery.attempt) for delivery in kept}
        for one in held:
            if (one.delivery.receipt, one.delivery.attempt) in still:
                continue
            # What the settler is writing may have ended between the store's answer and this line.
            if self._held.get(one.key) is one and not one.is_ending:
                logger.warning("the lease on task %s[%s] was lost; it is stopped", one.task, one.id)
                self._audit.record("task.lease_lost", task=one.task, task_id=one.id)
                self._on_lost(one)

    def listen(self, *, at_first: bool = False) -> None:
        """Take in what was broadcast since the last time; `at_first`, what there was before this worker."""
        if not isinstance(self._broker, Broadcaster):
            return
        with self._listening:
            for number, frame in self._broker.heard(self.heard):
                self.heard = number
                try:
                    self._take(self._orders.open(frame))
                except RefusedError as error:
                    if not is_usual(error, at_first=at_first):
                        self._refuse(frame, error)
            self._revoked.stamps.forget_expired(self._clock.now())

    def _take(self, message: VerifiedMessage) -> None:
        """Carry out a revocation; hand on any other command."""
        if message.claims.task in STANDING_COMMANDS:
            revocation, until = _read_revocation(message, max_bytes=self._max_bytes)
            if revocation.terminate:
                self._orders.check(message, TERMINATE)
            self._carry_out(revocation, until=until)
            if not (wants_reply(message) and self._orders.is_new(message)):
                return
        if self.on_command is None:
            raise RefusedError(Refusal.BAD_CLAIMS, "not a command that this worker knows")
        self.on_command(message)

    def _carry_out(self, revocation: Revocation, *, until: float) -> None:
        self._revoked.add(revocation.task_ids)
        if revocation.stamps:
            self._revoked.stamps.add(revocation.stamps, until=until)
        if not revocation.terminate:
            return
        wanted = RevokedStamps()
        wanted.add(revocation.stamps, until=until)
        ids = set(revocation.task_ids)
        stopped = []
        for held in self._held.all():
            if held.id in ids or wanted.covers(held.headers.get("stamps")):
                held.revoked = revocation.signal
                self._on_terminate(held, revocation.signal)
                stopped.append(held.id)
        self._revoked.note_stopped(revocation, stopped)

    def _refuse(self, frame: bytes, error: RefusedError) -> None:
        logger.warning("control message refused: %s", error)
        self._audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="control",
            reason=error.reason.value,
            detail=error.detail,
        )
        if isinstance(self._broker, Inspectable):
            self._broker.quarantine(
                queue=CONTROL,
                id="",
                frame=frame,
                reason=error.reason.value,
                detail=error.detail,
            )


def is_usual(error: RefusedError, *, at_first: bool) -> bool:
    """Whether it is nothing to put on record that such a command is not carried out.

    It is for other workers; or it was there before this one, and was for that moment.
    """
    if error.reason is Refusal.WRONG_AUDIENCE:
        return True
    return at_first and error.reason is Refusal.EXPIRED


def open_revocation(gate: Gate, frame: bytes, *, max_bytes: int) -> tuple[Revocation, float]:
    """A revocation, and until when it holds; `RefusedError` for all else. To hear it again changes nothing."""
    message = gate.open(frame, kind=Kind.CONTROL, audience=frozenset({EVERY_WORKER}))
    check_pattern(message, "")  # what is for some workers does not hold for all
    return _read_revocation(message, max_bytes=max_bytes)


def _read_revocation(message: VerifiedMessage, *, max_bytes: int) -> tuple[Revocation, float]:
    content = decode_body(message.claims.codec, message.body, max_bytes=max_bytes)
    match message.claims.task, content:
        case command, {
            "ids": list(ids),
            "terminate": bool(terminate),
            "signal": str(signal),
        } if command == REVOKE:
            if all(isinstance(one, str) for one in ids):
                return Revocation(tuple(ids), terminate, signal), message.claims.valid_until
        case (
            command,
            {"headers": dict(stamps), "terminate": bool(terminate), "signal": str(signal)},
        ) if command == REVOKE_BY_STAMPS:
            if stamps and all(isinstance(values, list) for values in stamps.values()):
                revocation = Revocation((), terminate, signal, stamps)
                return revocation, message.claims.valid_until
    raise RefusedError(Refusal.BAD_CLAIMS, "not a command that this worker knows")
