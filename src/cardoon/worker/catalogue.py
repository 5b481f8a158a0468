"""What a worker must know of each task to carry it out, without importing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured
from cardoon.option import parse_rate
from cardoon.sandbox.profile import Sandbox
from cardoon.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRules:
    """One task's options, the app's settings filled in."""

    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    max_crashes: int
    max_retries: int | None
    ignore_result: bool
    store_errors_even_if_ignored: bool
    track_started: bool
    time_limit: float | None
    soft_time_limit: float | None
    rate_limit: float | None
    """Starts per second."""
    sandbox: Sandbox | None = None
    """The task's own."""


Catalogue = Mapping[str, TaskRules]


class AppCatalogue(Catalogue):
    """The rules of the tasks that an app of this process has, also of those that it gets later."""

    def __init__(self, tasks: Mapping[str, Task[..., Any]], settings: Settings) -> None:
        self._tasks = tasks
        self._settings = settings
        self._known: dict[str, tuple[Task[..., Any], TaskRules]] = {}

    def __getitem__(self, name: str) -> TaskRules:
        if name not in self._tasks:
            raise KeyError(name)
        task, known = self._tasks[name], self._known.get(name)
        if known is None or known[0] is not task:
            known = self._known[name] = (task, rules_of(task, self._settings))
        return known[1]

    def change(self, name: str, **changes: Any) -> None:
        """Change rules of a task that is there."""
        rules = self[name]
        self._known[name] = (self._tasks[name], dataclasses.replace(rules, **changes))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


def rules_of(task: Task[..., Any], settings: Settings) -> TaskRules:
    """The rules of a task."""

    def choose(own: Any, general: Any) -> Any:
        return general if own is None else own

    return TaskRules(
        acks_late=choose(task.acks_late, settings.task_acks_late),
        acks_on_failure_or_timeout=choose(
            task.acks_on_failure_or_timeout, settings.task_acks_on_failure_or_timeout
        ),
        reject_on_worker_lost=choose(
            task.reject_on_worker_lost, settings.task_reject_on_worker_lost
        ),
        max_crashes=choose(task.max_crashes, settings.task_max_crashes),
        max_retries=task.max_retries,
        ignore_result=choose(task.ignore_result, settings.task_ignore_result),
        store_errors_even_if_ignored=choose(
            task.store_errors_even_if_ignored, settings.task_store_errors_even_if_ignored
        ),
        track_started=choose(task.track_started, settings.task_track_started),
        time_limit=choose(task.time_limit, settings.task_time_limit),
        soft_time_limit=choose(task.soft_time_limit, settings.task_soft_time_limit),
        rate_limit=parse_rate(choose(task.rate_limit, settings.task_default_rate_limit)),
        sandbox=task.sandbox,
    )


def change_rules(catalogue: Catalogue, name: str, **changes: Any) -> bool:
    """Change rules of a task, for messages that come from now on; whether there is such a task."""
    if name not in catalogue:
        return False
    match catalogue:
        case AppCatalogue():
            catalogue.change(name, **changes)
        case dict():
            catalogue[name] = dataclasses.replace(catalogue[name], **changes)
        case _:
            return False
    return True


def write_catalogue(tasks: Mapping[str, Task[..., Any]], settings: Settings) -> dict[str, Any]:
    """The catalogue as JSON."""
    return {name: _tell(rules_of(task, settings)) for name, task in tasks.items()}


def _tell(rules: TaskRules) -> dict[str, Any]:
    own = None if rules.sandbox is None else rules.sandbox.to_mapping()
    return {**dataclasses.asdict(dataclasses.replace(rules, sandbox=None)), "sandbox": own}


def read_catalogue(told: Mapping[str, Any]) -> Catalogue:
    """The catalogue that a zygote told."""
    try:
        return {name: _read(rules) for name, rules in told.items()}
    except TypeError as error:
        raise ImproperlyConfigured(f"the app's tasks cannot be read: {error}") from error


def _read(rules: Mapping[str, Any]) -> TaskRules:
    own = rules.get("sandbox")
    return TaskRules(**{**rules, "sandbox": None if own is None else Sandbox.from_mapping(own)})


RULES_OF_UNKNOWN = TaskRules(
    acks_late=True,
    acks_on_failure_or_timeout=True,
    reject_on_worker_lost=True,
    max_crashes=1,
    max_retries=0,
    ignore_result=False,
    store_errors_even_if_ignored=True,
    track_started=False,
    time_limit=None,
    soft_time_limit=None,
    rate_limit=None,
)
"""For a message whose task nobody here knows; it will not run."""
