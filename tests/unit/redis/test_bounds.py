"""What lies in the store is bounded, and so is what one step carries or holds up."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon import backends, brokers
from cardoon.backend import SealedResult
from cardoon.broker import (
    Ack,
    Cause,
    Completion,
    Kept,
    Limit,
    Outcome,
    Outgoing,
    Predecessor,
    Quarantine,
    Requeue,
    Subscription,
    Trigger,
    Unique,
)
from cardoon.clock import SystemClock
from cardoon.quarantine import Bounds, find_excess, thin_out
from cardoon.redis import inspecting, messages, packing
from cardoon.security.replay import MAX_SEQUENCE, Nonce, NonceClaim
from cardoon.testing import FakeClock

LONG = 30.0


@pytest.fixture
def broker(server):
    made = brokers.connect(server.url, clock=SystemClock())
    yield made
    made.close()


@pytest.fixture
def backend(server, broker):
    made = backends.connect(server.url, clock=SystemClock(), beside=broker)
    yield made
    made.close()


def message(name, **options):
    return Outgoing("q", name, name.encode(), **options)


def receive(broker, limit=1000):
    return broker.receive(["q"], limit=limit, lease=30, timeout=0)


def keys(broker):
    """What lies in the store for ever, and what for a time."""
    [names] = broker.store.ask_many([("KEYS", "*")])
    lives = broker.store.ask_many([("PTTL", name) for name in names])
    forever = {name.decode() for name, life in zip(names, lives, strict=True) if life == -1}
    return forever, {name.decode() for name in names} - forever


def calls(broker, command):
    """How often the server has carried out a command since its counts began."""
    [told] = broker.store.ask_many([("INFO", "commandstats")])
    found = re.search(rf"^cmdstat_{command}:calls=(\d+)", told.decode(), re.MULTILINE)
    return int(found[1]) if found else 0


def scripts(broker, kind=""):
    """How many scripts it has run; with `_ro` those that only read."""
    return calls(broker, f"evalsha{kind}") + calls(broker, f"eval{kind}")


def dump(broker):
    """All keys with what they hold, in bytes of the server's."""
    [names] = broker.store.ask_many([("KEYS", "*")])
    return dict(zip(names, broker.store.ask_many([("DUMP", name) for name in names]), strict=True))


def test_what_is_sent_alone_lies_as_it_would_in_company(server):
    clock = FakeClock()
    broker = brokers.connect(server.url, clock=clock)
    sent = [message("now"), message("urgent", priority=9), message("now"), message("x" * 300)]
    sent += [message("past", run_at=clock.now() - 5), message("later", run_at=clock.now() + 5)]
    broker.publish(sent, timeout=5)
    alone = dump(broker)
    server.ask("FLUSHALL")

    broker.store.run("publish", (len(sent), *packing.pack_messages(sent)))

    assert alone == dump(broker)
    assert len(receive(broker)) == 4
    broker.close()


def test_nothing_is_left_of_what_has_ended(broker, backend):
    soon = time.time() + 60
    broker.declare(["q"])
    first = Predecessor("first", b"")
    broker.publish(
        [
            message("first"),
            message("follows", after=(first,)),
            message("errback", after=(first,), trigger=Trigger.FAILURE),
            message("behind", after=(Predecessor("errback", b""),)),
            message("only", unique=Unique("u", 5)),
            *(message(f"slow{number}", limit=Limit("k", 2, 0.001)) for number in range(9)),
            message("late", run_at=time.time() + 0.05),
            message("odd"),
            message("flaky"),
        ],
        timeout=5,
    )
    broker.broadcast(b"revoked", expires_at=time.time() + 0.05)
    retried: set[str] = set()
    sequence = 0
    while any(depth.ready + depth.scheduled + depth.leased + depth.dormant + depth.limited
              for depth in broker.depths()):  # fmt: skip
        held = broker.receive(["q"], limit=3, lease=30, timeout=1)
        completions = []
        for each in held:
            sequence += 1
            nonce = Nonce(bytes(16), sequence, soon)
            broker.claim([NonceClaim(nonce, each.receipt, each.attempt)])
            if each.id == "flaky" and each.id not in retried:
                retried.add(each.id)
                completions.append(Completion(Requeue(each, Cause.RETRIED, 0.05), nonce=nonce))
            elif each.id == "odd":
                completions.append(Completion(Quarantine(each, "odd"), nonce=nonce))
            else:
                result = SealedResult(each.id, b"r", final=True, expires_at=soon)
                ended = Outcome(b"r", succeeded=True)
                completions.append(Completion(Ack(each), result, nonce=nonce, outcome=ended))
        assert all(broker.complete(completions))
    assert broker.discard(Kept.QUARANTINE, None) == 1
    broker.maintain()

    forever, for_a_time = keys(broker)

    # A token may lie in the bell for whoever comes next.
    assert forever - {"{cardoon}:bell:q", "{cardoon}:broadcasts"} == {
        "{cardoon}:last",
        "{cardoon}:epoch",
        "{cardoon}:queues",
    }
    kinds = {name.split(":")[1] for name in for_a_time}
    assert kinds <= {
        "result", "seen", "held", "claimed", "completed", "recent", "limit", "broadcast"
    }  # fmt: skip


