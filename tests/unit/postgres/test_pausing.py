"""Queues that rest cost those who wait for them nothing, and are woken at once."""

from __future__ import annotations

import time

import pytest

from cardoon.broker import Limit, Outgoing, Subscription
from cardoon.postgres.wakeups import Bell

LONG = 20.0


@pytest.mark.parametrize("paused", ["q", "news"])
def test_who_waits_is_told_when_a_queue_goes_on(connect, url, paused):
    worker, operator = connect(url), connect(url)
    worker.subscribe([Subscription("news", "news>a")], seconds=60)
    operator.pause([paused])
    with worker.postgres.wakeups.listen(Bell.MESSAGES, {"news>a", "q"}) as ear:
        assert ear.wait(LONG)  # when listening begins

        operator.resume([paused])

        assert ear.wait(LONG)


def test_to_wait_for_a_queue_that_rests_costs_next_to_nothing(connect, url):
    worker = connect(url)
    limit = Limit("key", 1, 0.01)
    worker.publish(
        [
            Outgoing("q", "due", b"x"),
            Outgoing("q", "soon", b"x", run_at=time.time() + 0.5),
            *(Outgoing("q", f"limited {number}", b"x", limit=limit) for number in range(9)),
        ],
        timeout=LONG,
    )
    [_] = worker.receive(["q"], limit=1, lease=60, timeout=0)
    worker.pause(["q"])
    worker.receive(["q"], limit=1, lease=60, timeout=0.7)  # opens what it needs
    before = time.process_time()

    assert worker.receive(["q"], limit=1, lease=60, timeout=4) == []

    assert time.process_time() - before < 4 * 0.005


def test_a_queue_that_rests_holds_up_no_other_of_the_same_limit(broker):
    limit = Limit("key", 1)
    sent = [Outgoing(queue, f"in {queue}", b"x", limit=limit) for queue in ("q", "r")]
    broker.publish(sent, timeout=LONG)
    broker.pause(["q"])

    found = broker.receive(["q", "r"], limit=9, lease=60, timeout=0)

    assert [each.id for each in found] == ["in r"]
    assert {each.queue: each.paused for each in broker.depths()} == {"q": True, "r": False}
