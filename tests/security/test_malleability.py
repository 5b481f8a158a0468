"""Somebody makes another valid message of a valid one, without any key."""

from __future__ import annotations

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import envelope
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.testing import FakeClock
from tests.security.actors import draft, make_gate, make_person, p256_key, pin

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PAT = make_person("pat", key=p256_key())
ALICE = make_person("alice")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gate(tmp_path, clock):
    return make_gate(pin(tmp_path, PAT, ALICE), clock)


def refusal_of(gate, frame):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=Kind.TASK)
    return refused.value.reason


def test_the_other_half_of_an_ecdsa_signature_is_the_same_message_again(gate, clock):
    """(r, n - s) is as valid as (r, s); so nothing may count on the bytes of a signature."""
    [signed] = PAT.signer(clock).sign([draft()])
    frame = parse_frame(signed.frame)
    r, s = frame.signature[:32], int.from_bytes(frame.signature[32:], "big")
    other_half = r + (P256_ORDER - s).to_bytes(32, "big")
    twin = envelope.build_signed(
        envelope.begin_single(frame.protected), frame.claims, other_half, frame.body
    )
    assert twin != signed.frame

    first = gate.open(signed.frame, kind=Kind.TASK)
    second = gate.open(twin, kind=Kind.TASK)

    assert (first.nonce, first.request) == (second.nonce, second.request)


@pytest.mark.parametrize("r", [0, P256_ORDER, 2**256 - 1])
def test_numbers_outside_of_the_group_are_no_signature(gate, clock, r):
    [signed] = PAT.signer(clock).sign([draft()])
    frame = parse_frame(signed.frame)
    number = r.to_bytes(32, "big")

    for signature in (number * 2, number + frame.signature[32:], frame.signature[:32] + number):
        forged = envelope.build_signed(
            envelope.begin_single(frame.protected), frame.claims, signature, frame.body
        )
        assert refusal_of(gate, forged) is Refusal.BAD_SIGNATURE


def test_an_ecdsa_signature_has_one_length(gate, clock):
    [signed] = PAT.signer(clock).sign([draft()])
    frame = parse_frame(signed.frame)
    r, s = frame.signature[:32], frame.signature[32:]
    start = envelope.begin_single(frame.protected)

    for signature in (r + b"\x00" + s, r + bytes(32) + s, frame.signature + b"\x00"):
        forged = envelope.build_signed(start, frame.claims, signature, frame.body)
        assert refusal_of(gate, forged) is Refusal.BAD_SIGNATURE


def test_an_ed25519_signature_has_one_spelling(gate, clock):
    """S + L is the same number modulo the order, and must not be taken for it (RFC 8032, 5.1.7)."""
    order = 2**252 + 27742317777372353535851937790883648493
    [signed] = ALICE.signer(clock).sign([draft()])
    frame = parse_frame(signed.frame)
    s = int.from_bytes(frame.signature[32:], "little")
    twin = frame.signature[:32] + (s + order).to_bytes(32, "little")

    forged = envelope.build_signed(
        envelope.begin_single(frame.protected), frame.claims, twin, frame.body
    )

    assert refusal_of(gate, forged) is Refusal.BAD_SIGNATURE


def member_with(frame, *, size, position, path):
    """A member of a batch with a proof of our choice."""
    entry = b"".join(
        (
            b"\xa1\x19\x01\x8c\x83",
            envelope.cbor.head(0, size),
            envelope.cbor.head(0, position),
            envelope.cbor.byte_string(path),
        )
    )
    start = b"\xd2\x84" + envelope.cbor.byte_string(frame.protected) + entry
    return envelope.build_signed(start, frame.claims, frame.signature, frame.body)


def test_the_size_and_the_place_in_a_batch_cannot_be_changed(gate, clock):
    """The path alone does not fix the size: in many trees the way to a leaf looks the same."""
    batch = [
        parse_frame(signed.frame)
        for signed in ALICE.signer(clock).sign([draft(number) for number in range(6)])
    ]
    for frame in batch:
        true = (frame.proof.size, frame.proof.position)
        assert gate.open(
            member_with(frame, size=true[0], position=true[1], path=frame.proof.path),
            kind=Kind.TASK,
        )
        for size in range(17):
            for position in range(17):
                if (size, position) != true:
                    forged = member_with(frame, size=size, position=position, path=frame.proof.path)
                    assert refusal_of(gate, forged) in {Refusal.MALFORMED, Refusal.BAD_SIGNATURE}


def test_a_batch_is_never_larger_than_agreed(gate, clock):
    frame = parse_frame(ALICE.signer(clock).sign([draft(0), draft(1)])[0].frame)

    for size in (257, 2**32, 2**64 - 1):
        forged = member_with(frame, size=size, position=0, path=bytes(32 * 9))
        assert refusal_of(gate, forged) is Refusal.MALFORMED


def test_certificates_added_on_the_way_change_nothing(gate, clock):
    [signed] = ALICE.signer(clock).sign([draft()])
    frame = parse_frame(signed.frame)
    start = envelope.begin_single(frame.protected, chain=[PAT.der, b"garbage"])
    decorated = envelope.build_signed(start, frame.claims, frame.signature, frame.body)

    assert gate.open(decorated, kind=Kind.TASK) == gate.open(signed.frame, kind=Kind.TASK)
