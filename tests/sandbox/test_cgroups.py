"""Control groups: as far as a v2 hierarchy without controllers lets them be seen, and where there are some."""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cardoon.sandbox import cgroups
from cardoon.sandbox.cgroups import Group, Subtree, find_own
from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Sandbox
from cardoon.worker.grouping import TaskGroups
from cardoon.worker.hatchery import Hatchery
from cardoon.worker.ipc import FrameType
from cardoon.worker.nursery import Nursery
from tests.sandbox.nesting import EVERY, apart, in_task, linux, readable_ground

pytestmark = linux
LOGGING = {
    "level": "WARNING",
    "logfile": None,
    "log_format": "%(message)s",
    "task_format": "%(message)s",
    "hijack": True,
}


@pytest.fixture
def subtree() -> Iterator[Subtree]:
    """A subtree of our own, with the controllers that there are."""
    try:
        here = find_own()
        made = here / f"cardoon-test-{os.getpid()}"
        made.mkdir()
    except (ConfinementError, OSError) as error:
        pytest.skip(f"no cgroup v2 to write to: {error}")
    os.setxattr(made, "user.delegate", b"1")  # as systemd says it
    there = set((made / "cgroup.controllers").read_text().split())
    yield Subtree(made, controllers=cgroups.CONTROLLERS & there)
    (made / "cgroup.kill").write_text("1")
    wait_until_empty(Group(made))
    for one in sorted(made.rglob("*"), reverse=True):
        if one.is_dir():
            one.rmdir()
    made.rmdir()


def wait_until_empty(group: Group) -> None:
    end = time.monotonic() + 10
    while not group.is_empty() and time.monotonic() < end:
        time.sleep(0.01)
    assert group.is_empty()


def test_what_a_task_has_started_ends_with_its_group(subtree: Subtree):
    group = subtree.make("task-1", Sandbox())
    ours, theirs = socket.socketpair()
    door = group.open_door()
    pid = os.fork()
    if pid == 0:
        cgroups.enter(door)
        if os.fork() == 0:  # a daemon, as nobody's child
            os.setsid()
            if os.fork() == 0:
                theirs.close()
                ours.send(b"d")
                time.sleep(60)
        os._exit(0)

    os.close(door)
    assert theirs.recv(1) == b"d"
    os.waitpid(pid, 0)
    assert group.processes()
    ours.close()
    theirs.close()

    group.kill()

    wait_until_empty(group)
    group.remove()
    group.remove()
    assert not group.place.exists()


def test_a_group_that_holds_something_is_not_removed_and_none_is_made_twice(subtree: Subtree):
    group = subtree.make("task-1", Sandbox())
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    (group.place / "cgroup.procs").write_text(str(pid))

    with pytest.raises(ConfinementError, match=r"task-1' stays.*EBUSY"):
        group.remove()
    with pytest.raises(ConfinementError, match=r"task-1' cannot be made.*EEXIST"):
        subtree.make("task-1", Sandbox())

    group.kill()
    os.waitpid(pid, 0)
    wait_until_empty(group)
    group.remove()


def test_what_runs_in_the_subtree_moves_to_a_leaf(subtree: Subtree):
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    (subtree.place / "cgroup.procs").write_text(str(pid))

    subtree.prepare()
    subtree.prepare()

    assert (subtree.place / "cgroup.procs").read_text() == ""
    assert (subtree.place / "worker" / "cgroup.procs").read_text().split() == [str(pid)]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until_empty(Group(subtree.place / "worker"))


def test_a_task_process_has_a_group_that_ends_with_it(subtree: Subtree):
    """With the worker's own parts: the groups, and a confinement that enters one first of all."""
    groups = TaskGroups(subtree)
    door = groups.begin(1, Sandbox())

    def nest() -> object:
        confinement = Confinement(Sandbox(level="strict"), readable_ground(), layers=EVERY)
        confinement.enter_nest()
        return in_task(confinement, lambda: time.sleep(60), group=door)

    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            apart(nest)
        os._exit(0)
    os.close(door)
    (place,) = subtree.place.glob("task-*")
    group = Group(place)
    end = time.monotonic() + 20
    while not group.processes() and time.monotonic() < end:
        time.sleep(0.01)
    assert len(group.processes()) == 1

    groups.end(1)
    groups.close()

    os.waitpid(pid, 0)
    assert not place.exists()
    groups.end(1)
    groups.close()


