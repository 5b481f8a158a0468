"""What the filter forbids is forbidden by the kernel: each call is made without it first, and then with it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import mmap
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cardoon.sandbox.filters import ALLOW, Rule
from cardoon.sandbox.kernel import ConfinementError, machine
from cardoon.sandbox.landlock import READ, Ruleset, find_abi
from cardoon.sandbox.limits import no_new_privileges
from cardoon.sandbox.presets import rules_for
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.seccomp import build_filter, load
from tests.sandbox.children import NOBODY, USERS, Ended, confine, filtered, give, raw, run

COMPUTE = Sandbox()
STRICT = Sandbox(level="strict")
NET = Sandbox(level="strict", syscalls="net", network="loopback")
STARTS = Sandbox(level="strict", syscalls="subprocess", processes=5)
BAD = 1
"""An address that nothing is mapped at, so that a call that is let through fails with EFAULT."""
NOBODYS_PID = 0x7FFFFFFE
NEWUSER, NEWNS, NEWNET = 1 << 28, 1 << 17, 1 << 30
THREAD, PARENT, SIGCHLD = 1 << 16, 1 << 15, 17


class Attempt(NamedTuple):
    """A call that is refused: what of it, with which errno, and what can be seen without the filter."""

    name: str
    arguments: tuple[int, ...] = ()
    refused: str = "EPERM"
    needs_root: bool = False
    """Nobody else gets past the kernel's own check, which says EPERM as well."""
    label: str = ""
    has_no_control: bool = False
    """What it does when allowed should not be done to the machine that the tests run on."""


