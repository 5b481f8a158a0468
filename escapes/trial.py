"""One trial: attempts in a row against one runner, each judged by what others see of it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from escapes.matrix import Attempt
from escapes.runners import Runner
from escapes.scene import Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What came of one attempt."""

    attempt: str
    category: str
    person: str
    runner: str
    level: str
    """Empty for the control."""
    gained: str
    """What it got, by its proof; empty if nothing."""
    told: str
    """What it told, or what stopped it."""
    complaint: str
    """What did not work afterwards: an honest task, the worker."""
    excuse: str
    """In the control, why it may fail here; else what the documentation says of this level."""
    must: bool
    """Whether it uses what is granted, and so has to succeed."""
    seconds: float

    @property
    def is_finding(self) -> bool:
        """Whether something has to be done: an attack that gets out, or a control that proves nothing."""
        if self.must:
            return not self.gained or bool(self.complaint)
        if not self.level:
            return not self.gained and not self.excuse
        if self.level == "process" and self.category != "worker":
            return False  # nothing is promised but limits
        return bool(self.complaint) or (bool(self.gained) and not self.excuse)


def run(
    attempts: Collection[Attempt], runner: Runner, scene: Scene, *, person: str, level: str
) -> Iterator[Row]:
    """Try them, one after another."""
    runner.open(scene)
    try:
        for attempt in attempts:
            if not runner.can(attempt):
                continue
            yield _try(attempt, runner, scene, person=person, level=level)
    finally:
        runner.close()


def _try(attempt: Attempt, runner: Runner, scene: Scene, *, person: str, level: str) -> Row:
    begun = time.monotonic()
    runner.prepare(attempt)
    world = scene.world()
    scene.census.begin(world.token)
    told = runner.run(attempt, world)
    scene.census.end()
    gained = attempt.proof(scene, told.get("got")) if "broken" not in told else ""
    excuse = attempt.open_in.get(level, "") if level else attempt.needs
    scene.put_right()
    complaint = runner.check()
    if "broken" in told:
        complaint = f"it was not tried: {told['broken']}; {complaint}"
    return Row(
        attempt=attempt.name,
        category=attempt.category,
        person=person,
        runner=runner.name,
        level=level,
        gained=gained,
        told=_short(told),
        complaint=complaint,
        excuse=excuse,
        must=attempt.must,
        seconds=time.monotonic() - begun,
    )


def _short(told: dict[str, Any]) -> str:
    key, value = next(iter(told.items()))
    return ascii(f"{key}: {value}"[:160])[1:-1]
