"""The first steps of a worker, whose broker may not be there yet."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from collections.abc import Callable, Sequence

from cardoon.clock import Clock
from cardoon.exceptions import OperationalError

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_TOLD_EVERY = 10
"""Tries from one line in the log to the next."""


class Beginning:
    """Takes steps one after the other, each again and again while the broker is away.

    They are taken in a thread of their own: a driver may wait for its server for longer than a worker that
    is told to stop may take. A step that failed is taken again from its start.
    """

    def __init__(self, steps: Sequence[Callable[[], None]], *, clock: Clock) -> None:
        self._steps = steps
        self._clock = clock
        self._failure: BaseException | None = None
        self._over = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._take_all, name="beginning", daemon=True)

    def run(self) -> bool:
        """Wait until all are taken; False if it was given up. Raises what waiting does not mend."""
        if not self._given_up.is_set():
            self._thread.start()
        self._over.wait()
        if self._failure is not None:
            raise self._failure
        return not self._given_up.is_set()

    def give_up(self) -> None:
        """Have `run` return at once; from any thread, at any time, safe twice."""
        self._given_up.set()
        self._over.set()

    def _take_all(self) -> None:
        try:
            for step in self._steps:
                self._take(step)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self._failure = error
        finally:
            self._over.set()

    def _take(self, step: Callable[[], None]) -> None:
        began = self._clock.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        for tries in itertools.count(1):
            if self._given_up.is_set():
                return
            try:
                step()
            except OperationalError as error:
                if tries == 1 or tries % _TOLD_EVERY == 0:
                    logger.warning("broker: %s; the worker waits for it, try %d", error, tries)
            else:
                if tries > 1:
                    seconds = self._clock.monotonic() - began
                    logger.info("broker: there after %.1f s", seconds)
                return
            # Workers that wait for the same server do not come to it in the same moment.
            self._given_up.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