ATTEMPTS = [
    Attempt("ptrace", (0,)),
    Attempt("ptrace", (0x4206, os.getpid()), needs_root=True, label="seize the parent"),
    Attempt("process_vm_readv", (os.getpid(), BAD, 1, BAD, 1)),
    Attempt("process_vm_writev", (os.getpid(), BAD, 1, BAD, 1)),
    Attempt("pidfd_open", (os.getpid(),)),
    Attempt("pidfd_getfd", (-1, 0)),
    Attempt("pidfd_send_signal", (-1, 0)),
    Attempt("kcmp", (os.getpid(), os.getpid(), 99), needs_root=True),
    Attempt("personality", (0x0040000,)),
    Attempt("mount", (BAD, BAD, BAD, 0, 0)),
    Attempt("umount2", (BAD, 0)),
    Attempt("pivot_root", (BAD, BAD), needs_root=True),
    Attempt("chroot", (BAD,)),
    Attempt("fsopen", (BAD,), needs_root=True),
    Attempt("fsconfig", (-1, 99)),
    Attempt("fsmount", (-1,), needs_root=True),
    Attempt("fspick", (-1, BAD), needs_root=True),
    Attempt("open_tree", (-1, BAD)),
    Attempt("move_mount", (-1, BAD, -1, BAD), needs_root=True),
    Attempt("mount_setattr", (-1, BAD, 0, BAD, 0)),
    Attempt("unshare", (NEWUSER,)),
    Attempt("unshare", (0,), label="nothing"),
    Attempt("setns", (-1, 0)),
    Attempt("sethostname", (BAD, -1), needs_root=True),
    Attempt("setdomainname", (BAD, -1), needs_root=True),
    Attempt("quotactl", (0, BAD, 0, 0), needs_root=True),
    Attempt("swapon", (BAD, 0), needs_root=True),
    Attempt("swapoff", (BAD,), needs_root=True),
    Attempt("reboot", (BAD, BAD, BAD), needs_root=True),
    Attempt("acct", (BAD,), needs_root=True),
    Attempt("syslog", (10,), needs_root=True),
    Attempt("vhangup", has_no_control=True),
    Attempt("settimeofday", (BAD, BAD)),
    Attempt("clock_settime", (0, BAD)),
    Attempt("adjtimex", (BAD,)),
    Attempt("clock_adjtime", (0, BAD)),
    Attempt("init_module", (BAD, 0, BAD), needs_root=True),
    Attempt("finit_module", (-1, BAD, 0), needs_root=True),
    Attempt("delete_module", (BAD, 0), needs_root=True),
    Attempt("kexec_load", (BAD, 99, BAD, -1), needs_root=True),
    Attempt("bpf", (999, BAD, 4), needs_root=True),
    Attempt("perf_event_open", (BAD, 0, -1, -1, 0)),
    Attempt("userfaultfd", (0xFFFF,), needs_root=True),
    Attempt("fanotify_init", (99, 0), needs_root=True),
    Attempt("fanotify_mark", (-1,)),
    Attempt("io_uring_setup", (1, BAD)),
    Attempt("io_uring_enter", (-1,), "ENOSYS"),
    Attempt("keyctl", (0, -3, 1)),
    Attempt("add_key", (BAD, BAD, 0, 0, -3)),
    Attempt("request_key", (BAD, BAD, 0, 0)),
    Attempt("open_by_handle_at", (-1, BAD, 0), needs_root=True),
    Attempt("name_to_handle_at", (-1, BAD, BAD, BAD, 0)),
    Attempt("memfd_create", (BAD, 0)),
    Attempt("memfd_secret", (-1,)),
    Attempt("setuid", (os.getuid(),), needs_root=True),
    Attempt("setgid", (os.getgid(),), needs_root=True),
    Attempt("setreuid", (-1, -1)),
    Attempt("setregid", (-1, -1)),
    Attempt("setresuid", (-1, -1, -1)),
    Attempt("setresgid", (-1, -1, -1)),
    Attempt("setfsuid", (-1,)),
    Attempt("setfsgid", (-1,)),
    Attempt("setgroups", (0, 0), needs_root=True),
    Attempt("capset", (BAD, BAD)),
    Attempt("seccomp", (99,)),
    Attempt("execve", (BAD, 0, 0)),
    Attempt("execveat", (-1, BAD, 0, 0, 0)),
    Attempt("clone", (SIGCHLD,), label="a process"),
    Attempt("clone", (SIGCHLD | NEWUSER,), label="a user namespace"),
    Attempt("clone", (THREAD | NEWUSER,), label="a thread in a user namespace"),
    Attempt("clone3", (BAD, 0), "ENOSYS"),
    Attempt("openat2", (-1, BAD, BAD, 24), "ENOSYS"),
    Attempt("socket", (socket.AF_INET, socket.SOCK_STREAM, 0), label="TCP"),
    Attempt("socket", (socket.AF_UNIX, socket.SOCK_STREAM, 0), label="unix"),
    Attempt("socket", (socket.AF_NETLINK, socket.SOCK_RAW, 0), label="netlink"),
    Attempt("connect", (-1, BAD, 16)),
    Attempt("bind", (-1, BAD, 16)),
    Attempt("listen", (-1, 1)),
    Attempt("accept4", (-1, 0, 0, 0)),
    Attempt("socketpair", (socket.AF_UNIX, socket.SOCK_DGRAM, 0, BAD), label="datagrams"),
    Attempt("socketpair", (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, BAD), label="packets"),
    Attempt("sendto", (-1, 0, 0, 0x20000000, BAD, 16), label="fast open"),
    Attempt("sendmsg", (-1, BAD, 0x20000000), label="fast open"),
    Attempt("sendmmsg", (-1, BAD, 1, 0x20000000), label="fast open"),
    *(
        Attempt("setsockopt", (-1, 1, option, BAD, 4), label=name)
        for name, option in (
            ("SO_SNDBUF", 7),
            ("SO_RCVBUF", 8),
            ("SO_SNDBUFFORCE", 32),
            ("SO_RCVBUFFORCE", 33),
            ("SO_ATTACH_FILTER", 26),
            ("SO_ATTACH_BPF", 50),
        )
    ),
    Attempt("kill", (os.getpid(), 0), needs_root=True, label="the parent"),
    Attempt("kill", (0, 0), label="its group"),
    Attempt("kill", (-1, 0), label="everybody"),
    Attempt("tkill", (os.getpid(), 0), needs_root=True, label="the parent"),
    Attempt("tgkill", (os.getpid(), os.getpid(), 0), needs_root=True, label="the parent"),
    Attempt("rt_sigqueueinfo", (os.getpid(), 0, BAD)),
    Attempt("rt_tgsigqueueinfo", (os.getpid(), os.getpid(), 0, BAD)),
    Attempt("prlimit64", (os.getpid(), 0, 0, 0), needs_root=True, label="of the parent"),
    Attempt("sched_setaffinity", (os.getpid(), 8, BAD), label="of the parent"),
    Attempt("sched_setscheduler", (0, 99, BAD)),
    Attempt("sched_setattr", (0, BAD, 0)),
    Attempt("setpriority", (2, 0, 5), label="of the user", has_no_control=True),
    Attempt("setpriority", (1, 0, 5), label="of the group", has_no_control=True),
    Attempt("ioprio_set", (1, os.getpid(), 99)),
    Attempt("ioctl", (1, 0x5412, BAD), label="TIOCSTI"),
    Attempt("ioctl", (-1, 0x541C, BAD), label="TIOCLINUX"),
    Attempt("ioctl", (-1, 0x1234, BAD), "ENOTTY", label="another"),
    Attempt("fcntl", (-1, fcntl.F_SETOWN, os.getpid()), label="F_SETOWN"),
    Attempt("fcntl", (-1, 1031, 1 << 20), label="F_SETPIPE_SZ"),
    Attempt("pipe2", (BAD, 0o200), label="notifications"),
    Attempt("prctl", (4, 1), label="PR_SET_DUMPABLE"),
    Attempt("prctl", (1, 0), label="PR_SET_PDEATHSIG"),
    Attempt("prctl", (8, 0), label="PR_SET_KEEPCAPS"),
    Attempt("prctl", (22, 99), label="PR_SET_SECCOMP"),
    Attempt("prctl", (999,), label="another"),
    Attempt("prctl", (47, 4, 0, 0, 0), label="PR_CAP_AMBIENT"),
    Attempt("prctl", (0x59616D61, -1), label="PR_SET_PTRACER"),
    Attempt("truncate", (BAD, 0)),
    Attempt("openat", (-1, BAD, os.O_RDONLY | os.O_TRUNC), label="truncating what it reads"),
    Attempt(
        "openat", (-1, BAD, 3 | os.O_TRUNC), label="truncating what it neither reads nor writes"
    ),
    Attempt("mknodat", (-1, BAD, 0o10600, 0)),
    Attempt("fchownat", (-1, BAD, -1, -1, 0)),
    Attempt("fchmod", (-1, 0)),
    Attempt("fchmodat", (-1, BAD, 0)),
    Attempt("setxattr", (BAD, BAD, BAD, 0, 0)),
    Attempt("utimensat", (-1, BAD, 0, 0), label="by path"),
    Attempt("utimensat", (-1, 0, 0, 0), label="by descriptor"),
    Attempt("inotify_add_watch", (-1, BAD, 1)),
    Attempt("setsid"),
    Attempt("setpgid", (0, 0)),
    Attempt("shmget", (0, 4096, 0o1600)),
    Attempt("msgget", (0, 0o1600), has_no_control=True),
    Attempt("semget", (0, 1, 0o1600), has_no_control=True),
    Attempt("mq_open", (BAD, 0)),
    Attempt("mlockall", (99,)),
    Attempt("sync", has_no_control=True),
    Attempt("io_uring_register", (-1,), "ENOSYS"),
    Attempt("fchown", (-1, -1, -1)),
    Attempt("lsetxattr", (BAD, BAD, BAD, 0, 0)),
    Attempt("fsetxattr", (-1, BAD, BAD, 0, 0)),
    Attempt("removexattr", (BAD, BAD)),
    Attempt("lremovexattr", (BAD, BAD)),
    Attempt("fremovexattr", (-1, BAD)),
    Attempt("setxattrat", (-1, BAD, 0, BAD, 0, 0)),
    Attempt("removexattrat", (-1, BAD, 0, BAD)),
    Attempt("fchmodat2", (-1, BAD, 0, 0)),
    Attempt("get_robust_list", (NOBODYS_PID, BAD, BAD)),
    Attempt("process_madvise", (-1, BAD, 1, 0, 0)),
    Attempt("process_mrelease", (-1, 0)),
    Attempt("migrate_pages", (NOBODYS_PID,)),
    Attempt("move_pages", (NOBODYS_PID, 0, 0, 0, 0, 99)),
    Attempt("sched_setparam", (0, 0)),
    Attempt("accept", (-1,)),
    Attempt("syncfs", (-1,)),
    Attempt("munlockall"),
    Attempt("shmat", (-1,)),
    Attempt("shmdt", (BAD,)),
    Attempt("shmctl", (-1,)),
    Attempt("msgsnd", (-1, BAD)),
    Attempt("msgrcv", (-1, BAD)),
    Attempt("msgctl", (-1,)),
    Attempt("semop", (-1, BAD, 1)),
    Attempt("semtimedop", (-1, BAD, 1, 0)),
    Attempt("semctl", (-1,)),
    Attempt("mq_unlink", (BAD,)),
    Attempt("mq_timedsend", (-1, BAD)),
    Attempt("mq_timedreceive", (-1, BAD)),
    Attempt("mq_notify", (-1,)),
    Attempt("mq_getsetattr", (-1,)),
    Attempt("inotify_init1", (99,)),
    Attempt("inotify_rm_watch", (-1,)),
    Attempt("quotactl_fd", (-1,)),
    Attempt("statmount", (BAD, BAD, 0, 99)),
    Attempt("listmount", (BAD, BAD, 0, 99)),
    Attempt("open_tree_attr", (-1, BAD)),
    Attempt("lookup_dcookie", (0, BAD), needs_root=True),
    # Pages that a pipe holds on to are nobody's when they are unmapped.
    Attempt("vmsplice", (-1, BAD, 1, 0), "ENOSYS"),
    Attempt("mbind", (0, 0, 99), "ENOSYS", label="not on any list"),
    Attempt("io_setup", (1, BAD), "ENOSYS", label="not on any list"),
    Attempt("landlock_create_ruleset", (BAD, 8), "ENOSYS", label="not on any list"),
]
ONLY_X86_64 = [
    Attempt("fork"),
    Attempt("vfork", has_no_control=True),
    Attempt("open", (BAD, os.O_TRUNC)),
    Attempt("chmod", (BAD, 0)),
    Attempt("chown", (BAD, -1, -1)),
    Attempt("lchown", (BAD, -1, -1)),
    Attempt("mknod", (BAD, 0o10600, 0)),
    Attempt("utime", (BAD, BAD)),
    Attempt("utimes", (BAD, BAD)),
    Attempt("futimesat", (-1, BAD, BAD)),
    Attempt("inotify_init"),
    Attempt("iopl", (9,), has_no_control=True),
    Attempt("ioperm", (0, 1, 0), has_no_control=True),
    Attempt("modify_ldt", (99,), has_no_control=True),
    Attempt("kexec_file_load", (-1, -1, 0, 0, 99), needs_root=True),
]
if machine().name == "x86_64":
    ATTEMPTS += ONLY_X86_64


