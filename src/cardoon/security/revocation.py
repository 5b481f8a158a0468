"""Revocation: who is no longer trusted, although the certificate is still valid.

Two sources: a deny-list in a text file, which works for pins and chains alike, and certificate
revocation lists of the anchors. Both are looked up in sets, because a list of ten thousand entries
is consulted for every new certificate.

    # stolen laptop, ticket 4711
    sha256:1c3b6cbae4b2ac2cc722d0565816085dc4a849ae70bb3130821efb98947b49f1
    spiffe://acme.example/ns/prod/sa/web
    # replaced; still good for a week
    sha256:9f2c1c3b6cbae4b2ac2cc722d0565816085dc4a849ae70bb3130821efb98947b from 2026-12-08T09:00:00Z
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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
    later: Mapping[bytes | str, float] = MappingProxyType({})
    """Fingerprints and names that are denied from a moment on, in seconds since the epoch."""


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
        self._later: dict[bytes | str, float] = {}
        self._by_issuer: dict[bytes, SerialList] = {}
        for each in lists:
            match each:
                case DenyList():
                    fingerprints |= each.fingerprints
                    names |= each.names
                    for who, moment in each.later.items():
                        self._later[who] = min(moment, self._later.get(who, math.inf))
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

    def revoked_from(self, identity: Identity) -> float:
        """Return when a signer that is still trusted will be no longer; infinity if never."""
        return min(
            self._later.get(identity.fingerprint, math.inf),
            self._later.get(identity.name, math.inf),
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
    now: set[bytes | str] = set()
    later: dict[bytes | str, float] = {}
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError as error:
        raise SecurityError(f"{path}: not text in UTF-8") from error
    for number, line in enumerate(lines, start=1):
        entry = parse_entry(line)
        if entry is None:
            raise SecurityError(
                f"{path}, line {number}: neither 'sha256:' with 64 hexadecimal digits "
                "nor a SPIFFE id, with 'from' and a time such as 2026-12-08T09:00:00Z or without; "
                "correct it, or put '#' before it"
            )
        if not entry.who:
            continue
        if entry.moment is None:
            now.add(entry.who)
        else:
            later[entry.who] = min(entry.moment, later.get(entry.who, math.inf))
    return DenyList(
        frozenset(who for who in now if isinstance(who, bytes)),
        frozenset(who for who in now if isinstance(who, str)),
        MappingProxyType(later),
    )


class Entry(NamedTuple):
    """One line of a deny-list: a fingerprint or a SPIFFE id, and from when on, if not from now on."""

    who: bytes | str
    moment: float | None = None


def parse_entry(line: str) -> Entry | None:
    """Read a line of a deny-list; an entry for nobody if it is empty, None if it says nothing known."""
    words = line.partition("#")[0].split()
    match words:
        case []:
            return Entry("")
        case [who] | [who, "from", _]:
            pass
        case _:
            return None
    moment = _parse_moment(words[2]) if len(words) > 1 else None
    if len(words) > 1 and moment is None:
        return None
    if _FINGERPRINT.fullmatch(who):
        return Entry(bytes.fromhex(who.removeprefix("sha256:")), moment)
    return Entry(who, moment) if is_spiffe_id(who) else None


def _parse_moment(text: str) -> float | None:
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


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