def test_the_worker_has_each_process_of_the_pool_in_a_group(
    subtree: Subtree, reachable: Path, monkeypatch: pytest.MonkeyPatch
):
    """From the hatchery's fork to the process's death, with a real zygote and nest."""
    (reachable / "tiny.py").write_text("from cardoon import Cardoon\napp = Cardoon('tiny')\n")
    monkeypatch.syspath_prepend(reachable)
    nursery = Nursery("tiny", logging_setup=LOGGING)
    nursery.start()
    nursery.begin({"queues": [], "sandbox": None})
    told = {"layers": EVERY.to_mapping(), "secrets": [], "best_effort": False}
    groups = TaskGroups(subtree)
    hatchery = Hatchery(
        nursery,
        [Sandbox(level="strict")],
        sandbox=told,
        reached=["strict/v1"],
        groups=groups,
    )
    ours, theirs = socket.socketpair()
    output, far_output = os.pipe()

    hatchery.fork([theirs.fileno(), far_output], {"index": 1, "profile": 0, "kind": "isolated"})
    (frame, handle) = next_told(hatchery)
    assert frame.type is FrameType.FORKED
    assert ours.recv(4096)  # it is ready, so it has entered
    (place,) = subtree.place.glob("task-*")
    assert len(Group(place).processes()) == 1

    signal.pidfd_send_signal(handle, signal.SIGKILL)
    (frame, _) = next_told(hatchery)

    assert (frame.type, frame.head["code"]) == (FrameType.DIED, -signal.SIGKILL)
    hatchery.close()
    assert not place.exists()
    nursery.stop()
    for one in (handle, output, far_output):
        os.close(one)
    ours.close()
    theirs.close()


def next_told(hatchery: Hatchery):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([hatchery], [], [], 1)[0] and (told := hatchery.receive()):
            return told[0]
    raise AssertionError("nothing was told")


def test_limits_are_written_where_the_controllers_are(tmp_path: Path):
    """The files of a group, by name: a kernel with these controllers was not at hand."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.procs").write_text("")
    os.setxattr(tmp_path, "user.delegate", b"1")

    group = Subtree(tmp_path).make("t", Sandbox(memory="64MiB", threads=4))

    found = {one.name: one.read_text() for one in group.place.iterdir()}
    assert found == {"pids.max": "5", "memory.max": str(64 << 20), "memory.swap.max": "0"}


def test_a_hierarchy_that_is_not_ours_is_refused_with_the_reason(tmp_path: Path):
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    with pytest.raises(ConfinementError, match="lacks the controllers memory, pids"):
        Subtree(tmp_path)

    (tmp_path / "cgroup.controllers").write_text("memory pids\n")
    with pytest.raises(ConfinementError, match="is not delegated to this worker"):
        Subtree(tmp_path)

    (tmp_path / "cgroup").write_text("1:name=systemd:/\n")
    with pytest.raises(ConfinementError, match="in no group of v2"):
        find_own(process=tmp_path)


@pytest.mark.parametrize(
    ("group", "root", "expected"),
    [
        ("/system.slice/cardoon.service", "/", "/sys/fs/cgroup/system.slice/cardoon.service"),
        ("/", "/", "/sys/fs/cgroup"),
        ("/box/inner", "/box", "/sys/fs/cgroup/inner"),
    ],
)
def test_the_own_group_is_found_below_where_it_is_mounted(
    tmp_path: Path, group: str, root: str, expected: str
):
    (tmp_path / "cgroup").write_text(f"5:memory:/x\n0::{group}\n")
    (tmp_path / "mountinfo").write_text(
        "31 23 0:28 / /sys/fs rw - tmpfs tmpfs rw\n"
        f"41 31 0:38 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    )

    assert find_own(process=tmp_path) == Path(expected)