def attempt(one: Attempt) -> int:
    """Make the call; a copy of this process that it makes ends at once."""
    parent = os.getpid()
    result = raw(one.name, *one.arguments)
    if os.getpid() != parent:
        os._exit(0)
    return result


def refusals(attempts: Sequence[Attempt]) -> list[str | None]:
    """The errno of each, one after the other: what is refused changes nothing."""
    found: list[str | None] = []
    for one in attempts:
        try:
            attempt(one)
            found.append(None)
        except OSError as error:
            found.append(errno.errorcode[error.errno])
    return found


@functools.cache
def refused_to(uid: int, profile: Sandbox, *, is_confined: bool) -> list[str | None]:
    """What a process hears under the filter alone, or under the filter after all else."""
    step = confine(profile) if is_confined else filtered(profile)
    ended = run(lambda: refusals(ATTEMPTS), step, uid=uid)
    assert ended.error is None
    return ended.value


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize("one", ATTEMPTS, ids=lambda one: f"{one.name} {one.label}".strip())
def test_a_forbidden_call_is_refused(one: Attempt, uid: int) -> None:
    """The control is a process of its own, since it may succeed."""
    if not one.has_no_control and not (one.needs_root and uid):
        control = run(lambda: attempt(one), uid=uid)
        assert control.errno != one.refused, "the kernel says so without the filter"
        assert control.errno or control.error is None

    place = ATTEMPTS.index(one)
    assert refused_to(uid, COMPUTE, is_confined=False)[place] == one.refused
    assert refused_to(uid, COMPUTE, is_confined=True)[place] == one.refused


