"""Takes in keys and certificates that something else made, whatever form they come in.

PEM with a key in PKCS#8, PKCS#1 or SEC1, encrypted or not, and certificates in any order; DER; PKCS#12.
What comes out is what everything else here reads: a key for its owner alone, and a certificate file that
begins with the signer's and goes on towards its anchor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import chains, files, issuing, placing, renewing
from cardoon.security.authority import IdentityPaths
from cardoon.security.identity import (
    UNREADABLE,
    Identity,
    identify,
    load_key,
    parse_certificates,
    public_key_of,
)
from cardoon.security.keys import PrivateKey, check_private_key

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_ENCRYPTED = b"ENCRYPTED"
"""In the label of PKCS#8, and in the header of older forms."""


class Bundle(NamedTuple):
    """What was found in files."""

    key: PrivateKey | None
    was_encrypted: bool
    certificates: tuple[x509.Certificate, ...]


class Imported(NamedTuple):
    """What was taken in."""

    identity: Identity
    paths: IdentityPaths
    remark: str
    """What this certificate is not good for; empty if nothing."""
    trusted: Path | None
    """Where a copy of the certificate lies among the trusted, if it does."""


def read_bundle(paths: Sequence[Path], password: bytes | None = None) -> Bundle:
    """Read files; `SecurityError` unless there is one key at most and no more than we can read.

    A file with a key must be readable by its owner alone: a key that others could read is no secret.
    """
    keys: list[tuple[PrivateKey, bool]] = []
    certificates: list[x509.Certificate] = []
    for path in paths:
        content = files.load_guarded(path)
        if _BLOCK.search(content):
            keys += _read_keys(path, content, password)
            if b"CERTIFICATE-----" in content:
                certificates += parse_certificates(path, content)
        else:
            one, more = _read_der(path, content, password)
            keys += one
            certificates += more
    if len(keys) > 1:
        raise SecurityError(
            f"{len(keys)} private keys in what was given; give one identity at a time"
        )
    key, was_encrypted = keys[0] if keys else (None, False)
    return Bundle(key, was_encrypted, tuple(dict.fromkeys(certificates)))


def import_identity(
    bundle: Bundle,
    paths: IdentityPaths,
    *,
    clock: Clock,
    password: bytes | None = None,
    key_password: bytes | None = None,
    trusted: Path | None = None,
) -> Imported:
    """Put a key and its certificate at `paths`; whatever was there before is replaced in one step.

    Without a key in the bundle, one that lies at `paths` is meant, such as that of a request; `password`
    opens it. With `key_password` the key is written encrypted. The certificate is copied into the folder
    `trusted`, if there is such a folder, before it is used. `SecurityError` unless key and certificate
    belong together, are strong enough, and are good today.
    """
    key, lies_at = _find_key(bundle, paths, password)
    leaf = _find_leaf(bundle.certificates, key)
    identity = identify(leaf)
    if identity.not_after <= clock.now():
        raise SecurityError(f"certificate of {identity.name}: has expired; have a new one issued")
    chain = _order(leaf, [one for one in bundle.certificates if one != leaf])
    content = b"".join(issuing.encode_certificate(one) for one in chain)
    following = renewing.next_paths(paths)
    with placing.failing_as_security_error(paths.key.parent):
        placing.make_folder(paths.key.parent)
        if lies_at is None:
            _check_unclaimed(following.key, key, key_password)
            placing.replace(
                following.key, issuing.encode_key(key, key_password), mode=placing.SECRET
            )
        placing.replace(following.certificate, content, mode=placing.PUBLIC)
    copied = None
    if trusted is not None:
        encoded = leaf.public_bytes(serialization.Encoding.DER)
        copied = renewing.add_trusted(trusted, paths, encoded)
    renewing.activate(paths, password=password if lies_at is not None else key_password)
    return Imported(identity, paths, _find_remark(leaf), copied)


