"""What repeats is told at once, and then as one message with a count; nothing else is left out."""

from __future__ import annotations

import os
import threading

import pytest

from cardoon.syslog.folding import MOST_WINDOWS, Folding
from cardoon.syslog.messages import Entry, Repeats, Severity
from cardoon.testing.clock import FakeClock


class Told:
    def __init__(self, seconds=10.0):
        self.clock = FakeClock(0.0)
        self.entries = []
        self.folding = Folding(self.entries.append, clock=self.clock, seconds=seconds)

    def take(self, event="message.replay", **fields):
        self.folding.take(
            Entry(
                event=event,
                severity=Severity.CRITICAL,
                facility=10,
                moment=self.clock.now(),
                text="it happened",
                fields=fields,
                is_security=True,
            )
        )

    @property
    def counts(self):
        return [(one.event, one.repeats and one.repeats.times) for one in self.entries]


@pytest.fixture
def told():
    made = Told()
    yield made
    made.folding.close()


def test_what_repeats_is_told_at_once_and_then_once_with_a_count(told):
    for number in range(5):
        told.take(reason="replayed", task="shop.add", task_id=f"t{number}", seq=number)
        told.clock.advance(1)
    assert told.counts == [("message.replay", None)]

    told.clock.advance(5)
    assert told.folding.end_windows() is None

    first, last = told.entries
    assert first.fields["task_id"] == "t0"
    assert last.repeats == Repeats(times=4, first=1.0, last=4.0)
    assert last.fields == {"reason": "replayed", "task": "shop.add", "task_id": "t4", "seq": 4}
    assert (last.event, last.severity, last.is_security) == ("message.replay", 2, True)
    assert (last.moment, last.text) == (4.0, "it happened, 4 times more")


def test_one_that_came_twice_is_told_as_it_was(told):
    told.take(seq=1)
    told.clock.advance(1)
    told.take(seq=2)
    told.folding.close()

    assert [(one.fields["seq"], one.moment) for one in told.entries] == [(1, 0.0), (2, 1.0)]
    assert told.counts == [("message.replay", None)] * 2


@pytest.mark.parametrize(
    "other",
    [
        {"event": "message.unsigned"}, {"task": "shop.remove"}, {"reason": "stale"}, {"signer": "ab"},
        {"task": 1}, {"task": True},
    ],
    ids=str,
)  # fmt: skip
def test_what_differs_in_more_than_ids_is_told_by_itself(told, other):
    same = {"event": "message.replay", "task": "1", "reason": "replayed"}
    told.take(**same)
    told.take(**(same | other))

    assert len(told.entries) == 2


def test_a_window_ends_after_its_seconds_and_the_next_one_is_told_at_once(told):
    told.take()
    told.take()
    told.take()
    told.clock.advance(10)
    told.take()
    told.take()

    assert told.counts == [
        ("message.replay", None),
        ("message.replay", 2),
        ("message.replay", None),
    ]
    assert told.folding.end_windows() == 10


def test_windows_that_are_still_open_are_not_ended(told):
    told.take("cert.expired")
    told.clock.advance(4)
    told.take("cert.revoked")
    told.take("cert.expired")

    assert told.folding.end_windows() == 6
    told.clock.advance(6)
    assert told.folding.end_windows() == 4
    assert told.counts[2:] == [("cert.expired", None)]


def test_what_finds_no_window_is_told_each_time(told):
    for number in range(MOST_WINDOWS):
        told.take(task=f"shop.task{number}")
    for _ in range(3):
        told.take(task="shop.other")
        told.take(task="shop.task0")

    assert len(told.entries) == MOST_WINDOWS + 3
    told.clock.advance(10)
    told.folding.end_windows()
    told.take(task="shop.other")
    told.take(task="shop.other")
    assert told.counts[MOST_WINDOWS + 3 :] == [("message.replay", 3), ("message.replay", None)]


def test_at_the_end_all_is_told_and_later_each_at_once(told):
    for event in ("cert.expired", "cert.revoked"):
        for _ in range(3):
            told.take(event)
    told.folding.close()
    assert told.counts[2:] == [("cert.expired", 2), ("cert.revoked", 2)]

    told.take("cert.expired")
    told.take("cert.expired")
    told.folding.close()
    assert told.counts[4:] == [("cert.expired", None)] * 2


def test_without_seconds_nothing_is_folded():
    told = Told(seconds=0)
    for _ in range(3):
        told.take()

    assert told.counts == [("message.replay", None)] * 3


def test_a_fork_tells_its_own_and_leaves_what_it_has_copied(told):
    told.take()
    told.take()
    told.take()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            told.folding.close()  # of the other process
            told.entries.clear()
            told.take()
            told.take()
            told.take()
            told.folding.close()
            os.write(write, repr(told.counts).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    told.folding.close()

    assert os.read(read, 1000) == b"[('message.replay', None), ('message.replay', 2)]"
    assert told.counts == [("message.replay", None), ("message.replay", 2)]
    os.close(read)
    os.close(write)


def test_whatever_threads_do_together_each_is_counted_once(told):
    def record():
        for _ in range(500):
            told.take()
            told.clock.advance(0.05)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    told.folding.close()

    assert sum(times or 1 for _, times in told.counts) == 2000
    assert len(told.entries) < 100
