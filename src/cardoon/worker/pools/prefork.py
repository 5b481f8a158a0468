"""prefork: in each process one task at a time, in its main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from types import FrameType as StackFrame

from cardoon.app import Cardoon
from cardoon.coroutines import LoopRunner
from cardoon.executor import Failed, Outcome, Retried, execute
from cardoon.sandbox.violations import tell as tell_violations
from cardoon.sandbox.witness import Witness
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
        self.witness: Witness | None = None
        """Where the process is held to a sandbox."""
        self.link = Link(channel, on_frame=self._take)

    def serve(self) -> None:
        """Run jobs until told to stop. `IpcError` when the worker is gone."""
        self.listen()
        while True:
            frame = self.next_job()
            if frame is None:
                self._loop.close()
                return
            with self._reporter.timed(frame) as report:
                report.answer = self.run(frame)

    def next_job(self) -> Frame | None:
        """Wait for a job; None when told to stop. `IpcError` when the worker is gone."""
        self.link.read_until(lambda: bool(self._jobs) or self._stopping)
        return self._jobs.popleft() if self._jobs else None

    def listen(self) -> None:
        """From now on a doorbell interrupts what runs; in the main thread."""
        signal.signal(DOORBELL, self._look)

    def run(self, frame: Frame) -> Answer:
        """Run a job to its end."""
        prepared = prepare(self._app, frame)
        if isinstance(prepared, Answer):
            return prepared
        codec = answer_codec(frame.head)
        try:
            if self.witness is not None:
                self.witness.begin()
            self._running = frame.head["key"]
            outcome = execute(prepared.task, prepared.request, self._loop)
            self._running = None
        except BaseException as error:  # noqa: BLE001  # interrupted between the body and here
            self._running = None
            return failure(error, prepared, codec=codec)
        if self.witness is not None:
            self._testify(self.witness, frame, outcome)
        return answer_of(prepared, outcome, self._app, codec=codec)

    def _testify(self, witness: Witness, frame: Frame, outcome: Outcome) -> None:
        """Tell the worker what the task was refused, before it hears how it ended."""
        match outcome:
            case Failed(error):
                witness.note(error)
            case Retried(retry) if retry.exc is not None:
                witness.note(retry.exc)
            case _:
                pass
        if found := witness.testify():
            head = {"key": frame.head["key"], "found": tell_violations(found)}
            self._channel.send(FrameType.REFUSED, head)

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
