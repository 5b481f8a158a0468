"""Behind PgBouncer: in session mode as without it, in transaction mode without what a session keeps."""

from __future__ import annotations

import threading

import pytest

from cardoon.broker import Ack, Completion, Outgoing
from cardoon.exceptions import OperationalError
from tests.servers.ground import running
from tests.servers.pgbouncer import PgBouncer

URLS = {"session": "", "transaction": "?prepare=false"}


@pytest.fixture(params=URLS)
def pooled(request, postgres, url):
    """The URL by which one works, in either mode."""
    with running(PgBouncer(postgres.server, mode=request.param)) as bouncer:
        yield bouncer.url + URLS[request.param]


@pytest.fixture
def shared(postgres, url):
    """The URL of one that lends connections for a transaction, and of what is behind it."""
    with running(PgBouncer(postgres.server, mode="transaction")) as bouncer:
        yield bouncer.url


def message(name):
    return Outgoing("q", name, name.encode())


def receive(broker, timeout=0.0):
    return broker.receive(["q"], limit=100, lease=30, timeout=timeout)


def test_several_processes_send_and_work(connect, pooled):
    brokers = [connect(pooled) for _ in range(4)]
    for number, broker in enumerate(brokers * 3):
        broker.publish([message(f"m{number}")], timeout=5)

    done = []
    for broker in brokers:
        loans = broker.receive(["q"], limit=3, lease=30, timeout=0)
        assert all(broker.complete([Completion(Ack(one)) for one in loans]))
        done += [one.id for one in loans]

    assert sorted(done) == sorted(f"m{number}" for number in range(12))


def test_who_waits_finds_what_is_sent(connect, pooled):
    waits, sends = connect(pooled), connect(pooled)
    waits.declare(["q"])
    found = []
    waiting = threading.Thread(target=lambda: found.extend(receive(waits, timeout=20)))
    waiting.start()

    sends.publish([message("a")], timeout=5)

    waiting.join(10)
    assert [one.id for one in found] == ["a"]


def test_prepared_statements_that_others_hold_are_an_error_with_a_remedy(connect, shared):
    def send_from_several():
        for number in range(4):
            connect(shared, timeout=1).publish([message(f"m{number}")], timeout=1)

    with pytest.raises(OperationalError, match="prepare=false"):
        send_from_several()
