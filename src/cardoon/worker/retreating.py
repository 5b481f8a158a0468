"""What a worker does when its host is not what it was: nothing, take no more tasks, or end.

`integrity_on_drift` and `firewall_on_change` mean the same by the same words.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cardoon.worker.worker import Worker

logger = logging.getLogger(__name__)

DRAINED = "worker.drained"
"""In the audit trail."""


class Retreat:
    """Called at each alarm, from any thread.

    `setting` is the one that says what to do, and `exit_code` what a worker ends with that is to stop.
    """

    def __init__(self, worker: Worker, *, setting: str, how: str, exit_code: int) -> None:
        self._worker = worker
        self._because = f"{setting} = {how}"
        self._how = how
        self._exit_code = exit_code
        self._has_stopped = False

    def __call__(self) -> None:
        """Do what the setting says; safe more than once."""
        match self._how:
            case "drain":
                self._drain()
            case "stop":
                self._stop()

    def _drain(self) -> None:
        """Take nothing more; what is held runs to its end, and the worker can be asked."""
        consumer = self._worker.consumer
        if consumer.sources:
            logger.critical("the worker takes no more tasks (%s)", self._because)
            self._worker.audit.record(DRAINED, worker=self._worker.hostname, reason=self._because)
        consumer.broadcasts = {}
        consumer.wanted = ()

    def _stop(self) -> None:
        """End warm. Nothing is claimed from this moment; the rest is for a thread that may wait."""
        if self._has_stopped:
            return
        self._has_stopped = True
        self._worker.exit_code = self._worker.exit_code or self._exit_code
        self._worker.consumer.request_stop()
        logger.critical("the worker stops (%s)", self._because)
        threading.Thread(target=self._worker.stop, name="retreat", daemon=True).start()
