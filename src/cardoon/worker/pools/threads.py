"""threads: several tasks at a time, in threads of one process beside the worker."""

from __future__ import annotations

import threading
from collections import deque

from cardoon.app import Cardoon
from cardoon.coroutines import INTERRUPTS, LoopRunner
from cardoon.executor import execute
from cardoon.worker.interrupt import REASONS, raise_in_thread
from cardoon.worker.ipc import Channel, Frame, FrameType, IpcError
from cardoon.worker.jobs import Answer, answer_codec, answer_of, failure, prepare
from cardoon.worker.link import Link
from cardoon.worker.reporting import Reporter


class ThreadRunner:
    """Runs jobs in a fixed number of threads; the main thread reads the channel."""

    def __init__(self, app: Cardoon, channel: Channel, reporter: Reporter, *, slots: int) -> None:
        self._app = app
        self._channel = channel
        self._reporter = reporter
        self._slots = slots
        self._changed = threading.Condition()  # protects the three below
        self._jobs: deque[Frame] = deque()
        self._running: dict[int, tuple[int, LoopRunner]] = {}
        self._stopping = False
        self.link = Link(channel, on_frame=self._take)

    def serve(self) -> None:
        """Run jobs until told to stop. `IpcError` when the worker is gone."""
        threads = [
            threading.Thread(target=self._work, name=f"task-{number}", daemon=True)
            for number in range(1, self._slots + 1)
        ]
        for thread in threads:
            thread.start()
        self.link.read_until(lambda: self._stopping)
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        loop = LoopRunner()
        while True:
            try:
                frame = self._next()
                if frame is None:
                    loop.close()
                    return
                self._run(frame, loop)
            except INTERRUPTS:
                continue  # it was meant for a job that had just ended
            except IpcError:
                return  # the main thread sees it too, and ends the process

    def _next(self) -> Frame | None:
        with self._changed:
            while not self._jobs and not self._stopping:
                self._changed.wait()
            if not self._jobs:
                return None
            return self._jobs.popleft()

    def _run(self, frame: Frame, loop: LoopRunner) -> None:
        with self._reporter.timed(frame) as report:
            prepared = prepare(self._app, frame)
            if isinstance(prepared, Answer):
                report.answer = prepared
                return
            key, codec = frame.head["key"], answer_codec(frame.head)
            try:
                with self._changed:
                    self._running[key] = (threading.get_ident(), loop)
                outcome = execute(prepared.task, prepared.request, loop)
                with self._changed:
                    del self._running[key]
                report.answer = answer_of(prepared, outcome, self._app, codec=codec)
            except INTERRUPTS as error:  # it arrived between the body and here
                self._running.pop(key, None)
                report.answer = failure(error, prepared, codec=codec)

    def _take(self, frame: Frame) -> None:
        with self._changed:
            match frame.type:
                case FrameType.JOB:
                    self._jobs.append(frame)
                case FrameType.STOP:
                    self._stopping = True
                case FrameType.CANCEL:
                    self._interrupt(frame.head["key"], REASONS[frame.head["reason"]])
                case FrameType.RECALL:
                    wanted = set(frame.head["keys"])
                    back = [job.head["key"] for job in self._jobs if job.head["key"] in wanted]
                    self._jobs = deque(job for job in self._jobs if job.head["key"] not in back)
                    self._channel.send(FrameType.RECALLED, {"keys": back})
                case _:
                    raise AssertionError(frame.type)
            self._changed.notify_all()

    def _interrupt(self, key: int, reason: type[BaseException]) -> None:
        running = self._running.get(key)
        if running is not None and not running[1].interrupt(reason):
            raise_in_thread(running[0], reason)
