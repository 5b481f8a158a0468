"""What scripts are given: the fields of messages and completions one after the other, as they `take` them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, assert_never

from cardoon.backend import SealedResult
from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    DeadLetter,
    Delivery,
    Outcome,
    Outgoing,
    Quarantine,
    Requeue,
    Settlement,
    Trigger,
)
from cardoon.security.replay import MAX_SEQUENCE, Nonce, NonceClaim

Field = str | bytes | int
Arguments = list[Field]

_COUNTERS = {Cause.RELEASED: "", Cause.RETRIED: "retries", Cause.CRASHED: "crashes"}


def pack_messages(outgoing: Iterable[Outgoing]) -> Arguments:
    """Messages, as `take_message` reads them."""
    packed: Arguments = []
    for message in outgoing:
        due = message.run_at
        packed += (
            message.queue,
            message.id,
            message.frame,
            message.priority,
            "" if due is None else repr(float(due)),
        )
        unique, limit, after = message.unique, message.limit, message.after
        if message.fanout:
            packed.append("f")
            continue
        if unique is None and limit is None and not after:
            packed.append("")
            continue
        packed.append("u" * (unique is not None) + "l" * (limit is not None) + "a" * bool(after))
        if unique is not None:
            packed += (unique.key, repr(float(unique.period)))
        if limit is not None:
            packed += (limit.key, limit.most, repr(float(limit.gap)))
        if after:
            on_failure = message.trigger is Trigger.FAILURE
            packed += ("F" if on_failure else "S", repr(float(message.delay)), len(after))
            for predecessor in after:
                packed += predecessor
    return packed


def pack_alone(outgoing: Iterable[Outgoing]) -> Arguments | None:
    """Messages, as `send.lua` reads them; None if it would not do for one of them."""
    packed: Arguments = []
    for message in outgoing:
        queue, name, frame, priority, due, *rest = message
        if rest != _ALONE:
            return None
        packed += (queue, name, frame, priority, "" if due is None else repr(float(due)))
    return packed


_ALONE = [*Outgoing("", "", b"")[5:]]
"""What else is said of a message that waits for nothing, and is neither counted nor broadcast."""


def pack_completions(completions: Iterable[Completion]) -> Arguments:
    """Completions, as `take_completion` reads them."""
    packed: Arguments = []
    for completion in completions:
        packed += _pack_settlement(completion.settlement)
        nonce, result, outcome = completion.nonce, completion.result, completion.outcome
        packed += ("",) if nonce is None else _pack_nonce(nonce)
        packed += ("",) if result is None else _pack_end(result)
        packed += ("",) if outcome is None else _pack_outcome(outcome, result)
        packed.append(len(completion.publish))
        packed += pack_messages(completion.publish)
    return packed


def pack_deliveries(deliveries: Iterable[Delivery]) -> Arguments:
    """Tokens of loans."""
    return [*chain.from_iterable(map(_pack_token, deliveries))]


def pack_results(results: Iterable[SealedResult]) -> Arguments:
    """Results, as `store.lua` reads them."""
    return [*chain.from_iterable(map(_pack_end, results))]


def pack_nonces(nonces: Iterable[Nonce]) -> Arguments:
    """Nonces, as `finish.lua` and `were_done.lua` read them."""
    return [*chain.from_iterable(map(_pack_nonce, nonces))]


def pack_claims(claims: Iterable[NonceClaim]) -> Arguments:
    """Claims of nonces, as `nonces.lua` reads them."""
    return [
        *chain.from_iterable(
            (
                *_pack_nonce(claim.nonce),
                claim.receipt,
                claim.attempt,
                "" if claim.nonce.signed_by == math.inf else repr(float(claim.nonce.signed_by)),
            )
            for claim in claims
        )
    ]


def printable(text: str) -> bytes:
    """Text for people to read: what came from a refused message may hold anything."""
    return text.encode("utf-8", "backslashreplace")


def read_count(field: Any) -> int:
    """A number as it lies in a field; 0 for what is none, so that it hides nothing beside it."""
    try:
        return int(field)
    except (TypeError, ValueError):
        return 0


def unpack_result(task_id: str, value: bytes) -> SealedResult:
    """A stored result; `answers.lua` says how it is written."""
    head, _, frame = value.partition(b"\n")
    expires_at = head[1:]
    return SealedResult(task_id, frame, head[:1] == b"1", float(expires_at) if expires_at else None)


def _pack_token(delivery: Delivery) -> tuple[Field, ...]:
    return delivery.receipt, delivery.attempt, delivery.id


def _pack_settlement(settlement: Settlement) -> tuple[Field, ...]:
    token = _pack_token(settlement.delivery)
    match settlement:
        case Ack():
            return (*token, "A", "", "")
        case Requeue(cause=cause, delay=delay):
            return (*token, "R", _COUNTERS[cause], repr(float(delay)))
        case DeadLetter(reason=reason):
            return (*token, "D", printable(reason), "")
        case Quarantine(reason=reason, detail=detail):
            return (*token, "Q", printable(reason), printable(detail))
        case _:
            assert_never(settlement)


def _pack_nonce(nonce: Nonce) -> tuple[Field, ...]:
    # The gate refuses what is beyond; here it would be a bitmap of any size.
    if not 0 <= nonce.sequence < MAX_SEQUENCE:
        raise ValueError(f"nonce: sequence {nonce.sequence} is not below {MAX_SEQUENCE}")
    return nonce.session, nonce.sequence, repr(float(nonce.expires_at))


def _pack_end(result: SealedResult) -> tuple[Field, ...]:
    flag = "1" if result.final else "0"
    expires_at = "" if result.expires_at is None else repr(float(result.expires_at))
    return flag, result.task_id, expires_at, f"{flag}{expires_at}\n".encode() + result.frame


def _pack_outcome(outcome: Outcome, result: SealedResult | None) -> tuple[Field, ...]:
    how = "S" if outcome.succeeded else "K" if outcome.skipped else "F"
    if result is not None and result.frame == outcome.frame:
        return how.lower(), b""
    return how, outcome.frame
