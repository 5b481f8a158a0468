"""Replay protection: a message is carried out at most to its end, once.

    NEW --claim--> CLAIMED (by one delivery) --done--> DONE
                     |  that delivery's lease was lost: may be claimed again

Redelivery before the end is what at-least-once delivery does anyway, so a copy is harmful only after
completion. A second delivery of a message whose first one is still held is told so, and must wait
rather than be acknowledged: the first may die.

The key is a digest of signer and session with a counter, never the signature or the wire bytes: an
ECDSA signature can be changed into another valid one without the key. A message that several are to carry
out has a key for each of them, with the name that the reader has for himself.

What a store has lost it cannot know, so it notes since when it remembers, its epoch, among its marks: whatever
takes all of these takes the epoch along, and the next one to come begins a new one. A message that may have been
signed before that is claimed by nobody, unless the store knows it.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from cardoon.message import protocol

MAX_SEQUENCE = protocol.MAX_SEQUENCE
"""Messages per session; bounds what one session can cost a replay store (message-security 4.2)."""


class Nonce(NamedTuple):
    """What makes a message unique, as its signer signed it."""

    session: bytes
    """Digest of signer and session id, 16 bytes, so that no signer can use up another's nonces."""
    sequence: int
    expires_at: float
    """From then on the gate refuses the message by its age, so the store may forget it."""
    signed_by: float = math.inf
    """When it was signed at the latest, by any clock that the gate accepts. Says nothing of identity."""


def make_nonce(
    signer: bytes,
    session: bytes,
    sequence: int,
    expires_at: float,
    signed_by: float = math.inf,
) -> Nonce:
    """The nonce of a message of this signer (certificate fingerprint, or empty for unsigned)."""
    return Nonce(_digest_session(signer, session), sequence, expires_at, signed_by)


@functools.lru_cache(maxsize=1024)
def _digest_session(signer: bytes, session: bytes) -> bytes:
    """Many messages in a row are of one session."""
    return hashlib.sha256(b"cardoon/1/nonce\x00" + signer + session).digest()[:16]


def nonce_of_reader(nonce: Nonce, reader: str) -> Nonce:
    """The nonce of a message for one of several readers, each of whom may carry it out once.

    What a reader is called must come from who reads, never from the message or the store.
    """
    digest = hashlib.sha256(b"cardoon/1/reader\x00" + nonce.session + reader.encode()).digest()
    return nonce._replace(session=digest[:16])


class NonceState(enum.Enum):
    """The answer to a claim."""

    CLAIMED = "claimed"
    """Ours to carry out."""
    HELD = "held"
    """Another delivery of the same message is on loan at this moment."""
    DONE = "done"
    """It was carried out before: a replay."""
    REPEATED = "repeated"
    """It was carried out before, and the broker says that this is no new copy, but the same one again,
    whose end it did not hear of. Not to be carried out either, and no cause for alarm."""
    BEFORE_EPOCH = "before-epoch"
    """It was signed before the store began to remember, which may have lost that it was carried out. It is
    not ours."""


class NonceClaim(NamedTuple):
    """A delivery that wants to carry out a message."""

    nonce: Nonce
    receipt: int | str
    attempt: int
    crashes: int = 0
    """How often whoever had it before died with it."""


class Memory(NamedTuple):
    """How far back a store remembers."""

    since: float
    """Its epoch, in seconds by its clock; 0 for a store that is older than epochs are."""
    number: int
    """One that the store only ever raises, with each message: a lower one than before tells that it was set
    back, as by a backup or a failover that lost writes."""


@runtime_checkable
class ReplayGuard(Protocol):
    """Remembers which messages were carried out. Marked done by `Transactional.complete`.

    A store begins its epoch when it is made, and again when whoever looks finds none.
    """

    def claim(self, claims: Sequence[NonceClaim]) -> Sequence[NonceState]:
        """Claim each nonce for its delivery, all in one step, in which the epoch is read as well.

        One whose `signed_by` is before the epoch is claimed only if it has a mark: a message that is put back by
        `Inspectable.restore` keeps the one that it was put away with.
        """
        ...

    def finish(self, nonces: Sequence[Nonce]) -> None:
        """Mark nonces as done, outside of a transaction."""
        ...

    def memory(self) -> Memory:
        """How far back it remembers; begins the epoch where there is none."""
        ...

    def begin_anew(self) -> Memory:
        """Begin another epoch at this moment, keeping all marks: for a store that was set back."""
        ...
