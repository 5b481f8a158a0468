"""Control groups of task processes: one for each, made ahead and removed when it has ended.

Only where the worker has a subtree of its own, as `Delegate=yes` gives it. There memory and processes are
counted for all that a task starts, and all of it ends at once.
"""

from __future__ import annotations

import logging
import os
import time

from cardoon.sandbox.cgroups import Group, Subtree, find_own
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Sandbox
from cardoon.worker.isolation import Isolation

logger = logging.getLogger(__name__)

_CLOSING_SECONDS = 2.0
"""How long what was killed may take to be gone when the worker stops."""


class TaskGroups:
    """The groups of the task processes that live. Used by one thread at a time."""

    def __init__(self, subtree: Subtree) -> None:
        """`subtree` is prepared."""
        self._subtree = subtree
        self._living: dict[int, Group] = {}
        self._leaving: list[Group] = []
        self._made = 0

    def begin(self, index: int, profile: Sandbox) -> int:
        """A group for the process of that index; returns its door, which is the caller's to close.

        `ConfinementError` if it cannot be made: no process without the limits that it should have.
        """
        self._sweep()
        self._made += 1
        group = self._subtree.make(f"task-{os.getpid()}-{self._made}", profile)
        self._living[index] = group
        return group.open_door()

    def end(self, index: int) -> None:
        """End whatever is left in the group of a process that has died; an unknown one is no error."""
        group = self._living.pop(index, None)
        if group is not None:
            try:
                group.kill()
            except ConfinementError as error:
                logger.warning("a task's control group cannot be ended: %s", error)
            self._leaving.append(group)
        self._sweep()

    def close(self) -> None:
        """End and remove all; safe twice. What does not go in time is told, and left."""
        for index in list(self._living):
            self.end(index)
        end = time.monotonic() + _CLOSING_SECONDS
        while self._leaving and time.monotonic() < end:
            time.sleep(0.01)
            self._sweep()
        for group in self._leaving:
            logger.warning("a control group stays: %s", group.place)
        self._leaving = []

    def _sweep(self) -> None:
        """Remove those that are empty by now: what was killed takes a moment."""
        kept = []
        for group in self._leaving:
            try:
                group.remove()
            except ConfinementError:
                kept.append(group)
        self._leaving = kept


def open_groups(isolation: Isolation) -> TaskGroups | None:
    """Groups where this machine has them; no level promises any, so without them it is a warning."""
    if isolation.layers is None or not isolation.layers["cgroup"].is_on:
        return None
    try:
        subtree = Subtree(find_own())
        subtree.prepare()
    except ConfinementError as error:
        logger.warning("tasks have no control groups: %s", error)
        return None
    return TaskGroups(subtree)
