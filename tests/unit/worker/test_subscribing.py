"""Broadcast queues as a worker sees them: subscriptions that come and go, and copies that are its own."""

from __future__ import annotations

import pytest

from cardoon.broker import Kept
from cardoon.brokers.memory import MemoryBroker
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError, OperationalError
from cardoon.queues import private_queue
from cardoon.worker.subscribing import Subscriptions
from tests.unit.newsroom import Newsroom
from tests.unit.stage import PATIENCE

ONE, TWO = "one@here", "two@here"


@pytest.fixture
def room(tmp_path):
    made = Newsroom(tmp_path)
    yield made
    made.close()


def test_who_subscribes_later_gets_what_is_sent_later(room):
    room.send(0)
    room.start(ONE)
    room.send(1)
    room.start(TWO)
    room.send(2)

    assert sorted(room.work()) == [(ONE, 1), (ONE, 2), (TWO, 2)]


def test_only_who_consumes_the_queue_gets_a_copy(room):
    room.start(ONE, queues=("celery", "weather"))
    room.start(TWO, exclude_queues=("weather",))
    room.send(1)
    room.send(2, queue="weather")

    assert room.work() == [(ONE, 2), (TWO, 1)]


def test_a_task_sees_the_queue_that_it_was_sent_to(room):
    @room.app.task(name="ask", bind=True)
    def ask(task):
        room.ran.append(task.request.delivery_info["routing_key"])

    room.start(ONE)
    ask.apply_async(queue="news")

    assert room.work() == ["news"]


def test_a_worker_that_stops_drops_its_copies_and_says_so(room, caplog):
    room.start(ONE, TWO)
    room.send(1)
    room.send(2, countdown=100)

    room.stop(ONE)

    assert "2 broadcast messages were dropped" in caplog.text
    assert [one["count"] for one in room.audited("worker.unsubscribe")] == [2]
    room.start(ONE)
    assert room.work() == [(TWO, 1)]


def test_a_worker_that_died_finds_its_copies_under_its_name(room, caplog):
    room.start(ONE, TWO)
    room.send(1)
    room.workers[ONE].claim(room.broker, limit=1, only=None)
    room.send(2)
    room.kill(ONE)

    assert "subscription" not in caplog.text
    room.start(ONE)
    room.pass_time(10)

    assert "name each with -n" in caplog.text
    assert sorted(room.work(ONE)) == [(ONE, 1), (ONE, 2)]


def test_but_not_for_ever(room):
    room.start(ONE, TWO)
    room.send(1)
    room.kill(ONE)
    room.pass_time(30)
    room.start(ONE)
    room.send(2)

    assert room.work() == [(TWO, 1), (TWO, 2), (ONE, 2)]
    assert room.left() == 0


def test_a_worker_that_lives_stays_subscribed(room):
    room.start(ONE)
    room.pass_time(600)
    room.send(1)

    assert room.work() == [(ONE, 1)]


def test_a_worker_that_was_frozen_for_too_long_hears_of_it(room, caplog):
    room.start(ONE)
    room.clock.advance(100)
    room.broker.maintain()
    room.send(1)

    room.workers[ONE].keeper.tick()
    room.send(2)

    assert room.work() == [(ONE, 2)]
    assert "what was sent meanwhile did not reach this worker" in caplog.text
    assert len(room.audited("worker.subscription_lost")) == 2


def test_countdown_priority_and_expiry_count_for_each_copy(room):
    room.start(ONE, TWO)
    room.send("late", countdown=20)
    room.send("stale", expires=5)
    room.work(ONE)
    room.send("low", priority=1)
    room.send("high", priority=8)
    room.pass_time(10)

    assert room.work() == [(ONE, "high"), (ONE, "low"), (TWO, "high"), (TWO, "low")]
    room.pass_time(10)
    assert room.work() == [(ONE, "late"), (TWO, "late")]
    [expired] = room.broker.kept(Kept.DEAD_LETTER, limit=10)
    assert (expired.queue, expired.reason) == (private_queue("news", TWO), "expired")


def test_to_revoke_the_id_is_to_revoke_every_copy(room):
    room.start(ONE, TWO)
    result = room.send(1)
    room.work(ONE)

    result.revoke()

    assert room.work() == []
    assert room.left() == 0


@pytest.mark.parametrize("acks_late", [True, False])
@pytest.mark.parametrize("changes", [{}, {"args": ("again",)}])
def test_a_retry_is_for_the_worker_that_asked_for_it(room, acks_late, changes):
    @room.app.task(name="flaky", bind=True, acks_late=acks_late)
    def flaky(task, word):
        room.ran.append((task.request.hostname, word, task.request.retries))
        if task.request.hostname == ONE and task.request.retries < 2:
            raise task.retry(countdown=1, **changes)

    room.start(ONE, TWO)
    flaky.apply_async(("first",), queue="news")
    room.work()
    for _ in range(3):
        room.pass_time(1)
        room.work()

    word = "again" if changes else "first"
    assert room.ran == [(ONE, "first", 0), (TWO, "first", 0), (ONE, word, 1), (ONE, word, 2)]
    assert (room.left(), room.refused()) == (0, [])


