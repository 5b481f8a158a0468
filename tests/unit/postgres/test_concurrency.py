"""What many workers and senders do to one another: nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from cardoon.broker import (
    Ack,
    Completion,
    Limit,
    Outcome,
    Outgoing,
    Predecessor,
    Requeue,
    Unique,
)
from cardoon.security.replay import Nonce, NonceClaim, NonceState

LONG = 30.0
WORKERS = 4


def message(name, **options):
    return Outgoing("q", name, name.encode(), **options)


def at_once(count, work):
    """Run `work(number)` in so many threads, which begin together; what each returned."""
    start = threading.Barrier(count)

    def run(number):
        start.wait(LONG)
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return [each.result(LONG) for each in [threads.submit(run, n) for n in range(count)]]


def test_each_of_two_thousand_messages_is_taken_once(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    names = [f"m{number}" for number in range(2000)]
    brokers[0].publish([message(name) for name in names], timeout=LONG)

    def work(number):
        taken = []
        while deliveries := brokers[number].receive(["q"], limit=7, lease=60, timeout=0):
            assert all(brokers[number].settle([Ack(each) for each in deliveries]))
            taken += [each.id for each in deliveries]
        return taken

    taken = at_once(WORKERS, work)

    assert sorted(name for each in taken for name in each) == sorted(names)
    assert all(taken), "a worker was kept out"


def test_those_who_send_the_same_ids_in_any_order_do_not_lock_each_other_out(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    names = [f"m{number}" for number in range(100)]
    started = time.monotonic()

    def send(number):
        order = names if number % 2 else names[::-1]
        for _ in range(5):
            brokers[number].publish([message(name) for name in order], timeout=LONG)

    at_once(WORKERS, send)

    found = brokers[0].receive(["q"], limit=1000, lease=60, timeout=0)
    assert sorted(each.id for each in found) == sorted(names)
    assert time.monotonic() - started < 10


def test_leases_that_are_renewed_and_ended_in_any_order_do_not_lock_each_other_out(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    brokers[0].publish([message(f"m{number}") for number in range(200)], timeout=LONG)
    held = brokers[0].receive(["q"], limit=200, lease=60, timeout=0)

    def work(number):
        order = held if number % 2 else held[::-1]
        if number < 2:
            for _ in range(20):
                brokers[number].extend(order, lease=60)
            return 0
        return sum(brokers[number].settle([Ack(each) for each in order]))

    ended = at_once(WORKERS, work)

    assert sum(ended) == 200


def test_a_limit_is_exact_whoever_takes_its_turns(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    limits = [Limit("a", 3), Limit("b", 1), None]
    sent = [message(f"m{number}", limit=limits[number % 3]) for number in range(150)]
    brokers[0].publish(sent, timeout=LONG)
    keys = {one.id: one.limit.key if one.limit else None for one in sent}
    lock = threading.Lock()
    running: Counter = Counter()
    most: Counter = Counter()
    done = []

    def work(number):
        broker = brokers[number]
        deadline = time.monotonic() + LONG
        while len(done) < len(sent) and time.monotonic() < deadline:
            deliveries = broker.receive(["q"], limit=5, lease=60, timeout=0.1)
            with lock:
                running.update(keys[each.id] for each in deliveries)
                most.update({key: max(0, running[key] - most[key]) for key in running})
            with lock:
                running.subtract(keys[each.id] for each in deliveries)
            broker.settle([Ack(each) for each in deliveries])
            done.extend(each.id for each in deliveries)

    at_once(WORKERS, work)

    assert sorted(done) == sorted(keys)
    assert most["a"] <= 3
    assert most["b"] == 1


def test_a_rate_is_kept_whoever_takes_its_turns(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    limit = Limit("key", 0, 0.1)
    brokers[0].publish([message(f"m{number}", limit=limit) for number in range(12)], timeout=LONG)
    taken = []

    def work(number):
        while len(taken) < 12:
            found = brokers[number].receive(["q"], limit=5, lease=60, timeout=0.5)
            taken.extend([time.monotonic()] * len(found))
            brokers[number].settle([Ack(each) for each in found])

    at_once(WORKERS, work)

    assert len(taken) == 12
    assert 11 * 0.1 - 0.2 <= max(taken) - min(taken) <= 5


def test_one_of_many_senders_of_a_unique_key_is_stored(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    keys = [f"key{number}" for number in range(50)]

    def send(number):
        order = keys if number % 2 else keys[::-1]
        outgoing = [message(f"{key}.{number}", unique=Unique(key)) for key in order]
        return brokers[number].publish(outgoing, timeout=LONG)

    told = at_once(WORKERS, send)

    stored = {each.id for each in brokers[0].receive(["q"], limit=999, lease=60, timeout=0)}
    assert Counter(name.partition(".")[0] for name in stored) == Counter(keys)
    for number, stand_ins in enumerate(told):
        for key in keys:
            name = f"{key}.{number}"
            assert (name in stored) != (stand_ins.get(name) in stored)


def test_the_last_two_of_a_chord_wake_its_body_once(connect, url):
    brokers = [connect(url) for _ in range(2)]
    bodies = {}
    for number in range(60):
        members = [f"m{number}.{side}" for side in range(2)]
        after = tuple(Predecessor(name, b"r") for name in members)
        brokers[0].publish(
            [message(f"body{number}", after=after), *map(message, members)], timeout=LONG
        )
        held = {each.id: each for each in brokers[0].receive(["q"], limit=9, lease=60, timeout=0)}
        assert sorted(held) == members

        def end(side, held=held, members=members):
            outcome = Outcome(members[side].encode(), succeeded=True)
            return brokers[side].complete([Completion(Ack(held[members[side]]), outcome=outcome)])

        assert at_once(2, end) == [[True], [True]]
        [body] = brokers[0].receive(["q"], limit=9, lease=60, timeout=0)
        bodies[body.id] = [each.frame for each in body.inputs]
        brokers[0].settle([Ack(body)])

    assert bodies == {f"body{n}": [f"m{n}.0".encode(), f"m{n}.1".encode()] for n in range(60)}


def test_who_begins_to_wait_while_the_other_ends_is_told_or_was_too_late(connect, url, postgres):
    brokers = [connect(url) for _ in range(2)]
    for number in range(60):
        first = f"first{number}"
        brokers[0].publish([Outgoing("first", first, b"x")], timeout=LONG)
        [held] = brokers[0].receive(["first"], limit=9, lease=60, timeout=0)
        outcome = Outcome(b"end", succeeded=True)

        def step(side, held=held, outcome=outcome, first=first, number=number):
            if side == 0:
                return brokers[0].complete([Completion(Ack(held), outcome=outcome)])
            waits = message(f"waits{number}", after=(Predecessor(first, b"r"),))
            return brokers[1].publish([waits], timeout=LONG)

        at_once(2, step)

    stuck = postgres.ask(
        "SELECT count(*) FROM cardoon.dormant JOIN cardoon.input ON input.message = dormant.number "
        "JOIN cardoon.outcome USING (predecessor)"
    )
    assert stuck == [(0,)], "a message waits for an end that is known"


def test_of_two_deliveries_of_one_message_one_has_its_nonce(connect, url):
    brokers = [connect(url) for _ in range(2)]
    for number in range(40):
        brokers[0].publish([message(f"a{number}"), message(f"b{number}")], timeout=LONG)
        copies = brokers[0].receive(["q"], limit=2, lease=60, timeout=0)
        nonce = Nonce(b"session of 16 by", number, 9e9)

        def claim(side, copies=copies, nonce=nonce):
            mine = copies[side]
            return brokers[side].claim([NonceClaim(nonce, mine.receipt, mine.attempt)])[0]

        states = at_once(2, claim)

        assert Counter(states) == {NonceState.CLAIMED: 1, NonceState.HELD: 1}


def test_a_broadcast_is_heard_whoever_else_sends_one(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    heard: list[tuple[int, bytes]] = [(0, b"")]

    def work(number):
        for step in range(40):
            if number:
                brokers[number].broadcast(f"{number}.{step}".encode(), expires_at=9e9)
                continue
            heard.extend(brokers[0].heard(heard[-1][0]))

    at_once(WORKERS, work)
    heard.extend(brokers[0].heard(heard[-1][0]))

    assert sorted(frame for _, frame in heard[1:]) == sorted(
        f"{n}.{s}".encode() for n in range(1, WORKERS) for s in range(40)
    )


def test_what_goes_back_and_comes_again_is_lost_nowhere(connect, url):
    brokers = [connect(url) for _ in range(WORKERS)]
    names = [f"m{number}" for number in range(200)]
    brokers[0].publish([message(name) for name in names], timeout=LONG)
    done = []

    def work(number):
        broker = brokers[number]
        while deliveries := broker.receive(["q"], limit=5, lease=60, timeout=0):
            for each in deliveries:
                again = each.attempt < 3
                assert broker.settle([Requeue(each) if again else Ack(each)]) == [True]
                if not again:
                    done.append(each.id)

    at_once(WORKERS, work)
    work(0)

    assert sorted(done) == sorted(names)
