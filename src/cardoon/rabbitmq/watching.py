"""Waiting for the companion while the caller waits for the server.

A broker cannot be asked to wait together with a socket, so a thread of its own waits in `receive` for one
message, which it keeps until somebody takes it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from cardoon.broker import Broker, Delivery, Requeue
from cardoon.clock import SystemClock
from cardoon.exceptions import CardoonError, OperationalError

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 1.0
"""How long one `receive` waits, and so a stop for it."""

_PAUSE_SECONDS = 0.5
_TIME = SystemClock()


class Watcher:
    """Holds at most one message. Safe from threads."""

    def __init__(self, companion: Broker, changed: threading.Condition) -> None:
        self._companion = companion
        self._changed = changed
        """Guards what follows; notified when a message has come."""
        self._wanted: tuple[Sequence[str], float] | None = None
        self._spare: tuple[Delivery, float] | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def watch(self, queues: Sequence[str], lease: float) -> None:
        """Wait for a message of these queues, until `rest`."""
        with self._changed:
            self._wanted = (tuple(queues), lease)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="rabbitmq companion", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def rest(self) -> None:
        """Wait no more than for what is being waited for."""
        with self._changed:
            self._wanted = None

    @property
    def has_any(self) -> bool:
        """Whether a message has come. Called with the condition held."""
        return self._spare is not None

    def take(self, queues: Sequence[str]) -> list[Delivery]:
        """The message that has come, if it is of these queues."""
        with self._changed:
            if self._spare is None or self._spare[0].queue not in queues:
                return []
            spare, self._spare = self._spare, None
            self._changed.notify_all()
            return [spare[0]]

    def release(self, age: float) -> None:
        """Put back what nobody has taken for so many seconds."""
        with self._changed:
            if self._spare is None or _TIME.monotonic() - self._spare[1] < age:
                return
            spare, self._spare = self._spare, None
        self._companion.settle([Requeue(spare[0])])

    def close(self) -> None:
        """End the thread, and put back what it holds; safe twice."""
        with self._changed:
            self._is_closed = True
            self._wanted = None
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS * 2)
        try:
            self.release(0.0)
        except OperationalError:  # its lease ends by itself
            logger.debug("could not hand back the last message", exc_info=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and (self._wanted is None or self._spare is not None):
                    self._changed.wait()
                if self._is_closed or self._wanted is None:
                    return
                queues, lease = self._wanted
            try:
                found = self._companion.receive(
                    queues, limit=1, lease=lease, timeout=_PATIENCE_SECONDS
                )
            except CardoonError as error:
                logger.debug("the companion does not answer: %s", error)
                threading.Event().wait(_PAUSE_SECONDS)
                continue
            if found:
                with self._changed:
                    self._spare = (found[0], _TIME.monotonic())
                    self._changed.notify_all()
