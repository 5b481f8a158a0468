"""Sealed bodies: our code opens what was made by hand, and refuses what it must."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import Encryption, Kind
from cardoon.message.protocol import Suite as BodySuite
from cardoon.security.sealing import Context, KeyPair, Seal, Sealer, Unsealer, key_id_of
from tests.vectors import generate, sealed

VECTORS = json.loads((generate.FOLDER / "seal.json").read_text(encoding="utf-8"))
CASES = VECTORS["cases"]


class Ring:
    """The keys of one party."""

    def __init__(self, *names):
        keys = (bytes.fromhex(VECTORS["keys"][name]["private"]) for name in names)
        self._pairs = [KeyPair(X25519PrivateKey.from_private_bytes(key)) for key in keys]

    def find(self, key_id):
        return next((pair for pair in self._pairs if key_id_of(pair.public) == key_id), None)


def context_of(case):
    return Context(
        bytes.fromhex(VECTORS["signer"]),
        bytes.fromhex(VECTORS["session"]),
        VECTORS["sequence"],
        Kind(case["kind"]),
    )


def encryption_of(case):
    return Encryption(BodySuite.X25519, tuple(map(bytes.fromhex, case["recipients"])))


def test_the_hand_made_hpke_is_that_of_the_rfc():
    rfc = {name: bytes.fromhex(text) for name, text in sealed.RFC_9180_A_1_1.items()}
    recipient = X25519PrivateKey.from_private_bytes(rfc["recipient"])
    ephemeral = X25519PrivateKey.from_private_bytes(rfc["ephemeral"])

    enc, key, nonce = sealed.schedule(ephemeral, sealed.public(recipient), rfc["info"])

    assert (enc, key, nonce) == (rfc["enc"], rfc["key"], rfc["base_nonce"])
    assert AESGCM(key).encrypt(nonce, rfc["plaintext"], rfc["aad"]) == rfc["ciphertext"]


def test_the_library_opens_what_the_hand_made_hpke_has_sealed():
    info = b"cardoon/1 seal\x00" + sealed.SIGNER + sealed.SESSION + sealed.key_id(sealed.WORKERS)
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)

    assert suite.decrypt(sealed.wrap(sealed.WORKERS), sealed.WORKERS, info) == sealed.SECRET


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["what"])
def test_what_was_made_by_hand_is_opened_or_refused(case):
    unsealer = Unsealer(Ring(VECTORS["ours"]))
    found = None

    try:
        clear = unsealer.open(encryption_of(case), context_of(case), bytes.fromhex(case["body"]))
    except RefusedError as error:
        clear, found = None, error.reason

    assert found == case.get("refusal")
    assert clear is None or clear.hex() == case["clear"]


def test_every_word_of_an_unsealer_has_a_vector():
    said = {case["refusal"] for case in CASES if "refusal" in case}

    assert said == {Refusal.UNKNOWN_KEY, Refusal.UNDECRYPTABLE}


@pytest.mark.parametrize(
    "case", [case for case in CASES if "clear" in case], ids=lambda c: c["what"]
)
def test_what_our_code_seals_is_opened_by_hand(case):
    """With other keys each time, so nothing but the layout can be compared."""
    readers = [sealed.WORKERS, sealed.CLIENT][: len(case["recipients"])]
    clear = bytes.fromhex(case["clear"])
    context = context_of(case)

    seal = Seal(tuple(map(sealed.public, readers)))

    batch = Sealer().begin_batch(context.signer, most=1)
    claimed, body = batch.seal(seal, (context.session, context.sequence), context.kind, clear)

    assert claimed.recipients == tuple(map(sealed.key_id, readers))
    assert len(body) == 10 + 32 + 80 * len(readers) + len(clear) + 16
    told = context.signer + context.session + bytes((context.kind,))
    secrets = set()
    for place, reader in enumerate(readers):
        info = b"cardoon/1 seal\x00" + context.signer + context.session + sealed.key_id(reader)
        wrapped = body[42 + 80 * place : 122 + 80 * place]
        suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
        secrets.add(suite.decrypt(wrapped, reader, info))
    [secret] = secrets
    derived, commitment = sealed.derive(told, readers, secret)
    assert body[10:42] == commitment
    nonce = context.sequence.to_bytes(2, "big") + body[:10]
    assert AESGCM(derived).decrypt(nonce, body[42 + 80 * len(readers) :], told) == clear
