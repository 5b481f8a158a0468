"""The link of a task process: its requests go over a real channel to a real desk, and come back."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import UTC, datetime

import pytest

from cardoon.exceptions import CardoonError, EncodeError, InvalidTaskError, OperationalError
from cardoon.message.serializers import JSON, encode_body
from cardoon.sender import Call, Handle, Revocation
from cardoon.worker import link as link_module
from cardoon.worker.desk import Desk
from cardoon.worker.ipc import FROM_CHILD, FROM_WORKER, Channel, Frame, FrameType, IpcError, field
from cardoon.worker.link import Link
from tests.unit.stage import PATIENCE, body, succeeded

CALL = Call(task="shop.ship", id="c1", queue="celery", codec=JSON, body=body())


class ReplyOver:
    """Where an answer goes: over the channel, with the number of its request."""

    def __init__(self, channel, number, keys):
        self._channel = channel
        self._number = number
        self.keys = keys

    def answer(self, head, body=b""):
        if self._number is not None:
            with contextlib.suppress(IpcError):
                self._channel.send(FrameType.REPLY, {"n": self._number, **head}, body)


class FarEnd:
    """The worker's end of a channel: a thread that hands requests to the desk, or keeps them."""

    def __init__(self, sock, desk):
        self.channel = Channel(sock, FROM_CHILD)
        self.desk = desk
        self.keys = ()
        self.frames = []
        self.asked = threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        try:
            while (frame := self.channel.receive()) is not None:
                self.frames.append(frame)
                self.asked.set()
                number = None if frame.type is FrameType.STATE else field(frame, "n", int)
                if self.desk is not None:
                    self.desk.take(ReplyOver(self.channel, number, self.keys), frame)
        except IpcError as error:
            self.error = error
            self.hang_up()

    def hang_up(self):
        with contextlib.suppress(OSError):
            self.channel.socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.hang_up()
        self._thread.join(PATIENCE)
        self.channel.socket.close()


@pytest.fixture
def connect(stage):
    """Makes a link to a worker that is there, or to a far end that never answers."""
    made = []
    desk = Desk(
        settler=stage.settler, held=stage.held, reader=lambda: stage.client, clock=stage.clock
    )

    def make(*, answers=True, on_frame=None):
        near, far = socket.socketpair()
        other = FarEnd(far, desk if answers else None)
        made.append((near, other))
        unexpected = []
        return Link(Channel(near, FROM_WORKER), on_frame=on_frame or unexpected.append), other

    yield make
    for near, other in made:
        other.close()
        near.close()
    desk.close()


@pytest.fixture
def link(connect):
    return connect()[0]


def end(stage, task_id, value):
    """A task that has succeeded."""
    sent = stage.send(task_id=task_id)
    [job] = stage.consume()
    stage.end(job, succeeded(value))
    return Handle(task_id, sent.request)


# Requests


def test_stamps_are_revoked(stage, link):
    link.revoke(Revocation((), stamps={"tenant": ["a"]}))
    stage.keeper.listen()

    assert stage.revoked.stamps.covers({"tenant": "a"})


def test_groups_are_saved_and_restored(stage, link):
    body = encode_body({"result": []}, JSON)
    link.save_group("g1", JSON, body)

    assert link.load_group("g1").body == stage.client.load_group("g1").body == body
    assert link.load_group("g2") is None


def test_messages_are_found_however_many_are_asked_for(stage, link, monkeypatch):
    monkeypatch.setattr(link_module, "MAX_ASKED", 2)
    stage.send(task_id="t1")
    stage.send(task_id="t2", countdown=60)

    assert link.find(["t1", "x", "t2"]) == {"t1": "ready", "t2": "scheduled"}


def test_calls_are_sent_by_the_worker(stage, link):
    digests = link.send([CALL, CALL._replace(id="c2")], timeout=5.0)

    assert [len(digest) for digest in digests] == [32, 32]
    assert stage.depth() == (2, 0, 0)


def test_sending_nothing_asks_nothing(connect):
    link, other = connect(answers=False)

    assert link.send([], timeout=5.0) == []
    assert other.frames == []


def test_results_are_read_by_the_worker(stage, link):
    handle = end(stage, "t1", 5)

    reports = link.load([handle, Handle("t2")])

    assert {task_id: report.body for task_id, report in reports.items()} == {
        "t1": succeeded(5).body
    }


