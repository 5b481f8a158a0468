"""Namespaces: ids, first processes, keepers, and networks of one's own."""

import ctypes
import faulthandler
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from cardoon.sandbox import namespaces
from cardoon.sandbox.kernel import ConfinementError
from tests.sandbox.nesting import NOBODY, apart, attempt, linux, users

pytestmark = linux


def take(flags: int) -> tuple[int, int]:
    """A user namespace for whom tasks would be, and others."""
    ids = (NOBODY, NOBODY) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    if os.geteuid() == 0:
        namespaces.drop_groups()
    namespaces.unshare_users(flags, uid=ids[0], gid=ids[1])
    return ids


@users
def test_a_user_namespace_has_one_user_who_is_not_root(as_user: bool):
    def work() -> list[object]:
        ids = take(0)
        maps = [Path(f"/proc/self/{one}_map").read_text().split() for one in ("uid", "gid")]
        return [
            list(ids) == [os.getuid(), os.getgid()],
            [one == [str(number), str(number), "1"] for one, number in zip(maps, ids, strict=True)],
            Path("/proc/self/setgroups").read_text().strip(),
            attempt(lambda: os.setuid(0)),
            attempt(lambda: os.setgroups([])),
        ]

    assert apart(work, as_user=as_user) == [
        True,
        [True, True],
        "deny",
        os.strerror(22),
        os.strerror(1),
    ]


@users
def test_one_below_it_holds_nothing_of_what_was_mounted_before(as_user: bool):
    def work() -> list[object]:
        uid, gid = take(namespaces.NEW_MOUNTS | namespaces.NEW_HOST_NAME)
        namespaces.set_host_name("first")

        namespaces.unshare_own_users(uid=uid, gid=gid)

        return [os.getuid() == uid, attempt(lambda: socket.sethostname("second")), os.uname().nodename]  # fmt: skip

    assert apart(work, as_user=as_user) == [True, os.strerror(1), "first"]


@users
def test_the_first_process_is_alone_and_its_keeper_ends_as_it_does(as_user: bool):
    def status_after(end: object) -> int:
        pid = os.fork()
        if pid == 0:
            take(namespaces.NEW_PROCESSES)
            namespaces.become_first_process()
            assert os.getpid() == 1
            assert os.getppid() == 0
            end()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def crash() -> None:
        faulthandler.disable()
        ctypes.string_at(0)

    def work() -> list[int]:
        return [status_after(lambda: os._exit(7)), status_after(lambda: os._exit(0)), status_after(crash)]  # fmt: skip

    assert apart(work, as_user=as_user) == [7, 0, -signal.SIGSEGV]


@pytest.mark.skipif(os.geteuid() != 0, reason="root looks into a process that changed its ids")
def test_the_keeper_holds_no_descriptor_and_no_power():
    ours, theirs = os.pipe()

    def work() -> list[object]:
        pid = os.fork()
        if pid == 0:
            take(namespaces.NEW_PROCESSES)
            namespaces.become_first_process()
            os.write(theirs, b"x")
            time.sleep(60)
        os.read(ours, 1)
        end = time.monotonic() + 5  # the keeper may be a moment behind
        while len(list(Path(f"/proc/{pid}/fd").iterdir())) > 1 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        found = [len(list(Path(f"/proc/{pid}/fd").iterdir())), fields["CapPrm"], fields["CapEff"]]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return found

    found = apart(work)
    os.close(ours)
    os.close(theirs)
    assert found == [1, "0" * 16, "0" * 16]


@users
def test_each_child_has_a_pid_namespace_and_the_parent_keeps_its_own(as_user: bool):
    def work() -> list[int]:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            take(namespaces.NEW_PROCESSES)
            namespaces.become_first_process()
            own = namespaces.open_pid_namespace()
            for _ in range(3):
                namespaces.unshare(namespaces.NEW_PROCESSES, what="pids")
                child = os.fork()
                if child == 0:
                    os._exit(os.getpid())
                namespaces.return_to(own)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                os.write(theirs, bytes([code, child]))
            plain = os.fork()
            if plain == 0:
                os._exit(os.getpid())
            os.write(theirs, bytes([os.waitstatus_to_exitcode(os.waitpid(plain, 0)[1]), plain]))
            os._exit(0)
        os.waitpid(pid, 0)
        return list(os.read(ours, 100))

    found = apart(work, as_user=as_user)

    assert isinstance(found, list)
    assert found[0:6:2] == [1, 1, 1]
    assert found[6] == found[7] != 1  # in the parent's own namespace again
    assert len(set(found[1::2])) == 4


@users
def test_a_network_of_ones_own_has_loopback_and_the_addresses_it_is_given(as_user: bool):
    def work() -> list[object]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            take(namespaces.NEW_NETWORK)
            down = attempt(lambda: socket.create_connection(server.getsockname(), timeout=5))
            namespaces.raise_loopback()
            up = attempt(lambda: socket.create_connection(server.getsockname(), timeout=5))
        given = []
        for number, (address, family) in enumerate(
            (("198.51.100.7", socket.AF_INET), ("2001:db8::7", socket.AF_INET6))
        ):
            namespaces.add_address(address, number)
            with socket.create_server((address, 0), family=family) as inside:
                given.append(attempt(lambda s=inside: socket.create_connection(s.getsockname()[:2]).close()))  # fmt: skip
        names = [name for _, name in socket.if_nameindex()]
        return [down, up, given, names]

    assert apart(work, as_user=as_user) == [
        os.strerror(101),
        os.strerror(111),
        ["open", "open"],
        ["lo"],
    ]


def test_what_cannot_be_taken_is_named_with_the_reason():
    def work() -> None:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        with pytest.raises(ConfinementError, match=r"ids: cannot become 1:1.*CAP_SETUID.*EPERM"):
            namespaces.change_ids(uid=1, gid=1)
        with pytest.raises(ConfinementError, match=r"supplementary groups cannot be left.*EPERM"):
            namespaces.drop_groups()
        namespaces.unshare(namespaces.NEW_MOUNTS, what="mounts of one's own")

    if os.geteuid() != 0:
        pytest.skip("root becomes somebody for this")
    assert "mounts of one's own cannot be taken: " in str(apart(work))
