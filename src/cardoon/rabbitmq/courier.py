"""Sending results: each to the queue of who sent the task, transient, confirmed, a batch in one round.

A queue that is no longer there has lost its reader, and what is sent to it vanishes; that is no error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from pika.channel import Channel

from cardoon.backend import SealedResult
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.rabbitmq.letters import write_properties
from cardoon.rabbitmq.line import Line
from cardoon.rabbitmq.queues import Names

logger = logging.getLogger(__name__)

_TOO_LARGE = "406 PRECONDITION_FAILED - message size"
"""How the server says that something is larger than its `max_message_size`."""


class _Round:
    """What is on the way together. Touched by the line's thread alone, but for `done`."""

    def __init__(self) -> None:
        self.last = 0
        """Delivery tag of what was sent last over this line."""
        self.unconfirmed: set[int] = set()
        self.refused = 0
        self.done: Future[None] = Future()


class _Open(NamedTuple):
    """A line that is ready to send, and what is on the way."""

    line: Line
    round: _Round


class Courier:
    """Sends for one process, over one connection that is opened anew whenever it is lost."""

    def __init__(self, names: Names, open_line: Callable[[float], Line]) -> None:
        self._names = names
        self._open_line = open_line
        self._lock = threading.Lock()  # held for a whole batch, so that one is on the way at a time
        self._open: _Open | None = None

    def send(self, results: Sequence[SealedResult], deadline: float) -> None:
        """Return when the server has taken all of them; what names no address goes nowhere.

        A connection that is lost is opened again, and everything is sent again: who reads them knows ids.
        One that is larger than the server ever takes is dropped, or it would hold up all others for ever.
        Raises `OperationalError` after `deadline`, or when the server refuses for another reason.
        """
        routed = [(name, each) for each in results if (name := self._queue_of(each))]
        if routed:
            with self._lock:
                self._insist(routed, deadline)

    def close(self) -> None:
        """Let go of the connection; safe twice."""
        current, self._open = self._open, None
        if current is not None:
            current.line.close()

    def _insist(self, routed: Sequence[tuple[str, SealedResult]], deadline: float) -> None:
        """Called with the lock held."""
        for is_last in (False, True):
            current = self._current(deadline)
            line = current.line
            try:
                self._send_all(current, routed, deadline)
            except OperationalError:
                self._open = None
                was_lost = not line.is_alive and not line.is_refused
                line.abandon("no confirm in time")
                if line.reason.startswith(_TOO_LARGE):
                    self._find_larger(routed, line.reason, deadline)
                elif is_last or not was_lost:
                    raise
                else:
                    continue
            return

    def _find_larger(
        self, routed: Sequence[tuple[str, SealedResult]], reason: str, deadline: float
    ) -> None:
        """One of these ended the connection: each half by itself, until it is found."""
        if len(routed) == 1:
            task_id = routed[0][1].task_id
            logger.error("the result of task %s is dropped: the server says %s", task_id, reason)
            return
        middle = len(routed) // 2
        for part in (routed[:middle], routed[middle:]):
            self._insist(part, deadline)

    def _queue_of(self, result: SealedResult) -> str:
        if result.reply is None:
            logger.debug("the sender of task %s listens for no result", result.task_id)
            return ""
        try:
            return self._names.reply(result.reply)
        except ImproperlyConfigured as error:
            logger.warning("the result of task %s cannot be sent: %s", result.task_id, error)
            return ""

    def _current(self, deadline: float) -> _Open:
        """Called with the lock held."""
        if self._open is not None and self._open.line.is_alive:
            return self._open
        line = self._open_line(deadline)
        fresh = _Open(line, _Round())

        def request(channel: Channel, tell: Callable[[Any], None]) -> None:
            channel.confirm_delivery(lambda frame: _on_confirm(fresh.round, frame), callback=tell)

        try:
            line.ask(request, deadline, "asking for confirms")
        except OperationalError:
            line.abandon("it did not open")
            raise
        self._open = fresh
        return fresh

    def _send_all(
        self, current: _Open, routed: Sequence[tuple[str, SealedResult]], deadline: float
    ) -> None:
        on_way = current.round
        on_way.done = Future()
        on_way.refused = 0

        def act(channel: Channel) -> None:
            on_way.unconfirmed.update(range(on_way.last + 1, on_way.last + len(routed) + 1))
            on_way.last += len(routed)
            for name, result in routed:
                channel.basic_publish("", name, result.frame, write_properties(result))

        current.line.post(act)
        current.line.wait(on_way.done, deadline, "sending results")
        if on_way.refused:
            raise OperationalError(
                f"rabbitmq {current.line.endpoint}: the server refused {on_way.refused} results; it lacks "
                "disk or memory"
            )


def _on_confirm(on_way: _Round, frame: Any) -> None:
    method = frame.method
    ended = {method.delivery_tag}
    if method.multiple:
        ended = {tag for tag in on_way.unconfirmed if tag <= method.delivery_tag}
    if method.NAME == "Basic.Nack":
        on_way.refused += len(ended & on_way.unconfirmed)
    on_way.unconfirmed -= ended
    if not on_way.unconfirmed and not on_way.done.done():
        on_way.done.set_result(None)
