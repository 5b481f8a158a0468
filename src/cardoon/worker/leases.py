"""Keeps what the worker holds: renews leases, takes back what the dead held, hears revocations.

It also looks now and then at how long certificates are still good.

A thread of its own, which no task and no slow claim can hold up. A worker that is stopped for longer
than a lease loses its messages; it finds out here, and stops what it still runs of them.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import Broadcaster, Broker, Inspectable, Maintained
from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, Refusal, RefusedError
from cardoon.message.protocol import REVOKE, REVOKE_BY_STAMPS, Kind
from cardoon.message.serializers import decode_body
from cardoon.producer import EVERY_WORKER
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.sender import Revocation
from cardoon.stamps import RevokedStamps
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.orders import Orders
from cardoon.worker.subscribing import Subscriptions

logger = logging.getLogger(__name__)

TICK = 1.0
MAX_REVOKED = 50_000
"""Revoked ids remembered; as many as Celery does."""
CONTROL = "control"
"""Where a refused control message says it came from, in the quarantine."""


class Revoked:
    """The ids and the stamps that are not to run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # protects the table
        self._ids: OrderedDict[str, None] = OrderedDict()
        self.stamps = RevokedStamps()

    def add(self, ids: tuple[str, ...]) -> None:
        """Remember these; the oldest are forgotten beyond the bound."""
        with self._lock:
            for one in ids:
                self._ids[one] = None
                self._ids.move_to_end(one)
            while len(self._ids) > MAX_REVOKED:
                self._ids.popitem(last=False)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._ids

    def covers(self, held: Held) -> bool:
        """Whether a message that has come is revoked. Stamps cost nothing while none are."""
        if held.id in self._ids:
            return True
        return bool(self.stamps) and self.stamps.covers(held.headers.get("stamps"))


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
        self._heard = 0
        self._renewed = clock.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Subscribe, hear which revocations there were before, then begin."""
        if self._subscriptions is not None:
            self._subscriptions.begin()
        self.listen()
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
        still = {(delivery.receipt, delivery.attempt) for delivery in kept}
        for one in held:
            if (one.delivery.receipt, one.delivery.attempt) in still:
                continue
            if self._held.get(one.key) is one:  # not settled in the meantime
                logger.warning("the lease on task %s[%s] was lost; it is stopped", one.task, one.id)
                self._audit.record("task.lease_lost", task=one.task, task_id=one.id)
                self._on_lost(one)

    def listen(self) -> None:
        """Take in what was broadcast since the last time."""
        if not isinstance(self._broker, Broadcaster):
            return
        for number, frame in self._broker.heard(self._heard):
            self._heard = number
            try:
                message = self._orders.open(frame)
                revocation, until = _read_revocation(message, max_bytes=self._max_bytes)
            except RefusedError as error:
                self._refuse(frame, error)
            else:
                self._carry_out(revocation, until=until)
        self._revoked.stamps.forget_expired(self._clock.now())

    def _carry_out(self, revocation: Revocation, *, until: float) -> None:
        self._revoked.add(revocation.task_ids)
        if revocation.stamps:
            self._revoked.stamps.add(revocation.stamps, until=until)
        if not revocation.terminate:
            return
        wanted = RevokedStamps()
        wanted.add(revocation.stamps, until=until)
        ids = set(revocation.task_ids)
        for held in self._held.all():
            if held.id in ids or wanted.covers(held.headers.get("stamps")):
                held.revoked = revocation.signal
                self._on_terminate(held, revocation.signal)

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


def open_revocation(gate: Gate, frame: bytes, *, max_bytes: int) -> tuple[Revocation, float]:
    """A revocation, and until when it holds; `RefusedError` for all else. To hear it again changes nothing."""
    message = gate.open(frame, kind=Kind.CONTROL, audience=frozenset({EVERY_WORKER}))
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