def test_results_are_waited_for_by_the_worker_each_once(stage, link):
    handles = [end(stage, task_id, 5) for task_id in ("t1", "t2", "t3")]

    found = [report.task_id for report in link.wait(handles, timeout=None)]

    assert sorted(found) == ["t1", "t2", "t3"]


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 0.01])
def test_a_wait_ends_when_its_time_is_over(connect, timeout):
    link, other = connect()

    assert list(link.wait([Handle("t1")], timeout=timeout)) == []
    assert other.error is None


def test_a_wait_may_grow_while_it_waits(stage, link):
    handles = {end(stage, "t1", 5): None}
    found = []

    for report in link.wait(handles.keys(), timeout=5.0):
        found.append(report.task_id)
        if len(found) == 1:
            handles[end(stage, "t2", 5)] = None
        handles.pop(next(one for one in handles if one.task_id == report.task_id))

    assert found == ["t1", "t2"]


def test_results_are_forgotten_by_the_worker(stage, link):
    handle = end(stage, "t1", 5)

    link.forget(["t1"])

    assert stage.client.load([handle]) == {}


def test_a_revocation_is_broadcast_by_the_worker(stage, link):
    link.revoke(Revocation(("t1",), terminate=True))
    stage.keeper.listen()

    assert "t1" in stage.revoked


def test_a_state_is_told_to_the_worker_and_not_answered(stage, connect):
    link, other = connect()
    stage.send(task_id="t1")
    [job] = stage.consume()
    other.keys = (job.key,)

    link.update_state("t1", "PROGRESS", JSON, encode_body({"result": 5}, JSON))
    link.load([Handle("t1")])  # an answer, so the desk has taken what was sent before
    stage.flush()

    assert stage.client.load([Handle("t1")])["t1"].state == "PROGRESS"


# What the worker would not take


def test_a_call_that_cannot_be_signed_raises_the_error_of_the_worker(link):
    with pytest.raises(EncodeError):
        link.send([CALL._replace(queue="line\nbreak")], timeout=5.0)


