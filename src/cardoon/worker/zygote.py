"""The zygote: a fresh interpreter that imports the app and forks task processes from that state.

It is started by exec, so it holds no key, no address and no task's memory; neither do its children.
It sees no task either: it is told to fork, hands the child its end of a channel, and says when a child
has died. It has one thread, since forking with more is not safe.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing.process
import os
import select
import signal
import socket
import sys
import traceback
from collections import deque
from typing import Any, NoReturn

from cardoon.app import Cardoon
from cardoon.loading import load_app, load_modules
from cardoon.log import log_formats, setup_logging
from cardoon.worker.catalogue import write_catalogue
from cardoon.worker.ipc import (
    FROM_WORKER,
    TO_ZYGOTE,
    Channel,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    pack_frame,
)
from cardoon.worker.link import Link
from cardoon.worker.pools.eventloop import EventLoopRunner
from cardoon.worker.pools.prefork import SerialRunner
from cardoon.worker.pools.threads import ThreadRunner
from cardoon.worker.reporting import Reporter

_PR_SET_PDEATHSIG = 1


class Zygote:
    """Serves one worker over a control socket, until that socket closes."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._reader = FrameReader(TO_ZYGOTE)
        self._frames: deque[Frame] = deque()
        self._descriptors: deque[int] = deque()
        self._children: set[int] = set()
        self._init: dict[str, Any] = {}
        self._app: Cardoon | None = None
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)

    def serve(self) -> None:
        """Import the app, report it, and fork on request."""
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker, which stops us
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._init = self._next().head
        if not self._import():
            return
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        gc.collect()
        gc.freeze()  # what is imported stays shared between the children
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if control in ready:
                self._frames.extend(self._read())
                while self._frames:
                    self._fork(self._frames.popleft())

    def _import(self) -> bool:
        """Import the app and report it; False if that failed, and was reported."""
        init = self._init
        sys.path[:] = init["path"]
        sys.argv[:] = init["argv"]
        setup_logging(**init["logging"])
        try:
            app = load_app(init["app"])
            app.set_default()  # whichever the project made last
            if init["include"]:
                app.conf.update(include=init["include"])
            load_modules(app)
            self._follow_formats(app)
            report = {
                "settings": app.conf.tell(),
                "tasks": write_catalogue(app.tasks, app.settings),
                "main": app.main,
                "periodic": app.conf.beat_schedule.describe() if app.conf.beat_schedule else "",
            }
            frame = pack_frame(FrameType.REPORT, report)
        except BaseException as error:  # noqa: BLE001  # user code, and what it says is for the user
            text = "".join(traceback.format_exception(error))
            short = f"{type(error).__name__}: {error}"
            self._control.sendall(
                pack_frame(FrameType.REPORT, {"error": short, "traceback": text[-60_000:]})
            )
            return False
        self._app = app
        self._control.sendall(frame)
        return True

    def _follow_formats(self, app: Cardoon) -> None:
        """Log as the app's settings say, if they say."""
        formats = log_formats(app.conf.explicit)
        if formats:
            setup_logging(**{**self._init["logging"], **formats})

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
        descriptor = self._descriptors.popleft()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become_child(descriptor, frame.head)
        os.close(descriptor)
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

    def _become_child(self, descriptor: int, head: dict[str, Any]) -> NoReturn:
        """In the child: serve jobs, then end without running the zygote's own clean-up."""
        code = 1
        try:
            die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for inherited in (self._control.detach(), self._wake_read, self._wake_write):
                os.close(inherited)
            multiprocessing.process.current_process().name = f"{head['name']}-{head['index']}"
            self._serve_jobs(socket.socket(fileno=descriptor), head)
            code = 0
        except IpcError:
            code = 0  # the worker is gone, or has had enough of us
        except BaseException:  # noqa: BLE001  # the last frame of this process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _serve_jobs(self, sock: socket.socket, head: dict[str, Any]) -> None:
        app = self._app
        assert app is not None
        channel = Channel(sock, FROM_WORKER)
        reporter = Reporter(channel, max_memory_kib=head["max_memory"])
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
        channel.send(FrameType.READY, {"pid": os.getpid()})
        runner.serve()


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that made it dies (Linux: prctl(2))."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(0)


def main() -> None:
    """Entry point: `python -m cardoon.worker.zygote DESCRIPTOR`."""
    Zygote(socket.socket(fileno=int(sys.argv[1]))).serve()


if __name__ == "__main__":
    main()
