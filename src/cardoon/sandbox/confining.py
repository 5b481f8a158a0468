"""Confinement: all layers of a profile, in the one order in which they work. Every failure raises.

A nest takes what tasks of a profile share, once. Each child takes the rest before it reads a byte of its
task: namespaces and mounts first, which Landlock would refuse; then limits and powers; then Landlock; the
filter last, because no other step can be taken under it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import tempfile
import time
from pathlib import Path

from cardoon.sandbox import cgroups, landlock, namespaces, notifying
from cardoon.sandbox.environment import keep_variables
from cardoon.sandbox.filters import Program
from cardoon.sandbox.ground import Ground, check_is_readable, granted_paths
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.layers import Layers
from cardoon.sandbox.limits import (
    apply_limits,
    count_processes,
    drop_bounding_set,
    drop_capabilities,
    hide_memory,
    no_new_privileges,
)
from cardoon.sandbox.naming import answer_names
from cardoon.sandbox.netrules import host_names
from cardoon.sandbox.planning import Plan, plan_for
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.sandbox.relaying import foreign_addresses, lend_listeners
from cardoon.sandbox.rooting import (
    WORK,
    WORK_PARENT,
    Room,
    mount_proc,
    mount_work,
    open_granted,
    own_files,
)
from cardoon.sandbox.seccomp import build_filter, load

VERSION = 1
"""Of what the levels promise; told with results."""

NOBODY = 65534
"""Who tasks are, user and group, where the worker is root and the profile says nothing."""

_OTHERS_SLACK = 256
"""Processes and threads of the same user that may begin after they were counted."""
_RECOUNT = 64
"""Forks after which they are counted again, which takes some 20 microseconds for each."""
_SECONDS_TO_END = 1.0
"""That a thread has, after who waited for it has heard that it ended, to be gone."""
_NAME_FILES = ("/etc/hosts", "/etc/nsswitch.conf")
_ROLE = "CARDOON_PROCESS"
"""Says that a process is a task's; `cardoon.config.ROLE_VARIABLE`."""


