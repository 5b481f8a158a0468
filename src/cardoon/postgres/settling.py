"""End loans: settle, store results, mark nonces, publish and hand on outcomes, by one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Quarantine,
    Requeue,
    Settlement,
)
from cardoon.postgres.connection import Call
from cardoon.postgres.database import Session
from cardoon.postgres.packing import pack_limits, pack_sent, pack_waiting, whole
from cardoon.postgres.wakeups import Bell, hints, queues_of

_ACK, _RELEASED, _RETRIED, _CRASHED, _DEAD, _QUARANTINED = range(6)
"""Ends, as `sql/complete.sql` has them."""

_CAUSES = {Cause.RELEASED: _RELEASED, Cause.RETRIED: _RETRIED, Cause.CRASHED: _CRASHED}


def complete(
    session: Session,
    completions: Sequence[Completion],
    *,
    now: float | None,
    schema: str,
    is_repeat: bool = False,
) -> list[bool]:
    """End each loan that is still held, with all that belongs to it; False for the others.

    One round trip, and a second one where somebody who waits for a message is to be told. `is_repeat`
    says that the answer of a try before was lost: what that has ended was ended by us.
    """
    first: dict[tuple[Any, ...], int] = {}
    for index, each in enumerate(completions):
        first.setdefault(_token(each.settlement.delivery), index)
    batch = [completions[index] for index in first.values()]  # a loan ends once
    rows = session.run([Call("complete", pack(batch, now=now))], then=_bells(batch, schema))
    held, woken = rows[0][0]
    if woken:
        session.run(hints(schema, Bell.MESSAGES))
    taken = [False] * len(completions)
    indexes = list(first.values())
    for place in held:
        taken[indexes[place - 1]] = True
    if is_repeat and not all(taken):
        for index in _ended_before(session, [(i, completions[i]) for i in indexes if not taken[i]]):
            taken[index] = True
    return taken


def _ended_before(session: Session, doubtful: Sequence[tuple[int, Completion]]) -> list[int]:
    """Those whose nonce says that their own delivery came to its end."""
    asked = [
        (index, each.nonce, each.settlement.delivery)
        for index, each in doubtful
        if each.nonce is not None and not isinstance(each.settlement, Requeue)
    ]
    if not asked:
        return []
    rows = session.call(
        "were_ended",
        [nonce.session for _, nonce, _ in asked],
        [nonce.sequence for _, nonce, _ in asked],
        [whole(delivery.receipt) for _, _, delivery in asked],
        [delivery.attempt for _, _, delivery in asked],
    )
    return [index for (index, _, _), (ended,) in zip(asked, rows, strict=True) if ended]


def pack(completions: Sequence[Completion], *, now: float | None) -> tuple[Any, ...]:
    """The arguments of `complete`."""
    settlements = [each.settlement for each in completions]
    return (
        now,
        [whole(each.delivery.receipt) for each in settlements],
        [each.delivery.attempt for each in settlements],
        [each.delivery.id for each in settlements],
        [_end_of(each) for each in settlements],
        _delays(settlements),
        *_reasons(settlements),
        *_nonces(completions),
        *_results(completions),
        *_outcomes(completions),
        *_sent(completions),
    )


def printable(text: str) -> str:
    """Text that the store can keep: what came from a refused message may hold anything."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _token(delivery: Delivery) -> tuple[Any, ...]:
    return delivery.receipt, delivery.attempt, delivery.id


def _bells(completions: Sequence[Completion], schema: str) -> list[Call]:
    """Who is to be told for what can be seen from here."""
    calls = []
    queues = [
        *(queue for each in completions for queue in queues_of(each.publish)),
        *(
            each.settlement.delivery.queue
            for each in completions
            if isinstance(each.settlement, Requeue)
        ),
    ]
    if queues:
        calls += hints(schema, Bell.MESSAGES, queues)
    if any(each.result is not None and each.result.final for each in completions):
        calls += hints(schema, Bell.RESULTS)
    return calls


def _end_of(settlement: Settlement) -> int:
    match settlement:
        case Ack():
            return _ACK
        case Requeue(cause=cause):
            return _CAUSES[cause]
        case DeadLetter():
            return _DEAD
        case Quarantine():
            return _QUARANTINED
        case _:
            assert_never(settlement)


def _delays(settlements: Sequence[Settlement]) -> list[float] | None:
    if not any(isinstance(each, Requeue) for each in settlements):
        return None
    return [each.delay if isinstance(each, Requeue) else 0.0 for each in settlements]


def _reasons(settlements: Sequence[Settlement]) -> tuple[list[str | None] | None, ...]:
    if not any(isinstance(each, (DeadLetter, Quarantine)) for each in settlements):
        return None, None
    told = [
        (printable(each.reason), printable(each.detail) if isinstance(each, Quarantine) else "")
        if isinstance(each, (DeadLetter, Quarantine))
        else (None, None)
        for each in settlements
    ]
    return [reason for reason, _ in told], [detail for _, detail in told]


def _nonces(completions: Sequence[Completion]) -> tuple[list[Any] | None, ...]:
    if all(each.nonce is None for each in completions):
        return None, None, None
    nonces = [each.nonce for each in completions]
    return (
        [None if nonce is None else nonce.session for nonce in nonces],
        [None if nonce is None else nonce.sequence for nonce in nonces],
        [None if nonce is None else nonce.expires_at for nonce in nonces],
    )


def _results(completions: Sequence[Completion]) -> tuple[list[Any] | None, ...]:
    found = [
        (place, each.result.task_id, each.result.final, each.result.expires_at, each.result.frame)
        for place, each in enumerate(completions, 1)
        if each.result is not None
    ]
    return _columns(found, 5)


def _outcomes(completions: Sequence[Completion]) -> tuple[list[Any] | None, ...]:
    found = [
        (place, each.outcome.succeeded, each.outcome.skipped, each.outcome.frame)
        for place, each in enumerate(completions, 1)
        if each.outcome is not None and not isinstance(each.settlement, Requeue)
    ]
    return _columns(found, 4)


def _sent(completions: Sequence[Completion]) -> tuple[list[Any] | None, ...]:
    sent = [(place, one) for place, each in enumerate(completions, 1) for one in each.publish]
    if not sent:
        return (None,) * 19
    outgoing = [one for _, one in sent]
    unique = [None if one.unique is None else one.unique.key for one in outgoing]
    ends = {each.settlement.delivery.id: place for place, each in enumerate(completions, 1)}
    return (
        [place for place, _ in sent],
        # What a later completion ends is still stored when this is sent, so it is dropped. Copies have
        # other ids, which the server compares.
        [
            end if not one.fanout and (end := ends.get(one.id, 0)) > place else None
            for place, one in sent
        ],
        *pack_sent(outgoing),
        unique if any(key is not None for key in unique) else None,
        *pack_limits(outgoing),
        *pack_waiting(outgoing),
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> tuple[list[Any] | None, ...]:
    if not rows:
        return (None,) * width
    return tuple(list(column) for column in zip(*rows, strict=True))
