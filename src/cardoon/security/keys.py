"""Which keys we take, and how each of them signs and verifies.

The algorithm is a property of the key and never of the message, so there is nothing to negotiate
and nothing to downgrade.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from typing import Protocol, TypeAlias, assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from cardoon.exceptions import IdentityError, Refusal, RefusedError, SecurityError

PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Sign: TypeAlias = Callable[[bytes], bytes]
SignWithin: TypeAlias = Callable[[bytes, float], bytes]
"""Takes bytes, and the seconds that a key elsewhere has to sign them."""
Verify: TypeAlias = Callable[[bytes, bytes], None]
"""Takes signature and signed bytes; `RefusedError(BAD_SIGNATURE)` unless they fit."""

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""Less is breakable, more costs the verifier milliseconds."""
_RSA_EXPONENT = 65537


class Algorithm(enum.IntEnum):
    """COSE algorithms that say all there is to say (RFC 9864, RFC 8230)."""

    ED25519 = -19
    ESP256 = -9
    PS256 = -37
    PS384 = -38
    PS512 = -39


_RSA_ALGORITHMS = {
    "sha256": Algorithm.PS256,
    "sha384": Algorithm.PS384,
    "sha512": Algorithm.PS512,
}
_RSA_HASHES: dict[Algorithm, hashes.HashAlgorithm] = {
    Algorithm.PS256: hashes.SHA256(),
    Algorithm.PS384: hashes.SHA384(),
    Algorithm.PS512: hashes.SHA512(),
}


def check_public_key(key: PublicKeyTypes) -> PublicKey:
    """Return the key if it is one we take; `SecurityError` saying why if not."""
    match key:
        case ed25519.Ed25519PublicKey():
            _check_ed25519(key.public_bytes_raw())
            return key
        case ec.EllipticCurvePublicKey():
            if not isinstance(key.curve, ec.SECP256R1):
                raise SecurityError(f"key: curve {key.curve.name}; use Ed25519 or P-256")
            return key
        case rsa.RSAPublicKey():
            if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
                raise SecurityError(
                    f"key: RSA of {key.key_size} bits; use {MIN_RSA_BITS} to {MAX_RSA_BITS}"
                )
            if key.public_numbers().e != _RSA_EXPONENT:
                raise SecurityError(f"key: an RSA exponent that is not {_RSA_EXPONENT}")
            return key
        case _:
            raise SecurityError(f"key: type {type(key).__name__}; use Ed25519, ECDSA P-256 or RSA")


def algorithms_of(key: PublicKey) -> tuple[Algorithm, ...]:
    """Return the algorithms that messages by this key may name: one, or three for RSA."""
    match key:
        case ed25519.Ed25519PublicKey():
            return (Algorithm.ED25519,)
        case ec.EllipticCurvePublicKey():
            return (Algorithm.ESP256,)
        case rsa.RSAPublicKey():
            return tuple(_RSA_ALGORITHMS.values())
        case _:
            assert_never(key)


def choose_algorithm(key: PublicKey, digest: str) -> Algorithm:
    """Return what we sign with; `digest` (sha256, sha384, sha512) matters for RSA only."""
    if digest not in _RSA_ALGORITHMS:
        known = ", ".join(_RSA_ALGORITHMS)
        raise SecurityError(f"security_digest: {digest!r} is not accepted; use {known}")
    return _RSA_ALGORITHMS[digest] if isinstance(key, rsa.RSAPublicKey) else algorithms_of(key)[0]


def check_private_key(key: PrivateKeyTypes) -> PrivateKey:
    """Return the key if it is one we take; `SecurityError` saying why if not."""
    if not isinstance(key, PrivateKey):
        raise SecurityError(f"key: type {type(key).__name__}; use Ed25519, ECDSA P-256 or RSA")
    check_public_key(key.public_key())
    return key


class KeyElsewhere(Protocol):
    """A private key that another process or device holds."""

    def public_key(self) -> PublicKey:
        """The other half, as our certificate has it."""
        ...

    def sign(self, content: bytes, algorithm: Algorithm, timeout: float) -> bytes:
        """Have bytes signed. `OperationalError` if that takes longer than `timeout` seconds."""
        ...


