"""Sealing: bodies that only those can read who hold one of the keys they are sealed to.

A sender makes a random secret for each of its sessions, each kind of message and each set of recipients, and
wraps it for each of them (HPKE, RFC 9180). From it comes the one AES key for all bodies of that session: at
most 8,192, since it has no more numbers.

    body         salt:10 || commitment:32 || a wrapped secret for each recipient:80 || AES-256-GCM(body), tag:16
    wrapped      HPKE base mode, info = "cardoon/1 seal" 00 signer session recipient
    key:32, commitment:32
                 HMAC-SHA512(secret, "cardoon/1 body" 00 context recipients)
    nonce        sequence:2 salt:10
    context      signer:32 session:16 kind:1, which is authenticated as well

Within a process no nonce comes twice, since each number of a session is drawn once; a forked child begins a
session of its own. Where two do draw one number, in clones of a running machine and in a session that is named
by what is answered, the salt tells them apart: it is drawn when the body is sealed, and never kept.

The signer is bound into all of it, and what is signed is the digest of the sealed body: whoever signs
another's ciphertext as his own has made something that nobody can open (message-security 6). AES-GCM alone
would let a sender make one ciphertext that two keys open to two bodies; the commitment names one.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM
from cryptography.hazmat.primitives.hpke import Suite as Hpke

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import KEY_ID_BYTES, MAX_RECIPIENTS, Encryption, Kind, Suite
from cardoon.security.cache import GenerationCache

SALT_BYTES = 10
"""With the sequence they are a nonce of AES-GCM."""
COMMITMENT_BYTES = 32
WRAPPED_BYTES = 80
"""An encapsulated X25519 key, 32 bytes of secret, and a tag."""
TAG_BYTES = 16
_START = SALT_BYTES + COMMITMENT_BYTES
"""Where the wrapped secrets begin."""
MAX_OVERHEAD = _START + MAX_RECIPIENTS * WRAPPED_BYTES + TAG_BYTES
"""Bytes by which a sealed body is larger than what is in it."""

_SECRET_BYTES = 32
_MAX_SESSIONS = 4096
"""Session keys that are remembered, on either side; some 3,500 bytes each, most of it AES's key schedule."""
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

    __slots__ = ("id", "private", "public")

    def __init__(self, private: X25519PrivateKey) -> None:
        self.private = private
        self.public = private.public_key().public_bytes_raw()
        self.id = key_id_of(self.public)

    def __repr__(self) -> str:
        return f"<KeyPair {self.id.hex()}>"


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


class _SessionKey:
    """The key of one signer's session, for one kind and set of recipients, ready for use.

    Not a tuple, so that no repr shows it. Of the secret nothing is kept but AES's schedule of what is made of it.
    """

    __slots__ = ("bound", "cipher")

    def __init__(self, cipher: AESGCM, bound: bytes) -> None:
        self.cipher = cipher
        self.bound = bound


class _SealingKey(_SessionKey):
    """The same for a sender, with what stands before every body, and what is claimed of it."""

    __slots__ = ("claimed", "header")

    def __init__(self, cipher: AESGCM, bound: bytes, header: bytes, claimed: Encryption) -> None:
        super().__init__(cipher, bound)
        self.header = header
        self.claimed = claimed


