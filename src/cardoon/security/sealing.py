"""Sealing: bodies that only those can read who hold one of the keys they are sealed to.

A sender makes a random key for each of its sessions and each set of recipients, and wraps it for each of
them (HPKE, RFC 9180). From it and a random salt comes a key for each message, so nobody has to take care
that a nonce is never used twice: not after a fork, and not in two clones of a machine.

    body         salt:16 || a wrapped key for each recipient:80 || AES-256-GCM(body) with its tag:16
    wrapped key  HPKE base mode, info = "cardoon/1 seal" 00 signer session recipient
    message key  HMAC-SHA256(session key, "cardoon/1 body" 00 salt context), nonce 00..00
    context      signer:32 session:16 sequence:2 kind:1, which is authenticated as well

The signer is bound into all of it, and what is signed is the digest of the sealed body: whoever signs
another's ciphertext as his own has made something that nobody can open (message-security 6).
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
from cryptography.hazmat.primitives.hpke import Suite as Hpke

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import KEY_ID_BYTES, MAX_RECIPIENTS, Encryption, Kind, Suite
from cardoon.security.cache import GenerationCache

SALT_BYTES = 16
WRAPPED_BYTES = 80
"""An encapsulated X25519 key, 32 bytes of session key, and a tag."""
TAG_BYTES = 16
MAX_OVERHEAD = SALT_BYTES + MAX_RECIPIENTS * WRAPPED_BYTES + TAG_BYTES
"""Bytes by which a sealed body is larger than what is in it."""

_SESSION_KEY_BYTES = 32
_MAX_SESSIONS = 4096
"""Session keys that are remembered, on either side; some 600 bytes each."""
_NONCE = bytes(12)
_HPKE = Hpke(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


class Seal(NamedTuple):
    """To whom a body is to be sealed: public keys."""

    recipients: tuple[bytes, ...]
    reply: bytes = b""
    """Who is to be able to read a result besides them: named in a task, and sealed to in its result."""

    def readers(self, kind: Kind) -> tuple[bytes, ...]:
        """Whom a body of this kind is sealed to; nobody, if it stays in the clear."""
        if kind is Kind.RESULT and self.reply:
            return (*self.recipients, self.reply)
        return self.recipients


CLEAR = Seal(())


class Context(NamedTuple):
    """Of which message a body is the body."""

    signer: bytes
    """The fingerprint."""
    session: bytes
    sequence: int
    kind: Kind


class KeyPair:
    """A private key, and the public one that belongs to it."""

    __slots__ = ("private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self.private = private
        self.public = private.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"<KeyPair {key_id_of(self.public).hex()}>"


class PrivateKeys(Protocol):
    """The private keys that a process holds."""

    def find(self, key_id: bytes) -> KeyPair | None:
        """The key of this id, if it is here."""
        ...


def key_id_of(public_key: bytes) -> bytes:
    """The name by which messages refer to a public key."""
    return hashlib.sha256(b"cardoon/1 key\x00" + public_key).digest()[:KEY_ID_BYTES]


@functools.lru_cache(maxsize=_MAX_SESSIONS)
def load_recipient(public_key: bytes) -> X25519PublicKey:
    """A public key that can be sealed to; `SecurityError` for one with which no secret can be shared.

    An exchange with a point of small order gives zero, whoever takes part, so anybody could open what
    was sealed to one.
    """
    try:
        loaded = X25519PublicKey.from_public_bytes(public_key)
        X25519PrivateKey.generate().exchange(loaded)
    except ValueError as error:
        raise SecurityError(
            f"encryption key {public_key.hex()[:16]}: nobody can hold it"
        ) from error
    return loaded


class Sealer:
    """Seals the bodies of one signer. Safe from several threads, and after a fork."""

    def __init__(self, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._keys: GenerationCache[tuple[bytes, bytes, tuple[bytes, ...]], _SessionKey] = (
            GenerationCache(_MAX_SESSIONS)
        )

    def seal(self, seal: Seal, context: Context, body: bytes) -> tuple[Encryption, bytes]:
        """Return what is claimed of a sealed body, and the body; `SecurityError` for a useless key."""
        # A key of its own for each set: who may open one body of a session must not open them all.
        readers = seal.readers(context.kind)
        known = (context.signer, context.session, readers)
        key = self._keys.get(known)
        if key is None:
            key = self._begin(readers, context)
            self._keys.put(known, key)
        salt = self._random(SALT_BYTES)
        bound = _bind(context)
        sealed = _cipher(key.secret, salt, bound).encrypt(_NONCE, body, bound)
        reply = seal.reply if context.kind is Kind.TASK else b""
        claimed = Encryption(Suite.X25519, key.recipients, reply)
        return claimed, b"".join((salt, key.wrapped, sealed))

    def _begin(self, recipients: tuple[bytes, ...], context: Context) -> _SessionKey:
        secret = self._random(_SESSION_KEY_BYTES)
        key_ids = tuple(map(key_id_of, recipients))
        wrapped = [
            _HPKE.encrypt(secret, load_recipient(public_key), _info(context, key_id))
            for public_key, key_id in zip(recipients, key_ids, strict=True)
        ]
        return _SessionKey(secret, b"".join(wrapped), key_ids)


class Unsealer:
    """Opens bodies with the private keys of this process. Safe from several threads."""

    def __init__(self, keys: PrivateKeys) -> None:
        self._keys = keys
        self._opened: GenerationCache[tuple[bytes, bytes], bytes] = GenerationCache(_MAX_SESSIONS)

    def find_key(self, encryption: Encryption) -> bytes:
        """The public key of ours that a body is sealed to; empty if it is sealed to others."""
        for key_id in encryption.recipients:
            found = self._keys.find(key_id)
            if found is not None:
                return found.public
        return b""

    def open(self, encryption: Encryption, context: Context, body: bytes) -> bytes:
        """Return what is in a sealed body.

        `RefusedError` with UNKNOWN_KEY if it is sealed to others, and with UNDECRYPTABLE if it was
        sealed by somebody else than its signer, for another message, or not at all.
        """
        start = SALT_BYTES + WRAPPED_BYTES * len(encryption.recipients)
        if len(body) < start + TAG_BYTES:
            raise RefusedError(Refusal.UNDECRYPTABLE, f"{len(body)} bytes are no sealed body")
        secret = self._unwrap(encryption, context, body)
        bound = _bind(context)
        try:
            return _cipher(secret, body[:SALT_BYTES], bound).decrypt(_NONCE, body[start:], bound)
        except InvalidTag:
            raise RefusedError(
                Refusal.UNDECRYPTABLE, "it was sealed by another signer, or for another message"
            ) from None

    def _unwrap(self, encryption: Encryption, context: Context, body: bytes) -> bytes:
        for place, key_id in enumerate(encryption.recipients):
            start = SALT_BYTES + WRAPPED_BYTES * place
            wrapped, info = body[start : start + WRAPPED_BYTES], _info(context, key_id)
            # A key that was withdrawn opens nothing more, whatever is remembered.
            pair = self._keys.find(key_id)
            if pair is None:
                continue
            secret = self._opened.get((wrapped, info))
            if secret is None:
                secret = _decapsulate(pair.private, wrapped, info)
                self._opened.put((wrapped, info), secret)
            return secret
        raise RefusedError(Refusal.UNKNOWN_KEY, describe_recipients(encryption))


def describe_recipients(encryption: Encryption) -> str:
    """Whose keys it takes to open a body, for people."""
    named = " or ".join(key_id.hex() for key_id in encryption.recipients)
    return f"sealed to key {named}, which is not here"


class _SessionKey:
    """Not a tuple, so that no repr shows it."""

    __slots__ = ("recipients", "secret", "wrapped")

    def __init__(self, secret: bytes, wrapped: bytes, recipients: tuple[bytes, ...]) -> None:
        self.secret = secret
        self.wrapped = wrapped
        self.recipients = recipients


def _decapsulate(private: X25519PrivateKey, wrapped: bytes, info: bytes) -> bytes:
    try:
        return _HPKE.decrypt(wrapped, private, info)
    except (InvalidTag, ValueError):
        raise RefusedError(
            Refusal.UNDECRYPTABLE, "its key was wrapped by another signer, or in another session"
        ) from None


def _info(context: Context, key_id: bytes) -> bytes:
    return b"cardoon/1 seal\x00" + context.signer + context.session + key_id


def _bind(context: Context) -> bytes:
    return b"".join(
        (
            context.signer,
            context.session,
            context.sequence.to_bytes(2, "big"),
            bytes((context.kind,)),
        )
    )


def _cipher(secret: bytes, salt: bytes, bound: bytes) -> AESGCM:
    return AESGCM(hmac.digest(secret, b"cardoon/1 body\x00" + salt + bound, "sha256"))
