"""Publish, claim and extend: the statements on messages that wait or are on loan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from cardoon.broker import Delivery, Outgoing
from cardoon.exceptions import OperationalError
from cardoon.sqlite import dormant, limits, subscribers, unique
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.mending import check_row
from cardoon.sqlite.statements import MAX_BATCH_ROWS, batches, cut, document

MAX_CLAIM_BYTES = 32 * 2**20
"""Frames, and results that messages waited for, that one claim may carry together; a single larger
message still comes alone."""

_MIN_PROMOTED = 1000
"""How many due messages a claim makes ready at least. When more than that fall due at once, those
that were due first come first, whatever their priority."""

_LOOK_AHEAD = 500
"""How many messages a claim looks at together where the first ones have to let others pass."""

_MAX_BLOCKED = 2000
"""How many messages a claim puts out of the way at most: some ten milliseconds, in which no other
process can write."""


def publish(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float, monotonic: float
) -> Mapping[str, str]:
    """Store messages, but not those whose id is stored; return who stands in for whom."""
    outgoing = _spread(transaction, outgoing, now=now, monotonic=monotonic)
    if not _is_any_bounded(outgoing):
        _lay_down(transaction, _insert(transaction, outgoing, now=now), now=now)
        return {}
    wanted, stand_ins = unique.sift(transaction, outgoing, now=now)
    numbered = _insert(transaction, wanted, now=now)
    unique.note(transaction, numbered, now=now)
    _limit(transaction, numbered, now=now)
    return stand_ins


def replace(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float, monotonic: float
) -> None:
    """Store messages in the place of one that has ended, whoever has their keys by now."""
    outgoing = _spread(transaction, outgoing, now=now, monotonic=monotonic)
    numbered = _insert(transaction, outgoing, now=now)
    if _is_any_bounded(outgoing):
        unique.note(transaction, numbered, now=now, is_new=False)
        _limit(transaction, numbered, now=now)
    else:
        _lay_down(transaction, numbered, now=now)


def adopt(
    transaction: Transaction,
    outgoing: Sequence[Outgoing],
    *,
    owner: int,
    now: float,
    lease_until: float,
) -> list[Delivery | None]:
    """Store messages as leased, but not those whose id is stored; return them as they are lent."""
    lent: list[Delivery | None] = []
    for messages, blob in batches(outgoing, [message.frame for message in outgoing]):
        cuts = cut(message.frame for message in messages)
        packed = document(
            [
                (message.id, message.queue, message.priority, None, offset, size)
                for message, (offset, size) in zip(messages, cuts, strict=True)
            ]
        )
        (last,) = transaction.row("messages.reserve", count=len(messages))
        first = last - len(messages) + 1
        transaction.run(
            "messages.adopt", rows=packed, first=first, now=now, owner=owner, until=lease_until
        )
        transaction.run("messages.insert_frames", rows=packed, first=first, frames=blob)
        (stored,) = transaction.row("messages.stored", first=first, last=last)
        numbers = frozenset(json.loads(stored))
        lent += [
            Delivery(each.queue, each.id, each.frame, number, 1, priority=each.priority)
            if number in numbers
            else None
            for number, each in enumerate(messages, first)
        ]
    return lent


def look_out(database: Database, queues: Sequence[str]) -> tuple[bool, float | None]:
    """Whether a message is ready, and when the next one will be: scheduled, or let go by a rate."""
    ready, due, opens_at = database.row("messages.outlook", queues=document(queues))
    due, opens_at = (one if isinstance(one, (int, float)) else None for one in (due, opens_at))
    if due is None or (opens_at is not None and opens_at < due):
        due = opens_at
    return bool(ready), due


class Claim:
    """One claim: which messages it takes, and in which order."""

    __slots__ = (
        "_blocked",
        "_is_full",
        "_lease_until",
        "_leased",
        "_limit",
        "_now",
        "_numbers",
        "_owner",
        "_places",
        "_size",
        "_transaction",
        "is_cut_short",
    )

    def __init__(
        self, transaction: Transaction, *, limit: int, now: float, owner: int, lease_until: float
    ) -> None:
        self.is_cut_short = False
        """Whether there may be more to take, behind the many that were put out of the way."""
        self._transaction = transaction
        self._limit = limit
        self._now = now
        self._owner = owner
        self._lease_until = lease_until
        self._places: limits.Places | None = None
        self._numbers: list[int] = []
        self._leased = 0
        self._size = 0
        self._is_full = False
        self._blocked = 0

    def take(self, queues: Sequence[str], *, is_any_due: bool) -> list[Delivery]:
        """Lease ready messages, queue by queue, the most urgent of each first."""
        if is_any_due:
            limits.let_go_on_time(self._transaction, now=self._now)
        for queue in queues:
            if self.is_cut_short or self._is_done:
                break
            wanted = self._limit - len(self._numbers)
            if is_any_due:
                most = max(wanted, _MIN_PROMOTED)
                self._transaction.run("messages.promote", queue=queue, now=self._now, limit=most)
            while closed := self._take_ready(queue, wanted):
                # What was taken and what is in the way must not be looked at again.
                self._lease()
                limits.block(self._transaction, closed)
                self._blocked += len(closed)
                if self._blocked >= _MAX_BLOCKED:
                    self.is_cut_short = True
                if self.is_cut_short or self._is_done:
                    break
                wanted = _LOOK_AHEAD
        packed = document(self._numbers)
        self._lease(packed if self._leased == 0 else None)
        if self._places is not None:
            self._places.write()
        return _fetch(self._transaction, self._numbers, packed)

    @property
    def _is_done(self) -> bool:
        return self._is_full or len(self._numbers) >= self._limit

    def _take_ready(self, queue: str, most: int) -> list[int]:
        """Take what there is room for among the first; return those whose key has none."""
        (picked,) = self._transaction.row("messages.pick", queue=queue, limit=most)
        rows = json.loads(picked)
        places = self._places
        if keys := [row[2] for row in rows if row[2] is not None]:
            if places is None:
                places = self._places = limits.Places(self._transaction, now=self._now)
            places.look_at(keys)
        closed = []
        for number, size, key in rows:
            if self._is_done:
                break
            if self._size + size > MAX_CLAIM_BYTES and self._numbers:
                self._is_full = True
            elif key is None or (places is not None and places.enter(key)):
                self._size += size
                self._numbers.append(number)
            else:
                closed.append(number)
        return closed

    def _lease(self, packed: str | None = None) -> None:
        """Lease what was taken since the last time; `packed` has it as a document."""
        count = len(self._numbers)
        if count > self._leased:
            packed = packed or document(self._numbers[self._leased :])
            self._leased = count
            self._transaction.run(
                "messages.lease", numbers=packed, owner=self._owner, until=self._lease_until
            )


def hold(
    transaction: Transaction, deliveries: Iterable[Delivery]
) -> dict[int, tuple[int, str, str | None]]:
    """Attempt, id and limit key, by number, of those messages that are on loan to anyone."""
    receipts = [delivery.receipt for delivery in deliveries]
    (held,) = transaction.row("messages.held", numbers=document(receipts))
    return {number: (attempt, name, key) for number, attempt, name, key in json.loads(held)}


def extend(
    transaction: Transaction, deliveries: Sequence[Delivery], *, lease_until: float
) -> list[Delivery]:
    """Renew the leases of those that are still held, and return them."""
    held = hold(transaction, deliveries)
    kept = [
        delivery
        for delivery in deliveries
        if isinstance(delivery.receipt, int)
        and held.get(delivery.receipt, ())[:2] == (delivery.attempt, delivery.id)
    ]
    if kept:
        numbers = document([delivery.receipt for delivery in kept])
        transaction.run("messages.extend", numbers=numbers, until=lease_until)
    return kept


def _is_any_bounded(outgoing: Sequence[Outgoing]) -> bool:
    return any(one.unique is not None or one.limit is not None for one in outgoing)


def _insert(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float
) -> list[tuple[int, Outgoing]]:
    """Store messages; return those with their numbers of which more is to be said."""
    numbered: list[tuple[int, Outgoing]] = []
    frames = [message.frame for message in outgoing]
    for messages, blob in batches(outgoing, frames):
        packed = document(
            [
                (message.id, message.queue, message.priority, message.run_at, offset, size)
                for message, (offset, size) in zip(
                    messages, cut(message.frame for message in messages), strict=True
                )
            ]
        )
        (last,) = transaction.row("messages.reserve", count=len(messages))
        first = last - len(messages) + 1
        transaction.run("messages.insert", rows=packed, first=first, now=now)
        transaction.run("messages.insert_frames", rows=packed, first=first, frames=blob)
        numbered += [
            (number, each)
            for number, each in enumerate(messages, first)
            if each.after or each.unique is not None or each.limit is not None
        ]
    return numbered


def _spread(
    transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float, monotonic: float
) -> Sequence[Outgoing]:
    """Store the copies of what is broadcast, so many at a time; return the other messages."""
    sent = [message for message in outgoing if message.fanout]
    if not sent:
        return outgoing
    copies = subscribers.spread(transaction, sent, now=monotonic)
    while some := list(islice(copies, MAX_BATCH_ROWS)):
        _insert(transaction, some, now=now)
    return [message for message in outgoing if not message.fanout]


def _limit(
    transaction: Transaction, numbered: Sequence[tuple[int, Outgoing]], *, now: float
) -> None:
    """Note limits before anything is laid down: what is dropped there and then was sent as well."""
    changed = limits.note(transaction, numbered)
    _lay_down(transaction, numbered, now=now)
    limits.let_go(transaction, changed, now=now)


def _lay_down(
    transaction: Transaction, numbered: Sequence[tuple[int, Outgoing]], *, now: float
) -> None:
    """Have those wait that wait for others."""
    if waiting := [pair for pair in numbered if pair[1].after]:
        dormant.lay_down(transaction, waiting, now=now)


def _fetch(transaction: Transaction, numbers: Sequence[int], packed: str) -> list[Delivery]:
    if not numbers:
        return []
    rows, blob = transaction.row("messages.fetch", numbers=packed)
    found: dict[int, Delivery] = {}
    waited: list[int] = []
    start = 0
    for queue, name, number, attempt, crashes, retries, priority, size, inputs in json.loads(rows):
        frame = blob[start : start + size]
        start += size
        check_row(attempt, crashes, retries, priority)
        found[number] = Delivery(queue, name, frame, number, attempt, crashes, retries, priority)
        if inputs:
            waited.append(number)
    if len(found) != len(numbers) or start != len(blob):
        raise OperationalError("the database has lost the frames of messages; restore it")
    if waited:
        for number, ends in dormant.inputs_of(transaction, waited).items():
            found[number] = found[number]._replace(inputs=tuple(ends))
    return [found[number] for number in numbers]
