"""On whose behalf a worker sends: what it writes for task code, what it believes, and what comes of it."""

from __future__ import annotations

import json

import pytest

from cardoon.broker import Kept
from cardoon.canvas import xmap
from cardoon.message.serializers import JSON
from cardoon.sender import Call
from cardoon.worker.desk import Desk
from cardoon.worker.ipc import Frame, FrameType
from cardoon.worker.local import LocalLink
from cardoon.worker.pool import Replaced, Retried
from cardoon.worker.wire import call_head
from tests.unit.stage import RULES, body, held_of
from tests.unit.worker.test_desk import Reply

CLIENT = "CN=client"
POLICY = f"""
version = 1
[role.client]
ids = ["subject:{CLIENT}"]
[role.worker]
ids = ["subject:CN=worker"]

[[allow]]
role = "client"
action = "send"
task = ["shop.pay", "shop.mapped"]
[[allow]]
role = "worker"
action = "result"
[[allow]]
role = "worker"
action = "send"
task = ["shop.ship", "shop.pay"]
origin = "client"
[[allow]]
role = "worker"
action = "send"
task = "shop.open"
"""
CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())
FORGED = json.dumps({"origin": [[CLIENT, "00" * 32]], "shadow": "kept"}).encode()
HIDDEN = FORGED.replace(b"origin", b"\\u006frigin")


