"""The zygote: a fresh interpreter that imports the app and forks task processes from that state.

It is started by exec, so it holds no key, no address and no task's memory; neither do its children.
It sees no task either: it is told to fork, hands the child its end of a channel, and says when a child
has died. It has one thread, since forking with more is not safe. Receivers of the worker's signals run
here, one signal at a time and each for a bounded time, behind all that is to be forked.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import multiprocessing.process
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from cardoon.app import Cardoon
from cardoon.contents import registered_contents
from cardoon.exceptions import DriftError
from cardoon.integrity.importing import Blocked, BlockedImportError
from cardoon.loading import load_app, load_modules
from cardoon.log import setup_logging
from cardoon.signals import (
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
)
from cardoon.worker.beating import tell_entries
from cardoon.worker.catalogue import write_catalogue
from cardoon.worker.forking import ForkServer
from cardoon.worker.holding import Holder
from cardoon.worker.host import die_with_parent
from cardoon.worker.import_guard import report_to, stand, write_blocked
from cardoon.worker.ipc import (
    FROM_WORKER,
    HEARD_BY_RECEIVERS,
    TO_ZYGOTE,
    Channel,
    Frame,
    FrameType,
    IpcError,
    pack_frame,
)
from cardoon.worker.journal import Writer
from cardoon.worker.link import Link
from cardoon.worker.nest import become_nest, other_threads, refuse_nest
from cardoon.worker.notices import NOTICES
from cardoon.worker.own_commands import carry_out, registered_commands
from cardoon.worker.pools.eventloop import EventLoopRunner
from cardoon.worker.pools.prefork import SerialRunner
from cardoon.worker.pools.threads import ThreadRunner
from cardoon.worker.receivers import (
    CLOSING_SECONDS,
    MAX_SECONDS,
    Receivers,
    WorkerInfo,
    heard_signals,
    limited,
)
from cardoon.worker.reporting import Reporter
from cardoon.worker.task_log import TaskLogHandler, Terms

logger = logging.getLogger(__name__)


class Mailbox:
    """The zygote's end of the notices. It reads only when it has none left, so that few wait here."""

    def __init__(self, sock: socket.socket, *, wake: Callable[[], object]) -> None:
        self._channel = Channel(sock, HEARD_BY_RECEIVERS)
        self._wake = wake
        self.notices: deque[Frame] = deque()
        self.link = Link(self._channel, on_frame=self._take)
        """For receivers that call tasks."""

    def descriptors(self) -> list[int]:
        """What to wait for; nothing once it is closed."""
        descriptor = self._channel.socket.fileno()
        return [] if descriptor < 0 or self.notices else [descriptor]

    def read(self) -> None:
        """Take in what is there."""
        try:
            self.link.read_now()
        except IpcError:  # the worker has closed it, or is gone, which the control socket says
            self.close()

    def close(self) -> None:
        """Hear no more; safe twice."""
        self._channel.socket.close()

    def _take(self, frame: Frame) -> None:
        self.notices.append(frame)
        if threading.current_thread() is not threading.main_thread():
            with contextlib.suppress(BlockingIOError):  # then it has been woken often enough
                self._wake()  # a receiver's thread read it while it waited for a reply


