"""Celery's `auth`: a body that is signed, in a message whose headers are not.

    base64(base64(signer) SEP base64(signature) SEP content type SEP content encoding SEP body)

Taken apart strictly and verified by Celery's own `Certificate`, before anything is decoded. What is signed is
the body alone: neither the task's name (of protocol 2) nor its id, nor when it was written.
"""

from __future__ import annotations

import base64
import binascii
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cardoon.contrib.celery.source import import_real
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError
from cardoon.security.files import load_guarded

CONTENT_TYPE = "application/data"
"""Of a message whose body is `auth`."""
MIN_KEY_BITS = 2048
_SEPARATOR = b"\x00\x01"
_INNER = (b"application/json", b"utf-8")
_MAX_SIGNER = 1024
"""Bytes of the signer's name: an issuer's attributes and a serial number."""


class SignedBody(NamedTuple):
    """A body whose signature was verified."""

    body: bytes
    """JSON, as it was signed."""
    signer: str
    """The certificate's issuer and serial number, as Celery names it."""
    signature: bytes
    """Salted, so no two are alike: what a copy is known by."""


class AuthReader:
    """Verifies bodies by a fixed set of certificates; read at the start.

    `ImproperlyConfigured` for a certificate that is none, has expired, or has a key that is too small, and
    for a set without any.
    """

    def __init__(self, patterns: Sequence[str], *, digest: str) -> None:
        certificates = import_real("celery.security.certificate")
        utils = import_real("celery.security.utils")
        self._error: type[Exception] = import_real("celery.exceptions").SecurityError
        self._digest: Any = utils.get_digest_algorithm(digest)
        self._certificates: dict[str, Any] = {}
        for path in _find_files(patterns):
            certificate = self._load(certificates.Certificate, path)
            if certificate.get_id() in self._certificates:
                raise ImproperlyConfigured(
                    f"{path}: a second certificate named {certificate.get_id()!r}"
                )
            self._certificates[certificate.get_id()] = certificate
        if not self._certificates:
            raise ImproperlyConfigured(
                f"unsafe_celery_bridge: no certificates in {', '.join(patterns)}"
            )

    @property
    def signers(self) -> tuple[str, ...]:
        """Who is trusted."""
        return tuple(self._certificates)

    def read(self, frame: bytes) -> SignedBody:
        """The body, verified; `RefusedError` says why not."""
        signer, signature, body = _take_apart(frame)
        certificate = self._certificates.get(signer)
        if certificate is None:
            raise RefusedError(Refusal.UNKNOWN_SIGNER, f"certificate {signer!r}"[:200])
        if certificate.has_expired():
            raise RefusedError(Refusal.CERTIFICATE_EXPIRED, f"certificate {signer!r}"[:200])
        try:
            certificate.verify(body, signature, self._digest)
        except Exception as error:  # Celery's, and cryptography's of what it does not wrap
            raise RefusedError(Refusal.BAD_SIGNATURE, f"by certificate {signer!r}"[:200]) from error
        return SignedBody(body, signer, signature)

    def _load(self, make: Any, path: Path) -> Any:
        try:
            certificate = make(load_guarded(path).decode())
        except (self._error, ValueError) as error:
            raise ImproperlyConfigured(f"{path}: no RSA certificate in PEM: {error}") from error
        if certificate.get_pubkey().key_size < MIN_KEY_BITS:
            raise ImproperlyConfigured(
                f"{path}: an RSA key below {MIN_KEY_BITS} bits is not trusted"
            )
        if certificate.has_expired():
            raise ImproperlyConfigured(
                f"{path}: the certificate has expired; take it away or renew it"
            )
        return certificate


def _take_apart(frame: bytes) -> tuple[str, bytes, bytes]:
    try:
        parts = base64.b64decode(frame, validate=True).split(_SEPARATOR, maxsplit=4)
        if len(parts) != 5:
            raise RefusedError(Refusal.MALFORMED, f"an auth body of {len(parts)} parts; it has 5")
        signer = base64.b64decode(parts[0], validate=True)
        signature = base64.b64decode(parts[1], validate=True)
        if len(signer) > _MAX_SIGNER or not signer.decode().isprintable():
            raise RefusedError(Refusal.MALFORMED, "an auth body whose signer has no proper name")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise RefusedError(Refusal.MALFORMED, "an auth body that is not base64") from error
    if (parts[2], parts[3]) != _INNER:
        raise RefusedError(Refusal.CODEC_NOT_ACCEPTED, "an auth body that is not JSON within")
    return signer.decode(), signature, parts[4]


def _find_files(patterns: Sequence[str]) -> list[Path]:
    found: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            found |= {one for one in path.iterdir() if one.suffix in {".pem", ".crt"}}
        else:
            found |= {Path(name) for name in glob.glob(str(path))}  # noqa: PTH207  # absolute ones, too
    return sorted(found)
