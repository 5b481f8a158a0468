"""Signs short texts of the doctor's with the deployment's identity, and verifies them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cardoon.certificates import find_certificates
from cardoon.deployment import Deployment
from cardoon.message import envelope
from cardoon.security import keys

_SIGN_SECONDS = 2.0
_MOST_CERTIFICATES = 8


class Notary:
    """Signs for one purpose: what was signed for another one does not verify.

    `purpose` begins with a zero byte, and stands behind the domain, in which there is none: no signature of a
    message is one of these.
    """

    def __init__(self, deployment: Deployment, *, purpose: bytes) -> None:
        self._deployment = deployment
        self._purpose = purpose

    @property
    def has_identity(self) -> bool:
        """Whether there is one already: to look is no reason to make one."""
        if not self._deployment.signs:
            return False
        own = find_certificates(self._deployment.settings, role=self._deployment.role).own
        return any(Path(path).exists() for path in own)

    def sign(self, payload: bytes) -> Mapping[str, Any]:
        """The fields that say who has signed it; none where nobody can."""
        if not self.has_identity:
            return {}
        private = self._deployment.identity()
        protected = envelope.protected_header(
            private.algorithm, private.identity.fingerprint, batch=False
        )
        sign = keys.make_sign_within(private.key, private.algorithm)
        signature = sign(self._to_sign(protected, payload), _SIGN_SECONDS)
        chain = [private.certificate, *private.chain]
        return {
            "protected": protected.hex(),
            "signature": signature.hex(),
            "chain": [one.hex() for one in chain],
        }

    def verify(self, payload: bytes, told: Mapping[str, Any]) -> str:
        """Who has signed it; raises unless he is trusted now, and it was this that he signed.

        `KeyError`, `TypeError` and `ValueError` are for fields that are missing or no such ones, `CardoonError`
        for the rest.
        """
        protected = bytes.fromhex(told["protected"])
        chain = [bytes.fromhex(one) for one in told["chain"][:_MOST_CERTIFICATES]]
        key = self._deployment.trust().resolve(protected, chain)
        if key.is_batch:
            raise ValueError("it is signed as a batch is")
        key.verify(bytes.fromhex(told["signature"]), self._to_sign(protected, payload))
        return key.identity.name

    def _to_sign(self, protected: bytes, payload: bytes) -> bytes:
        domain = self._deployment.settings.security_domain.encode() + self._purpose
        return envelope.bytes_to_sign(protected, domain, payload)
