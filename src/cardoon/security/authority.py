"""Makes identities, so that nobody needs another tool for it.

    ensure_identity     a self-signed certificate, and a copy among those trusted in its folder
    create_authority    an authority for a trust domain
    issue               a certificate by that authority
    load_authority      the authority itself, which certifies the keys of others

Nothing is ever overwritten, and processes that begin at once end up with the same files: each file
appears whole or not at all, and whoever comes second goes on from what the first one made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import files, issuing, placing
from cardoon.security.identity import (
    Password,
    find_uris,
    load_certificate,
    load_key,
    trust_domain_of,
)
from cardoon.security.issuing import (
    YEAR,
    KeyKind,
    Subject,
    encode_certificate,
    encode_key,
    make_period,
)
from cardoon.security.keys import PrivateKey, PublicKey

AUTHORITY = "ca"
"""Role of the authority, and so the name of its files."""
TRUSTED = "trusted"
"""Folder with the certificates that are trusted."""
ISSUED = "issued"
"""Folder beside an authority, with a copy of whatever it signed: what is lost can be revoked."""

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_MAX_NAME = 48
"""Characters of an authority's name; a mark follows it."""


class IdentityPaths(NamedTuple):
    """Where an identity lies."""

    key: Path
    certificate: Path


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Authority:
    """An authority with its key, which may certify others."""

    folder: Path
    key: PrivateKey
    certificate: x509.Certificate
    trust_domain: str

    def __repr__(self) -> str:
        return f"<Authority {self.trust_domain} in {self.folder}>"

    def certify(
        self, subject: Subject, key: PublicKey, *, clock: Clock, lifetime: float
    ) -> x509.Certificate:
        """Sign a certificate, and keep a copy of it before anybody has it."""
        certificate = issuing.sign_leaf(
            subject,
            key,
            make_period(clock, lifetime),
            key=self.key,
            issuer=self.certificate,
        )
        kept = self.folder / ISSUED
        with placing.failing_as_security_error(kept):
            placing.make_folder(kept)
            placing.create(
                kept / f"{subject.stem}-{mark_of(certificate)}.pem",
                encode_certificate(certificate),
                mode=placing.PUBLIC,
            )
        return certificate


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
    with placing.failing_as_security_error(folder):
        placing.make_folder(trusted)
        key = _ensure_key(paths.key, KeyKind.ED25519)

        def sign() -> x509.Certificate:
            # A certificate that was lost is found again among the trusted, while it is good.
            kept = _find_certificate(trusted / paths.certificate.name, key, clock)
            if kept is not None:
                return kept
            subject = Subject(role, role, None)
            return issuing.sign_leaf(
                subject, key.public_key(), make_period(clock, lifetime), key=key
            )

        _ensure_certificate(paths.certificate, sign)
        trust(trusted, paths.certificate)
    return paths


def create_authority(
    directory: Path | str,
    trust_domain: str,
    *,
    clock: Clock,
    lifetime: float = 10 * YEAR,
    name: str = "",
    password: bytes | None = None,
) -> IdentityPaths:
    """Make an authority for `spiffe://<trust_domain>` unless there is one: `ca.key` and `ca.pem`.

    Keep its key away from hosts that send or run tasks; with a `password` it is encrypted. `name` goes
    into its subject. `SecurityError` if there is one for another trust domain, or if the folder is open
    to others.
    """
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise SecurityError(
            f"trust domain {trust_domain!r}: use lower-case letters, digits, '.', '-' and '_'"
        )
    if len(name) > _MAX_NAME or not name.isprintable():
        raise SecurityError(f"name {name!r}: use up to {_MAX_NAME} printable characters")
    folder = Path(directory)
    paths = _prepare(folder, AUTHORITY)
    with placing.failing_as_security_error(folder):
        key = _ensure_key(paths.key, KeyKind.P256, password)
        _ensure_certificate(
            paths.certificate,
            lambda: issuing.sign_authority(
                key, trust_domain, make_period(clock, lifetime), name=name
            ),
        )
    found = _trust_domain_of(paths.certificate)
    if found != trust_domain:
        raise SecurityError(
            f"{paths.certificate}: the authority for {found}, not for {trust_domain}; "
            "use another directory"
        )
    return paths


