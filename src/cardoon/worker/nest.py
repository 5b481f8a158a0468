"""The nest: a process that forks the task processes of one sandbox profile, and nothing else.

The zygote forks it, after the import. It takes what the tasks of the profile share, lets go of all that
the import has opened, and then has one thread, no task and no key. It forks when the worker asks, says
who was born and who has died, and sees to it that nothing outlives a task. Its children die with it.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing.process
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from cardoon.app import Cardoon
from cardoon.log import log_lines
from cardoon.sandbox.canary import prove
from cardoon.sandbox.profile import Level
from cardoon.signals import worker_process_init
from cardoon.worker.forking import ForkServer
from cardoon.worker.holding import Holder
from cardoon.worker.host import adopt_orphans, die_with_parent
from cardoon.worker.import_guard import report_to
from cardoon.worker.ipc import FROM_WORKER, TO_NEST, Channel, Frame, FrameType, IpcError, pack_frame
from cardoon.worker.pools.isolated import IsolatedRunner, reseed, warm
from cardoon.worker.task_log import TaskLogHandler, Terms

EXIT_UNCONFINED = 97
"""Exit code of a process that could not be confined, and so has seen no task."""
_MOST_SWEEPS = 100
"""Looks at what a task left behind, each of which kills all that is there."""
_THREADS = Path("/proc/self/task")
_CHILDREN = Path("/proc/thread-self/children")
_PAUSE = 0.1
"""Seconds after a fork that failed."""
_MAX_ERROR = 4000
"""Characters of a reason."""


def become_nest(
    app: Cardoon, descriptors: Sequence[int], head: dict[str, Any], *, hostname: str
) -> NoReturn:
    """In a child of the zygote: be a nest, until the worker is gone."""
    control = socket.socket(fileno=descriptors[0])
    try:
        holder = Holder.from_told({**head["sandbox"], "profile": head["profile"]})
        hatch = descriptors[1] if len(descriptors) > 1 else None
        nest = Nest(app, control, holder, hatch=hatch, hostname=hostname)
        nest.prepare()
    except Exception as error:  # noqa: BLE001  # whatever keeps it from confining tasks is told
        control.sendall(pack_frame(FrameType.NESTED, {"error": _describe(error)}))
        os._exit(EXIT_UNCONFINED)
    nest.serve()


def refuse_nest(descriptors: Sequence[int], threads: Iterable[str]) -> None:
    """In the zygote: tell the worker that no nest can be forked while these threads run."""
    reason = (
        f"the import of the app has started threads ({', '.join(threads)}), and a process with several "
        "cannot be forked safely; start them in worker_process_init, and set OPENBLAS_NUM_THREADS=1, "
        "OMP_NUM_THREADS=1 and MKL_NUM_THREADS=1 for numerical libraries"
    )
    with socket.socket(fileno=descriptors[0]) as control, contextlib.suppress(OSError):
        control.sendall(pack_frame(FrameType.NESTED, {"error": reason}))
    for one in descriptors[1:]:
        os.close(one)


def other_threads() -> list[str]:
    """The names of this process's threads besides the main one, as the kernel knows them."""
    found = []
    with contextlib.suppress(OSError):  # no /proc: another system
        for one in _THREADS.iterdir():
            if int(one.name) != os.getpid():
                with contextlib.suppress(OSError):  # it has just ended
                    found.append((one / "comm").read_text(encoding="utf-8").strip())
    return found


