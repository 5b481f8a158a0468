"""Holding: what the worker tells the processes that confine tasks, as they use it.

A nest makes a confinement of it for all its children. A process that serves many tasks is held to it once,
for its whole life: that keeps tasks from the machine and not from one another. Made in the zygote or nest,
once the app is imported; used in the children, before they read a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.ground import Ground, find_code
from cardoon.sandbox.layers import Layers
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.witness import Witness


class Holder:
    """What the task processes of one profile are held to."""

    def __init__(
        self, profile: Sandbox, ground: Ground, layers: Layers, *, unsafe_best_effort: bool
    ) -> None:
        self._profile = profile
        self._ground = ground
        self._layers = layers
        self._unsafe_best_effort = unsafe_best_effort

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> Self:
        """From what `Isolation.tell_holder` says, or `tell_processes` with a profile; looks for the code that tasks need."""
        return cls(
            Sandbox.from_mapping(told["profile"]),
            Ground(find_code(), tuple(told["secrets"])),
            Layers.from_mapping(told["layers"]),
            unsafe_best_effort=told["best_effort"],
        )

    def hold(self) -> Witness:
        """Hold this process, which has one thread; returns who tells what is refused.

        `ConfinementError` if anything could not be done: then no task may run here.
        """
        self.make_confinement().enter_alone()
        witness = self.make_witness()
        witness.listen()
        return witness

    def make_confinement(self) -> Confinement:
        """What confines; `ConfinementError` if this machine cannot hold what is asked for."""
        return Confinement(
            self._profile,
            self._ground,
            layers=self._layers,
            unsafe_best_effort=self._unsafe_best_effort,
        )

    def make_witness(self) -> Witness:
        """Who tells what is refused, in this process or one that it forks."""
        level = min(self._profile.level, self._layers.reached)
        return Witness(self._profile, self._ground.code, level=level)
