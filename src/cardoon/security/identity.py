"""Who somebody is: a certificate's fingerprint, and the name that policies use for it.

The private half exists only in the process that signs, if it is not kept elsewhere altogether, and
shows its key to nobody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from cardoon.exceptions import SecurityError
from cardoon.security import files, keys

Password: TypeAlias = str | bytes | Callable[[], str | bytes] | None

UNREADABLE = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType, x509.InvalidVersion),
    Warning,
)
"""What `cryptography` raises for certificates that it cannot make sense of.

It warns of some, and where warnings are errors a stranger's certificate could raise one."""

_MAX_NAME = 256
"""Characters of a subject; a longer one is not used as a name."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Identity:
    """Who signed. Safe to log: a name is printable, whatever the certificate says."""

    fingerprint: bytes
    """SHA-256 of the certificate: what signatures and deny-lists refer to."""
    name: str
    """The SPIFFE id if it is the only URI in the certificate, else the subject (RFC 4514)."""
    not_before: float
    not_after: float
    """Seconds since the epoch."""

    def __repr__(self) -> str:
        return f"<Identity {self.name} sha256:{self.fingerprint.hex()[:16]}>"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PrivateIdentity:
    """An identity with the key to sign as it."""

    identity: Identity
    key: keys.PrivateKey | keys.KeyElsewhere
    algorithm: keys.Algorithm
    certificate: bytes
    """DER."""
    chain: tuple[bytes, ...] = field(default=())
    """The certificates between it and its anchor, as DER, in order."""

    def __repr__(self) -> str:
        return f"<PrivateIdentity {self.identity!r}>"


def load_identity(
    key_path: Path | str,
    certificate_path: Path | str,
    *,
    password: Password = None,
    digest: str = "sha256",
) -> PrivateIdentity:
    """Load a key and its certificate from PEM files.

    The key may be PKCS#8, PKCS#1 or SEC1, encrypted or not; a `password` that is a function is
    called. The certificate file may go on with the certificates up to the anchor. `digest` (sha256,
    sha384, sha512) is what RSA keys sign with. `SecurityError` if a file is open to others or
    unreadable, or if the two do not belong together.
    """
    key = load_key(Path(key_path), password)
    certificates = _load_chain(Path(certificate_path))
    if public_key_of(certificates[0]) != key.public_key():
        raise SecurityError(
            f"{key_path}: not the key of the certificate {certificate_path}; give a matching pair"
        )
    return _join(key, certificates, digest)


def load_identity_elsewhere(
    certificate_path: Path | str,
    find_key: Callable[[bytes, keys.PublicKey], keys.KeyElsewhere],
    *,
    digest: str = "sha256",
) -> PrivateIdentity:
    """Load a certificate whose key another process or device holds.

    `find_key` is given the certificate's fingerprint and its public key, and raises what there is to
    say where that key cannot be had. Otherwise as `load_identity`.
    """
    certificates = _load_chain(Path(certificate_path))
    fingerprint = identify(certificates[0]).fingerprint
    return _join(find_key(fingerprint, public_key_of(certificates[0])), certificates, digest)


def _load_chain(path: Path) -> list[x509.Certificate]:
    return parse_certificates(path, files.load_guarded(path))


def _join(
    key: keys.PrivateKey | keys.KeyElsewhere, certificates: Sequence[x509.Certificate], digest: str
) -> PrivateIdentity:
    encoded = [each.public_bytes(serialization.Encoding.DER) for each in certificates]
    return PrivateIdentity(
        identity=identify(certificates[0]),
        key=key,
        algorithm=keys.choose_algorithm(key.public_key(), digest),
        certificate=encoded[0],
        chain=tuple(encoded[1:]),
    )


def load_key(path: Path, password: Password = None) -> keys.PrivateKey:
    """Load a private key from a PEM file that nobody else can read."""
    content = files.load_secret(path)
    secret = password() if callable(password) else password
    if isinstance(secret, str):
        secret = secret.encode()
    try:
        key = serialization.load_pem_private_key(content, secret)
    except TypeError as error:
        # The library's way to say that there is a password and no need of one, or the reverse.
        remedy = "set security_key_password" if secret is None else "leave the password out"
        raise SecurityError(f"{path}: {error}; {remedy}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityError(f"{path}: no private key in PEM form, or a wrong password") from error
    return keys.check_private_key(key)


def load_certificate(path: Path) -> x509.Certificate:
    """Load the certificate in a PEM file; `SecurityError` unless it holds exactly one."""
    certificates = parse_certificates(path, files.load_guarded(path))
    if len(certificates) > 1:
        raise SecurityError(f"{path}: {len(certificates)} certificates; keep one in each file")
    return certificates[0]


def identify(certificate: x509.Certificate) -> Identity:
    """Return the identity that a certificate speaks of; it says nothing about trust."""
    fingerprint = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
    try:
        uris = find_uris(certificate)
        name = uris[0] if len(uris) == 1 and is_spiffe_id(uris[0]) else _subject(certificate)
        return Identity(
            fingerprint=fingerprint,
            name=name or f"sha256:{fingerprint.hex()}",
            not_before=certificate.not_valid_before_utc.timestamp(),
            not_after=certificate.not_valid_after_utc.timestamp(),
        )
    except UNREADABLE as error:
        raise SecurityError(f"certificate: unreadable: {type(error).__name__}") from error


def parse_certificates(path: Path, content: bytes) -> list[x509.Certificate]:
    """Read the certificates in a PEM file, of which there must be one."""
    try:
        return x509.load_pem_x509_certificates(content)
    except UNREADABLE as error:
        raise SecurityError(f"{path}: no certificate in PEM form") from error


def public_key_of(certificate: x509.Certificate) -> keys.PublicKey:
    """Return a certificate's key if it is one we take, else `SecurityError`."""
    try:
        key = certificate.public_key()
    except UNREADABLE as error:
        raise SecurityError("certificate: a key of unknown type") from error
    return keys.check_public_key(key)


def find_uris(certificate: x509.Certificate) -> list[str]:
    """Return the URIs among the alternative names; any of `UNREADABLE` if they are broken."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.UniformResourceIdentifier)


def is_spiffe_id(uri: str) -> bool:
    """Tell whether a URI is the SPIFFE id of a workload (SPIFFE-ID 2)."""
    return len(uri) <= _MAX_SPIFFE_ID and _SPIFFE_ID.fullmatch(uri) is not None


def trust_domain_of(spiffe_id: str) -> str:
    """Return the part of a SPIFFE id that says who answers for it."""
    return spiffe_id.removeprefix("spiffe://").partition("/")[0]


_MAX_SPIFFE_ID = 2048
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/(?!\.{1,2}(/|$))[a-zA-Z0-9._-]+)+")


def _subject(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string()
    return subject if subject.isprintable() and len(subject) <= _MAX_NAME else ""
