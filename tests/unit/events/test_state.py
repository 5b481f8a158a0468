"""State: what events add up to, by Celery's names."""

from __future__ import annotations

import random
import time

import pytest

from cardoon import states
from cardoon.events import State, group_from
from cardoon.events.kinds import TYPES
from cardoon.events.state import MAX_HISTORY

NOW = 1_790_000_000.0


@pytest.fixture
def state():
    return State()


def tell(state, type, at=0.0, hostname="w1@host", received=None, **fields):
    state.event(
        {
            "type": type,
            "timestamp": NOW + at,
            "hostname": hostname,
            "local_received": time.time() if received is None else received,
            "pid": 7,
            "clock": 1,
            "signer": "CN=w1",
            **fields,
        }
    )


def run(state, uuid, *types, start=0.0, **fields):
    for number, each in enumerate(types):
        tell(state, each, start + number, uuid=uuid, **fields)


def test_celery_itself_has_the_same_types():
    celery = pytest.importorskip("celery.events.state")

    theirs = {f"task-{name}" for name in celery.TASK_EVENT_TO_STATE}
    assert theirs <= set(TYPES)
    assert {"worker-online", "worker-heartbeat", "worker-offline"} <= set(TYPES)


def test_celerys_state_takes_our_events():
    celery = pytest.importorskip("celery.events.state")
    theirs = celery.State()
    theirs.event(
        {
            "type": "worker-heartbeat",
            "hostname": "w1@host",
            "timestamp": time.time(),
            "freq": 2.0,
            "local_received": time.time(),
            "active": 1,
            "processed": 5,
            "loadavg": [1, 1, 1],
            "sw_ident": "cardoon",
            "sw_ver": "1",
            "sw_sys": "Linux",
            "pid": 5,
            "clock": 3,
            "utcoffset": 0,
        }
    )

    worker = theirs.workers["w1@host"]

    assert worker.alive
    assert worker.processed == 5


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (["task-sent"], states.PENDING),
        (["task-received"], states.RECEIVED),
        (["task-received", "task-started"], states.STARTED),
        (["task-received", "task-started", "task-succeeded"], states.SUCCESS),
        (["task-received", "task-started", "task-failed"], states.FAILURE),
        (["task-received", "task-rejected"], states.REJECTED),
        (["task-received", "task-rejected", "task-received"], states.RECEIVED),
        (["task-revoked"], states.REVOKED),
        (["task-received", "task-started", "task-retried"], states.RETRY),
        (["task-started", "task-retried", "task-received", "task-started"], states.STARTED),
        (["task-started", "task-ignored"], states.IGNORED),
        (["task-received", "task-started", "task-received"], states.STARTED),
        (["task-succeeded", "task-started"], states.SUCCESS),
        (["task-started", "task-sent"], states.STARTED),
        (["task-retried", "task-sent"], states.RETRY),
        (["task-started", "task-violation"], states.STARTED),
    ],
)
def test_the_state_of_a_task_follows_its_events_whatever_their_order(state, types, expected):
    run(state, "t1", *types)

    task = state.tasks["t1"]
    assert task.state == expected
    assert task.ready == (expected in states.READY_STATES)
    assert [step.type for step in task.history] == types


def test_a_task_has_the_fields_that_were_told_of_it(state):
    tell(
        state, "task-sent", hostname="gen9@web", uuid="t1", name="shop.pay", queue="q", root_id="r1"
    )
    tell(state, "task-received", 1, uuid="t1", name="shop.pay", retries=2, parent_id="p1")
    tell(state, "task-started", 2, uuid="t1")
    tell(state, "task-succeeded", 3, uuid="t1", result="<hidden>", runtime=0.5)
    run(state, "p1", "task-received")

    task = state.tasks["t1"]
    assert (task.name, task.queue, task.retries, task.runtime) == ("shop.pay", "q", 2, 0.5)
    assert (task.sent, task.received, task.started, task.succeeded) == (
        NOW,
        NOW + 1,
        NOW + 2,
        NOW + 3,
    )
    assert (task.client, task.worker.hostname) == ("gen9@web", "w1@host")
    assert task.parent is state.tasks["p1"]
    assert task.root is None
    assert task.info()["result"] == "<hidden>"
    assert task.info(("name",), ("state",)) == {"name": "shop.pay", "state": states.SUCCESS}
    assert task.as_dict()["worker"] == "w1@host"
    assert task.origin == "w1@host.7"
    assert repr(task) == "<Task: shop.pay(t1) SUCCESS>"


def test_a_long_text_and_a_long_history_are_cut(state):
    for number in range(MAX_HISTORY + 5):
        tell(state, "task-retried", number, uuid="t1", exception="x" * 5000)

    task = state.tasks["t1"]
    assert len(task.history) == MAX_HISTORY
    assert len(task.exception) == 1024


