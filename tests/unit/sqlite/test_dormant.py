"""Messages that wait for others: what is stored for them, and that it is deleted again."""

from __future__ import annotations

import pytest

from cardoon.broker import (
    Ack,
    Completion,
    DeadLetter,
    Kept,
    Outcome,
    Outgoing,
    Quarantine,
    Requeue,
)
from cardoon.brokers.sqlite import SqliteBroker
from cardoon.sqlite import dormant, messages
from cardoon.sqlite.database import Database
from cardoon.sqlite.wakeups import Bell
from cardoon.testing import FakeClock
from cardoon.testing.setting import (
    errback,
    failure,
    frames,
    ids,
    message,
    publish,
    receive,
    success,
    waiting,
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def database(tmp_path, clock):
    database = Database(tmp_path / "x.db", clock=clock, flush=lambda _: None)
    yield database
    database.close()


@pytest.fixture
def broker(database):
    return SqliteBroker(database)


def count(database, *tables):
    with database.write(durable=False) as transaction:
        connection = transaction._connection
        return [connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables]


def lend_body(broker):
    """A message on loan that has waited for two, of which one has failed."""
    publish(broker, message("a"), message("b"), waiting("body", "a", "b"))
    a, b = receive(broker)
    broker.complete([success(a), failure(b)])
    [body] = receive(broker)
    return body


def acknowledge(broker, body):
    broker.settle([Ack(body)])


def purge(broker, body):
    broker.settle([Requeue(body)])
    assert broker.purge("q") == 1


def purge_while_it_waits(broker, body):
    broker.settle([Ack(body)])
    publish(broker, message("a"), waiting("again", "a", "x"))
    broker.complete([success(each) for each in receive(broker)])
    assert broker.purge("q") == 1


def discard(broker, body):
    broker.settle([Quarantine(body, "odd")])
    assert broker.discard(Kept.QUARANTINE, None) == 1


def discard_one(broker, body):
    broker.settle([DeadLetter(body, "odd")])
    [kept] = broker.kept(Kept.DEAD_LETTER, limit=9)
    assert broker.discard(Kept.DEAD_LETTER, [kept.number]) == 1


def restore_and_acknowledge(broker, body):
    broker.settle([DeadLetter(body, "odd")])
    [kept] = broker.kept(Kept.DEAD_LETTER, limit=9)
    broker.restore(Kept.DEAD_LETTER, [kept.number])
    broker.settle([Ack(each) for each in receive(broker)])


@pytest.mark.parametrize(
    "end",
    [acknowledge, purge, purge_while_it_waits, discard, discard_one, restore_and_acknowledge],
)
def test_results_that_were_kept_for_a_message_go_with_it(database, broker, end):
    body = lend_body(broker)
    before = count(database, "input", "outcome")

    end(broker, body)

    assert before == [2, 2]
    assert count(database, "input", "outcome", "dormant", "message") == [0, 0, 0, 0]


@pytest.mark.parametrize("keeps", [DeadLetter, Quarantine])
def test_results_stay_with_a_message_that_is_kept(database, broker, keeps):
    body = lend_body(broker)

    broker.settle([keeps(body, "odd")])

    assert count(database, "message", "input", "outcome") == [0, 2, 2]


def test_a_result_is_stored_once_for_all_who_wait_and_until_the_last_is_gone(database, broker):
    publish(broker, message("a"), *(waiting(f"b{number}", "a") for number in range(5)))
    broker.complete([success(each) for each in receive(broker)])
    held = receive(broker)

    stored = []
    for delivery in held:
        stored.append(count(database, "input", "outcome"))
        broker.settle([Ack(delivery)])

    assert stored == [[5, 1], [4, 1], [3, 1], [2, 1], [1, 1]]
    assert count(database, "input", "outcome") == [0, 0]


def test_nothing_is_stored_for_what_nobody_waits_for_or_will_read(database, broker):
    publish(broker, message("a"), message("b"), errback("e", of="b"))

    broker.complete([success(each) for each in receive(broker)])

    assert count(database, "message", "frame", "input", "outcome", "dormant") == [0] * 5


def test_the_end_of_one_of_many_costs_the_same_however_many_those_are(database, broker):
    def steps(size):
        names = [f"{size}-{number}" for number in range(size)]
        publish(broker, *map(message, names), waiting(f"{size}", *names))
        held = receive(broker)
        broker.complete([success(each) for each in held[:10]])
        taken = 0

        def step():
            nonlocal taken
            taken += 1

        with database.write(durable=False) as transaction:
            connection = transaction._connection
        connection.set_progress_handler(step, 1)
        broker.complete([success(each) for each in held[10:20]])
        connection.set_progress_handler(None, 0)
        broker.settle([Ack(each) for each in held[20:]])
        return taken

    few, many = steps(30), steps(3000)

    assert 0 < many < 1.1 * few


def test_a_claim_counts_the_results_among_what_it_carries(broker, monkeypatch):
    monkeypatch.setattr(messages, "MAX_CLAIM_BYTES", 100)
    publish(broker, message("a"), waiting("b", "a"), waiting("c", "a"), message("d"), message("e"))
    a, d, e = receive(broker)
    broker.settle([Ack(d), Ack(e)])
    broker.complete([Completion(Ack(a), outcome=Outcome(b"x" * 60, succeeded=True))])
    publish(broker, Outgoing("q", "f", b"x" * 20), Outgoing("q", "g", b"x" * 20))

    claims = []
    while deliveries := receive(broker):
        claims.append(ids(deliveries))

    assert claims == [["b"], ["c", "f"], ["g"]]


def test_results_larger_than_one_statement_carries_are_read_in_several(broker, monkeypatch):
    monkeypatch.setattr(dormant, "MAX_BATCH_BYTES", 10)
    sizes = [4, 6, 1, 0, 25, 0, 9, 9]
    names = [f"m{number}" for number in range(len(sizes))]
    publish(broker, *map(message, names), waiting("body", *names, "m4", "m1"))
    expected = [bytes([number]) * size for number, size in enumerate(sizes)]

    broker.complete(
        [
            Completion(Ack(each), outcome=Outcome(frame, succeeded=True))
            for each, frame in zip(receive(broker), expected, strict=True)
        ]
    )

    assert frames(*receive(broker)) == [*expected, expected[4], expected[1]]


def test_maintaining_does_not_write_for_messages_that_have_reason_to_wait(database, broker, clock):
    publish(broker, message("a"), waiting("b", "a"), waiting("c", "b"))
    clock.advance(10)
    broker.maintain()
    clock.advance(20)
    database.timeout = 0.05

    with database.write(durable=False):
        assert broker.maintain() == 0


@pytest.mark.parametrize("bound", ["MAX_LOOKS", "MAX_INPUTS_LOOKED_AT"])
def test_of_many_messages_that_wait_some_are_looked_at_each_time(broker, clock, monkeypatch, bound):
    monkeypatch.setattr(dormant, bound, 4)
    publish(broker, *(waiting(f"m{number}", "gone", "lost") for number in range(5)))
    publish(broker, waiting("large", *(f"gone{number}" for number in range(9))))
    clock.advance(10)

    woken = []
    while len(woken) < 6:
        broker.maintain()
        woken.append(len(receive(broker)))
        clock.advance(1)

    per_look = 4 if bound == "MAX_LOOKS" else 2
    assert max(woken) == per_look
    assert sum(woken) == 6


def test_a_message_whose_predecessor_comes_between_look_and_lock_is_not_woken(
    database, broker, clock
):
    publish(broker, waiting("b", "a"), waiting("c", "lost"))
    clock.advance(10)

    looked_at, strays = dormant.look_for_strays(database, now=clock.now())
    publish(broker, message("a"))
    with database.write(durable=False) as transaction:
        dormant.wake_strays(transaction, looked_at, strays, now=clock.now())

    assert len(strays) == 2
    assert sorted(ids(receive(broker))) == ["a", "c"]


def test_a_hint_is_given_when_a_message_wakes_and_only_then(database, broker, clock):
    publish(broker, message("a"), message("b"), waiting("c", "a", "b"), waiting("stray", "lost"))
    a, b = receive(broker)
    clock.advance(9)

    hinted = []
    with database.listen(Bell.MESSAGES) as listener:
        for step in (
            lambda: broker.complete([success(a)]),
            lambda: broker.complete([success(b)]),
            broker.maintain,
            lambda: (clock.advance(1), broker.maintain()),
        ):
            listener.drain()
            step()
            hinted.append(listener.wait(0))

    assert hinted == [False, True, False, True]
