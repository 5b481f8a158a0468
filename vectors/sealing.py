"""Opens sealed bodies as docs/protocol.md describes them."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from wire import Bad

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
SALT, COMMITMENT, WRAPPED, TAG = 10, 32, 80, 16


def key_id_of(private: X25519PrivateKey) -> bytes:
    """What a recipient is called."""
    public = private.public_key().public_bytes_raw()
    return hashlib.sha256(b"cardoon/1 key\x00" + public).digest()[:16]


def open_body(vectors: dict[str, Any], case: dict[str, Any]) -> bytes:
    """The clear body; `Bad` with the reason of refusal."""
    ours = X25519PrivateKey.from_private_bytes(
        bytes.fromhex(vectors["keys"][vectors["ours"]]["private"])
    )
    signer, session = bytes.fromhex(vectors["signer"]), bytes.fromhex(vectors["session"])
    recipients = [bytes.fromhex(one) for one in case["recipients"]]
    if key_id_of(ours) not in recipients:
        raise Bad("unknown-key")
    body = bytes.fromhex(case["body"])
    end = SALT + COMMITMENT + WRAPPED * len(recipients)
    if len(body) < end + TAG:
        raise Bad("undecryptable")
    place = SALT + COMMITMENT + WRAPPED * recipients.index(key_id_of(ours))
    info = b"cardoon/1 seal\x00" + signer + session + key_id_of(ours)
    context = signer + session + bytes([case["kind"]])
    nonce = vectors["sequence"].to_bytes(2, "big") + body[:SALT]
    try:
        secret = HPKE.decrypt(body[place : place + WRAPPED], ours, info)
        told = b"cardoon/1 body\x00" + context + b"".join(recipients)
        derived = hmac.digest(secret, told, "sha512")
        if not hmac.compare_digest(derived[32:], body[SALT : SALT + COMMITMENT]):
            raise Bad("undecryptable")
        return AESGCM(derived[:32]).decrypt(nonce, body[end:], context)
    except (InvalidTag, ValueError) as error:
        raise Bad("undecryptable") from error
