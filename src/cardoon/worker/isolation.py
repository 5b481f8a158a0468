"""Isolation: which sandbox each job gets, and what is told of that. `isolating` plans it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import INNER, MAPS
from cardoon.sandbox.layers import Layers
from cardoon.sandbox.merging import Profiles
from cardoon.sandbox.profile import Sandbox

_QUEUE = "q:"
"""What stands before a queue in the audience of a message."""


class Isolation:
    """The sandboxes of a worker's jobs. Immutable; safe from several threads."""

    def __init__(
        self,
        profiles: Profiles,
        *,
        chooses: bool,
        reached: Sequence[str] = (),
        warnings: Sequence[str] = (),
        layers: Layers | None = None,
        secrets: Sequence[str] = (),
        is_best_effort: bool = False,
    ) -> None:
        self.profiles = profiles
        self.chooses = chooses
        """Whether each job gets its own; otherwise one is for all, or none for any."""
        self.reached = tuple(reached)
        """For each profile of the table, what is enforced, as results tell it; empty for nothing."""
        self.warnings = tuple(warnings)
        """What is not enforced although it was asked for, a line each."""
        self.layers = layers
        """What this machine can enforce; None where nobody had to ask."""
        self.secrets = tuple(secrets)
        """Absolute paths that no task sees."""
        self.is_best_effort = is_best_effort
        """Whether `layers` may fall short of what the profiles ask for."""

    @property
    def table(self) -> tuple[Sandbox, ...]:
        """The profiles by the number that jobs have."""
        return self.profiles.table

    def index_for(self, task: str, queue: str, headers: Mapping[str, Any]) -> int:
        """The number of the profile of a message; `RefusedError` for a map that hides its task."""
        if not self.chooses:
            return 0
        if task in MAPS:
            # The process runs what the map names, so that task's sandbox is the one to hold it.
            inner = headers.get(INNER)
            if not isinstance(inner, str) or inner in MAPS:
                raise RefusedError(
                    Refusal.DENIED,
                    f"{task}: its headers do not name the task that it maps, whose sandbox it needs",
                )
            task = inner
        return self.profiles.index_for(task, queue)

    def tell_processes(self) -> dict[str, Any] | None:
        """As JSON, what a process is told that confines tasks; None where nothing is held."""
        if self.layers is None:
            return None
        return {
            "layers": self.layers.to_mapping(),
            "secrets": list(self.secrets),
            "best_effort": self.is_best_effort,
        }

    def tell_holder(self) -> dict[str, Any] | None:
        """As JSON, what processes are told that serve many tasks; None where each has its own."""
        told = None if self.chooses else self.tell_processes()
        return None if told is None else {**told, "profile": self.table[0].to_mapping()}

    @property
    def is_on(self) -> bool:
        """Whether tasks are held to anything."""
        return bool(self.reached)

    def describe(self) -> str:
        """What tasks are held to, for people; the usual one first."""
        if not self.is_on:
            return "none: tasks can do what the worker's user can"
        others = sorted(set(self.reached[1:]) - {self.reached[0]})
        rest = f"; some tasks {', '.join(others)}" if others else ""
        return f"{self.reached[0]}{rest}{'; LESS than was asked for' if self.warnings else ''}"

    def told(self, index: int) -> str:
        """What results tell of the isolation of a job with this profile; empty if there is none."""
        return self.reached[index] if index < len(self.reached) else ""


def meant_for(audience: Sequence[str], queue: str) -> str:
    """The queue that a message was signed for, and not the one of this worker's in which it was found.

    Whoever writes the store can move it between those, and is not to choose a sandbox by that.
    """
    signed = [one.removeprefix(_QUEUE) for one in audience if one.startswith(_QUEUE)]
    return queue if queue in signed or not signed else signed[0]


NO_ISOLATION = Isolation(Profiles(), chooses=False)