class Zygote:
    """Serves one worker over a control socket, until that socket closes."""

    def __init__(self, control: socket.socket, notices: socket.socket) -> None:
        self._server = ForkServer(control, TO_ZYGOTE)
        self._children: dict[int, int] = {}
        """The index of each, by its pid."""
        self._init: dict[str, Any] = {}
        self._app: Cardoon | None = None
        self._receivers: Receivers | None = None
        self._holder: Holder | None = None
        wake = self._server.wake_write
        self._mailbox = Mailbox(notices, wake=lambda: os.write(wake, b"n"))

    def serve(self) -> None:
        """Import the app, report it, and fork and send signals on request."""
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which stops us
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._init = self._server.next().head
        if not self._try(FrameType.REPORT, self._import):
            return
        beginning = self._server.next().head
        if not self._try(FrameType.BEGUN, lambda: self._begin(beginning)):
            return
        server, control = self._server, self._server.fileno()
        signal.set_wakeup_fd(server.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()  # what is imported stays shared between the children
        while True:
            mailbox = self._mailbox
            letters = mailbox.descriptors()
            pause = 0 if mailbox.notices else None
            ready, _, _ = select.select([control, server.wake_read, *letters], [], [], pause)
            if server.wake_read in ready:
                server.heed_wakes()
                self._reap()
            if control in ready:
                for frame in server.requests():
                    self._fork(frame)
            if mailbox.notices:
                self._heed(mailbox.notices.popleft())
            elif any(one in ready for one in letters):
                mailbox.read()

    def _try(self, kind: FrameType, work: Callable[[], dict[str, Any]]) -> bool:
        """Report what `work` returns; False if it raised, which is reported too."""
        try:
            frame = pack_frame(kind, work())
        except BaseException as error:  # noqa: BLE001  # user code, and what it says is for the user
            text = "".join(traceback.format_exception(error))
            short = f"{type(error).__name__}: {error}"
            told: dict[str, Any] = {"error": short, "traceback": text[-60_000:]}
            if isinstance(error, (BlockedImportError, DriftError)):
                told = {"error": str(error), "drifted": True}
            self._server.tell(pack_frame(kind, told))
            return False
        self._server.tell(frame)
        return True

    def _tell_blocked(self, found: Blocked) -> None:
        self._server.tell(pack_frame(FrameType.BARRED, write_blocked(found)))

    def _import(self) -> dict[str, Any]:
        """Import the app; returns what the worker must know of it."""
        init = self._init
        sys.path[:] = init["path"]
        sys.argv[:] = init["argv"]
        setup_logging(**init["logging"])
        if init["imports"] is not None:
            stand(init["imports"], self._tell_blocked)
        app = self._app = load_app(init["app"])
        app.set_default()  # whichever the project made last
        if init["include"]:
            app.conf.update(include=init["include"])
        load_modules(app)
        self._receivers = Receivers(app, WorkerInfo(app=app, **init["worker"]))
        self._receivers.announce_birth()
        return {
            "settings": app.conf.tell(),
            "tasks": write_catalogue(app.tasks, app.settings),
            "main": app.main,
            "serializers": registered_contents(),
            "commands": registered_commands(),
            "entries": tell_entries(app) if init["beat"] else [],
        }

    def _begin(self, told: dict[str, Any]) -> dict[str, Any]:
        """Send what comes before the first child; returns which other signals have receivers."""
        app = self._app
        assert app is not None
        sandbox = told.pop("sandbox", None)
        queues = tuple(told["queues"])
        info = WorkerInfo(app=app, **{**self._init["worker"], **told, "queues": queues})
        self._receivers = Receivers(app, info)
        before = dict(app.conf.explicit)
        self._receivers.announce_beginning(self._init["logging"])
        if dict(app.conf.explicit) != before:
            logger.warning(
                "settings were changed after celeryd_init; the worker has read them and goes on with "
                "what it has read"
            )
        if sandbox is not None:
            self._holder = Holder.from_told(sandbox)
        heard = heard_signals()
        if NOTICES.intersection(heard) or registered_commands():  # then the worker answers there
            app.attach(self._mailbox.link)
        return {"signals": heard}

    def _heed(self, frame: Frame) -> None:
        """Send the signal of a notice, or run a command of the app's own and answer it."""
        if frame.type is FrameType.NOTICE:
            self._announce(frame)
            return
        assert self._receivers is not None
        answer = carry_out(self._receivers.info, frame.head)
        with contextlib.suppress(IpcError):  # the worker is gone, which the control socket says
            self._mailbox.link.channel.send(FrameType.ANSWERED, answer)

    def _announce(self, notice: Frame) -> None:
        """Send the signal of a notice; the last one closes the channel, which the worker waits for."""
        assert self._receivers is not None
        name = notice.head["signal"]
        is_last = name == "worker_shutdown"
        with limited(name, CLOSING_SECONDS if is_last else MAX_SECONDS):
            self._receivers.announce(notice.head)
        if is_last:
            self._mailbox.close()

    def _fork(self, frame: Frame) -> None:
        descriptors = self._server.descriptors_of(frame)
        if worker_before_create_process.receivers:
            assert self._receivers is not None
            with limited("worker_before_create_process"):
                worker_before_create_process.send(sender=self._receivers.info)
        sys.stdout.flush()
        sys.stderr.flush()
        if frame.type is FrameType.NEST and (threads := other_threads()):
            refuse_nest(descriptors, threads)
            return
        pid = os.fork()
        if pid == 0:
            self._become_child(descriptors, frame)
        for one in descriptors:
            os.close(one)
        self._children[pid] = frame.head["index"]
        self._server.tell_of_birth(frame.head["index"], pid)

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._server.tell_of_death(self._children.pop(pid), pid, status)

    def _become_child(self, descriptors: Sequence[int], frame: Frame) -> NoReturn:
        """In the child: serve jobs, then end without running the zygote's own clean-up."""
        code = 1
        head = frame.head
        try:
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._server.leave()
            self._mailbox.close()
            if frame.type is FrameType.NEST:
                assert self._app is not None
                hostname = self._init["worker"].get("hostname")
                become_nest(self._app, descriptors, head, hostname=hostname)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            multiprocessing.process.current_process().name = f"{head['name']}-{head['index']}"
            channel, *others = descriptors
            log = None
            if "log" in head:
                pipe, *others = others
                log = TaskLogHandler(pipe, Terms.from_told(head["log"]))
            journal = Writer(*others) if others else None
            self._serve_jobs(socket.socket(fileno=channel), journal, log, head)
            code = 0
        except IpcError:
            code = 0  # the worker is gone, or has had enough of us
        except BaseException:  # noqa: BLE001  # the last frame of this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _serve_jobs(
        self,
        sock: socket.socket,
        journal: Writer | None,
        log: TaskLogHandler | None,
        head: dict[str, Any],
    ) -> None:
        app = self._app
        assert app is not None
        witness = None if self._holder is None else self._holder.hold()
        channel = Channel(sock, FROM_WORKER)
        reporter = Reporter(channel, max_memory_kib=head["max_memory"], journal=journal)
        runner: SerialRunner | ThreadRunner | EventLoopRunner
        match head["kind"]:
            case "prefork":
                runner = SerialRunner(app, channel, reporter)
                runner.witness = witness
            case "threads":
                runner = ThreadRunner(app, channel, reporter, slots=head["slots"])
            case "asyncio":
                runner = EventLoopRunner(app, channel, reporter, slots=head["slots"])
            case kind:
                raise AssertionError(kind)
        link: Link = runner.link
        app.attach(link)
        report_to(channel)
        hostname = self._init["worker"].get("hostname")
        worker_process_init.send(sender=hostname)
        if log is not None:  # after receivers that set up logging of their own
            log.install()
            reporter.log = log
        channel.send(FrameType.READY, {"pid": os.getpid()})
        runner.serve()
        if worker_process_shutdown.receivers:
            with limited("worker_process_shutdown", CLOSING_SECONDS):
                worker_process_shutdown.send(sender=hostname, pid=os.getpid(), exitcode=0)


def main() -> None:
    """Entry point: `python -m cardoon.worker.zygote CONTROL NOTICES`, two descriptors of sockets."""
    control, notices = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    Zygote(control, notices).serve()


if __name__ == "__main__":
    main()