def test_nothing_is_left_of_a_subscription_that_has_ended(broker):
    one, two = Subscription("news", "news>one"), Subscription("news", "news>two")
    broker.subscribe([one, two], seconds=60)
    broker.publish([Outgoing("news", f"n{n}", b"x", fanout=True) for n in range(3)], timeout=5)
    held = broker.receive([one.queue], limit=2, lease=30, timeout=0)
    broker.pause(["news"])
    broker.resume(["news"])
    assert broker.unsubscribe([one, two]) == 4
    assert all(broker.settle([Ack(each) for each in held]))
    broker.maintain()

    forever, _ = keys(broker)

    named = {"last", "epoch", "bell:news", "rest:news"}
    assert forever == {f"{{cardoon}}:{name}" for name in named}


def test_who_has_taken_all_waits_without_another_look(broker):
    broker.publish([message("first")], timeout=5)
    broker.receive(["q"], limit=10, lease=30, timeout=0)
    assert broker.receive(["q"], limit=10, lease=30, timeout=0.01) == []  # and takes the token
    before = scripts(broker)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.receive, ["q"], limit=10, lease=30, timeout=LONG)
        while b"cmd=blpop" not in broker.store.ask_many([("CLIENT", "LIST")])[0]:
            pass
        broker.publish([message("second")], timeout=5)

        assert [one.id for one in waiting.result(LONG)] == ["second"]

    assert scripts(broker) - before == 2  # the send, and the claim that it set off


def test_a_queue_that_a_full_claim_did_not_come_to_wakes_another(broker):
    broker.publish([message("a"), Outgoing("r", "b", b"x")], timeout=5)
    broker.store.ask_many([("DEL", "{cardoon}:bell:q", "{cardoon}:bell:r")])  # taken for this claim

    [first] = broker.receive(["q", "r"], limit=1, lease=30, timeout=0)

    left = {"q", "r"} - {first.queue}
    bells = {
        name for name in "qr" if broker.store.ask_many([("EXISTS", f"{{cardoon}}:bell:{name}")])[0]
    }
    assert bells == left


def test_what_is_sent_to_a_queue_that_rests_wakes_nobody(broker):
    broker.pause(["q"])
    before = scripts(broker)
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(broker.receive, ["q", "r"], limit=1, lease=30, timeout=LONG)
        while b"cmd=blpop" not in broker.store.ask_many([("CLIENT", "LIST")])[0]:
            pass
        for number in range(200):
            broker.publish([message(str(number))], timeout=5)
        broker.publish([Outgoing("r", "other", b"x")], timeout=5)

        assert [one.id for one in waiting.result(LONG)] == ["other"]

    assert scripts(broker) - before < 250  # 201 of them sent


def test_who_waits_for_a_queue_that_rests_is_told_that_it_goes_on(broker):
    broker.pause(["news", "q"])
    broker.subscribe([Subscription("news", "news>one")], seconds=60)
    broker.publish([Outgoing("news", "a", b"x", fanout=True), message("b")], timeout=5)

    broker.resume(["news", "q"])

    names = ["{cardoon}:rest:news>one", "{cardoon}:rest:q", "{cardoon}:bell:news>one"]
    assert broker.store.ask_many([("LLEN", name) for name in names]) == [1, 1, 1]


def test_a_great_many_subscribers_hold_up_nobody_when_depths_are_looked_at(broker):
    many = [Subscription("news", f"news>{number}") for number in range(1000)]
    broker.subscribe(many, seconds=60)
    broker.publish([Outgoing("news", "a", b"x", fanout=True)], timeout=5)
    before = scripts(broker, "_ro")

    [news] = broker.depths()

    assert (news.ready, news.subscribers) == (1000, 1000)
    assert scripts(broker, "_ro") - before >= 5
    assert broker.purge("news") == 1000


def test_an_ordinary_send_does_not_ask_who_is_subscribed(broker):
    def asked():
        return calls(broker, "zrangebyscore")

    before = asked()
    broker.publish([message(str(number)) for number in range(9)], timeout=5)
    assert asked() == before

    broker.publish([Outgoing("news", f"n{n}", b"x", fanout=True) for n in range(9)], timeout=5)
    assert asked() == before + 1


