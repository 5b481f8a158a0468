"""What a broker carries: an envelope around the claims, and the body behind it.

A frame is a CBOR sequence (RFC 8742) of two items:

    signed    COSE_Sign1 (RFC 9052, 4.2)  ||  bstr(body)
    plain     bstr(claims)                ||  bstr(body)

The envelope holds the claims and the claims hold the body's digest, so the signature covers both,
yet nobody needs the body to route, to judge or to audit a message. The signature is over bytes
that are handed on as they came; nothing is encoded again before it is verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from cardoon.exceptions import MessageError, Refusal, RefusedError
from cardoon.message import cbor

MAX_ENVELOPE = 64 * 1024
"""Bytes of an envelope without the body: twice what the largest headers need."""
MAX_PROTECTED = 128
"""Bytes of a protected header; ours have 38 and 43."""
MAX_SIGNATURE = 1024
"""Bytes of a signature by RSA with 8192 bits, the largest key we take."""
MAX_CHAIN = 8
"""Certificates in an envelope; a longer way to an anchor is refused anyway."""

_ALGORITHM, _KEY_ID, _PROOF_TYPE = 1, 4, 395
_X5CHAIN, _PROOF = 33, 396
"""Header labels of RFC 9052, RFC 9360 and RFC 9942."""
_RFC9162_SHA256 = 1
"""The only type of proof (RFC 9942)."""
_START = b"\xd2\x84"
"""Tag 18, which RFC 9052 gives to COSE_Sign1, and an array of four."""
_NOTHING_UNPROTECTED = b"\xa0"


class Proof(NamedTuple):
    """That a message is leaf `position` of the batch of `size` whose root is signed."""

    size: int
    position: int
    path: bytes


class SignedFrame(NamedTuple):
    """A frame that claims to be signed. Nobody has looked yet."""

    protected: bytes
    """Names algorithm, key and form. Compared as a whole, never parsed."""
    chain: tuple[bytes, ...]
    """Certificates as DER, the signer's first; empty if the envelope brings none."""
    proof: Proof | None
    claims: bytes
    signature: bytes
    body: bytes


class PlainFrame(NamedTuple):
    """A frame without signature."""

    claims: bytes
    body: bytes


Frame: TypeAlias = SignedFrame | PlainFrame


def parse_frame(frame: bytes) -> Frame:
    """Take a frame apart, without judging or reading what is in it.

    `MessageError` for bytes that are no frame; `RefusedError` for an envelope over 64 KiB.
    """
    if frame[:2] == _START:
        return _parse_signed(frame)
    claims, end = cbor.read_bytes(frame, 0, len(frame))
    return PlainFrame(claims, _read_body(frame, end))


def build_plain(claims: bytes, body: bytes) -> bytes:
    """Put a frame together that is not signed."""
    return cbor.byte_string(claims) + cbor.byte_string(body)


def build_signed(start: bytes, claims: bytes, signature: bytes, body: bytes) -> bytes:
    """Put a frame together behind a `start` that `begin_single` or `begin_batch` returned."""
    return b"".join(
        (
            start,
            cbor.head(cbor.BYTES, len(claims)),
            claims,
            cbor.head(cbor.BYTES, len(signature)),
            signature,
            cbor.head(cbor.BYTES, len(body)),
            body,
        )
    )


def begin_single(protected: bytes, *, chain: Sequence[bytes] = ()) -> bytes:
    """Return an envelope up to the claims: what all messages of a signer have in common."""
    certificates = _encode_chain(chain)
    return b"".join(
        (
            _START,
            cbor.byte_string(protected),
            cbor.head(cbor.MAP, 1 if certificates else 0),
            certificates,
        )
    )


def begin_batch(
    protected: bytes, *, chain: Sequence[bytes] = (), paths: Sequence[bytes]
) -> list[bytes]:
    """Return the envelopes of a batch up to the claims, from the path of each of its leaves."""
    certificates = _encode_chain(chain)
    common = b"".join(
        (
            _START,
            cbor.byte_string(protected),
            cbor.head(cbor.MAP, 2 if certificates else 1),
            certificates,
            cbor.head(cbor.UINT, _PROOF),
            cbor.head(cbor.ARRAY, 3),
            cbor.head(cbor.UINT, len(paths)),
        )
    )
    return [
        common + cbor.head(cbor.UINT, position) + cbor.byte_string(path)
        for position, path in enumerate(paths)
    ]


