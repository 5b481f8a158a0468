"""Somebody who holds the broker changes messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import envelope
from cardoon.message.envelope import parse_frame
from cardoon.message.protocol import Kind
from cardoon.testing import FakeClock
from tests.security.actors import draft, make_gate, make_person, p256_key, pin, rsa_key

CLOCK = FakeClock()
PEOPLE = {
    "Ed25519": make_person("alice"),
    "P-256": make_person("pat", key=p256_key()),
    "RSA": make_person("rob", key=rsa_key()),
}
KNOWN_BEFORE_OR_BY_THE_SIGNATURE = {
    Refusal.MALFORMED,
    Refusal.UNSIGNED,
    Refusal.TOO_LARGE,
    Refusal.UNKNOWN_SIGNER,
    Refusal.BAD_SIGNATURE,
}
BODY_CHANGED = {Refusal.WRONG_LENGTH, Refusal.WRONG_DIGEST}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    return make_gate(pin(tmp_path_factory.mktemp("pins"), *PEOPLE.values()), CLOCK)


def frames_of(name, count):
    signed = PEOPLE[name].signer(CLOCK).sign([draft(number) for number in range(count)])
    return [each.frame for each in signed]


SINGLE = frames_of("Ed25519", 1)[0]
MEMBER = frames_of("Ed25519", 5)[2]
FRAMES = {
    "single": SINGLE,
    "member": MEMBER,
    "P-256": frames_of("P-256", 1)[0],
    "RSA": frames_of("RSA", 1)[0],
}


def refusal_of(gate, frame):
    with pytest.raises(RefusedError) as refused:
        gate.open(frame, kind=Kind.TASK)
    return refused.value.reason


@pytest.mark.parametrize("form", FRAMES)
def test_no_bit_can_be_changed(gate, form):
    frame = FRAMES[form]
    assert gate.open(frame, kind=Kind.TASK)
    body_at = len(frame) - len(parse_frame(frame).body)

    for bit in range(len(frame) * 8):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        reason = refusal_of(gate, bytes(changed))

        expected = BODY_CHANGED if bit // 8 >= body_at else KNOWN_BEFORE_OR_BY_THE_SIGNATURE
        assert reason in expected, bit


@pytest.mark.parametrize("form", FRAMES)
def test_nothing_can_be_cut_off(gate, form):
    frame = FRAMES[form]

    for kept in range(len(frame)):
        assert refusal_of(gate, frame[:kept]) in {Refusal.MALFORMED, Refusal.UNSIGNED}


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.parametrize("more", [b"\x00", b"\xa0", b"\x40", b"\xf6"])
def test_nothing_can_be_added(gate, form, more):
    frame = FRAMES[form]

    assert refusal_of(gate, frame + more) is Refusal.MALFORMED
    assert refusal_of(gate, more + frame) in {Refusal.MALFORMED, Refusal.UNSIGNED}


@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_no_bytes_can_be_replaced(gate, form, data):
    frame = FRAMES[form]
    start = data.draw(st.integers(0, len(frame) - 1))
    stop = data.draw(st.integers(start + 1, len(frame)))
    put = data.draw(st.binary(max_size=40))
    changed = frame[:start] + put + frame[stop:]

    if changed != frame:
        refusal_of(gate, changed)


def rebuilt(frame, **parts):
    """A frame of other parts, in the form that ours have."""
    new = parse_frame(frame)._replace(**parts)
    if new.proof is None:
        start = envelope.begin_single(new.protected, chain=new.chain)
    else:
        paths = [b""] * new.proof.size
        paths[new.proof.position] = new.proof.path
        start = envelope.begin_batch(new.protected, chain=new.chain, paths=paths)[
            new.proof.position
        ]
    return envelope.build_signed(start, new.claims, new.signature, new.body)


def test_rebuilding_changes_nothing_by_itself():
    for frame in FRAMES.values():
        assert rebuilt(frame) == frame


@pytest.mark.parametrize("part", ["claims", "signature", "protected"])
def test_parts_of_two_messages_make_no_third(gate, part):
    [other] = PEOPLE["P-256"].signer(CLOCK).sign([draft(7)])
    third = rebuilt(SINGLE, **{part: getattr(parse_frame(other.frame), part)})

    assert refusal_of(gate, third) is Refusal.BAD_SIGNATURE


def test_the_body_of_another_message_is_refused(gate):
    [signed] = PEOPLE["Ed25519"].signer(CLOCK).sign([draft(body=b"[[9,9],{},{}]")])
    same_length = b"[[8,8],{},{}]"

    assert refusal_of(gate, rebuilt(signed.frame, body=same_length)) is Refusal.WRONG_DIGEST
    assert refusal_of(gate, rebuilt(signed.frame, body=b"")) is Refusal.WRONG_LENGTH


@pytest.mark.parametrize("part", ["claims", "proof"])
def test_members_of_a_batch_cannot_change_places(gate, part):
    first, second = frames_of("Ed25519", 2)
    mixed = rebuilt(first, **{part: getattr(parse_frame(second), part)})

    assert refusal_of(gate, mixed) is Refusal.BAD_SIGNATURE


def test_a_member_of_one_batch_is_none_of_another(gate):
    signer = PEOPLE["Ed25519"].signer(CLOCK)
    one = signer.sign([draft(0), draft(1)])[0].frame
    other = signer.sign([draft(2), draft(3)])[0].frame
    gate.open(one, kind=Kind.TASK)
    gate.open(other, kind=Kind.TASK)

    mixed = rebuilt(one, signature=parse_frame(other).signature)

    assert refusal_of(gate, mixed) is Refusal.BAD_SIGNATURE


def test_a_signature_that_was_removed_is_missed(gate):
    frame = parse_frame(SINGLE)

    assert refusal_of(gate, envelope.build_plain(frame.claims, frame.body)) is Refusal.UNSIGNED
