"""Copies of what is broadcast: stored with the send, told of, and gone with their subscription."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from cardoon.broker import (
    MAX_SUBSCRIBERS,
    Ack,
    Completion,
    Outgoing,
    Subscription,
)
from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres import messages
from cardoon.postgres.wakeups import Bell

LONG = 20.0
FIRST = Subscription("news", "news>a")
SECOND = Subscription("news", "news>b")


def news(name):
    return Outgoing("news", name, name.encode(), fanout=True)


def taken(broker, queue=FIRST.queue):
    return [each.frame for each in broker.receive([queue], limit=999, lease=60, timeout=0)]


def age(postgres, seconds):
    """As if all had subscribed so long before."""
    postgres.ask("UPDATE cardoon.subscription SET expires_at = expires_at - %s", seconds)


def subscribed(postgres):
    return [queue for (queue,) in postgres.ask("SELECT queue FROM cardoon.subscription ORDER BY 1")]


def wait_for_the_end(postgres, *, but=0):
    """Of all sessions but so many: when it ends, each has told the statistics what it did."""
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cardoon'"
    deadline = time.monotonic() + LONG
    while postgres.ask(count) != [(but,)]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def sender(postgres, url):
    """A connection of somebody else's, and what calls our functions on it."""
    with psycopg.connect(url) as connection:

        class Caller:
            def call(self, name, *arguments):
                marks = ", ".join(["%s"] * len(arguments))
                text = f"SELECT * FROM cardoon.{name}({marks})"
                return connection.execute(text, arguments).fetchall()

        yield connection, Caller()


def test_a_subscriber_that_waits_is_told_of_copies(connect, url):
    worker, client = connect(url), connect(url)
    worker.subscribe([FIRST], seconds=60)
    client.publish([Outgoing("q", "m", b"m")], timeout=LONG)
    [held] = client.receive(["q"], limit=1, lease=60, timeout=0)
    with worker.postgres.wakeups.listen(Bell.MESSAGES, {FIRST.queue}) as ear:
        assert ear.wait(LONG)  # when listening begins

        client.publish([news("a"), Outgoing("q", "b", b"b")], timeout=LONG)
        assert ear.wait(LONG)
        client.complete([Completion(Ack(held), publish=(news("c"),))])
        assert ear.wait(LONG)


def test_a_copy_that_a_later_completion_ends_was_stored_when_it_was_sent_again(connect, url):
    broker = connect(url)
    broker.subscribe([FIRST, SECOND], seconds=60)
    broker.publish([news("a"), Outgoing("q", "m", b"m")], timeout=LONG)
    [copy] = broker.receive([FIRST.queue], limit=1, lease=60, timeout=0)
    [other] = broker.receive([SECOND.queue], limit=1, lease=60, timeout=0)
    [held] = broker.receive(["q"], limit=1, lease=60, timeout=0)
    ends = [
        Completion(Ack(other)),
        Completion(Ack(held), publish=(news("a"),)),
        Completion(Ack(copy)),
    ]

    assert broker.complete(ends) == [True] * 3

    assert (taken(broker), taken(broker, SECOND.queue)) == ([], [b"a"])


def test_a_broadcast_may_have_the_id_of_a_message_that_a_later_completion_ends(connect, url):
    broker = connect(url)
    broker.subscribe([FIRST], seconds=60)
    broker.publish([Outgoing("q", "m", b"m"), Outgoing("q", "a", b"a")], timeout=LONG)
    held, other = broker.receive(["q"], limit=2, lease=60, timeout=0)

    broker.complete([Completion(Ack(held), publish=(news("a"),)), Completion(Ack(other))])

    assert (taken(broker), taken(broker, "q")) == ([b"a"], [])


def test_copies_of_a_lost_loan_are_not_sent(connect, url):
    broker = connect(url)
    broker.subscribe([FIRST], seconds=60)
    broker.publish([Outgoing("q", "m", b"m"), Outgoing("q", "n", b"n")], timeout=LONG)
    lost, held = broker.receive(["q"], limit=2, lease=60, timeout=0)
    broker.settle([Ack(lost)])
    ends = [
        Completion(Ack(lost), publish=(news("a"),)),
        Completion(Ack(held), publish=(news("b"), Outgoing("q", "o", b"o"))),
    ]

    assert broker.complete(ends) == [False, True]

    assert (taken(broker), taken(broker, "q")) == ([b"b"], [b"o"])


def test_more_than_one_call_carries_comes_in_one_order(connect, url):
    broker = connect(url)
    broker.subscribe([FIRST, SECOND], seconds=60)
    names = [f"m{number}" for number in range(250)]

    broker.publish([news(name) for name in names], timeout=LONG)

    assert taken(broker) == taken(broker, SECOND.queue) == [name.encode() for name in names]


def test_copies_become_visible_with_the_commit_of_the_senders_own_transaction(broker, sender):
    connection, caller = sender
    broker.subscribe([FIRST], seconds=60)

    messages.publish_within(caller, [news("a")], now=None)
    before = taken(broker)
    connection.rollback()
    messages.publish_within(caller, [news("b")], now=None)
    connection.commit()

    assert (before, taken(broker)) == ([], [b"b"])


