"""Taking: consumers feed a small buffer, from which a batch is taken when there is room for it.

What the server has sent and nobody has acknowledged is the window of its consumer. It is opened as far
as somebody has asked to take, so that a worker holds no more than it can run; what lies here for long
without being taken goes back (`give_back`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pika.channel import Channel

from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.rabbitmq.flow import Flow, Parcel
from cardoon.rabbitmq.frames import Reader
from cardoon.rabbitmq.line import Line
from cardoon.rabbitmq.queues import LEVELS, Names, Place, parse_place

_LOOK_AGAIN_SECONDS = 0.02
"""While the server lets in what was acknowledged."""

_MOST_AHEAD = 65_535
"""The widest window that AMQP can say."""

_TIME = SystemClock()


@dataclass(slots=True)
class _Consumer:
    """What one queue of the server sends us."""

    place: Place
    window: int = 0
    tag: str = ""
    """Empty while the window is shut. A window is for life, so a new one has a new tag."""
    held: int = 0
    """Sent through this window and not yet acknowledged; taken or not."""
    buffer: deque[Parcel] = field(default_factory=deque)


class Intake:
    """What one process takes, over one connection that is opened anew whenever it is lost."""

    def __init__(self, names: Names, open_line: Callable[[float], Line]) -> None:
        self._names = names
        self._open_line = open_line
        self.changed = threading.Condition()
        """Guards what follows; notified when something arrives or is known, or the line dies."""
        self.news = 0
        """How often a queue has become known."""
        self._opening = threading.RLock()  # held by who opens a line or its windows
        self._flow: Flow | None = None
        self._last_tag = 0
        self._consumers: dict[Place, _Consumer] = {}
        self._levels: dict[str, set[int]] = {}
        self._looked: set[str] = set()
        """Queues whose priorities were looked for over this line."""
        self._rumours: set[Place] = set()
        """What was told since then, and may be true."""

    def know(self, places: Iterable[Place]) -> None:
        """These queues are there: somebody has declared them."""
        with self.changed:
            for place in places:
                levels = self._levels.setdefault(place.queue, set())
                if place.level not in levels:
                    levels.add(place.level)
                    self.news += 1
                    self.changed.notify_all()

    def take(
        self, queues: Sequence[str], limit: int, deadline: float, *, is_exact: bool
    ) -> list[Parcel]:
        """Up to `limit` messages that have arrived, the most urgent of each queue first.

        If it is to be exact, everything that lay ready on the server arrives first. A connection that is
        lost is opened again, once; raises `OperationalError` when that does not help.
        """
        if limit <= 0:
            return []
        line = self._connected(deadline)
        try:
            self._ask_for(line, queues, limit, deadline, is_exact=is_exact)
        except OperationalError:
            if line.is_alive or line.is_refused:
                raise
            line = self._connected(deadline)
            self._ask_for(line, queues, limit, deadline, is_exact=is_exact)
        return self._taken(queues, limit)

    def has_any(self, queues: Sequence[str]) -> bool:
        """Whether something has arrived. Called with `changed` held."""
        return any(self._consumers_of(queues, lambda each: bool(each.buffer)))

    @property
    def is_connected(self) -> bool:
        """Whether something can arrive."""
        line = self._line
        return line is not None and line.is_alive

    @property
    def _line(self) -> Line | None:
        flow = self._flow
        return None if flow is None else flow.line

    def untake(self, parcels: Sequence[Parcel]) -> None:
        """Have these wait here as if they had not been taken."""
        with self.changed:
            for parcel in reversed(parcels):
                consumer = self._consumers.get(parcel.place)
                if consumer is not None and parcel.line is self._line:
                    consumer.buffer.appendleft(parcel)

    def acknowledge(self, parcels: Sequence[Parcel]) -> None:
        """The server may forget these. Those of a lost connection it delivers again anyway."""
        self._end(parcels, Flow.acknowledge)

    def put_back(self, parcels: Sequence[Parcel]) -> None:
        """The server is to deliver these again, to anyone."""
        self._end(parcels, Flow.put_back)

    def give_back(self, age: float) -> int:
        """Close every window behind which something has waited for so many seconds, and put it back."""
        latest = _TIME.monotonic() - age
        return self._shut(lambda each: bool(each.buffer) and each.buffer[0].arrived <= latest)

    def rest(self, queues: Collection[str]) -> int:
        """Close the windows of these queues, and put back what has come through them."""
        if not queues:
            return 0
        return self._shut(lambda each: each.place.queue in queues and bool(each.tag or each.buffer))

    def count(self, queue: str, deadline: float) -> int:
        """How many messages of a queue wait: on the server, and here."""
        line = self._connected(deadline)
        self._look_for_levels(line, [queue], deadline, is_due=False)
        names = [self._names.of(place) for place in self._places_of([queue])]
        ready = sum(line.probe(name, deadline) or 0 for name in names)
        return ready + self._count([queue])

    def purge(self, queue: str, deadline: float) -> int:
        """Delete what waits; return how many."""
        line = self._connected(deadline)
        self._look_for_levels(line, [queue], deadline, is_due=True)
        count = 0
        for place in self._places_of([queue]):
            frame = line.ask(_purging(self._names.of(place)), deadline, "purging")
            count += frame.method.message_count
        # Second, because by now what the server had on its way has arrived.
        with self.changed:
            found = list(self._consumers_of([queue], lambda each: list(each.buffer)))
            doomed = [parcel for parcels in found for parcel in parcels]
            for _ in self._consumers_of([queue], lambda each: each.buffer.clear()):
                pass
        self.acknowledge(doomed)
        return count + len(doomed)

    def close(self) -> None:
        """Let go of the connection; safe twice. What was not acknowledged is delivered again."""
        with self.changed:
            line, self._flow = self._line, None
            self._consumers.clear()
        if line is not None:
            line.close()

    def _ask_for(
        self, line: Line, queues: Sequence[str], limit: int, deadline: float, *, is_exact: bool
    ) -> None:
        if not is_exact:
            self._open_windows(line, queues, limit, deadline, enough=(limit + 1) // 2)
            return
        while True:
            # For each priority, however much is here: what was sent last may be the most urgent.
            was_narrow = self._open_windows(line, queues, limit, deadline, enough=limit)
            if not self._let_arrive(line, queues, deadline) or self._count(queues) >= limit:
                return
            if not was_narrow:  # there is more, and it comes as acknowledgements arrive
                with self.changed:
                    self.changed.wait(_LOOK_AGAIN_SECONDS)

    def _taken(self, queues: Sequence[str], limit: int) -> list[Parcel]:
        taken: list[Parcel] = []
        with self.changed:
            for queue in queues:
                for level in LEVELS:
                    consumer = self._consumers.get(Place(queue, level))
                    while consumer is not None and consumer.buffer and len(taken) < limit:
                        taken.append(consumer.buffer.popleft())
        return taken

    def _open_windows(
        self, line: Line, queues: Sequence[str], limit: int, deadline: float, *, enough: int
    ) -> bool:
        """See that the server may send `enough` messages of each queue; if not, as many as `limit`."""
        with self._opening:
            self._look_for_levels(line, queues, deadline, is_due=False)
            narrow = []
            with self.changed:
                for queue in queues:
                    for level in self._levels.get(queue, ()):
                        place = Place(queue, level)
                        consumer = self._consumers.setdefault(place, _Consumer(place))
                        ahead = consumer.window - consumer.held + len(consumer.buffer)
                        if not consumer.tag or ahead < enough:
                            narrow.append(consumer)
            for consumer in narrow:
                self._open_window(line, consumer, limit, deadline)
        return bool(narrow)

    def _connected(self, deadline: float) -> Line:
        line = self._line
        if line is not None and line.is_alive:
            return line
        with self._opening:
            line = self._line
            if line is not None and line.is_alive:
                return line
            fresh = self._open_line(deadline)
            flow = Flow(fresh, self._arrive)
            self._listen(flow, deadline)
            with self.changed:
                # All that the old one delivered is the server's again.
                self._consumers.clear()
                self._looked.clear()
                self._levels.clear()
                self._rumours.clear()
                self._flow = flow
            fresh.on_end(self._wake)
            return fresh

    def _listen(self, flow: Flow, deadline: float) -> None:
        """Hear of queues that are made later, before it is looked for those that are there."""
        names, ear = self._names, self._names.ear
        line = flow.line

        def request(channel: Channel, tell: Callable[[Any], None]) -> None:
            line.hear(Reader(channel.channel_number, on_message=flow.on_message), flow.on_rest)
            flow.listen(ear, self._hear)
            channel.exchange_declare(names.levels, "fanout", durable=True)
            channel.queue_declare(ear, exclusive=True, auto_delete=True)
            channel.queue_bind(ear, names.levels)
            channel.basic_consume(
                ear, _read_by_flow, auto_ack=True, consumer_tag=ear, callback=tell
            )

        try:
            line.ask(request, deadline, "listening")
        except OperationalError:
            line.abandon("it did not open")
            raise

    def _hear(self, told: bytes) -> None:
        place = parse_place(told)
        with self.changed:
            if place is None or place.queue not in self._looked:
                return
            if place.level not in self._levels.get(place.queue, ()):
                self._rumours.add(place)
                self.news += 1
                self.changed.notify_all()

    def _look_for_levels(
        self, line: Line, queues: Sequence[str], deadline: float, *, is_due: bool
    ) -> None:
        """Find the queues of those priorities that somebody has used, once for each line.

        The server closes the channel of who asks in vain, and writes a line in its log.
        """
        with self.changed:
            asked = {place for place in self._rumours if place.queue in queues}
            self._rumours -= asked
            for queue in queues:
                if is_due or queue not in self._looked:
                    self._looked.add(queue)
                    known = self._levels.get(queue, set())
                    asked.update(Place(queue, level) for level in LEVELS if level not in known)
        found = [
            place
            for place in sorted(asked)
            if line.probe(self._names.of(place), deadline) is not None
        ]
        self.know(found)

    def _open_window(self, line: Line, consumer: _Consumer, limit: int, deadline: float) -> None:
        """Have the server send `limit` more."""
        with self.changed:
            flow = self._flow
            if flow is None or flow.line is not line:
                raise OperationalError(f"rabbitmq {line.endpoint}: {line.reason or 'closed'}")
            self._last_tag += 1
            old, consumer.tag = consumer.tag, f"cardoon-{self._last_tag}"
            consumer.window, consumer.held = min(_MOST_AHEAD, limit), 0

        def request(channel: Channel, tell: Callable[[Any], None]) -> None:
            if old:
                channel.basic_cancel(old, callback=lambda _: flow.forget(old))
            flow.expect(consumer.tag, consumer.place)
            channel.basic_qos(prefetch_count=consumer.window)
            channel.basic_consume(
                self._names.of(consumer.place),
                _read_by_flow,
                consumer_tag=consumer.tag,
                callback=tell,
            )

        line.ask(request, deadline, "consuming")

    def _let_arrive(self, line: Line, queues: Sequence[str], deadline: float) -> bool:
        """Wait until all has come that lies ready and that a window lets in; return whether there is more.

        The server's answer on each queue's length comes from the queue itself, behind all that it has
        sent to this channel before; and that the channel has sent on before it answers again.
        """
        self._look_for_levels(line, queues, deadline, is_due=False)
        left = 0
        for place in self._places_of(queues):
            answer = line.ask(
                _looking_into(self._names.of(place)), deadline, "looking into a queue"
            )
            left += answer.method.message_count
        line.ask(
            lambda channel, tell: channel.basic_qos(prefetch_count=1, callback=tell),
            deadline,
            "waiting for what was sent",
        )
        return left > 0

    def _arrive(self, flow: Flow, parcels: Sequence[Parcel]) -> None:
        with self.changed:
            if self._flow is not flow:
                return
            for parcel in parcels:
                consumer = self._consumers.setdefault(parcel.place, _Consumer(parcel.place))
                consumer.held += parcel.consumer == consumer.tag
                consumer.buffer.append(parcel)
            self.changed.notify_all()

    def _end(
        self, parcels: Sequence[Parcel], end: Callable[[Flow, Channel, Sequence[int]], None]
    ) -> None:
        with self.changed:
            flow = self._flow
            tags = []
            for parcel in parcels:
                if flow is not None and parcel.line is flow.line:
                    tags.append(parcel.tag)
                    consumer = self._consumers.get(parcel.place)
                    if consumer is not None and consumer.tag == parcel.consumer:
                        consumer.held -= 1
        if tags and flow is not None:
            flow.line.post(lambda channel: end(flow, channel, tags))

    def _shut(self, is_to_be: Callable[[_Consumer], bool]) -> int:
        """Close windows, and put back what waits behind them; return how much."""
        with self.changed:
            shut = [consumer for consumer in self._consumers.values() if is_to_be(consumer)]
            parcels = [parcel for consumer in shut for parcel in consumer.buffer]
            for consumer in shut:
                consumer.buffer.clear()
                self._cancel(consumer)
        self.put_back(parcels)
        return len(parcels)

    def _cancel(self, consumer: _Consumer) -> None:
        """Called with `changed` held."""
        tag, consumer.tag = consumer.tag, ""
        flow = self._flow
        if tag and flow is not None:

            def forget(_: Any) -> None:
                flow.forget(tag)

            flow.line.post(lambda channel: channel.basic_cancel(tag, callback=forget))

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _count(self, queues: Sequence[str]) -> int:
        with self.changed:
            return sum(self._consumers_of(queues, lambda each: len(each.buffer)))

    def _consumers_of(
        self, queues: Sequence[str], ask: Callable[[_Consumer], Any]
    ) -> Iterable[Any]:
        return [ask(each) for each in self._consumers.values() if each.place.queue in queues]

    def _places_of(self, queues: Sequence[str]) -> list[Place]:
        with self.changed:
            return [
                Place(queue, level)
                for queue in queues
                for level in sorted(self._levels.get(queue, ()), reverse=True)
            ]


def _read_by_flow(*_: Any) -> None:
    """What pika is told to call for messages, which it never sees."""


def _purging(name: str) -> Callable[[Channel, Callable[[Any], None]], None]:
    return lambda channel, tell: channel.queue_purge(name, callback=tell)


def _looking_into(name: str) -> Callable[[Channel, Callable[[Any], None]], None]:
    return lambda channel, tell: channel.queue_declare(name, passive=True, callback=tell)
