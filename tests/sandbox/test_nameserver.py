"""The name server of a list: answers as resolvers expect, and is not impressed by garbage."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.sandbox.loop import Loop
from cardoon.sandbox.nameserver import NameServer, answer

NAMES = {"db.internal": "127.64.0.1"}


def query(name: str, kind: int = 1, *, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(one)]) + one.encode() for one in name.split(".") if one)
    return (
        struct.pack("!6H", number, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack("!2H", kind, 1)
    )


def test_a_listed_name_has_its_address_in_any_spelling() -> None:
    told = answer(query("DB.Internal"), NAMES)

    number, flags, questions, answers, *_ = struct.unpack_from("!6H", told)
    assert (number, flags & 0x800F, questions, answers) == (7, 0x8000, 1, 1)
    assert told[12:].startswith(query("DB.Internal")[12:])
    assert told.endswith(socket.inet_aton("127.64.0.1"))


@pytest.mark.parametrize(("name", "code"), [("db.internal", 0), ("other.internal", 3)])
def test_there_is_no_other_address_and_no_other_name(name: str, code: int) -> None:
    told = answer(query(name, 28), NAMES)

    _, flags, _, answers, *_ = struct.unpack_from("!6H", told)
    assert (flags & 0xF, answers) == (code, 0)


@given(st.binary(max_size=80))
def test_garbage_is_a_value_error_or_an_answer(garbage: bytes) -> None:
    for one in (garbage, query("db.internal")[:12] + garbage):
        with contextlib.suppress(ValueError):
            assert answer(one, NAMES)[:2] == one[:2]


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff" + bytes(600), b"\0\1x", b"\0\x0c" + bytes(12)]
    + [b"\0\x1d" + query("db.internal")] * 1,
)
def test_a_connection_ends_with_what_is_no_query_or_in_time(sent: bytes, monkeypatch) -> None:
    monkeypatch.setattr("cardoon.sandbox.nameserver.SECONDS", 0.3)
    loop, ended = Loop(), []
    ours, theirs = socket.socketpair()
    NameServer(loop, ours, NAMES, on_closed=lambda: ended.append(True))
    with theirs:
        theirs.sendall(sent)
        while not ended:
            loop.turn(1)
        got = theirs.recv(4096)
        assert (b"\x7f\x40\0\1" in got) == (b"internal" in sent)
    assert ended == [True]
    loop.close()


def test_queries_without_end_lose_their_connection() -> None:
    loop, ended = Loop(), []
    ours, theirs = socket.socketpair()
    NameServer(loop, ours, NAMES, on_closed=lambda: ended.append(True))
    one = query("db.internal")
    with theirs:
        theirs.sendall((len(one).to_bytes(2, "big") + one) * 40)
        while not ended:
            loop.turn(1)
        assert theirs.recv(1 << 16).count(b"\x7f\x40\0\1") == 32
    loop.close()
