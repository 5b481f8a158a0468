"""What people look at: how deep queues are, dead letters and the quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cardoon.broker import Kept, KeptMessage, QueueDepth
from cardoon.quarantine import Fill
from cardoon.sqlite import limits, replay, subscribers
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import document
from cardoon.sqlite.wakeups import Bell

MAX_ROWS_AT_ONCE = 5000
"""How much one transaction deletes, so that nobody waits long for its end."""


def measure(database: Database, *, now: float, monotonic: float) -> list[QueueDepth]:
    """The depth of every queue, by name; a subscriber's queue is counted with its broadcast queue."""
    names, subscribed = subscribers.show(database, now=monotonic)
    ready: Counter[str] = Counter()
    scheduled: Counter[str] = Counter()
    leased: Counter[str] = Counter()
    due: dict[str, float] = {}
    for queue, count, is_due, earliest in database.rows("kept.scheduled", now=now):
        name = names.get(queue, queue)
        ready[name] += is_due
        scheduled[name] += count - is_due
        due[name] = min(earliest, due.get(name, earliest))
    for queue, count, earliest in database.rows("kept.ready"):
        name = names.get(queue, queue)
        ready[name] += count
        due[name] = min(earliest, due.get(name, earliest))
    for queue, count in database.rows("kept.leased"):
        leased[names.get(queue, queue)] += count
    dormant = Counter(dict(database.rows("kept.dormant")))
    limited = limits.measure(database, ready, due, now=now)
    declared = {name for (name,) in database.rows("kept.queues")}
    paused = {name for (name,) in database.rows("pausing.all")}
    return [
        QueueDepth(
            queue=queue,
            ready=ready[queue],
            scheduled=scheduled[queue],
            dormant=dormant[queue],
            leased=leased[queue],
            oldest=max(0.0, now - due[queue]) if ready[queue] else None,
            limited=limited[queue],
            paused=queue in paused,
            subscribers=subscribed.get(queue, 0),
        )
        for queue in sorted(
            declared.union(paused, ready, scheduled, dormant, leased, limited, subscribed)
        )
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

    A message's nonce was marked as done when it was put away, and must be claimable again, or the
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
            replay.reopen(transaction, bytes.fromhex(session), sequence, receipt=new)
        restored.append(number)
    transaction.run("kept.discard", place=where.value, numbers=document(restored))
    transaction.bells.add(Bell.MESSAGES)
    return len(restored)


def fills(database: Database) -> list[Fill]:
    """How much lies in the quarantine for each reason."""
    return [Fill._make(row) for row in database.rows("kept.fills")]


def thin_out(transaction: Transaction, reason: str, *, messages: int, bytes: int) -> Fill:
    """Delete the oldest of a reason until at most so much is left, or many; return what is gone."""
    there = transaction.rows("kept.fill", reason=reason)
    count, size = there[0] if there else (0, 0)
    gone: list[int] = []
    freed = 0
    for number, each in transaction.rows("kept.oldest", reason=reason, limit=MAX_ROWS_AT_ONCE):
        if count - len(gone) <= messages and size - freed <= bytes:
            break
        gone.append(number)
        freed += each
    transaction.run("kept.discard", place=Kept.QUARANTINE.value, numbers=document(gone))
    return Fill(reason, len(gone), freed)