def test_no_refusal_is_left_untried() -> None:
    rules = rules_for(COMPUTE, confines_signals=True)
    refused = {name for name, rule in rules.items() if rule != Rule((), ALLOW)}

    assert refused & set(machine().numbers) <= {one.name for one in ATTEMPTS}


ALLOWED_ELSEWHERE = [
    (STRICT, Attempt("fchmod", (-1, 0)), "EBADF"),
    (STRICT, Attempt("utimensat", (-1, BAD, 0, 0)), "EFAULT"),
    (STRICT, Attempt("inotify_add_watch", (-1, BAD, 1)), "EBADF"),
    (STRICT, Attempt("utimensat", (-1, 0, 0, 0)), "EBADF"),
    (COMPUTE, Attempt("openat", (-1, BAD, os.O_WRONLY | os.O_TRUNC)), "EFAULT"),
    (COMPUTE, Attempt("socketpair", (1, 1 | os.O_CLOEXEC | os.O_NONBLOCK, 0, BAD)), "EFAULT"),
    (COMPUTE, Attempt("personality", (0xFFFFFFFF,)), None),
    (COMPUTE, Attempt("prctl", (39,)), None),
    (NET, Attempt("socket", (socket.AF_INET, socket.SOCK_STREAM, 6)), None),
    (NET, Attempt("socket", (socket.AF_INET6, socket.SOCK_STREAM | os.O_CLOEXEC, 0)), None),
    (NET, Attempt("socket", (socket.AF_INET | 1 << 32, socket.SOCK_STREAM, 0)), None),
    (NET, Attempt("connect", (-1, BAD, 16)), "EBADF"),
    (NET, Attempt("listen", (-1, 1)), "EBADF"),
    (NET, Attempt("setsockopt", (-1, 6, socket.TCP_NODELAY, BAD, 4)), "EBADF"),
    (STARTS, Attempt("clone", (SIGCHLD,)), None),
    (STARTS, Attempt("execve", (BAD, 0, 0)), "EFAULT"),
    (STARTS, Attempt("kill", (-1 & 0x7FFFFFFF, 0)), "ESRCH"),
    (STARTS, Attempt("setsid"), None),
]


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize(
    ("profile", "one", "found"),
    ALLOWED_ELSEWHERE,
    ids=[f"{one.name} {number}" for number, (_, one, _) in enumerate(ALLOWED_ELSEWHERE)],
)
def test_what_a_profile_allows_reaches_the_kernel(
    profile: Sandbox, one: Attempt, found: str | None, uid: int
) -> None:
    ended = run(lambda: attempt(one), filtered(profile), uid=uid)

    assert ended.errno == found
    assert ended.error is None or found


