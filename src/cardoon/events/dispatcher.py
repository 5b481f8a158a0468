"""The dispatcher: gathers events, and has each batch signed once and posted.

Whoever sends an event goes on at once: it is put in a list, and a thread of its own takes it from there
every half second, or when 500 wait. What finds no room is dropped and counted, and the next frame says
how many that are. Nothing that fails here is raised where the event was sent.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

from cardoon.clock import Clock
from cardoon.events.frames import (
    CHANNEL,
    KEEP,
    LIFETIME,
    MAX_BODY,
    MAX_EVENT,
    MAX_FRAME_EVENTS,
    MAX_NODE,
    Head,
    event_draft,
    is_type,
)
from cardoon.events.kinds import group_from
from cardoon.exceptions import CardoonError
from cardoon.ids import make_id
from cardoon.message.serializers import encode_body
from cardoon.posting import Posting
from cardoon.security.signing import Signer

logger = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds for which events are gathered."""
MAX_WAITING = 10_000
"""Events that may wait; some 5 MB."""
SIGN_SECONDS = 2.0
_TELL_OF_DROPPED = 1000
"""Events dropped between two lines of the log that say so, the first one included."""
_LONGEST_PAUSE = 5.0


class EventDispatcher:
    """Sends events of one process, as the node `hostname`. Safe from threads; not carried over a fork.

    `groups` are those of which events are sent (`task`, `worker`); None is for all. Every
    `heartbeat` seconds, `beat` is asked for the fields of a `worker-heartbeat`, if there is one.
    """

    def __init__(
        self,
        *,
        broker: Posting,
        signer: Signer,
        clock: Clock,
        hostname: str,
        groups: Collection[str] | None = None,
        enabled: bool = True,
        heartbeat: float | None = None,
        interval: float = INTERVAL,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        # Receivers refuse a name that could move a cursor, so it is not sent.
        shown = (char if char.isprintable() else "?" for char in hostname[:MAX_NODE])
        self.hostname = "".join(shown) or "?"
        self.groups: frozenset[str] | None = None if groups is None else frozenset(groups)
        self.enabled = enabled
        self.dropped = 0
        """Events that did not find room."""
        self._broker = broker
        self._signer = signer
        self._clock = clock
        self._random = random
        self._interval = interval
        self.beat: Callable[[], Mapping[str, Any]] | None = None
        """Asked for the fields of a heartbeat."""
        self._heartbeat = heartbeat
        self._next_beat = float("inf")
        self._boot = random(16).hex()
        self._sequence = 0
        self._count = 0
        self._pid = os.getpid()
        west = time.altzone if time.localtime().tm_isdst > 0 else time.timezone
        self._utcoffset = west // 3600  # as Celery counts it: hours to the west
        self._changed = threading.Condition()  # protects the four below
        self._items: deque[dict[str, Any]] = deque()
        self._flushing = False
        self._closed = False
        self._thread: threading.Thread | None = None
        self._body: bytes | None = None
        self._unsent: list[bytes] = []
        self._unsent_until = 0.0
        self._sending = threading.Lock()  # one frame is signed and posted at a time, in order

    def start(self) -> None:
        """Begin to send what gathers, and the heartbeat; the first event does it as well."""
        with self._changed:
            self._start()

    def wants(self, type: str) -> bool:
        """Whether an event of this type would be sent."""
        return self.enabled and (self.groups is None or group_from(type) in self.groups)

    def send(self, type: str, **fields: Any) -> None:
        """Send an event; returns at once, and raises nothing."""
        self.publish(type, fields)

    def publish(self, type: str, fields: Mapping[str, Any]) -> None:
        """`send`, with the fields as a mapping."""
        if self.wants(type):
            self.put([{"type": type, "timestamp": self._clock.now(), **fields}])

    def put(self, events: Sequence[dict[str, Any]]) -> None:
        """Have events sent that are made already, with their types and times; returns at once."""
        if not events or not self.enabled:
            return
        with self._changed:
            if self._closed:
                return
            room = max(0, MAX_WAITING - len(self._items))
            if room < len(events):
                self._drop(len(events) - room)
            was_empty = not self._items
            self._items.extend(events[:room])
            self._start()
            if was_empty or len(self._items) >= MAX_FRAME_EVENTS:
                self._changed.notify()

    def beat_now(self) -> None:
        """Have a heartbeat sent at once."""
        with self._changed:
            self._next_beat = time.monotonic()
            self._flushing = True
            self._changed.notify()

    def flush(self) -> bool:
        """Send all that has gathered, in this thread; whether that could be done."""
        while self._has_work():
            if not self._send_frame():
                return False
        return True

    def close(self, timeout: float = 2.0) -> None:
        """Send what is left within about `timeout` seconds, and end; safe twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is None:
            return
        thread.join(timeout)
        if self._items:
            logger.warning("%d events could not be sent before the end", len(self._items))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _start(self) -> None:
        """Start the thread, where there is none yet; the lock is held."""
        if self._thread is None and not self._closed:
            if self._heartbeat is not None:
                self._next_beat = time.monotonic() + self._heartbeat
            self._thread = threading.Thread(target=self._run, name="events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while True:
            with self._changed:
                self._wait(pause)
                if self._closed and not self._has_work():
                    return
                is_last = self._closed
                self._flushing = False
            self._add_beat()
            sent = self._send_frame()
            if is_last and not sent:
                return
            pause = 0.0 if sent else min(_LONGEST_PAUSE, max(self._interval, pause * 2))

    def _wait(self, pause: float) -> None:
        """Wait until there is something to do; after a failure at least for `pause` seconds."""
        until = time.monotonic() + pause
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        until = float("inf")
        while not self._closed:
            now = time.monotonic()
            if self._items and until == float("inf"):
                until = now + self._interval
            due = min(until, self._next_beat)
            if self._flushing or self._body or self._unsent or now >= due:
                return
            if len(self._items) >= MAX_FRAME_EVENTS:
                return
            self._changed.wait(min(due - now, threading.TIMEOUT_MAX))

    def _add_beat(self) -> None:
        if self.beat is None or time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + (self._heartbeat or float("inf"))
        try:
            self.publish("worker-heartbeat", self.beat())
        except Exception:  # what gathers the figures must not end the thread
            logger.exception("a heartbeat could not be made")

    def _send_frame(self) -> bool:
        """Sign and post one batch; whether that was done. A signed frame is kept until it is posted."""
        with self._sending:
            try:
                if not self._unsent:
                    self._sign()
                elif self._clock.now() >= self._unsent_until:
                    self._unsent.clear()  # its number is missing then, which whoever listens is told
                if self._unsent:
                    self._broker.post(
                        CHANNEL, self._unsent, expires_at=self._unsent_until, keep=KEEP
                    )
            except CardoonError as error:
                logger.warning("events cannot be sent, trying again: %s", error)
                return False
            except Exception:  # the thread must outlive any one batch
                logger.exception("events could not be sent")
                self._unsent.clear()
                return False
            self._unsent.clear()
            return True

    def _sign(self) -> None:
        """Sign the next frame, if there is one; what cannot be signed now is tried again."""
        self._body = self._body or self._take()
        if self._body is None:
            return
        head = Head(self.hostname, self._boot, self._sequence + 1, self.dropped)
        draft = event_draft(head, self._body, id=make_id(self._clock, self._random))
        until = self._clock.now() + LIFETIME
        [signed] = self._signer.sign([draft], timeout=SIGN_SECONDS)
        self._sequence += 1
        self._body, self._unsent, self._unsent_until = None, [signed.frame], until

    def _has_work(self) -> bool:
        return bool(self._items or self._body or self._unsent)

    def _take(self) -> bytes | None:
        """The body of the next frame: events from the front of the line, as many as fit."""
        with self._changed:
            taken = [self._items.popleft() for _ in range(min(len(self._items), MAX_FRAME_EVENTS))]
        parts: list[bytes] = []
        size = 2
        for place, event in enumerate(taken):
            part = self._encode(event)
            if part is None:
                continue
            if size + len(part) + 1 > MAX_BODY:
                with self._changed:
                    self._items.extendleft(reversed(taken[place:]))
                break
            parts.append(part)
            size += len(part) + 1
        return b"[" + b",".join(parts) + b"]" if parts else None

    def _encode(self, event: dict[str, Any]) -> bytes | None:
        """One event with what all have in common; None, and it is dropped, if it cannot travel."""
        self._count += 1
        said = {
            "hostname": self.hostname,
            "utcoffset": self._utcoffset,
            "pid": self._pid,
            "clock": self._count,
            **event,
        }
        try:
            if not is_type(event.get("type")):
                raise ValueError("no type")  # noqa: TRY301
            part = encode_body(said, "application/json")
        except (CardoonError, ValueError) as error:
            logger.warning("an event cannot be sent: %s", error)
            part = b""
        if not part or len(part) > MAX_EVENT:
            self._drop(1)
            return None
        return part

    def _drop(self, count: int) -> None:
        before, self.dropped = self.dropped, self.dropped + count
        if before == 0 or before // _TELL_OF_DROPPED != self.dropped // _TELL_OF_DROPPED:
            logger.warning("events dropped so far: %d", self.dropped)