def test_a_worker_is_alive_while_it_is_heard_of(state):
    now = time.time()
    tell(
        state,
        "worker-online",
        received=now,
        freq=2.0,
        sw_ident="cardoon",
        sw_ver="1",
        sw_sys="Linux",
    )
    tell(
        state,
        "worker-heartbeat",
        received=now,
        freq=2.0,
        active=1,
        processed=9,
        loadavg=[1.0, 2.0, 3.0],
    )

    worker = state.workers["w1@host"]

    assert worker.alive
    assert worker.status_string == "ONLINE"
    assert (worker.active, worker.processed, worker.loadavg) == (1, 9, [1.0, 2.0, 3.0])
    assert (worker.sw_ident, worker.freq, worker.signer, worker.pid) == ("cardoon", 2.0, "CN=w1", 7)
    assert worker.is_alive(now + 5.9)
    assert not worker.is_alive(now + 6.1)
    assert list(state.alive_workers()) == [worker]


def test_a_worker_that_says_that_it_ends_is_not_alive(state):
    tell(state, "worker-heartbeat", freq=2.0)
    tell(state, "worker-offline", freq=2.0)

    assert not state.workers["w1@host"].alive
    assert repr(state.workers["w1@host"]) == "<Worker: w1@host (OFFLINE)>"


def test_a_time_that_a_worker_invents_does_not_make_it_alive(state):
    tell(state, "worker-heartbeat", at=1e9, received=time.time() - 60, freq=2.0)

    assert not state.workers["w1@host"].alive


def test_whoever_comes_and_goes_is_told(state):
    joined, left = [], []
    state.on_node_join, state.on_node_leave = joined.append, left.append

    for each in ("worker-online", "worker-heartbeat", "worker-offline", "worker-offline"):
        tell(state, each, freq=2.0)
    tell(state, "worker-heartbeat", freq=2.0)

    assert [one.hostname for one in joined] == ["w1@host"] * 2
    assert len(left) == 1


def test_tasks_are_found_by_time_type_and_worker(state):
    run(state, "t1", "task-received", start=5, name="a")
    run(state, "t2", "task-received", start=9, name="b")
    run(state, "t3", "task-received", start=7, name="a", hostname="w2@host")

    assert [uuid for uuid, _ in state.tasks_by_time()] == ["t2", "t3", "t1"]
    assert [uuid for uuid, _ in state.tasks_by_time(limit=1)] == ["t2"]
    assert [uuid for uuid, _ in state.tasks_by_timestamp(reverse=False)] == ["t1", "t3", "t2"]
    assert [uuid for uuid, _ in state.tasks_by_type("a")] == ["t3", "t1"]
    assert [uuid for uuid, _ in state.tasks_by_worker("w1@host", limit=1)] == ["t2"]
    assert [uuid for uuid, _ in state.itertasks(2)] == ["t1", "t2"]
    assert state.task_types() == ["a", "b"]


def test_memory_is_bounded_whatever_comes(state):
    state = State(max_tasks_in_memory=100, max_workers_in_memory=10)
    for number in range(1000):
        run(state, f"t{number}", "task-received", hostname=f"w{number}@host", name=f"n{number}")
    tell(state, "task-started", uuid="t900")
    run(state, "last", "task-received")

    assert len(state.tasks) == 100
    assert len(state.workers) == 10
    assert state.task_count == 1001
    assert state.event_count == 1002
    assert "t900" in state.tasks
    assert "t901" not in state.tasks


def test_events_of_neither_tasks_nor_workers_are_counted(state):
    seen = []
    state.event_callback = lambda which, one: seen.append((which, one["type"]))

    tell(state, "message-refused", queue="q", reason="r")

    assert seen == [(state, "message-refused")]
    assert (state.event_count, len(state.tasks), len(state.workers)) == (1, 0, 0)
    assert group_from("message-refused") == "message"


def test_it_can_be_looked_at_while_nothing_changes_and_cleared(state):
    run(state, "t1", "task-received", "task-succeeded")
    run(state, "t2", "task-received")

    assert state.freeze_while(lambda: len(state.tasks), clear_after=True) == 2

    assert list(state.tasks) == ["t2"]
    assert state.event_count == 0
    state.clear(ready=False)
    assert not state.tasks
    assert repr(state) == "<State: events=0 tasks=0>"


def test_any_order_of_a_tasks_events_ends_where_it_ended():
    types = ["task-sent", "task-received", "task-started", "task-succeeded"]
    for seed in range(24):
        state = State()
        shuffled = random.Random(seed).sample(types, 4)
        run(state, "t1", *shuffled)
        assert state.tasks["t1"].state == states.SUCCESS
