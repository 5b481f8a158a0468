"""What has arrived in a process lies there bounded, and what somebody still wants stays longest."""

from __future__ import annotations

import logging
import tracemalloc

import pytest

from cardoon.rabbitmq.mailbox import Mailbox
from cardoon.testing import FakeClock
from cardoon.testing.backends import result


@pytest.fixture
def clock():
    return FakeClock()


def put(mailbox, *names, size=1):
    for name in names:
        mailbox.put(result(name, b"x" * size))


def test_the_oldest_that_nobody_has_read_go_first(clock, caplog):
    mailbox = Mailbox(clock, max_results=3)

    with caplog.at_level(logging.WARNING):
        put(mailbox, "a", "b", "c", "d", "e")

    assert set(mailbox.load(["a", "b", "c", "d", "e"])) == {"c", "d", "e"}
    [warning] = caplog.records
    assert warning.message.startswith(
        "rpc: 4 results have arrived here that nobody has read; the oldest"
    )


def test_what_was_read_goes_before_what_was_not(clock, caplog):
    mailbox = Mailbox(clock, max_results=3)
    put(mailbox, "a", "b", "c")
    mailbox.load(["c"])

    put(mailbox, "d")

    assert set(mailbox.load(["a", "b", "c", "d"])) == {"a", "b", "d"}
    assert not caplog.records


def test_bytes_count_and_what_was_forgotten_does_not(clock):
    mailbox = Mailbox(clock, max_bytes=10_000)
    put(mailbox, "a", "b", size=4_000)
    mailbox.forget(["a"])
    put(mailbox, "c", size=4_000)

    assert set(mailbox.load(["a", "b", "c"])) == {"b", "c"}

    put(mailbox, "d", size=4_000)

    assert len(mailbox.load(["b", "c", "d"])) == 2


def test_one_that_is_larger_than_all_may_be_is_kept_alone(clock):
    mailbox = Mailbox(clock, max_bytes=1_000)
    put(mailbox, "a", "b")

    put(mailbox, "large", size=5_000)
    assert set(mailbox.load(["a", "b", "large"])) == {"large"}

    put(mailbox, "c")
    assert set(mailbox.load(["large", "c"])) == {"c"}


def test_a_flood_of_results_takes_no_more_memory_than_it_may(clock):
    mailbox = Mailbox(clock, max_bytes=2**20)
    tracemalloc.start()
    try:
        for number in range(20_000):
            mailbox.put(result(f"t{number}", bytes(1_000), final=number % 2 == 0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 4 * 2**20


def test_whoever_waits_is_told_of_what_is_new(clock):
    mailbox = Mailbox(clock)
    put(mailbox, "before")
    seen = mailbox.horizon()
    put(mailbox, "a")
    mailbox.put(result("state", final=False))
    put(mailbox, "b")

    names, seen = mailbox.final_since(seen)
    nothing, _ = mailbox.final_since(seen)

    assert (names, nothing) == ({"a", "b"}, set())


def test_whoever_has_missed_too_much_looks_at_everything(clock):
    mailbox = Mailbox(clock)
    seen = mailbox.horizon()
    put(mailbox, *(f"t{number}" for number in range(10_001)))

    names, seen = mailbox.final_since(seen)

    assert names is None
    assert mailbox.final_since(seen)[0] == set()