@pytest.mark.parametrize(
    "change",
    [
        {"headers": b'{"x":"' + b"y" * 40_000 + b'"}'},
        {"task": "x" * 300},
        {"id": "\ud800"},
        {"priority": 10},
        {"eta": datetime(9000, 1, 1, tzinfo=UTC).timestamp()},
        {"expires": -1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_call_that_the_worker_would_not_take_is_the_callers_error(connect, change):
    link, other = connect()

    with pytest.raises(InvalidTaskError):
        link.send([CALL._replace(**change)], timeout=5.0)

    assert len(link.send([CALL], timeout=5.0)) == 1
    assert other.error is None


def test_many_calls_are_sent_in_as_many_frames_as_they_need(stage, connect):
    link, other = connect()
    calls = [
        CALL._replace(id=f"{number:036}", root="r" * 36, parent="p" * 36) for number in range(5000)
    ]

    digests = link.send(calls, timeout=20.0)

    assert len(set(digests)) == 5000
    assert stage.depth() == (5000, 0, 0)
    assert other.error is None


def test_calls_with_long_headers_are_sent_in_as_many_frames_as_they_need(stage, connect):
    link, other = connect()
    headers = b'{"headers":{"x":"' + b'\\"' * 15_000 + b'"}}'

    link.send(
        [CALL._replace(id=str(number), headers=headers) for number in range(60)], timeout=20.0
    )

    assert stage.depth() == (60, 0, 0)
    assert other.error is None


def test_calls_with_long_bodies_are_gathered_up_to_a_size(connect):
    link, other = connect()
    size = link_module.MAX_FRAME_BODY // 2 - 1000
    calls = [CALL._replace(id=str(number), body=bytes(size)) for number in range(3)]

    link.send(calls, timeout=20.0)

    assert [len(frame.body) for frame in other.frames] == [2 * size, size]


def test_more_handles_than_fit_a_frame_are_asked_for_in_several(stage, connect):
    link, other = connect()
    handles = [Handle(f"{number:036}", bytes(32)) for number in range(12_000)]
    last = end(stage, "t1", 5)

    assert list(link.load([*handles, last])) == ["t1"]
    assert other.error is None


def test_a_result_behind_more_handles_than_fit_a_frame_is_still_waited_for(stage, connect):
    link, other = connect()
    handles = [Handle(f"{number:036}", bytes(32)) for number in range(12_000)]
    handles.insert(3000, end(stage, "t1", 5))

    found = next(link.wait(handles, timeout=None))

    assert found.task_id == "t1"
    assert other.error is None
    assert sum(frame.head["timeout"] for frame in other.frames) <= 1.0


def test_more_results_than_fit_a_frame_are_forgotten_in_several(stage, connect):
    link, other = connect()
    handle = end(stage, "t1", 5)

    link.forget([*[f"{number:036}" for number in range(30_000)], "t1"])

    assert stage.client.load([handle]) == {}
    assert other.error is None


@pytest.mark.parametrize(
    ("task_id", "told"), [("t1", "x" * (1 << 20)), ("x" * 2000, 5)], ids=["body", "head"]
)
def test_a_state_that_is_too_large_is_the_callers_error(connect, task_id, told):
    link, other = connect()

    with pytest.raises(InvalidTaskError):
        link.update_state(task_id, "PROGRESS", JSON, encode_body({"result": told}, JSON))

    link.forget(["t1"])
    assert other.error is None


def test_more_revoked_ids_than_fit_a_frame_are_the_callers_error(connect):
    link, other = connect()

    with pytest.raises(InvalidTaskError):
        link.revoke(Revocation(tuple(f"{number:036}" for number in range(30_000))))

    link.forget(["t1"])
    assert other.error is None


# Errors and ends


@pytest.mark.parametrize(
    ("named", "raised"),
    [
        ("OperationalError", OperationalError),
        ("EncodeError", EncodeError),
        ("InvalidTaskError", InvalidTaskError),
        ("SystemExit", OperationalError),
        ("RefusedError", OperationalError),
        (None, OperationalError),
    ],
)
def test_an_error_is_raised_as_one_of_a_few_types(connect, named, raised):
    link, other = connect(answers=False)

    def answer():
        assert other.asked.wait(PATIENCE)
        error = {"error": {"type": named, "message": "no"}}
        other.channel.send(FrameType.REPLY, {"n": other.frames[0].head["n"], **error})

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(CardoonError, match="no") as caught:
        link.forget(["t1"])
    thread.join()
    assert type(caught.value) is raised


def test_a_worker_that_goes_away_is_an_operational_error(connect):
    link, other = connect(answers=False)
    threading.Timer(0.01, other.hang_up).start()

    with pytest.raises(OperationalError, match="the worker is gone"):
        link.load([Handle("t1")])


def test_a_reply_that_nobody_waits_for_is_dropped(stage, connect):
    link, other = connect()
    other.channel.send(FrameType.REPLY, {"n": 999})
    handle = end(stage, "t1", 5)

    assert list(link.load([handle])) == ["t1"]


def test_frames_that_are_no_replies_go_to_whoever_takes_them(connect):
    taken = []
    link, other = connect(on_frame=taken.append)
    other.channel.send(FrameType.JOB, {"key": 1}, b"body")
    other.channel.send(FrameType.STOP, {})

    link.read_until(lambda: len(taken) == 2)

    assert taken == [Frame(FrameType.JOB, {"key": 1}, b"body"), Frame(FrameType.STOP, {}, b"")]


def test_what_is_there_is_read_without_waiting_for_more(connect):
    taken = []
    link, other = connect(on_frame=taken.append)
    link.read_now()
    assert taken == []

    for key in range(3):
        other.channel.send(FrameType.JOB, {"key": key})
    link.read_now()

    assert [frame.head["key"] for frame in taken] == [0, 1, 2]


def test_reading_now_leaves_it_to_the_thread_that_reads_already(connect):
    taken = []
    link, other = connect(on_frame=taken.append)
    reader = threading.Thread(target=link.read_until, args=(lambda: bool(taken),))
    reader.start()

    link.read_now()

    other.channel.send(FrameType.STOP, {})
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert len(taken) == 1


def test_threads_that_ask_at_once_get_each_its_own_answer(stage, connect):
    link, _other = connect()
    handles = [end(stage, f"t{number}", number) for number in range(8)]
    found = {}

    def ask(handle):
        for _ in range(5):
            found.setdefault(handle.task_id, []).extend(link.load([handle]))

    threads = [threading.Thread(target=ask, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert found == {handle.task_id: [handle.task_id] * 5 for handle in handles}


def test_a_thread_that_waits_for_something_else_reads_for_those_who_ask(stage, connect):
    taken = []
    link, other = connect(on_frame=taken.append)
    handle = end(stage, "t1", 5)
    reader = threading.Thread(target=link.read_until, args=(lambda: bool(taken),))
    reader.start()

    assert list(link.load([handle])) == ["t1"]

    other.channel.send(FrameType.STOP, {})
    reader.join(PATIENCE)
    assert not reader.is_alive()