def test_a_subscription_that_a_sender_has_seen_is_not_forgotten_before_his_commit(
    broker, sender, postgres
):
    connection, caller = sender
    broker.subscribe([FIRST, SECOND], seconds=60)
    messages.publish_within(caller, [news("a")], now=None)
    broker.subscribe([SECOND], seconds=600)  # renewing waits for no sender
    age(postgres, 60)

    broker.maintain()
    while_open = subscribed(postgres)
    connection.commit()
    broker.maintain()

    assert (while_open, subscribed(postgres)) == ([FIRST.queue, SECOND.queue], [SECOND.queue])
    assert (taken(broker), taken(broker, SECOND.queue)) == ([], [b"a"])


def test_a_sender_whose_transaction_sees_an_older_state_is_not_hindered_by_renewals(broker, sender):
    connection, caller = sender
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    broker.subscribe([FIRST], seconds=60)
    connection.execute("SELECT 1 FROM cardoon.queue")
    broker.subscribe([FIRST], seconds=60)

    messages.publish_within(caller, [news("a")], now=None)
    broker.subscribe([FIRST], seconds=60)
    connection.commit()

    assert taken(broker) == [b"a"]


def test_to_renew_and_to_send_look_at_no_more_subscriptions_than_concern_them(
    connect, url, postgres
):
    reads = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'subscription'"
    broker, other = connect(url), connect(url)
    broker.publish([news("a")], timeout=LONG)  # plans are made while there are none
    broker.subscribe([FIRST], seconds=60)
    many = [Subscription("weather", f"weather>{number}") for number in range(2000)]
    other.subscribe(many, seconds=60)
    other.close()
    wait_for_the_end(postgres, but=1)
    [(before,)] = postgres.ask(reads)

    for number in range(20):
        broker.subscribe([FIRST], seconds=60)
        broker.publish([news(f"m{number}")], timeout=LONG)
    broker.close()
    wait_for_the_end(postgres)

    assert 0 < postgres.ask(reads)[0][0] - before < 2000


def test_who_leaves_waits_for_no_sender(broker, sender, postgres):
    connection, caller = sender
    broker.subscribe([FIRST], seconds=60)
    messages.publish_within(caller, [news("a")], now=None)
    started = time.monotonic()

    assert broker.unsubscribe([FIRST]) == 0

    assert time.monotonic() - started < LONG / 4
    connection.commit()
    broker.maintain()
    assert (subscribed(postgres), taken(broker)) == ([], [])


def test_those_who_subscribe_at_the_same_time_are_not_more_than_there_may_be(connect, url):
    brokers = [connect(url) for _ in range(4)]
    most = MAX_SUBSCRIBERS - 2
    brokers[0].subscribe(
        [Subscription("news", f"news>{number}") for number in range(most)], seconds=60
    )
    start = threading.Barrier(4)

    def subscribe(number):
        start.wait(LONG)
        try:
            brokers[number].subscribe([Subscription("news", f"news>of {number}")], seconds=60)
        except ImproperlyConfigured:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        done = [each.result(LONG) for each in [threads.submit(subscribe, n) for n in range(4)]]

    assert sorted(done) == [False, False, True, True]


def test_those_who_broadcast_the_same_in_any_order_do_not_lock_each_other_out(
    connect, url, postgres
):
    brokers = [connect(url) for _ in range(4)]
    many = [Subscription("news", f"news>{number}") for number in range(20)]
    brokers[0].subscribe(many, seconds=60)
    start = threading.Barrier(4)
    deadlocks = "SELECT sum(deadlocks) FROM pg_stat_database"
    before = postgres.ask(deadlocks)

    def send(number):
        for turn in range(5):
            names = [f"{turn}.{each}" for each in range(50)]
            start.wait(LONG)
            order = names if number % 2 else names[::-1]
            brokers[number].publish([news(name) for name in order], timeout=LONG)

    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(send, number) for number in range(4)]:
            each.result(LONG)

    assert len(taken(brokers[0], "news>7")) == 250
    for broker in brokers:
        broker.close()
    wait_for_the_end(postgres)
    assert postgres.ask(deadlocks) == before


def test_subscriptions_come_and_go_while_others_send_and_tidy_up(connect, url, postgres):
    brokers = [connect(url) for _ in range(4)]
    start = threading.Barrier(4)

    def work(number):
        start.wait(LONG)
        mine = Subscription("news", f"news>{number}")
        for turn in range(20):
            if number < 2:
                brokers[number].subscribe([mine, FIRST], seconds=60)
                brokers[number].unsubscribe([FIRST, mine][:: 1 - 2 * number])
            else:
                brokers[number].publish([news(f"{number}.{turn}")], timeout=LONG)
                brokers[number].maintain()

    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(work, number) for number in range(4)]:
            each.result(LONG)
    brokers[0].maintain()

    assert subscribed(postgres) == []
    assert postgres.ask("SELECT count(*) FROM cardoon.message") == [(0,)]
    assert postgres.ask("SELECT count(*) FROM cardoon.frame") == [(0,)]
