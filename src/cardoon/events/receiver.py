"""The receiver: takes frames from the broker, opens each at the gate, and hands on their events.

What it refuses it counts, and what is missing it tells: the frames of one process are numbered under
their signature, so whoever takes some away, or shows one again, is noticed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.audit import REFUSAL_EVENTS, AuditLog
from cardoon.broker import Broker
from cardoon.clock import Clock
from cardoon.events.frames import CHANNEL, EventFrame, open_frame
from cardoon.events.kinds import LOST
from cardoon.exceptions import ImproperlyConfigured, OperationalError, Refusal, RefusedError
from cardoon.posting import Posting
from cardoon.security.gate import Gate

logger = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], object]

MAX_PROCESSES = 10_000
"""Whose frames are followed at a time: twice the workers that a `State` keeps."""
_BATCH = 50
"""Frames asked for at a time: at most 13 MB, and usually some 100 KB."""
_TOLERANCE = 5.0
"""Seconds by which the clocks of a worker and of a receiver may differ without a delay. A frame that was
signed earlier than that before a receiver began may be an old one that somebody shows again."""
_WAIT = 1.0
_TELL_OF_REFUSED = 1000
"""Frames refused for one reason between two lines of the log and the audit trail, the first included."""


class Station(NamedTuple):
    """What it takes to receive events."""

    broker: Broker
    gate: Gate
    audit: AuditLog
    clock: Clock


class Posted(NamedTuple):
    """How far the frames of one process were read."""

    sequence: int
    dropped: int
    expires_at: float
    """From when on the gate refuses all that were read, so that no copy of them can be taken for new."""


def need_posting(broker: object) -> Posting:
    """The broker, if it can carry events; `ImproperlyConfigured` with the remedy if not."""
    if isinstance(broker, Posting):
        return broker
    raise ImproperlyConfigured(
        "events: this broker carries none; with RabbitMQ name a store beside it, in "
        "broker_transport_options['store'] or result_backend"
    )


class EventReceiver:
    """Captures events: `app.events.Receiver(handlers={"task-failed": on_failed, "*": state.event})`.

    `handlers` are called with each event by its type, or by `*` those of no other; in the thread that
    captures, one after the other. For one thread at a time.
    """

    def __init__(self, station: Station, *, handlers: Mapping[str, Handler] | None = None) -> None:
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.should_stop = False
        """Set it, in a handler or in another thread, and capturing ends within a second."""
        self.refused: Counter[Refusal] = Counter()
        """Frames that the gate, or a look at their numbers, refused; by reason."""
        self.lost: Counter[str] = Counter()
        """What is missing: frames that somebody took away, or that came faster than they were read (`gap`),
        and events that their sender had no room for (`dropped`)."""
        self.received = 0
        self._station = station
        self._posting = need_posting(station.broker)
        self._since = int(station.clock.now() - _TOLERANCE)
        self._position: int | None = None
        self._processes: OrderedDict[tuple[bytes, str], Posted] = OrderedDict()

    def capture(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        wakeup: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
    ) -> None:
        """Hand on events until `limit` have come, or `should_stop`. Begins with what comes from now on.

        `TimeoutError` when none has come for `timeout` seconds. Workers tell of themselves every two
        seconds, so `wakeup` has nothing to do. While the broker is away it goes on trying.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        wakeup: bool = True,  # noqa: ARG002, FBT001, FBT002
    ) -> Iterator[dict[str, Any]]:
        """`capture` as an iterator: yields each event when its handler has been called."""
        clock = self._station.clock
        count = 0
        quiet_since = clock.monotonic()
        while not self._is_over(count, limit):
            left = _WAIT if timeout is None else timeout - (clock.monotonic() - quiet_since)
            if left <= 0:
                raise TimeoutError(f"no event within {timeout:g} seconds")
            for event in self.receive(min(_WAIT, left)):
                quiet_since = clock.monotonic()
                self.process(event["type"], event)
                count += 1
                yield event
                if self._is_over(count, limit):
                    return

    def receive(self, timeout: float) -> Sequence[dict[str, Any]]:
        """The events that have come, opened and in order; waits up to `timeout` seconds for the first."""
        try:
            found = self._read(timeout)
        except OperationalError as error:
            logger.warning("events: %s; trying again", error)
            time.sleep(min(timeout, _WAIT))
            return ()
        events: list[dict[str, Any]] = []
        for frame in found:
            events += self._open(frame)
        return events

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Call the handler of an event."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def wakeup_workers(self, channel: object = None) -> None:
        """Nothing to do: every worker tells of itself every two seconds."""

    def _is_over(self, count: int, limit: int | None) -> bool:
        return self.should_stop or (limit is not None and count >= limit)

    def _read(self, timeout: float) -> list[bytes]:
        if self._position is None:
            self._position = self._posting.position(CHANNEL)
        posted = self._posting.posted(CHANNEL, self._position, limit=_BATCH, timeout=timeout)
        frames = []
        for number, frame in posted:
            # Their own numbers, under the signature, say whose are missing.
            self._position = number
            frames.append(frame)
        return frames

    def _open(self, frame: bytes) -> list[dict[str, Any]]:
        try:
            opened = open_frame(self._station.gate, frame)
            told = self._follow(opened)
        except RefusedError as error:
            self._refuse(error)
            return []
        now = self._station.clock.now()
        for event in opened.events:
            event["hostname"] = opened.head.node
            event["local_received"] = now
            event["signer"] = opened.signer
        self.received += len(opened.events)
        return [*told, *opened.events]

    def _follow(self, frame: EventFrame) -> list[dict[str, Any]]:
        """Note a frame of a process; what is missing before it, as events. `RefusedError` for a copy."""
        head, key = frame.head, (frame.key, frame.head.boot)
        before = self._processes.get(key)
        told = []
        if before is None:
            self._check_first(frame)
        elif head.sequence <= before.sequence:
            raise RefusedError(
                Refusal.REPLAYED, f"frame {head.sequence} of {head.node} came before"
            )
        else:
            told += self._tell_lost(head.node, "gap", head.sequence - before.sequence - 1)
            told += self._tell_lost(head.node, "dropped", head.dropped - before.dropped)
        expires_at = max(frame.expires_at, 0.0 if before is None else before.expires_at)
        self._processes[key] = Posted(head.sequence, head.dropped, expires_at)
        self._processes.move_to_end(key)
        return told

    def _check_first(self, frame: EventFrame) -> None:
        """Of a process that was not heard before: it must be new, and there must be room for it."""
        if frame.issued_at < self._since:
            raise RefusedError(Refusal.EXPIRED, "it was sent before anybody listened")
        now = self._station.clock.now()
        while self._processes:
            oldest = next(iter(self._processes.values()))
            if oldest.expires_at > now and len(self._processes) < MAX_PROCESSES:
                break
            if oldest.expires_at > now:
                raise RefusedError(
                    Refusal.TOO_MANY_SESSIONS,
                    f"{MAX_PROCESSES} processes sent events within minutes",
                )
            self._processes.popitem(last=False)

    def _tell_lost(self, node: str, reason: str, count: int) -> list[dict[str, Any]]:
        if count <= 0:
            return []
        self.lost[reason] += count
        logger.warning("events of %r are missing: %s of %d", node, reason, count)
        now = self._station.clock.now()
        lost = {"type": LOST, "hostname": node, "reason": reason, "count": count}
        return [{**lost, "timestamp": now, "local_received": now, "signer": ""}]

    def _refuse(self, error: RefusedError) -> None:
        """Count it, and say so now and then: whoever can write the store can write many."""
        seen = self.refused[error.reason]
        self.refused[error.reason] += 1
        if seen % _TELL_OF_REFUSED:
            return
        logger.warning("frame of events refused: %s (%d before it)", error, seen)
        self._station.audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="event",
            reason=error.reason.value,
            detail=error.detail,
            before=seen or None,
        )