def make_sign_within(key: PrivateKey | KeyElsewhere, algorithm: Algorithm) -> SignWithin:
    """Return the function that signs bytes with this key, wherever it lies."""
    if isinstance(key, PrivateKey):
        sign = make_sign(key, algorithm)
        return lambda content, _: sign(content)
    return functools.partial(
        _sign_elsewhere, key, algorithm, make_verify(key.public_key(), algorithm)
    )


def _sign_elsewhere(
    key: KeyElsewhere, algorithm: Algorithm, verify: Verify, content: bytes, timeout: float
) -> bytes:
    """A signature that nobody would accept is found here, and not by every receiver."""
    signature = key.sign(content, algorithm, timeout)
    try:
        verify(signature, content)
    except RefusedError as error:
        raise IdentityError(
            "security_key: what signs for us answers with signatures that do not fit our "
            "certificate; give it the certificate's key"
        ) from error
    return signature


def make_sign(key: PrivateKey, algorithm: Algorithm) -> Sign:
    """Return the function that signs bytes with this key."""
    match key:
        case ed25519.Ed25519PrivateKey():
            return key.sign
        case ec.EllipticCurvePrivateKey():
            return functools.partial(_sign_p256, key)
        case rsa.RSAPrivateKey():
            return functools.partial(_sign_rsa, key, _RSA_HASHES[algorithm])
        case _:
            assert_never(key)


def make_verify(key: PublicKey, algorithm: Algorithm) -> Verify:
    """Return the function that verifies signatures by this key."""
    check: Verify
    match key:
        case ed25519.Ed25519PublicKey():
            check = key.verify
        case ec.EllipticCurvePublicKey():
            check = functools.partial(_verify_p256, key)
        case rsa.RSAPublicKey():
            check = functools.partial(_verify_rsa, key, _RSA_HASHES[algorithm])
        case _:
            assert_never(key)

    def verify(signature: bytes, content: bytes) -> None:
        try:
            check(signature, content)
        except InvalidSignature as error:
            raise RefusedError(Refusal.BAD_SIGNATURE) from error

    return verify


_P256_BYTES = 32
"""Of each of the two numbers in an ECDSA signature (RFC 9053, 2.1)."""


def _sign_p256(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")


def _verify_p256(key: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> None:
    if len(signature) != 2 * _P256_BYTES:
        raise InvalidSignature
    r = int.from_bytes(signature[:_P256_BYTES], "big")
    s = int.from_bytes(signature[_P256_BYTES:], "big")
    key.verify(utils.encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))


def _sign_rsa(key: rsa.RSAPrivateKey, digest: hashes.HashAlgorithm, content: bytes) -> bytes:
    return key.sign(content, _pss(digest), digest)


def _verify_rsa(
    key: rsa.RSAPublicKey, digest: hashes.HashAlgorithm, signature: bytes, content: bytes
) -> None:
    key.verify(signature, content, _pss(digest), digest)


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    """PSS with a salt as long as the digest (RFC 8230, 2)."""
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


_FIELD_PRIME = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _FIELD_PRIME - 1, _ORDER_8, _FIELD_PRIME - _ORDER_8})
"""The y coordinates of the eight points of order 1, 2, 4 and 8 on edwards25519."""


def _check_ed25519(encoded: bytes) -> None:
    """Refuse keys for which anybody can make signatures.

    `cryptography` loads them. A constant signature, made without any secret, verifies for a large
    part of all messages under such a key, and under the neutral element for all of them.
    """
    y = int.from_bytes(encoded, "little") & ((1 << 255) - 1)
    if y >= _FIELD_PRIME:
        raise SecurityError("key: an Ed25519 key that is not canonical (RFC 8032, 5.1.3)")
    if y in _SMALL_ORDER_Y:
        raise SecurityError("key: an Ed25519 key of small order; anybody could sign with it")
