"""Which nonces of the memory broker were claimed, by which delivery, and which are done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from cardoon.security.replay import Nonce, NonceClaim, NonceState


@dataclasses.dataclass(slots=True)
class _Mark:
    receipt: int | str | None
    attempt: int
    expires_at: float
    done: bool = False


class Marks:
    """One mark for each nonce; `is_on_loan` says whether a receipt and attempt still hold a message.

    Not safe from threads.
    """

    def __init__(
        self, is_on_loan: Callable[[int | str | None, int], bool], *, since: float
    ) -> None:
        self._is_on_loan = is_on_loan
        self.since = since
        """The epoch."""
        self._marks: dict[tuple[bytes, int], _Mark] = {}

    def claim(self, claim: NonceClaim) -> NonceState:
        """Claim a nonce for its delivery."""
        key = (claim.nonce.session, claim.nonce.sequence)
        if claim.nonce.signed_by < self.since and key not in self._marks:
            return NonceState.BEFORE_EPOCH
        fresh = _Mark(claim.receipt, claim.attempt, claim.nonce.expires_at)
        mark = self._marks.setdefault(key, fresh)
        if mark.done:
            return NonceState.DONE
        again = mark.receipt == claim.receipt and mark.attempt <= claim.attempt
        if not again and self._is_on_loan(mark.receipt, mark.attempt):
            return NonceState.HELD
        mark.receipt, mark.attempt = claim.receipt, claim.attempt
        return NonceState.CLAIMED

    def finish(self, nonce: Nonce) -> None:
        """Mark it as done, whether it was claimed or not."""
        mark = _Mark(None, 0, nonce.expires_at)
        self._marks.setdefault((nonce.session, nonce.sequence), mark).done = True

    def reopen(self, nonce: Nonce | None, receipt: int) -> None:
        """Let the message be carried out again, which has this receipt now."""
        mark = self._marks.get(nonce[:2]) if nonce is not None else None
        if mark is not None:
            mark.receipt, mark.attempt, mark.done = receipt, 0, False

    def is_done(self, nonce: Nonce) -> bool:
        """Whether it is marked as done."""
        mark = self._marks.get((nonce.session, nonce.sequence))
        return mark is not None and mark.done

    def purge(self, now: float) -> None:
        """Forget what has expired."""
        self._marks = {key: mark for key, mark in self._marks.items() if mark.expires_at > now}
