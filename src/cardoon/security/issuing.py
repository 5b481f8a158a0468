"""Makes keys, certificates and requests, as bytes and values: no file is read or written here.

A signer's key is Ed25519, unless another kind is asked for. An authority's is P-256, because
`x509.verification` takes no Ed25519 authority.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from typing import NamedTuple, assert_never

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security.chains import SIGNER_USAGE
from cardoon.security.identity import UNREADABLE, find_uris, is_spiffe_id, trust_domain_of
from cardoon.security.keys import PrivateKey, PublicKey, check_public_key

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER

DAY = 86_400.0
YEAR = 365 * DAY
"""Seconds."""
_BACKDATED = dt.timedelta(minutes=5)
"""For hosts whose clocks are behind."""
_LAST_MOMENT = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""That a certificate can name (RFC 5280, 4.1.2.5)."""
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A file name, a common name and a segment of a SPIFFE id at once."""
_MAX_COMMON_NAME = 64
"""Characters (RFC 5280, appendix A.1)."""


class KeyKind(enum.StrEnum):
    """The keys that can be made."""

    ED25519 = "ed25519"
    P256 = "p256"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"


class Subject(NamedTuple):
    """Whom a certificate names."""

    stem: str
    """What its files are called."""
    common_name: str
    uri: str | None
    """A SPIFFE id."""


class Period(NamedTuple):
    """From when to when something is valid."""

    begins: dt.datetime
    ends: dt.datetime


def parse_subject(text: str, trust_domain: str | None = None) -> Subject:
    """Read a role such as `web`, or a SPIFFE id, which must be of the trust domain.

    Of a role and a trust domain comes `spiffe://<trust domain>/<role>`; of a role alone, a common name.
    """
    if not text.startswith("spiffe://"):
        check_role(text)
        return Subject(text, text, f"spiffe://{trust_domain}/{text}" if trust_domain else None)
    if not is_spiffe_id(text):
        raise SecurityError(f"{text!r}: no SPIFFE id; write it like spiffe://acme.example/web")
    if trust_domain is not None and trust_domain_of(text) != trust_domain:
        raise SecurityError(
            f"{text}: not of this authority's trust domain; use spiffe://{trust_domain}/..."
        )
    last = text.rpartition("/")[2][:63]
    stem = last if _ROLE.fullmatch(last) else f"identity-{last}"[:63]
    return Subject(stem, last[:_MAX_COMMON_NAME], text)


def check_role(role: str) -> None:
    """Raise `SecurityError` unless a role can be the name of a file."""
    if not _ROLE.fullmatch(role):
        raise SecurityError(f"role {role!r}: use up to 63 letters, digits, '.', '-' and '_'")


def generate_key(kind: KeyKind) -> PrivateKey:
    """Make a key."""
    match kind:
        case KeyKind.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
        case KeyKind.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.RSA2048 | KeyKind.RSA3072 | KeyKind.RSA4096:
            return rsa.generate_private_key(65537, int(kind.value.removeprefix("rsa")))
        case _:
            assert_never(kind)


def kind_like(key: PublicKey) -> KeyKind:
    """The kind of a key that is to take this one's place: no weaker, as far as there is one."""
    match key:
        case ed25519.Ed25519PublicKey():
            return KeyKind.ED25519
        case ec.EllipticCurvePublicKey():
            return KeyKind.P256
        case rsa.RSAPublicKey():
            sizes = {2048: KeyKind.RSA2048, 3072: KeyKind.RSA3072}
            return sizes.get(key.key_size, KeyKind.RSA4096)
        case _:
            assert_never(key)


def encode_key(key: PrivateKey, password: bytes | None = None) -> bytes:
    """PKCS#8 in PEM form, encrypted if there is a password."""
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """PEM."""
    return certificate.public_bytes(PEM)


def make_period(clock: Clock, lifetime: float) -> Period:
    """From a little before now, for `lifetime` seconds, which must be more than none."""
    now = dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    if lifetime <= 0:
        raise SecurityError(f"lifetime {lifetime:g}: must be more than 0 seconds")
    try:
        ends = now + dt.timedelta(seconds=lifetime)
    except OverflowError:
        ends = _LAST_MOMENT
    return Period(now - _BACKDATED, min(ends, _LAST_MOMENT))