REFUSED_ELSEWHERE = [
    (NET, Attempt("socket", (socket.AF_INET, socket.SOCK_STREAM, 262), label="MPTCP")),
    (NET, Attempt("socket", (socket.AF_INET, socket.SOCK_DGRAM, 0), label="UDP")),
    (NET, Attempt("socket", (socket.AF_INET, socket.SOCK_RAW, 6), label="raw")),
    (NET, Attempt("socket", (socket.AF_UNIX, socket.SOCK_STREAM, 0), label="unix")),
    (NET, Attempt("socket", (socket.AF_NETLINK, socket.SOCK_RAW, 0), label="netlink")),
    (NET, Attempt("socket", (17, socket.SOCK_RAW, 0), label="packets")),
    (NET, Attempt("socket", (38, socket.SOCK_SEQPACKET, 0), label="AF_ALG")),
    (NET, Attempt("socket", (40, socket.SOCK_STREAM, 0), label="AF_VSOCK")),
    (NET, Attempt("sendto", (-1, 0, 0, 0x20000000, BAD, 16), label="fast open")),
    (NET, Attempt("clone", (SIGCHLD,))),
    (STARTS, Attempt("clone", (SIGCHLD | NEWUSER,), label="user namespace")),
    (STARTS, Attempt("clone", (SIGCHLD | NEWNS,), label="mount namespace")),
    (STARTS, Attempt("clone", (SIGCHLD | NEWNET,), label="network namespace")),
    (STARTS, Attempt("clone", (SIGCHLD | PARENT,), label="child of the parent")),
    (STARTS, Attempt("unshare", (NEWUSER,))),
    (STARTS, Attempt("execveat", (-1, BAD, 0, 0, 0))),
    (STARTS, Attempt("ptrace", (0,))),
    (STARTS, Attempt("memfd_create", (BAD, 0))),
    (
        Sandbox(syscalls="net", network="any"),
        Attempt("connect", (-1, BAD, 16), label="without warden"),
    ),
    (
        Sandbox(syscalls="net", network=["a:1"]),
        Attempt("connect", (-1, BAD, 16), label="without warden"),
    ),
    (Sandbox(syscalls="net", network=["a:1"]), Attempt("listen", (-1, 1))),
    (Sandbox(syscalls="net"), Attempt("socket", (socket.AF_INET, socket.SOCK_STREAM, 0))),
]


@pytest.mark.parametrize("uid", USERS)
@pytest.mark.parametrize(
    ("profile", "one"),
    REFUSED_ELSEWHERE,
    ids=[f"{one.name} {one.label}" for _, one in REFUSED_ELSEWHERE],
)
def test_what_a_profile_refuses_never_reaches_it(profile: Sandbox, one: Attempt, uid: int) -> None:
    assert run(lambda: attempt(one), filtered(profile), uid=uid).errno == "EPERM"