class Confinement:
    """How the processes of one profile are confined on this machine. One for a nest, used by one thread.

    `enter_nest`, then `fork` and `enter_task` as often as there are tasks.
    """

    def __init__(
        self,
        profile: Sandbox,
        ground: Ground,
        *,
        layers: Layers,
        unsafe_best_effort: bool = False,
    ) -> None:
        """`ConfinementError` if a layer that the profile's level needs is missing, unless best will do."""
        missing = layers.missing_for(profile.level)
        if missing and not unsafe_best_effort:
            told = "; ".join(f"{one.name}: {one.detail}" for one in missing)
            raise ConfinementError(
                "layers", f"level {profile.level.text!r} is not to be had here: {told}"
            )
        level = min(profile.level, layers.reached)
        self.reached = tell_level(level)
        """The level in force, as it is told with results."""
        self.level = level
        self.profile = profile
        self.ground = ground
        self._layers = layers
        # What a filter lets pass depends on what the other layers hold, so it is made for what there is.
        held = Level.CONFINED if level is Level.PROCESS < profile.level else level
        self._held = profile if held is profile.level else _lowered(profile, held)
        self._is_root = os.geteuid() == 0
        if self._is_root:
            self.uid = NOBODY if profile.uid is None else profile.uid
            self.gid = NOBODY if profile.gid is None else profile.gid
        else:
            self.uid, self.gid = os.getuid(), os.getgid()
        self._own_pids: int | None = None
        self._ruleset: landlock.Ruleset | None = None
        self._program: Program | None = None
        self._asking: Program | None = None
        """The filter whose refusals are told."""
        self._admits_reader = False
        self._others = 0
        self._forks = 0

    def enter_nest(self, hatch: int | None = None) -> None:
        """Take what all tasks share. Once, in a process with one thread; it may go on as a child.

        At `strict` the caller's process stays behind as a keeper, and this returns in its only child, the
        first process of a pid namespace. The two die together. Listed addresses are reached through the
        warden at the other end of the hatch, which stays open; without one they are not reached.
        """
        check_is_alone()
        # What is relative would mean another place after the next step.
        sys.path[:] = [str(Path(one).absolute()) for one in sys.path]
        self._admits_reader = notifying.must_admit_reader()
        keep_variables((*self.profile.env, _ROLE))
        plan = Plan() if self._held.level is Level.PROCESS else plan_for(self._held, self.ground)
        granted = (
            self._granted()
        )  # asked for now: who the tasks run as may not even see what is there
        if self.level is Level.STRICT:
            self._enter_room(plan, hatch)
        else:
            self._become_somebody()
        if self._has("privileges"):
            no_new_privileges()
        check_is_readable(granted)
        if self._has("landlock"):
            self._ruleset = self._make_ruleset(plan)
        if self._has("seccomp"):
            self._program = build_filter(self._held, notify=False)
            if self._layers["notifications"].is_on:
                self._asking = build_filter(self._held, notify=True)
        hide_memory()

    def fork(self) -> int:
        """Fork a process for a task: 0 in it, in the nest its pid. At `strict` it is alone with itself.

        `OSError`, as of `os.fork`, if there are too many processes or namespaces for now.
        """
        if self._own_pids is None:
            if self._forks % _RECOUNT == 0:
                self._others = count_processes(self.uid) + _OTHERS_SLACK
            self._forks += 1
            return os.fork()
        try:
            namespaces.unshare(namespaces.NEW_PROCESSES, what="a pid namespace")
        except ConfinementError as error:
            raise OSError(error.errno, str(error)) from error
        try:
            pid = os.fork()
        except OSError:
            namespaces.return_to(self._own_pids)
            raise
        if pid:
            namespaces.return_to(self._own_pids)
        return pid

    def enter_task(
        self, hatch: int | None = None, token: int = 0, *, group: int | None = None
    ) -> None:
        """Take the rest, in a child that has read nothing of a task yet and has one thread.

        With a hatch, what the filter refuses is told to the warden at its other end, by that token; the
        hatch is closed. `group` is the door of a control group, closed as well.
        """
        profile = self._held
        check_is_alone()
        if group is not None:
            cgroups.enter(group)
        if self._own_pids is not None:
            self._take_own_mounts()
        _lead_session()
        namespaces.die_with_parent()
        self._settle_down()
        apply_limits(profile, others=self._others)
        if self._has("privileges"):
            drop_capabilities()
        hide_memory()
        if hatch is not None and self._asking is not None and self._admits_reader:
            notifying.admit_reader(hatch)
        if self._ruleset is not None:
            self._ruleset.restrict_self()
            self._ruleset.close()
        answer_names(profile)
        self._load_filter(hatch, token)

    def enter_alone(self) -> None:
        """Take everything, in a process that serves many tasks and was forked by somebody else.

        `ConfinementError` at `strict`, which is for a process of one task.
        """
        if self.profile.level is Level.STRICT:
            raise ConfinementError("processes", "level 'strict' needs a process for each task")
        self.enter_nest()
        self._others = count_processes(self.uid) + _OTHERS_SLACK
        self.enter_task()

    def _load_filter(self, hatch: int | None, token: int) -> None:
        """The last step. Whoever gave a hatch keeps nothing of it."""
        if hatch is not None and self._asking is not None:
            listener = load(self._asking, listener=True)
            if listener is None:
                raise ConfinementError("seccomp", "the kernel gave no listener")
            try:
                notifying.hand_over(hatch, token, listener)
            except OSError as error:
                raise ConfinementError("warden", "is not there", error.errno or 0) from error
            return
        if self._program is not None:
            load(self._program, listener=False)
        if hatch is not None:
            os.close(hatch)

    def _has(self, layer: str) -> bool:
        """Whether the profile asks for a layer and this machine has it."""
        return self._held.level is not Level.PROCESS and self._layers[layer].is_on

    def _become_somebody(self) -> None:
        """Give up root's ids and powers, in the namespaces that all share."""
        if self._is_root:
            drop_bounding_set()
            namespaces.drop_groups()
            namespaces.change_ids(uid=self.uid, gid=self.gid)

    def _enter_room(self, plan: Plan, hatch: int | None) -> None:
        """Take namespaces and a root directory, and become their first process."""
        if self._held.tmp:
            # Where C libraries put temporary files, and semaphores that processes share.
            for path in ("/tmp", "/dev/shm"):  # noqa: S108  # a link to the task's own
                if not plan.shows(path):
                    plan.links[path] = WORK
        room = Room(plan, self._own_files())
        if self._is_root:
            namespaces.drop_groups()
            room.take()  # as root, since what is granted may lie below what only root can search
        flags = namespaces.NEW_MOUNTS | namespaces.NEW_IPC | namespaces.NEW_HOST_NAME
        flags |= namespaces.NEW_PROCESSES
        if self._held.network != "any":
            flags |= namespaces.NEW_NETWORK
        namespaces.unshare_users(flags, uid=self.uid, gid=self.gid)
        namespaces.become_first_process()
        self._own_pids = namespaces.open_pid_namespace()
        namespaces.set_host_name()
        network = self._held.network
        if network not in {None, "any"}:
            namespaces.raise_loopback()
            for number, address in enumerate(foreign_addresses(network)):
                namespaces.add_address(address, number)
        if hatch is not None:
            try:
                lend_listeners(network, hatch)
            except OSError as error:
                raise ConfinementError("network", f"{network!r}", error.errno or 0) from error
        room.build()
        drop_bounding_set()

    def _granted(self) -> list[str]:
        """What has to be readable for whom the tasks run as: what is there and not the room's own."""
        every = granted_paths(self._held, self.ground)
        if self.level is Level.STRICT:
            return [one for one in every if one not in self._own_files()]
        return [one for one in every if os.path.lexists(one)]

    def _own_files(self) -> dict[str, bytes]:
        """The room's own files. Who may reach any host looks names up as the machine does."""
        files = own_files(uid=self.uid, gid=self.gid, hosts=host_names(self._held.network))
        if self._held.network == "any":
            files = {name: one for name, one in files.items() if name not in _NAME_FILES}
        return files

    def _make_ruleset(self, plan: Plan) -> landlock.Ruleset:
        """What Landlock grants. In a room there is nothing that may not be read."""
        reading = landlock.READ
        if self._held.syscalls == "subprocess":
            reading |= landlock.EXECUTE
        ruleset = landlock.Ruleset(network=landlock.network_rights(self._held))
        grant = functools.partial(_grant, ruleset)
        try:
            if self.level is Level.STRICT:
                grant("/", reading)
            else:
                for path in sorted(plan.directories):
                    grant(path, landlock.READ_DIR)
            for one in plan.ordered():
                if one.is_device:
                    grant(one.path, landlock.DEVICE)
                elif one.is_writable:
                    grant(one.path, landlock.WRITE)
                elif self.level is not Level.STRICT:
                    grant(one.path, reading)
            if self._held.tmp:
                grant(WORK_PARENT, landlock.WRITE)
        except BaseException:
            ruleset.close()
            raise
        return ruleset

    def _take_own_mounts(self) -> None:
        """In the child: mounts and IPC of its own, then users of its own, who do not own the mounts."""
        namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_IPC, what="mounts of one's own")
        if self._held.tmp:
            mount_work(self._held.tmp)
        mount_proc()
        assert self._own_pids is not None
        os.close(self._own_pids)
        namespaces.unshare_own_users(uid=self.uid, gid=self.gid)

    def _settle_down(self) -> None:
        """Go where the task works, and tell its code."""
        place = self.profile.cwd or (WORK if self._held.tmp else "/")
        try:
            os.chdir(place)
        except OSError as error:
            raise ConfinementError("cwd", f"{place!r}", error.errno or 0) from error
        if self._held.tmp:
            os.environ.update(TMPDIR=WORK, HOME=WORK)
            tempfile.tempdir = None  # it may have looked while the app was imported


