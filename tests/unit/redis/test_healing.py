"""Connections heal, answers may be lost, and every call ends by its deadline."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Limit, Outgoing, Requeue, Subscription
from cardoon.clock import SystemClock
from cardoon.exceptions import OperationalError
from cardoon.redis.connection import ANSWER_SECONDS
from cardoon.redis.scripts import load
from tests.servers.lossy import LossyLink

LONG = 30.0


def connect(url, **options):
    return brokers.connect(url, clock=SystemClock(), **options)


def message(name):
    return Outgoing("q", name, name.encode())


def receive(broker, limit=1000, timeout=0.0):
    return broker.receive(["q"], limit=limit, lease=30, timeout=timeout)


def ids(deliveries):
    return [each.id for each in deliveries]


@pytest.fixture
def broker(server):
    made = connect(server.url)
    yield made
    made.close()


@pytest.fixture
def link(server):
    made = LossyLink(server.port)
    yield made
    made.close()


@pytest.fixture
def lossy(link):
    """A broker behind a link that can fail, which is connected."""
    made = connect(f"redis://127.0.0.1:{link.port}/0")
    made.declare(["q"])
    yield made
    made.close()


def count_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.slow
def test_nothing_confirmed_is_lost_when_the_server_is_killed(own_server):
    broker = connect(own_server.url, timeout=LONG)
    confirmed: list[str] = []
    enough, stop = threading.Event(), threading.Event()

    def send():
        number = 0
        while not stop.is_set():
            names = [f"m{number + each}" for each in range(5)]
            broker.publish(list(map(message, names)), timeout=LONG)
            confirmed.extend(names)
            number += 5
            if len(confirmed) > 200:
                enough.set()

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send)
        for _ in range(3):
            assert enough.wait(LONG)
            own_server.kill()
            own_server.restart()
            enough.clear()
        assert enough.wait(LONG)
        stop.set()
        sending.result(LONG)

    held = []
    while some := receive(broker):
        held += some
    assert ids(held) == confirmed
    assert all(broker.settle([Ack(each) for each in held]))
    own_server.kill()
    own_server.restart()
    assert receive(broker) == []
    assert broker.depths() == []
    broker.close()


def test_a_send_during_a_short_outage_succeeds(own_server):
    broker = connect(own_server.url)
    broker.publish([message("before")], timeout=5)
    own_server.kill()

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(broker.publish, [message("during")], timeout=LONG)
        own_server.restart()
        assert sending.result(LONG) == {}

    assert ids(receive(broker)) == ["before", "during"]
    broker.close()


def test_subscriptions_and_queues_that_rest_outlive_the_server(own_server):
    broker = connect(own_server.url, timeout=LONG)
    subscription = Subscription("news", "news>one")
    broker.subscribe([subscription], seconds=600)
    broker.publish([Outgoing("news", "a", b"x", fanout=True)], timeout=LONG)
    broker.pause(["news"])
    own_server.kill()
    own_server.restart()

    [news] = broker.depths()
    assert (news.ready, news.paused, news.subscribers) == (1, True, 1)
    broker.resume(["news"])
    assert broker.subscribe([subscription], seconds=600) == [True]
    [copy] = broker.receive([subscription.queue], limit=1, lease=30, timeout=LONG)
    assert broker.settle([Ack(copy)]) == [True]
    broker.close()


def test_whoever_waits_outlives_a_restart(own_server):
    broker = connect(own_server.url, timeout=LONG)
    broker.declare(["q"])
    backend = backends.connect(own_server.url, clock=SystemClock(), beside=broker)

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(receive, broker, 1, LONG)
        wanted = threads.submit(lambda: list(backend.wait(["a"], timeout=LONG)))
        own_server.kill()
        own_server.restart()
        broker.publish([message("a")], timeout=LONG)
        backend.store([SealedResult("a", b"done", final=True, expires_at=None)])

        assert ids(waiting.result(LONG)) == ["a"]
        assert len(wanted.result(LONG)) == 1
    backend.close()


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_call_ends_by_its_deadline(own_server, is_frozen):
    broker = connect(own_server.url, timeout=1)
    broker.declare(["q"])

    def fail():
        started = time.monotonic()
        for call in (
            lambda: broker.publish([message("a")], timeout=0.5),
            lambda: receive(broker),
            broker.depths,
        ):
            with pytest.raises(OperationalError, match=r"no answer within"):
                call()
        return time.monotonic() - started

    if is_frozen:
        with own_server.frozen():
            seconds = fail()
    else:
        own_server.kill()
        seconds = fail()

    assert 1 < seconds < 6
    broker.close()


def test_failing_leaves_no_descriptors_and_burns_no_time(own_server):
    broker = connect(own_server.url, timeout=0.3)
    broker.declare(["q"])
    own_server.kill()
    before, cpu = count_descriptors(), time.process_time()

    for _ in range(5):
        with pytest.raises(OperationalError):
            broker.declare(["q"])

    assert count_descriptors() <= before
    assert time.process_time() - cpu < 0.75
    broker.close()


@pytest.mark.slow
def test_a_half_open_link_is_noticed(lossy, link):
    lossy.publish([message("a")], timeout=5)
    link.swallow()
    started = time.monotonic()

    [a] = receive(lossy)

    assert a.id == "a"
    assert ANSWER_SECONDS - 1 < time.monotonic() - started < ANSWER_SECONDS + 4


@pytest.mark.slow
def test_who_waits_on_a_half_open_link_goes_on(lossy, link):
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(receive, lossy, 1, LONG)
        while link.connections < 1 or not lossy.store.ask_many([("PING",)]):
            pass
        link.swallow()
        lossy.publish([message("a")], timeout=LONG)

        assert ids(waiting.result(LONG)) == ["a"]


@pytest.mark.slow
def test_who_waits_for_a_result_on_a_half_open_link_goes_on(lossy, link):
    backend = backends.connect(
        f"redis://127.0.0.1:{link.port}/0", clock=SystemClock(), beside=lossy
    )
    names = [f"t{number}" for number in range(2000)]
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(lambda: list(backend.wait(names, timeout=LONG)))
        while b"cmd=subscribe" not in lossy.store.ask_many([("CLIENT", "LIST")])[0]:
            pass
        link.swallow()
        results = [SealedResult(name, b"r", final=True, expires_at=None) for name in names]
        backend.store(results)

        assert len(waiting.result(LONG)) == 2000
    backend.close()


def digest(name):
    return load(name).digest.encode()


def test_a_claim_whose_answer_was_lost_is_made_again(lossy, link):
    lossy.publish([message("a"), message("b"), message("c")], timeout=5)
    lossy.settle([Requeue(each) for each in receive(lossy, 2)])
    link.cut_answers(2, to=digest("claim"))

    held = receive(lossy, 2)

    assert link.cuts_left == 0
    assert [(each.id, each.attempt) for each in held] == [("a", 2), ("b", 2)]
    assert ids(receive(lossy)) == ["c"]
    assert lossy.settle([Ack(each) for each in held]) == [True, True]


def test_a_claim_that_arrives_after_it_was_made_again_takes_nothing(broker):
    # It waited in the server, for a connection that its worker has long given up.
    broker.publish([message("a")], timeout=5)
    terms = (1, "30.0", 1000, "q")
    *_, taken, _ = broker.store.run("claim", ("slot", "7", "1", *terms))
    assert [row[1] for row in taken] == [b"a"]
    broker.publish([message("b")], timeout=5)

    late = [broker.store.run("claim", ("slot", serial, "0", *terms))[2] for serial in ("7", "6")]

    assert late == [[], []]
    assert ids(receive(broker)) == ["b"]


def test_a_request_to_take_back_that_comes_too_late_takes_nothing(broker):
    # A link held it up, and with it the renewal of the lease that it would take back.
    broker.publish([message("a")], timeout=5)
    (held,) = broker.receive(["q"], limit=1, lease=1e-6, timeout=0)
    count, _, told = broker.store.run("maintain", ("0",))
    too_late = broker.store.run("maintain", (repr(float(told) - 1.0),))

    assert (count, too_late[0]) == (0, 0)
    assert broker.settle([Ack(held)]) == [True]


def test_a_request_to_take_back_that_comes_in_time_does(broker):
    broker.publish([message("a")], timeout=5)
    broker.receive(["q"], limit=1, lease=1e-6, timeout=0)

    assert broker.maintain() == 1
    assert broker.maintain() == 0


def test_a_claim_made_again_in_vain_is_over_too(broker):
    terms = (1, "30.0", 1000, "q")
    assert broker.store.run("claim", ("slot", "7", "1", *terms))[2] == []
    broker.publish([message("a")], timeout=5)

    assert broker.store.run("claim", ("slot", "7", "0", *terms))[2] == []
    assert ids(receive(broker)) == ["a"]


def test_an_adoption_whose_answer_was_lost_is_told_again(lossy, link):
    lossy.publish([message("stored")], timeout=5)
    link.cut_answers(2, to=digest("adopt"))

    lent = lossy.adopt([message("a"), message("stored"), message("a")], lease=30, durable=True)

    assert link.cuts_left == 0
    assert [each and (each.id, each.attempt) for each in lent] == [("a", 1), None, None]
    assert lossy.settle([Ack(lent[0])]) == [True]
    assert ids(receive(lossy)) == ["stored"]


def test_the_end_of_a_loan_whose_answer_was_lost_is_told_again(lossy, link):
    lossy.publish([message("a"), message("b")], timeout=5)
    a, b = receive(lossy)
    lossy.settle([Ack(b)])
    link.cut_answers(2, to=digest("complete"))

    taken = lossy.complete([Completion(Ack(a), publish=(message("next"),)), Completion(Ack(b))])

    assert link.cuts_left == 0
    assert taken == [True, False]
    assert ids(receive(lossy)) == ["next"]


@pytest.mark.parametrize(
    ("script", "sent"),
    [
        pytest.param("send", message("a"), id="alone"),
        pytest.param("publish", message("a")._replace(limit=Limit("k", 1, 0.0)), id="counted"),
    ],
)
def test_a_send_whose_answer_was_lost_is_one_message(lossy, link, script, sent):
    link.cut_answers(2, to=digest(script))

    told = lossy.publish([sent], timeout=5)

    assert told == {}
    assert link.cuts_left == 0
    assert len(receive(lossy)) == 1


def test_scripts_that_the_server_has_forgotten_are_loaded_again(server, broker):
    broker.publish([message("a")], timeout=5)
    server.ask("SCRIPT", "FLUSH")

    assert ids(receive(broker)) == ["a"]
    assert broker.depths()[0].leased == 1


def test_a_fork_gets_connections_of_its_own(server, broker):
    broker.publish([message("parent")], timeout=5)
    before = server.ask("CLIENT", "LIST").count(b"cmd=")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            broker.publish([message("child")], timeout=5)
            code = 0 if ids(receive(broker)) == ["parent", "child"] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    broker.publish([message("again")], timeout=5)
    assert ids(receive(broker)) == ["again"]
    assert server.ask("CLIENT", "LIST").count(b"cmd=") == before


def test_a_fork_beside_busy_threads_is_not_stuck(broker):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            broker.depths()

    with ThreadPoolExecutor() as threads:
        working = [threads.submit(work) for _ in range(3)]
        for _ in range(10):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    broker.depths()
                    code = 0
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
        stop.set()
        for each in working:
            each.result(LONG)


def test_an_idle_worker_is_woken_at_once(broker):
    delays = []
    for number in range(5):
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(receive, broker, 1, LONG)
            while b"blpop" not in broker.store.ask_many([("CLIENT", "LIST")])[0]:
                pass
            started = time.monotonic()
            broker.publish([message(f"m{number}")], timeout=5)
            waiting.result(LONG)
            delays.append(time.monotonic() - started)

    assert sorted(delays)[2] < 0.3, "the bell was not heard: only a look each second found it"


def test_one_that_takes_some_wakes_the_next(broker):
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(receive, broker, 1, LONG) for _ in range(3)]
        while broker.store.ask_many([("CLIENT", "LIST")])[0].count(b"cmd=blpop") < 3:
            pass
        started = time.monotonic()
        broker.publish([message(name) for name in "abc"], timeout=5)
        taken = [ids(each.result(LONG)) for each in waiting]

    assert sorted(taken) == [["a"], ["b"], ["c"]]
    assert time.monotonic() - started < 0.9


def test_a_scheduled_message_is_taken_when_it_is_due(server, broker):
    broker.declare(["q"])
    now = time.time()
    broker.publish([message("soon")._replace(run_at=now + 0.3)], timeout=5)

    assert receive(broker) == []
    assert ids(receive(broker, timeout=LONG)) == ["soon"]
    assert 0.25 < time.time() - now < 1.0


def test_a_rate_opens_in_the_servers_time(broker):
    outgoing = [message(name)._replace(limit=Limit("k", gap=0.4)) for name in "ab"]
    broker.publish(outgoing, timeout=5)
    [_] = receive(broker)
    started = time.monotonic()

    assert ids(receive(broker, timeout=LONG)) == ["b"]
    assert 0.25 < time.monotonic() - started < 1.2
