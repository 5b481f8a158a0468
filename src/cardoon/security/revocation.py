"""Revocation: who is no longer trusted, although the certificate is still valid.

Two sources: a deny-list in a text file, which works for pins and chains alike, and certificate
revocation lists of the anchors. Both are looked up in sets, because a list of ten thousand entries
is consulted for every new certificate.

    # stolen laptop, ticket 4711
    sha256:1c3b6cbae4b2ac2cc722d0565816085dc4a849ae70bb3130821efb98947b49f1
    spiffe://acme.example/ns/prod/sa/web
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, assert_never

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from cardoon.exceptions import SecurityError
from cardoon.security.identity import UNREADABLE, Identity, is_spiffe_id

MAX_LIST = 16 * 1024 * 1024
"""Bytes of one list; some 200,000 entries."""
_CRL_MARK = b"-----BEGIN X509 CRL-----"


class DenyList(NamedTuple):
    """What one text file denies."""

    fingerprints: frozenset[bytes]
    names: frozenset[str]


class SerialList(NamedTuple):
    """What one revocation list of an authority denies."""

    issuer: bytes
    """The authority's subject as DER."""
    serials: frozenset[int]
    next_update: float
    """Seconds since the epoch; from then on we do not know, and so refuse."""


class Revocations:
    """Everything that is revoked. Immutable, so threads may share it."""

    def __init__(self, lists: Iterable[DenyList | SerialList] = ()) -> None:
        fingerprints: set[bytes] = set()
        names: set[str] = set()
        self._by_issuer: dict[bytes, SerialList] = {}
        for each in lists:
            match each:
                case DenyList():
                    fingerprints |= each.fingerprints
                    names |= each.names
                case SerialList():
                    known = self._by_issuer.get(each.issuer, each)
                    self._by_issuer[each.issuer] = SerialList(
                        each.issuer,
                        known.serials | each.serials,
                        max(known.next_update, each.next_update),
                    )
                case _:
                    assert_never(each)
        self._fingerprints = frozenset(fingerprints)
        self._names = frozenset(names)

    def is_revoked(self, identity: Identity, chain: Sequence[x509.Certificate]) -> bool:
        """Tell whether a signer, or an authority on the way to it, is revoked."""
        if identity.fingerprint in self._fingerprints or identity.name in self._names:
            return True
        return any(
            certificate.serial_number in known.serials
            for certificate, known in self._lists_about(chain)
        )

    def known_until(self, chain: Sequence[x509.Certificate]) -> float:
        """Return when the first list that speaks of a chain runs out; infinity if none does."""
        return min((known.next_update for _, known in self._lists_about(chain)), default=math.inf)

    def _lists_about(
        self, chain: Sequence[x509.Certificate]
    ) -> Iterator[tuple[x509.Certificate, SerialList]]:
        for certificate in chain:
            known = self._by_issuer.get(certificate.issuer.public_bytes())
            if known is not None:
                yield certificate, known


def parse_list(
    path: Path, content: bytes, anchors: Collection[x509.Certificate]
) -> DenyList | SerialList:
    """Read a deny-list, or a revocation list that one of the anchors must have signed.

    `SecurityError` for anything wrong with it: a list that is half understood revokes by half.
    """
    if _CRL_MARK in content:
        return _parse_serials(path, content, anchors)
    return _parse_deny_list(path, content)


def _parse_deny_list(path: Path, content: bytes) -> DenyList:
    fingerprints = set()
    names = set()
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise SecurityError(f"{path}: not text in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        entry = line.partition("#")[0].strip()
        if _FINGERPRINT.fullmatch(entry):
            fingerprints.add(bytes.fromhex(entry.removeprefix("sha256:")))
        elif is_spiffe_id(entry):
            names.add(entry)
        elif entry:
            raise SecurityError(
                f"{path}, line {number}: neither 'sha256:' with 64 hexadecimal digits "
                "nor a SPIFFE id; correct it, or put '#' before it"
            )
    return DenyList(frozenset(fingerprints), frozenset(names))


_FINGERPRINT = re.compile(r"sha256:[0-9a-fA-F]{64}")


def _parse_serials(path: Path, content: bytes, anchors: Collection[x509.Certificate]) -> SerialList:
    try:
        revoked = x509.load_pem_x509_crl(content)
        partial = [extension for extension in revoked.extensions if extension.critical]
        serials = frozenset(entry.serial_number for entry in revoked)
        next_update = revoked.next_update_utc
        signed = any(
            anchor.subject == revoked.issuer and _has_signed(anchor, revoked) for anchor in anchors
        )
    except UNREADABLE as error:
        raise SecurityError(f"{path}: no revocation list in PEM form") from error
    if not signed:
        raise SecurityError(f"{path}: not signed by any of security_ca_certificates")
    if partial:
        # Delta lists and lists for some kinds of certificates say so by a critical extension.
        raise SecurityError(f"{path}: only a part of a revocation list; give the whole one")
    if next_update is None:
        raise SecurityError(f"{path}: does not say when the next list comes; it must")
    return SerialList(revoked.issuer.public_bytes(), serials, next_update.timestamp())


def _has_signed(anchor: x509.Certificate, revoked: x509.CertificateRevocationList) -> bool:
    key = anchor.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False  # The verifier of chains takes no other authorities either.
    return revoked.is_signature_valid(key)
