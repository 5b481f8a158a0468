"""The signals that stop a worker: the first one asks it to, a second one, or SIGQUIT, does not wait."""

from __future__ import annotations

import signal
import threading
from types import FrameType as StackFrame
from typing import Protocol


class Stop(Protocol):
    """Stops something: warm, or cold. `sig` names the signal that wants it."""

    def __call__(self, *, cold: bool, sig: str) -> None:
        """Do so; returns when it has begun."""
        ...


class StopSignals:
    """Has SIGTERM, SIGINT and SIGQUIT stop one worker."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._count = 0

    def install(self) -> None:
        """Listen from now on; does nothing outside of the main thread, where nobody may."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: StackFrame | None) -> None:
        self._count += 1
        cold = self._count > 1 or number == signal.SIGQUIT
        # Locks may be held by the code that this interrupts, so another thread does the work.
        told = {"cold": cold, "sig": signal.Signals(number).name}
        threading.Thread(target=self._stop, kwargs=told, daemon=True).start()
