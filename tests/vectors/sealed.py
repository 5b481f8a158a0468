"""The vectors of sealed bodies, and what makes them: HPKE (RFC 9180) by hand, with nothing random in it.

Written from the RFC, apart from the library that Cardoon uses, so that one is a check of the other.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEM_SUITE = b"KEM" + (0x0020).to_bytes(2, "big")
"""DHKEM(X25519, HKDF-SHA256)."""
SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0001))
"""With HKDF-SHA256 and AES-128-GCM."""

SIGNER = hashlib.sha256(b"cardoon test certificate 1").digest()
SESSION = bytes(range(16))
SEQUENCE = 7
SECRET, OTHER_SECRET = bytes(range(64, 96)), bytes(range(96, 128))
SALT = bytes(range(128, 138))
TASK_BODY = b'[[1,2],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
RESULT_BODY = b'{"result":3}'
WORKERS, CLIENT, STRANGER, EPHEMERAL = (
    X25519PrivateKey.from_private_bytes(bytes(range(start, start + 32))) for start in (1, 2, 3, 200)
)
RFC_9180_A_1_1 = {
    "info": "4f6465206f6e2061204772656369616e2055726e",
    "ephemeral": "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
    "recipient": "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
    "enc": "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
    "key": "4531685d41d65f03dc48f6b8302c05b0",
    "base_nonce": "56d890e5accaaf011cff4b7d",
    "aad": "436f756e742d30",
    "plaintext": "4265617574792069732074727574682c20747275746820626561757479",
    "ciphertext": "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a",
}
"""Appendix A.1.1: base mode, the first encryption."""


def public(key):
    return key.public_key().public_bytes_raw()


def key_id(key):
    return hashlib.sha256(b"cardoon/1 key\x00" + public(key)).digest()[:16]


def extract(suite, salt, label, content):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + content, "sha256")


def expand(suite, key, label, info, length):
    """HKDF-Expand (RFC 5869) of one block, which is all that is needed."""
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labelled + b"\x01", "sha256")[:length]


def schedule(ephemeral, recipient, info):
    """The encapsulated key, and the key and nonce of the first encryption (RFC 9180, 4.1 and 5.1)."""
    enc = public(ephemeral)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(recipient))
    pseudorandom = extract(KEM_SUITE, b"", b"eae_prk", shared)
    secret = expand(KEM_SUITE, pseudorandom, b"shared_secret", enc + recipient, 32)
    context = (
        b"\x00" + extract(SUITE, b"", b"psk_id_hash", b"") + extract(SUITE, b"", b"info_hash", info)
    )
    final = extract(SUITE, secret, b"secret", b"")
    key = expand(SUITE, final, b"key", context, 16)
    return enc, key, expand(SUITE, final, b"base_nonce", context, 12)


def wrap(key, content=SECRET, *, signer=SIGNER, session=SESSION):
    """A session's secret as it stands before a body."""
    info = b"cardoon/1 seal\x00" + signer + session + key_id(key)
    enc, secret, nonce = schedule(EPHEMERAL, public(key), info)
    return enc + AESGCM(secret).encrypt(nonce, content, b"")


def derive(context, readers, secret=SECRET):
    """The key of a session, and the commitment to it."""
    told = b"cardoon/1 body\x00" + context + b"".join(map(key_id, readers))
    derived = hmac.digest(secret, told, "sha512")
    return derived[:32], derived[32:]


def seal(
    body, kind, readers, *, signer=SIGNER, session=SESSION, sequence=SEQUENCE, secret=SECRET, **told
):
    """A body as it is carried. What is `told` replaces what would stand there."""
    context = signer + session + bytes((kind,))
    key, commitment = derive(context, told.get("derived_for", readers), secret)
    wrapped = b"".join(wrap(reader, secret, signer=signer, session=session) for reader in readers)
    sealed = AESGCM(key).encrypt(sequence.to_bytes(2, "big") + SALT, body, context)
    return SALT + told.get("commitment", commitment) + wrapped + sealed


def vectors():
    usual = seal(TASK_BODY, 1, [WORKERS])
    first, start = 10 + 32, 10 + 32 + 80

    def changed(at):
        copy = bytearray(usual)
        copy[at] ^= 1
        return bytes(copy)

    ours, theirs = [WORKERS], [STRANGER]
    cases = [
        ("a task", usual, ours, 1, TASK_BODY),
        ("a result for its sender and the workers", None, [WORKERS, CLIENT], 2, RESULT_BODY),
        ("a result whose first key is another's", None, [CLIENT, WORKERS], 2, RESULT_BODY),
        ("nothing in it", seal(b"", 1, ours), ours, 1, b""),
        ("sealed to others", seal(TASK_BODY, 1, theirs), theirs, 1, "unknown-key"),
        ("another salt", changed(0), ours, 1, "undecryptable"),
        ("another commitment", changed(10), ours, 1, "undecryptable"),
        ("another encapsulated key", changed(first), ours, 1, "undecryptable"),
        ("another wrapped key", changed(start - 1), ours, 1, "undecryptable"),
        ("another ciphertext", changed(start), ours, 1, "undecryptable"),
        ("another tag", changed(len(usual) - 1), ours, 1, "undecryptable"),
        ("cut off", usual[: start + 15], ours, 1, "undecryptable"),
        ("nothing", b"", ours, 1, "undecryptable"),
        ("in the clear", TASK_BODY.ljust(200), ours, 1, "undecryptable"),
        ("of another kind", usual, ours, 2, "undecryptable"),
        (
            "by another signer",
            seal(TASK_BODY, 1, ours, signer=bytes(32)),
            ours,
            1,
            "undecryptable",
        ),
        (
            "of another session",
            seal(TASK_BODY, 1, ours, session=bytes(16)),
            ours,
            1,
            "undecryptable",
        ),
        ("of another message", seal(TASK_BODY, 1, ours, sequence=8), ours, 1, "undecryptable"),
        (
            "a key that shares no secret",
            usual[:first] + bytes(32) + usual[first + 32 :],
            ours,
            1,
            "undecryptable",
        ),
        (
            "by a key that it does not commit to",
            seal(
                TASK_BODY,
                1,
                ours,
                secret=OTHER_SECRET,
                commitment=derive(SIGNER + SESSION + b"\x01", ours)[1],
            ),
            ours,
            1,
            "undecryptable",
        ),
        (
            "by the key of fewer readers",
            seal(RESULT_BODY, 2, [WORKERS, CLIENT], derived_for=ours),
            [WORKERS, CLIENT],
            2,
            "undecryptable",
        ),
    ]
    return {
        "about": "Bodies sealed by HPKE to one reader or two, by hand; what `ours` opens, and what it refuses.",
        "rfc9180": RFC_9180_A_1_1,
        "keys": {
            name: {
                "private": key.private_bytes_raw().hex(),
                "public": public(key).hex(),
                "id": key_id(key).hex(),
            }
            for name, key in {"workers": WORKERS, "client": CLIENT, "stranger": STRANGER}.items()
        },
        "ours": "workers",
        "signer": SIGNER.hex(),
        "session": SESSION.hex(),
        "sequence": SEQUENCE,
        "secret": SECRET.hex(),
        "salt": SALT.hex(),
        "cases": [
            {
                "what": what,
                "kind": kind,
                "recipients": [key_id(reader).hex() for reader in readers],
                "body": (seal(found, kind, readers) if body is None else body).hex(),
                **({"refusal": found} if isinstance(found, str) else {"clear": found.hex()}),
            }
            for what, body, readers, kind, found in cases
        ],
    }
