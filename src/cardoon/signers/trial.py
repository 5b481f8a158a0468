"""Tries out whether a key that lies elsewhere is that of our certificate, before a message needs it."""

from __future__ import annotations

from cardoon.message import envelope
from cardoon.security import keys
from cardoon.security.identity import PrivateIdentity

TRIAL_SECONDS = 10.0
"""For the signature by which a pair is tried out: a program may have to log in to something first."""


def try_out(private: PrivateIdentity, domain: str, *, timeout: float = TRIAL_SECONDS) -> None:
    """Have something signed and verify it.

    `SecurityError` if the two do not fit, `OperationalError` if that takes longer than `timeout`.
    """
    # What has no claims is a message to nobody, so this signature is worth nothing elsewhere.
    protected = envelope.protected_header(
        private.algorithm, private.identity.fingerprint, batch=False
    )
    trial = envelope.bytes_to_sign(protected, domain.encode(), b"")
    keys.make_sign_within(private.key, private.algorithm)(trial, timeout)
