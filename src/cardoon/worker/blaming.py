"""Brings what the warden tells of processes to the jobs that these serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from cardoon.sandbox.canary import TOKEN as CANARY
from cardoon.sandbox.violations import Violation, from_kernel
from cardoon.worker.child import TaskProcess
from cardoon.worker.hatchery import Hatchery
from cardoon.worker.nursery import Nursery

logger = logging.getLogger(__name__)

OnRefused = Callable[[int, Sequence[Violation]], None]
"""Told which job was refused what; before that job's end."""


class Blaming:
    """Belongs to the supervisor's thread, and is asked before a job's end is told."""

    def __init__(
        self,
        forks: Nursery | Hatchery,
        processes: Mapping[int, TaskProcess],
        on_refused: OnRefused,
    ) -> None:
        self._forks = forks
        self._processes = processes
        self._on_refused = on_refused

    def note(self) -> None:
        """Pass on what was told by now; a process that floods the warden is killed for it."""
        if not isinstance(self._forks, Hatchery):
            return
        for told in self._forks.refusals():
            if told.token == CANARY:
                continue
            process = self._processes.get(told.token)
            found = from_kernel(told.rule, told.detail, told.times)
            if process is None or not process.jobs:
                logger.warning("profile %d: %s", told.profile, found.describe())
                continue
            for key in process.jobs:
                self._on_refused(key, (found,))
            if told.is_flood:
                process.doom("it asks without end for what its sandbox refuses")
                process.kill()
