"""The calls on replay marks; what they mean stands in `cardoon.security.replay`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cardoon.postgres.connection import Call
from cardoon.postgres.database import Database
from cardoon.postgres.packing import whole
from cardoon.security.replay import Memory, Nonce, NonceClaim, NonceState


def claim(database: Database, claims: Sequence[NonceClaim]) -> list[NonceState]:
    """Claim nonces, in this order, and say which are ours."""
    if len({claim.nonce[:2] for claim in claims}) == len(claims):
        calls = [_call(database, claims)]
    else:
        # Afterwards one could not tell who of several had the nonce in between.
        calls = [_call(database, [claim]) for claim in claims]
    answers = database.attempt(lambda session: session.run(calls))
    return [NonceState(state) for rows in answers for (state,) in rows]


def finish(database: Database, nonces: Sequence[Nonce]) -> None:
    """Mark nonces as done, whether they were claimed or not."""
    database.call(
        "finish_nonces",
        [nonce.session for nonce in nonces],
        [nonce.sequence for nonce in nonces],
        [nonce.expires_at for nonce in nonces],
    )


def load_memory(database: Database) -> Memory:
    """How far back the marks reach; begins an epoch if there is none."""
    [(since, number)] = database.call("replay_memory", database.now)
    return Memory(since, number)


def begin_anew(database: Database) -> None:
    """Begin another epoch."""
    database.call("begin_anew", database.now)


def _call(database: Database, claims: Sequence[NonceClaim]) -> Call:
    return Call(
        "claim_nonces",
        (
            database.now,
            [claim.nonce.session for claim in claims],
            [claim.nonce.sequence for claim in claims],
            [whole(claim.receipt) for claim in claims],
            [claim.attempt for claim in claims],
            [claim.nonce.expires_at for claim in claims],
            [_finite(claim.nonce.signed_by) for claim in claims],
        ),
    )


def _finite(moment: float) -> float | None:
    return moment if moment < math.inf else None
