"""What comes over one line: messages as they arrive, until they are acknowledged.

Touched only by who uses the line, so it needs no lock. What has come together is handed on together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pika.channel import Channel

from cardoon.clock import SystemClock
from cardoon.rabbitmq.frames import Arrival
from cardoon.rabbitmq.line import Line
from cardoon.rabbitmq.queues import Place

_TIME = SystemClock()


@dataclass(slots=True, eq=False)
class Parcel:
    """One message as the server delivered it, until it is acknowledged."""

    line: Line
    tag: int
    place: Place
    id: str
    frame: bytes
    is_copy: bool
    """Whether the server says that it has delivered it before."""
    arrived: float
    consumer: str
    """The tag of what it was sent to."""


class Flow:
    """Of one line."""

    def __init__(self, line: Line, hand_on: Callable[[Flow, Sequence[Parcel]], None]) -> None:
        self.line = line
        self._hand_on = hand_on
        self._places: dict[str, Place] = {}
        self._listeners: dict[str, Callable[[bytes], None]] = {}
        self._arrived: list[Parcel] = []
        self._unacknowledged: dict[int, None] = {}

    def expect(self, consumer: str, place: Place) -> None:
        """What comes to this consumer is of this queue."""
        self._places[consumer] = place

    def forget(self, consumer: str) -> None:
        """Nothing more comes to it."""
        self._places.pop(consumer, None)

    def listen(self, consumer: str, listener: Callable[[bytes], None]) -> None:
        """What comes to this consumer is told, and never acknowledged."""
        self._listeners[consumer] = listener

    def on_message(self, arrival: Arrival) -> None:
        """A message has come."""
        listener = self._listeners.get(arrival.consumer)
        if listener is not None:
            listener(arrival.body)
            return
        place = self._places[arrival.consumer]  # else the server makes no sense, and the line ends
        self._unacknowledged[arrival.tag] = None
        self._arrived.append(
            Parcel(
                self.line,
                arrival.tag,
                place,
                hashlib.sha256(arrival.body).hexdigest() if arrival.id is None else arrival.id,
                arrival.body,
                arrival.is_copy,
                _TIME.monotonic(),
                arrival.consumer,
            )
        )

    def on_rest(self) -> None:
        """All that came together has been told."""
        if self._arrived:
            parcels, self._arrived = self._arrived, []
            self._hand_on(self, parcels)

    def acknowledge(self, channel: Channel, tags: Sequence[int]) -> None:
        """Let the server forget these: all that came first by one word, which is one step for it."""
        wanted = frozenset(tags)
        last = 0
        for tag in self._unacknowledged:
            if tag not in wanted:
                break
            last = tag
        if last:
            channel.basic_ack(last, multiple=True)
        for tag in tags:
            del self._unacknowledged[tag]
            if tag > last:
                channel.basic_ack(tag)

    def put_back(self, channel: Channel, tags: Sequence[int]) -> None:
        """Let the server deliver these again, to anyone."""
        for tag in tags:
            del self._unacknowledged[tag]
            channel.basic_nack(tag, requeue=True)
