"""Hints: who waits is told long before it would have looked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import backends
from cardoon.backend import SealedResult
from cardoon.broker import Ack, Completion, Outcome, Outgoing, Predecessor, Requeue
from cardoon.clock import SystemClock
from cardoon.postgres.wakeups import Bell, Wakeups, hints

LONG = 20.0


def message(name, **options):
    return Outgoing("q", name, name.encode(), **options)


@pytest.fixture
def patient(monkeypatch):
    """Who waits looks again so seldom that only a hint can help."""
    monkeypatch.setattr("cardoon.brokers.postgres._LOOK_AGAIN_SECONDS", 60.0)
    monkeypatch.setattr("cardoon.arrivals.LOOK_AGAIN_SECONDS", 60.0)


def waits_for(broker, queue="q"):
    """A thread that waits in `receive` and is known to listen."""
    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(broker.receive, [queue], limit=1, lease=60, timeout=LONG)
    pool.shutdown(wait=False)
    return waiting


def test_a_message_wakes_who_waits_for_its_queue(connect, url, patient):
    worker, client = connect(url), connect(url)
    waiting = waits_for(worker)

    client.publish([message("a")], timeout=LONG)

    assert [each.id for each in waiting.result(LONG)] == ["a"]


def test_what_goes_back_and_what_wakes_are_told(connect, url, patient):
    worker, other = connect(url), connect(url)
    other.publish([message("a"), message("b", after=(Predecessor("a", b""),))], timeout=LONG)
    [a] = other.receive(["q"], limit=9, lease=60, timeout=0)
    waiting = waits_for(worker)
    other.settle([Requeue(a)])
    [again] = waiting.result(LONG)
    waiting = waits_for(worker)

    other.complete([Completion(Ack(again), outcome=Outcome(b"x", succeeded=True))])

    assert [each.id for each in waiting.result(LONG)] == ["b"]


def test_results_of_one_and_of_ten_thousand_tasks_are_told(connect, url, patient):
    broker = connect(url)
    backend = backends.connect(url, clock=SystemClock(), beside=broker)
    other = backends.connect(url, clock=SystemClock())
    names = [f"t{number}" for number in range(10_000)]
    arrived: list[str] = []
    ready = threading.Event()

    def wait():
        ready.set()
        arrived.extend(each.task_id for each in backend.wait(names, timeout=LONG))

    waiting = threading.Thread(target=wait)
    waiting.start()
    ready.wait(LONG)
    for start in range(0, 10_000, 500):
        other.store([SealedResult(name, b"x", True, None) for name in names[start : start + 500]])
    waiting.join(LONG)
    [one] = backend.wait(["t1"], timeout=LONG)
    other.close()

    assert sorted(arrived) == sorted(names)
    assert one.task_id == "t1"


def test_what_is_told_between_two_claims_is_heard(connect, url, patient):
    worker, client = connect(url), connect(url)
    client.publish([message("a")], timeout=LONG)
    assert len(worker.receive(["q"], limit=9, lease=60, timeout=LONG)) == 1
    assert worker.receive(["q"], limit=9, lease=60, timeout=0.1) == []  # so nothing is due for long
    client.publish([message("b")], timeout=LONG)
    begun = time.monotonic()

    [b] = worker.receive(["q"], limit=9, lease=60, timeout=LONG)

    assert b.id == "b"
    assert time.monotonic() - begun < LONG / 2, "only the last look found it"


def test_who_has_taken_a_message_still_takes_what_was_scheduled_before(connect, url, patient):
    worker, client = connect(url), connect(url)
    client.publish([message("soon", run_at=time.time() + 0.4), message("now")], timeout=LONG)

    taken = [worker.receive(["q"], limit=9, lease=60, timeout=LONG) for _ in range(2)]

    assert [[each.id for each in some] for some in taken] == [["now"], ["soon"]]


def test_news_of_other_queues_wake_nobody(connect, url):
    worker, client = connect(url), connect(url)
    wakeups = worker.postgres.wakeups
    with wakeups.listen(Bell.MESSAGES, {"q"}) as ear:
        assert ear.wait(LONG)  # when listening begins
        client.publish([Outgoing("other", "a", b"x")], timeout=LONG)
        client.publish([message("b")], timeout=LONG)
        assert ear.wait(LONG)
        client.publish([Outgoing("other", "c", b"x")], timeout=LONG)

        assert not ear.wait(0.3)


def test_a_process_listens_only_to_what_it_waits_for(connect, url, postgres):
    broker = connect(url)
    backend = backends.connect(url, clock=SystemClock(), beside=broker)

    def last_words():
        told = "SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        [(words,)] = postgres.ask(told)
        return words or ""

    with broker.postgres.wakeups.listen(Bell.MESSAGES) as ear:
        assert ear.wait(LONG)  # when listening begins
        assert last_words().endswith('.messages"')
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(lambda: list(backend.wait(["t"], timeout=LONG)))
            while not last_words().endswith('.results"'):
                assert not waiting.done()
            backend.store([SealedResult("t", b"x", True, None)])

            assert len(waiting.result(LONG)) == 1
        ear.wait(0)
        broker.publish([message("a")], timeout=LONG)
        assert ear.wait(LONG), "who listens to more no longer hears what it heard"


def test_many_queues_are_told_in_one_word():
    few = hints("s", Bell.MESSAGES, ["a", "b", "a"])
    many = hints("s", Bell.MESSAGES, [f"q{number}" for number in range(50)])
    long = hints("s", Bell.MESSAGES, ["q" * 9000])

    assert [call.arguments for call in few] == [("s.messages", "a"), ("s.messages", "b")]
    assert [call.arguments for call in many] == [("s.messages", "")]
    assert [call.arguments for call in long] == [("s.messages", "")]


def test_an_idle_worker_costs_next_to_nothing(connect, url):
    worker = connect(url)
    worker.receive(["q"], limit=1, lease=60, timeout=0.5)  # opens what it needs
    before = time.process_time()

    assert worker.receive(["q"], limit=1, lease=60, timeout=4) == []

    assert time.process_time() - before < 4 * 0.005


def test_listening_ends_with_the_broker_and_begins_again(connect, url):
    worker, client = connect(url), connect(url)
    worker.receive(["q"], limit=1, lease=60, timeout=0.1)
    worker.close()
    assert not [each for each in threading.enumerate() if each.name == "cardoon-listen"]
    waiting = waits_for(worker)

    client.publish([message("a")], timeout=LONG)

    assert len(waiting.result(LONG)) == 1


def test_who_cannot_listen_still_looks(connect, url, monkeypatch):
    monkeypatch.setattr(Wakeups, "_hear", lambda *_: None)
    worker, client = connect(url), connect(url)
    waiting = waits_for(worker)

    client.publish([message("a")], timeout=LONG)

    assert len(waiting.result(LONG)) == 1
