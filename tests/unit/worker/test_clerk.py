"""The clerk: what a worker answers to those who ask, and what it does for those who command."""

from __future__ import annotations

import json

import pytest

from cardoon.exceptions import OperationalError
from cardoon.worker.clerk import MAX_WAITING, MOST_ANSWERED, fit
from tests.unit.counter import NAME, Counter, wait_for
from tests.unit.stage import PLAIN, rules


@pytest.fixture
def make_counter(make_stage):
    made = []

    def make(*, events=None, others=None, **wishes):
        made.append(Counter(make_stage(**wishes), events=events, others=others))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def counter(make_counter):
    return make_counter()


# Asking


def test_it_is_there(counter):
    counter.open()

    assert counter.control.ping(limit=1, timeout=20) == [{NAME: {"ok": "pong"}}]
    assert counter.control.inspect(NAME, timeout=20).ping() == {NAME: {"ok": "pong"}}


def test_what_runs_and_what_waits_is_told_without_arguments(counter):
    counter.stage.send("secret", task="shop.pay")
    counter.stage.send("secret", task="shop.pay")
    [first, second] = counter.stage.consume()
    counter.pool.begun.add(first.key)

    active, reserved = counter.ask("active"), counter.ask("reserved")

    assert [one["id"] for one in active] == [first.id]
    assert [one["id"] for one in reserved] == [second.id]
    assert (active[0]["name"], active[0]["args"]) == ("shop.pay", "<hidden>")
    assert (active[0]["worker_pid"], reserved[0]["worker_pid"]) == (4711, None)
    assert "secret" not in json.dumps([active, reserved])
    found = counter.ask("query_task", ids=[first.id, second.id, "absent"])
    assert {name: told[0] for name, told in found.items()} == {
        first.id: "active",
        second.id: "reserved",
    }


def test_arguments_are_told_where_the_app_keeps_them_with_results(make_counter):
    counter = make_counter(settings={"result_extended": True})
    counter.stage.send(5)
    counter.stage.send("x" * 2000)
    counter.stage.consume()

    assert [one["args"] for one in counter.ask("reserved")] == [[5], "<too long>"]


def test_what_it_can_run_is_told_with_options(make_counter):
    known = {"shop.pay": rules(rate_limit=2.0), "cardoon.map": rules()}
    counter = make_counter(catalogue=known)

    assert counter.ask("registered") == ["shop.pay"]
    assert counter.ask("registered", builtins=True) == ["cardoon.map", "shop.pay"]
    assert counter.ask("registered", taskinfoitems=["rate_limit", "nothing"]) == [
        "shop.pay [rate_limit=2.0]"
    ]


def test_it_counts_what_it_took_and_hides_who_it_is_at_the_broker(counter):
    counter.stage.send()
    counter.stage.consume()

    told = counter.ask("stats")

    assert (told["total"], told["prefetch_count"]) == ({"shop.pay": 1}, 1)
    assert told["pool"]["max-concurrency"] == 4
    assert told["broker"]["hostname"] == "broker.example"
    assert "secret" not in json.dumps(told)


def test_settings_are_told_without_secrets(make_counter):
    counter = make_counter(settings={"result_backend": "redis://:hush@h", "task_acks_late": False})

    told = counter.ask("conf")

    assert (told["task_acks_late"], told["result_backend"]) == (False, "********")
    assert "worker_pool" not in told
    assert counter.ask("conf", with_defaults=True)["worker_pool"] == "prefork"
    report = counter.ask("report")["ok"]
    assert "software -> cardoon:" in report
    assert "hush" not in report


def test_what_it_does_not_run_is_told_the_newest_first(counter):
    counter.control.revoke("t1")
    counter.control.revoke("t2")

    assert counter.ask("revoked") == ["t2", "t1"]
    assert counter.ask("hello", from_node="other@here")["revoked"] == ["t2", "t1"]
    assert counter.ask("scheduled") == []
    assert counter.ask("clock")["clock"] == counter.stage.keeper.heard


def test_queues_are_told_as_celery_does(counter):
    [queue] = counter.ask("active_queues")

    assert (queue["name"], queue["routing_key"]) == ("celery", "celery")
    assert queue["exchange"]["type"] == "direct"


def test_nothing_is_signed_where_nothing_is(make_counter):
    counter = make_counter(settings=PLAIN)
    counter.open()

    assert counter.control.ping(limit=1, timeout=20) == [{NAME: {"ok": "pong"}}]


# Commanding


def test_a_rate_holds_from_now_on(counter):
    assert counter.ask("rate_limit", task_name="shop.pay", rate_limit="1/m") == {
        "ok": "new rate limit set successfully"
    }
    counter.stage.send()
    counter.stage.send()

    assert len(counter.stage.consume()) == 1
    assert counter.stage.depth()[1] == 1
    assert counter.ask("rate_limit", task_name="shop.pay", rate_limit=0) == {
        "ok": "rate limit disabled successfully"
    }
    assert counter.ask("rate_limit", task_name="absent", rate_limit=1) == {
        "error": "unknown task 'absent'"
    }


