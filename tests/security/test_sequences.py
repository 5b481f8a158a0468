"""A signer who tries to make a replay store grow without bound."""

from __future__ import annotations

import pytest

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message import cbor, envelope
from cardoon.message.claims import parse_claims
from cardoon.message.protocol import Kind, Label
from cardoon.security.replay import MAX_SEQUENCE
from cardoon.testing import FakeClock
from tests.security.actors import BODY, DOMAIN, draft, make_gate, make_person, pin

ALICE = make_person("alice")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gate(tmp_path, clock):
    return make_gate(pin(tmp_path, ALICE), clock)


def numbered(clock, sequence):
    """A message by a trusted signer who numbers it as they like."""
    [signed] = ALICE.signer(clock).sign([draft()])
    frame = envelope.parse_frame(signed.frame)
    fields = cbor.decode(frame.claims)
    fields[int(Label.SEQUENCE)] = sequence
    claims = cbor.encode(fields)
    to_sign = envelope.bytes_to_sign(frame.protected, DOMAIN.encode(), claims)
    start = envelope.begin_single(frame.protected)
    return envelope.build_signed(start, claims, ALICE.key.sign(to_sign), BODY)


def test_the_last_number_of_a_session_is_accepted(gate, clock):
    message = gate.open(numbered(clock, MAX_SEQUENCE - 1), kind=Kind.TASK)

    assert message.nonce.sequence == 8191


@pytest.mark.parametrize("sequence", [MAX_SEQUENCE, 2**32 - 1, 2**64 - 1, -1])
def test_no_number_beyond_is(gate, clock, sequence):
    with pytest.raises(RefusedError) as refused:
        gate.open(numbered(clock, sequence), kind=Kind.TASK)

    assert refused.value.reason is Refusal.BAD_CLAIMS


def test_a_copy_of_a_message_has_its_nonce(gate, clock):
    [signed] = ALICE.signer(clock).sign([draft()])

    first, copy = (gate.open(signed.frame, kind=Kind.TASK) for _ in range(2))

    assert first.nonce == copy.nonce


def test_nobody_has_the_nonce_of_another(tmp_path, clock):
    bob = make_person("bob")
    gate = make_gate(pin(tmp_path, ALICE, bob), clock)
    [by_alice] = ALICE.signer(clock).sign([draft()])
    [by_bob] = bob.signer(clock).sign([draft()])

    mine, other = (gate.open(each.frame, kind=Kind.TASK) for each in (by_alice, by_bob))

    sessions = {
        parse_claims(envelope.parse_frame(each.frame).claims).session for each in (by_alice, by_bob)
    }
    assert len(sessions) == 1, "both chose the same session"
    assert mine.nonce.sequence == other.nonce.sequence
    assert mine.nonce.session != other.nonce.session
