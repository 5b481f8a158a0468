"""Taking results: a queue of this process alone, kept open by a thread that connects whenever it must.

The queue outlives a connection by `QUEUE_SECONDS`, and is deleted when the process lets go of it in order.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any

from pika.channel import Channel

from cardoon.backend import SealedResult
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.rabbitmq.letters import QUEUE_ARGUMENTS, QUEUE_SECONDS, read_letter
from cardoon.rabbitmq.line import Line
from cardoon.rabbitmq.queues import Names

logger = logging.getLogger(__name__)

_ROUND_SECONDS = 5.0
"""How long one try to connect takes, over all servers, and so a stop for it."""

_PAUSE_SECONDS = 0.2
_CLOSE_SECONDS = 2.0
_AHEAD = 256
"""Results that the server sends before the first of them is acknowledged."""

_TIME = SystemClock()


class Listener:
    """Hands every result that arrives to `deliver`, in a thread of its own. Safe from threads."""

    def __init__(
        self,
        names: Names,
        open_line: Callable[[float], Line],
        *,
        account: str,
        deliver: Callable[[SealedResult], None],
    ) -> None:
        self._names = names
        self._open_line = open_line
        self._account = account
        self._deliver = deliver
        self._changed = threading.Condition()
        """Guards what follows; notified when it listens, when it fails, and when it is to end."""
        self._address = ""
        self._line: Line | None = None
        self._is_ready = False
        """Whether the queue is there, as far as anybody knows."""
        self._lost_at = 0.0
        self._failure = ""
        self._is_refused = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def listen(self, deadline: float) -> str:
        """The address of the queue, which is there when this returns.

        While the connection is lost for a moment the queue is still there, so that nobody waits for it.
        Raises `OperationalError` after `deadline`, or when the server refuses.
        """
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="rabbitmq results", daemon=True
                )
                self._thread.start()
            if self._is_kept():
                return self._address
            self._is_refused = False
            self._changed.wait_for(
                lambda: self._is_kept() or self._is_refused or self._is_closed,
                max(0.0, deadline - _TIME.monotonic()),
            )
            if self._is_kept():
                return self._address
            why = "closed" if self._is_closed else self._failure or "no answer in time"
        raise OperationalError(f"rpc: no queue for results: {why}")

    def close(self) -> None:
        """Delete the queue and end; safe twice."""
        with self._changed:
            self._is_closed = True
            line = self._line
            self._changed.notify_all()
        if line is not None:
            line.post(lambda channel: _delete(channel, self._queue))
            line.close()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    @property
    def _queue(self) -> str:
        return self._names.reply(self._address)

    def _is_kept(self) -> bool:
        """Called with the condition held."""
        if not self._is_ready or self._is_closed:
            return False
        return self._line is not None or _TIME.monotonic() - self._lost_at < QUEUE_SECONDS / 2

    def _run(self) -> None:
        while not self._is_closed:
            try:
                line = self._open_line(_TIME.monotonic() + _ROUND_SECONDS)
            except OperationalError as error:
                self._note(str(error))
                continue
            try:
                self._take_from(line)
            except OperationalError as error:
                self._note(str(error), is_refused=line.is_refused)
                if "NOT_FOUND" in line.reason:
                    self._move()
            finally:
                line.abandon("it does not listen")

    def _note(self, failure: str, *, is_refused: bool = False) -> None:
        logger.debug("rpc: %s", failure)
        with self._changed:
            self._failure, self._is_refused = failure, is_refused
            self._changed.notify_all()
            if not self._is_closed:
                self._changed.wait_for(lambda: self._is_closed, _PAUSE_SECONDS)

    def _move(self) -> None:
        """The queue lies on a node that is away."""
        with self._changed:
            if self._is_ready:
                logger.warning(
                    "rpc: the node with the results of this process is away; what was on the way is lost"
                )
            self._address, self._is_ready = "", False

    def _take_from(self, line: Line) -> None:
        """Until the line dies."""
        if not self._address:
            self._address = f"{self._account}.{uuid.uuid4().hex}"
        queue = self._queue
        ended = threading.Event()
        line.on_end(ended.set)
        line.ask(
            lambda channel, tell: _consume(channel, queue, self._on_message, tell),
            _TIME.monotonic() + _ROUND_SECONDS,
            "declaring a queue for results",
        )
        with self._changed:
            self._line, self._is_ready, self._failure = line, True, ""
            self._changed.notify_all()
            is_closed = self._is_closed
        if is_closed:
            line.close()
        ended.wait()
        with self._changed:
            self._line, self._lost_at = None, _TIME.monotonic()
        if not self._is_closed:
            raise OperationalError(f"rabbitmq {line.endpoint}: {line.reason}")

    def _on_message(self, channel: Channel, method: Any, properties: Any, frame: bytes) -> None:
        result = read_letter(properties, frame)
        if result is None:
            logger.warning("rpc: dropped a message that is no result")
        else:
            self._deliver(result)
        channel.basic_ack(method.delivery_tag)


def _consume(
    channel: Channel, queue: str, on_message: Callable[..., None], tell: Callable[[Any], None]
) -> None:
    # Not exclusive: such a queue is gone with its connection, and the results on their way with it.
    channel.queue_declare(queue, durable=True, arguments=dict(QUEUE_ARGUMENTS))
    channel.basic_qos(prefetch_count=_AHEAD)
    channel.basic_consume(queue, on_message, callback=tell)


def _delete(channel: Channel, queue: str) -> None:
    channel.queue_delete(queue, callback=lambda _: None)
