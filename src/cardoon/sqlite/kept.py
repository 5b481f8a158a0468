"""What people look at: how deep queues are, dead letters and the quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cardoon.broker import Kept, KeptMessage, QueueDepth
from cardoon.sqlite import limits, replay
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell

MAX_ROWS_AT_ONCE = 5000
"""How much one transaction deletes, so that nobody waits long for its end."""


def measure(database: Database, *, now: float) -> list[QueueDepth]:
    """The depth of every queue, by name."""
    ready: Counter[str] = Counter()
    scheduled: Counter[str] = Counter()
    due: dict[str, float] = {}
    for queue, count, is_due, earliest in database.rows("kept.scheduled", now=now):
        ready[queue] = is_due
        scheduled[queue] = count - is_due
        due[queue] = earliest
    for queue, count, earliest in database.rows("kept.ready"):
        ready[queue] += count
        due[queue] = min(earliest, due.get(queue, earliest))
    dormant = Counter(dict(database.rows("kept.dormant")))
    leased = Counter(dict(database.rows("kept.leased")))
    limited = limits.measure(database, ready, due, now=now)
    declared = {name for (name,) in database.rows("kept.queues")}
    return [
        QueueDepth(
            queue=queue,
            ready=ready[queue],
            scheduled=scheduled[queue],
            dormant=dormant[queue],
            leased=leased[queue],
            oldest=max(0.0, now - due[queue]) if ready[queue] else None,
            limited=limited[queue],
        )
        for queue in sorted(declared.union(ready, dormant, leased, limited))
    ]


def show(database: Database, where: Kept, *, limit: int, after: int) -> list[KeptMessage]:
    """Kept messages by number, from the one behind `after`."""
    return [
        KeptMessage(
            number=number,
            queue=queue,
            id=message_id,
            reason=reason,
            detail=detail,
            kept_at=kept_at,
            frame=frame,
            attempt=attempt,
            crashes=crashes,
            retries=retries,
        )
        for number, queue, message_id, reason, detail, kept_at, frame, attempt, crashes, retries
        in database.rows("kept.list", place=where.value, after=after, limit=limit)
    ]  # fmt: skip


def restore(transaction: Transaction, where: Kept, numbers: Sequence[int], *, now: float) -> int:
    """Put kept messages back; those whose id or unique key is in a queue again stay where they are.

    A message's nonce was marked as done when it was put away, and must be free again, or the
    message would be refused as a replay of itself. Only a settlement that named the nonce has it
    recorded, so whoever puts away a copy does not name it.
    """
    restored = []
    for number in dict.fromkeys(numbers):
        (new,) = transaction.row("messages.reserve", count=1)
        inserted = transaction.run(
            "kept.restore_message", place=where.value, number=number, new=new, now=now
        )
        if not inserted:
            continue
        transaction.run("kept.restore_frame", number=number, new=new)
        transaction.run("limits.restore", number=number)
        transaction.run("kept.restore_inputs", number=number, new=new)
        session, sequence = transaction.row("kept.nonce", number=number)
        if session is not None:
            replay.reopen(transaction, bytes.fromhex(session), sequence)
        restored.append(number)
    transaction.run("kept.discard", place=where.value, numbers=document(restored))
    transaction.bells.add(Bell.MESSAGES)
    return len(restored)