def _encode_chain(chain: Sequence[bytes]) -> bytes:
    if not chain:
        return b""
    # One certificate stands for itself (RFC 9360, 2).
    array = cbor.head(cbor.ARRAY, len(chain)) if len(chain) > 1 else b""
    certificates = b"".join(map(cbor.byte_string, chain))
    return cbor.head(cbor.UINT, _X5CHAIN) + array + certificates


def protected_header(algorithm: int, key_id: bytes, *, batch: bool) -> bytes:
    """Return the one protected header that a key has in the single or in the batch form."""
    header: dict[cbor.Key, cbor.Value] = {_ALGORITHM: algorithm, _KEY_ID: key_id}
    if batch:
        header[_PROOF_TYPE] = _RFC9162_SHA256
    return cbor.encode(header)


def bytes_to_sign(protected: bytes, domain: bytes, payload: bytes, *, size: int = 0) -> bytes:
    """Return the Sig_structure (RFC 9052, 4.4) over claims, or over the root of `size` claims.

    The security domain is signed and not sent: a signature made for one domain fails in another.
    So is the size of a batch, because the path alone does not fix it.
    """
    return begin_to_sign(protected, domain, size=size) + cbor.byte_string(payload)


def begin_to_sign(protected: bytes, domain: bytes, *, size: int = 0) -> bytes:
    """Return `bytes_to_sign` up to the payload: what all messages of a signer have in common."""
    if size:
        context = b"cardoon/1/batch\x00" + size.to_bytes(4, "big") + domain
    else:
        context = b"cardoon/1\x00" + domain
    return _SIGNATURE1 + cbor.byte_string(protected) + cbor.byte_string(context)


_SIGNATURE1 = cbor.head(cbor.ARRAY, 4) + cbor.text_string("Signature1")


def _parse_signed(frame: bytes) -> SignedFrame:
    protected, at = cbor.read_bytes(frame, len(_START), MAX_PROTECTED)
    chain: tuple[bytes, ...] = ()
    proof = None
    if frame[at : at + 1] == _NOTHING_UNPROTECTED:
        at += 1
    else:
        chain, proof, at = _read_unprotected(frame, at)
    claims, at = cbor.read_bytes(frame, at, len(frame))
    signature, at = cbor.read_bytes(frame, at, MAX_SIGNATURE)
    if at > MAX_ENVELOPE:
        raise RefusedError(Refusal.TOO_LARGE, f"an envelope of {at} bytes; at most {MAX_ENVELOPE}")
    return SignedFrame(protected, chain, proof, claims, signature, _read_body(frame, at))


def _read_body(frame: bytes, at: int) -> bytes:
    body, end = cbor.read_bytes(frame, at, len(frame))
    if end != len(frame):
        raise MessageError(f"frame: {len(frame) - end} bytes behind the body")
    return body


def _read_unprotected(frame: bytes, at: int) -> tuple[tuple[bytes, ...], Proof | None, int]:
    count, at = cbor.read_head(frame, at, cbor.MAP)
    chain: tuple[bytes, ...] = ()
    proof = None
    previous = 0
    for _ in range(count):
        label, at = cbor.read_head(frame, at, cbor.UINT)
        if label <= previous:
            raise MessageError(f"envelope: label {label} behind {previous}; they must ascend")
        previous = label
        if label == _X5CHAIN:
            chain, at = _read_chain(frame, at)
        elif label == _PROOF:
            proof, at = _read_proof(frame, at)
        else:
            raise MessageError(f"envelope: unknown unprotected label {label}")
    return chain, proof, at


def _read_chain(frame: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    if frame[at : at + 1] < b"\x80":
        certificate, at = cbor.read_bytes(frame, at, MAX_ENVELOPE)
        return (certificate,), at
    count, at = cbor.read_head(frame, at, cbor.ARRAY)
    if not 2 <= count <= MAX_CHAIN:
        raise MessageError(
            f"envelope: a list of {count} certificates; it must have 2 to {MAX_CHAIN}"
        )
    chain = []
    for _ in range(count):
        certificate, at = cbor.read_bytes(frame, at, MAX_ENVELOPE)
        chain.append(certificate)
    return tuple(chain), at


def _read_proof(frame: bytes, at: int) -> tuple[Proof, int]:
    count, at = cbor.read_head(frame, at, cbor.ARRAY)
    if count != 3:
        raise MessageError(f"envelope: a proof of {count} elements instead of size, position, path")
    size, at = cbor.read_head(frame, at, cbor.UINT)
    position, at = cbor.read_head(frame, at, cbor.UINT)
    path, at = cbor.read_bytes(frame, at, MAX_ENVELOPE)
    return Proof(size, position, path), at
