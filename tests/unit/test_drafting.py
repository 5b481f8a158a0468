"""What a broker is told of calls: hints that it can follow, or an error that says why not."""

from __future__ import annotations

import pytest

from cardoon.broker import Limit
from cardoon.brokers.memory import MemoryBroker
from cardoon.clock import SystemClock
from cardoon.drafting import call_draft, outgoing_of
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.security.signing import PlainSigner
from cardoon.sender import Call

CLOCK = SystemClock()


class PlainBroker:
    """A broker without any power."""


def told(*calls, broker=None):
    signed = PlainSigner(clock=CLOCK, max_age=60).sign([call_draft(call) for call in calls])
    return outgoing_of(calls, signed, broker or MemoryBroker(clock=CLOCK), {"news"})


def call(name, queue="celery", **more):
    return Call("tell", name, queue, "application/json", b"[[], {}, {}]", **more)


def test_what_goes_to_a_broadcast_queue_is_marked_and_nothing_else():
    found = told(call("a"), call("b", "news", priority=3, eta=5.0), call("c", "news of one"))

    assert [one.fanout for one in found] == [False, True, False]
    assert (found[1].queue, found[1].priority, found[1].run_at) == ("news", 3, 5.0)


def test_a_broker_without_the_power_takes_no_broadcast():
    assert [one.id for one in told(call("a"), broker=PlainBroker())] == ["a"]
    with pytest.raises(
        ImproperlyConfigured, match="tell: queue 'news' is a Broadcast, and this broker"
    ):
        told(call("a", "news"), broker=PlainBroker())


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([call("a", headers=b'{"links": true}'), call("b", "news", after=(0,))], "it can neither wait"),
        ([call("a", "news", headers=b'{"links": true}'), call("b", after=(0,))], "it can neither wait"),
        ([call("a", "news", limit=Limit("tell", 1))], "so it has no unique, concurrency_limit or"),
    ],
)  # fmt: skip
def test_what_cannot_be_broadcast_is_refused_with_the_remedy(calls, why):
    with pytest.raises(InvalidTaskError, match=f"^tell: .*'news'.*{why}.*another queue"):
        told(*calls)