class Nest:
    """Serves the worker over a control socket, until that socket closes."""

    def __init__(
        self,
        app: Cardoon,
        control: socket.socket,
        holder: Holder,
        *,
        hatch: int | None,
        hostname: str,
    ) -> None:
        self._app = app
        self._server = ForkServer(control, TO_NEST)
        confinement = self._confinement = holder.make_confinement()
        self._witness = holder.make_witness()
        self._profile = confinement.profile
        self._hatch = hatch
        self._hostname = hostname
        self._children: dict[int, int] = {}
        """The index of each, by its pid."""
        level = confinement.level
        self._may_fork = level is Level.PROCESS or self._profile.processes > 0
        # At strict, the kernel ends all that a task has started.
        self._may_leave_more = self._may_fork and level is not Level.STRICT

    def prepare(self) -> None:
        """Take what the tasks share, and report it. Raises what keeps it from that."""
        hatch = () if self._hatch is None else (self._hatch,)
        log_lines()  # first, since it closes a log file, which nobody may have closed before
        close_all_but((*self._server.own, *hatch))
        self._confinement.enter_nest(self._hatch)
        prove(self._confinement, self._hatch)
        self._prepare_runner()
        die_with_parent()  # again, since whoever becomes somebody else is asked anew
        adopt_orphans()
        signal.set_wakeup_fd(self._server.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()
        self._server.tell(pack_frame(FrameType.NESTED, {"reached": self._confinement.reached}))

    def _prepare_runner(self) -> None:
        """Make here what each child would make anew, on a channel whose place it fills with its own."""
        place, other = socket.socketpair()
        other.close()
        self._channel = Channel(place, FROM_WORKER)
        self._runner = IsolatedRunner(
            self._app, self._channel, most=self._profile.output, witness=self._witness
        )
        self._app.attach(self._runner.link)
        report_to(self._channel)
        self._runner.listen()
        multiprocessing.process.current_process().name = "isolated"

    def serve(self) -> NoReturn:
        """Fork on request, and say who has died."""
        server, control = self._server, self._server.fileno()
        while True:
            ready, _, _ = select.select([control, server.wake_read], [], [])
            if server.wake_read in ready:
                server.heed_wakes()
                self._reap()
            if control in ready:
                for frame in server.requests():
                    self._fork(frame)

    def _fork(self, frame: Frame) -> None:
        descriptors = self._server.descriptors_of(frame)
        try:
            pid = self._confinement.fork()
        except OSError as error:  # too many processes, perhaps not for long
            pid = -1
            sys.stderr.write(f"{_describe(error)}\n")
            time.sleep(_PAUSE)
        if pid == 0:
            self._become_child(descriptors, frame.head)
        for one in descriptors:
            os.close(one)
        if pid < 0:
            self._server.tell_of_death(frame.head["index"], 0, EXIT_UNCONFINED << 8)
            return
        self._children[pid] = frame.head["index"]
        self._server.tell_of_birth(frame.head["index"], pid)

    def _reap(self) -> None:
        """Say who has died, after all that it started is dead, too."""
        while (pid := _next_dead()) is not None:
            index = self._children.pop(pid, None)
            if index is None:  # started by a task that has ended
                os.waitpid(pid, 0)
                continue
            if self._may_leave_more:
                with contextlib.suppress(OSError):
                    os.killpg(pid, signal.SIGKILL)  # its number is its own until we wait for it
            _, status = os.waitpid(pid, 0)
            if self._may_leave_more:
                self._kill_orphans()
            self._server.tell_of_death(index, pid, status)

    def _kill_orphans(self) -> None:
        """Kill what tasks that have ended left to us, and what that has started meanwhile."""
        for _ in range(_MOST_SWEEPS):
            killed = [pid for pid in child_pids() if self._is_orphan(pid) and _kill(pid)]
            if not killed:
                return
            for pid in killed:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, 0)

    def _is_orphan(self, pid: int) -> bool:
        """Whether it is neither a task process nor of the session of one that lives."""
        try:
            return pid not in self._children and os.getsid(pid) not in self._children
        except OSError:  # it is gone
            return False

    def _become_child(self, descriptors: Sequence[int], head: dict[str, Any]) -> NoReturn:
        """In the child: be confined, then read a job and run it."""
        code = EXIT_UNCONFINED
        try:
            channel, output, *doors = descriptors
            log = None
            if "log" in head:
                pipe, *doors = doors
                log = TaskLogHandler(pipe, Terms.from_told(head["log"]))
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.dup2(channel, self._channel.socket.fileno())
            os.close(output)
            os.close(channel)
            signal.set_wakeup_fd(-1)
            self._server.leave()
            self._confinement.enter_task(
                self._hatch, head["index"], group=doors[0] if doors else None
            )
            if self._may_fork:  # what is started by it begins with this
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            code = 1
            self._serve_job(log)
            code = 0
        except IpcError:
            code = 0  # the worker is gone
        except BaseException as error:  # noqa: BLE001  # the last words of this process
            if code == EXIT_UNCONFINED:
                sys.stderr.write(_describe(error) + "\n")
            else:
                traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _serve_job(self, log: TaskLogHandler | None) -> None:
        reseed()
        self._witness.follow()
        if worker_process_init.receivers:
            worker_process_init.send(sender=self._hostname)
        if log is not None:  # after receivers that set up logging of their own
            log.install()
            self._runner.hear(log)
        warm()
        self._channel.send(FrameType.READY, {"pid": os.getpid()})
        self._runner.serve()


def close_all_but(kept: Iterable[int]) -> None:
    """Close every descriptor except standard input, output, error and these."""
    start = 3
    for one in sorted(kept):
        os.closerange(start, one)
        start = one + 1
    os.closerange(start, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def child_pids() -> list[int]:
    """The processes whose parent this one is, where the system tells."""
    try:
        text = _CHILDREN.read_text(encoding="ascii")
    except OSError:
        return []
    return [int(one) for one in text.split()]


def _kill(pid: int) -> bool:
    """Kill a process; whether that could be done."""
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _next_dead() -> int | None:
    """A child that has ended and still has its number."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_MAX_ERROR]