class Sealer:
    """Seals the bodies of one signer. Safe from several threads, and after a fork."""

    def __init__(self, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random
        self._keys: GenerationCache[tuple[bytes, bytes, Kind, Seal], _SealingKey] = GenerationCache(
            _MAX_SESSIONS
        )

    def begin_batch(self, signer: bytes, *, most: int) -> SealingBatch:
        """Begin to seal at most so many bodies, one after the other."""
        return SealingBatch(self, signer, self._draw_salts(most))

    def find_key(self, seal: Seal, signer: bytes, session: bytes, kind: Kind) -> _SealingKey | None:
        """The key of a signer's session for one kind of message; None if nobody is to be able to read it."""
        known = (signer, session, kind, seal)
        key = self._keys.get(known)
        if key is None and seal.readers(kind):
            key = self._begin(seal, signer, session, kind)
            self._keys.put(known, key)
        return key

    def _draw_salts(self, count: int) -> Iterator[bytes]:
        # Together, when the first is asked for: the kernel's answer costs as much as the encryption.
        drawn = self._random(SALT_BYTES * count)
        for start in range(0, len(drawn), SALT_BYTES):
            yield drawn[start : start + SALT_BYTES]

    def _begin(self, seal: Seal, signer: bytes, session: bytes, kind: Kind) -> _SealingKey:
        # A key of its own for each set: who may open one body of a session must not open them all.
        recipients = seal.readers(kind)
        key_ids = tuple(map(key_id_of, recipients))
        secret = self._random(_SECRET_BYTES)
        wrapped = [
            _HPKE.encrypt(secret, load_recipient(public_key), _info(signer, session, key_id))
            for public_key, key_id in zip(recipients, key_ids, strict=True)
        ]
        bound = _bind(signer, session, kind)
        cipher, commitment = _derive(secret, bound, key_ids)
        header = b"".join((commitment, *wrapped))
        reply = seal.reply if kind is Kind.TASK else b""
        return _SealingKey(cipher, bound, header, Encryption(Suite.X25519, key_ids, reply))


class SealingBatch:
    """Bodies that one call seals, in one thread. Salts that are left when it ends are never used."""

    __slots__ = ("_key", "_of", "_salts", "_sealer", "_signer")

    def __init__(self, sealer: Sealer, signer: bytes, salts: Iterator[bytes]) -> None:
        self._sealer = sealer
        self._signer = signer
        self._salts = salts
        self._key: _SealingKey | None = None
        self._of: tuple[Seal | None, bytes, Kind | None] = (None, b"", None)

    def seal(
        self, seal: Seal, nonce: tuple[bytes, int], kind: Kind, body: bytes
    ) -> tuple[Encryption | None, bytes]:
        """Return what is claimed of a sealed body, and the body; it stays clear if nobody is to read it.

        `nonce` is the session and a number of it that was drawn for this body. `SecurityError` for a
        useless public key.
        """
        session, sequence = nonce
        of = self._of
        # Mostly they are the very same objects, which is found faster than equal ones.
        if of[0] is not seal or of[1] is not session or of[2] is not kind:
            self._key = self._sealer.find_key(seal, self._signer, session, kind)
            self._of = (seal, session, kind)
        key = self._key
        if key is None:
            return None, body
        salt = next(self._salts)
        sealed = key.cipher.encrypt(sequence.to_bytes(2, "big") + salt, body, key.bound)
        return key.claimed, b"".join((salt, key.header, sealed))


class Unsealer:
    """Opens bodies with the private keys of this process. Safe from several threads."""

    def __init__(self, keys: PrivateKeys) -> None:
        self._keys = keys
        self._opened: GenerationCache[
            tuple[bytes, bytes, Kind, tuple[bytes, ...], bytes], _SessionKey
        ] = GenerationCache(_MAX_SESSIONS)

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
        recipients = encryption.recipients
        end = _START + WRAPPED_BYTES * len(recipients)
        if len(body) < end + TAG_BYTES:
            raise RefusedError(Refusal.UNDECRYPTABLE, f"{len(body)} bytes are no sealed body")
        signer, session, sequence, kind = context
        # A key that was withdrawn opens nothing more, whatever is remembered.
        place, pair = self._find_pair(encryption)
        header = body[SALT_BYTES:end]
        known = (signer, session, kind, recipients, header)
        key = self._opened.get(known)
        if key is None:
            key = _unwrap(pair, place, header, context, recipients)
            self._opened.put(known, key)
        nonce = sequence.to_bytes(2, "big") + body[:SALT_BYTES]
        try:
            return key.cipher.decrypt(nonce, body[end:], key.bound)
        except InvalidTag:
            raise RefusedError(
                Refusal.UNDECRYPTABLE, "it was sealed by another signer, or for another message"
            ) from None

    def _find_pair(self, encryption: Encryption) -> tuple[int, KeyPair]:
        for place, key_id in enumerate(encryption.recipients):
            pair = self._keys.find(key_id)
            if pair is not None:
                return place, pair
        raise RefusedError(Refusal.UNKNOWN_KEY, describe_recipients(encryption))


def describe_recipients(encryption: Encryption) -> str:
    """Whose keys it takes to open a body, for people."""
    named = " or ".join(key_id.hex() for key_id in encryption.recipients)
    return f"sealed to key {named}, which is not here"


def _unwrap(
    pair: KeyPair, place: int, header: bytes, context: Context, recipients: tuple[bytes, ...]
) -> _SessionKey:
    start = COMMITMENT_BYTES + WRAPPED_BYTES * place
    wrapped = header[start : start + WRAPPED_BYTES]
    try:
        secret = _HPKE.decrypt(
            wrapped, pair.private, _info(context.signer, context.session, recipients[place])
        )
    except (InvalidTag, ValueError):
        raise RefusedError(
            Refusal.UNDECRYPTABLE, "its key was wrapped by another signer, or in another session"
        ) from None
    bound = _bind(context.signer, context.session, context.kind)
    cipher, commitment = _derive(secret, bound, recipients)
    if not hmac.compare_digest(commitment, header[:COMMITMENT_BYTES]):
        raise RefusedError(
            Refusal.UNDECRYPTABLE, "the key that is in it is not the one that it commits to"
        )
    return _SessionKey(cipher, bound)


def _info(signer: bytes, session: bytes, key_id: bytes) -> bytes:
    return b"cardoon/1 seal\x00" + signer + session + key_id


def _bind(signer: bytes, session: bytes, kind: Kind) -> bytes:
    """Of which messages a key is the key; the sequence is in the nonce."""
    return b"".join((signer, session, bytes((kind,))))


def _derive(secret: bytes, bound: bytes, key_ids: tuple[bytes, ...]) -> tuple[AESGCM, bytes]:
    """The key of a session, and the commitment to it."""
    told = b"".join((b"cardoon/1 body\x00", bound, *key_ids))
    derived = hmac.digest(secret, told, "sha512")
    return AESGCM(derived[:32]), derived[32:]
