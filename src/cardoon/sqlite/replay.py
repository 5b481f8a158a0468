"""The statements on replay marks; what they mean stands in `cardoon.security.replay`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState
from cardoon.sqlite.database import Database, Transaction
from cardoon.sqlite.statements import cut, document, join


def claim(
    transaction: Transaction, claims: Sequence[NonceClaim], *, now: float
) -> list[NonceState]:
    """Claim nonces, in this order, and say which are ours; begins an epoch `now` if there is none."""
    since = _load_since(transaction, now)
    if all(claim.nonce.signed_by >= since for claim in claims):
        return _claim(transaction, claims)
    states = []
    for each in claims:
        is_old = each.nonce.signed_by < since
        if is_old and not _find_holders(transaction, *_pack([each])):
            states.append(NonceState.BEFORE_EPOCH)
        else:
            states += _claim_together(transaction, [each])
    return states


def load_memory(database: Database) -> Memory:
    """How far back the marks reach; begins an epoch if there is none."""
    since, number = database.row("replay.memory")
    if not isinstance(since, (int, float)):
        with database.write(durable=True) as transaction:
            since = _load_since(transaction, database.clock.now())
    return Memory(since, number)


def begin_anew(transaction: Transaction, *, now: float) -> None:
    """Begin another epoch."""
    transaction.run("replay.begin_anew", now=now)


def _load_since(transaction: Transaction, now: float) -> float:
    for (since,) in transaction.rows("replay.since"):
        if isinstance(since, (int, float)):
            return since
    transaction.run("replay.begin_anew", now=now)
    return now


def _claim(transaction: Transaction, claims: Sequence[NonceClaim]) -> list[NonceState]:
    if len({(claim.nonce.session, claim.nonce.sequence) for claim in claims}) == len(claims):
        return _claim_together(transaction, claims)
    # Afterwards one could not tell who of several had the nonce in between.
    return [_claim_together(transaction, [claim])[0] for claim in claims]


def finish(transaction: Transaction, nonces: Iterable[Nonce]) -> None:
    """Mark nonces as done, whether they were claimed or not."""
    marked = list(nonces)
    if not marked:
        return
    sessions = [nonce.session for nonce in marked]
    packed = document(
        [
            (nonce.sequence, nonce.expires_at, offset, size)
            for nonce, (offset, size) in zip(marked, cut(sessions), strict=True)
        ]
    )
    transaction.run("replay.finish", rows=packed, sessions=join(sessions))


def reopen(transaction: Transaction, session: bytes, sequence: int, *, receipt: int) -> None:
    """Let a message be carried out again, which has this receipt now."""
    transaction.run("replay.reopen", session=session, sequence=sequence, receipt=receipt)


def _claim_together(transaction: Transaction, claims: Sequence[NonceClaim]) -> list[NonceState]:
    packed, blob = _pack(claims)
    if transaction.run("replay.claim", rows=packed, sessions=blob) == len(claims):
        return [NonceState.CLAIMED] * len(claims)
    states = [NonceState.DONE] * len(claims)
    for index, receipt, attempt, done in _find_holders(transaction, packed, blob):
        asked = claims[index]
        if (receipt, attempt) == (asked.receipt, asked.attempt) and not done:
            states[index] = NonceState.CLAIMED
        elif not done:
            states[index] = NonceState.HELD
    return states


def _find_holders(transaction: Transaction, packed: str, blob: bytes) -> list[Any]:
    """Of those claims whose nonces have marks: which they are, and who has them."""
    (holders,) = transaction.row("replay.holders", rows=packed, sessions=blob)
    found: list[Any] = json.loads(holders)
    return found


def _pack(claims: Sequence[NonceClaim]) -> tuple[str, bytes]:
    """Claims as statements read them: `:rows` and `:sessions`."""
    sessions = [claim.nonce.session for claim in claims]
    packed = document(
        [
            (
                claim.receipt,
                claim.attempt,
                claim.nonce.sequence,
                claim.nonce.expires_at,
                offset,
                size,
            )
            for claim, (offset, size) in zip(claims, cut(sessions), strict=True)
        ]
    )
    return packed, join(sessions)
