"""Coroutines that can be interrupted with a reason, and a loop for threads that have none."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Generator
from typing import Any

from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded, Terminated

INTERRUPTS = (SoftTimeLimitExceeded, SoftShutdown, Terminated)
"""What a worker raises inside a task."""


class Interruptible(Awaitable[Any]):
    """Drives a coroutine, and gives it `reason` in place of a bare cancellation.

    So an `async def` task sees SoftTimeLimitExceeded where a plain one does, and may clean up.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._coroutine: Any = _as_coroutine(awaitable)
        self.reason: type[BaseException] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine = self._coroutine
        try:
            waiting = coroutine.send(None)
            while True:
                try:
                    sent = yield waiting
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as error:  # noqa: BLE001  # what it waited for has failed
                    waiting = coroutine.throw(self._reason_or(error))
                else:
                    waiting = coroutine.send(sent)
        except StopIteration as stop:
            return stop.value

    def _reason_or(self, error: BaseException) -> BaseException:
        """What the coroutine is to see of an error: a cancellation stands for its reason."""
        if self.reason is None or not isinstance(error, asyncio.CancelledError):
            return error
        reason, self.reason = self.reason, None
        return reason()


class LoopRunner:
    """Drives coroutines from a thread that has no event loop; keeps one loop for its life.

    Tasks often keep connections in module variables, which belong to the loop that made them.
    """

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._running: tuple[asyncio.Task[Any], Interruptible] | None = None
        self._alarm: _Alarm | None = None

    def __call__(self, awaitable: Awaitable[Any]) -> Any:
        """Run to the end. An interrupt that reaches the loop is passed on to the coroutine."""
        loop = self._get_loop()
        driven = Interruptible(awaitable)
        task = loop.create_task(_as_coroutine(driven))
        self._running = (task, driven)
        alarm = self._alarm or contextlib.nullcontext()
        try:
            with alarm:
                return loop.run_until_complete(task)
        except INTERRUPTS as interrupt:
            if task.done():
                raise
            driven.reason = type(interrupt)
            task.cancel()
            return loop.run_until_complete(task)
        finally:
            self._running = None

    def interrupt(self, reason: type[BaseException]) -> bool:
        """From another thread: raise `reason` in the coroutine, if one runs; whether one does."""
        running = self._running
        if running is None:
            return False
        task, driven = running
        driven.reason = reason
        task.get_loop().call_soon_threadsafe(task.cancel)
        return True

    def close(self) -> None:
        """End the loop; safe twice."""
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        if self._runner is None:
            self._runner = asyncio.Runner()
            if threading.current_thread() is threading.main_thread():
                self._alarm = _Alarm(self._runner.get_loop())
        return self._runner.get_loop()


class _Alarm:
    """Wakes the loop of the main thread when a signal comes, so that its handler runs at once.

    A signal that another thread catches, or that comes a moment before the loop goes to sleep, ends no
    system call of the main thread: its handler would run when something else wakes the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._before = -1
        loop.add_reader(self._ours, self._ours.recv, 4096)

    def __enter__(self) -> None:
        self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)

    def __exit__(self, *exc_info: object) -> None:
        signal.set_wakeup_fd(self._before)

    def close(self) -> None:
        """Let go of the loop."""
        self._loop.remove_reader(self._ours)
        self._ours.close()
        self._theirs.close()


async def _as_coroutine(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
