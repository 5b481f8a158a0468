"""What RabbitMQ and its companion do together, as plain data.

All that the companion holds is the oracle's, message for message. What RabbitMQ carries lies beside it, and
some of that nobody can be sure of: copies that the server was told to deliver again come when they come,
and those of stored messages are dropped when somebody happens to take them.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cardoon.broker import Completion, Delivery, Outgoing
from cardoon.testing.oracle import Oracle

Token = tuple[int | str, int]


@dataclasses.dataclass(slots=True, eq=False)
class Carried:
    """One message in RabbitMQ, as it was sent."""

    message: Outgoing
    is_sure: bool = True
    """Whether it is certainly there, at its place in the line."""


@dataclasses.dataclass(slots=True)
class CarryingOracle(Oracle):
    """The companion's state, and what RabbitMQ carries or keeps of loans."""

    carried: list[Carried] = dataclasses.field(default_factory=list)
    """In the order of sending."""
    copies: dict[Token, Outgoing] = dataclasses.field(default_factory=dict)
    """Of what was taken from RabbitMQ and is on loan."""

    def publish(
        self, outgoing: Iterable[Outgoing], now: float, *, replaces: bool = False
    ) -> dict[str, str]:
        """Leave to RabbitMQ what it can carry; what a completion sends is the companion's."""
        if replaces:
            return Oracle.publish(self, outgoing, now, replaces=True)
        batch = list(outgoing)
        times = Counter(sent.id for sent in batch)
        times.update(each.id for sent in batch for each in sent.after)
        plain = [sent for sent in batch if times[sent.id] == 1 and _is_plain(sent, now)]
        self.carried += map(Carried, plain)
        return Oracle.publish(self, [sent for sent in batch if sent not in plain], now)

    def follow(
        self,
        deliveries: Sequence[Delivery],
        queues: Sequence[str],
        limit: int,
        now: float,
        until: float,
    ) -> None:
        """Follow the driver in what either store lends; which of them comes first is its own business."""
        stored = [each for each in deliveries if each.id in self.messages]
        arrived = [each for each in deliveries if each.id not in self.messages]
        for delivery in arrived:
            self._take(delivery, {each.id for each in deliveries})
        Oracle.follow(self, stored, queues, limit - len(arrived), now, until)
        for delivery in arrived:
            message = Outgoing(delivery.queue, delivery.id, delivery.frame, delivery.priority)
            Oracle.publish(self, [message], now)
            self.lend(delivery, until, now)
            self.copies[delivery.receipt, delivery.attempt] = message
        for each in self.carried:
            if each.message.queue in queues and each.message.id in self.messages:
                each.is_sure = False  # a copy, which may have been taken, and dropped

    def in_turn(self, deliveries: Sequence[Delivery], now: float) -> Iterator[Delivery]:
        """What came from both stores is put in order of priority, so each may have been lent before.

        Lending one may close the key of another and never opens one: whoever is the first of its line may go.
        """
        waiting = list(deliveries)
        while waiting:
            heads = {queue: self.line(queue, now)[:1] for queue in {one.queue for one in waiting}}
            place = next(
                (n for n, one in enumerate(waiting) if [one.id] == heads[one.queue]),
                0,
            )
            yield waiting.pop(place)

    def awaited(self, queues: Sequence[str]) -> list[Outgoing]:
        """What RabbitMQ has yet to deliver to whoever takes from these queues."""
        return [
            each.message
            for each in self.carried
            if each.is_sure
            and each.message.queue in queues
            and each.message.queue not in self.resting
            and each.message.id not in self.messages
        ]

    def on_server(self, queue: str) -> range:
        """How many messages of a queue may wait in RabbitMQ."""
        there = [each.is_sure for each in self.carried if each.message.queue == queue]
        return range(sum(there), len(there) + 1)

    def complete(self, completions: Iterable[Completion], now: float) -> list[bool]:
        """RabbitMQ forgets its copy where a loan ends, and has it again where that was lost."""
        completions = list(completions)
        taken = Oracle.complete(self, completions, now)
        for completion, took in zip(completions, taken, strict=True):
            delivery = completion.settlement.delivery
            token = delivery.receipt, delivery.attempt
            if took:
                self.copies.pop(token, None)
            else:
                self._put_back(token)
        return taken

    def maintain(self, now: float, monotonic: float) -> int:
        """What runs out goes back in both stores."""
        over = [
            stored.token
            for stored in self.messages.values()
            if stored.token and stored.lease_until is not None and stored.lease_until <= monotonic
        ]
        for token in over:
            self._put_back(token)
        return Oracle.maintain(self, now, monotonic)

    def purge(self, queue: str) -> int:
        """Delete what waits, the most that it can be; what is on its way comes later."""
        count = Oracle.purge(self, queue) + max(self.on_server(queue))
        self.carried = [
            each for each in self.carried if each.message.queue != queue or not each.is_sure
        ]
        return count

    def _take(self, delivery: Delivery, lent: set[str]) -> None:
        """Have a message be taken from RabbitMQ; before it may only lie copies."""
        assert delivery.queue not in self.resting, f"lent {delivery}, whose queue rests"
        wanted = delivery.queue, delivery.id, delivery.frame, delivery.priority
        line = [
            each
            for each in self.carried
            if each.is_sure
            and each.message.queue == delivery.queue
            and each.message.priority >= delivery.priority
        ]
        line.sort(key=lambda each: -each.message.priority)
        gone: list[Carried] = []
        for each in line:
            gone.append(each)
            if each.message[:4] == wanted:
                self.carried = [
                    other
                    for other in self.carried
                    if other not in gone or other.message.priority > delivery.priority
                ]
                return
            if each.message.id not in self.messages and each.message.id not in lent:
                break  # so it can only be one that the server delivers again
        for each in self.carried:
            if not each.is_sure and each.message[:4] == wanted:
                self.carried.remove(each)
                return
        raise AssertionError(f"lent {delivery} out of its turn, of {self.carried}")

    def _put_back(self, token: Token) -> None:
        message = self.copies.pop(token, None)
        if message is not None:
            self.carried.append(Carried(message, is_sure=False))


def _is_plain(sent: Outgoing, now: float) -> bool:
    is_due = sent.run_at is None or sent.run_at <= now
    return is_due and not sent.after and sent.unique is None and sent.limit is None