def load_authority(directory: Path | str, password: Password = None) -> Authority:
    """The authority in a folder, with its key."""
    folder = Path(directory)
    paths = paths_of(folder, AUTHORITY)
    key = load_key(paths.key, password)
    certificate = load_certificate(paths.certificate)
    trust_domain = _trust_domain_of(paths.certificate)
    if certificate.public_key() != key.public_key():
        raise SecurityError(
            f"{paths.key}: not the key of the certificate {paths.certificate}; give a matching pair"
        )
    return Authority(folder=folder, key=key, certificate=certificate, trust_domain=trust_domain)


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
    source = load_authority(authority)
    subject = issuing.parse_subject(role, source.trust_domain)
    folder = Path(authority if output is None else output)
    return issue_identity(source, subject, folder, clock=clock, lifetime=lifetime)


def issue_identity(
    authority: Authority,
    subject: Subject,
    folder: Path,
    *,
    clock: Clock,
    lifetime: float,
    kind: KeyKind = KeyKind.ED25519,
    password: bytes | None = None,
) -> IdentityPaths:
    """Make a key and its certificate by an authority; what is there of the two already is kept."""
    if subject.stem == AUTHORITY:
        raise SecurityError(
            f"role {AUTHORITY!r}: that is the authority itself; choose another name"
        )
    paths = _prepare(folder, subject.stem)
    with placing.failing_as_security_error(folder):
        key = _ensure_key(paths.key, kind, password)
        _ensure_certificate(
            paths.certificate,
            lambda: authority.certify(subject, key.public_key(), clock=clock, lifetime=lifetime),
        )
    return paths


def trust(trusted: Path, path: Path) -> Path:
    """Copy a certificate to the trusted; an earlier one of the role stays trusted beside it."""
    content = files.load_guarded(path)
    copy = trusted / path.name
    placing.create(copy, content, mode=placing.PUBLIC)
    if files.load_guarded(copy) == content:
        return copy
    another = trusted / f"{path.stem}-{mark_of(load_certificate(path))}.pem"
    placing.create(another, content, mode=placing.PUBLIC)
    return another


def paths_of(folder: Path, role: str) -> IdentityPaths:
    """Where the identity of a role lies in a folder."""
    return IdentityPaths(folder / f"{role}.key", folder / f"{role}.pem")


def mark_of(certificate: x509.Certificate) -> str:
    """What tells the files of one role's certificates apart."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def _trust_domain_of(path: Path) -> str:
    uris = find_uris(load_certificate(path))
    if len(uris) != 1:
        raise SecurityError(f"{path}: names no trust domain; make one with create_authority")
    return trust_domain_of(uris[0])


def _prepare(folder: Path, role: str) -> IdentityPaths:
    issuing.check_role(role)
    with placing.failing_as_security_error(folder):
        placing.make_folder(folder)
    return paths_of(folder, role)


def _ensure_key(path: Path, kind: KeyKind, password: bytes | None = None) -> PrivateKey:
    if not path.exists():
        made = issuing.generate_key(kind)
        placing.create(path, encode_key(made, password), mode=placing.SECRET)
    # Another process may have come first, and then its key is the one.
    return load_key(path, password)


def _ensure_certificate(path: Path, sign: Callable[[], x509.Certificate]) -> None:
    if not path.exists():
        placing.create(path, encode_certificate(sign()), mode=placing.PUBLIC)


def _find_certificate(path: Path, key: PrivateKey, clock: Clock) -> x509.Certificate | None:
    if not path.exists():
        return None
    certificate = load_certificate(path)
    is_good = certificate.not_valid_after_utc.timestamp() > clock.now()
    return certificate if is_good and certificate.public_key() == key.public_key() else None
