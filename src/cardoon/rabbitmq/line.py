"""One connection to RabbitMQ with one channel, and a thread that listens to it.

It lives once: whatever goes wrong with connection or channel ends it, and whoever needs one opens the
next. Its thread answers heartbeats whatever the program does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import pika
import pika.exceptions
from pika.channel import Channel

from cardoon.clock import SystemClock
from cardoon.endpoints import Endpoint
from cardoon.exceptions import OperationalError
from cardoon.rabbitmq.frames import Reader
from cardoon.rabbitmq.stream import Link, Stream, connect

_T = TypeVar("_T")

GUEST = "guest"
"""The account, and its password, where a URL names none."""

HEARTBEAT_SECONDS = 6
"""Either side is heard twice as often, and the server lets go of one that is silent for twice as long."""

_LOOK_SECONDS = 2.0
_SILENT_SECONDS = 8.0
"""A server that is not heard for so long is gone; so a send that waited has time for another connection. pika
by itself would wait for up to two heartbeats and ten seconds."""

_CLOSE_SECONDS = 2.0
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_REFUSALS = frozenset({402, 403, 405, 406})
"""AMQP's words for no: no right, a queue that is somebody else's, or of another kind."""

_TIME = SystemClock()


class Line:
    """A live connection; see `open_line`. Every method may be called from any thread."""

    def __init__(self, endpoint: Endpoint, *, purpose: str, timeout: float) -> None:
        self.endpoint = endpoint
        self.process = os.getpid()
        self.reason = ""
        """Why it is dead; empty while it lives. Never holds a secret."""
        self.is_refused = False
        """Whether the server has said no, and would say it again."""
        self._blocked = ""
        self._ended = threading.Event()
        self._waiting: set[Future[Any]] = set()  # touched by who uses the connection
        self._listeners: list[Callable[[], None]] = []
        self._heard = 0
        self._silent = 0
        """Looks between which nothing was heard."""
        self._opened: Future[None] = Future()
        self._channel: Channel | None = None
        self._at_rest: Callable[[], None] | None = None
        self._timeout = timeout
        self._context = None if endpoint.tls is None else endpoint.tls.context()
        self._stream = Stream()
        self._connection = Link(
            _parameters(endpoint, purpose=purpose),
            self._stream,
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _, error: self._die(error),
            on_close_callback=lambda _, error: self._die(error),
        )
        self._thread = threading.Thread(target=self._run, name=f"rabbitmq {purpose}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be used, as far as anybody knows, by this process."""
        return not self.reason and self.process == os.getpid()

    def wait_until_open(self, deadline: float) -> None:
        """Raises `OperationalError` when that fails or takes too long."""
        self.wait(self._opened, deadline, "connecting")

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call this when it dies; or now, if it has."""
        self._listeners.append(listener)
        if self.reason:
            listener()

    @property
    def channel_number(self) -> int:
        """Of its channel."""
        return 1 if self._channel is None else int(self._channel.channel_number)

    @property
    def max_frame_bytes(self) -> int:
        """Of one frame, as agreed with the server."""
        return int(self._connection.params.frame_max)

    def hear(self, reader: Reader, on_rest: Callable[[], None] | None = None) -> None:
        """Have somebody read messages or confirms, and told when all that came together was read.

        Within an action. Both are called in the line's thread.
        """
        self._connection.reader = reader
        self._at_rest = on_rest

    def say(self, frames: bytes) -> None:
        """Send whole frames. Within an action."""
        self._stream.write(frames)

    def post(self, action: Callable[[Channel], None]) -> None:
        """Do something with the channel, as soon as nobody else does; nothing if the line is dead by then."""

        def act() -> None:
            if self.reason or self._channel is None:
                return
            try:
                action(self._channel)
            except Exception as error:  # noqa: BLE001  # whatever it is, this line cannot go on
                self._die(error)

        if self.is_alive:
            self._stream.post(act)

    def ask(
        self,
        request: Callable[[Channel, Callable[[Any], None]], None],
        deadline: float,
        what: str,
    ) -> Any:
        """The server's answer to a request, which is given the channel and whom to tell.

        Raises `OperationalError` if none comes until `deadline`, or the line dies.
        """
        answer: Future[Any] = Future()

        def act(channel: Channel) -> None:
            self._waiting.add(answer)
            request(channel, tell)

        def tell(frame: Any) -> None:
            self._waiting.discard(answer)
            if not answer.done():
                answer.set_result(frame)

        self.post(act)
        return self.wait(answer, deadline, what)

    def probe(self, name: str, deadline: float) -> int | None:
        """How many messages lie ready in a queue of the server; None if there is no such queue."""
        # On a channel of its own, for the server closes that where there is none.
        answer: Future[int | None] = Future()

        def act(_: Channel) -> None:
            self._waiting.add(answer)
            self._connection.channel(on_open_callback=look)

        def look(channel: Channel) -> None:
            channel.add_on_close_callback(lambda _, error: closed(error))
            channel.queue_declare(name, passive=True, callback=lambda frame: found(channel, frame))

        def found(channel: Channel, frame: Any) -> None:
            tell(frame.method.message_count)
            if channel.is_open:
                channel.close()

        def closed(error: Any) -> None:
            if getattr(error, "reply_code", 0) in {404, 405, 200, 0}:
                tell(None)
            elif not answer.done():
                self._waiting.discard(answer)
                answer.set_exception(OperationalError(_explain(error)))

        def tell(count: int | None) -> None:
            self._waiting.discard(answer)
            if not answer.done():
                answer.set_result(count)

        self.post(act)
        return self.wait(answer, deadline, "looking for a queue")

    def wait(self, answer: Future[_T], deadline: float, what: str) -> _T:
        """What a future holds that the thread fills; raises `OperationalError` as `ask` does."""
        pause = 0.5
        while True:
            remaining = deadline - _TIME.monotonic()
            try:
                return answer.result(max(0.0, min(pause, remaining)))
            except TimeoutError:
                if not self.is_alive and not answer.done():
                    raise OperationalError(f"rabbitmq {self.endpoint}: {self.reason}") from None
                if remaining <= 0:
                    blocked = (
                        f"; the server takes no messages: {self._blocked}" if self._blocked else ""
                    )
                    raise OperationalError(
                        f"rabbitmq {self.endpoint}: {what}: no answer in time{blocked}"
                    ) from None

    def close(self) -> None:
        """Let go of it; safe twice, and after a fork, where nothing of it is used."""
        if self.process != os.getpid():
            # The descriptors are copies: closing ours leaves the parent's connection alone.
            self.reason = "the process was forked"
            return
        if not self.reason:
            self._stream.post(self._close)
        if threading.current_thread() is not self._thread:
            self._ended.wait(_CLOSE_SECONDS)
            if not self._ended.is_set():  # the server does not answer
                self.abandon("closed")

    def abandon(self, why: str) -> None:
        """End it without a word to the server."""
        if self.process == os.getpid() and not self._ended.is_set():
            self._stream.post(lambda: self._die(why))
            self._ended.wait(_CLOSE_SECONDS)

    def _run(self) -> None:
        silence = 2.0 * HEARTBEAT_SECONDS
        try:
            connected = connect(
                self.endpoint, self._context, timeout=self._timeout, silence=silence
            )
            self._stream.run(connected, self._connection, self._on_rest)
            self._stream.post(partial(self._die, "given up"))  # if nobody has said why
        except Exception as error:  # noqa: BLE001  # a line that cannot go on is dead, whatever it is
            self._stream.post(partial(self._die, error))
        finally:
            self._stream.close()
            self._ended.set()

    def _on_rest(self) -> None:
        if self._at_rest is not None:
            self._at_rest()

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        connection.channel(on_open_callback=self._on_channel)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self._blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: Any) -> None:
        self._blocked = ""

    def _on_channel(self, channel: Channel) -> None:
        self._channel = channel
        channel.add_on_close_callback(lambda _, error: self._die(error))
        channel.add_on_cancel_callback(lambda _: self._die("a queue was deleted"))
        self._watch()
        if not self._opened.done():
            self._opened.set_result(None)

    def _watch(self) -> None:
        """Now and then: end it if the server is silent. Whoever was stopped meanwhile has looked once."""
        heard = self._stream.heard
        self._silent = self._silent + 1 if heard == self._heard else 0
        self._heard = heard
        if self._silent * _LOOK_SECONDS >= _SILENT_SECONDS:
            self._die(f"the server was silent for {_SILENT_SECONDS:g} seconds")
        if not self.reason:
            self._stream.call_later(_LOOK_SECONDS, self._watch)

    def _close(self) -> None:
        if self._connection.is_open:
            self._connection.close()
        else:
            self._die("closed")

    def _die(self, why: Any) -> None:
        """By who uses the connection. Everything that waits is told."""
        if self.reason:
            return
        self.is_refused = getattr(why, "reply_code", 0) in _REFUSALS
        self.reason = _explain(why)
        error = OperationalError(f"rabbitmq {self.endpoint}: {self.reason}")
        for answer in (self._opened, *self._waiting):
            if not answer.done():
                answer.set_exception(error)
        self._waiting.clear()
        for listener in self._listeners:
            listener()
        with contextlib.suppress(Exception):
            if not (self._connection.is_closed or self._connection.is_closing):
                # Nobody waits for the server's farewell, which may never come.
                self._connection.close()
        self._stream.stop()


def open_line(
    endpoints: Sequence[Endpoint], *, purpose: str, deadline: float, patience: float
) -> Line:
    """Connect to the first server that answers; go round with growing pauses until `deadline`.

    `patience` is how long one of them may take. Raises `OperationalError` with the last reason.
    """
    pause = _FIRST_PAUSE
    while True:
        failure = ""
        for endpoint in endpoints:
            remaining = deadline - _TIME.monotonic()
            if remaining <= 0 and failure:
                break
            line = Line(endpoint, purpose=purpose, timeout=max(0.1, min(patience, remaining)))
            try:
                line.wait_until_open(min(deadline, _TIME.monotonic() + patience))
            except OperationalError as error:
                failure = str(error)
                line.abandon("it did not open")
            else:
                return line
        remaining = deadline - _TIME.monotonic()
        if remaining <= _FIRST_PAUSE:
            raise OperationalError(failure or "rabbitmq: no server answered in time")
        # Many clients must not come back in step, and none is to give up while it has time.
        threading.Event().wait(min(pause * random.uniform(0.5, 1.0), remaining / 2))  # noqa: S311
        pause = min(_LONGEST_PAUSE, pause * 2)


def _parameters(endpoint: Endpoint, *, purpose: str) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(
        host=endpoint.host,
        port=endpoint.port,
        virtual_host=endpoint.path or "/",
        credentials=pika.PlainCredentials(
            endpoint.username or GUEST, endpoint.password or GUEST, erase_on_connect=True
        ),
        heartbeat=HEARTBEAT_SECONDS,
        client_properties={"connection_name": f"cardoon {purpose}"},
    )


def _explain(why: Any) -> str:
    """What went wrong, in words that help; neither URL nor credentials are ever part of them."""
    if isinstance(why, str):
        return why
    code, text = getattr(why, "reply_code", None), getattr(why, "reply_text", "")
    match code:
        case 403:
            return (
                f"access refused ({text}); see `cardoon.rabbitmq.access` for what each role needs"
            )
        case 406 if "inequivalent arg" in text:
            return (
                f"a queue exists with other properties ({text}); delete it when it is empty, or choose "
                "another global_keyprefix in broker_transport_options"
            )
        case int():
            return f"{code} {text}"
    if isinstance(why, pika.exceptions.ProbableAuthenticationError):
        return "access refused; user name, password or virtual host are wrong"
    if isinstance(why, pika.exceptions.ProbableAccessDeniedError):
        return "access refused to the virtual host"
    causes = (*getattr(why, "exceptions", ()), getattr(why, "exception", None), *_args(why))
    for inner in reversed(causes):
        if isinstance(inner, BaseException):
            return _explain(inner)
    logging.getLogger(__name__).debug("connection ended: %r", why)
    return f"{type(why).__name__}: {why}" if str(why) else type(why).__name__


def _args(why: Any) -> tuple[Any, ...]:
    return why.args if isinstance(why, BaseException) else ()
