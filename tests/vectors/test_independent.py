"""The vectors without any of our code: with cbor2, hashlib and `cryptography` alone."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

HERE = Path(__file__).parent
HASHES = {-37: hashes.SHA256(), -38: hashes.SHA384(), -39: hashes.SHA512()}


def load(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def sha256(content):
    return hashlib.sha256(content).digest()


def sig_structure(protected, context, payload):
    return cbor2.dumps(["Signature1", protected, context, payload])


def verify(key, algorithm, signature, content):
    match algorithm:
        case -19:
            key.verify(signature, content)
        case -9:
            r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
            key.verify(encode_dss_signature(r, s), content, ec.ECDSA(hashes.SHA256()))
        case _:
            digest = HASHES[algorithm]
            salted = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
            key.verify(signature, content, salted, digest)


def items_of(encoded):
    """The items of a CBOR sequence, each with the bytes it came from."""
    stream = io.BytesIO(encoded)
    while stream.tell() < len(encoded):
        yield cbor2.load(stream)


def plain(value):
    """What cbor2 read, in the types of JSON and bytes."""
    if isinstance(value, bytes | str | int):
        return value
    if hasattr(value, "items"):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value]


def from_json(value):
    """The value that a vector shows, its bytes in hexadecimal."""
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


@pytest.mark.parametrize("case", load("cbor")["valid"], ids=lambda case: case["hex"])
def test_cbor(case):
    encoded = bytes.fromhex(case["hex"])

    assert cbor2.loads(encoded) == case["value"]
    assert cbor2.dumps(case["value"], canonical=True) == encoded


@pytest.mark.parametrize("case", load("claims")["valid"], ids=lambda case: case["what"])
def test_claims(case):
    written = {int(label): from_json(value) for label, value in case["claims"].items()}

    assert plain(cbor2.loads(bytes.fromhex(case["hex"]))) == written
    assert cbor2.dumps(written, canonical=True).hex() == case["hex"]


@pytest.mark.parametrize("case", load("sign1")["vectors"], ids=lambda case: case["name"])
def test_sign1(case):
    key = load_pem_public_key(case["public_key"].encode())
    protected, claims, signature, context = (
        bytes.fromhex(case[name]) for name in ("protected", "claims", "signature", "external_aad")
    )
    content = sig_structure(protected, context, claims)

    verify(key, case["algorithm"], signature, content)

    assert context == b"cardoon/1\x00" + case["domain"].encode()
    assert protected == cbor2.dumps({1: case["algorithm"], 4: bytes.fromhex(case["key_id"])})
    assert sha256(content).hex() == case["sig_structure_sha256"]
    whole = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, claims, signature]))
    assert whole.hex() == case["envelope"]
    with pytest.raises(InvalidSignature):
        verify(key, case["algorithm"], signature, sig_structure(protected, b"other", claims))


def test_ed25519_is_signed_the_same():
    vectors = load("sign1")
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vectors["seed"]))
    first = vectors["vectors"][0]
    protected, claims, context = (
        bytes.fromhex(first[name]) for name in ("protected", "claims", "external_aad")
    )

    assert key.sign(sig_structure(protected, context, claims)).hex() == first["signature"]


def tree_hash(leaves):
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0])
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:]))


def audit_path(number, leaves):
    if len(leaves) == 1:
        return b""
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if number < split:
        return audit_path(number, leaves[:split]) + tree_hash(leaves[split:])
    return audit_path(number - split, leaves[split:]) + tree_hash(leaves[:split])


@pytest.mark.parametrize("case", load("batch")["trees"], ids=lambda case: str(case["size"]))
def test_trees(case):
    leaves = [f"leaf {number}".encode() for number in range(case["size"])]

    assert tree_hash(leaves).hex() == case["root"]
    for number, proof in case["proofs"].items():
        assert audit_path(int(number), leaves).hex() == proof


def test_a_signed_batch():
    vector = load("batch")["signed"]
    claims = [bytes.fromhex(each) for each in vector["claims"]]
    root = tree_hash(claims)
    signature = bytes.fromhex(vector["signature"])

    for number, encoded in enumerate(vector["envelopes"]):
        tag = cbor2.loads(bytes.fromhex(encoded))
        protected, unprotected, payload, signed = tag.value
        [(label, (size, position, path))] = unprotected.items()

        assert (tag.tag, payload, signed) == (18, claims[number], signature)
        assert (label, size, position, path) == (396, 3, number, audit_path(number, claims))
        context = b"cardoon/1/batch\x00" + size.to_bytes(4, "big") + vector["domain"].encode()
        assert context.hex() == vector["external_aad"]
        key = load_pem_public_key(vector["public_key"].encode())
        verify(key, -19, signature, sig_structure(protected, context, root))
    assert root.hex() == vector["root"]


@pytest.mark.parametrize("case", load("frame")["frames"], ids=lambda case: case["what"])
def test_frames(case):
    head, body = items_of(bytes.fromhex(case["hex"]))

    claims = head if isinstance(head, bytes) else head.value[2]
    assert body.hex() == load("frame")["body"]
    assert plain(cbor2.loads(claims))[9] == sha256(body)
    assert plain(cbor2.loads(claims))[11] == len(body)


def test_a_result():
    vector = load("result")
    head, body = items_of(bytes.fromhex(vector["frame"]))

    claims = plain(cbor2.loads(head.value[2]))

    assert claims[1] == 2
    assert claims[21] == sha256(bytes.fromhex(vector["request"]))
    assert body.hex() == vector["body"]
