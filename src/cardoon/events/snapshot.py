"""Snapshots: a camera that looks at the cluster's state every so often, as Celery's."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from cardoon.events.state import State
from cardoon.option import parse_rate

logger = logging.getLogger(__name__)


class Polaroid:
    """Has `on_shutter` called with the state every `freq` seconds, in a thread of its own.

    While it looks, the state is frozen; what has ended is forgotten afterwards where `clear_after` is set.
    `maxrate` bounds how often the shutter may open, whoever presses it: `10/m`.
    """

    clear_after = False

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        app: Any = None,
    ) -> None:
        self.app = app
        self.state = state
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        rate = parse_rate(maxrate)
        self._gap = 1.0 / rate if rate else 0.0
        self._next = 0.0
        self._next_cleanup = time.monotonic() + cleanup_freq
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Begin to take pictures."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
            self._thread.start()

    def on_shutter(self, state: State) -> None:
        """Yours: look at the state, which does not change meanwhile."""

    def on_cleanup(self) -> None:
        """Yours: called every `cleanup_freq` seconds."""

    def cleanup(self) -> None:
        """Have `on_cleanup` called."""
        self.on_cleanup()

    def shutter(self) -> None:
        """Take a picture, unless `maxrate` has had enough."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._gap
            self.capture()

    def capture(self) -> None:
        """Take a picture."""
        self.state.freeze_while(self.on_shutter, self.state, clear_after=self.clear_after)

    def cancel(self) -> None:
        """Take no more; safe twice."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def _run(self) -> None:
        while not self._ended.wait(self.freq):
            self._take(self.shutter)
            if time.monotonic() >= self._next_cleanup:
                self._next_cleanup = time.monotonic() + self.cleanup_freq
                self._take(self.cleanup)

    def _take(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # one picture must not be the last
            logger.exception("camera %s", type(self).__name__)
