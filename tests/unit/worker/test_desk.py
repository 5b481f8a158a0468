"""The desk: what task code may ask of the worker, and how it is answered."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from cardoon.contents import MSGPACK, PICKLE
from cardoon.exceptions import OperationalError
from cardoon.message.serializers import JSON, JSON_ZLIB, encode_body
from cardoon.sandbox.violations import Violation
from cardoon.sender import Call, Handle, Report
from cardoon.worker.desk import Desk
from cardoon.worker.ipc import FROM_CHILD, FROM_WORKER, Frame, FrameType, IpcError
from cardoon.worker.violation_log import ViolationLog
from cardoon.worker.wire import call_head, parse_reports
from tests.unit.stage import PATIENCE, body, held_of, succeeded

CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())


class Reply:
    """Where an answer goes: what the supervisor gives the desk."""

    def __init__(self, *keys):
        self.keys = keys
        self.answers: list[tuple[dict[str, Any], bytes]] = []
        self.answered = threading.Event()

    def answer(self, head, body=b""):
        self.answers.append((head, body))
        self.answered.set()

    def wait(self):
        assert self.answered.wait(PATIENCE)
        [(head, body)] = self.answers
        return Frame(FrameType.REPLY, head, body)


class LostReader:
    """A producer whose store is away, or which has a bug."""

    def __init__(self, error):
        self.error = error

    def load(self, handles):
        raise self.error


@pytest.fixture
def make_desk(stage):
    made = []

    def make(reader=None, **more):
        desk = Desk(
            settler=stage.settler,
            held=stage.held,
            reader=lambda: reader or stage.client,
            clock=stage.clock,
            **more,
        )
        made.append(desk)
        return desk

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def desk(make_desk):
    return make_desk()


def ask(desk, kind, body=b"", *, keys=(), **head):
    reply = Reply(*keys)
    desk.take(reply, Frame(kind, head, body))
    return reply


def end(stage, task_id, value):
    """A task that has succeeded."""
    sent = stage.send(task_id=task_id)
    [job] = stage.consume()
    stage.end(job, succeeded(value))
    return Handle(task_id, sent.request)


# SEND


def test_calls_of_task_code_are_sent_and_answered_with_their_digests(stage, desk):
    calls = [CALL, CALL._replace(id="c2")]
    heads = [call_head(call) for call in calls]

    reply = ask(desk, FrameType.SEND, body() * 2, calls=heads, timeout=5.0).wait()

    assert [len(bytes.fromhex(digest)) for digest in reply.head["digests"]] == [32, 32]
    assert stage.depth() == (2, 0, 0)


def test_sending_nothing_is_answered_at_once(desk):
    assert ask(desk, FrameType.SEND, calls=[], timeout=5.0).wait().head == {"digests": []}


def test_a_call_that_cannot_be_signed_is_answered_with_the_error(stage, desk):
    call = CALL._replace(queue="line\nbreak")

    reply = ask(desk, FrameType.SEND, body(), calls=[call_head(call)], timeout=5.0).wait()

    assert reply.head["error"]["type"] == "EncodeError"
    assert stage.depth() == (0, 0, 0)


# STATE


def test_a_task_may_tell_its_own_state(stage, desk):
    stage.send(task_id="t1")
    [job] = stage.consume()
    told = encode_body({"result": {"done": 5}}, JSON)

    ask(desk, FrameType.STATE, told, keys=[job.key], id="t1", state="PROGRESS", codec=JSON)
    stage.flush()

    [report] = stage.client.load([Handle("t1")]).values()
    assert (report.state, report.body) == ("PROGRESS", told)


def test_a_task_cannot_tell_the_state_of_a_task_of_another_process(stage, desk):
    for task_id in ("t1", "t2"):
        stage.send(task_id=task_id)
    first, _second = stage.consume()

    for task_id in ("t2", "t3"):
        ask(desk, FrameType.STATE, b"{}", keys=[first.key], id=task_id, state="X", codec=JSON)
    stage.flush()

    assert stage.client.load([Handle(task_id) for task_id in ("t1", "t2", "t3")]) == {}


def test_a_state_that_came_too_late_is_dropped(stage, desk):
    stage.send(task_id="t1")
    [job] = stage.consume()
    stage.end(job, succeeded(5))

    ask(desk, FrameType.STATE, b"{}", keys=[job.key], id="t1", state="PROGRESS", codec=JSON)
    stage.flush()

    assert stage.client.load([Handle("t1")])["t1"].state == "SUCCESS"


@pytest.mark.parametrize(
    "change",
    [
        *({"codec": codec} for codec in ("pickle", PICKLE, JSON_ZLIB, MSGPACK, None)),
        *({"state": state} for state in ("", "X" * 65)),
        {"id": 7},
    ],
    ids=str,
)
def test_a_state_that_makes_no_sense_ends_the_process(stage, desk, change):
    stage.send(task_id="t1")
    [job] = stage.consume()
    head = {"id": "t1", "state": "PROGRESS", "codec": JSON, **change}

    with pytest.raises(IpcError):
        ask(desk, FrameType.STATE, keys=[job.key], **head)


# LOAD, WAIT, FORGET, REVOKE


def test_present_states_are_read(stage, desk):
    handle = end(stage, "t1", 5)
    pairs = [["t1", handle.request.hex()], ["t2", None]]

    [report] = parse_reports(ask(desk, FrameType.LOAD, handles=pairs).wait())

    assert isinstance(report, Report)
    assert (report.task_id, report.state, report.body) == ("t1", "SUCCESS", succeeded(5).body)


def test_all_results_that_are_there_come_with_one_wait(stage, desk):
    for task_id in ("t1", "t2"):
        end(stage, task_id, task_id)
    pairs = [["t1", None], ["t2", None]]

    reports = parse_reports(ask(desk, FrameType.WAIT, handles=pairs, timeout=1.0).wait())

    assert sorted(report.task_id for report in reports) == ["t1", "t2"]


def test_a_wait_is_answered_with_the_result_that_comes(stage, desk):
    stage.send(task_id="t1")
    [job] = stage.consume()

    found = []
    reply = ask(desk, FrameType.WAIT, handles=[["t1", None]], timeout=1.0)
    stage.end(job, succeeded(5))
    while not found:  # a busy machine may take longer than one wait
        found = parse_reports(reply.wait())
        reply = ask(desk, FrameType.WAIT, handles=[["t1", None]], timeout=1.0)

    assert [report.task_id for report in found] == ["t1"]
    reply.wait()


@pytest.mark.parametrize("timeout", [0.0, -5.0])
def test_a_wait_without_time_is_answered_at_once(desk, timeout):
    reply = ask(desk, FrameType.WAIT, handles=[["t1", None]], timeout=timeout)

    assert parse_reports(reply.wait()) == []


def test_results_are_forgotten(stage, desk):
    end(stage, "t1", 5)

    assert ask(desk, FrameType.FORGET, ids=["t1"]).wait().head == {}

    assert stage.client.load([Handle("t1")]) == {}


def test_a_revocation_is_broadcast(stage, desk):
    reply = ask(desk, FrameType.REVOKE, ids=["t1"], terminate=True, signal="SIGKILL").wait()
    stage.keeper.listen()

    assert reply.head == {}
    assert "t1" in stage.revoked


def test_a_revocation_of_stamps_is_broadcast(stage, desk):
    stamps = {"tenant": ["a"]}
    ask(desk, FrameType.REVOKE, ids=[], stamps=stamps, terminate=False, signal="SIGTERM").wait()
    stage.keeper.listen()

    assert stage.revoked.stamps.covers({"tenant": "a"})


def test_a_group_is_kept_for_who_restores_it(stage, desk):
    content = encode_body({"result": [{"id": "t1", "request": None}]}, JSON)

    ask(desk, FrameType.KEEP_GROUP, content, id="g1", codec=JSON).wait()

    assert stage.client.load_group("g1").body == content


def test_a_process_is_told_where_messages_lie(stage, desk):
    stage.send(task_id="t1")

    reply = ask(desk, FrameType.FIND, ids=["t1", "t2"]).wait()

    assert reply.head == {"found": {"t1": "ready"}}


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        (FrameType.SEND, {"calls": [7], "timeout": 5.0}),
        (FrameType.SEND, {"calls": []}),
        (FrameType.SEND, {"calls": [], "timeout": "soon"}),
        (FrameType.LOAD, {}),
        (FrameType.LOAD, {"handles": [7]}),
        (FrameType.WAIT, {"handles": []}),
        (FrameType.WAIT, {"handles": [], "timeout": None}),
        (FrameType.FORGET, {"ids": "t1"}),
        (FrameType.FORGET, {"ids": [7]}),
        (FrameType.REVOKE, {"ids": ["t1"], "terminate": "yes", "signal": "x"}),
        (FrameType.REVOKE, {"ids": ["t1"], "terminate": True}),
        (FrameType.REVOKE, {"ids": [], "terminate": True, "signal": "x", "stamps": ["a"]}),
        (FrameType.REVOKE, {"ids": [], "terminate": True, "signal": "x", "stamps": {"a": 1}}),
        (FrameType.FIND, {"ids": [7]}),
        (FrameType.KEEP_GROUP, {"id": "g1"}),
        (FrameType.KEEP_GROUP, {"id": "", "codec": JSON}),
        (FrameType.KEEP_GROUP, {"id": "g" * 129, "codec": JSON}),
        (FrameType.KEEP_GROUP, {"id": "g\n", "codec": JSON}),
        (FrameType.KEEP_GROUP, {"id": "g1", "codec": "auth"}),
        (FrameType.KEEP_GROUP, {"id": "g1", "codec": "application/x-none"}),
        (FrameType.KEEP_GROUP, {"id": "g1", "codec": PICKLE}),
        (FrameType.KEEP_GROUP, {"id": "g1", "codec": f"{PICKLE}+zlib"}),
        (FrameType.REVOKE, {"ids": [None], "terminate": True, "signal": "x"}),
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_ends_the_process_and_is_not_answered(desk, kind, head):
    reply = Reply()

    with pytest.raises(IpcError):
        desk.take(reply, Frame(kind, head))
    assert reply.answers == []


@pytest.mark.parametrize("kind", sorted({*FROM_WORKER, FrameType.READY, FrameType.OUTCOME}))
def test_what_is_not_a_request_ends_the_process(desk, kind):
    with pytest.raises(IpcError, match="not a request"):
        desk.take(Reply(), Frame(kind, {}))


def test_every_frame_of_a_task_process_is_known_to_someone(desk):
    others = {FrameType.READY, FrameType.OUTCOME, FrameType.RECALLED}  # the supervisor's

    for kind in set(FROM_CHILD) - others:
        with pytest.raises(IpcError) as raised:
            desk.take(Reply(), Frame(kind, {}))
        assert "not a request" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "type_name"),
    [(OperationalError("away"), "OperationalError"), (ValueError("a bug"), "InvalidTaskError")],
)
def test_a_request_that_fails_is_answered_with_its_error(make_desk, error, type_name):
    desk = make_desk(LostReader(error))

    reply = ask(desk, FrameType.LOAD, handles=[["t1", None]]).wait()

    assert reply.head["error"] == {"type": type_name, "message": str(error)}


def test_an_error_that_says_too_much_is_cut(make_desk):
    desk = make_desk(LostReader(OperationalError("x" * 1_000_000)))

    reply = ask(desk, FrameType.LOAD, handles=[["t1", None]]).wait()

    assert len(reply.head["error"]["message"]) == 4096


# REFUSED


def test_a_task_may_say_what_it_was_refused(stage, make_desk):
    log = ViolationLog(held=stage.held, audit=stage.audit, worker="cardoon@here")
    desk = make_desk(violations=log)
    stage.send(task_id="t1")
    [job] = stage.consume()

    told = [["read", "/etc/shadow", "kernel", 2]]
    ask(desk, FrameType.REFUSED, keys=[job.key], key=job.key, found=told)

    assert held_of(stage, job).violations.all() == (Violation("read", "/etc/shadow", "task", 2),)


def test_of_another_processes_task_it_may_not(stage, make_desk):
    log = ViolationLog(held=stage.held, audit=stage.audit, worker="cardoon@here")
    desk = make_desk(violations=log)
    stage.send(task_id="t1")
    stage.send(task_id="t2")
    first, second = stage.consume()

    told = [["read", "/etc/shadow", "task", 2]]
    ask(desk, FrameType.REFUSED, keys=[first.key], key=second.key, found=told)

    assert held_of(stage, second).violations.all() == ()


@pytest.mark.parametrize("head", [{"key": 1}, {"key": "1", "found": []}, {"key": 1, "found": {}}])
def test_what_makes_no_sense_of_refusals_ends_the_process(desk, head):
    with pytest.raises(IpcError):
        ask(desk, FrameType.REFUSED, **head)