def sign_authority(
    key: PrivateKey, trust_domain: str, period: Period, *, name: str = ""
) -> x509.Certificate:
    """The certificate of an authority, by itself.

    Authorities differ in their subject, because revocation lists name them by it.
    """
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    subject = _name(f"{name or f'{trust_domain[:40]} authority'} {mark}")
    return (
        _begin(subject, key.public_key(), period)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(_alternative_name(f"spiffe://{trust_domain}"), critical=False)
        .issuer_name(subject)
        .sign(key, digest_for(key))
    )


def sign_leaf(
    subject: Subject,
    public_key: PublicKey,
    period: Period,
    *,
    key: PrivateKey,
    issuer: x509.Certificate | None = None,
) -> x509.Certificate:
    """A signer's certificate: by an authority with its key, or else by the key itself.

    It ends no later than the authority.
    """
    check_public_key(public_key)
    name = _name(subject.common_name)
    if issuer is not None:
        period = Period(period.begins, min(period.ends, issuer.not_valid_after_utc))
        if period.begins >= period.ends:
            raise SecurityError(
                "authority: it has expired; make a new one with `cardoon cert init`"
            )
    builder = (
        _begin(name, public_key, period)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([SIGNER_USAGE]), critical=False)
    )
    if subject.uri is not None:
        builder = builder.add_extension(_alternative_name(subject.uri), critical=False)
    if issuer is not None:
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    return builder.issuer_name(name if issuer is None else issuer.subject).sign(
        key, digest_for(key)
    )


def make_request(key: PrivateKey, subject: Subject) -> bytes:
    """A certificate request in PEM form, signed with the key to prove that we hold it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(subject.common_name))
    if subject.uri is not None:
        builder = builder.add_extension(_alternative_name(subject.uri), critical=False)
    request = builder.sign(key, digest_for(key))
    return request.public_bytes(PEM)


def read_request(source: str, content: bytes, subject: Subject) -> PublicKey:
    """The key that a request asks a certificate for, if whoever made it holds that key.

    Nothing else of a request counts: who it is for is the authority's word. A request that names another
    SPIFFE id is refused, because somebody has mixed up two files.
    """
    try:
        request = x509.load_pem_x509_csr(content)
        proven = request.is_signature_valid
        key = request.public_key()
        uris = _requested_uris(request)
    except UNREADABLE as error:
        raise SecurityError(f"{source}: no certificate request in PEM form") from error
    if not proven:
        raise SecurityError(f"{source}: its signature is not by its key; ask for a new request")
    if uris and uris != [subject.uri]:
        named = ", ".join(uri if uri.isprintable() else repr(uri) for uri in uris)[:256]
        raise SecurityError(
            f"{source}: asks for {named}, not for {subject.uri}; is it the right file?"
        )
    return check_public_key(key)


def read_public_key(source: str, content: bytes) -> PublicKey:
    """The key in a PEM file, if it is one we take. Who gave it has not proven to hold its private half."""
    try:
        key = serialization.load_pem_public_key(content)
    except UNREADABLE as error:
        raise SecurityError(f"{source}: no public key in PEM form") from error
    return check_public_key(key)


def subject_of(certificate: x509.Certificate, stem: str) -> Subject:
    """Whom a certificate of ours names, to make another one for the same; `SecurityError` if it cannot."""
    try:
        uris = find_uris(certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = str(names[0].value) if names else stem
    except UNREADABLE as error:
        raise SecurityError("certificate: unreadable names") from error
    if len(uris) > 1 or (uris and not is_spiffe_id(uris[0])):
        raise SecurityError(
            "certificate: it must have one SPIFFE id at most; issue a new one instead"
        )
    return Subject(stem, common_name, uris[0] if uris else None)


def digest_for(key: PrivateKey) -> hashes.SHA256 | None:
    """What a key signs certificates and lists with."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _requested_uris(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.UniformResourceIdentifier)


def _begin(name: x509.Name, key: PublicKey, period: Period) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(period.begins)
        .not_valid_after(period.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(uri: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
