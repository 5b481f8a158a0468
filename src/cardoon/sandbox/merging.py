"""Which sandbox a task gets: rows of the operator's file, the task's own, the setting, the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from cardoon.sandbox.profile import Sandbox

DEFAULT = Sandbox()
MAX_PROFILES = 256
"""Different ones in one worker; each has a process of its own that makes its tasks' processes."""
_MAX_REMEMBERED = 8192
"""Decisions; some 200 bytes each. Names come from messages whose signature was verified."""


class Matching(Protocol):
    """A pattern of names."""

    def matches(self, name: str) -> bool:
        """Whether a whole name fits."""
        ...


class Row(NamedTuple):
    """One `[[sandbox]]` of the policy file. No patterns fit any name."""

    number: int
    """Its place in the file, from 1."""
    tasks: tuple[Matching, ...]
    queues: tuple[Matching, ...]
    profile: Sandbox

    def fits(self, task: str, queue: str) -> bool:
        """Whether it is for a task from a queue."""
        return _fit(self.tasks, task) and _fit(self.queues, queue)

    def fits_task(self, task: str) -> bool:
        """Whether it is for a task, from some queue."""
        return _fit(self.tasks, task)


class Choice(NamedTuple):
    """The sandbox of a task, and who has said so."""

    profile: Sandbox
    source: str
    """In words, for people."""
    is_shared: bool
    """Whether it is the worker's for all, and so nothing that only this task asks for."""


SETTING = "worker_sandbox"


def choose(
    task: str,
    queue: str,
    *,
    rows: Iterable[Row],
    own: Sandbox | None,
    setting: Sandbox | None,
) -> Choice:
    """The sandbox of a task from a queue.

    The first row that fits wins, and only a row lowers what code or settings ask for: a task's own is
    raised to the level of `worker_sandbox`.
    """
    for row in rows:
        if row.fits(task, queue):
            return Choice(row.profile, f"[[sandbox]] {row.number} of the policy file", False)
    if own is not None:
        floor = DEFAULT.level if setting is None else setting.level
        raised = own.at_least(floor)
        source = "the task's own, @app.task(sandbox=...)"
        if raised is not own:
            source += f", raised to the level {floor.text!r} of " + (
                "the default" if setting is None else SETTING
            )
        return Choice(raised, source, False)
    if setting is not None:
        return Choice(setting, f"the setting {SETTING}", True)
    return Choice(DEFAULT, "the default", True)


class Profiles:
    """The sandboxes that a worker's tasks may get, as a table. The first is that of tasks without any.

    Immutable but for what it remembers; safe from several threads.
    """

    def __init__(
        self,
        *,
        rows: Sequence[Row] = (),
        own: Mapping[str, Sandbox] | None = None,
        setting: Sandbox | None = None,
    ) -> None:
        self._rows = tuple(rows)
        self._own = dict(own or {})
        self._setting = setting
        shared = choose("", "", rows=(), own=None, setting=setting).profile
        raised = [
            choose("", "", rows=(), own=one, setting=setting).profile for one in self._own.values()
        ]
        given = [row.profile for row in self._rows]
        self.table: tuple[Sandbox, ...] = tuple(dict.fromkeys([shared, *raised, *given]))
        self._index = {profile: index for index, profile in enumerate(self.table)}
        self._known: dict[tuple[str, str], int] = {}

    def choose(self, task: str, queue: str) -> Choice:
        """The sandbox of a task from a queue, and who has said so."""
        own = self._own.get(task)
        return choose(task, queue, rows=self._rows, own=own, setting=self._setting)

    def index_for(self, task: str, queue: str) -> int:
        """Which of `table` a task from a queue gets."""
        found = self._known.get((task, queue))
        if found is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            found = self._index[self.choose(task, queue).profile]
            self._known[task, queue] = found
        return found

    def choices(self, task: str, queues: Iterable[str]) -> list[Choice]:
        """Every different sandbox that a task may get from these queues."""
        rows = [row for row in self._rows if row.fits_task(task)]
        own = self._own.get(task)
        found = [choose(task, one, rows=rows, own=own, setting=self._setting) for one in queues]
        return list(dict.fromkeys(found))


def _fit(patterns: Sequence[Matching], name: str) -> bool:
    return not patterns or any(one.matches(name) for one in patterns)
