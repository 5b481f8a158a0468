"""`Simulation`: an app with its broker, worker and schedules, by a clock of its own."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from datetime import UTC, datetime, timedelta

import pytest

from cardoon import Cardoon, GroupResult, chain, chord, group
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    OperationalError,
    RemoteError,
    TaskRevokedError,
    TimeLimitExceeded,
    TimeoutError,  # noqa: A004  # Celery's name
)
from cardoon.queues import Broadcast, Queue
from cardoon.result import allow_join_result
from cardoon.schedules import crontab, schedule
from cardoon.testing import Simulation, SimulationError, capture


@pytest.fixture
def app(tmp_path):
    """An app whose own broker cannot even be opened."""
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with Cardoon(
        "shop",
        broker=f"sqlite:///{in_the_way}/tasks.db",
        state_directory=str(tmp_path / "own"),
        set_as_current=False,
    ) as made:
        yield made


@pytest.fixture
def add(app):
    @app.task(name="shop.add")
    def add(x, y=0):
        return x + y

    return add


@pytest.fixture
def simulation(app):
    with Simulation(app) as made:
        yield made


def minutes(simulation) -> list[float]:
    """When tasks ran, in minutes since the begin."""
    return [round((run.at.timestamp() - 1_700_000_000) / 60, 6) for run in simulation.runs]


def test_a_task_runs_when_it_is_told_to(simulation, add):
    result = add.delay(2, 2)

    assert result.state == "PENDING"
    assert simulation.left() == 1
    assert simulation.run_due() == 1
    assert result.state == "SUCCESS"
    assert result.get() == 4
    assert simulation.left() == 0
    assert [(run.task, run.id, run.outcome) for run in simulation.runs] == [
        ("shop.add", result.id, "succeeded")
    ]


def test_messages_are_signed_and_opened_as_in_production(simulation, app, add):
    result = add.delay(1)
    [message] = simulation._broker._messages.values()
    message.frame = message.frame[:-1] + bytes([message.frame[-1] ^ 1])

    simulation.run_due()

    assert result.state == "PENDING"
    assert simulation.runs == []
    assert simulation.refused() == ["wrong-digest"]


def test_nothing_is_read_from_or_written_to_the_apps_own_place(tmp_path, app, add):
    app.conf.update(
        security_key="/nowhere/key", security_certificate="/nowhere/pem", security_cert_store="/no"
    )

    with Simulation(app):
        assert add.delay(1).get() == 1

    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


def test_afterwards_the_app_is_as_before(app, add):
    clock, numbers = app.clock, random.Random(3)
    random.seed(3)

    with Simulation(app):
        random.random()
        add.delay(1)

    assert app.clock is clock
    assert random.random() == numbers.random()
    with pytest.raises(OperationalError):
        add.apply_async((1,), timeout=0.05)


def test_an_eager_app_sends_within_a_simulation(app, add):
    app.conf.task_always_eager = True

    with Simulation(app) as simulation:
        add.delay(1)
        assert simulation.run_due() == 1

    assert app.conf.task_always_eager is True


def test_the_current_app_is_simulated_where_none_is_named(tmp_path):
    with Cardoon("mine", state_directory=str(tmp_path)) as app, Simulation() as simulation:
        assert simulation.app is app


def test_what_falls_due_runs_at_its_time_and_in_order(simulation, add):
    add.apply_async((3,), countdown=180)
    add.apply_async((1,), countdown=60)
    add.apply_async((2,), eta=simulation.now + timedelta(minutes=2))
    add.delay(0)

    assert simulation.next_due() == simulation.now + timedelta(minutes=1)
    assert simulation.advance(120) == 3
    assert minutes(simulation) == [0, 1, 2]
    assert simulation.next_due() == simulation.now + timedelta(minutes=1)
    assert simulation.advance(timedelta(minutes=1)) == 1
    assert minutes(simulation) == [0, 1, 2, 3]
    assert simulation.next_due() is None
    assert simulation.advance(3600) == 0


def test_a_broadcast_reaches_the_worker_whatever_time_has_passed(app, add):
    app.conf.task_queues = [Queue("celery"), Broadcast("news")]
    with Simulation(app) as everything:
        everything.advance(timedelta(days=3))
        result = add.apply_async((1, 2), queue="news", countdown=60)
        assert everything.advance(60) == 1
        assert result.get() == 3
    with Simulation(app, queues=["celery"]) as some:
        add.apply_async((1, 2), queue="news")
        add.delay(3)
        assert some.run_due() == 1
    with Simulation(app, queues=["news"]) as others:
        add.apply_async((1, 2), queue="news")
        add.delay(3)
        assert others.run_due() == 1


def test_urgent_tasks_run_first(simulation, app):
    ran = []
    note = app.task(name="shop.note")(ran.append)

    for priority in (0, 9, 5):
        note.apply_async((priority,), priority=priority)
    simulation.run_due()

    assert ran == [9, 5, 0]


def test_a_task_that_expires_does_not_run(simulation, add):
    result = add.apply_async((1,), countdown=60, expires=30)

    simulation.advance(60)

    assert result.state == "REVOKED"
    assert simulation.runs == []
    assert simulation.dead_letters() == ["expired"]


def test_retries_follow_with_their_backoff(simulation, app):
    @app.task(
        name="shop.flaky",
        autoretry_for=(ValueError,),
        max_retries=4,
        retry_backoff=60,
        retry_jitter=False,
    )
    def flaky():
        raise ValueError("no")

    result = flaky.delay()

    assert simulation.advance(86400) == 5
    assert minutes(simulation) == [0, 1, 3, 7, 15]
    assert [run.outcome for run in simulation.runs] == ["retried"] * 4 + ["failed"]
    with pytest.raises(ValueError, match="no"):
        result.get()
    assert simulation.dead_letters() == ["retries used up"]


def test_backoff_with_jitter_is_the_same_in_every_run(app):
    @app.task(name="shop.flaky", autoretry_for=(ValueError,), max_retries=5, retry_backoff=600)
    def flaky():
        raise ValueError("no")

    def play(seed):
        with Simulation(app, seed=seed) as simulation:
            flaky.delay()
            simulation.run_until_idle()
            return minutes(simulation)

    first = play(0)

    assert len(set(first)) == 6
    assert play(0) == first
    assert play(1) != first


def test_a_retry_that_changes_arguments_keeps_its_result(simulation, app):
    @app.task(name="shop.count", bind=True)
    def count(self, number):
        if number < 3:
            raise self.retry(args=(number + 1,), countdown=10)
        return number

    result = count.delay(1)
    simulation.advance(20)

    assert result.get(timeout=0) == 3


def test_a_canvas_runs_to_its_end(simulation, add, app):
    @app.task(name="shop.total")
    def total(numbers):
        return sum(numbers)

    chained = chain(add.s(1), add.s(10).set(countdown=60), add.s(100)).apply_async()
    body = chord([add.s(1), add.s(2)], total.s()).apply_async()
    several = group(add.s(number) for number in range(3)).apply_async()

    simulation.advance(59)
    assert not chained.ready()
    assert body.get(timeout=0) == 3
    assert several.get(timeout=0) == [0, 1, 2]
    simulation.advance(1)
    assert chained.get(timeout=0) == 111


def test_tasks_send_tasks(simulation, app, add):
    @app.task(name="shop.parent", bind=True)
    def parent(self):
        return [add.delay(1).id, self.request.hostname]

    child, hostname = parent.delay().get()

    assert add.AsyncResult(child).get() == 1
    assert hostname == "simulation@localhost"
    assert [run.task for run in simulation.runs] == ["shop.parent", "shop.add"]


def test_a_group_is_saved_and_restored(simulation, app, add):
    several = group(add.s(1), add.s(2)).apply_async()
    several.save()

    found = GroupResult.restore(several.id, app=app)

    assert found.get() == [1, 2]
    found.forget()


def test_progress_can_be_followed(simulation, app):
    seen = []

    @app.task(name="shop.slow", bind=True)
    def slow(self):
        self.update_state(state="PROGRESS", meta={"done": 1})
        seen.append(app.AsyncResult(self.request.id).info)

    slow.delay().get()

    assert seen == [{"done": 1}]


def test_coroutines_send_wait_and_run(simulation, app):
    @app.task(name="shop.later")
    async def later(x):
        await asyncio.sleep(0)
        return x

    async def play():
        return await (await later.adelay(5))

    assert asyncio.run(play()) == 5


def test_a_revoked_task_does_not_run(simulation, add):
    result = add.apply_async((1,), countdown=60)

    result.revoke()
    simulation.advance(60)

    with pytest.raises(TaskRevokedError):
        result.get()
    assert simulation.runs == []


def test_a_task_that_revokes_another_comes_before_it(simulation, app, add):
    @app.task(name="shop.stop")
    def stop(task_id):
        app.AsyncResult(task_id).revoke(terminate=True)

    add.apply_async((1,), task_id="victim", priority=1)
    stop.apply_async(("victim",), priority=9)
    simulation.run_due()

    assert add.AsyncResult("victim").state == "REVOKED"


def test_stamped_tasks_are_revoked_by_their_stamp(simulation, app, add):
    revoked, other = (
        add.apply_async((1,), countdown=60, stamped_headers=["tenant"], tenant=tenant)
        for tenant in "ab"
    )

    app.control.revoke_by_stamped_headers({"tenant": ["a"]})
    simulation.advance(60)

    assert (revoked.state, other.state) == ("REVOKED", "SUCCESS")


def test_a_message_is_found_and_queues_are_emptied_but_not_by_tasks(simulation, app, add):
    @app.task(name="shop.empty")
    def empty():
        with pytest.raises(InvalidTaskError, match="emptied by clients"):
            app.control.purge()

    result = add.apply_async((1,), countdown=60)
    assert result.whereabouts() == "scheduled"
    assert empty.delay().get() is None

    assert app.control.purge() == 1

    assert result.whereabouts() is None


def test_a_result_names_its_children(simulation, app, add):
    @app.task(name="shop.parent")
    def parent():
        return add.delay(1, 2).id

    result = parent.delay()
    simulation.run_due()

    assert [child.get() for child in result.children] == [3]
    assert [one.id for one in app.backend.get_task_meta(result.id)["children"]] == [result.get()]


def test_a_child_that_was_sent_before_is_the_one_that_was(simulation, app):
    @app.task(name="shop.once", unique=True)
    def once():
        return 1

    @app.task(name="shop.parent")
    def parent():
        return once.apply_async(countdown=60).id, once.delay().id

    result = parent.delay()
    simulation.run_until_idle()

    first, second = result.get()
    assert first == second
    assert {child.id for child in result.children} == {first}


def test_with_concurrency_tasks_are_claimed_together(app, add):
    @app.task(name="shop.stop")
    def stop(task_id):
        app.AsyncResult(task_id).revoke(terminate=True)

    with Simulation(app, concurrency=10) as simulation:
        stop.delay("victim")
        add.apply_async((1,), task_id="victim")
        add.delay(1)

        assert simulation.run_due() == 2
        assert add.AsyncResult("victim").state == "REVOKED"  # terminated before it began


def test_a_task_during_which_time_passes_runs_into_its_limit(simulation, app):
    @app.task(name="shop.slow", time_limit=30)
    def slow(seconds):
        simulation.clock.advance(seconds)

    with pytest.raises(TimeLimitExceeded, match="30 seconds"):
        slow.delay(31).get()
    assert slow.delay(29).get() is None


def test_an_unknown_task_fails_after_its_grace(simulation, app):
    result = app.send_task("shop.unknown")

    simulation.run_due()
    assert result.state == "PENDING"
    simulation.run_until_idle()

    assert result.state == "FAILURE"
    assert simulation.dead_letters() == ["unknown task 'shop.unknown'"]


def test_all_queues_are_consumed_unless_some_are_named(app, add):
    with Simulation(app, queues=["fast"]) as simulation:
        add.apply_async((1,), queue="fast")
        add.apply_async((2,), queue="slow")

        assert simulation.run_due() == 1
        assert simulation.left() == 1

    with Simulation(app) as simulation:
        add.apply_async((1,), queue="fast")
        add.apply_async((2,), queue="slow")

        assert simulation.run_due() == 2


def test_a_result_that_is_waited_for_lets_the_time_pass_that_it_takes(simulation, add):
    result = add.apply_async((1,), countdown=60)

    with pytest.raises(TimeoutError):
        result.get(timeout=59)
    assert simulation.clock.monotonic() == pytest.approx(59)
    assert result.get(timeout=2) == 1
    assert simulation.clock.monotonic() == pytest.approx(60)


def test_a_result_that_will_never_come_is_not_waited_for(simulation, app, add):
    with pytest.raises(SimulationError, match="result of task nobody is waited for, but nothing"):
        add.AsyncResult("nobody").get()
    with pytest.raises(TimeoutError):
        add.AsyncResult("nobody").get(timeout=5)


def test_a_task_that_waits_for_another_is_told_so(simulation, app, add):
    @app.task(name="shop.wait")
    def wait(timeout=None):
        with allow_join_result():
            return add.delay(1).get(timeout=timeout)

    with pytest.raises(Exception, match="a simulation runs one at a time"):
        wait.delay().get()
    with pytest.raises(RemoteError, match=r"TimeoutError: task .* no result within 5 seconds"):
        wait.delay(5).get()


def test_an_endless_simulation_is_stopped(simulation, app, monkeypatch):
    monkeypatch.setattr("cardoon.testing.simulation.MANY_TASKS", 50)

    @app.task(name="shop.again")
    def again():
        again.delay()

    again.delay()

    with pytest.raises(SimulationError, match=r"51 tasks ran .* the last ones were shop.again"):
        simulation.run_due()


def test_a_simulation_ends_with_its_block(app, add):
    with Simulation(app) as simulation:
        pass

    with pytest.raises(SimulationError, match="has ended"):
        simulation.run_due()
    with pytest.raises(SimulationError, match="has ended"):
        simulation.advance(1)


def test_threads_are_neither_started_nor_left(app, add):
    before = threading.active_count()

    with Simulation(app) as simulation:
        add.send_many((number,) for number in range(50))
        simulation.run_due()
        assert threading.active_count() == before


def test_time_only_goes_on(simulation):
    with pytest.raises(ValueError, match="backwards"):
        simulation.advance(-1)
    with pytest.raises(ValueError, match="backwards"):
        simulation.advance_to(simulation.now - timedelta(seconds=1))
    with pytest.raises(ValueError, match="concurrency=0 is below 1"):
        Simulation(simulation.app, concurrency=0)


def test_a_simulation_without_results_keeps_none(app, add):
    app.conf.result_backend = "disabled://"

    with Simulation(app) as simulation:
        result = add.delay(1)
        simulation.run_due()
        with pytest.raises(ImproperlyConfigured, match="results are kept nowhere"):
            result.get()


def test_unsigned_messages_are_simulated_where_the_app_sends_them(tmp_path):
    settings = {"task_serializer": "json", "accept_content": ["json"]}
    app = Cardoon("plain", set_as_current=False, state_directory=str(tmp_path), **settings)
    app.task(name="plain.one")(lambda: 1)

    with Simulation(app):
        assert app.send_task("plain.one").get() == 1


def test_no_word_is_logged_of_a_simulation_that_goes_well(app, add, caplog):
    with caplog.at_level(logging.WARNING), Simulation(app):
        add.delay(1).get()

    assert caplog.records == []


# Schedules


def test_periodic_tasks_are_sent_at_their_times(app, add):
    app.conf.timezone = "Europe/Berlin"
    app.conf.beat_schedule = {
        "nightly": {"task": "shop.add", "schedule": crontab(hour=2, minute=30), "args": (1,)},
    }

    with Simulation(app, start=datetime(2024, 3, 30, tzinfo=UTC)) as simulation:
        simulation.advance_to(datetime(2024, 4, 1, 12))  # noqa: DTZ001  # it is read in Berlin

    assert [f"{run.at:%d %H:%M}" for run in simulation.runs] == [
        "30 01:30",
        "31 01:00",  # clocks jumped over 02:30
        "01 00:30",
    ]


def test_entries_come_in_the_order_in_which_they_are_due(app):
    ran = []
    note = app.task(name="shop.note")(ran.append)
    app.add_periodic_task(90, note.s("a"))
    app.add_periodic_task(60, note.s("b"))
    app.add_periodic_task(schedule(60), note, args=("c",), name="third", countdown=45)

    with Simulation(app) as simulation:
        assert simulation.next_due() == simulation.now + timedelta(seconds=60)
        simulation.advance(200)

    assert minutes(simulation) == [1, 1.5, 1.75, 2, 2.75, 3, 3]
    assert ran == ["b", "a", "c", "b", "c", "a", "b"]


def test_an_entry_that_is_added_meanwhile_counts_from_then(simulation, app, add):
    simulation.advance(30)
    app.add_periodic_task(60, add.s(1), name="mine")
    simulation.advance(60)
    assert minutes(simulation) == [1.5]

    app.add_periodic_task(600, add.s(1), name="mine")
    simulation.advance(540)
    app.conf.beat_schedule = {}
    simulation.advance(3600)

    assert minutes(simulation) == [1.5]


def test_the_end_of_messages_is_not_the_end_of_schedules(app, add):
    app.add_periodic_task(3600, add.s(1))

    with Simulation(app) as simulation:
        add.apply_async((1,), countdown=7200)
        assert simulation.run_until_idle() == 3
        assert simulation.clock.monotonic() == 7200
        assert simulation.run_until_idle() == 0


def test_idle_is_waited_for_within_a_limit(simulation, add):
    add.apply_async((1,), countdown=7200)

    assert simulation.run_until_idle(limit=3600) == 0
    assert simulation.left() == 1


def test_what_is_sent_in_a_simulation_can_be_captured(simulation, app, add):
    app.add_periodic_task(60, add.s(1), queue="fast")

    with capture(app) as sent:
        simulation.advance(120)

    sent.assert_sent(add, args=(1,), queue="fast", count=2)
    assert simulation.runs == []
