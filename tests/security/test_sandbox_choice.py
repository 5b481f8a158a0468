"""Attacks on the choice of a sandbox: by who sends, by who writes the store, and by the task itself."""

from __future__ import annotations

import json
import textwrap

import pytest

from cardoon.broker import Kept, Outgoing
from cardoon.sandbox.merging import Profiles
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.security.policyfile import parse_rules
from cardoon.worker.ipc import Frame, FrameType
from cardoon.worker.isolation import Isolation
from cardoon.worker.pool import parse_ending
from tests.unit.stage import Stage, rules
from tests.unit.worker.store import take_out

ROWS = """
    version = 1
    [[sandbox]]
    task = "shop.pay"
    queue = "celery"
    level = "strict"
    [[sandbox]]
    queue = "lax"
    level = "process"
"""


@pytest.fixture
def shop(tmp_path):
    """A worker of a strict queue and of a lax one."""
    rows = parse_rules(textwrap.dedent(ROWS).encode(), source="policy.toml").sandboxes
    isolation = Isolation(Profiles(rows=rows), chooses=True)
    known = {"shop.pay": rules(), "cardoon.map": rules()}
    made = Stage(tmp_path, catalogue=known, isolation=isolation)
    made.consumer.consume_from(["celery", "lax"])
    made.level_of = lambda job: isolation.table[job.profile].level
    yield made
    made.close()


def consume(shop):
    """One round over both queues."""
    found = shop.broker.receive(["celery", "lax"], limit=9, lease=30, timeout=0)
    before = len(shop.pool.jobs)
    shop.consumer.admit(found)
    shop.flush()
    return shop.pool.jobs[before:]


def test_untouched_the_queue_decides(shop):
    shop.send()
    shop.send(queue="lax")

    assert sorted(shop.level_of(job) for job in consume(shop)) == [Level.PROCESS, Level.STRICT]


@pytest.mark.parametrize(
    "claimed",
    [
        {"sandbox": {"level": "process"}},
        {"profile": 0},
        {"isolation": "process/v1"},
        {"queue": "lax"},
        {"headers": {"sandbox": {"level": "process"}, "queue": "lax", "profile": 0}},
    ],
    ids=str,
)
def test_no_header_of_a_message_names_a_sandbox(shop, claimed):
    shop.send_raw(headers=json.dumps(claimed).encode())

    [job] = consume(shop)

    assert shop.level_of(job) is Level.STRICT


def test_a_message_that_is_moved_to_a_laxer_queue_is_held_as_where_it_was_sent(shop):
    shop.send(task_id="t1")
    [moved] = take_out(shop)
    shop.broker.publish([Outgoing("lax", "t1>raw", moved.frame)], timeout=5)

    [job] = consume(shop)

    assert job.head["queue"] == "lax"
    assert shop.level_of(job) is Level.STRICT


@pytest.mark.parametrize("inner", [None, 7, "", "cardoon.map", ["shop.pay"]])
def test_a_map_does_not_hide_what_it_runs(shop, inner):
    told = {} if inner is None else {"inner": inner}
    shop.send_raw(task="cardoon.map", headers=json.dumps(told).encode())

    jobs = consume(shop)

    if inner == "":  # names no task that is known; its process refuses what it is given to map
        assert [shop.level_of(job) for job in jobs] == [Level.CONFINED]
    else:
        assert jobs == []
        [kept] = shop.kept(Kept.QUARANTINE)
        assert kept.reason == "denied"


def test_a_map_of_a_held_task_is_held_as_that(shop):
    shop.send_raw(task="cardoon.map", headers=b'{"inner":"shop.pay"}')

    [job] = consume(shop)

    assert shop.level_of(job) is Level.STRICT


def test_the_code_of_a_task_does_not_go_below_the_operators_level():
    own = {"shop.pay": Sandbox(level="process", read=["/"])}

    for setting in (None, Sandbox(), Sandbox(level="strict")):
        found = Profiles(own=own, setting=setting).choose("shop.pay", "celery")
        assert found.profile.level >= (Level.CONFINED if setting is None else setting.level)


def test_a_task_process_does_not_say_what_it_was_held_to(shop):
    shop.send(task_id="t1")
    [job] = consume(shop)
    head = {"key": job.key, "runtime": 0.1, "kind": "succeeded", "isolation": "strict/v9"}

    shop.end(job, parse_ending(Frame(FrameType.OUTCOME, head, b'{"result":1}')))

    assert shop.app.AsyncResult("t1").isolation is None
