"""The sender of tasks that run in the worker's own process."""

from __future__ import annotations

import pytest

from cardoon.exceptions import EncodeError, InvalidTaskError, OperationalError
from cardoon.message.serializers import JSON, encode_body
from cardoon.sender import Call, Handle, Revocation
from cardoon.worker.local import LocalLink
from cardoon.worker.settler import Settler
from tests.unit.stage import body, succeeded

CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())


@pytest.fixture
def link(stage):
    return LocalLink(settler=stage.settler, held=stage.held, reader=stage.client, clock=stage.clock)


def test_calls_go_through_the_settler(stage, link):
    [digest] = link.send([CALL], timeout=5.0)

    [delivery] = stage.broker.receive(["celery"], limit=9, lease=30, timeout=0)
    assert (delivery.id, len(digest)) == ("c1", 32)


def test_sending_nothing_waits_for_nobody(stage):
    idle = Settler(stage.ledger, held=stage.held, clock=stage.clock)
    link = LocalLink(settler=idle, held=stage.held, reader=stage.client, clock=stage.clock)

    assert link.send([], timeout=5.0) == []
    with pytest.raises(OperationalError, match=r"not confirmed within 0\.01 seconds"):
        link.send([CALL], timeout=0.01)


def test_a_call_that_cannot_be_signed_raises(link):
    with pytest.raises(EncodeError):
        link.send([CALL._replace(queue="line\nbreak")], timeout=5.0)


def test_results_are_read_waited_for_and_forgotten(stage, link):
    stage.send(task_id="t1")
    [job] = stage.consume()
    stage.end(job, succeeded(5))

    assert link.load([Handle("t1")])["t1"].state == "SUCCESS"
    assert [report.task_id for report in link.wait([Handle("t1")], timeout=1.0)] == ["t1"]
    link.forget(["t1"])
    assert link.load([Handle("t1")]) == {}


def test_a_revocation_is_broadcast(stage, link):
    link.revoke(Revocation(("t1",)))
    stage.keeper.listen()

    assert "t1" in stage.revoked


def test_a_running_task_may_tell_its_state(stage, link):
    stage.send(task_id="t1")
    stage.consume()

    link.update_state("t1", "PROGRESS", JSON, encode_body({"result": 5}, JSON))
    stage.flush()

    assert link.load([Handle("t1")])["t1"].state == "PROGRESS"


def test_a_task_that_does_not_run_here_has_no_state_to_tell(link):
    with pytest.raises(InvalidTaskError, match="t1 does not run here"):
        link.update_state("t1", "PROGRESS", JSON, b"{}")


def test_groups_are_kept_and_messages_found(stage, link):
    stage.send(task_id="t1")
    link.save_group("g1", JSON, encode_body({"result": []}, JSON))

    assert link.load_group("g1").body == stage.client.load_group("g1").body
    assert link.find(["t1", "t2"]) == {"t1": "ready"}
