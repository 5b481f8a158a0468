"""Small messages that would become large, deep or slow."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import cbor, envelope
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON_ZLIB, decode_body
from cardoon.security.gate import Limits
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, draft, make_gate, make_person, pin

ALICE = make_person("alice")
HEADER = envelope.protected_header(-19, ALICE.fingerprint, batch=False)
MIB = 1 << 20


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gate(tmp_path, clock):
    return make_gate(pin(tmp_path, ALICE), clock, limits=Limits(max_body=MIB))


def refusal_of(gate, frame):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=Kind.TASK)
    return refused.value.reason


def by_alice(claims):
    """A frame with claims of our choice that a trusted signer has signed."""
    to_sign = envelope.bytes_to_sign(HEADER, DOMAIN.encode(), claims)
    start = envelope.begin_single(HEADER)
    return envelope.build_signed(start, claims, ALICE.key.sign(to_sign), b"")


@pytest.mark.parametrize("layer", [zlib.compress, lambda body: zlib.compress(zlib.compress(body))])
def test_a_compressed_body_stays_compressed_at_the_gate(gate, clock, layer):
    bomb = layer(bytes(100 * MIB))
    [signed] = ALICE.signer(clock).sign([draft(body=bomb, codec=JSON_ZLIB)])
    tracemalloc.start()

    try:
        message = gate.open(signed.frame, kind=Kind.TASK)
        with pytest.raises(RefusedError) as refused:
            decode_body(message.claims.codec, message.body, max_bytes=MIB)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert refused.value.reason in {Refusal.BOMB, Refusal.UNDECODABLE}
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    "frame",
    [
        b"\xd2\x84" + b"\x81" * MIB,
        b"\xd2\x84" + cbor.byte_string(HEADER) + b"\xa1" * MIB,
        b"\x81" * MIB,
        b"\x5b" + b"\xff" * 8,
        b"\xd2\x84\x5b" + b"\xff" * 8,
        b"\xd2\x84" + cbor.byte_string(HEADER) + b"\xbb" + b"\xff" * 8,
        b"\xd2\x84" + cbor.byte_string(HEADER) + b"\xa1\x18\x21\x9b" + b"\xff" * 8,
    ],
)
def test_lengths_and_depths_are_not_believed(gate, frame):
    tracemalloc.start()

    try:
        reason = refusal_of(gate, frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert reason in {Refusal.MALFORMED, Refusal.UNSIGNED}
    assert peak < 2 * MIB


@pytest.mark.parametrize(
    "claims",
    [
        b"\xbb" + b"\xff" * 8,
        b"\xb7" + b"\x01\x01\x02" + b"\x7b" + b"\xff" * 8,
        b"\xa1\x01" + b"\x81" * 60_000,
        b"\xa1\x04\x9b" + b"\xff" * 8,
        b"\xa1\x04\x99\xff\xff" + b"\x60" * 50_000,
        b"\xa1" * 60_000,
    ],
)
def test_a_trusted_signer_cannot_bend_the_claims_either(gate, claims):
    assert refusal_of(gate, by_alice(claims)) is Refusal.BAD_CLAIMS
