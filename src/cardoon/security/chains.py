"""Certificate chains: from a signer's certificate to an anchor that may speak for it.

The path is checked by `cryptography.x509.verification`. What that leaves open is checked here: what
a signer's certificate may be, which keys it may have, and which anchor answers for which trust
domain (name constraints cannot be relied on for that).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security.identity import (
    UNREADABLE,
    find_uris,
    is_spiffe_id,
    public_key_of,
    trust_domain_of,
)

SIGNER_USAGE = x509.ObjectIdentifier("2.25.169042629709330089676474763271564609652")
"""Extended key usage "signs Cardoon messages": the UUID 7f2c6d1e-4b8a-4c53-9e0f-63a1d5b2c874 as an
OID (ITU-T X.667), an arc that everybody may use without asking."""
_SIGNER_USAGES = frozenset({SIGNER_USAGE, ExtendedKeyUsageOID.CLIENT_AUTH})

MAX_INTERMEDIATES = 4
"""Certificates between a signer's and its anchor's; usual set-ups have none, one or two."""


class Anchor(NamedTuple):
    """An authority, and the trust domain for which it answers; None for any."""

    trust_domain: str | None
    certificate: x509.Certificate


class Anchors:
    """The authorities that we trust. Immutable, so threads may share it."""

    def __init__(self, anchors: Collection[Anchor]) -> None:
        self.certificates = tuple(anchor.certificate for anchor in anchors)
        everywhere = [anchor.certificate for anchor in anchors if anchor.trust_domain is None]
        self._stores: dict[str | None, verification.Store] = {}
        for domain in {anchor.trust_domain for anchor in anchors}:
            own = [anchor.certificate for anchor in anchors if anchor.trust_domain == domain]
            self._stores[domain] = verification.Store(own + everywhere)

    def verify(
        self, leaf: x509.Certificate, intermediates: Sequence[bytes], *, at: float
    ) -> tuple[x509.Certificate, ...]:
        """Return the chain from a signer's certificate to its anchor, the signer's first.

        `at` is the time to judge by, in seconds since the epoch. `RefusedError(UNKNOWN_SIGNER)` if
        there is no such chain, or if the certificate is not one to sign messages with.
        """
        try:
            return self._find_chain(leaf, intermediates, at)
        except (SecurityError, verification.VerificationError, *UNREADABLE) as error:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, _printable(error)) from error

    def _find_chain(
        self, leaf: x509.Certificate, intermediates: Sequence[bytes], at: float
    ) -> tuple[x509.Certificate, ...]:
        domain = check_leaf(leaf)
        store = self._stores.get(domain) or self._stores.get(None)
        if store is None:
            raise SecurityError(f"certificate: no anchor answers for trust domain {domain}")
        between = [x509.load_der_x509_certificate(each) for each in intermediates]
        verifier = (
            verification.PolicyBuilder()
            .store(store)
            .time(dt.datetime.fromtimestamp(at, dt.UTC))
            .max_chain_depth(MAX_INTERMEDIATES)
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                ee_policy=verification.ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        return tuple(verifier.verify(leaf, between).chain)


def check_anchor(certificate: x509.Certificate) -> None:
    """Raise `SecurityError` unless a certificate says that it is an authority's."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound as error:
        raise SecurityError("certificate: no authority; pin it in security_cert_store") from error
    except UNREADABLE as error:
        raise SecurityError("certificate: unreadable extensions") from error
    if not extension.value.ca:
        raise SecurityError("certificate: no authority; pin it in security_cert_store")


def check_leaf(certificate: x509.Certificate) -> str | None:
    """Check that a certificate is fit to sign messages; return its trust domain, if it has one."""
    public_key_of(certificate)
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise SecurityError("certificate: an authority's, which must not sign messages")
            case x509.KeyUsage(digital_signature=False):
                raise SecurityError("certificate: its key usage is not digitalSignature")
            case x509.ExtendedKeyUsage() as usage if _SIGNER_USAGES.isdisjoint(usage):
                raise SecurityError("certificate: its extended key usage is not clientAuth")
            case _:
                pass
    uris = find_uris(certificate)
    if len(uris) > 1:
        raise SecurityError(f"certificate: {len(uris)} URIs; it must have at most one")
    if not uris:
        return None
    if not is_spiffe_id(uris[0]):
        raise SecurityError("certificate: a URI that is no SPIFFE id")
    return trust_domain_of(uris[0])


def _printable(error: Exception) -> str:
    """Certificates from outside choose what the error says, and it goes into logs."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(error)[:200])