def test_limits_of_time_hold_for_what_comes_from_now_on(counter):
    counter.stage.send()
    [before] = counter.stage.consume()

    told = counter.ask("time_limit", task_name="shop.pay", soft=5, hard=7.5)

    counter.stage.send()
    [after] = counter.stage.consume()
    assert told == {"ok": "time limits set successfully"}
    assert (before.soft_limit, before.hard_limit) == (None, None)
    assert (after.soft_limit, after.hard_limit) == (5, 7.5)


def test_a_queue_is_taken_from_and_left(counter):
    consumer = counter.stage.consumer
    assert counter.ask("add_consumer", queue="slow") == {"ok": "add consumer slow"}
    assert counter.ask("add_consumer", queue="slow") == {"ok": "already consuming from slow"}
    counter.stage.send(queue="slow")

    consumer.consume()

    assert [job.head["queue"] for job in counter.pool.jobs] == ["slow"]
    assert counter.checked == [("celery", "slow")]
    assert [one["name"] for one in counter.ask("active_queues")] == ["celery", "slow"]
    counter.ask("cancel_consumer", queue="celery")
    counter.ask("cancel_consumer", queue="slow")
    counter.stage.send(queue="slow")
    consumer._options = consumer._options._replace(patience=0.0)
    consumer.consume()
    assert (consumer.sources, len(counter.pool.jobs)) == ((), 1)


def test_a_queue_that_the_worker_may_not_serve_is_refused(make_counter):
    counter = make_counter(settings={"task_create_missing_queues": False})

    assert "slow" in counter.ask("add_consumer", queue="slow")["error"]
    assert "leave exchange" in counter.ask("add_consumer", queue="celery", exchange="x")["error"]
    assert counter.stage.consumer.wanted is None


def test_the_pool_grows_shrinks_and_is_renewed(counter):
    assert counter.ask("pool_grow", n=2) == {"ok": "pool will grow to 6"}
    assert counter.ask("pool_shrink") == {"ok": "pool will shrink to 5"}
    assert counter.ask("pool_restart") == {"ok": "5 processes are replaced"}
    assert (counter.pool.size, counter.pool.renewed) == (5, 1)


def test_it_stops_and_says_so_before(counter):
    assert counter.ask("shutdown") == {"ok": "shutting down"}
    assert counter.stopped.wait(20)


class Events:
    def __init__(self):
        self.on = False
        self.beats = 0

    def enable(self):
        was, self.on = self.on, True
        return not was

    def disable(self):
        was, self.on = self.on, False
        return was

    def beat(self):
        self.beats += 1


def test_events_are_switched_where_there_are_any(make_counter):
    events = Events()
    counter = make_counter(events=events)

    told = [
        counter.ask(name)["ok"]
        for name in ("enable_events", "enable_events", "disable_events", "heartbeat")
    ]

    assert told == [
        "task events enabled",
        "task events already enabled",
        "task events disabled",
        "heartbeat sent",
    ]
    assert events.beats == 1
    assert make_counter().ask("enable_events") == {"error": "this worker sends no events"}


def test_who_revokes_hears_what_was_stopped(make_counter):
    counter = make_counter(settings={"worker_pool": "threads"})
    counter.stage.send()
    [job] = counter.stage.consume()
    counter.open()

    [told] = counter.control.revoke(job.id, terminate=True, reply=True, limit=1, timeout=20)

    assert told[NAME]["ok"] == f"tasks {job.id} flagged as revoked"
    assert told[NAME]["terminated"] == [job.id]
    assert "a thread cannot be killed" in told[NAME]["how"]
    assert [name for _, name in counter.stage.terminated] == ["SIGTERM"]


@pytest.mark.parametrize("by_stamp", [False, True])
def test_who_revokes_hears_what_was_stopped_also_if_it_has_ended_by_then(counter, by_stamp):
    stage = counter.stage
    for task_id in ("t1", "t2"):
        stage.send(task_id=task_id, stamped_headers=["customer"], customer=task_id)
    stage.consume()
    stage.keeper._on_terminate = lambda held, _: stage.held.remove(held.key)
    counter.open()

    for expected in (["t1"], []):
        if by_stamp:
            command, wish = counter.control.revoke_by_stamped_headers, {"customer": ["t1"]}
        else:
            command, wish = counter.control.revoke, "t1"
        [told] = command(wish, terminate=True, reply=True, limit=1, timeout=20)
        assert told[NAME]["terminated"] == expected


# What goes wrong


