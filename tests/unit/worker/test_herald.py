"""The herald: carries notices to the zygote, and what its receivers ask for to the desk."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from cardoon.message.serializers import JSON
from cardoon.sender import Call
from cardoon.worker.desk import Desk
from cardoon.worker.herald import MAX_DEATHS, Herald
from cardoon.worker.ipc import HEARD_BY_RECEIVERS, Channel, FrameType, IpcError
from cardoon.worker.link import Link
from cardoon.worker.notices import OF_MESSAGES
from tests.unit.stage import PATIENCE, body

WANTED = frozenset({"task_received", "worker_shutdown"})


class Zygotes:
    """In the place of a nursery: gives the herald a channel, and the test its other end."""

    def __init__(self):
        self.on_restart = lambda: None
        self.sockets = []
        self.be_born()

    def be_born(self):
        self._ours, theirs = socket.socketpair()
        self.sockets += [self._ours, theirs]
        theirs.settimeout(PATIENCE)
        self.channel = Channel(theirs, HEARD_BY_RECEIVERS)

    def take_notices(self):
        return self._ours

    def die(self):
        self.channel.socket.close()
        self.be_born()
        self.on_restart()


@pytest.fixture
def zygotes():
    made = Zygotes()
    yield made
    for one in made.sockets:
        one.close()


@pytest.fixture
def desk(stage):
    made = Desk(
        settler=stage.settler, held=stage.held, reader=lambda: stage.client, clock=stage.clock
    )
    yield made
    made.close()


@pytest.fixture
def herald(zygotes, desk):
    made = Herald(zygotes, WANTED)
    made.start(desk)
    yield made
    made.close(0.0)


def test_a_notice_reaches_the_zygote(herald, zygotes):
    herald.tell("task_received", {"call": {"id": "t1"}})

    frame = zygotes.channel.receive()
    assert frame.type is FrameType.NOTICE
    assert frame.head == {"signal": "task_received", "call": {"id": "t1"}}


def test_whoever_tells_waits_for_nobody(herald, zygotes, caplog):
    large = {"call": {"x": "y" * 100_000}}

    with caplog.at_level(logging.WARNING):
        for _ in range(100):  # the zygote reads none of them
            herald.tell("task_received", large)

    assert "too slow; notices dropped: 1" in caplog.text


def test_a_notice_that_is_too_large_is_dropped(herald, zygotes, caplog):
    herald.tell("task_received", {"call": {"x": "y" * 300_000}})
    herald.tell("task_received", {"call": {}})

    assert zygotes.channel.receive().head["call"] == {}
    assert "too large" in caplog.text


def test_a_receiver_may_call_a_task(herald, zygotes, stage):
    link = Link(zygotes.channel, on_frame=lambda _: None)

    digests = link.send([Call("shop.pay", "c1", "celery", JSON, body(1))], timeout=5)

    assert len(digests) == 1
    [job] = stage.consume()
    assert job.id == "c1"


@pytest.mark.parametrize("kind", [FrameType.STATE, FrameType.OUTCOME, FrameType.READY])
def test_a_receiver_that_speaks_as_a_task_process_is_cut_off(herald, zygotes, kind):
    zygotes.channel.send(kind, {"n": 1})

    with pytest.raises(IpcError):
        zygotes.channel.receive()


@pytest.mark.parametrize("head", [{}, {"n": "1"}, {"n": 1, "calls": "all"}])
def test_a_receiver_that_asks_for_nonsense_is_cut_off(herald, zygotes, head):
    zygotes.channel.send(FrameType.SEND, head)

    with pytest.raises(IpcError):
        zygotes.channel.receive()


def test_the_last_word_is_worker_shutdown_and_its_receivers_are_waited_for(herald, zygotes):
    done = threading.Event()

    def close():
        herald.close(PATIENCE)
        done.set()

    thread = threading.Thread(target=close)
    thread.start()
    assert zygotes.channel.receive().head == {"signal": "worker_shutdown"}
    assert not done.is_set()
    zygotes.channel.socket.close()
    thread.join(PATIENCE)

    assert done.is_set()


def test_receivers_that_do_not_end_are_not_waited_for_longer_than_said(herald, zygotes, caplog):
    herald.close(0.01)

    assert "did not end within 0.01 seconds" in caplog.text


def test_another_zygote_hears_what_the_dead_one_cannot(herald, zygotes):
    zygotes.die()

    herald.tell("task_received", {"call": {"id": "t2"}})

    assert zygotes.channel.receive().head["call"] == {"id": "t2"}


def test_signals_of_messages_that_may_kill_the_zygote_again_and_again_are_given_up(
    herald, zygotes, caplog
):
    for _ in range(MAX_DEATHS):
        zygotes.die()

    assert herald.wanted == WANTED - OF_MESSAGES
    assert "sent no more: task_received" in caplog.text