def test_a_task_may_signal_itself_only() -> None:
    def work() -> list[int]:
        heard: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
        for name, arguments in (("kill", ()), ("tkill", ()), ("tgkill", (os.getpid(),))):
            raw(name, os.getpid(), *arguments, signal.SIGUSR1)
        return heard

    assert run(work, filtered(COMPUTE)) == Ended(value=[signal.SIGUSR1] * 3)


def test_calls_that_nobody_knows_do_not_exist() -> None:
    def work() -> list[int]:
        found = set()
        for number in (*range(470, 600), 1023):
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(machine().numbers, "?", number)
                try:
                    raw("?")
                except OSError as error:
                    found.add(error.errno)
        return sorted(found)

    assert run(work, filtered(COMPUTE)) == Ended(value=[errno.ENOSYS])


@pytest.mark.skipif(machine().name != "x86_64", reason="other machines have one set of calls")
@pytest.mark.parametrize("way", ["x32", "int 0x80"])
def test_calls_of_32_bits_end_the_process(way: str) -> None:
    def call() -> bool:
        if way == "x32":
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(machine().numbers, "x32", 0x40000000 + machine().numbers["getpid"])
                with contextlib.suppress(OSError):
                    raw("x32")
            return True
        # mov eax, 20 (getpid); int 0x80; ret
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
        return True

    control = run(call)
    ended = run(call, filtered(COMPUTE))

    assert ended.signal == signal.SIGSYS
    # A kernel that was built without them ends it with another signal.
    assert control == Ended(value=True) or control.signal == signal.SIGSEGV


def test_threads_that_run_already_are_held_too() -> None:
    def work() -> str | None:
        goes, ended = threading.Event(), []

        def later() -> None:
            goes.wait()
            try:
                ended.append(raw("unshare", 0))
            except OSError as error:
                ended.append(errno.errorcode[error.errno])

        thread = threading.Thread(target=later)
        thread.start()
        no_new_privileges()
        load(build_filter(COMPUTE, notify=False), listener=False)
        goes.set()
        thread.join()
        return ended

    assert run(work) == Ended(value=["EPERM"])


def test_a_filter_needs_no_new_privileges_without_capabilities() -> None:
    if NOBODY not in USERS:
        pytest.skip("needs root, to become nobody")
    program = build_filter(COMPUTE, notify=False)

    ended = run(lambda: load(program, listener=False), uid=NOBODY)

    assert ended.errno == "EACCES"
    assert "sandbox: seccomp: seccomp()" in (ended.error or "")


def test_a_filter_that_asks_needs_a_listener() -> None:
    with pytest.raises(ConfinementError, match="load it with listener=True"):
        load(build_filter(COMPUTE, notify=True), listener=False)


@pytest.mark.parametrize("abi", range(1, 8))
@pytest.mark.parametrize("uid", USERS)
def test_the_filter_makes_up_for_an_old_landlock(reachable: Path, abi: int, uid: int) -> None:
    if abi > find_abi():
        pytest.skip(f"this kernel has version {find_abi()}")
    (reachable / "file").write_text("kept")
    (reachable / "file").chmod(0o666)
    give(reachable, uid)

    def landlock() -> None:
        no_new_privileges()
        with Ruleset(abi=abi) as ruleset:
            ruleset.allow(str(reachable), READ)
            ruleset.restrict_self()

    def both() -> None:
        landlock()
        filtered(COMPUTE)()

    victim = os.fork()
    if victim == 0:
        if uid != os.getuid():
            os.setresuid(uid, uid, uid)
        signal.pause()
        os._exit(0)
    file = str(reachable / "file")
    attempts: dict[int, Callable[[], Any]] = {
        3: lambda: os.truncate(file, 4),
        6: lambda: os.kill(victim, 0),
    }
    try:
        for since, tried in attempts.items():
            alone, together = run(tried, landlock, uid=uid), run(tried, both, uid=uid)
            assert together.errno == "EPERM"
            if since > abi and (since != 6 or uid == os.geteuid()):
                assert alone == Ended(), "what the filter makes up for"
        trunc = run(lambda: os.open(file, os.O_TRUNC), both, uid=uid)
        assert trunc.errno == "EPERM"
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    assert (reachable / "file").read_text() == "kept"