def test_what_takes_the_place_of_copies_in_another_queue_runs_for_each_of_them(room):
    @room.app.task(name="elsewhere", bind=True)
    def elsewhere(task, how):
        if how == "retry":
            raise task.retry(queue="celery", args=("done",), countdown=0)
        if how == "replace":
            raise task.replace(room.tell.si(1) | elsewhere.si("done"))
        room.ran.append((task.request.id, task.request.delivery_info["routing_key"]))

    room.start(ONE, TWO)
    for how in ("retry", "replace"):
        result = elsewhere.apply_async((how,), queue="news")
        for _ in range(4):
            room.work(ONE)
            room.work(TWO)
        ends = [one for one in room.ran if one[0] == result.id]
        assert ends == [(result.id, "celery")] * 2
    assert (room.left(), room.refused()) == (0, [])


def test_nothing_can_wait_for_what_takes_the_place_of_a_copy(room):
    @room.app.task(name="replaced", bind=True)
    def replaced(task):
        raise task.replace(room.tell.si(1).on_error(room.tell.si(2)))

    room.start(ONE)
    replaced.apply_async(queue="news")

    assert room.work() == []
    [dead] = room.broker.kept(Kept.DEAD_LETTER, limit=10)
    assert (dead.reason, room.left()) == ("it cannot be signed", 0)


def test_a_copy_that_was_kept_runs_when_it_is_put_back(room):
    @room.app.task(name="refuse", bind=True)
    def refuse(task):
        room.ran.append(task.request.hostname)
        if len(room.ran) == 1:
            raise ValueError("not now")

    refuse.acks_on_failure_or_timeout = False
    room.start(ONE, TWO)
    refuse.apply_async(queue="news")
    room.work()
    [dead] = room.broker.kept(Kept.DEAD_LETTER, limit=10)

    assert room.broker.restore(Kept.DEAD_LETTER, [dead.number]) == 1

    assert room.work() == [ONE]


def test_a_task_may_broadcast(room):
    @room.app.task(name="announce")
    def announce(word):
        room.ran.append(word)
        room.tell.apply_async((word,), queue="news")

    room.start(ONE, TWO)
    with room.app.attached(room.client):
        announce.delay("well")
        room.work(ONE)

    assert room.work() == [(ONE, "well"), (TWO, "well")]


def test_the_result_is_that_of_the_last_to_end(room):
    room.start(ONE, TWO)
    result = room.send()
    room.work()

    assert result.get(timeout=PATIENCE) == TWO


def test_purge_at_the_start_spares_the_copies_of_others(room):
    room.start(ONE, TWO)
    room.send(1)

    assert room.workers[ONE].consumer.sources == (
        "celery",
        private_queue("news", ONE),
        private_queue("weather", ONE),
    )
    assert room.broker.purge(private_queue("news", ONE)) == 1
    assert room.work() == [(TWO, 1)]


@pytest.mark.parametrize(
    ("name", "send"),
    [
        ("after", lambda tell: (tell.s(1).set(queue="celery") | tell.s(2).set(queue="news")).delay()),
        ("before", lambda tell: (tell.s(1).set(queue="news") | tell.s(2).set(queue="celery")).delay()),
        ("callback", lambda tell: tell.apply_async(queue="news", link=tell.s().set(queue="celery"))),
        ("errback", lambda tell: tell.apply_async(queue="celery", link_error=tell.s().set(queue="news"))),
    ],
)  # fmt: skip
def test_a_step_of_a_canvas_is_no_broadcast(room, name, send):
    room.start(ONE)

    with pytest.raises(InvalidTaskError, match="'news' ends once in every worker"):
        send(room.tell)

    assert (room.left(), name) == (0, name)


@pytest.mark.parametrize("options", [{"unique": True}, {"concurrency_limit": 1}])
def test_what_is_counted_is_no_broadcast(room, options):
    with pytest.raises(InvalidTaskError, match=r"'news' runs in every worker, so it has no unique"):
        room.send(1, **options)


class PlainBroker:
    """A broker without any power."""


def test_a_broker_without_the_power_is_named_with_the_remedy(room):
    worker = {"broker": PlainBroker(), "audit": None, "clock": room.clock}

    with pytest.raises(ImproperlyConfigured, match="'news' is a Broadcast, and this broker keeps"):
        Subscriptions({"news>one": "news"}, **worker)
    idle = Subscriptions({}, **worker)
    idle.begin()
    idle.renew()
    idle.end()


def test_to_begin_again_is_no_warning(room, caplog):
    subscriptions = Subscriptions(
        {"news>one": "news"}, broker=MemoryBroker(clock=room.clock), audit=None, clock=room.clock
    )
    subscriptions.begin()
    subscriptions.begin()

    assert caplog.messages == []


class AwayBroker(MemoryBroker):
    """A store that is not there when the worker stops."""

    def unsubscribe(self, subscriptions):
        raise OperationalError("it is away")


def test_a_store_that_is_away_at_the_end_is_no_reason_to_stay(room, caplog):
    subscriptions = Subscriptions(
        {"news>one": "news"}, broker=AwayBroker(clock=room.clock), audit=None, clock=room.clock
    )
    subscriptions.begin()

    subscriptions.end()

    assert "run out by themselves: it is away" in caplog.text
