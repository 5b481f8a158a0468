"""A message that takes another's place: who may send one, and which task its result is of."""

from __future__ import annotations

import json

import pytest

from cardoon import states
from cardoon.broker import Kept
from cardoon.exceptions import TaskDeniedError
from cardoon.message.protocol import Kind
from cardoon.sender import Call, Handle
from cardoon.worker.pool import Replaced, Retried
from tests.security.actors import digest_of
from tests.unit.stage import RULES, body, held_of, succeeded

POLICY = """
version = 1
[role.client]
ids = ["subject:CN=client"]
[role.worker]
ids = ["subject:CN=worker"]

[[allow]]
role = "client"
action = "send"
task = ["shop.pay", "shop.ship"]
[[allow]]
role = "worker"
action = "send"
task = ["shop.pay", "shop.ship", "shop.open"]
[[allow]]
role = "worker"
action = "result"
task = RESULTS
"""
SHIP = Call(task="shop.ship", id="t1", queue="celery", codec="application/json", body=body())
FORGED = json.dumps({"asked": "shop.forged", "shadow": "kept"}).encode()


@pytest.fixture
def make_ruled(make_stage, tmp_path):
    def make(results='"shop.pay"'):
        path = tmp_path / "policy.toml"
        path.write_text(POLICY.replace("RESULTS", results))
        path.chmod(0o600)
        names = ("shop.pay", "shop.ship", "shop.open")
        return make_stage(
            catalogue=dict.fromkeys(names, RULES), settings={"security_policy": str(path)}
        )

    return make


@pytest.fixture
def ruled(make_ruled):
    return make_ruled()


def replace_by(stage, job, **changes):
    stage.end(job, Replaced([SHIP._replace(**changes)]))
    [instead] = stage.consume()
    return instead


def send_later(stage):
    """A task that waits: its handle, and what somebody who reads the store needs to answer it."""
    call = SHIP._replace(task="shop.pay", eta=stage.clock.now() + 60)
    [(outgoing, request)] = stage.client.sign([call])
    stage.client.publish([outgoing], timeout=5)
    return Handle("t1", request), digest_of(outgoing.frame)


def refusals(stage):
    return [(one.reason, one.detail) for one in stage.kept(Kept.QUARANTINE)]


# What a worker sends


@pytest.mark.parametrize("headers", [b"", FORGED])
def test_a_task_that_stands_for_another_answers_as_that_one(ruled, headers):
    sent = ruled.send(task_id="t1")
    [job] = ruled.consume()
    ship = replace_by(ruled, job, headers=headers)
    open_ = replace_by(ruled, ship, task="shop.open", headers=headers)
    assert (ship.task, open_.task) == ("shop.ship", "shop.open")

    ruled.end(open_, succeeded(7))

    assert sent.get(timeout=0) == 7
    assert sent.name == "shop.pay"  # what was asked for, and is bound by the request


def test_what_stands_for_another_and_asks_to_run_again_answers_as_that_one(ruled):
    sent = ruled.send(task_id="t1")
    [job] = ruled.consume()
    ship = replace_by(ruled, job)
    ruled.end(ship, Retried(b"{}", None, SHIP._replace(headers=FORGED)))
    [again] = ruled.consume()

    ruled.end(again, succeeded(7))

    assert (again.task, sent.get(timeout=0)) == ("shop.ship", 7)


def test_the_first_task_again_stands_for_itself(ruled):
    sent = ruled.send(task_id="t1")
    [job] = ruled.consume()
    pay = replace_by(ruled, replace_by(ruled, job), task="shop.pay", headers=FORGED)

    assert b"asked" not in held_of(ruled, pay).message.claims.headers
    ruled.end(pay, succeeded(7))
    assert sent.get(timeout=0) == 7


def test_headers_that_cannot_be_read_lose_nothing_of_what_is_written_with_them(make_stage):
    stage = make_stage(catalogue=dict.fromkeys(("shop.pay", "shop.ship"), RULES))
    stage.send(task_id="t1")
    other = stage.send(task_id="t2")
    jobs = {job.id: job for job in stage.consume()}

    stage.settler.ended(jobs["t1"].key, Replaced([SHIP._replace(headers=b"{")]))
    stage.end(jobs["t2"], succeeded(7))

    assert other.get(timeout=0) == 7
    assert stage.consume() == []
    assert [reason for reason, _ in refusals(stage)] == ["bad-claims"]


# What somebody else sends


def test_who_may_not_answer_for_a_task_cannot_send_one_in_its_place(ruled):
    victim, digest = send_later(ruled)

    for headers in (b"", b'{"asked":"shop.pay"}', b'{"asked":"shop.ship"}'):
        ruled.send_raw(id=f"x{len(headers)}", task="shop.ship", request=digest, headers=headers)

    assert ruled.consume() == []
    assert [reason for reason, _ in refusals(ruled)] == ["denied"] * 3
    assert (
        "it takes the place of a shop.pay: no rule lets CN=client result" in refusals(ruled)[1][1]
    )
    assert ruled.client.load([victim]) == {}


def test_nobody_is_told_of_a_denial_in_the_place_of_what_he_asked_for(ruled):
    victim, digest = send_later(ruled)

    ruled.send_raw(id="t1>copy", task="shop.forbidden", request=digest)

    assert ruled.consume() == []
    assert [reason for reason, _ in refusals(ruled)] == ["denied"]
    assert ruled.client.load([victim]) == {}


def test_a_worker_that_may_not_send_what_it_puts_in_a_place_has_the_sender_told(ruled):
    sent = ruled.send(task_id="t1")
    [job] = ruled.consume()

    ruled.end(job, Replaced([SHIP._replace(task="shop.other")]))

    assert ruled.consume() == []
    with pytest.raises(TaskDeniedError, match=r"shop\.other"):
        sent.get(timeout=0)


@pytest.mark.parametrize("asked", ["", "x" * 257, "a\nb", 7, None, [], "\ud800"])
def test_a_name_that_no_task_has_is_refused(ruled, asked):
    headers = json.dumps({"asked": asked}).encode()

    ruled.send_raw(id="t1", request=bytes(32), headers=headers)

    assert ruled.consume() == []
    assert [reason for reason, _ in refusals(ruled)] == ["bad-claims"]


def test_a_name_without_a_place_says_nothing(ruled):
    request = ruled.send_raw(id="t1", headers=b'{"asked":"shop.open"}')
    [job] = ruled.consume()

    ruled.end(job, succeeded(7))

    held = ruled.backend.load(["t1"])["t1"]
    message = ruled.deployment.result_gate().open(held.frame, kind=Kind.RESULT, request=request)
    assert message.claims.task == "shop.pay"


# What is read


def test_who_runs_what_stands_for_a_task_must_be_allowed_to_answer_for_that(make_ruled):
    ruled = make_ruled('["shop.ship", "shop.open"]')
    sent = ruled.send(task_id="t1")
    [job] = ruled.consume()

    ruled.end(job, Replaced([SHIP]))

    assert ruled.consume() == []
    [(reason, detail)] = refusals(ruled)
    assert reason == "denied"
    assert "it takes the place of a shop.pay" in detail
    assert sent.state == states.PENDING
