"""asyncio: many `async def` tasks at a time, in one event loop of a process beside the worker.

A plain function would stop the loop, so it runs in a thread next to it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cardoon.app import Cardoon
from cardoon.coroutines import Interruptible, LoopRunner
from cardoon.executor import Outcome, execute, execute_async
from cardoon.worker.interrupt import REASONS, raise_in_thread
from cardoon.worker.ipc import Channel, Frame, FrameType, IpcError
from cardoon.worker.jobs import Answer, Prepared, answer_codec, answer_of, failure, prepare
from cardoon.worker.link import Link
from cardoon.worker.reporting import Reporter

MAX_THREADS = 32
"""For plain functions, as `asyncio.to_thread` has it."""


class Running:
    """A job in the loop, and how to interrupt it: its coroutine, or the thread beside the loop."""

    __slots__ = ("driven", "task", "thread")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.driven: Interruptible | None = None
        self.thread: int | None = None


class EventLoopRunner:
    """Runs jobs as asyncio tasks; a thread reads the channel."""

    def __init__(self, app: Cardoon, channel: Channel, reporter: Reporter, *, slots: int) -> None:
        self._app = app
        self._channel = channel
        self._reporter = reporter
        self._threads = ThreadPoolExecutor(min(slots, MAX_THREADS), thread_name_prefix="task")
        self._running: dict[int, Running] = {}
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self.link = Link(channel, on_frame=self._take)

    def serve(self) -> None:
        """Run jobs until told to stop. `IpcError` when the worker is gone."""
        reader = threading.Thread(target=self._read, name="channel", daemon=True)
        reader.start()
        try:
            self._loop.run_until_complete(self._ended.wait())
            while self._running:
                tasks = [running.task for running in self._running.values()]
                self._loop.run_until_complete(asyncio.wait(tasks))
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._loop.close()
        if not self._stopping:
            raise IpcError("the worker is gone")

    def _read(self) -> None:
        try:
            self.link.read_until(lambda: self._stopping)
        except IpcError:
            self._loop.call_soon_threadsafe(self._ended.set)

    def _take(self, frame: Frame) -> None:
        match frame.type:
            case FrameType.JOB:
                self._loop.call_soon_threadsafe(self._start, frame)
            case FrameType.CANCEL:
                self._loop.call_soon_threadsafe(self._cancel, frame)
            case FrameType.RECALL:
                self._channel.send(FrameType.RECALLED, {"keys": []})  # every job has begun
            case FrameType.STOP:
                self._stopping = True
                self._loop.call_soon_threadsafe(self._ended.set)
            case _:
                raise AssertionError(frame.type)

    def _start(self, frame: Frame) -> None:
        task = self._loop.create_task(self._run(frame))
        self._running[frame.head["key"]] = Running(task)

    async def _run(self, frame: Frame) -> None:
        key, codec = frame.head["key"], answer_codec(frame.head)
        with self._reporter.timed(frame) as report:
            prepared = prepare(self._app, frame)
            if isinstance(prepared, Answer):
                report.answer = prepared
            else:
                try:
                    outcome = await self._execute(prepared, self._running[key])
                    report.answer = answer_of(prepared, outcome, self._app, codec=codec)
                except BaseException as error:  # noqa: BLE001  # cancelled outside of the body
                    report.answer = failure(error, prepared, codec=codec)
        del self._running[key]

    async def _execute(self, prepared: Prepared, running: Running) -> Outcome:
        if asyncio.iscoroutinefunction(prepared.task.run):
            running.driven = Interruptible(execute_async(prepared.task, prepared.request))
            outcome: Outcome = await running.driven
            return outcome
        return await self._loop.run_in_executor(self._threads, _run_plain, prepared, running)

    def _cancel(self, frame: Frame) -> None:
        running = self._running.get(frame.head["key"])
        if running is None:
            return
        reason = REASONS[frame.head["reason"]]
        if running.thread is not None:
            raise_in_thread(running.thread, reason)
        elif running.driven is not None:
            running.driven.reason = reason
            running.task.cancel()


def _run_plain(prepared: Prepared, running: Running) -> Outcome:
    loop = LoopRunner()
    running.thread = threading.get_ident()
    try:
        return execute(prepared.task, prepared.request, loop)
    finally:
        running.thread = None
        loop.close()
