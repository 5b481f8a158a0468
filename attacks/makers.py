"""Frames and certificates of every kind, good and bad, as an attacker makes them: without asking our signer.

Claims are a plain map of labels, encoded as they are, so that what no honest program would sign can be signed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from cardoon.message import cbor, envelope
from cardoon.message.protocol import Kind, Label
from cardoon.security.chains import SIGNER_USAGE

DOMAIN = "attacks/prod"
NAME = "attacks.local"
CLIENT_ID = f"spiffe://{NAME}/client"
QUEUE = "celery"
EDDSA, ES256, PS256 = -19, -9, -37
POLYMORPHIC_EDDSA, POLYMORPHIC_ES256, HS256, NO_ALGORITHM = -8, -7, 5, 0
"""Algorithms by their COSE numbers; the last four are those that nobody here takes."""
Claims = dict[int, Any]


@dataclass(frozen=True)
class Person:
    """Somebody with a key, and a certificate for it."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, as it travels."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> bytes:
        """What names the certificate."""
        return hashlib.sha256(self.der).digest()

    @property
    def algorithm(self) -> int:
        """The one that goes with the key."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return EDDSA
        return ES256 if isinstance(self.key, ec.EllipticCurvePrivateKey) else PS256

    def sign(self, content: bytes) -> bytes:
        """A signature, as COSE has it."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(content)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.key.sign(content, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256().digest_size)
        return bytes(self.key.sign(content, pss, hashes.SHA256()))


def load_person(folder: Path, role: str) -> Person:
    """Who was issued by `cardoon init` or the like."""
    key = serialization.load_pem_private_key((folder / f"{role}.key").read_bytes(), None)
    return Person(key, x509.load_pem_x509_certificate((folder / f"{role}.pem").read_bytes()))


def make_person(
    name: str,
    *,
    key: Any = None,
    public_key: Any = None,
    issuer: Person | None = None,
    uris: Sequence[str] = (CLIENT_ID,),
    is_authority: bool = False,
    signs: bool = True,
    usages: Sequence[x509.ObjectIdentifier] = (SIGNER_USAGE,),
    begins: float = -3600.0,
    ends: float = 86_400.0,
) -> Person:
    """A certificate by an issuer or by itself; times are seconds from now."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    now = dt.datetime.fromtimestamp(int(time.time()), dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(public_key or key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(seconds=begins))
        .not_valid_after(now + dt.timedelta(seconds=ends))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_key_usage(signs=signs, is_authority=is_authority), critical=True)
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(one) for one in uris])
        builder = builder.add_extension(names, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
    if issuer is not None:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            issuer.certificate.public_key()  # type: ignore[arg-type]
        )
        builder = builder.add_extension(authority, critical=False)
    signing_key = issuer.key if issuer else key
    digest = None if isinstance(signing_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Person(key, builder.sign(signing_key, digest))


def _key_usage(*, signs: bool, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def make_rsa(bits: int) -> rsa.RSAPrivateKey:
    """A key, perhaps a short one."""
    return rsa.generate_private_key(65537, bits)


SMALL_ORDER = (1).to_bytes(32, "little")
"""The neutral element as a public key: one constant signature is good for every message."""
SIGNATURE_OF_SMALL_ORDER = SMALL_ORDER + bytes(32)


def small_order_key() -> ed25519.Ed25519PublicKey:
    """A public key to which there is no secret, and no need of one."""
    return ed25519.Ed25519PublicKey.from_public_bytes(SMALL_ORDER)


def arguments(*args: Any, **kwargs: Any) -> bytes:
    """The body of a task."""
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return json.dumps([args, kwargs, embed], separators=(",", ":")).encode()


def task_claims(
    id: str, body: bytes, *, task: str = "canary.note", queue: str = QUEUE, **changes: Any
) -> Claims:
    """What a task's message says; `changes` are labels by name, None to leave one out."""
    now = int(time.time())
    claims: Claims = {
        Label.KIND: int(Kind.TASK),
        Label.TASK: task,
        Label.ID: id,
        Label.AUDIENCE: [f"q:{queue}"],
        Label.ISSUED_AT: now,
        Label.VALID_UNTIL: now + 3600,
        Label.SESSION: os.urandom(16),
        Label.SEQUENCE: 0,
        Label.DIGEST: hashlib.sha256(body).digest(),
        Label.CODEC: "application/json",
        Label.LENGTH: len(body),
        Label.ROOT: id,
        Label.RETRIES: 0,
    }
    return changed(claims, **changes)


def result_claims(
    id: str, request: bytes, body: bytes, *, state: str = "SUCCESS", **changes: Any
) -> Claims:
    """What a result says."""
    told = json.dumps({"state": state, "worker": "w@h", "done": time.time()}).encode()
    claims = task_claims(id, body)
    for label in (Label.AUDIENCE, Label.RETRIES, Label.ROOT):
        del claims[label]
    claims |= {Label.KIND: int(Kind.RESULT), Label.REQUEST: request, Label.HEADERS: told}
    return changed(claims, **changes)


def control_claims(body: bytes, *, command: str = "revoke", **changes: Any) -> Claims:
    """What a command to all workers says."""
    claims = task_claims("command", body, task=command)
    for label in (Label.RETRIES, Label.ROOT):
        del claims[label]
    claims |= {Label.KIND: int(Kind.CONTROL), Label.AUDIENCE: ["*"]}
    return changed(claims, **changes)


def changed(claims: Claims, **changes: Any) -> Claims:
    """The same with other labels, by name; None leaves one out."""
    merged = claims | {Label[name.upper()]: value for name, value in changes.items()}
    return {int(label): value for label, value in sorted(merged.items()) if value is not None}


def encode(claims: Mapping[int, Any] | bytes) -> bytes:
    """As they are signed."""
    return claims if isinstance(claims, bytes) else cbor.encode(dict(claims))


def seal(
    person: Person,
    claims: Mapping[int, Any] | bytes,
    body: bytes,
    *,
    domain: str = DOMAIN,
    algorithm: int | None = None,
    key_id: bytes | None = None,
    chain: Sequence[bytes] = (),
    signature: bytes | None = None,
) -> bytes:
    """A signed frame; what is not said is as it should be."""
    encoded = encode(claims)
    wanted = person.algorithm if algorithm is None else algorithm
    protected = envelope.protected_header(wanted, key_id or person.fingerprint, batch=False)
    if signature is None:
        signature = person.sign(envelope.bytes_to_sign(protected, domain.encode(), encoded))
    start = envelope.begin_single(protected, chain=chain)
    return envelope.build_signed(start, encoded, signature, body)


def rebuilt(
    frame: bytes,
    *,
    claims: bytes | None = None,
    body: bytes | None = None,
    signature: bytes | None = None,
    protected: bytes | None = None,
) -> bytes:
    """A frame with some of its parts exchanged, and nothing signed anew."""
    parsed = envelope.parse_frame(frame)
    assert isinstance(parsed, envelope.SignedFrame)
    start = envelope.begin_single(protected or parsed.protected, chain=parsed.chain)
    return envelope.build_signed(
        start,
        parsed.claims if claims is None else claims,
        parsed.signature if signature is None else signature,
        parsed.body if body is None else body,
    )


def claims_of(frame: bytes) -> Claims:
    """What a frame says, without a look at its signature."""
    found = cbor.decode(envelope.parse_frame(frame).claims)
    assert isinstance(found, dict)
    return {int(label): value for label, value in found.items()}  # type: ignore[arg-type]


def request_of(frame: bytes) -> bytes:
    """What an answer to a message names."""
    return hashlib.sha256(envelope.parse_frame(frame).claims).digest()
