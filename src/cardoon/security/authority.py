"""Makes identities, so that nobody needs another tool for it.

    ensure_identity     a self-signed certificate, and a copy among those trusted in its folder
    create_authority    an authority for a trust domain
    issue               a certificate by that authority

Keys are Ed25519; the authority's is P-256, because `x509.verification` takes no Ed25519 authority.
Nothing is ever overwritten, and processes that begin at once end up with the same files: each file
appears whole or not at all, and whoever comes second goes on from what the first one made.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.chains import SIGNER_USAGE
from cardoon.security.identity import find_uris, load_certificate, load_key, trust_domain_of
from cardoon.security.keys import PrivateKey

YEAR = 365 * 86_400.0
"""Seconds."""
AUTHORITY = "ca"
"""Role of the authority, and so the name of its files."""
TRUSTED = "trusted"
"""Folder with the certificates that are trusted."""

_BACKDATED = dt.timedelta(minutes=5)
"""For hosts whose clocks are behind."""
_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""A file name, a common name and a segment of a SPIFFE id at once."""
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


class IdentityPaths(NamedTuple):
    """Where an identity lies."""

    key: Path
    certificate: Path


def ensure_identity(
    directory: Path | str, role: str, *, clock: Clock, lifetime: float = 5 * YEAR
) -> IdentityPaths:
    """Make a self-signed identity for a role unless there is one, and trust it in this folder.

    For everything that runs as one user on one host. The files are `<role>.key`, `<role>.pem` and
    `trusted/<role>.pem`; missing folders are made, for the user alone. `lifetime` is in seconds.
    `SecurityError` if the folder is open to others or cannot be written.
    """
    folder = Path(directory)
    trusted = folder / TRUSTED
    paths = _prepare(folder, role)
    with _failing_as_security_error(folder):
        _make_folder(trusted)
        key = _ensure_key(paths.key, ed25519.Ed25519PrivateKey.generate)

        def sign() -> x509.Certificate:
            # A certificate that was lost is found again among the trusted, while it is good.
            kept = _find_certificate(trusted / paths.certificate.name, key, clock)
            if kept is not None:
                return kept
            name = _name(role)
            leaf = _add_leaf_extensions(_begin(name, key, _period(clock, lifetime)))
            return leaf.issuer_name(name).sign(key, _digest_for(key))

        _ensure_certificate(paths.certificate, sign)
        _trust(trusted, paths.certificate)
    return paths


def create_authority(
    directory: Path | str, trust_domain: str, *, clock: Clock, lifetime: float = 10 * YEAR
) -> IdentityPaths:
    """Make an authority for `spiffe://<trust_domain>` unless there is one: `ca.key` and `ca.pem`.

    Keep its key away from hosts that send or run tasks. `SecurityError` if there is one for another
    trust domain, or if the folder is open to others.
    """
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise SecurityError(
            f"trust domain {trust_domain!r}: use lower-case letters, digits, '.', '-' and '_'"
        )
    folder = Path(directory)
    paths = _prepare(folder, AUTHORITY)
    with _failing_as_security_error(folder):
        key = _ensure_key(paths.key, lambda: ec.generate_private_key(ec.SECP256R1()))

        def sign() -> x509.Certificate:
            # Authorities differ in their subject, because revocation lists name them by it.
            mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
            name = _name(f"{trust_domain[:40]} authority {mark}")
            begun = _begin(name, key, _period(clock, lifetime))
            return (
                _add_authority_extensions(begun, trust_domain)
                .issuer_name(name)
                .sign(key, _digest_for(key))
            )

        _ensure_certificate(paths.certificate, sign)
    found = _trust_domain_of(paths.certificate)
    if found != trust_domain:
        raise SecurityError(
            f"{paths.certificate}: the authority for {found}, not for {trust_domain}; "
            "use another directory"
        )
    return paths


