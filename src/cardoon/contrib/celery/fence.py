"""The fence: which of Celery's messages a bridge may sign, and where they go. There is no default."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError
from cardoon.queues import parse_queue_name

BUILT_INS = ("celery.", "cardoon.")
"""What no glob matches: a worker's own tasks are called by nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """What passes. `ImproperlyConfigured` for one without queues or tasks."""

    queues: Mapping[str, str]
    """Celery's queues, each with the queue here to which it leads."""
    tasks: tuple[str, ...]
    """Names of tasks, or globs; upper and lower case differ."""
    certificates: tuple[str, ...] = ()
    """Files, folders or globs of certificates. With any, only messages that these have signed pass
    (Celery's `auth`); without, only plain JSON, which is not signed."""
    digest: str = "sha256"
    """Of `auth`: Celery's `security_digest`."""

    def __post_init__(self) -> None:
        if not self.queues or not all(self.queues) or not all(self.queues.values()):
            raise ImproperlyConfigured(
                "unsafe_celery_bridge: no queues; name those of Celery that the bridge is to take from, "
                "such as {'queues': {'celery': 'default'}, 'tasks': ['shop.*']}"
            )
        for name in self.queues.values():
            try:
                parse_queue_name(name)
            except ValueError as error:
                raise ImproperlyConfigured(
                    f"unsafe_celery_bridge: queue {name!r} {error}"
                ) from None
        if not self.tasks or not all(self.tasks):
            raise ImproperlyConfigured(
                "unsafe_celery_bridge: no tasks; name those that the bridge may send, such as 'shop.*': "
                "whoever writes Celery's broker can have them run"
            )

    @classmethod
    def of(cls, settings: Settings, **given: object) -> Fence:
        """The fence of the setting, with what is given in place of its parts."""
        parts = {**settings.unsafe_celery_bridge, **{k: v for k, v in given.items() if v}}
        return cls(
            queues=dict(parts.get("queues", {})),
            tasks=tuple(parts.get("tasks", ())),
            certificates=tuple(parts.get("certificates", ())),
            digest=str(parts.get("digest", "sha256")),
        )

    def check(self, task: str) -> None:
        """`RefusedError` for a task that does not pass."""
        if task.startswith(BUILT_INS):
            raise RefusedError(Refusal.DENIED, f"{task} is built in, which no bridge sends")
        if not any(fnmatch.fnmatchcase(task, pattern) for pattern in self.tasks):
            raise RefusedError(Refusal.DENIED, f"{task} is outside of the bridge's fence")
