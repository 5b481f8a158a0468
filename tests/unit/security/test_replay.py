"""What makes a message unique."""

from __future__ import annotations

from cardoon.message import protocol
from cardoon.security.replay import MAX_SEQUENCE, make_nonce


def test_no_signer_can_use_up_the_nonces_of_another():
    alice = make_nonce(b"a" * 32, b"session-of-16-by", 0, 1.0)
    mallory = make_nonce(b"m" * 32, b"session-of-16-by", 0, 1.0)

    assert alice.session != mallory.session


def test_sessions_and_numbers_tell_messages_apart():
    nonces = {
        make_nonce(b"a" * 32, session, number, 1.0)[:2]
        for session in (bytes(16), b"\x01" * 16)
        for number in (0, 1)
    }

    assert len(nonces) == 4
    assert {len(session) for session, _ in nonces} == {16}


def test_a_store_and_the_protocol_agree_on_how_long_a_session_is():
    assert MAX_SEQUENCE == protocol.MAX_SEQUENCE == 8192
