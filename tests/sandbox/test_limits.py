"""Limits end what exceeds them, and what is given up is gone for good."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.limits import (
    MAX_LOCKED,
    MAX_PENDING,
    apply_limits,
    count_processes,
    drop_bounding_set,
    drop_capabilities,
    hide_memory,
    no_new_privileges,
    read_capabilities,
)
from cardoon.sandbox.profile import MIB, Sandbox
from tests.sandbox.children import NOBODY, USERS, Ended, give, raw, run

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def limited(others: int = 1000, **fields: object) -> Callable[[], None]:
    return lambda: apply_limits(Sandbox(**fields), others=others)


def grow(size: int) -> Callable[[], int]:
    def work() -> int:
        try:
            return len(bytearray(size))
        except MemoryError:
            return -1

    return work


def map_shared(size: int) -> Callable[[], int]:
    def work() -> int:
        with mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as shared:
            return len(shared)

    return work


@pytest.mark.parametrize("uid", USERS)
def test_memory_ends_beyond_what_the_process_began_with(uid: int) -> None:
    step = limited(memory=64 * MIB)

    assert run(grow(256 * MIB), uid=uid) == Ended(value=256 * MIB)
    assert run(grow(256 * MIB), step, uid=uid) == Ended(value=-1)
    assert run(grow(32 * MIB), step, uid=uid) == Ended(value=32 * MIB)
    assert run(map_shared(256 * MIB), uid=uid) == Ended(value=256 * MIB)
    assert run(map_shared(256 * MIB), step, uid=uid).errno == "ENOMEM"


@pytest.mark.parametrize("uid", USERS)
def test_descriptors_are_counted(uid: int) -> None:
    def work() -> int:
        for count in range(1000):
            try:
                os.dup(0)
            except OSError:
                return count
        return 1000

    assert run(work, limited(files=4096), uid=uid) == Ended(value=1000)
    # Those of the tests before this one may still be open here.
    most = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 32
    assert 0 < run(work, limited(files=most), uid=uid).value < most


@pytest.mark.parametrize("uid", USERS)
def test_a_file_ends_where_it_may_not_grow(reachable: Path, uid: int) -> None:
    give(reachable, uid)

    def work() -> int:
        return (reachable / "file").write_bytes(b"x" * 10_000)

    assert run(work, limited(), uid=uid) == Ended(value=10_000)
    assert run(work, limited(file_size=5_000), uid=uid).errno == "EFBIG"
    assert (reachable / "file").stat().st_size == 5_000


@pytest.mark.parametrize("uid", USERS)
def test_processor_time_ends_who_ignores_the_warning(uid: int) -> None:
    def spin() -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        while time.process_time() < 15:
            pass

    assert run(spin, limited(cpu=0.5), uid=uid).signal == signal.SIGKILL


def test_processor_time_ends_a_second_after_the_warning() -> None:
    def work() -> list[int]:
        return [*resource.getrlimit(resource.RLIMIT_CPU)]

    assert run(work, limited(cpu=2.5)) == Ended(value=[3, 4])


def test_processor_time_warns_first() -> None:
    def spin() -> str:
        heard: list[int] = []
        signal.signal(signal.SIGXCPU, lambda number, _: heard.append(number))
        while not heard and time.process_time() < 15:
            pass
        return "warned"

    assert run(spin, limited(cpu=1)) == Ended(value="warned")


@pytest.mark.skipif(NOBODY not in USERS, reason="the kernel does not count root's processes")
def test_processes_and_threads_are_counted_by_user() -> None:
    """Of a user that has no others, so that the number is exact."""
    alone = 54_321

    def start_threads() -> int:
        event = threading.Event()
        started = 0
        threading.stack_size(1 << 16)
        try:
            while started < 200:
                threading.Thread(target=event.wait, daemon=True).start()
                started += 1
        except RuntimeError:
            return started
        return started

    def fork() -> int:
        for count in range(200):
            try:  # without what this process runs after a fork
                os.posix_spawn("/bin/sleep", ["sleep", "20"], {})
            except BlockingIOError:
                return count
        return 200

    assert run(start_threads, limited(threads=500), uid=alone) == Ended(value=200)
    wait_until_gone(alone)
    threads = run(start_threads, limited(0, threads=10), uid=alone)
    assert threads.value == 10
    wait_until_gone(alone)
    forks = run(fork, limited(0, threads=1, syscalls="subprocess", processes=5), uid=alone)
    for pid in pids_of(alone):
        os.kill(pid, signal.SIGKILL)
    assert forks == Ended(value=6)


def wait_until_gone(uid: int) -> None:
    deadline = time.monotonic() + 10
    while pids_of(uid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pids_of(uid: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it ended since it was listed
            if path.name.isdecimal() and path.stat().st_uid == uid:
                found.append(int(path.name))
    return found


def test_processes_of_a_user_can_be_counted() -> None:
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=signal.pause, daemon=True).start()
        # Who hides its memory is shown as root's in /proc.
        hide_memory()
        if os.geteuid() == 0:
            os.setresuid(54_322, 54_322, 54_322)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    uid = 54_322 if os.geteuid() == 0 else os.geteuid()
    try:
        os.waitpid(pid, os.WUNTRACED)
        if uid == os.geteuid():
            assert count_processes(uid) >= 3
        else:
            assert count_processes(uid) == 2
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("uid", USERS)
def test_timers_are_counted(uid: int) -> None:
    def work() -> int:
        made = (ctypes.c_int * 1)()
        for count in range(2 * MAX_PENDING):
            try:
                raw("timer_create", 1, 0, ctypes.addressof(made))
            except BlockingIOError:
                return count
        return 2 * MAX_PENDING

    assert run(work, uid=uid) == Ended(value=2 * MAX_PENDING)
    assert run(work, limited(), uid=uid).value <= MAX_PENDING


@pytest.mark.parametrize("uid", USERS)
def test_limits_cannot_be_raised_again(uid: int) -> None:
    names = ("NOFILE", "FSIZE", "NPROC", "CORE", "MEMLOCK", "AS", "DATA", "CPU")
    profile = Sandbox(memory=64 * MIB, cpu=5, file_size=MIB)

    def raise_them() -> list[str]:
        raised = []
        for name in names:
            which = getattr(resource, f"RLIMIT_{name}")
            _, hard = resource.getrlimit(which)
            try:
                resource.setrlimit(which, (hard + 1, hard + 1))
            except ValueError:
                continue
            raised.append(name)
        return raised

    steps = (lambda: apply_limits(profile, others=10), drop_capabilities)
    assert run(raise_them, *steps, uid=uid) == Ended(value=[])


def test_a_limit_that_is_lower_already_stays() -> None:
    def work() -> list[int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        apply_limits(Sandbox(files=4096, file_size=2000))
        return [*resource.getrlimit(resource.RLIMIT_NOFILE), *resource.getrlimit(1)]

    assert run(work) == Ended(value=[30, 30, 1000, 1000])


@pytest.mark.parametrize("uid", USERS)
def test_memory_is_locked_in_small_amounts_only(uid: int) -> None:
    def lock(size: int) -> Callable[[], None]:
        def work() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            buffer = mmap.mmap(-1, size)
            at = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
            if libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(size)):
                raise OSError(ctypes.get_errno(), "mlock")

        return work

    steps = (limited(), drop_capabilities)
    assert run(lock(4 * MAX_LOCKED), uid=uid) == Ended()
    assert run(lock(4 * MAX_LOCKED), *steps, uid=uid).errno == "ENOMEM"
    assert run(lock(MAX_LOCKED // 2), *steps, uid=uid) == Ended()


def test_a_limit_that_cannot_be_set_is_named() -> None:
    def work() -> str:
        os.chroot("/var/empty" if Path("/var/empty").exists() else "/var/lib")
        with pytest.raises(ConfinementError) as caught:
            apply_limits(Sandbox(memory=MIB))
        return str(caught.value)

    if os.geteuid() != 0:
        pytest.skip("needs root, to have no /proc")
    assert "sandbox: limits: /proc/self/statm, which memory is counted from" in run(work).value


@needs_root
def test_capabilities_are_gone(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    os.chown(secret, NOBODY, NOBODY)
    attempts = {
        "read another's file": secret.read_text,
        "become another": lambda: os.setresuid(NOBODY, NOBODY, NOBODY),
        "change the root": lambda: os.chroot("/"),
        "give a file away": lambda: os.chown(tmp_path, NOBODY, NOBODY),
    }

    for action in attempts.values():
        assert run(lambda action=action: bool(action()), drop_capabilities).errno in {
            "EPERM",
            "EACCES",
        }
    for action in reversed(attempts.values()):
        assert run(lambda action=action: bool(action())).error is None


@pytest.mark.parametrize("uid", USERS)
def test_capabilities_can_be_read(uid: int) -> None:
    found = run(lambda: list(read_capabilities()), uid=uid).value

    assert bool(found[0]) == (uid == 0)
    assert run(lambda: list(read_capabilities()), drop_capabilities, uid=uid).value == [0, 0, 0]


@needs_root
def test_programs_get_no_capabilities_back() -> None:
    def status() -> dict[str, str]:
        read, write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
        os.posix_spawn("/bin/cat", ["cat", "/proc/self/status"], {}, file_actions=actions)
        os.close(write)
        with os.fdopen(read) as output:
            lines = dict(line.split(":\t") for line in output.read().splitlines())
        return {name: lines[name] for name in ("CapEff", "CapPrm", "CapBnd")}

    assert int(run(status).value["CapEff"], 16)
    assert int(run(status, drop_capabilities).value["CapEff"], 16), "root's programs get them"
    dropped = run(status, drop_bounding_set, drop_capabilities).value
    assert {int(one, 16) for one in dropped.values()} == {0}


def test_who_has_no_say_over_the_bounding_set_says_so() -> None:
    if NOBODY not in USERS:
        pytest.skip("needs root, to become nobody")
    assert run(drop_bounding_set, uid=NOBODY) == Ended(value=False)
    assert run(drop_bounding_set) == Ended(value=True)


@needs_root
def test_a_program_of_roots_runs_as_who_runs_it(reachable: Path) -> None:
    program = reachable / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)

    def who() -> str:
        read, write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
        os.posix_spawn(str(program), ["id", "-u"], {}, file_actions=actions)
        os.close(write)
        with os.fdopen(read) as output:
            return output.read().strip()

    assert run(who, uid=NOBODY) == Ended(value="0"), "this file system has no setuid"
    assert run(who, no_new_privileges, uid=NOBODY) == Ended(value=str(NOBODY))


@pytest.mark.parametrize("uid", USERS)
def test_memory_is_hidden_from_others_of_the_user(uid: int) -> None:
    def spy(*steps: Callable[[], None]) -> Ended:
        pid = os.fork()
        if pid == 0:
            if uid != os.getuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                # Who changes its ids is hidden already: as an interpreter that is run anew is not.
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
            for step in steps:
                step()
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        os.waitpid(pid, os.WUNTRACED)
        try:
            return run(
                lambda: bool(Path(f"/proc/{pid}/mem").open("rb")), drop_capabilities, uid=uid
            )
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    if uid:
        assert spy() == Ended(value=True)
    assert spy(hide_memory).errno == "EACCES"