def test_a_broadcast_that_is_over_is_swept(server):
    clock = FakeClock()
    broker = brokers.connect(server.url, clock=clock)
    for number in range(5):
        broker.broadcast(b"x", expires_at=clock.now() + 5 + number)
    [names] = broker.store.ask_many([("KEYS", "*broadcast:*")])
    broker.store.ask_many([("DEL", name) for name in names])  # as the server does in time
    broker.maintain()

    assert broker.store.ask_many([("EXISTS", "{cardoon}:broadcasts")]) == [0]
    broker.close()


def test_a_done_mark_is_a_bit_and_a_claim_goes_with_it(broker):
    expires_at = time.time() + 3600
    nonces = [Nonce(b"s" * 16, number, expires_at) for number in range(0, MAX_SEQUENCE, 8)]
    broker.publish([message(str(number)) for number in range(len(nonces))], timeout=5)
    held = receive(broker, limit=len(nonces))
    broker.claim([NonceClaim(n, d.receipt, d.attempt) for n, d in zip(nonces, held, strict=True)])
    broker.complete([Completion(Ack(d), nonce=n) for n, d in zip(nonces, held, strict=True)])

    seen, held_key = ("{cardoon}:" + kind + ":" + "s" * 16 for kind in ("seen", "held"))
    size, left, is_held = broker.store.ask_many(
        [("STRLEN", seen), ("PTTL", seen), ("EXISTS", held_key)]
    )
    assert size <= MAX_SEQUENCE // 8
    assert 3_600_000 - 5_000 < left < 3_600_000 + 120_000
    assert is_held == 0


def test_a_full_quarantine_is_thinned_out_in_small_steps(broker, monkeypatch):
    monkeypatch.setattr(inspecting, "_MOST_AT_ONCE", 3)
    for number in range(20):
        broker.quarantine(
            queue="q", id=f"x{number}", frame=b"12", reason="malformed", detail="never mind"
        )
    before = scripts(broker)

    gone = thin_out(broker, find_excess(broker.quarantined(), Bounds(messages=8, bytes=1000)))

    assert gone == [("malformed", 12, 24)]
    assert broker.quarantined() == [("malformed", 8, 16)]
    assert 5 <= scripts(broker) - before <= 6  # the server may have had to be told the script
    broker.discard(Kept.QUARANTINE, None)
    assert not any("kept" in name or "quarantined" in name for name in keys(broker)[0])


def test_a_sequence_beyond_its_bound_reaches_no_bitmap(broker):
    with pytest.raises(ValueError, match="is not below"):
        broker.finish([Nonce(bytes(16), 2**32 - 1, 9e9)])


BOUND = 200_000


@pytest.fixture
def small_claims(monkeypatch):
    assert messages.MAX_CLAIM_BYTES == 32 * 2**20
    monkeypatch.setattr(messages, "MAX_CLAIM_BYTES", BOUND)