@pytest.mark.parametrize(
    ("command", "arguments", "error"),
    [
        ("absent", {}, "this worker knows no command 'absent'"),
        ("pool_shrink", {"n": 4}, None),
    ],
)
def test_what_cannot_be_done_is_an_answer(counter, command, arguments, error):
    told = counter.ask(command, **arguments)

    assert told == {"error": error} if error else "ok" in told


def test_a_fault_is_told_without_its_words_and_the_next_is_answered(counter, caplog):
    def fail():
        raise ValueError("what nobody should read")

    counter.clerk._handlers = {**counter.clerk._handlers, "clock": fail}

    assert counter.ask("clock") == {"error": "ValueError; see the worker's log"}
    assert counter.ask("ping") == {"ok": "pong"}
    assert "what nobody should read" in caplog.text


def test_an_answer_that_cannot_be_posted_is_lost_and_nothing_else(counter, caplog):
    lost = []

    def post(*_, **__):
        lost.append(True)
        if len(lost) == 1:
            raise OperationalError("the store is away")
        return kept(*_, **__)

    kept, counter.stage.broker.post = counter.stage.broker.post, post
    counter.open()
    counter.control.inspect(timeout=0).ping()
    wait_for(lambda: bool(lost))

    assert counter.ask("ping") == {"ok": "pong"}
    assert "the answer to ping is lost" in caplog.text


def test_a_long_list_is_cut_and_a_long_map_is_an_error():
    body, left_out = fit(["x" * 1000] * 1000)
    assert len(body) <= MOST_ANSWERED
    assert left_out == 1000 - len(json.loads(body))
    assert 0 < left_out < 900

    body, left_out = fit({str(number): "x" * 1000 for number in range(1000)})
    assert (left_out, "bytes; at most" in json.loads(body)["error"]) == (0, True)


def test_what_is_left_out_is_told(counter):
    counter.stage.revoked.add(tuple(f"{number:0100}" for number in range(5000)))
    counter.open()
    inspect = counter.control.inspect(timeout=20, limit=1)

    found = inspect.revoked()

    assert len(found[NAME]) + inspect.left_out[NAME] == 5000
    assert inspect.left_out[NAME] > 0


def test_more_commands_than_it_can_hold_are_dropped_and_that_is_on_record(counter):
    for _ in range(MAX_WAITING + 2):
        counter.clerk.take(None)

    assert counter.stage.event_names().count("control.dropped") == 1


# Its own


class Mine:
    names = frozenset({"colour"})

    def run(self, name, arguments, answer):
        answer({"ok": [name, arguments]})


def test_commands_of_the_app_s_own_are_run_elsewhere(make_counter):
    counter = make_counter(others=Mine())

    assert counter.ask("colour", of="roof") == {"ok": ["colour", {"of": "roof"}]}


def test_only_what_changes_something_is_on_record(counter):
    counter.ask("ping")
    counter.ask("pool_grow")

    told = [one for one in counter.stage.events() if one["event"] == "control.command"]
    assert [one["command"] for one in told] == ["pool_grow"]
    assert told[0]["worker"] == NAME


# Following the load


def test_it_grows_while_everything_is_taken_and_shrinks_when_it_is_not(counter):
    assert counter.ask("autoscale", max=8, min=2) == {"ok": "autoscale now max=8 min=2"}
    for _ in range(4):
        counter.stage.send()
    jobs = counter.stage.consume()
    counter.pool.begun.update(job.key for job in jobs)

    counter.autoscaler.look()
    assert counter.pool.size == 4  # nothing waits
    counter.waiting = 1
    counter.autoscaler.look()
    assert counter.pool.size == 5
    counter.waiting = 0
    counter.stage.clock.advance(29)
    counter.autoscaler.look()
    assert counter.pool.size == 5
    counter.stage.clock.advance(2)
    counter.autoscaler.look()
    assert counter.pool.size == 4
    counter.autoscaler.look()  # all of them run
    assert counter.pool.size == 4
    counter.pool.begun.clear()
    counter.stage.clock.advance(31)
    for _ in range(5):
        counter.autoscaler.look()
    assert counter.pool.size == 2


def test_a_pool_grows_for_what_it_holds_itself_and_cannot_begin(counter):
    counter.ask("autoscale", max=8, min=2)
    for _ in range(4):
        counter.stage.send()
    counter.pool.begun.update(job.key for job in counter.stage.consume())
    counter.pool.waiting = 1

    counter.autoscaler.look()

    assert counter.pool.size == 5


def test_bounds_that_make_no_sense_are_an_error_and_growing_by_hand_ends_it(counter):
    assert "give max >= min >= 1" in counter.ask("autoscale", max=1, min=2)["error"]

    counter.ask("autoscale", max=6, min=5)
    assert counter.pool.size == 5
    counter.ask("pool_grow", n=4)
    assert (counter.pool.size, counter.autoscaler.bounds) == (9, None)
