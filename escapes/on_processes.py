"""Other processes: signals, limits, priorities; and what outlives its task."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import threading
import time
from typing import Any, NoReturn

from escapes.calls import call
from escapes.matrix import attempt
from escapes.proofs import died, limits_changed, lives, passed
from escapes.world import World

_LIVES_SECONDS = 30
_PR_SET_NAME = 15
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG = 1, 2
_CLONE_PARENT = 0x8000


def take_name(token: str) -> None:
    """Be called by the token in /proc, so that it can be seen who lives; threads inherit it."""
    with_end = token.encode() + b"\0"
    ctypes.CDLL(None).prctl(_PR_SET_NAME, with_end, 0, 0, 0)


@attempt("processes", proof=died("victim"))
def kill_another(world: World) -> Any:
    """Kill a process of the same user."""
    os.kill(world.pids["victim"], signal.SIGKILL)


@attempt("processes", proof=died("victim"))
def kill_a_group(world: World) -> Any:
    """Kill its process group."""
    os.killpg(world.pids["victim"], signal.SIGKILL)


@attempt("processes", proof=died("victim"))
def kill_by_tkill(world: World) -> Any:
    """Kill it by tkill."""
    call("tkill", world.pids["victim"], signal.SIGKILL)


@attempt("processes", proof=died("victim"))
def kill_by_tgkill(world: World) -> Any:
    """Kill it by tgkill."""
    call("tgkill", world.pids["victim"], world.pids["victim"], signal.SIGKILL)


@attempt("processes", proof=died("victim"))
def kill_by_pidfd(world: World) -> Any:
    """Kill it by pidfd_send_signal."""
    handle = os.pidfd_open(world.pids["victim"])
    signal.pidfd_send_signal(handle, signal.SIGKILL)


@attempt("processes", proof=died("victim"))
def kill_by_sigqueue(world: World) -> Any:
    """Kill it by rt_sigqueueinfo."""
    queued = -1
    told = struct.pack("iii4xii", signal.SIGKILL, 0, queued, os.getpid(), os.getuid())
    call("rt_sigqueueinfo", world.pids["victim"], signal.SIGKILL, told.ljust(128, b"\0"))


@attempt("processes", proof=died("victim"))
def kill_by_a_descriptor(world: World) -> Any:
    """Have the kernel send SIGKILL to it when a socket gets something to read (F_SETOWN)."""
    one, other = socket.socketpair()
    set_signal, set_owner = 10, 8
    call("fcntl", one.fileno(), set_owner, world.pids["victim"])
    call("fcntl", one.fileno(), set_signal, signal.SIGKILL)
    flags = fcntl.fcntl(one, fcntl.F_GETFL)
    fcntl.fcntl(one, fcntl.F_SETFL, flags | os.O_ASYNC)
    other.send(b"x")
    time.sleep(0.2)


@attempt("processes", proof=died("supervisor"))
def kill_the_worker(world: World) -> Any:
    """Kill the worker."""
    os.kill(world.pids["supervisor"], signal.SIGKILL)


@attempt("processes", proof=died("parent"))
def kill_the_parent(world: World) -> Any:
    """Kill the process that forks tasks."""
    os.kill(world.pids["parent"], signal.SIGKILL)


@attempt("processes", proof=died("sibling"))
def kill_a_sibling(world: World) -> Any:
    """Kill another task's process."""
    os.kill(world.pids["sibling"], signal.SIGKILL)


@attempt("processes", proof=died("parent"))
def kill_the_parent_by_getppid(_: World) -> Any:
    """Kill whatever getppid names."""
    parent = os.getppid()
    assert parent > 1, f"the parent is {parent}"
    os.kill(parent, signal.SIGKILL)


@attempt("processes", proof=limits_changed)
def limit_another(world: World) -> Any:
    """Take descriptors from another process, by prlimit."""
    resource.prlimit(world.pids["victim"], resource.RLIMIT_NOFILE, (17, 17))


@attempt("processes", proof=passed)
def slow_another(world: World) -> Any:
    """Lower the priority of another process."""
    os.setpriority(os.PRIO_PROCESS, world.pids["victim"], 19)
    return f"passed: nice {os.getpriority(os.PRIO_PROCESS, world.pids['victim'])}"


@attempt("processes", proof=passed)
def pin_another(world: World) -> Any:
    """Keep another process on one processor."""
    os.sched_setaffinity(world.pids["victim"], {0})
    return f"passed: {os.sched_getaffinity(world.pids['victim'])}"


@attempt("processes", proof=lives)
def leave_a_daemon(world: World) -> Any:
    """Fork twice, leave the session, and stay."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _stay(world)
        os._exit(0)
    time.sleep(0.3)
    return "forked"


@attempt("processes", proof=lives)
def leave_a_child_of_the_parent(world: World) -> Any:
    """Make a process that is the parent's child, by CLONE_PARENT."""
    if call("clone", _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        _stay(world)
    time.sleep(0.3)
    return "cloned"


@attempt("processes", proof=lives, profile="subprocess")
def leave_a_daemon_where_processes_are_granted(world: World) -> Any:
    """Leave a daemon where the profile grants processes."""
    return leave_a_daemon(world)


@attempt("processes", proof=lives)
def never_end(world: World) -> Any:
    """Sleep for ever, with all signals ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:  # some belong to the library
            continue
    _stay(world)


@attempt("processes", proof=lives)
def never_end_in_threads(world: World) -> Any:
    """Answer, with threads that go on."""
    take_name(world.token)
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(_LIVES_SECONDS,), daemon=False).start()
    return "answered"


@attempt("processes", proof=passed)
def survive_the_parent(_: World) -> Any:
    """Take back that the kernel kills this process with its parent (PR_SET_PDEATHSIG)."""
    call("prctl", _PR_SET_PDEATHSIG, 0, 0, 0, 0)
    found = ctypes.create_string_buffer(4)
    call("prctl", _PR_GET_PDEATHSIG, found, 0, 0, 0)
    assert not any(found.raw)
    return "passed: no signal when the parent dies"


def _stay(world: World) -> NoReturn:
    take_name(world.token)
    for number in range(3):
        os.close(number)
    end = time.monotonic() + _LIVES_SECONDS
    while time.monotonic() < end:
        time.sleep(1)
    os._exit(0)
