"""Replaces a key and its certificate by new ones, with overlap: nobody has to stop for it.

    prepare     the new pair beside the old one, and the new certificate among the trusted
    activate    the new pair in place of the old one

Receivers must know the new certificate before its key signs, so the two may be hours apart. The key is
put in place first, then the certificate: whoever reads them in between finds that they do not match, and
goes on with what it has until they do. Each step may be repeated after a crash, and goes on from there.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import files, issuing, placing
from cardoon.security.authority import Authority, IdentityPaths, mark_of
from cardoon.security.identity import (
    UNREADABLE,
    Identity,
    Password,
    identify,
    load_identity,
    load_key,
    parse_certificates,
    public_key_of,
)
from cardoon.security.issuing import KeyKind


class Replacement(NamedTuple):
    """A pair that is to take the place of another, or has."""

    old: Identity
    new: Identity
    trusted: Path | None
    """Where the new certificate lies among the trusted, if it does."""


def next_paths(paths: IdentityPaths) -> IdentityPaths:
    """Where the pair lies that comes next."""
    return IdentityPaths(
        *(
            path.with_name(f"{path.stem}.next{path.suffix}")
            for path in (paths.key, paths.certificate)
        )
    )


def prepare(
    paths: IdentityPaths,
    *,
    clock: Clock,
    lifetime: float,
    authority: Authority | None = None,
    trusted: Path | None = None,
    kind: KeyKind | None = None,
    password: bytes | None = None,
) -> Replacement:
    """Make a new key and a certificate of the same name beside the old ones, unless they are there.

    By `authority` if it signed the old certificate, else by the key itself if that did. The new key is of
    the old one's kind unless `kind` says otherwise, and encrypted with the same password. The certificate
    is copied into the folder `trusted`.
    """
    old = load_identity(paths.key, paths.certificate, password=password)
    certificate = x509.load_der_x509_certificate(old.certificate)
    following = next_paths(paths)
    with (
        placing.failing_as_security_error(paths.key.parent),
        placing.locked(paths.certificate),
    ):
        if not following.certificate.exists():
            _make_next(
                following,
                certificate,
                issuer=_find_issuer(certificate, authority, paths),
                stem=paths.certificate.stem,
                clock=clock,
                lifetime=lifetime,
                kind=kind or issuing.kind_like(public_key_of(certificate)),
                password=password,
            )
        new = load_identity(following.key, following.certificate, password=password)
        if new.identity.not_after <= clock.now():
            raise SecurityError(f"{following.certificate}: has expired; delete it and its key")
        copied = None if trusted is None else add_trusted(trusted, paths, new.certificate)
    return Replacement(old.identity, new.identity, copied)


def activate(paths: IdentityPaths, *, password: Password = None) -> Identity:
    """Put the pair that was prepared in place; returns who it is."""
    following = next_paths(paths)
    with (
        placing.failing_as_security_error(paths.key.parent),
        placing.locked(paths.certificate),
    ):
        if not following.certificate.exists():
            raise SecurityError(
                f"{following.certificate}: does not exist; there is nothing to put in place"
            )
        content = files.load_guarded(following.certificate)
        certificate = parse_certificates(following.certificate, content)[0]
        public = certificate.public_key()
        if following.key.exists() and load_key(following.key, password).public_key() == public:
            following.key.replace(paths.key)
            placing.sync(paths.key.parent)
        elif load_key(paths.key, password).public_key() != public:
            raise SecurityError(
                f"{following.certificate}: neither {following.key} nor {paths.key} is its key; "
                "give a matching pair"
            )
        following.certificate.replace(paths.certificate)
        placing.sync(paths.certificate.parent)
    return identify(certificate)


def add_trusted(trusted: Path, paths: IdentityPaths, certificate: bytes) -> Path | None:
    """Copy a certificate, as DER, into a folder of trusted ones; None if there is no such folder."""
    if not trusted.is_dir():
        return None
    files.check_directory(trusted)
    parsed = x509.load_der_x509_certificate(certificate)
    copy = trusted / f"{paths.certificate.stem}-{mark_of(parsed)}.pem"
    placing.create(copy, issuing.encode_certificate(parsed), mode=placing.PUBLIC)
    return copy


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether one certificate was signed by the key of another that bears its issuer's name."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _find_issuer(
    certificate: x509.Certificate, authority: Authority | None, paths: IdentityPaths
) -> Authority | None:
    if authority is not None and is_signed_by(certificate, authority.certificate):
        return authority
    if is_signed_by(certificate, certificate):
        return None
    raise SecurityError(
        f"{paths.certificate}: signed by an authority whose key is not here; name its folder with --ca, "
        "or make a request with `cardoon cert request`, have it signed there, and take the answer in with "
        "`cardoon cert import`"
    )


def _make_next(
    following: IdentityPaths,
    certificate: x509.Certificate,
    *,
    issuer: Authority | None,
    stem: str,
    clock: Clock,
    lifetime: float,
    kind: KeyKind,
    password: bytes | None,
) -> None:
    subject = issuing.subject_of(certificate, stem)
    if not following.key.exists():
        made = issuing.encode_key(issuing.generate_key(kind), password)
        placing.create(following.key, made, mode=placing.SECRET)
    key = load_key(following.key, password)
    signed = (
        issuing.sign_leaf(subject, key.public_key(), issuing.make_period(clock, lifetime), key=key)
        if issuer is None
        else issuer.certify(subject, key.public_key(), clock=clock, lifetime=lifetime)
    )
    placing.create(following.certificate, issuing.encode_certificate(signed), mode=placing.PUBLIC)
