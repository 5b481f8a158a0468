"""The statements on replay marks; what they mean stands in `cardoon.security.replay`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from cardoon.security.replay import Nonce, NonceClaim, NonceState
from cardoon.sqlite.database import Transaction
from cardoon.sqlite.statements import cut, document, join


def claim(transaction: Transaction, claims: Sequence[NonceClaim]) -> list[NonceState]:
    """Claim nonces, in this order, and say which are ours."""
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


def reopen(transaction: Transaction, session: bytes, sequence: int) -> None:
    """Forget a mark, so that the message may be carried out again."""
    transaction.run("replay.reopen", session=session, sequence=sequence)


def _claim_together(transaction: Transaction, claims: Sequence[NonceClaim]) -> list[NonceState]:
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
    blob = join(sessions)
    if transaction.run("replay.claim", rows=packed, sessions=blob) == len(claims):
        return [NonceState.CLAIMED] * len(claims)
    (holders,) = transaction.row("replay.holders", rows=packed, sessions=blob)
    states = [NonceState.DONE] * len(claims)
    for index, receipt, attempt, done in json.loads(holders):
        asked = claims[index]
        if (receipt, attempt) == (asked.receipt, asked.attempt) and not done:
            states[index] = NonceState.CLAIMED
        elif not done:
            states[index] = NonceState.HELD
    return states
