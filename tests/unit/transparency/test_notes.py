"""Checkpoints as signed notes: one form, one key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cardoon.transparency.notes import Note, NoteError, check_origin, parse_note, sign_note

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
NOTE = Note(origin="shop/web1/ab", size=7, root=bytes(32), epoch=2, time=1700000000, key=PUBLIC)
SIGNED = sign_note(NOTE, KEY)


def test_a_note_says_what_the_form_of_c2sp_wants():
    body, _, signature = SIGNED.encode().decode().partition("\n\n")

    assert body.split("\n")[:4] == [
        "shop/web1/ab",
        "7",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "epoch 2 time 1700000000",
    ]
    assert signature.startswith("\u2014 shop/web1/ab ")
    assert signature.endswith("\n")


def test_a_note_is_read_as_it_was_written():
    read = parse_note(SIGNED.encode())

    assert read == SIGNED
    read.verify(PUBLIC)


def test_another_key_has_not_signed_it():
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()

    with pytest.raises(NoteError, match="another key"):
        SIGNED.verify(other)


@given(st.integers(0, len(SIGNED.encode()) - 1), st.integers(1, 255))
def test_no_byte_of_a_note_can_be_changed(at, change):
    content = bytearray(SIGNED.encode())
    content[at] ^= change

    with pytest.raises(NoteError):
        parse_note(bytes(content)).verify(PUBLIC)


@given(st.binary(max_size=200))
def test_what_is_no_note_is_an_error_and_nothing_else(content):
    with pytest.raises(NoteError):
        parse_note(content)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\n", "gr\u00fcn", "x" * 301])
def test_a_log_has_no_such_name(origin):
    with pytest.raises(ValueError, match="a log's name"):
        check_origin(origin)


def test_a_note_that_is_too_long_is_not_read():
    with pytest.raises(NoteError, match="at most"):
        parse_note(b"x" * 20_000)
