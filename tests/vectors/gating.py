"""Vectors of the gate: whole frames, and the reason for which each is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import json

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from cardoon.message import cbor, envelope
from cardoon.message.claims import encode_claims
from cardoon.message.protocol import Compose, Kind, Take
from tests.vectors.generate import (
    BODY,
    DOMAIN,
    ED25519,
    ID,
    NOW,
    OTHER,
    P256,
    batch_frames,
    signed_frame,
    task,
)


def certificate(key, name, *, begins=-3600, ends=86_400, serial=1):
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    is_ed25519 = isinstance(key, ed25519.Ed25519PrivateKey)
    deterministic = None if is_ed25519 else True
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(start + dt.timedelta(seconds=begins))
        .not_valid_after(start + dt.timedelta(seconds=ends))
        .sign(key, None if is_ed25519 else hashes.SHA256(), ecdsa_deterministic=deterministic)
    )


def vectors():
    people = {
        "alice": certificate(ED25519, "alice", ends=7 * 86_400),
        "expired": certificate(ED25519, "expired", ends=-1),
        "early": certificate(ED25519, "early", begins=3600),
        "revoked": certificate(ED25519, "revoked"),
        "paula": certificate(P256, "paula"),
    }
    prints = {
        name: each.fingerprint(hashes.SHA256())
        for name, each in {**people, "nobody": certificate(OTHER, "nobody")}.items()
    }
    usual = encode_claims(task())

    def by(name, claims=usual, body=BODY, **options):
        return signed_frame(claims, body, fingerprint=prints[name], **options)

    def changed(frame, at, bits=1):
        copy = bytearray(frame)
        copy[at] ^= bits
        return bytes(copy)

    batch = batch_frames(
        [encode_claims(task(number)) for number in range(3)], fingerprint=prints["alice"]
    )
    size_at = batch[0].index(b"\x19\x01\x8c\x83") + 4
    plain = envelope.build_plain(usual, BODY)
    mixed_forms = batch[0].replace(
        envelope.protected_header(-19, prints["alice"], batch=True),
        envelope.protected_header(-19, prints["alice"], batch=False),
    )
    mixed_forms = mixed_forms.replace(b"\xd2\x84\x58\x2b", b"\xd2\x84\x58\x26")
    single = envelope.parse_frame(by("alice"))
    without_proof = envelope.build_signed(
        envelope.begin_single(envelope.protected_header(-19, prints["alice"], batch=True)),
        usual,
        single.signature,
        BODY,
    )
    long_path = batch[0].replace(b"\x58\x40", b"\x58\x60" + bytes(32), 1)
    cases = [
        ("a task", by("alice"), None, {}),
        ("a member of a batch", batch[2], None, {}),
        ("nothing", b"", "malformed", {}),
        ("no frame", b"\xff" * 40, "malformed", {}),
        ("an envelope over 64 KiB", by("alice", bytes(65_536)), "too-large", {}),
        ("no signature", plain, "unsigned", {}),
        ("a byte behind the end", by("alice") + b"\x00", "malformed", {}),
        ("a signer whom nobody knows", by("nobody", key=OTHER), "unknown-signer", {}),
        (
            "another algorithm than the key's",
            by("alice", algorithm=-9, key=P256),
            "unknown-signer",
            {},
        ),
        ("a certificate of tomorrow", by("early"), "certificate-not-yet-valid", {}),
        ("a certificate of yesterday", by("expired"), "certificate-expired", {}),
        ("a certificate that was revoked", by("revoked"), "certificate-revoked", {}),
        ("the key of somebody else", by("alice", key=OTHER), "bad-signature", {}),
        ("another domain", by("alice", domain=b"prod"), "bad-signature", {}),
        ("a batch of another size", changed(batch[0], size_at, 3 ^ 4), "bad-signature", {}),
        ("one changed bit in the claims", changed(by("alice"), 80), "bad-signature", {}),
        ("claims that are none", by("alice", b"\xa0"), "bad-claims", {}),
        ("the number beyond the session", by("alice", over(8, 8192)), "bad-claims", {}),
        ("a task where results are read", by("alice"), "wrong-kind", {"kind": 2}),
        ("a message from the future", by("alice"), "issued-in-future", {"now": NOW - 61}),
        ("a message of last week", by("alice"), "expired", {"now": NOW + 86_400 + 60}),
        ("another queue", by("alice"), "wrong-audience", {"audience": ["q:admin"]}),
        ("a longer body", by("alice", body=BODY + b" "), "wrong-length", {}),
        ("another body", by("alice", body=BODY.replace(b"1", b"2")), "wrong-digest", {}),
        (
            "a codec that runs code",
            by("alice", encode_claims(task(codec="application/x-python-serialize"))),
            "codec-not-accepted",
            {},
        ),
        (
            "a codec with an unknown compression",
            by("alice", encode_claims(task(codec="application/json+brotli"))),
            "codec-not-accepted",
            {},
        ),
        ("plain claims where they are accepted", plain, None, {"accept": ["json"]}),
        (
            "a signature where none is accepted",
            by("alice"),
            "content-not-accepted",
            {"accept": ["json"]},
        ),
        ("a proof under the header of one alone", mixed_forms, "malformed", {}),
        ("no proof under the header of a batch", without_proof, "malformed", {}),
        ("a path that is too long", long_path, "malformed", {}),
        ("a position behind the end", changed(batch[2], size_at + 1, 2 ^ 3), "malformed", {}),
        ("another position", changed(batch[0], size_at + 1, 0 ^ 1), "bad-signature", {}),
        *((what, frame, None, {}) for what, frame in malleable(prints["paula"])),
        *input_cases(by),
        *place_cases(by),
        ("another task's answer", by("alice"), "wrong-request", {"id": ID.format(1)}),
        ("another request's answer", by("alice"), "wrong-request", {"request": "00" * 32}),
    ]
    return {
        "about": "Frames, and what the gate says of each. Where none is named, its nonce is given.",
        "domain": DOMAIN.decode(),
        "now": NOW,
        "kind": int(Kind.TASK),
        "audience": ["q:celery"],
        "pins": {
            name: each.public_bytes(serialization.Encoding.PEM).decode()
            for name, each in people.items()
        },
        "revoked": [f"sha256:{prints['revoked'].hex()}"],
        "cases": [
            {
                "what": what,
                "frame": compact(frame),
                "refusal": refusal,
                **(nonce_of(frame) if refusal is None else {}),
                **options,
            }
            for what, frame, refusal, options in cases
        ],
    }


def nonce_of(frame):
    """By what a message is known again, whoever changes its wrapping."""
    parsed = envelope.parse_frame(frame)
    claims = cbor.decode(parsed.claims)
    protected = getattr(parsed, "protected", b"")
    print_of_signer = cbor.decode(protected)[4] if protected else b""
    session = hashlib.sha256(b"cardoon/1/nonce\x00" + print_of_signer + claims[7]).digest()[:16]
    return {
        "nonce": [session.hex(), claims[8]],
        "request": request_of(parsed.claims).hex(),
    }


def request_of(encoded):
    """What a result of a task message is held against: its name, and the digest of its claims."""
    said = cbor.decode(encoded)
    name, digest = said[2], digest_of(encoded)
    if 21 in said:  # it takes the place of another
        name, digest = json.loads(said.get(20, b"{}")).get("asked", name), said[21]
    return hashlib.sha256(b"cardoon/1/request\x00" + name.encode() + digest).digest()


def place_cases(by):
    """Tasks that take another's place, and so are answered as that one."""
    digest = digest_of(encode_claims(task(1)))

    def placed(**changes):
        return by("alice", encode_claims(task(1, request=digest, **changes)))

    return [
        ("in another's place, of the same name", placed(), None, {}),
        ("in the place of a task of another name", placed(headers=b'{"asked":"a"}'), None, {}),
        ("of one without a name", placed(headers=b'{"asked":""}'), "bad-claims", {}),
        ("of one whose name is no text", placed(headers=b'{"asked":7}'), "bad-claims", {}),
        ("of one that cannot be printed", placed(headers=b'{"asked":"\\n"}'), "bad-claims", {}),
        (
            "of none, though it names one",
            by("alice", encode_claims(task(headers=b'{"asked":7}'))),
            None,
            {},
        ),
    ]


