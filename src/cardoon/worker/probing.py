"""Asks the stores now and then what nobody else asks: how much lies in the queues, whether results can be read.

In a thread of its own, so that a store which does not answer holds up nothing. Only where health or metrics are served.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from cardoon.backend import ResultBackend, listening
from cardoon.broker import Broker, Inspectable, QueueDepth
from cardoon.clock import Clock

logger = logging.getLogger(__name__)

SECONDS = 5.0
"""Between two questions."""
_SHARE = 20
"""A question that took long is asked again after so many times as long."""
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""No task has this id; whether a backend answers is all that is asked."""


class Probe:
    """What the stores said last."""

    def __init__(
        self, broker: Broker, backend: ResultBackend | None, *, is_shared: bool, clock: Clock
    ) -> None:
        self._broker = broker if isinstance(broker, Inspectable) else None
        asks_backend = backend is not None and not is_shared and listening(backend) is None
        self._backend = backend if asks_backend else None
        self._clock = clock
        self.depths: Sequence[QueueDepth] = ()
        self.backend_at: float | None = clock.monotonic() if asks_backend else None
        """When the result backend last answered, by the monotonic clock; None where the broker speaks for it."""
        self.failures = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        if self._broker is not None or self._backend is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ask no more; does not wait for an answer that does not come. Safe twice."""
        self._stop.set()

    def ask(self) -> None:
        """Ask once; a store that fails is counted."""
        if self._backend is not None and self._try(self._ask_backend):
            self.backend_at = self._clock.monotonic()
        if self._broker is not None:
            self._try(self._ask_broker)

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            asked_at = self._clock.monotonic()
            self.ask()
            pause = max(SECONDS, _SHARE * (self._clock.monotonic() - asked_at))

    def _try(self, question: object) -> bool:
        assert callable(question)
        try:
            question()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the store's answer
            self.failures += 1
            logger.debug("probe: %s", error)
            return False
        return True

    def _ask_backend(self) -> None:
        assert self._backend is not None
        self._backend.load([_NOBODY])

    def _ask_broker(self) -> None:
        assert self._broker is not None
        self.depths = self._broker.depths()
