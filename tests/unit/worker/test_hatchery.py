"""The worker's end of nests: whom it asks for a process, and what it makes of their deaths."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from cardoon.exceptions import CardoonError
from cardoon.sandbox.profile import Sandbox
from cardoon.worker import hatchery as module
from cardoon.worker.hatchery import MAX_FAILURES, Hatchery
from cardoon.worker.ipc import TO_NEST, FrameReader, FrameType, IpcError, pack_frame


class Zygote:
    """Stands for nursery and nests: hands out the far ends of control sockets, for tests to speak there."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.nests: list[socket.socket] = []
        self.profiles: list[dict] = []

    def fileno(self) -> int:
        return self.near.fileno()

    def make_nest(self, descriptors, head) -> None:
        self.nests.append(socket.socket(fileno=os.dup(descriptors[0])))
        self.nests[-1].setblocking(False)
        self.profiles.append(head["profile"])

    def receive(self) -> list:
        if not self.near.recv(4096):
            raise IpcError("the process that forks is gone")
        return []

    def restart(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        for one in (self.near, self.far, *self.nests):
            one.close()


@pytest.fixture
def zygote():
    made = Zygote()
    yield made
    made.close()


@pytest.fixture
def hatchery(zygote):
    profiles, reached = [Sandbox(), Sandbox(files=99)], ["confined/v1", "confined/v1"]
    made = Hatchery(zygote, profiles, sandbox={}, reached=reached)
    yield made
    made.close()


def fork(hatchery: Hatchery, index: int, profile: int = 0) -> None:
    hatchery.fork([0], {"index": index, "profile": profile})


def say(nest: socket.socket, kind: FrameType, **head) -> None:
    nest.sendall(pack_frame(kind, head))


def died(nest: socket.socket, index: int, code: int) -> None:
    say(nest, FrameType.DIED, index=index, pid=7, code=code)


def asked(nest: socket.socket) -> list[int]:
    """The processes that a nest was asked for."""
    found = []
    reader = FrameReader(TO_NEST)
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(nest, 65536, 64)
        except BlockingIOError:
            return found
        if not data:
            return found
        for one in descriptors:
            os.close(one)
        frames = reader.feed(data)
        assert len(descriptors) == sum(frame.head["descriptors"] for frame in frames)
        found += [frame.head["index"] for frame in frames]


def told(hatchery: Hatchery) -> list[tuple[int, int, bool]]:
    found = [frame for frame, _ in hatchery.receive() if frame.type is FrameType.DIED]
    return [(f.head["index"], f.head["code"], f.head.get("orphan", False)) for f in found]


def test_there_is_a_nest_for_each_profile_in_use(hatchery, zygote):
    fork(hatchery, 1)
    fork(hatchery, 2)
    fork(hatchery, 3, profile=1)

    assert [asked(nest) for nest in zygote.nests] == [[1, 2], [3]]
    assert [one["files"] for one in zygote.profiles] == [256, 99]


@pytest.mark.parametrize("reached", ["process/v1", "strict/v1", "confined/v2", ""])
def test_a_nest_that_holds_tasks_to_something_else_than_results_tell_does_not_serve(
    hatchery, zygote, reached
):
    for index in range(1, MAX_FAILURES):
        fork(hatchery, index, profile=1)
        say(zygote.nests[-1], FrameType.NESTED, reached=reached)
        assert told(hatchery) == [(index, -9, True)]

    fork(hatchery, 9, profile=1)
    say(zygote.nests[-1], FrameType.NESTED, reached=reached)
    with pytest.raises(CardoonError, match=f"has reached '{reached}', and not 'confined/v1'"):
        hatchery.receive()


def test_the_children_of_a_dead_nest_are_told_as_orphans_and_another_is_made(hatchery, zygote):
    fork(hatchery, 1)
    fork(hatchery, 2)
    fork(hatchery, 3, profile=1)
    say(zygote.nests[0], FrameType.NESTED, reached="confined/v1")
    hatchery.receive()
    zygote.nests[0].close()

    assert told(hatchery) == [(1, -9, True), (2, -9, True)]
    fork(hatchery, 4)
    assert asked(zygote.nests[2]) == [4]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGSYS])
def test_a_nest_whose_child_died_as_of_an_attack_forks_no_more(hatchery, zygote, number):
    fork(hatchery, 1)
    fork(hatchery, 2)
    died(zygote.nests[0], 1, -number)

    assert told(hatchery) == [(1, -number, False)]
    fork(hatchery, 3)
    assert len(zygote.nests) == 2
    died(zygote.nests[0], 2, 0)
    assert told(hatchery) == [(2, 0, False)]
    assert asked(zygote.nests[0]) == [1, 2]
    assert zygote.nests[0].recv(1) == b"", "it ends with its last child"


def test_a_nest_goes_on_after_other_deaths(hatchery, zygote):
    fork(hatchery, 1)
    for index, code in enumerate((0, 1, -9, -24), start=1):
        died(zygote.nests[0], index, code)
        hatchery.receive()
    fork(hatchery, 9)

    assert len(zygote.nests) == 1


def test_a_nest_has_its_time(hatchery, zygote, monkeypatch):
    monkeypatch.setattr(module, "MAX_FORKS", 3)
    for index in range(7):
        fork(hatchery, index)

    assert [len(asked(nest)) for nest in zygote.nests] == [3, 3, 1]


def test_many_deaths_as_of_an_attack_have_the_app_imported_anew(hatchery, zygote, monkeypatch):
    monkeypatch.setattr(module, "MAX_SUSPICIOUS", 3)
    for index in range(3):
        fork(hatchery, index)
        died(zygote.nests[-1], index, -signal.SIGSEGV)
        told(hatchery)

    with pytest.raises(IpcError, match="3 task processes have died as of an attack"):
        hatchery.receive()
    hatchery.restart()
    assert told(hatchery) == []
    fork(hatchery, 9)
    assert asked(zygote.nests[-1]) == [9]


def test_nests_that_come_to_nothing_end_the_worker_with_the_reason(hatchery, zygote):
    for index in range(MAX_FAILURES - 1):
        fork(hatchery, index)
        say(zygote.nests[-1], FrameType.NESTED, error="no Landlock")
        assert told(hatchery) == [(index, -9, True)]

    fork(hatchery, 9)
    say(zygote.nests[-1], FrameType.NESTED, error="no Landlock")
    with pytest.raises(CardoonError, match="tasks cannot be isolated: no Landlock"):
        hatchery.receive()


def test_a_nest_that_serves_ends_a_row_of_failures(hatchery, zygote):
    for index in range(3 * MAX_FAILURES):
        fork(hatchery, index)
        say(zygote.nests[-1], FrameType.NESTED, reached="confined/v1")
        hatchery.receive()
        zygote.nests[-1].close()
        told(hatchery)

    assert len(zygote.nests) == 3 * MAX_FAILURES


def test_nonsense_from_a_nest_is_its_end(hatchery, zygote):
    fork(hatchery, 1)
    say(zygote.nests[0], FrameType.NESTED, reached="confined/v1")
    hatchery.receive()
    zygote.nests[0].sendall(b"\xff" * 64)

    assert told(hatchery) == [(1, -9, True)]


def test_the_end_of_the_zygote_is_told(hatchery, zygote):
    zygote.far.close()

    with pytest.raises(IpcError, match="gone"):
        hatchery.receive()
