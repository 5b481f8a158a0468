"""prefork: in each process one task at a time, in its main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from types import FrameType as StackFrame

from cardoon.app import Cardoon
from cardoon.coroutines import LoopRunner
from cardoon.executor import execute
from cardoon.worker.interrupt import REASONS
from cardoon.worker.ipc import Channel, Frame, FrameType
from cardoon.worker.jobs import Answer, answer_codec, answer_of, failure, prepare
from cardoon.worker.link import Link
from cardoon.worker.reporting import Reporter

DOORBELL = signal.SIGUSR1
"""Says: look at your channel. What is there says what to do, and for which job."""


class SerialRunner:
    """Runs jobs one after the other; interrupted through a signal, so also out of a sleep."""

    def __init__(self, app: Cardoon, channel: Channel, reporter: Reporter) -> None:
        self._app = app
        self._channel = channel
        self._reporter = reporter
        self._jobs: deque[Frame] = deque()
        self._stopping = False
        self._running: int | None = None
        self._interrupt: tuple[int, str] | None = None
        self._loop = LoopRunner()
        self.link = Link(channel, on_frame=self._take)

    def serve(self) -> None:
        """Run jobs until told to stop. `IpcError` when the worker is gone."""
        signal.signal(DOORBELL, self._look)
        while True:
            self.link.read_until(lambda: bool(self._jobs) or self._stopping)
            if not self._jobs:
                self._loop.close()
                return
            frame = self._jobs.popleft()
            with self._reporter.timed(frame) as report:
                report.answer = self._run(frame)

    def _run(self, frame: Frame) -> Answer:
        prepared = prepare(self._app, frame)
        if isinstance(prepared, Answer):
            return prepared
        codec = answer_codec(frame.head)
        try:
            self._running = frame.head["key"]
            outcome = execute(prepared.task, prepared.request, self._loop)
            self._running = None
        except BaseException as error:  # noqa: BLE001  # interrupted between the body and here
            self._running = None
            return failure(error, prepared, codec=codec)
        return answer_of(prepared, outcome, self._app, codec=codec)

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.JOB:
                self._jobs.append(frame)
            case FrameType.STOP:
                self._stopping = True
            case FrameType.CANCEL:
                self._interrupt = (frame.head["key"], frame.head["reason"])
                if threading.current_thread() is threading.main_thread():
                    self._raise_interrupt()
                else:
                    os.kill(os.getpid(), DOORBELL)
            case FrameType.RECALL:
                wanted = set(frame.head["keys"])
                back = [job.head["key"] for job in self._jobs if job.head["key"] in wanted]
                self._jobs = deque(job for job in self._jobs if job.head["key"] not in back)
                self._channel.send(FrameType.RECALLED, {"keys": back})
            case _:
                raise AssertionError(frame.type)

    def _look(self, _signal: int, _frame: StackFrame | None) -> None:
        """The doorbell rang, in the middle of whatever the main thread does."""
        self._raise_interrupt()
        if self._running is not None:
            self.link.read_now()

    def _raise_interrupt(self) -> None:
        """Raise in the task, if it is still the one that is meant."""
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None and interrupt[0] == self._running:
            raise REASONS[interrupt[1]]
