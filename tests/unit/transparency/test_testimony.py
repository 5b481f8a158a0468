"""What others keep of a log shows whether it still begins as it did."""

from __future__ import annotations

import itertools
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from cardoon.transparency.notes import Note, sign_note
from cardoon.transparency.testimony import (
    MAX_STEPS,
    OLD_STEPS,
    ForkError,
    begin_testimony,
    parse_testimony,
)
from cardoon.transparency.tree import Frontier, Span, hash_leaf

ORIGIN = "CN=worker/host/0123456789abcdef"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def trusting(frame, statement):
    if frame != b"a worker":
        raise ValueError("nobody who is trusted")
    return "CN=worker"


class Log:
    """A log that testifies to itself."""

    def __init__(self, lines=(), *, identity=b"a worker"):
        self.tree = Frontier()
        self.lines = []
        self.certificate = self.sign(key=KEY.public_key().public_bytes_raw(), identity=identity)
        self.write(*lines)
        self.testimony = None

    def write(self, *lines):
        for line in lines:
            self.lines.append(line)
            self.tree.append(hash_leaf(line))

    def sign(self, *, time=0, key=KEY, **more):
        note = Note(
            origin=ORIGIN,
            size=self.tree.size,
            root=self.tree.root(),
            epoch=0,
            time=time,
            **_of(key, more),
        )
        return sign_note(note, KEY)

    def testify(self, *, time=0, young_seconds=100):
        note = self.sign(time=time)
        if self.testimony is None:
            self.testimony = begin_testimony(note, self.certificate, self.tree)
        else:
            span = Span(self.testimony.size)
            for line in self.lines[self.testimony.size :]:
                span.append(hash_leaf(line))
            self.testimony = self.testimony.extend(
                note, self.certificate, span, now=time, young_seconds=young_seconds
            )
        return self.testimony


def _of(key, more):
    return more if key is KEY else {"key": key, **more}


def read(testimony):
    told = parse_testimony(testimony.encode())
    told.check(trusting)
    return told


def lines(*numbers):
    return [f"record {number}\n".encode() for number in numbers]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_a_log_that_only_grows_never_contradicts_what_was_seen_of_it(counts):
    log, seen, written = Log(), [], 0
    for time, count in enumerate(counts):
        log.write(*lines(*range(written, written + count)))
        written += count
        seen.append(read(log.testify(time=time, young_seconds=5)))
    for before, after in itertools.pairwise(seen):
        assert before.find_conflict(after, is_recent=True) is None
    for before in seen:
        assert before.find_conflict(seen[-1], is_recent=False) is None
    assert len(seen[-1].steps) <= OLD_STEPS + 8


def test_young_steps_stay_as_long_as_there_is_room():
    log = Log()
    for number in range(50):
        log.write(*lines(number))
        log.testify(time=number)
    assert len(log.testimony.steps) == MAX_STEPS
    assert len(read(log.testimony).encode()) < 20_000


def test_a_shorter_log_is_named_a_rollback():
    log = Log(lines(0, 1, 2))
    seen = read(log.testify())

    conflict = seen.find_conflict(read(Log(lines(0, 1)).testify()), is_recent=False)

    assert conflict.is_rollback
    assert conflict.detail == "2 records are signed, and 3 were"


def test_other_records_in_a_log_of_the_same_size_are_a_fork():
    seen = read(Log(lines(0, 1, 2)).testify())
    conflict = seen.find_conflict(read(Log(lines(0, 7, 2)).testify()), is_recent=False)
    assert not conflict.is_rollback
    assert "first 3 records" in conflict.detail


def test_a_log_that_was_written_anew_and_has_grown_since_does_not_lead_from_what_was_seen():
    log, other = Log(lines(0)), Log(lines(0))
    for one, text in ((log, lines(1, 2)), (other, lines(7, 2, 3))):
        one.testify()
        one.write(*text)
        one.testify()
    seen, told = read(log.testimony), read(other.testimony)

    assert "nothing shows" in seen.find_conflict(told, is_recent=True).detail
    assert seen.find_conflict(told, is_recent=False) is None  # who was away for long cannot tell
    stranger = read(Log(lines(0, 7, 2, 3)).testify())
    assert "nothing shows" in seen.find_conflict(stranger, is_recent=False).detail


def test_a_way_that_leads_elsewhere_is_a_fork_though_all_is_signed():
    log = Log(lines(0, 1, 2))
    log.testify()
    log.write(*lines(3))
    told = json.loads(log.testify().encode())
    told["steps"][0][2] = Log(lines(0, 7, 2)).tree.nodes[0].hex() + told["steps"][0][2][64:]

    with pytest.raises(ForkError, match="leads elsewhere"):
        read(parse_testimony(json.dumps(told).encode()))


def test_only_an_identity_that_is_trusted_testifies():
    with pytest.raises(ValueError, match="nobody who is trusted"):
        read(Log(lines(0), identity=b"somebody").testify())

    log = Log(lines(0))
    log.testify()
    log.certificate = sign_note(log.certificate.note, Ed25519PrivateKey.generate())
    with pytest.raises(ValueError, match="signed by another key"):
        read(log.testify())


@pytest.mark.parametrize(
    "change",
    [
        {"newest": ["note"]},
        {"certificate": 7},
        {"steps": [[1, 0, ["00"]]]},
        {"steps": []},
        {"steps": None},
        {"steps": [[1, 0, "00"]]},
        {"steps": [[True, 0, "00" * 32]]},
        {"steps": [[2**60, 0, ""]]},
        {"steps": [[1, 0, "00" * 32]] * 40},
        {"steps": [[2, 0, "00" * 32], [1, 0, "00" * 32]]},
        {"steps": [[1, 0, 5]]},
        {"steps": [[1, 0]]},
        {"newest": "a note"},
        {"newest": 5},
        {"certificate": None},
    ],
)
def test_what_is_no_testimony_is_refused_before_it_is_believed(change):
    told = {**json.loads(Log(lines(0)).testify().encode()), **change}
    with pytest.raises(ValueError):  # noqa: PT011 - each says something else
        parse_testimony(json.dumps(told).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 60_000, b"0" * 70_000])
def test_bytes_that_are_no_testimony_are_refused(content):
    with pytest.raises(ValueError, match="testimony"):
        parse_testimony(content)
