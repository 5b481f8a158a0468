"""Who has approved a baseline: a signature over its digest, by a key that the host need not have.

The file `NAME.sig` is a COSE_Sign1 (RFC 9052, 4.2) in a security domain of its own, so that no signature of a
message is one of a baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from cardoon.exceptions import MessageError, RefusedError, SecurityError
from cardoon.message.envelope import (
    SignedFrame,
    begin_single,
    build_signed,
    bytes_to_sign,
    parse_frame,
    protected_header,
)
from cardoon.security.files import load_guarded
from cardoon.security.identity import parse_certificates, public_key_of
from cardoon.security.keys import (
    PrivateKey,
    PublicKey,
    check_public_key,
    choose_algorithm,
    make_sign,
    make_verify,
)

DOMAIN = b"integrity-baseline"
MAX_SIGNATURE_FILE = 4096


def signature_path(baseline: Path) -> Path:
    """Where the signature of a baseline lies: beside it."""
    return baseline.with_name(baseline.name + ".sig")


def sign_digest(digest: bytes, key: PrivateKey) -> bytes:
    """The signature file of a baseline with this SHA-256."""
    algorithm = choose_algorithm(key.public_key(), "sha256")
    protected = protected_header(algorithm, _key_id(key.public_key()), batch=False)
    signature = make_sign(key, algorithm)(bytes_to_sign(protected, DOMAIN, digest))
    return build_signed(begin_single(protected), digest, signature, b"")


def check_signature(content: bytes, digest: bytes, keys: Sequence[PublicKey]) -> None:
    """Raise `SecurityError` unless one of these keys has signed a baseline with this SHA-256."""
    try:
        frame = parse_frame(content)
    except (MessageError, RefusedError) as error:
        raise SecurityError(
            "baseline: the signature file holds no signature; sign it again"
        ) from error
    if not isinstance(frame, SignedFrame) or frame.chain or frame.proof or frame.body:
        raise SecurityError(
            "baseline: the signature file holds no signature of a baseline; sign it again"
        )
    for key in keys:
        algorithm = choose_algorithm(key, "sha256")
        # Compared as a whole: neither algorithm nor key is the file's to choose.
        if frame.protected != protected_header(algorithm, _key_id(key), batch=False):
            continue
        if frame.claims != digest:
            raise SecurityError(
                "baseline: it was changed after it was signed, or the signature is another's"
            )
        try:
            make_verify(key, algorithm)(
                frame.signature, bytes_to_sign(frame.protected, DOMAIN, digest)
            )
        except RefusedError as error:
            raise SecurityError("baseline: its signature is forged or damaged") from error
        return
    raise SecurityError("baseline: signed by a key that integrity_key does not name")


def load_approver(path: Path) -> PublicKey:
    """A public key from a PEM file that only its owner can write: a key alone, or in a certificate."""
    content = load_guarded(path)
    if b"BEGIN CERTIFICATE" in content:
        return public_key_of(parse_certificates(path, content)[0])
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityError(
            f"{path}: neither a public key nor a certificate in PEM form"
        ) from error
    return check_public_key(key)


def _key_id(key: PublicKey) -> bytes:
    encoded = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(encoded).digest()