@pytest.mark.usefixtures("small_claims")
def test_a_claim_carries_no_more_than_its_bound_but_one_message(broker):
    large = bytes(BOUND // 2 - 100)
    for name in "abc":
        broker.publish([Outgoing("q", name, large)], timeout=20)
    broker.publish([Outgoing("q", "huge", bytes(BOUND + 1))], timeout=20)

    claims = [[each.id for each in receive(broker)] for _ in range(4)]

    assert claims == [["a", "b"], ["c"], ["huge"], []]


@pytest.mark.usefixtures("small_claims")
def test_inputs_count_in_what_a_claim_carries(broker):
    names = [f"m{number}" for number in range(3)]
    broker.publish(list(map(message, names)), timeout=5)
    broker.publish([message(f"after{n}", after=(Predecessor(n, b""),)) for n in names], timeout=5)
    large = bytes(BOUND // 2)
    for each in receive(broker):
        broker.complete([Completion(Ack(each), outcome=Outcome(large, succeeded=True))])

    assert [len(receive(broker)) for _ in range(4)] == [1, 1, 1, 0]


def test_what_upkeep_takes_back_at_once_is_bounded_but_all_is_taken(server):
    clock = FakeClock()
    broker = brokers.connect(server.url, clock=clock)
    broker.publish([message(str(number)) for number in range(1000)], timeout=5)
    assert len(receive(broker)) == 1000
    clock.advance(30)
    [count, has_more, _] = broker.store.run("maintain", ())

    assert (count, has_more) == (200, 1)
    assert broker.maintain() == 800
    broker.close()


def test_a_look_for_strays_goes_on_where_it_was_stopped(server):
    clock = FakeClock()
    broker = brokers.connect(server.url, clock=clock)
    there = [f"m{number}" for number in range(3000)]
    broker.publish([message(name, run_at=9e9) for name in there], timeout=20)
    after = tuple(Predecessor(name, b"") for name in (*there, "nowhere"))
    broker.publish([message("body", after=after)], timeout=20)
    clock.advance(11)
    [_, has_more, _] = broker.store.run("maintain", ())

    assert has_more == 1
    assert receive(broker) == []
    broker.maintain()
    assert [each.id for each in receive(broker)] == ["body"]
    broker.close()


def test_a_purge_in_steps_deletes_everything_once(broker):
    broker.publish([message(f"m{number}") for number in range(1300)], timeout=10)
    broker.publish([message(f"k{n}", limit=Limit(f"k{n % 3}", 1)) for n in range(700)], timeout=10)

    assert broker.purge("q") == 2000
    named = {"last", "epoch", "used", "bell:q"}
    assert keys(broker)[0] <= {f"{{cardoon}}:{name}" for name in named}


def test_thousands_of_results_are_waited_for_with_few_looks(broker, backend):
    names = [f"t{number}" for number in range(5000)]
    results = [SealedResult(name, b"r" * 100, final=True, expires_at=None) for name in names]
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(lambda: list(backend.wait(names, timeout=LONG)))
        while b"cmd=subscribe" not in broker.store.ask_many([("CLIENT", "LIST")])[0]:
            pass
        before = calls(broker, "mget")
        for start in range(0, 5000, 100):
            backend.store(results[start : start + 100])
        arrived = waiting.result(LONG)

    assert sorted(each.task_id for each in arrived) == sorted(names)
    assert calls(broker, "mget") - before < 150


@pytest.mark.parametrize(("size", "looks"), [(100, 1), (16_384, 2)])
def test_who_waits_for_one_result_is_told_it_unless_it_is_long(broker, backend, size, looks):
    sealed = SealedResult("t", b"r" * size, final=True, expires_at=None)
    before = calls(broker, "mget")
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(lambda: list(backend.wait(["t"], timeout=LONG)))
        while calls(broker, "mget") == before:
            pass
        backend.store([sealed])

        assert waiting.result(LONG) == [sealed]

    assert calls(broker, "mget") - before == looks


def test_who_waits_again_for_the_same_is_told_again(backend):
    first = SealedResult("t", b"1", final=True, expires_at=None)
    for result in (first, first._replace(frame=b"2")):
        backend.store([result])
        assert list(backend.wait(["t"], timeout=5)) == [result]
        backend.forget(["t"])


def test_waiters_use_their_connections_again(broker, backend):
    for number in range(20):
        backend.store([SealedResult(f"t{number}", b"r", final=True, expires_at=None)])
        assert len(list(backend.wait([f"t{number}"], timeout=5))) == 1

    clients = broker.store.ask_many([("CLIENT", "LIST")])[0].count(b"cmd=")
    assert clients <= 4


def test_a_waiter_hears_at_once(backend):
    delays = []
    for number in range(5):
        name = f"t{number}"
        started = []

        def store(name=name, started=started):
            started.append(time.monotonic())
            backend.store([SealedResult(name, b"r", final=True, expires_at=None)])

        timer = threading.Timer(0.1, store)
        timer.start()
        assert len(list(backend.wait([name], timeout=LONG))) == 1
        delays.append(time.monotonic() - started[0])
        timer.join()

    assert sorted(delays)[2] < 0.3, "the hint was not heard: only a look each second found it"


def test_results_and_leases_end_by_the_servers_clock(broker, backend):
    now = time.time()
    backend.store(
        [
            SealedResult("soon", b"r", final=True, expires_at=now + 0.2),
            SealedResult("later", b"r", final=True, expires_at=now + 3600),
            SealedResult("never", b"r", final=True, expires_at=None),
            SealedResult("over", b"r", final=True, expires_at=now - 1),
        ]
    )
    broker.publish([message("a")], timeout=5)
    [held] = broker.receive(["q"], limit=1, lease=0.1, timeout=0)
    lives = broker.store.ask_many(
        [("PTTL", f"{{cardoon}}:result:{name}") for name in ("later", "never")]
    )
    deadline = time.monotonic() + LONG
    while "soon" in backend.load(["soon"]) or not broker.maintain():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)

    assert set(backend.load(["soon", "later", "never", "over"])) == {"later", "never"}
    assert 3_590_000 < lives[0] < 3_600_100  # the server rounds, and its clock is its own
    assert lives[1] == -1
    assert broker.settle([Ack(held)]) == [False]
    [again] = broker.receive(["q"], limit=1, lease=30, timeout=LONG)
    assert (again.crashes, again.attempt) == (1, 2)
    assert time.time() - now > 1
