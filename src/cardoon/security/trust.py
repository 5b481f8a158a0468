"""The trust store: whose signatures count at this moment.

Pins and anchors are kept apart. A pin is one exact certificate, trusted for itself even if it says
`CA:TRUE`, which self-signed ones mostly do; were it an anchor, each client could mint identities.
An anchor is an authority that may vouch for others.

The files are looked at every few seconds, and once more when somebody unknown signs. What is read
becomes an immutable snapshot that replaces the last one in one step.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography import x509

from cardoon.clock import Clock
from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security.identity import UNREADABLE
from cardoon.security.snapshot import (
    Snapshot,
    Sources,
    TrustedKey,
    find_lists,
    load_snapshot,
    make_trusted_keys,
    read_stamp,
)

DEFAULT_SKEW = 60.0
"""Seconds by which clocks may differ; Kerberos allows 300, and all hosts have NTP today."""
_SECONDS_BETWEEN_URGENT_LOOKS = 1.0
"""So that messages from unknown signers do not keep us looking at files."""


class TrustEvent(enum.StrEnum):
    """What an operator should hear of the store."""

    FILE_SKIPPED = "file_skipped"
    """A certificate file is broken or open to others; its signer is not trusted."""
    RELOADED = "reloaded"
    """The files have changed, and what they say holds from now on."""
    RELOAD_REFUSED = "reload_refused"
    """The files have changed to something worthless; what they said before still holds."""


OnEvent: TypeAlias = Callable[[TrustEvent, str], None]


def _ignore_event(_: TrustEvent, __: str) -> None:
    pass


class TrustStore:
    """Finds the key of a message's signer. Safe from several threads.

    `pins` are files, directories (`.pem`, `.crt`, `.cer`) or patterns. `anchors` are files, or files
    by the trust domain that they answer for. `revoked` are deny-lists and revocation lists, see
    `revocation`; those in `may_lack` need not be there until they have been. `SecurityError` if nobody is trusted, unless `allow_empty`, or if the files are
    open to others.
    """

    def __init__(
        self,
        *,
        pins: Sequence[str | Path] = (),
        anchors: Sequence[str | Path] | Mapping[str, str | Path] = (),
        revoked: Sequence[str | Path] = (),
        clock: Clock,
        skew: float = DEFAULT_SKEW,
        poll_seconds: float = 5.0,
        on_event: OnEvent = _ignore_event,
        allow_empty: bool = False,
        may_lack: Collection[str] = (),
    ) -> None:
        self._sources = Sources(
            pins=[str(path) for path in pins],
            anchors=name_domains(anchors),
            revoked=[str(path) for path in revoked],
            may_lack=frozenset(may_lack),
        )
        self._clock = clock
        self._skew = skew
        self._poll_seconds = poll_seconds
        self._on_event = on_event
        self._allow_empty = allow_empty
        self._last_refusal = ""
        now = clock.monotonic()
        self._next_look, self._next_urgent_look = now + poll_seconds, now
        self._snapshot, skipped = self._load()
        self._report(skipped)

    def resolve(self, protected: bytes, chain: Sequence[bytes]) -> TrustedKey:
        """Return the key for a protected header, if its signer is trusted now.

        `chain` is what the message brings, as DER. `RefusedError` with UNKNOWN_SIGNER, or with what
        is wrong with the certificate today.
        """
        now = self._clock.now()
        monotonic = self._clock.monotonic()
        if monotonic >= self._next_look:
            self._look(monotonic)
        try:
            key = self._find(protected, chain, now)
        except RefusedError:
            if monotonic < self._next_urgent_look or not self._look(monotonic):
                raise
            key = self._find(protected, chain, now)
        self._check_today(key, now)
        return key

    def is_pinned(self, protected: bytes) -> bool:
        """Tell whether a protected header names a certificate that is trusted for itself."""
        return protected in self._snapshot.pinned

    def describe(self) -> str:
        """How many are trusted, for people."""
        return _count(self._snapshot)

    def _find(self, protected: bytes, chain: Sequence[bytes], now: float) -> TrustedKey:
        snapshot = self._snapshot
        key = snapshot.pinned.get(protected) or snapshot.chained.get(protected)
        # A chain may have run out and been renewed: then the one that came along is looked at.
        if key is not None and (now <= key.not_after or not chain):
            return key
        # This cheap look comes first, because anybody can send expensive chains.
        if not chain or hashlib.sha256(chain[0]).digest() not in protected:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, _describe(protected))
        found = self._verify_chain(snapshot, chain, now)
        if protected not in found:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, "its certificate is for another algorithm")
        for header, each in found.items():
            snapshot.chained.put(header, each)
        return found[protected]

    def _verify_chain(
        self, snapshot: Snapshot, chain: Sequence[bytes], now: float
    ) -> dict[bytes, TrustedKey]:
        try:
            leaf = x509.load_der_x509_certificate(chain[0])
            begins = leaf.not_valid_before_utc.timestamp()
            ends = leaf.not_valid_after_utc.timestamp()
        except UNREADABLE as error:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, "its certificate is unreadable") from error
        # The chain is judged within the certificate's life, and `_check_today` then judges today:
        # so one that has just expired is called that, and not unknown.
        at = min(max(now, begins), ends)
        certificates = snapshot.anchors.verify(leaf, chain[1:], at=at)
        try:
            return make_trusted_keys(certificates, snapshot.revocations)
        except SecurityError as error:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, str(error)) from error

    def _check_today(self, key: TrustedKey, now: float) -> None:
        identity = key.identity
        if now < identity.not_before - self._skew:
            raise RefusedError(Refusal.CERTIFICATE_NOT_YET_VALID, repr(identity))
        if now > key.not_after:
            raise RefusedError(Refusal.CERTIFICATE_EXPIRED, repr(identity))
        if key.is_revoked or now >= key.revoked_from:
            raise RefusedError(Refusal.REVOKED, repr(identity))
        if now > key.known_until:
            raise RefusedError(Refusal.REVOKED, f"{identity!r}: the revocation list is out of date")

    def _look(self, monotonic: float) -> bool:
        """Read the files again if they have changed; tell whether that gave a new snapshot."""
        self._next_look = monotonic + self._poll_seconds
        self._next_urgent_look = monotonic + _SECONDS_BETWEEN_URGENT_LOOKS
        try:
            if read_stamp(self._sources) == self._snapshot.stamp:
                return False
            snapshot, skipped = self._load()
        except SecurityError as error:
            # It is tried again at the next look, and reported when it is something else.
            if str(error) != self._last_refusal:
                self._last_refusal = str(error)
                self._on_event(TrustEvent.RELOAD_REFUSED, str(error))
            return False
        self._last_refusal = ""
        self._snapshot = snapshot
        self._report(skipped)
        self._on_event(TrustEvent.RELOADED, _count(snapshot))
        return True

    def _load(self) -> tuple[Snapshot, list[str]]:
        skipped: list[str] = []

        def skip(path: str, error: SecurityError) -> None:
            skipped.append(str(error) if path in str(error) else f"{path}: {error}")

        snapshot = load_snapshot(self._sources, skip)
        # Who deletes a list that was there must not thereby give back what it took.
        seen = find_lists(self._sources)
        self._sources = self._sources._replace(may_lack=self._sources.may_lack - set(seen))
        if not (snapshot.pinned or snapshot.anchors.certificates or self._allow_empty):
            why = f" ({skipped[0]})" if skipped else ""
            raise SecurityError(
                f"trust store: no usable certificate{why}; put those of your senders into "
                "security_cert_store, or their authority into security_ca_certificates"
            )
        return snapshot, skipped

    def _report(self, skipped: Sequence[str]) -> None:
        for detail in skipped:
            self._on_event(TrustEvent.FILE_SKIPPED, detail)


def name_domains(
    anchors: Sequence[str | Path] | Mapping[str, str | Path],
) -> list[tuple[str | None, str]]:
    """Each file of authorities with the trust domain that it answers for; None for any."""
    if isinstance(anchors, Mapping):
        return [(name.removeprefix("spiffe://"), str(path)) for name, path in anchors.items()]
    return [(None, str(path)) for path in anchors]


def _describe(protected: bytes) -> str:
    """Name the certificate that an unknown header asks for, so that an operator can find it."""
    _, found, rest = protected.partition(_KEY_ID)
    if not found or len(rest) < _FINGERPRINT_BYTES:
        return "a protected header that names no certificate"
    return f"no certificate sha256:{rest[:_FINGERPRINT_BYTES].hex()} in the store"


_FINGERPRINT_BYTES = 32
_KEY_ID = b"\x04\x58\x20"
"""Label 4 and the head of 32 bytes."""


def _count(snapshot: Snapshot) -> str:
    identities = {key.identity.fingerprint for key in snapshot.pinned.values()}
    return f"{len(identities)} pins and {len(snapshot.anchors.certificates)} anchors"
