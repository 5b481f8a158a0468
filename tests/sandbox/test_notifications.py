"""Calls that a filter asks about: the listener hears which, and its word is the last."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cardoon.sandbox.kernel import machine
from cardoon.sandbox.profile import Sandbox
from tests.sandbox import library_work
from tests.sandbox.children import USERS, Ended, confine, raw, run

# <linux/seccomp.h>: struct seccomp_notif is 80 bytes, its answer 24.
RECEIVE, SEND, IS_VALID = 0xC0502100, 0xC0182101, 0x40082102
NUMBERS = {number: name for name, number in machine().numbers.items()}
BAD = 1
COMPUTE = Sandbox()
LISTED = Sandbox(syscalls="net", network=["db.internal:5432"])


class Heard(NamedTuple):
    id: int
    pid: int
    name: str
    arguments: tuple[int, ...]


def hear(listener: int) -> Heard | None:
    """The next question; None when nobody is left to ask."""
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    if not poller.poll(20_000)[0][1] & select.POLLIN:
        return None
    question = bytearray(80)
    try:
        fcntl.ioctl(listener, RECEIVE, question)
    except FileNotFoundError:
        return None  # who asked has died
    id_, pid, _, number, _, _, *arguments = struct.unpack("=QIIiIQ6Q", question)
    return Heard(id_, pid, NUMBERS[number], tuple(arguments))


def answer(listener: int, heard: Heard, number: int) -> None:
    fcntl.ioctl(listener, SEND, bytearray(struct.pack("=QqiI", heard.id, 0, -number, 0)))


def listening(
    action: Callable[[], Any], profile: Sandbox, reply: Callable[[int, Heard], None], uid: int
) -> tuple[Ended, list[Heard]]:
    """Run an action under a filter that asks, and answer; how it ended, and what was asked."""
    here, there = socket.socketpair()
    heard: list[Heard] = []

    def hand_over() -> None:
        here.close()
        listener = confine(profile, notify=True)()
        assert listener is not None
        socket.send_fds(there, [b"x"], [listener])
        there.close()
        os.close(listener)

    def listen() -> None:
        _, (listener,), _, _ = socket.recv_fds(here, 1, 1)
        try:
            while question := hear(listener):
                heard.append(question)
                reply(listener, question)
        finally:
            os.close(listener)

    thread = threading.Thread(target=listen)
    thread.start()
    with here, there:
        ended = run(action, hand_over, uid=uid)
        thread.join(20)
    assert not thread.is_alive()
    return ended, heard


def refuse(listener: int, heard: Heard) -> None:
    answer(listener, heard, errno.EPERM)


WATCHED: dict[str, tuple[int, ...]] = {
    "ptrace": (0,),
    "mount": (BAD, BAD, BAD),
    "unshare": (1 << 28,),
    "setns": (-1,),
    "bpf": (0, BAD, 0),
    "keyctl": (0, -3, 1),
    "add_key": (BAD,),
    "io_uring_setup": (1, BAD),
    "perf_event_open": (BAD,),
    "userfaultfd": (),
    "process_vm_readv": (1,),
    "process_vm_writev": (1,),
    "pidfd_getfd": (-1,),
    "kexec_load": (0, 99),
    "init_module": (BAD,),
    "open_by_handle_at": (-1, BAD),
    "chroot": (BAD,),
    "pivot_root": (BAD, BAD),
    "setuid": (0,),
    "setresuid": (0, 0, 0),
    "personality": (0x40000,),
    "memfd_create": (BAD,),
    "execve": (BAD,),
    "clone": (17,),
    "socket": (socket.AF_INET6, socket.SOCK_DGRAM, 17),
    "connect": (-1, BAD, 16),
    "bind": (-1, BAD, 16),
    "socketpair": (socket.AF_UNIX, socket.SOCK_DGRAM, 0, BAD),
    "ioctl": (0, 0x5412, BAD),
}


@pytest.mark.parametrize("uid", USERS)
def test_whoever_listens_hears_what_was_tried(uid: int) -> None:
    def work() -> dict[str, str]:
        found = {}
        for name, arguments in WATCHED.items():
            try:
                raw(name, *arguments)
            except OSError as error:
                found[name] = errno.errorcode[error.errno]
        return found

    ended, heard = listening(work, COMPUTE, refuse, uid)

    assert ended == Ended(value=dict.fromkeys(WATCHED, "EPERM"))
    assert [one.name for one in heard] == list(WATCHED)
    for one, arguments in zip(heard, WATCHED.values(), strict=True):
        given = tuple(argument & (1 << 64) - 1 for argument in arguments)
        assert one.arguments[: len(given)] == given


def test_ordinary_calls_are_not_asked_about() -> None:
    def work() -> int:
        left, right = socket.socketpair()
        left.send(b"x")
        right.recv(1)
        thread = threading.Thread(target=os.getpid)
        thread.start()
        thread.join()
        for name, arguments in (("clone3", (BAD, 0)), ("pidfd_open", (1,)), ("setsid", ())):
            with pytest.raises(OSError, match=name):
                raw(name, *arguments)
        return 1

    assert listening(work, COMPUTE, refuse, os.getuid()) == (Ended(value=1), [])


def test_looking_up_a_name_is_nothing_to_tell() -> None:
    """glibc asks for nscd and for the addresses of this machine, and goes on without."""
    files = [one for one in ("/etc/hosts", "/etc/nsswitch.conf") if Path(one).exists()]
    profile = Sandbox(level="strict", syscalls="net", network="loopback", read=files)

    def work() -> str:
        found = socket.getaddrinfo("localhost", 80, flags=socket.AI_ADDRCONFIG)
        return found[0][4][0]

    ended, heard = listening(work, profile, refuse, os.getuid())

    assert ended.value in {"127.0.0.1", "::1"}
    assert heard == []


def test_ordinary_work_is_nothing_to_tell(reachable: Path) -> None:
    """Else people learn to look past what is told."""
    ordinary = [
        one for one in library_work.COMPUTE if one is not library_work.refused_as_documented
    ]

    def work() -> int:
        os.chdir(reachable)
        tempfile.tempdir = str(reachable)
        for one in ordinary:
            one()
        return len(ordinary)

    ended, heard = listening(work, Sandbox(write=[str(reachable)]), refuse, os.getuid())

    assert ended == Ended(value=len(ordinary))
    assert heard == []


@pytest.mark.parametrize("uid", USERS)
def test_a_connection_is_the_listeners_to_make(uid: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        address = server.getsockname()

        def work() -> str:
            with socket.socket() as client:
                client.connect(address)
                client.send(b"")
            return "connected"

        # It says yes and connects nothing: the task's own call is never made.
        ended, heard = listening(work, LISTED, lambda listener, one: answer(listener, one, 0), uid)

        assert ended.errno == "EPIPE"
        assert [one.name for one in heard] == ["connect"]
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_signal_does_not_ask_again() -> None:
    """Else a connection would be made twice."""
    valid = []

    def work() -> str:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        with pytest.raises(PermissionError):
            raw("connect", -1, BAD, 16)
        return "asked"

    def reply(listener: int, heard: Heard) -> None:
        for _ in range(5):
            os.kill(heard.pid, signal.SIGUSR1)
        # Long enough for it to have woken, and asked again.
        asked_again = select.poll()
        asked_again.register(listener, select.POLLIN)
        assert not asked_again.poll(300)
        fcntl.ioctl(listener, IS_VALID, bytearray(struct.pack("=Q", heard.id)))
        valid.append(heard.id)
        answer(listener, heard, errno.EPERM)

    ended, heard = listening(work, COMPUTE, reply, os.getuid())

    assert ended == Ended(value="asked")
    assert len(heard) == len(valid) == 1


@pytest.fixture
def deaf() -> Callable[[], None]:
    """A step that confines, with a listener that has gone."""

    def step() -> None:
        listener = confine(COMPUTE, notify=True)()
        assert listener is not None
        os.close(listener)

    return step


def test_without_a_listener_what_is_asked_about_is_refused(deaf: Callable[[], None]) -> None:
    assert run(lambda: raw("unshare", 0), deaf).errno == "ENOSYS"
    assert run(lambda: raw("connect", -1, BAD, 16), deaf).errno == "ENOSYS"
