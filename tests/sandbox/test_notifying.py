"""What is handed through a hatch, and what is read of another process."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from cardoon.sandbox.given import Given
from cardoon.sandbox.loop import Loop
from cardoon.sandbox.notifying import Flags, hand_over, lend, read_flags, read_memory, take

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def hatch():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_a_listener_comes_with_its_token_and_is_gone_where_it_was(hatch) -> None:
    ours, theirs = hatch
    reading, writing = os.pipe()

    hand_over(os.dup(theirs.fileno()), (1 << 64) - 1, writing)
    handed = take(ours)

    assert handed is not None
    assert (handed.listed, handed.token) == (None, (1 << 64) - 1)
    os.write(handed.descriptor, b"x")
    os.close(handed.descriptor)
    assert os.read(reading, 2) == b"x"
    assert os.read(reading, 2) == b""
    os.close(reading)


def test_a_socket_is_lent_for_the_address_of_its_number(hatch) -> None:
    ours, theirs = hatch
    lend(theirs.fileno(), 7, socket.socket())

    handed = take(ours)

    assert handed is not None
    assert handed.listed == 7
    os.close(handed.descriptor)


def test_the_end_of_a_hatch_is_nothing(hatch) -> None:
    ours, theirs = hatch
    theirs.close()

    assert take(ours) is None


@pytest.mark.parametrize(
    ("message", "count"),
    [(b"\0" * 16, 0), (b"\0" * 16, 2), (b"\0" * 15, 1), (b"\0" * 40, 1), (b"\2" + b"\0" * 15, 1)],
)
def test_what_nobody_of_ours_sends_is_refused_and_leaks_nothing(hatch, message, count) -> None:
    ours, theirs = hatch
    before = descriptors()
    socket.send_fds(theirs, [message], [0] * count)

    with pytest.raises(ValueError, match="descriptors"):
        take(ours)

    assert descriptors() == before


def test_memory_is_read_up_to_where_it_ends() -> None:
    held = ctypes.create_string_buffer(b"some text", 10_000)
    address = ctypes.addressof(held)

    assert read_memory(os.getpid(), address, 9) == b"some text"
    assert len(read_memory(os.getpid(), address, 256)) == 256
    for nowhere in (0, 1, (1 << 47) - 100, (1 << 64) - 4):
        with pytest.raises(OSError, match="Bad address"):
            read_memory(os.getpid(), nowhere, 16)
    with pytest.raises(OSError) as error:  # noqa: PT011 - which one is asserted
        read_memory(1 << 22, address, 9)
    assert error.value.errno == errno.ESRCH


def test_the_flags_of_a_descriptor_are_those_that_it_has() -> None:
    with socket.socket() as one:
        inode = os.fstat(one.fileno()).st_ino
        one.setblocking(False)
        assert read_flags(os.getpid(), one.fileno()) == Flags(True, True, inode)
        os.set_inheritable(one.fileno(), True)
        one.setblocking(True)
        assert read_flags(threading.get_native_id(), one.fileno()) == Flags(False, False, inode)
    with pytest.raises(OSError, match="Bad file"):
        read_flags(os.getpid(), 999)


def test_what_a_socket_was_given_for_is_known_while_it_connects_and_afterwards() -> None:
    loop, given = Loop(), Given()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as one:
        inode = os.fstat(one.fileno()).st_ino
        given.check(inode)
        one.setblocking(False)
        assert one.connect_ex(server.getsockname()) == errno.EINPROGRESS
        given.note(loop, one, is_connected=False)

        with pytest.raises(OSError, match="already in progress"):
            given.check(inode)
        loop.turn(5)
        with pytest.raises(OSError, match="already connected"):
            given.check(inode)
    given.close(loop)
    loop.close()


def test_a_connection_that_failed_is_said_once_and_its_error_is_left_to_the_task() -> None:
    loop, given = Loop(), Given()
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = server.getsockname()
    with socket.socket() as one:
        inode = os.fstat(one.fileno()).st_ino
        one.setblocking(False)
        assert one.connect_ex(nobody) == errno.EINPROGRESS
        given.note(loop, one, is_connected=False)
        loop.turn(5)

        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        with pytest.raises(ConnectionRefusedError):
            given.check(inode)
        given.check(inode)
    given.close(loop)
    loop.close()