@pytest.fixture
def ruled(make_stage, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    path.chmod(0o600)
    names = ("shop.pay", "shop.ship", "shop.open", "cardoon.map")
    return make_stage(
        catalogue=dict.fromkeys(names, RULES), settings={"security_policy": str(path)}
    )


def send(stage, keys, *calls):
    """A task process asks to send, on behalf of these jobs."""
    desk = Desk(
        settler=stage.settler, held=stage.held, reader=lambda: stage.client, clock=stage.clock
    )
    heads = [call_head(call) for call in calls]
    reply = Reply(*keys)
    content = b"".join(call.body for call in calls)
    desk.take(reply, Frame(FrameType.SEND, {"n": 1, "calls": heads, "timeout": 5.0}, content))
    reply.wait()
    desk.close()


def origins_of(stage, job):
    return [one.name for one in held_of(stage, job).message.origin or ()]


def refusals(stage):
    return [(one.reason, one.detail) for one in stage.kept(Kept.QUARANTINE)]


def test_what_a_task_sends_is_sent_on_behalf_of_who_asked_for_the_task(ruled):
    ruled.send(task_id="t1")
    [pay] = ruled.consume()

    send(ruled, [pay.key], CALL)
    [ship] = ruled.consume()

    assert origins_of(ruled, pay) == origins_of(ruled, ship) == [CLIENT]
    send(ruled, [ship.key], CALL._replace(id="c2"))  # and so on, down the tree
    [further] = ruled.consume()
    assert origins_of(ruled, further) == [CLIENT]


@pytest.mark.parametrize("headers", [b"", FORGED, HIDDEN, b'{"origin":1}', b'{"origin":[]}'])
def test_what_is_sent_while_no_task_runs_is_sent_for_nobody_whatever_it_says(ruled, headers):
    send(ruled, [], CALL._replace(headers=headers))

    assert ruled.consume() == []
    [(reason, detail)] = refusals(ruled)
    assert reason == "denied"
    assert "not sent while running a request of client" in detail


def test_a_task_cannot_say_that_somebody_else_asked(ruled):
    send(ruled, [], CALL._replace(task="shop.open", headers=FORGED))
    [job] = ruled.consume()
    assert origins_of(ruled, job) == []
    assert job.head["headers"] == {"shadow": "kept"}

    send(ruled, [job.key], CALL._replace(id="c2", headers=HIDDEN))

    assert ruled.consume() == []
    assert [reason for reason, _ in refusals(ruled)] == ["denied"]


def test_a_client_that_names_an_origin_is_the_origin_itself(ruled):
    ruled.send_raw(
        id="t1", headers=json.dumps({"origin": [["spiffe://x/ops", "00" * 32]]}).encode()
    )

    [job] = ruled.consume()

    assert origins_of(ruled, job) == [CLIENT]


def test_of_several_requests_in_one_process_the_one_that_is_named_as_parent_asked(ruled):
    ruled.send(task_id="t1")
    send(ruled, [], CALL._replace(task="shop.open", id="t2"))
    jobs = ruled.consume()
    keys = [job.key for job in jobs]

    send(ruled, keys, CALL._replace(id="c1", parent="t1"))
    send(ruled, keys, CALL._replace(id="c2", parent="t2"))
    send(ruled, keys, CALL._replace(id="c3", parent="elsewhere"))

    assert [job.id for job in ruled.consume()] == ["c1"]
    assert [reason for reason, _ in refusals(ruled)] == ["denied", "denied"]


@pytest.mark.parametrize("headers", [b"", FORGED])
def test_what_takes_a_messages_place_is_sent_on_its_behalf(ruled, headers):
    ruled.send(task_id="t1")
    [job] = ruled.consume()
    retry = CALL._replace(task="shop.pay", headers=headers)
    ruled.end(job, Retried(b"{}", None, retry))
    [again] = ruled.consume()
    assert origins_of(ruled, again) == [CLIENT]

    ruled.end(again, Replaced([CALL._replace(id="t1", headers=headers)]))

    [instead] = ruled.consume()
    assert (instead.task, origins_of(ruled, instead)) == ("shop.ship", [CLIENT])
    assert refusals(ruled) == []


def test_tasks_in_the_workers_own_process_send_on_behalf_of_who_asked(ruled):
    ruled.send(task_id="t1")
    [job] = ruled.consume()
    link = LocalLink(settler=ruled.settler, held=ruled.held, reader=ruled.client, clock=ruled.clock)

    link.send([CALL._replace(parent="t1", headers=FORGED)], timeout=5)

    [ship] = ruled.consume()
    assert origins_of(ruled, ship) == origins_of(ruled, job) == [CLIENT]


def test_without_a_policy_nothing_is_written_and_what_task_code_wrote_is_taken_out(make_stage):
    stage = make_stage(catalogue=dict.fromkeys(("shop.pay", "shop.ship"), RULES))
    stage.send(task_id="t1")
    [job] = stage.consume()
    assert held_of(stage, job).message.origin is None

    send(stage, [job.key], CALL, CALL._replace(id="c2", headers=FORGED))

    assert [one.head["headers"] for one in stage.consume()] == [{}, {"shadow": "kept"}]


def test_headers_that_cannot_be_read_are_left_to_be_refused(make_stage):
    stage = make_stage(catalogue={"shop.ship": RULES})
    link = LocalLink(settler=stage.settler, held=stage.held, reader=stage.client, clock=stage.clock)

    link.send([CALL._replace(headers=b'{"origin":')], timeout=5)

    assert stage.consume() == []
    assert [reason for reason, _ in refusals(stage)] == ["bad-claims"]


# Maps


def test_a_map_of_what_may_be_sent_runs_and_one_of_something_else_does_not(ruled):
    mapped = {"shop.mapped": True, "shop.other": False}
    for name, runs in mapped.items():
        xmap(ruled.app.signature(name), [1, 2]).apply_async()

        assert [job.task for job in ruled.consume()] == ["cardoon.map"] * runs

    [(reason, detail)] = refusals(ruled)
    assert reason == "denied"
    assert "shop.other" in detail


def test_a_map_without_the_name_of_its_task_is_denied(ruled):
    ruled.send_raw(task="cardoon.map", id="t1")

    assert ruled.consume() == []
    [(_, detail)] = refusals(ruled)
    assert "do not name the task that it maps" in detail


# Commands


def test_what_no_rule_lets_somebody_command_no_worker_does(ruled):
    """A task can have its worker sign any revocation; without a rule it is worth nothing."""
    desk = Desk(
        settler=ruled.settler, held=ruled.held, reader=lambda: ruled.client, clock=ruled.clock
    )
    reply = Reply()
    told = {"n": 1, "ids": ["t1"], "terminate": True, "signal": "SIGKILL"}
    desk.take(reply, Frame(FrameType.REVOKE, told, b""))
    reply.wait()
    desk.close()

    ruled.keeper.listen()

    assert "t1" not in ruled.revoked
    assert [reason for reason, _ in refusals(ruled)] == ["denied"]


# Sessions


def test_a_session_too_many_is_refused(make_stage, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(POLICY.replace("\n[role.worker]", "\nmax_sessions = 1\n[role.worker]"))
    path.chmod(0o600)
    stage = make_stage(settings={"security_policy": str(path)})
    stage.send(task_id="t1")
    [first] = stage.consume()
    stage.clock.advance(700)  # a new session
    stage.send(task_id="t2")

    assert stage.consume() == []

    assert [reason for reason, _ in refusals(stage)] == ["too-many-sessions"]
    assert "message.too_many_sessions" in stage.event_names()
    assert held_of(stage, first).id == "t1"
