"""The suite of `Recording` brokers and result backends."""
# ruff: noqa: D102 - the name of a test is its sentence
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import Broker
from cardoon.exceptions import ImproperlyConfigured
from cardoon.records import MAX_FRAME_BYTES, MAX_RECORDS, Record, Recording
from cardoon.testing.setting import BrokerFixtures, having

_LONG = 60.0
"""Seconds in real time after which a test gives up on something that should happen soon."""

_WRITERS = 8
_WRITES = 12


class RecordingTests:
    """What a store of records must do. A subclass has a fixture `recording`."""

    def test_a_record_is_made_written_and_dropped(self, recording: Recording) -> None:
        everything = bytes(range(256))
        assert recording.put_record("schedule", "a", everything, revision=0)
        made = dict(recording.records("schedule"))
        assert recording.put_record("schedule", "a", b"", revision=1)
        written = dict(recording.records("schedule"))

        assert made == {"a": Record(1, everything)}
        assert written == {"a": Record(2, b"")}
        assert recording.drop_record("schedule", "a", revision=2)
        assert dict(recording.records("schedule")) == {}

    def test_who_names_another_revision_changes_nothing(self, recording: Recording) -> None:
        assert not recording.put_record("schedule", "a", b"never", revision=1)
        assert not recording.drop_record("schedule", "a", revision=0)
        assert not recording.drop_record("schedule", "a", revision=1)
        recording.put_record("schedule", "a", b"one", revision=0)
        recording.put_record("schedule", "a", b"two", revision=1)

        for revision in (0, 1, 3):
            assert not recording.put_record("schedule", "a", b"never", revision=revision)
            assert not recording.drop_record("schedule", "a", revision=revision)
        assert dict(recording.records("schedule")) == {"a": Record(2, b"two")}

    def test_a_record_that_was_dropped_is_made_anew(self, recording: Recording) -> None:
        recording.put_record("schedule", "a", b"one", revision=0)
        recording.put_record("schedule", "a", b"two", revision=1)
        recording.drop_record("schedule", "a", revision=2)

        assert not recording.put_record("schedule", "a", b"late", revision=2)
        assert recording.put_record("schedule", "a", b"new", revision=0)
        assert dict(recording.records("schedule")) == {"a": Record(1, b"new")}

    def test_kinds_do_not_meet(self, recording: Recording) -> None:
        recording.put_record("schedule", "a", b"one", revision=0)
        recording.put_record("tick", "a", b"two", revision=0)
        recording.put_record("tick", "b", b"three", revision=0)
        recording.drop_record("tick", "a", revision=1)

        assert dict(recording.records("schedule")) == {"a": Record(1, b"one")}
        assert dict(recording.records("tick")) == {"b": Record(1, b"three")}
        assert dict(recording.records("other")) == {}

    def test_names_may_be_any_printable_text(self, recording: Recording) -> None:
        names = ["caf\u00e9 \u2603 ' \" \\ {tag} % $1", "\u2603" * 66, "x" * 200, "0", " a "]
        for name in names:
            assert recording.put_record("schedule", name, name.encode(), revision=0)

        found = recording.records("schedule")

        assert {name: each.frame for name, each in found.items()} == {n: n.encode() for n in names}
        assert all(recording.drop_record("schedule", name, revision=1) for name in names)

    def test_the_longest_frame_is_kept_whole(self, recording: Recording) -> None:
        frame = bytes(range(256)) * (MAX_FRAME_BYTES // 256)
        recording.put_record("schedule", "a", frame, revision=0)

        assert recording.records("schedule")["a"].frame == frame

    @pytest.mark.parametrize("kind", ["", "Schedule", "a b", "k" * 33, "a\n"])
    def test_what_is_no_kind_is_refused(self, recording: Recording, kind: str) -> None:
        with pytest.raises(ImproperlyConfigured, match="kind"):
            recording.records(kind)
        with pytest.raises(ImproperlyConfigured, match="kind"):
            recording.put_record(kind, "a", b"", revision=0)
        with pytest.raises(ImproperlyConfigured, match="kind"):
            recording.drop_record(kind, "a", revision=1)

    @pytest.mark.parametrize("name", ["", "x" * 201, "\u2603" * 67, "a\x00b", "a\nb", "\udc80"])
    def test_what_is_no_name_is_refused(self, recording: Recording, name: str) -> None:
        with pytest.raises(ImproperlyConfigured, match="schedule record"):
            recording.put_record("schedule", name, b"", revision=0)
        with pytest.raises(ImproperlyConfigured, match="schedule record"):
            recording.drop_record("schedule", name, revision=1)

    def test_a_frame_that_is_too_long_is_refused(self, recording: Recording) -> None:
        with pytest.raises(ImproperlyConfigured, match="65536"):
            recording.put_record("schedule", "a", b"x" * (MAX_FRAME_BYTES + 1), revision=0)
        with pytest.raises(ImproperlyConfigured, match="revision"):
            recording.put_record("schedule", "a", b"", revision=-1)

        assert dict(recording.records("schedule")) == {}

    @pytest.mark.slow
    def test_there_is_a_bound_on_records(self, recording: Recording) -> None:
        def make(numbers: range) -> bool:
            return all(recording.put_record("tick", f"n{one}", b"x", revision=0) for one in numbers)

        with ThreadPoolExecutor(_WRITERS) as threads:
            parts = [range(part, MAX_RECORDS, _WRITERS) for part in range(_WRITERS)]
            assert all(threads.map(make, parts))

        with pytest.raises(ImproperlyConfigured, match="10000 records"):
            recording.put_record("tick", "one more", b"x", revision=0)
        assert not recording.put_record("tick", "n7", b"x", revision=0)
        assert recording.put_record("tick", "n7", b"y", revision=1)
        assert recording.put_record("schedule", "another kind", b"x", revision=0)
        assert len(recording.records("tick")) == MAX_RECORDS
        assert recording.drop_record("tick", "n7", revision=2)
        assert recording.put_record("tick", "one more", b"x", revision=0)

    def test_of_many_that_write_a_revision_one_does(self, recording: Recording) -> None:
        start = threading.Barrier(_WRITERS)

        def write(who: int) -> list[bool]:
            won = []
            for revision in range(_WRITES):
                start.wait(_LONG)
                frame = f"{who} {revision}".encode()
                won.append(recording.put_record("tick", "a", frame, revision=revision))
            return won

        with ThreadPoolExecutor(_WRITERS) as threads:
            writing = [threads.submit(write, who) for who in range(_WRITERS)]
            won = [each.result(_LONG) for each in writing]

        assert [sum(each) for each in zip(*won, strict=True)] == [1] * _WRITES
        last = [who for who in range(_WRITERS) if won[who][-1]]
        frame = f"{last[0]} {_WRITES - 1}".encode()
        assert dict(recording.records("tick")) == {"a": Record(_WRITES, frame)}

    def test_of_many_that_drop_and_make_a_record_one_does(self, recording: Recording) -> None:
        recording.put_record("tick", "a", b"", revision=0)
        start = threading.Barrier(_WRITERS)

        def drop_and_make(_: int) -> tuple[bool, bool]:
            start.wait(_LONG)
            dropped = recording.drop_record("tick", "a", revision=1)
            start.wait(_LONG)
            return dropped, recording.put_record("tick", "a", b"", revision=0)

        with ThreadPoolExecutor(_WRITERS) as threads:
            dropped, made = zip(*threads.map(drop_and_make, range(_WRITERS)), strict=True)

        assert (sum(dropped), sum(made)) == (1, 1)


class RecordingSuite(RecordingTests, BrokerFixtures):
    """Records of brokers."""

    @pytest.fixture
    def recording(self, broker: Broker) -> Recording:
        return having(broker, Recording)

    def test_records_are_there_when_it_is_opened_again(
        self, broker: Broker, recording: Recording
    ) -> None:
        recording.put_record("schedule", "a", b"one", revision=0)
        broker.close()

        assert dict(recording.records("schedule")) == {"a": Record(1, b"one")}
