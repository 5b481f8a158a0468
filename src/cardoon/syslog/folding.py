"""Folding: an event that repeats is told at once, and what repeats it within a window as one message with a count.

It never decides what is kept: the audit log has each record before this sees it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Hashable
from dataclasses import replace

from cardoon.clock import Clock
from cardoon.syslog.messages import Entry, Repeats

logger = logging.getLogger(__name__)

MOST_WINDOWS = 500
"""Windows that are open at a time; what finds no room is told each time, as without folding."""
NOT_COMPARED = frozenset({"message", "prev", "runtime", "seq", "task_id"})
"""Fields that say which message it was, and not what happened. In all others, what repeats is the same."""
_END_SECONDS = 1.0
"""For a message that the thread is just telling."""


class _Window:
    """What has repeated an event since it was told."""

    __slots__ = ("_first", "_last", "_times", "ends_at")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        """By the monotonic clock."""
        self._first = 0.0
        self._last: Entry | None = None
        self._times = 0

    def add(self, entry: Entry) -> None:
        """Count one more."""
        if self._last is None:
            self._first = entry.moment
        self._last = entry
        self._times += 1

    def tell(self) -> tuple[Entry, ...]:
        """What stands for all of them: nothing, the one that there was, or the last with a count."""
        if self._last is None or self._times == 1:
            return () if self._last is None else (self._last,)
        repeats = Repeats(self._times, self._first, self._last.moment)
        text = f"{self._last.text}, {self._times} times more"
        return (replace(self._last, text=text, repeats=repeats),)


class Folding:
    """Hands entries to `tell`. For any thread; in a process that was forked, it begins anew.

    A window lasts `seconds` from the entry that was told at once; with 0, each entry is told. What is
    in a window is lost with a process that is killed.
    """

    def __init__(self, tell: Callable[[Entry], None], *, clock: Clock, seconds: float) -> None:
        self._tell = tell
        self._clock = clock
        self._seconds = seconds
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()  # protects the windows
        # In the order in which they end, since all last equally long.
        self._windows: dict[Hashable, _Window] = {}
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def take(self, entry: Entry) -> None:
        """Tell an entry, or count it with those that it repeats. Neither waits nor raises."""
        if os.getpid() != self._pid:
            self._begin_anew()
        for one in self._fold(entry):
            self._tell(one)

    def end_windows(self) -> float | None:
        """Tell what was counted in windows that have ended; seconds until the next ends, None if none is open."""
        while True:
            with self._lock:
                key, window = next(iter(self._windows.items()), (None, None))
                if window is None:
                    return None
                left = window.ends_at - self._clock.monotonic()
                if left > 0:
                    return left
                del self._windows[key]
            for one in window.tell():  # unlocked: whoever records something need not wait for it
                self._tell(one)

    def close(self) -> None:
        """Tell all that was counted; what comes later is told each time. Safe twice."""
        if os.getpid() != self._pid:
            return  # what a fork has copied is the other process's to tell
        with self._lock:
            self._is_closed = True
            windows, self._windows = self._windows, {}
        self._woken.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
        for window in windows.values():
            for one in window.tell():
                self._tell(one)

    def _fold(self, entry: Entry) -> tuple[Entry, ...]:
        """What is to be told now."""
        if not self._seconds:
            return (entry,)
        key = _key_of(entry)
        with self._lock:
            now = self._clock.monotonic()
            window = self._windows.get(key)
            if window is not None and now < window.ends_at:
                window.add(entry)
                return ()
            before = () if window is None else window.tell()
            self._windows.pop(key, None)
            if len(self._windows) < MOST_WINDOWS and self._is_running():
                self._windows[key] = _Window(now + self._seconds)
                if len(self._windows) == 1:
                    self._woken.set()
        return (*before, entry)

    def _is_running(self) -> bool:
        """Whether there is a thread that ends windows, which is begun if need be."""
        if self._thread is None and not self._is_closed:
            thread = threading.Thread(target=self._run, name="syslog folding", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending
                return False
            self._thread = thread
        return not self._is_closed

    def _run(self) -> None:
        while not self._is_closed:
            self._woken.clear()
            try:
                left = self.end_windows()
            except Exception:  # a thread that nobody joins would end in silence
                logger.exception("syslog: what has repeated is not told")
                left = self._seconds
            self._woken.wait(left)


def _key_of(entry: Entry) -> Hashable:
    told = (
        (name, type(value), value if isinstance(value, (bool, int, float)) else str(value))
        for name, value in entry.fields.items()
        if name not in NOT_COMPARED
    )
    return (entry.event, *told)
