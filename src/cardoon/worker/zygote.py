"""The zygote: a fresh interpreter that imports the app and forks task processes from that state.

It is started by exec, so it holds no key, no address and no task's memory; neither do its children.
It sees no task either: it is told to fork, hands the child its end of a channel, and says when a child
has died. It has one thread, since forking with more is not safe. Receivers of the worker's signals run
here, one signal at a time and each for a bounded time, behind all that is to be forked.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from cardoon.loading import load_app, load_modules
from cardoon.log import setup_logging
from cardoon.signals import (
    worker_before_create_process,
    worker_process_init,
    worker_process_shutdown,
)
from cardoon.worker.catalogue import write_catalogue
from cardoon.worker.ipc import (
    FROM_WORKER,
    HEARD_BY_RECEIVERS,
    TO_ZYGOTE,
    Channel,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    pack_frame,
)
from cardoon.worker.journal import Writer
from cardoon.worker.link import Link
from cardoon.worker.notices import NOTICES
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

logger = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


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
        self._control = control
        self._reader = FrameReader(TO_ZYGOTE)
        self._frames: deque[Frame] = deque()
        self._descriptors: deque[int] = deque()
        self._children: set[int] = set()
        self._init: dict[str, Any] = {}
        self._app: Cardoon | None = None
        self._receivers: Receivers | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._mailbox = Mailbox(notices, wake=lambda: os.write(self._wake_write, b"n"))

    def serve(self) -> None:
        """Import the app, report it, and fork and send signals on request."""
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which stops us
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._init = self._next().head
        if not self._try(FrameType.REPORT, self._import):
            return
        beginning = self._next().head
        if not self._try(FrameType.BEGUN, lambda: self._begin(beginning)):
            return
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()  # what is imported stays shared between the children
        while True:
            control, mailbox = self._control.fileno(), self._mailbox
            letters = mailbox.descriptors()
            pause = 0 if mailbox.notices else None
            ready, _, _ = select.select([control, self._wake_read, *letters], [], [], pause)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if control in ready:
                self._frames.extend(self._read())
                while self._frames:
                    self._fork(self._frames.popleft())
            if mailbox.notices:
                self._announce(mailbox.notices.popleft())
            elif any(one in ready for one in letters):
                mailbox.read()

    def _try(self, kind: FrameType, work: Callable[[], dict[str, Any]]) -> bool:
        """Report what `work` returns; False if it raised, which is reported too."""
        try:
            frame = pack_frame(kind, work())
        except BaseException as error:  # noqa: BLE001  # user code, and what it says is for the user
            text = "".join(traceback.format_exception(error))
            short = f"{type(error).__name__}: {error}"
            self._control.sendall(pack_frame(kind, {"error": short, "traceback": text[-60_000:]}))
            return False
        self._control.sendall(frame)
        return True

    def _import(self) -> dict[str, Any]:
        """Import the app; returns what the worker must know of it."""
        init = self._init
        sys.path[:] = init["path"]
        sys.argv[:] = init["argv"]
        setup_logging(**init["logging"])
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
            "periodic": app.conf.beat_schedule.describe() if app.conf.beat_schedule else "",
        }

    def _begin(self, told: dict[str, Any]) -> dict[str, Any]:
        """Send what comes before the first child; returns which other signals have receivers."""
        app = self._app
        assert app is not None
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
        heard = heard_signals()
        if NOTICES.intersection(heard):  # then the worker answers there
            app.attach(self._mailbox.link)
        return {"signals": heard}

    def _announce(self, notice: Frame) -> None:
        """Send the signal of a notice; the last one closes the channel, which the worker waits for."""
        assert self._receivers is not None
        name = notice.head["signal"]
        is_last = name == "worker_shutdown"
        with limited(name, CLOSING_SECONDS if is_last else MAX_SECONDS):
            self._receivers.announce(notice.head)
        if is_last:
            self._mailbox.close()

    def _next(self) -> Frame:
        while not self._frames:
            self._frames.extend(self._read())
        return self._frames.popleft()

    def _read(self) -> list[Frame]:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, 64)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            # The worker is gone. The children have lost their channels, and us.
            os._exit(0)
        self._descriptors.extend(descriptors)
        return self._reader.feed(data)

    def _fork(self, frame: Frame) -> None:
        descriptors = [self._descriptors.popleft() for _ in range(frame.head["descriptors"])]
        if worker_before_create_process.receivers:
            assert self._receivers is not None
            with limited("worker_before_create_process"):
                worker_before_create_process.send(sender=self._receivers.info)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become_child(descriptors, frame.head)
        for one in descriptors:
            os.close(one)
        self._children.add(pid)
        told = pack_frame(FrameType.FORKED, {"index": frame.head["index"], "pid": pid})
        try:
            handle = os.pidfd_open(pid)
        except (AttributeError, OSError):  # macOS, old kernels
            self._control.sendall(told)
            return
        socket.send_fds(self._control, [told], [handle])
        os.close(handle)

    def _reap(self) -> None:
        for pid in list(self._children):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._children.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                self._control.sendall(pack_frame(FrameType.DIED, {"pid": pid, "code": code}))

    def _become_child(self, descriptors: Sequence[int], head: dict[str, Any]) -> NoReturn:
        """In the child: serve jobs, then end without running the zygote's own clean-up."""
        code = 1
        try:
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for inherited in (self._control.detach(), self._wake_read, self._wake_write):
                os.close(inherited)
            self._mailbox.close()
            multiprocessing.process.current_process().name = f"{head['name']}-{head['index']}"
            channel, *pages = descriptors
            journal = Writer(*pages) if pages else None
            self._serve_jobs(socket.socket(fileno=channel), journal, head)
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
        self, sock: socket.socket, journal: Writer | None, head: dict[str, Any]
    ) -> None:
        app = self._app
        assert app is not None
        channel = Channel(sock, FROM_WORKER)
        reporter = Reporter(channel, max_memory_kib=head["max_memory"], journal=journal)
        runner: SerialRunner | ThreadRunner | EventLoopRunner
        match head["kind"]:
            case "prefork":
                runner = SerialRunner(app, channel, reporter)
            case "threads":
                runner = ThreadRunner(app, channel, reporter, slots=head["slots"])
            case "asyncio":
                runner = EventLoopRunner(app, channel, reporter, slots=head["slots"])
            case kind:
                raise AssertionError(kind)
        link: Link = runner.link
        app.attach(link)
        hostname = self._init["worker"].get("hostname")
        worker_process_init.send(sender=hostname)
        channel.send(FrameType.READY, {"pid": os.getpid()})
        runner.serve()
        if worker_process_shutdown.receivers:
            with limited("worker_process_shutdown", CLOSING_SECONDS):
                worker_process_shutdown.send(sender=hostname, pid=os.getpid(), exitcode=0)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that made it dies (Linux: prctl(2))."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def main() -> None:
    """Entry point: `python -m cardoon.worker.zygote CONTROL NOTICES`, two descriptors of sockets."""
    control, notices = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    Zygote(control, notices).serve()


if __name__ == "__main__":
    main()