def issue(
    authority: Path | str,
    role: str,
    *,
    clock: Clock,
    output: Path | str | None = None,
    lifetime: float = 5 * YEAR,
) -> IdentityPaths:
    """Make an identity for a role under the authority in a folder, unless there is one.

    Its name is `spiffe://<trust domain>/<role>`. The files go into `output`, by default beside the
    authority's. It ends no later than the authority.
    """
    if role == AUTHORITY:
        raise SecurityError(f"role {role!r}: that is the authority itself; choose another name")
    source = _paths(Path(authority), AUTHORITY)
    authority_key = load_key(source.key)
    anchor = load_certificate(source.certificate)
    folder = Path(authority if output is None else output)
    paths = _prepare(folder, role)
    with _failing_as_security_error(folder):
        key = _ensure_key(paths.key, ed25519.Ed25519PrivateKey.generate)

        def sign() -> x509.Certificate:
            begins, ends = _period(clock, lifetime)
            period = _Period(begins, min(ends, anchor.not_valid_after_utc))
            uri = f"spiffe://{_trust_domain_of(source.certificate)}/{role}"
            return (
                _add_leaf_extensions(_begin(_name(role), key, period))
                .add_extension(_alternative_name(uri), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                    critical=False,
                )
                .issuer_name(anchor.subject)
                .sign(authority_key, _digest_for(authority_key))
            )

        _ensure_certificate(paths.certificate, sign)
    return paths


class _Period(NamedTuple):
    begins: dt.datetime
    ends: dt.datetime


def _period(clock: Clock, lifetime: float) -> _Period:
    now = dt.datetime.fromtimestamp(clock.now(), dt.UTC)
    return _Period(now - _BACKDATED, now + dt.timedelta(seconds=lifetime))


def _begin(name: x509.Name, key: PrivateKey, period: _Period) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period.begins)
        .not_valid_after(period.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _add_leaf_extensions(builder: x509.CertificateBuilder) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([SIGNER_USAGE]), critical=False)
    )


def _add_authority_extensions(
    builder: x509.CertificateBuilder, trust_domain: str
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(_alternative_name(f"spiffe://{trust_domain}"), critical=False)
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


def _digest_for(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _trust_domain_of(path: Path) -> str:
    uris = find_uris(load_certificate(path))
    if len(uris) != 1:
        raise SecurityError(f"{path}: names no trust domain; make one with create_authority")
    return trust_domain_of(uris[0])


def _paths(folder: Path, role: str) -> IdentityPaths:
    return IdentityPaths(folder / f"{role}.key", folder / f"{role}.pem")


def _prepare(folder: Path, role: str) -> IdentityPaths:
    if not _ROLE.fullmatch(role):
        raise SecurityError(f"role {role!r}: use up to 63 letters, digits, '.', '-' and '_'")
    with _failing_as_security_error(folder):
        _make_folder(folder)
    return _paths(folder, role)


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.check_directory(folder)


def _ensure_key(path: Path, generate: Callable[[], PrivateKey]) -> PrivateKey:
    if not path.exists():
        encoded = generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        _create(path, encoded, mode=0o600)
    # Another process may have come first, and then its key is the one.
    return load_key(path)


def _ensure_certificate(path: Path, sign: Callable[[], x509.Certificate]) -> None:
    if not path.exists():
        _create(path, sign().public_bytes(serialization.Encoding.PEM), mode=0o644)


def _find_certificate(path: Path, key: PrivateKey, clock: Clock) -> x509.Certificate | None:
    if not path.exists():
        return None
    certificate = load_certificate(path)
    is_good = certificate.not_valid_after_utc.timestamp() > clock.now()
    return certificate if is_good and certificate.public_key() == key.public_key() else None


def _trust(trusted: Path, path: Path) -> None:
    """Copy a certificate to the trusted; an earlier one of the role stays trusted beside it."""
    content = files.load_guarded(path)
    copy = trusted / path.name
    _create(copy, content, mode=0o644)
    if files.load_guarded(copy) != content:
        mark = load_certificate(path).fingerprint(hashes.SHA256()).hex()[:16]
        _create(trusted / f"{path.stem}-{mark}.pem", content, mode=0o644)


def _create(path: Path, content: bytes, *, mode: int) -> None:
    """Make a file that appears whole, unless there is one."""
    if path.exists():
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        # Unlike a rename, a link fails if there is one already.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Make the entry durable: a certificate without its key would be worth nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failing_as_security_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SecurityError(f"{folder}: cannot be written: {error.strerror}") from error
