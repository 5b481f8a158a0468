"""Frames: taken apart exactly as they were put together."""

from __future__ import annotations

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import MessageError, Refusal, RefusedError
from cardoon.message import cbor, envelope
from cardoon.message.envelope import PlainFrame, Proof, SignedFrame, parse_frame

KEY_ID = bytes(range(32))
PROTECTED = envelope.protected_header(-19, KEY_ID, batch=False)
certificates = st.lists(st.binary(min_size=1, max_size=50), max_size=envelope.MAX_CHAIN)


def single(claims=b"claims", signature=bytes(64), body=b"body", chain=()):
    start = envelope.begin_single(PROTECTED, chain=chain)
    return envelope.build_signed(start, claims, signature, body)


def with_unprotected(encoded):
    """A frame with other unprotected headers than we would write."""
    return single().replace(PROTECTED + b"\xa0", PROTECTED + encoded, 1)


@given(st.binary(max_size=300), st.binary(max_size=100), st.binary(max_size=300), certificates)
def test_a_signed_frame_is_taken_apart_again(claims, signature, body, chain):
    frame = single(claims, signature, body, chain)

    assert parse_frame(frame) == SignedFrame(PROTECTED, tuple(chain), None, claims, signature, body)


@given(st.lists(st.binary(max_size=96), min_size=2, max_size=30), certificates)
def test_the_frames_of_a_batch_are_taken_apart_again(paths, chain):
    starts = envelope.begin_batch(PROTECTED, chain=chain, paths=paths)

    for position, (start, path) in enumerate(zip(starts, paths, strict=True)):
        frame = parse_frame(envelope.build_signed(start, b"claims", b"signature", b"body"))

        assert frame == SignedFrame(
            PROTECTED,
            tuple(chain),
            Proof(len(paths), position, path),
            b"claims",
            b"signature",
            b"body",
        )


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_plain_frame_is_taken_apart_again(claims, body):
    assert parse_frame(envelope.build_plain(claims, body)) == PlainFrame(claims, body)


def test_an_independent_reader_sees_a_cose_sign1_and_a_byte_string():
    frame = single(chain=(b"leaf", b"between"))
    length = len(frame) - 5

    sign1 = cbor2.loads(frame[:length])

    protected, unprotected, claims, signature = sign1.value
    assert (sign1.tag, protected, claims, signature) == (18, PROTECTED, b"claims", bytes(64))
    assert list(unprotected) == [33]
    assert list(unprotected[33]) == [b"leaf", b"between"]
    assert cbor2.loads(frame[length:]) == b"body"


def test_one_certificate_stands_for_itself():
    frame = single(chain=(b"leaf",))

    assert cbor2.loads(frame[:-5]).value[1] == {33: b"leaf"}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_our_own_errors(data):
    for frame in (data, b"\xd2\x84" + data, with_unprotected(data)):
        with contextlib.suppress(MessageError, RefusedError):
            parse_frame(frame)


@given(st.binary(max_size=60), st.data())
def test_a_frame_cut_short_or_prolonged_is_refused(body, data):
    frame = single(body=body)
    kept = data.draw(st.integers(0, len(frame) - 1))

    with pytest.raises(MessageError):
        parse_frame(frame[:kept])
    with pytest.raises(MessageError):
        parse_frame(frame + b"\x00")


@pytest.mark.parametrize(
    ("unprotected", "what"),
    [
        ({1: 2}, "unknown unprotected label 1"),
        ({4: b"kid"}, "unknown unprotected label 4"),
        ({33: []}, "list of 0"),
        ({33: [b"one"]}, "list of 1"),
        ({33: [b"c"] * 9}, "list of 9"),
        ({33: "text"}, "major type"),
        ({33: [b"c", "text"]}, "major type"),
        ({33: 5}, "major type"),
        ({396: []}, "proof of 0"),
        ({396: [1, 2]}, "proof of 2"),
        ({396: [1, 2, b"", 4]}, "proof of 4"),
        ({396: [1, 2, [b""]]}, "major type"),
        ({396: ["1", 2, b""]}, "major type"),
        ({396: [1, -2, b""]}, "major type"),
        ({396: b""}, "major type"),
        ([], "major type"),
    ],
)
def test_other_unprotected_headers_are_refused(unprotected, what):
    with pytest.raises(MessageError, match=what):
        parse_frame(with_unprotected(cbor.encode(unprotected)))


@pytest.mark.parametrize(
    "encoded", [b"\xa2\x18\x21\x41c\x18\x21\x41c", b"\xa2\x19\x01\x8c\x83\x02\x00\x40\x18\x21\x41c"]
)
def test_unprotected_headers_must_ascend(encoded):
    with pytest.raises(MessageError, match="ascend"):
        parse_frame(with_unprotected(encoded))


@pytest.mark.parametrize(
    "start",
    [
        b"\x84",  # no tag
        b"\xd1\x84",  # COSE_Mac0
        b"\xd8\x12\x84",  # tag 18, not in its shortest form
        b"\xd2\x85",
        b"\xd2\x9f",
    ],
)
def test_another_start_is_refused(start):
    with pytest.raises(MessageError):
        parse_frame(start + single()[2:])


def test_an_envelope_over_64_kib_is_too_large():
    room = envelope.MAX_ENVELOPE - len(single(b"", body=b"")) - 1
    parse_frame(single(bytes(room), body=bytes(100_000)))

    with pytest.raises(RefusedError) as refused:
        parse_frame(single(bytes(room + 1), body=bytes(100_000)))

    assert refused.value.reason is Refusal.TOO_LARGE


@pytest.mark.parametrize(("protected", "signature"), [(129, 64), (40, 1025)])
def test_no_header_or_signature_is_that_long(protected, signature):
    start = envelope.begin_single(bytes(protected))

    with pytest.raises(MessageError, match="over"):
        parse_frame(envelope.build_signed(start, b"claims", bytes(signature), b""))


def test_what_is_signed_differs_by_domain_and_by_size():
    signed = {
        envelope.bytes_to_sign(PROTECTED, domain, b"payload", size=size)
        for domain in (b"test", b"prod", b"")
        for size in (0, 2, 3)
    }

    assert len(signed) == 9


def test_what_is_signed_is_a_sig_structure():
    assert cbor2.loads(envelope.bytes_to_sign(PROTECTED, b"test", b"payload")) == [
        "Signature1",
        PROTECTED,
        b"cardoon/1\x00test",
        b"payload",
    ]
    assert cbor2.loads(envelope.bytes_to_sign(PROTECTED, b"test", b"root", size=3))[2] == (
        b"cardoon/1/batch\x00\x00\x00\x00\x03test"
    )
