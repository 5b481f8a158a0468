"""Publish, claim and extend: the statements on messages that wait or are on loan."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from cardoon.broker import Delivery, Outgoing
from cardoon.exceptions import OperationalError
from cardoon.sqlite import dormant
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import batches, cut, document

MAX_CLAIM_BYTES = 32 * 2**20
"""Frames, and results that messages waited for, that one claim may carry together; a single larger
message still comes alone."""

_MIN_PROMOTED = 1000
"""How many due messages a claim makes ready at least. When more than that fall due at once, those
that were due first come first, whatever their priority."""


def publish(transaction: Transaction, outgoing: Sequence[Outgoing], *, now: float) -> None:
    """Store messages, but not those whose id is stored."""
    frames = [message.frame for message in outgoing]
    waiting: list[tuple[int, Outgoing]] = []
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
        waiting += [(number, each) for number, each in enumerate(messages, first) if each.after]
    if waiting:
        dormant.lay_down(transaction, waiting, now=now)


def look_out(database: Database, queues: Sequence[str]) -> tuple[bool, float | None]:
    """Whether a message is ready, and when the next scheduled one is due."""
    ready, due = database.row("messages.outlook", queues=document(queues))
    return bool(ready), due


def claim(
    transaction: Transaction,
    queues: Sequence[str],
    *,
    limit: int,
    now: float,
    owner: int,
    lease_until: float,
    is_any_due: bool,
) -> list[Delivery]:
    """Lease ready messages, queue by queue, the most urgent of each first."""
    numbers: list[int] = []
    size = 0
    for queue in queues:
        wanted = limit - len(numbers)
        if wanted <= 0:
            break
        if is_any_due:
            most = max(wanted, _MIN_PROMOTED)
            transaction.run("messages.promote", queue=queue, now=now, limit=most)
        (picked,) = transaction.row("messages.pick", queue=queue, limit=wanted)
        for number, frame_size in json.loads(picked):
            size += frame_size
            if size > MAX_CLAIM_BYTES and numbers:
                return _lease(transaction, numbers, owner, lease_until)
            numbers.append(number)
    return _lease(transaction, numbers, owner, lease_until)


def hold(transaction: Transaction, deliveries: Iterable[Delivery]) -> dict[int, tuple[int, str]]:
    """Attempt and id, by number, of those messages that are on loan to anyone."""
    receipts = [delivery.receipt for delivery in deliveries]
    (held,) = transaction.row("messages.held", numbers=document(receipts))
    return {number: (attempt, name) for number, attempt, name in json.loads(held)}


def extend(
    transaction: Transaction, deliveries: Sequence[Delivery], *, lease_until: float
) -> list[Delivery]:
    """Renew the leases of those that are still held, and return them."""
    held = hold(transaction, deliveries)
    kept = [
        delivery
        for delivery in deliveries
        if isinstance(delivery.receipt, int)
        and held.get(delivery.receipt) == (delivery.attempt, delivery.id)
    ]
    if kept:
        numbers = document([delivery.receipt for delivery in kept])
        transaction.run("messages.extend", numbers=numbers, until=lease_until)
    return kept


def _lease(
    transaction: Transaction, numbers: Sequence[int], owner: int, lease_until: float
) -> list[Delivery]:
    if not numbers:
        return []
    packed = document(numbers)
    transaction.run("messages.lease", numbers=packed, owner=owner, until=lease_until)
    rows, blob = transaction.row("messages.fetch", numbers=packed)
    found: dict[int, Delivery] = {}
    waited: list[int] = []
    start = 0
    for queue, name, number, attempt, crashes, retries, priority, size, inputs in json.loads(rows):
        frame = blob[start : start + size]
        start += size
        found[number] = Delivery(queue, name, frame, number, attempt, crashes, retries, priority)
        if inputs:
            waited.append(number)
    if len(found) != len(numbers) or start != len(blob):
        raise OperationalError("the database has lost the frames of messages; restore it")
    if waited:
        for number, ends in dormant.inputs_of(transaction, waited).items():
            found[number] = found[number]._replace(inputs=tuple(ends))
    return [found[number] for number in numbers]
