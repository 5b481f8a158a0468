"""Who signed, and whether that counts today."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from wire import Bad

SKEW = 60
PSS = {-37: hashes.SHA256(), -38: hashes.SHA384(), -39: hashes.SHA512()}
USAGES = {
    x509.ObjectIdentifier("2.25.169042629709330089676474763271564609652"),
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.2"),
}
"""Signs Cardoon messages, and clientAuth."""
PRIME = 2**255 - 19
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME


def verify(key: Any, algorithm: int, signature: bytes, content: bytes) -> None:
    """`Bad` unless a signature fits."""
    try:
        match algorithm:
            case -19:
                key.verify(signature, content)
            case -9 if len(signature) == 64:
                r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
                key.verify(encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))
            case -37 | -38 | -39:
                digest = PSS[algorithm]
                salted = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
                key.verify(signature, content, salted, digest)
            case _:
                raise InvalidSignature  # noqa: TRY301  # as the others say it
    except InvalidSignature as error:
        raise Bad("bad-signature") from error


def algorithms_of(key: Any) -> tuple[int, ...]:
    """The algorithms of a key; none if nobody is to be trusted by it."""
    match key:
        case ed25519.Ed25519PublicKey():
            return (-19,) if is_safe(key.public_bytes_raw()) else ()
        case ec.EllipticCurvePublicKey():
            return (-9,) if isinstance(key.curve, ec.SECP256R1) else ()
        case rsa.RSAPublicKey():
            fits = 2048 <= key.key_size <= 8192 and key.public_numbers().e == 65537
            return (-37, -38, -39) if fits else ()
        case _:
            return ()


def is_safe(encoded: bytes) -> bool:
    """Whether an Ed25519 key is canonical and of large order: found by doubling it three times."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    if y >= PRIME:
        return False
    for _ in range(3):
        y = double(y)
    return y != 1


def double(y: int) -> int:
    """The y coordinate of twice a point on edwards25519: -x² + y² = 1 + d x² y²."""
    x_squared = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    product = CURVE_D * x_squared * y * y
    return (y * y + x_squared) * pow(1 - product, -1, PRIME) % PRIME


class Signer(NamedTuple):
    """Somebody who is trusted, by a certificate and, where it is not pinned, its chain."""

    certificate: x509.Certificate
    chain: list[x509.Certificate]


class Trust:
    """Pins, anchors and what is revoked."""

    def __init__(self, pins: Iterable[str], anchors: Iterable[str], revoked: Iterable[str]) -> None:
        found = [x509.load_pem_x509_certificate(pem.encode()) for pem in pins]
        self._pins = {fingerprint_of(one): one for one in found}
        self._anchors = [x509.load_pem_x509_certificate(pem.encode()) for pem in anchors]
        self._denied: set[str] = set()
        self._serials: set[tuple[bytes, int]] = set()
        for text in revoked:
            if "BEGIN X509 CRL" in text:
                crl = x509.load_pem_x509_crl(text.encode())
                issuer = crl.issuer.public_bytes()
                self._serials |= {(issuer, entry.serial_number) for entry in crl}
            else:
                self._denied |= set(text.split())

    def find(self, protected: bytes, brought: list[bytes], now: float) -> tuple[Any, int, bytes]:
        """Key, algorithm and fingerprint of a signer who is trusted now; `Bad` if not."""
        header = cbor2.loads(protected)
        algorithm, fingerprint = header.get(1), header.get(4)
        signer = self._find(fingerprint, brought)
        key = signer.certificate.public_key()
        if algorithm not in algorithms_of(key):
            raise Bad("unknown-signer")
        if now < signer.certificate.not_valid_before_utc.timestamp() - SKEW:
            raise Bad("certificate-not-yet-valid")
        if now > signer.certificate.not_valid_after_utc.timestamp():
            raise Bad("certificate-expired")
        if self._is_revoked(signer, fingerprint):
            raise Bad("certificate-revoked")
        return key, algorithm, fingerprint

    def _find(self, fingerprint: bytes, brought: list[bytes]) -> Signer:
        if pinned := self._pins.get(fingerprint):
            return Signer(pinned, [pinned])
        if not brought or hashlib.sha256(brought[0]).digest() != fingerprint:
            raise Bad("unknown-signer")
        leaf, *between = [x509.load_der_x509_certificate(one) for one in brought]
        if not may_sign(leaf):
            raise Bad("unknown-signer")
        chain = [leaf]
        while len(chain) <= 5:
            for issuer in (*self._anchors, *between):
                if is_issued_by(chain[-1], issuer, leaf):
                    chain.append(issuer)
                    break
            else:
                raise Bad("unknown-signer")
            if chain[-1] in self._anchors:
                return Signer(leaf, chain)
        raise Bad("unknown-signer")

    def _is_revoked(self, signer: Signer, fingerprint: bytes) -> bool:
        names = {f"sha256:{fingerprint.hex()}", *uris_of(signer.certificate)}
        serials = {(one.issuer.public_bytes(), one.serial_number) for one in signer.chain}
        return bool(names & self._denied or serials & self._serials)


def is_issued_by(
    certificate: x509.Certificate, issuer: x509.Certificate, leaf: x509.Certificate
) -> bool:
    """Whether an authority, with a key that chains are built on, has signed a certificate."""
    if isinstance(issuer.public_key(), ed25519.Ed25519PublicKey):
        return False
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    lasts = issuer.not_valid_before_utc <= ends and begins <= issuer.not_valid_after_utc
    return constraints.ca and lasts


def may_sign(leaf: x509.Certificate) -> bool:
    """Whether a certificate that an authority issued is one to sign messages with."""
    if not algorithms_of(leaf.public_key()):
        return False
    for extension in leaf.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True) | x509.KeyUsage(digital_signature=False):
                return False
            case x509.ExtendedKeyUsage() as usages if USAGES.isdisjoint(usages):
                return False
    uris = uris_of(leaf)
    return not uris or (len(uris) == 1 and uris[0].startswith("spiffe://"))


def uris_of(certificate: x509.Certificate) -> list[str]:
    """The URIs among the alternative names."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)


def fingerprint_of(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
