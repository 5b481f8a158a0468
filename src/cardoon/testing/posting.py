"""The suite of `Posting` brokers."""
# ruff: noqa: D102 - the name of a test is its sentence
# A protocol is asked for here, and never made.
# mypy: disable-error-code="type-abstract"

from __future__ import annotations

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.broker import Broker, Maintained
from cardoon.exceptions import ImproperlyConfigured
from cardoon.posting import (
    MAX_BYTES_AT_ONCE,
    MAX_FRAME_BYTES,
    MAX_LIFE_SECONDS,
    MAX_POSTED_AT_ONCE,
    REMEMBERED_SECONDS,
    Posting,
)
from cardoon.testing.clock import FakeClock
from cardoon.testing.setting import BrokerFixtures, having

_LONG = 20.0
"""Seconds in real time after which a test gives up on something that should happen at once."""

_PROMPT = 0.8
"""Less than drivers wait before they look again, so who is back by then was woken."""


def read(posting: Posting, after: int = 0, *, channel: str = "events") -> list[tuple[int, bytes]]:
    """What can be read at this moment."""
    return list(posting.posted(channel, after, limit=MAX_POSTED_AT_ONCE, timeout=0))


class PostingSuite(BrokerFixtures):
    """Frames on channels."""

    @pytest.fixture
    def posting(self, broker: Broker) -> Posting:
        return having(broker, Posting)

    def test_what_is_posted_is_read_whole_and_in_order(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        until = clock.now() + 60
        everything = bytes(range(256)) * 5
        posting.post("events", [everything, b""], expires_at=until, keep=10)
        posting.post("events", [b"three"], expires_at=until, keep=10)

        assert read(posting) == [(1, everything), (2, b""), (3, b"three")]
        assert read(posting, 1) == [(2, b""), (3, b"three")]
        assert read(posting, 3) == []

    def test_reading_takes_nothing_away(self, posting: Posting, clock: FakeClock) -> None:
        posting.post("events", [b"one"], expires_at=clock.now() + 60, keep=10)

        assert [read(posting), read(posting)] == [[(1, b"one")]] * 2

    def test_no_more_than_the_limit_is_read(self, posting: Posting, clock: FakeClock) -> None:
        posting.post("events", [b"1", b"2", b"3"], expires_at=clock.now() + 60, keep=10)

        assert list(posting.posted("events", 0, limit=2, timeout=0)) == [(1, b"1"), (2, b"2")]
        assert list(posting.posted("events", 2, limit=2, timeout=0)) == [(3, b"3")]

    def test_channels_are_numbered_each_by_itself(self, posting: Posting, clock: FakeClock) -> None:
        until = clock.now() + 60
        posting.post("events", [b"a", b"b"], expires_at=until, keep=10)
        posting.post("reply.0f", [b"c"], expires_at=until, keep=10)

        assert read(posting, channel="reply.0f") == [(1, b"c")]
        assert read(posting) == [(1, b"a"), (2, b"b")]
        assert read(posting, channel="reply.00") == []

    def test_a_channel_keeps_the_newest_and_the_gap_is_seen(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        until = clock.now() + 60
        posting.post("events", [b"1", b"2", b"3"], expires_at=until, keep=2)
        posting.post("events", [b"4"], expires_at=until, keep=2)

        assert read(posting, 1) == [(3, b"3"), (4, b"4")]

        posting.post("events", [b"5", b"6", b"7"], expires_at=until, keep=1)
        assert read(posting, 4) == [(7, b"7")]

    def test_posting_nothing_is_nothing(self, posting: Posting, clock: FakeClock) -> None:
        posting.post("events", [], expires_at=clock.now() + 60, keep=1)

        assert (posting.position("events"), read(posting)) == (0, [])

    def test_the_position_is_that_of_the_newest(self, posting: Posting, clock: FakeClock) -> None:
        before = posting.position("events")
        posting.post("events", [b"1", b"2", b"3"], expires_at=clock.now() + 5, keep=1)
        there = posting.position("events")
        self.pass_time(clock, 6)

        assert (before, there, posting.position("events")) == (0, 3, 3)

    def test_what_has_expired_is_gone_and_its_numbers_are_not_used_again(
        self, posting: Posting, broker: Broker, clock: FakeClock
    ) -> None:
        posting.post("events", [b"short"], expires_at=clock.now() + 5, keep=10)
        posting.post("events", [b"long"], expires_at=clock.now() + 60, keep=10)
        self.pass_time(clock, 5)

        assert read(posting) == [(2, b"long")]

        self.pass_time(clock, 60)
        if isinstance(broker, Maintained):
            broker.maintain()
        posting.post("events", [b"new"], expires_at=clock.now() + 60, keep=10)
        assert read(posting) == [(3, b"new")]

    def test_what_has_expired_when_it_is_posted_is_a_gap(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        posting.post("events", [b"late"], expires_at=clock.now() - 5, keep=10)
        posting.post("events", [b"in time"], expires_at=clock.now() + 5, keep=10)

        assert read(posting) == [(2, b"in time")]

    def test_nothing_is_kept_for_longer_than_a_frame_may_live(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        posting.post("events", [b"for ever"], expires_at=1e300, keep=10)
        self.pass_time(clock, MAX_LIFE_SECONDS - 5)
        there = read(posting)
        self.pass_time(clock, 5)

        assert (there, read(posting)) == ([(1, b"for ever")], [])

    def test_a_channel_that_was_forgotten_begins_anew_and_readers_notice(
        self, posting: Posting, broker: Broker, clock: FakeClock
    ) -> None:
        posting.post("events", [b"1", b"2", b"3"], expires_at=clock.now() + 5, keep=10)
        self.pass_time(clock, 5 + REMEMBERED_SECONDS)
        if isinstance(broker, Maintained):
            broker.maintain()
        forgotten = posting.position("events"), read(posting, 3)

        posting.post("events", [b"one"], expires_at=clock.now() + 5, keep=10)

        assert forgotten == (0, [])
        assert read(posting, 3) == [(1, b"one")]

    def test_a_reader_that_waits_is_woken(self, posting: Posting, clock: FakeClock) -> None:
        posting.post("events", [b"old"], expires_at=clock.now() + 60, keep=10)

        def wait(after: int) -> tuple[list[tuple[int, bytes]], float]:
            found = list(posting.posted("events", after, limit=9, timeout=_LONG))
            return found, time.monotonic()

        late = []
        with ThreadPoolExecutor() as threads:
            # Twice, since whoever begins to wait at that moment may look by chance when it is there.
            for number in (2, 3):
                waiting = threads.submit(wait, number - 1)
                time.sleep(0.1)
                posting.post("reply.0f", [b"another"], expires_at=clock.now() + 60, keep=10)
                assert not waiting.done()
                posted_at = time.monotonic()
                posting.post("events", [b"new"], expires_at=clock.now() + 60, keep=10)
                found, back_at = waiting.result(_LONG)
                assert found == [(number, b"new")]
                late.append(back_at - posted_at)

        assert min(late) < _PROMPT

    def test_many_readers_are_woken_by_one_post(self, posting: Posting, clock: FakeClock) -> None:
        with ThreadPoolExecutor(4) as threads:
            waiting = [
                threads.submit(posting.posted, "events", 0, limit=9, timeout=_LONG)
                for _ in range(4)
            ]
            posting.post("events", [b"one"], expires_at=clock.now() + 60, keep=10)

            assert [list(each.result(_LONG)) for each in waiting] == [[(1, b"one")]] * 4

    def test_reading_ends_after_its_timeout(self, posting: Posting) -> None:
        start = time.monotonic()

        assert list(posting.posted("events", 0, limit=9, timeout=0.2)) == []
        assert 0.15 < time.monotonic() - start < _LONG

    def test_threads_that_post_together_lose_nothing(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        until = clock.now() + 60

        def send(part: int) -> None:
            for number in range(20):
                frames = [f"{part} {number} {which}".encode() for which in "ab"]
                posting.post("events", frames, expires_at=until, keep=1000)

        with ThreadPoolExecutor(4) as threads:
            for sending in [threads.submit(send, part) for part in range(4)]:
                sending.result(_LONG)

        found = read(posting)
        frames = [frame.decode().split() for _, frame in found]
        assert [number for number, _ in found] == list(range(1, 161))
        for part in range(4):
            mine = [(int(number), which) for whose, number, which in frames if whose == str(part)]
            assert mine == [(number, which) for number in range(20) for which in "ab"]
        # What is posted at once is numbered together.
        assert all(a[:2] == b[:2] for a, b in zip(frames[::2], frames[1::2], strict=True))

    def test_the_longest_frame_and_as_many_as_may_be_arrive(
        self, posting: Posting, clock: FakeClock
    ) -> None:
        until = clock.now() + 60
        many = [str(number).encode() for number in range(MAX_POSTED_AT_ONCE)]
        posting.post("events", [b"x" * MAX_FRAME_BYTES], expires_at=until, keep=1)
        longest = read(posting)
        posting.post("events", many, expires_at=until, keep=10_000)
        posting.post("events", [b"one more"], expires_at=until, keep=10_000)

        assert [len(frame) for _, frame in longest] == [MAX_FRAME_BYTES]
        found = list(posting.posted("events", 1, limit=10_000, timeout=0))
        assert [frame for _, frame in found] == many

    def test_one_look_is_bounded_in_bytes(self, posting: Posting, clock: FakeClock) -> None:
        fitting = MAX_BYTES_AT_ONCE // MAX_FRAME_BYTES
        frame = b"x" * MAX_FRAME_BYTES
        for _ in range(2):
            frames = [frame] * (fitting // 2 + 1)
            posting.post("events", frames, expires_at=clock.now() + 60, keep=1000)

        assert [number for number, _ in read(posting)] == [*range(1, fitting + 1)]
        assert [number for number, _ in read(posting, fitting)] == [fitting + 1, fitting + 2]

    @pytest.mark.parametrize("channel", ["", "Events", "a b", "a/b", "e" * 65, "caf\u00e9", "a\n"])
    def test_what_is_no_channel_is_refused(
        self, posting: Posting, clock: FakeClock, channel: str
    ) -> None:
        with pytest.raises(ImproperlyConfigured, match="channel"):
            posting.post(channel, [b"x"], expires_at=clock.now() + 5, keep=1)
        with pytest.raises(ImproperlyConfigured, match="channel"):
            posting.posted(channel, 0, limit=1, timeout=0)
        with pytest.raises(ImproperlyConfigured, match="channel"):
            posting.position(channel)

    def test_what_is_too_much_is_refused_whole(self, posting: Posting, clock: FakeClock) -> None:
        until = clock.now() + 60
        too_long = [b"fine", b"x" * (MAX_FRAME_BYTES + 1)]
        too_many = [b"x"] * (MAX_POSTED_AT_ONCE + 1)
        for frames, expires_at, keep in (
            (too_long, until, 10),
            (too_many, until, 10),
            ([b"x"], until, 0),
            ([b"x"], until, 10**9),
            ([b"x"], math.nan, 10),
            ([b"x"], math.inf, 10),
        ):
            with pytest.raises(ImproperlyConfigured, match="channel 'events'"):
                posting.post("events", frames, expires_at=expires_at, keep=keep)
        with pytest.raises(ImproperlyConfigured, match="limit"):
            posting.posted("events", 0, limit=0, timeout=0)

        assert posting.position("events") == 0

    @pytest.mark.parametrize("seed", range(4))
    def test_it_does_what_a_list_does(
        self, posting: Posting, broker: Broker, clock: FakeClock, seed: int
    ) -> None:
        """Random posts, of random lives, read from anywhere as time passes."""
        chance = random.Random(seed)  # noqa: S311 - the same each time is what is wanted
        kept: list[tuple[int, float, bytes]] = []
        newest = 0
        for _ in range(60):
            frames = [chance.randbytes(chance.randrange(40)) for _ in range(chance.randrange(6))]
            until, keep = clock.now() + chance.choice((1, 10, 100)), chance.choice((1, 5, 50))
            posting.post("events", frames, expires_at=until, keep=keep)
            if frames:
                kept += [(newest + 1 + index, until, frame) for index, frame in enumerate(frames)]
                kept = kept[-keep:]
                newest += len(frames)
            self.pass_time(clock, chance.choice((0, 0, 1, 7)))
            if chance.random() < 0.1 and isinstance(broker, Maintained):
                broker.maintain()
            after, limit = chance.randint(0, newest), chance.randint(1, 20)

            found = list(posting.posted("events", after, limit=limit, timeout=0))

            due = [(n, f) for n, until, f in kept if n > after and until > clock.now()]
            assert found == due[:limit]
            assert posting.position("events") == newest
