"""Writes `vectors/v1`. The same bytes each time: nothing here is random.

    python -m tests.vectors.generate

The vectors are free of our decoder: `vectors/check.py` recomputes them with other tools.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cardoon.message import cbor, envelope, merkle
from cardoon.message.claims import encode_claims
from cardoon.message.protocol import (
    Claims,
    Compose,
    Encryption,
    GroupMember,
    Kind,
    Label,
    Suite,
    Take,
)

HERE = Path(__file__).parent
FOLDER = Path(__file__).parents[2] / "vectors" / "v1"
NOW = 1_790_000_000
DOMAIN = b"test"
BODY = b'[[1,2],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
ID = "00000000-0000-4000-8000-00000000000{}"

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
P256 = ec.derive_private_key(int.from_bytes(bytes(range(1, 33)), "big"), ec.SECP256R1())
RSA = serialization.load_pem_private_key((HERE / "rsa2048-test-key.pem").read_bytes(), None)


def task(number=0, **changes):
    """The claims of the first vector, or of those beside it in a batch."""
    return Claims(
        kind=Kind.TASK,
        task="tests.add",
        id=ID.format(number),
        audience=("q:celery",),
        issued_at=NOW,
        valid_until=NOW + 86_400,
        session=bytes(range(16)),
        sequence=number,
        digest=hashlib.sha256(BODY).digest(),
        codec="application/json",
        length=len(BODY),
        root=ID.format(0),
        retries=0,
        max_retries=3,
    )._replace(**changes)


def key_id(name):
    return hashlib.sha256(f"cardoon test certificate {name}".encode()).digest()


def sign(key, algorithm, to_sign):
    """Sign the same each time, also where that is not how it is done in earnest."""
    match algorithm:
        case -19:
            return key.sign(to_sign)
        case -9:
            digest = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
            r, s = decode_dss_signature(key.sign(to_sign, digest))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        case _:
            return sign_pss(key, {-37: "sha256", -38: "sha384", -39: "sha512"}[algorithm], to_sign)


def sign_pss(key, name, to_sign):
    """RSASSA-PSS (RFC 8017, 8.1.1) with a salt that is known."""
    numbers = key.private_numbers()
    size = key.key_size // 8
    digest = hashlib.new(name, to_sign).digest()
    salt = bytes(range(len(digest)))
    hashed = hashlib.new(name, bytes(8) + digest + salt).digest()
    block = bytes(size - len(salt) - len(hashed) - 2) + b"\x01" + salt
    mask = b"".join(
        hashlib.new(name, hashed + counter.to_bytes(4, "big")).digest()
        for counter in range(size // len(hashed) + 1)
    )
    masked = bytearray(left ^ right for left, right in zip(block, mask, strict=False))
    masked[0] &= 0x7F
    encoded = int.from_bytes(bytes(masked) + hashed + b"\xbc", "big")
    return pow(encoded, numbers.d, numbers.public_numbers.n).to_bytes(size, "big")


def public_pem(key):
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def signed_frame(
    claims, body=BODY, *, key=ED25519, algorithm=-19, fingerprint=None, domain=DOMAIN, chain=()
):
    header = envelope.protected_header(algorithm, fingerprint or key_id("1"), batch=False)
    signature = sign(key, algorithm, envelope.bytes_to_sign(header, domain, claims))
    start = envelope.begin_single(header, chain=chain)
    return envelope.build_signed(start, claims, signature, body)


def batch_frames(all_claims, body=BODY, *, fingerprint=None, domain=DOMAIN):
    header = envelope.protected_header(-19, fingerprint or key_id("1"), batch=True)
    tree = merkle.build_tree(all_claims)
    to_sign = envelope.bytes_to_sign(header, domain, tree.root, size=len(all_claims))
    signature = ED25519.sign(to_sign)
    return [
        envelope.build_signed(start, claims, signature, body)
        for start, claims in zip(
            envelope.begin_batch(header, paths=tree.proofs), all_claims, strict=True
        )
    ]


def cbor_valid_vectors():
    valid = {
        "00": 0,
        "17": 23,
        "1818": 24,
        "18ff": 255,
        "190100": 256,
        "19ffff": 65_535,
        "1a00010000": 65_536,
        "1b0000000100000000": 1 << 32,
        "1bffffffffffffffff": (1 << 64) - 1,
        "20": -1,
        "3818": -25,
        "60": "",
        "62c3a9": "é",
        "64f09f8c8a": "\U0001f30a",
        "80": [],
        "83010203": [1, 2, 3],
        "a0": {},
        "8181818181818181" + "00": [[[[[[[[0]]]]]]]],
        "f4": False,
        "f5": True,
        "f6": None,
    }
    return {
        "about": "Values in their one encoding (RFC 8949, 4.2.1, without floats and tags).",
        "cases": [{"hex": encoded, "value": value} for encoded, value in valid.items()],
    }


def cbor_invalid_vectors():
    invalid = {
        "": "nothing at all",
        "1817": "an integer that is not in its shortest form",
        "1900ff": "an integer that is not in its shortest form",
        "1a0000ffff": "an integer that is not in its shortest form",
        "1b00000000ffffffff": "an integer that is not in its shortest form",
        "580100": "a length that is not in its shortest form",
        "5f4100ff": "an indefinite byte string",
        "7f6161ff": "an indefinite text",
        "9f00ff": "an indefinite array",
        "bf0000ff": "an indefinite map",
        "1c": "a reserved length",
        "4200": "a byte string that is cut off",
        "8201": "an array that is cut off",
        "9bffffffffffffffff": "an array of a length that cannot be",
        "61ff": "text that is not UTF-8",
        "63eda080": "half a surrogate pair",
        "a201000100": "a key twice",
        "a202000100": "keys that do not ascend",
        "a2616100410000": "keys that do not ascend in their encoding",
        "a1f500": "a boolean as key",
        "a18000": "an array as key",
        "c11a00000000": "a tag",
        "f90000": "a float",
        "fb0000000000000000": "a float",
        "f7": "undefined",
        "e0": "an unassigned simple value",
        "f8ff": "an unassigned simple value",
        "0000": "a second value behind the first",
        "818181818181818181" + "00": "nine levels",
    }
    return {
        "about": "Bytes that are no value of the profile; a receiver must refuse each.",
        "cases": [{"hex": encoded, "what": what} for encoded, what in invalid.items()],
    }


def claims_map(claims):
    fields = cbor.decode(encode_claims(claims))
    return {str(label): as_json(value) for label, value in fields.items()}


def as_json(value):
    """A value of CBOR, with bytes in hexadecimal."""
    if isinstance(value, list):
        return [as_json(one) for one in value]
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def claims_vectors():
    valid = {
        "the first vector": task(),
        "everything that a task may say": task(
            7,
            audience=("q:celery", "x:topic/orders.*"),
            parent=ID.format(6),
            group=GroupMember("group-1", 2, 5),
            eta=NOW * 1000 + 5_000,
            expires=NOW * 1000 + 9_000,
            retries=1,
            headers=b'{"timelimit":[30,20]}',
            request=hashlib.sha256(b"earlier claims").digest(),
        ),
        "a task whose sender listens for the result": task(reply="shop." + "0f" * 16),
        "a result": task(kind=Kind.RESULT, audience=(), request=bytes(range(32)), retries=None),
        "the body of a chord": task(
            compose=Compose(Take.RESULTS, 3, hashlib.sha256(b"three digests").digest())
        ),
        "a sealed task, whose result is sealed to its sender as well": task(
            encryption=Encryption(Suite.X25519, (bytes(range(16)),), bytes(range(32)))
        ),
        "a sealed result": task(
            kind=Kind.RESULT,
            audience=(),
            request=bytes(range(32)),
            retries=None,
            encryption=Encryption(Suite.X25519, (bytes(range(16)), bytes(range(16, 32)))),
        ),
        "a keyset": task(
            kind=Kind.KEYSET,
            task="workers",
            id="workers",
            audience=(),
            retries=None,
            max_retries=None,
        ),
        "an event": task(kind=Kind.EVENT, task="", audience=(), retries=None, max_retries=None),
        "a command": task(kind=Kind.CONTROL, task="revoke", audience=("*",), retries=None),
        "letters beyond ASCII": task(task="läden.zahlung", id="größe-ß"),
    }
    usual = cbor.decode(encode_claims(task()))
    invalid = {
        "an unknown label": {**usual, 24: 0},
        "an address that is a number": {**usual, int(Label.REPLY): 1},
        "an address with a line break": {**usual, int(Label.REPLY): "shop\n0f"},
        "an address of 129 bytes": {**usual, int(Label.REPLY): "a" * 129},
        "a command that asks for a result": {
            **{label: value for label, value in usual.items() if label not in {17, 18}},
            1: int(Kind.CONTROL),
            # No longer than a command may be, or that would be what is wrong.
            int(Label.VALID_UNTIL): NOW + 60,
            int(Label.REPLY): "shop.0f",
        },
        "the results of none": {**usual, int(Label.COMPOSE): [1, 0, bytes(32)]},
        "one result of two": {**usual, int(Label.COMPOSE): [0, 2, bytes(32)]},
        "something else of one": {**usual, int(Label.COMPOSE): [3, 1, bytes(32)]},
        "sealed by an unknown suite": {**usual, int(Label.ENCRYPTION): [2, bytes(16), b""]},
        "sealed to nobody": {**usual, int(Label.ENCRYPTION): [1, b"", b""]},
        "sealed to three": {**usual, int(Label.ENCRYPTION): [1, bytes(48), b""]},
        "a reply key of 31 bytes": {**usual, int(Label.ENCRYPTION): [1, bytes(16), bytes(31)]},
        "no audience": {label: value for label, value in usual.items() if label != 4},
        "no retries": {label: value for label, value in usual.items() if label != 17},
        "the number beyond the session": {**usual, 8: 8192},
        "a session of 15 bytes": {**usual, 7: bytes(15)},
        "a digest of 31 bytes": {**usual, 9: bytes(31)},
        "a task name as bytes": {**usual, 2: b"tests.add"},
        "a task name with a line break": {**usual, 2: "tests\nadd"},
        "an audience of 65": {**usual, 4: ["q"] * 65},
        "more retries than allowed": {**usual, 17: 4},
        "a kind of a later version": {**usual, 1: int(Kind.GRANT)},
        "a kind that is text": {**usual, 1: "task"},
        "valid until before it was issued": {**usual, 6: NOW - 1},
        "the sixth of five members": {**usual, 14: ["group-1", 5, 5]},
        "an array instead of a map": [1, 2],
    }
    return {
        "about": "Claims as one map, and maps that no message may have.",
        "valid": [
            {"what": what, "hex": encode_claims(claims).hex(), "claims": claims_map(claims)}
            for what, claims in valid.items()
        ],
        "invalid": [
            {"what": what, "hex": cbor.encode(fields).hex()} for what, fields in invalid.items()
        ]
        + [
            {
                "what": "a byte behind the encryption, which is the last that may be said",
                "hex": cbor.encode({**usual, int(Label.ENCRYPTION): [1, bytes(16), b""]}).hex()
                + "00",
            }
        ],
    }


def sign1_vectors():
    vectors = []
    for name, key, algorithm, certificate in [
        ("Ed25519", ED25519, -19, "1"),
        ("ESP256", P256, -9, "2"),
        ("PS256", RSA, -37, "3"),
        ("PS384", RSA, -38, "3"),
        ("PS512", RSA, -39, "3"),
    ]:
        header = envelope.protected_header(algorithm, key_id(certificate), batch=False)
        claims = encode_claims(task())
        to_sign = envelope.bytes_to_sign(header, DOMAIN, claims)
        signature = sign(key, algorithm, to_sign)
        start = envelope.begin_single(header)
        frame = envelope.build_signed(start, claims, signature, b"")
        vectors.append(
            {
                "name": name,
                "algorithm": algorithm,
                "public_key": public_pem(key),
                "key_id": key_id(certificate).hex(),
                "domain": DOMAIN.decode(),
                "external_aad": (b"cardoon/1\x00" + DOMAIN).hex(),
                "protected": header.hex(),
                "claims": claims.hex(),
                "sig_structure_sha256": hashlib.sha256(to_sign).hexdigest(),
                "signature": signature.hex(),
                # Without the empty body behind it.
                "envelope": frame[:-1].hex(),
            }
        )
    return {
        "about": "COSE_Sign1 by each algorithm. `seed` is the Ed25519 key of the first.",
        "seed": bytes(range(32)).hex(),
        "vectors": vectors,
    }


def batch_vectors():
    trees = []
    for size in (1, 2, 3, 7, 8, 255):
        leaves = [f"leaf {number}".encode() for number in range(size)]
        tree = merkle.build_tree(leaves)
        trees.append(
            {
                "size": size,
                "leaves": "'leaf ' and the number, in ASCII",
                "root": tree.root.hex(),
                "proofs": {
                    str(number): tree.proofs[number].hex()
                    for number in sorted({0, size // 2, size - 1})
                },
                "all_proofs_sha256": hashlib.sha256(b"".join(tree.proofs)).hexdigest(),
            }
        )
    all_claims = [encode_claims(task(number)) for number in range(3)]
    frames = batch_frames(all_claims, body=b"")
    return {
        "about": "Trees (RFC 6962, 2.1), audit paths, and three messages under one signature.",
        "trees": trees,
        "signed": {
            "domain": DOMAIN.decode(),
            "public_key": public_pem(ED25519),
            "external_aad": (b"cardoon/1/batch\x00\x00\x00\x00\x03" + DOMAIN).hex(),
            "root": merkle.build_tree(all_claims).root.hex(),
            "claims": [claims.hex() for claims in all_claims],
            "signature": envelope.parse_frame(frames[0]).signature.hex(),
            "envelopes": [frame[:-1].hex() for frame in frames],
        },
    }


def frame_vectors():
    claims = encode_claims(task())
    chain = [b"leaf certificate", b"intermediate certificate"]
    frames = {
        "signed": signed_frame(claims),
        "signed, with the signer's certificate": signed_frame(claims, chain=chain[:1]),
        "signed, with a chain of certificates": signed_frame(claims, chain=chain),
        "the second of a batch of three": batch_frames(
            [encode_claims(task(number)) for number in range(3)]
        )[1],
        "plain": envelope.build_plain(claims, BODY),
    }
    return {
        "about": "Whole frames: an envelope or plain claims, and the body behind.",
        "frames": [{"what": what, "hex": frame.hex()} for what, frame in frames.items()],
        "body": BODY.hex(),
    }


def elsewhere(module, name="vectors"):
    """The vectors of a module that builds on this one, which is why it is imported late."""

    def write():
        return getattr(importlib.import_module(f"tests.vectors.{module}"), name)()

    return write


VECTORS = {
    "cbor-valid": cbor_valid_vectors,
    "cbor-invalid": cbor_invalid_vectors,
    "claims": claims_vectors,
    "sign1": sign1_vectors,
    "batch": batch_vectors,
    "frame": frame_vectors,
    "result": elsewhere("answering", "result"),
    "control": elsewhere("answering", "control"),
    "event": elsewhere("answering", "event"),
    "gate": elsewhere("gating"),
    "trust": elsewhere("trusting"),
    "policy": elsewhere("deciding", "policy"),
    "replay-trace": elsewhere("deciding", "replay_trace"),
    "body": elsewhere("reading", "body"),
    "seal": elsewhere("sealed"),
}


def render(name):
    """The text of one file."""
    return json.dumps(VECTORS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in VECTORS:
        (FOLDER / f"{each}.json").write_text(render(each), encoding="utf-8")