def _grant(ruleset: landlock.Ruleset, path: str, rights: int) -> None:
    """Grant a planned path, unless a link has taken its place."""
    descriptor = open_granted(path)
    try:
        ruleset.allow_descriptor(descriptor, rights, path=path)
    finally:
        os.close(descriptor)


def tell_level(level: Level) -> str:
    """A level in force, as results tell it and a nest reports it."""
    return f"{level.text}/v{VERSION}"


def _lowered(profile: Sandbox, level: Level) -> Sandbox:
    """The profile at a lower level, without what only a higher one has."""
    return dataclasses.replace(profile, level=level, tmp=0)


def _lead_session() -> None:
    """Have no terminal, and be known by a session of one's own."""
    if os.getsid(0) != os.getpid():
        os.setsid()


def check_is_alone() -> None:
    """Landlock, filters and user namespaces are of one thread, and another would stay outside of them.

    Threads that what runs after a fork has started and joined are gone from the kernel a moment later.
    """
    deadline = time.monotonic() + _SECONDS_TO_END
    while (count := _count_threads()) != 1:
        if time.monotonic() > deadline:
            raise ConfinementError(
                "threads",
                f"{count} threads run where there has to be one; start them in worker_process_init, and set "
                "OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and MKL_NUM_THREADS to 1",
            )
        time.sleep(0.001)


def _count_threads() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError as error:
        raise ConfinementError("threads", "/proc/self/task", error.errno or 0) from error