def _read_keys(
    path: Path, content: bytes, password: bytes | None
) -> Iterable[tuple[PrivateKey, bool]]:
    for found in _BLOCK.finditer(content):
        block = found.group(0)
        if not found.group(1).endswith(b"PRIVATE KEY"):
            continue
        files.load_secret(path)
        is_encrypted = _ENCRYPTED in block
        yield _load_key(path, block, password if is_encrypted else None, is_encrypted), is_encrypted


def _load_key(path: Path, block: bytes, password: bytes | None, is_encrypted: bool) -> PrivateKey:  # noqa: FBT001
    if is_encrypted and password is None:
        raise SecurityError(f"{path}: its key is encrypted; say where its password is")
    try:
        key = serialization.load_pem_private_key(block, password)
    except UNREADABLE as error:
        raise SecurityError(
            f"{path}: no private key that can be read, or a wrong password"
        ) from error
    return check_private_key(key)


def _read_der(
    path: Path, content: bytes, password: bytes | None
) -> tuple[list[tuple[PrivateKey, bool]], list[x509.Certificate]]:
    try:
        return [], [x509.load_der_x509_certificate(content)]
    except UNREADABLE:
        pass
    files.load_secret(path)
    try:
        return [(check_private_key(serialization.load_der_private_key(content, None)), False)], []
    except UNREADABLE:
        pass
    try:
        store = pkcs12.load_pkcs12(content, password)
    except UNREADABLE as error:
        raise SecurityError(
            f"{path}: neither PEM, DER nor PKCS#12, or a wrong password; say where its password is"
        ) from error
    named = ([store.cert] if store.cert is not None else []) + list(store.additional_certs)
    keys = [(check_private_key(store.key), bool(password))] if store.key is not None else []
    return keys, [one.certificate for one in named]


def _find_key(
    bundle: Bundle, paths: IdentityPaths, password: bytes | None
) -> tuple[PrivateKey, Path | None]:
    """The key that is meant, and where it lies already if it does."""
    if bundle.key is not None:
        return bundle.key, None
    public = [one.public_key() for one in bundle.certificates]
    for path in (renewing.next_paths(paths).key, paths.key):
        if path.exists():
            key = load_key(path, password)
            if key.public_key() in public:
                return key, path
    raise SecurityError(
        f"no private key for this certificate, neither in what was given nor at {paths.key}; "
        "give the file with its key as well"
    )


def _check_unclaimed(path: Path, key: PrivateKey, password: bytes | None) -> None:
    """The key of a request that is under way must not be lost for another one."""
    if path.exists() and load_key(path, password).public_key() != key.public_key():
        raise SecurityError(
            f"{path}: the key of a request or a renewal that has not ended; end that, or delete it"
        )


def _find_leaf(certificates: Sequence[x509.Certificate], key: PrivateKey) -> x509.Certificate:
    public = key.public_key()
    found = [one for one in certificates if one.public_key() == public]
    if len(found) != 1:
        many = f"{len(found)} certificates" if found else "no certificate"
        raise SecurityError(f"{many} for this key among the {len(certificates)} given; give one")
    public_key_of(found[0])
    return found[0]


def _order(leaf: x509.Certificate, others: list[x509.Certificate]) -> list[x509.Certificate]:
    """The leaf, then each one's issuer; anchors are left out, because receivers have their own."""
    chain = [leaf]
    left = [one for one in others if not renewing.is_signed_by(one, one)]
    while True:
        found = [one for one in left if renewing.is_signed_by(chain[-1], one)]
        if not found:
            break
        chain.append(found[0])
        left.remove(found[0])
    if left:
        names = ", ".join(identify(one).name for one in left)
        raise SecurityError(f"{names}: not on the way from {identify(leaf).name} to its authority")
    return chain


def _find_remark(leaf: x509.Certificate) -> str:
    try:
        chains.check_leaf(leaf)
    except SecurityError as error:
        return f"{error}; it can only be trusted as a pin, in security_cert_store"
    except UNREADABLE:
        return "certificate: unreadable extensions; it can only be trusted as a pin"
    return ""
