"""Publishing: every message persistent, mandatory and confirmed, a batch in one round."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

from pika.channel import Channel

from cardoon.broker import Outgoing
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.rabbitmq.frames import Reader, write_message
from cardoon.rabbitmq.line import Line
from cardoon.rabbitmq.queues import Names, Place, tell_place

_TIME = SystemClock()


class _NotNowError(OperationalError):
    """The server has taken some of a batch and not others; perhaps it takes them later."""


class _Batch:
    """Messages that are on the way together."""

    def __init__(self, count: int, confirmed: set[str]) -> None:
        self.left = count
        self.confirmed = confirmed
        self.returned: set[str] = set()
        self.refused = 0
        self.done: Future[None] = Future()


class _Round(NamedTuple):
    """A line that is ready to publish, and what is known of it."""

    line: Line
    declared: set[str]
    unconfirmed: OrderedDict[int, tuple[_Batch, str]]
    """Batch and id, by delivery tag; touched by who uses the line."""
    sent: list[int]


class Publisher:
    """Publishes for one process, over one connection that is opened anew whenever it is lost."""

    def __init__(self, names: Names, open_line: Callable[[float], Line]) -> None:
        self._names = names
        self._open_line = open_line
        self._lock = threading.Lock()  # guards the round: who opens the next line
        self._round: _Round | None = None

    def declare(self, places: Iterable[Place], deadline: float) -> None:
        """Make queues on the server; doing it again changes nothing."""
        wanted = list(places)
        current = self._current(deadline)
        try:
            self._declare(current, wanted, deadline)
        except OperationalError:
            if current.line.is_alive or current.line.is_refused:
                raise
            self._declare(self._current(deadline), wanted, deadline)

    def publish(self, outgoing: Sequence[Outgoing], deadline: float) -> None:
        """Return when the server has stored all of them.

        Raises `OperationalError` after `deadline`, or when the server refuses; then some may be stored.
        A connection that is lost is opened again, and what was not confirmed is sent again: who takes it
        knows ids. So is what the server refuses, over another connection: one that was opened while the
        nodes of a queue chose another leader is refused for as long as it lives (seen with 3.10.8).
        """
        pause = 0.0
        confirmed: set[str] = set()
        refusal: _NotNowError | None = None
        while True:
            try:
                current = self._current(deadline)
            except OperationalError as error:
                raise (refusal or error) from error
            missing = [sent for sent in outgoing if sent.id not in confirmed]
            try:
                self._send(current, missing, confirmed, deadline)
            except OperationalError as error:
                line = current.line
                late = _TIME.monotonic() + pause >= deadline
                refusal = error if isinstance(error, _NotNowError) else None
                is_final = line.is_refused or (line.is_alive and refusal is None)
                self._forget(current)
                if is_final or late:
                    raise
            else:
                return
            threading.Event().wait(pause)
            pause = min(1.0, max(0.05, 2 * pause))

    def close(self) -> None:
        """Let go of the connection; safe twice."""
        with self._lock:
            current, self._round = self._round, None
        if current is not None:
            current.line.close()

    def _current(self, deadline: float) -> _Round:
        with self._lock:
            current = self._round
            if current is not None and current.line.is_alive:
                return current
            self._round = None
            fresh = _Round(self._open_line(deadline), set(), OrderedDict(), [0])
            self._prepare(fresh, deadline)
            self._round = fresh
            return fresh

    def _prepare(self, fresh: _Round, deadline: float) -> None:
        def request(channel: Channel, tell: Callable[[Any], None]) -> None:
            channel.add_on_return_callback(
                lambda _channel, method, properties, _body: _on_return(fresh, method, properties)
            )
            on_confirm = partial(_on_confirm, fresh)
            fresh.line.hear(Reader(channel.channel_number, on_confirm=on_confirm))
            # What it confirms is read there; pika tells what it refuses.
            channel.confirm_delivery(partial(_on_refusal, fresh), callback=tell)

        try:
            fresh.line.ask(request, deadline, "asking for confirms")
        except OperationalError:
            fresh.line.abandon("it did not open")
            raise
        fresh.line.on_end(lambda: _on_end(fresh))

    def _forget(self, current: _Round) -> None:
        """What was not confirmed in time may be confirmed later, when nobody waits for it any more."""
        with self._lock:
            if self._round is current:
                self._round = None
        current.line.abandon("no confirm in time")

    def _declare(self, current: _Round, places: Iterable[Place], deadline: float) -> None:
        names = self._names
        fresh = [place for place in places if names.of(place) not in current.declared]
        if not fresh:
            return

        def request(channel: Channel, tell: Callable[[Any], None]) -> None:
            channel.exchange_declare(names.levels, "fanout", durable=True)
            for place in fresh:
                last = tell if place is fresh[-1] else None
                arguments = dict(names.arguments)
                channel.queue_declare(
                    names.of(place), durable=True, arguments=arguments, callback=last
                )

        current.line.ask(request, deadline, "declaring queues")
        current.declared.update(names.of(place) for place in fresh)
        current.line.post(lambda channel: _announce(current, channel, names.levels, fresh))

    def _send(
        self,
        current: _Round,
        outgoing: Sequence[Outgoing],
        confirmed: set[str],
        deadline: float,
    ) -> None:
        places = [Place(sent.queue, sent.priority) for sent in outgoing]
        self._declare(current, dict.fromkeys(places), deadline)
        routed = [
            (self._names.of(place), sent) for place, sent in zip(places, outgoing, strict=True)
        ]
        returned = self._send_round(current, routed, confirmed, deadline)
        if returned:  # somebody deleted a queue; nothing of these was stored
            current.declared.difference_update(name for name, _ in routed)
            self._declare(current, dict.fromkeys(places), deadline)
            rest = [(name, sent) for name, sent in routed if sent.id in returned]
            if self._send_round(current, rest, confirmed, deadline):
                raise OperationalError("rabbitmq: the server can route a message to no queue")

    def _send_round(
        self,
        current: _Round,
        routed: Sequence[tuple[str, Outgoing]],
        confirmed: set[str],
        deadline: float,
    ) -> set[str]:
        """Send, and wait until the server has confirmed all; return the ids that it sent back."""
        if not routed:
            return set()
        batch = _Batch(len(routed), confirmed)
        line = current.line
        most = line.max_frame_bytes
        try:
            written = [
                write_message(line.channel_number, name, sent.id, sent.frame, most=most)
                for name, sent in routed
            ]
        except UnicodeError as error:
            raise OperationalError(f"rabbitmq: text that cannot be sent: {error}") from error

        def act(_: Channel) -> None:
            for (_, sent), frames in zip(routed, written, strict=True):
                current.sent[0] += 1
                current.unconfirmed[current.sent[0]] = (batch, sent.id)
                line.say(frames)

        line.post(act)
        line.wait(batch.done, deadline, "publishing; what was sent may have arrived")
        if batch.refused:
            raise _NotNowError(
                f"rabbitmq {line.endpoint}: the server refused {batch.refused} messages; a "
                "queue is full, or it lacks disk or memory"
            )
        return {sent.id for _, sent in routed if sent.id in batch.returned}


def _announce(current: _Round, channel: Channel, exchange: str, places: Iterable[Place]) -> None:
    """Tell workers that are there of queues that may be new; others look when they come."""
    for place in places:
        current.sent[0] += 1  # it is confirmed as well, to nobody
        channel.basic_publish(exchange, "", tell_place(place))


def _on_return(current: _Round, _method: Any, properties: Any) -> None:
    """A message that fits no queue comes back before it is confirmed."""
    name = (properties.headers or {}).get("id")
    for batch, _ in current.unconfirmed.values():
        batch.returned.add(str(name))


def _on_refusal(current: _Round, frame: Any) -> None:
    method = frame.method
    _on_confirm(current, method.delivery_tag, method.multiple, is_refused=True)


def _on_confirm(
    current: _Round,
    tag: int,
    several: bool,  # noqa: FBT001  # as the server says it
    *,
    is_refused: bool = False,
) -> None:
    ended = [tag]
    if several:
        ended = []
        for each in current.unconfirmed:
            if each > tag:
                break
            ended.append(each)
    for each in ended:
        found = current.unconfirmed.pop(each, None)
        if found is None:
            continue
        batch, name = found
        batch.left -= 1
        batch.refused += is_refused
        if not is_refused and name not in batch.returned:
            batch.confirmed.add(name)
        if batch.left == 0 and not batch.done.done():
            batch.done.set_result(None)


def _on_end(current: _Round) -> None:
    error = OperationalError(f"rabbitmq {current.line.endpoint}: {current.line.reason}")
    for batch, _ in list(current.unconfirmed.values()):
        if not batch.done.done():
            batch.done.set_exception(error)
    current.unconfirmed.clear()