def digest_of(encoded):
    return hashlib.sha256(encoded).digest()


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def malleable(fingerprint):
    """Two signatures that both fit, of which one was made without the key: (r, s) and (r, n - s)."""
    frame = signed_frame(encode_claims(task(1)), key=P256, algorithm=-9, fingerprint=fingerprint)
    signature = envelope.parse_frame(frame).signature
    other = P256_ORDER - int.from_bytes(signature[32:], "big")
    twin = frame.replace(signature, signature[:32] + other.to_bytes(32, "big"))
    return [
        ("ECDSA (r, s)", frame),
        ("ECDSA (r, n - s): the same message, with the same nonce", twin),
    ]


def input_cases(by):
    """A task that waits for two others, and what a store may put beside it."""
    body = b'{"result":3}'
    asked = [encode_claims(task(number)) for number in (1, 2)]
    requests = [request_of(claims) for claims in asked]
    digests = dict(zip(requests, map(digest_of, asked), strict=True))
    waits = task(3, compose=Compose(Take.RESULTS, 2, hashlib.sha256(b"".join(requests)).digest()))
    one = task(
        4,
        compose=Compose(Take.RESULT, 1, hashlib.sha256(requests[0]).digest()),
    )

    def answer(number, request, **changes):
        claims = task(
            number,
            kind=Kind.RESULT,
            audience=(),
            request=digests.get(request, request),
            digest=hashlib.sha256(body).digest(),
            length=len(body),
            max_retries=None,
            **changes,
        )
        return by("alice", encode_claims(claims), body).hex()

    beside = [
        {"id": ID.format(number), "request": request.hex(), "frame": answer(number, request)}
        for number, request in zip((1, 2), requests, strict=True)
    ]
    gone = [{**beside[0], "frame": None}, beside[1]]
    false = [{**beside[0], "frame": beside[1]["frame"]}, beside[1]]
    other = [{**beside[0], "frame": answer(1, bytes(32))}, beside[1]]
    old = [
        {**beside[0], "frame": answer(1, requests[0], issued_at=1000, valid_until=2000)},
        beside[1],
    ]
    renamed = [{**beside[0], "frame": answer(1, requests[0], task="tests.other")}, beside[1]]
    frame = by("alice", encode_claims(waits))
    return [
        ("the results of two", frame, None, {"inputs": beside}),
        ("of which one is gone", frame, None, {"inputs": gone}),
        ("of which one is old", frame, None, {"inputs": old}),
        ("the result of one", by("alice", encode_claims(one)), None, {"inputs": beside[:1]}),
        ("in another order", frame, "wrong-input", {"inputs": beside[::-1]}),
        ("of which one is missing", frame, "wrong-input", {"inputs": beside[:1]}),
        ("results that nobody waits for", by("alice"), "wrong-input", {"inputs": beside}),
        ("another's result under its id", frame, "wrong-request", {"inputs": false}),
        ("the result of another request", frame, "wrong-request", {"inputs": other}),
        ("a result of a task of another name", frame, "wrong-request", {"inputs": renamed}),
        ("under its own id", by("alice"), None, {"lies_under": ID.format(0)}),
        ("under another id", by("alice"), "wrong-id", {"lies_under": ID.format(1)}),
        ("a worker's copy", by("alice"), None, {"lies_under": ID.format(0) + ">news>host"}),
        (
            "a copy of what others wait for",
            by("alice", encode_claims(task(headers=b'{"links":true}'))),
            "wrong-id",
            {"lies_under": ID.format(0) + ">news>host"},
        ),
    ]


def over(label, value):
    """Claims in which one has another value than we would sign."""
    return cbor.encode({**cbor.decode(encode_claims(task())), label: value})


def compact(frame):
    """Hexadecimal, with a long run of zeros as `(zeros N)`."""
    text = frame.hex()
    run = "00" * 65_536
    return text.replace(run, "(zeros 65536)")
