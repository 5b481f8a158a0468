"""The agent: holds a key, and signs what is a message of one domain by its own certificate.

It reads what it signs: claims that parse, under a header that names its certificate, for its domain. Of
a batch it is shown the root of the tree alone, so what is in it stays the sender's word.
"""

from __future__ import annotations

from cardoon.clock import Clock
from cardoon.exceptions import CardoonError, MessageError
from cardoon.message import cbor, envelope, merkle
from cardoon.message.claims import parse_claims
from cardoon.security import keys
from cardoon.security.identity import PrivateIdentity
from cardoon.security.renewal import POLL_SECONDS, OwnIdentity
from cardoon.signers.exchange import MAX_CONTENT, Ask, Status, read_request, write_answer

FORMER_SECONDS = 12 * POLL_SECONDS
"""For which a key that was replaced still signs: senders see their new certificate a little later."""
_KEY_SECONDS = 2.0
"""For a signature by a token."""
_ROOT = cbor.head(cbor.BYTES, merkle.HASH_BYTES)


class Agent:
    """Answers requests. Used by one thread."""

    def __init__(self, own: OwnIdentity, *, domain: str, clock: Clock) -> None:
        self._own = own
        self._domain = domain.encode()
        self._clock = clock
        self._present = _Scope(own.current(), self._domain)
        self._former: _Scope | None = None
        self._former_until = 0.0
        self.signed = 0

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, whatever the request is."""
        try:
            ask = read_request(request)
            scope = self._find(ask)
            if scope is None:
                return write_answer(
                    Status.NOT_HELD, f"{self._present.private.identity!r} signs here"
                )
            scope.check(ask)
        except MessageError as error:
            return write_answer(Status.REFUSED, str(error))
        try:
            signature = scope.sign(ask.content, _KEY_SECONDS)
        except CardoonError as error:
            return write_answer(Status.FAILED, str(error))
        self.signed += 1
        return write_answer(Status.SIGNED, signature)

    def _find(self, ask: Ask) -> _Scope | None:
        private, now = self._own.current(), self._clock.monotonic()
        if private is not self._present.private:
            self._former, self._former_until = self._present, now + FORMER_SECONDS
            self._present = _Scope(private, self._domain)
        if self._former is not None and now >= self._former_until:
            self._former = None
        for scope in (self._present, self._former):
            if scope is not None and scope.private.identity.fingerprint == ask.certificate:
                return scope
        return None


class _Scope:
    """What one certificate's key signs."""

    def __init__(self, private: PrivateIdentity, domain: bytes) -> None:
        self.private = private
        self.sign = keys.make_sign_within(private.key, private.algorithm)
        mark = private.identity.fingerprint
        single = envelope.protected_header(private.algorithm, mark, batch=False)
        batch = envelope.protected_header(private.algorithm, mark, batch=True)
        self._single = envelope.begin_to_sign(single, domain)
        self._batches = frozenset(
            envelope.begin_to_sign(batch, domain, size=size) + _ROOT
            for size in range(1, merkle.MAX_LEAVES + 1)
        )

    def check(self, ask: Ask) -> None:
        """Raise `MessageError` unless the content is a message by this certificate."""
        content = ask.content
        if ask.algorithm != self.private.algorithm:
            raise MessageError(
                f"algorithm {ask.algorithm}; this key signs with {int(self.private.algorithm)}"
            )
        if content[: -merkle.HASH_BYTES] in self._batches:
            return
        if not content.startswith(self._single):
            raise MessageError("no message of this domain by this certificate; see --domain")
        claims, end = cbor.read_bytes(content, len(self._single), MAX_CONTENT)
        if end != len(content):
            raise MessageError("bytes behind the claims")
        if claims:
            parse_claims(claims)
