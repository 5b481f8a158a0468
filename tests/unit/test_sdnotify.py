"""What systemd is told, on a real socket of the kind that it listens on."""

from __future__ import annotations

import os
import socket

import pytest

from cardoon.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path):
    """The end of a service manager, and where it listens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener, path


def test_each_message_is_a_datagram_of_assignments(manager):
    listener, path = manager
    notifier = Notifier({"NOTIFY_SOCKET": path})

    notifier.ready("at\nwork")
    notifier.alive()
    notifier.status("busy")
    notifier.reloading()
    notifier.extend(1.5)
    notifier.stopping()

    told = [listener.recv(4096).decode() for _ in range(6)]
    assert told[:3] == ["READY=1\nSTATUS=at work", "WATCHDOG=1", "STATUS=busy"]
    assert told[3].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert told[4:] == ["EXTEND_TIMEOUT_USEC=1500000", "STOPPING=1"]
    notifier.close()


def test_an_abstract_socket_is_reached():
    name = f"@cardoon-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:])
        listener.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name})

        notifier.ready()

        assert listener.recv(100) == b"READY=1"
        notifier.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:1:2"}])
def test_without_a_manager_nothing_happens(environ):
    notifier = Notifier(environ)

    notifier.ready("x")
    notifier.alive()
    notifier.close()
    notifier.close()

    assert not notifier.is_heard


def test_a_manager_that_is_gone_or_full_does_not_stop_the_work(manager, tmp_path):
    _, path = manager
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    full = Notifier({"NOTIFY_SOCKET": path})

    gone.ready()
    for _ in range(10_000):  # more than any socket keeps
        full.alive()

    gone.close()
    full.close()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_s_time_is_the_one_meant_for_this_process(environ, expected):
    assert Notifier(environ).watchdog_seconds == expected
