"""The app whose tasks try to escape: one task for each kind of profile, an honest one, and one that stays."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from cardoon import Cardoon
from cardoon.sandbox.profile import Sandbox
from escapes.catalogue import all_attempts
from escapes.matrix import run_act
from escapes.on_processes import take_name
from escapes.world import World

PROFILES_VARIABLE = "ESCAPES_PROFILES"
_PROFILES: dict[str, Any] = json.loads(os.environ.get(PROFILES_VARIABLE, "{}"))
_ATTEMPTS = {one.name: one for one in all_attempts()}

_PLAIN = Sandbox.from_mapping(_PROFILES.get("plain", {}))

app = Cardoon(
    "escapes",
    worker_sandbox=_PLAIN,
    # What takes its worker down is not tried again on the next one.
    task_acks_late=False,
    task_max_crashes=1,
)


def _make_task(kind: str, profile: dict[str, Any]) -> None:
    @app.task(name=f"escapes.{kind}", sandbox=Sandbox.from_mapping(profile))
    def attempt(name: str, world: dict[str, Any], *, before: bool = False) -> Any:
        """Try one thing, or do what an earlier task does."""
        found = _ATTEMPTS[name]
        act = found.before if before else found.act
        assert act is not None
        return run_act(act, World.from_mapping(world))


for _kind, _profile in _PROFILES.items():
    _make_task(_kind, _profile)


@app.task(name="escapes.honest", sandbox=_PLAIN)
def honest(number: int) -> int:
    """What everybody else does."""
    return number + 1


@app.task(name="escapes.stay", sandbox=_PLAIN)
def stay(name: str, secret: str, seconds: float) -> str:
    """Another task, which has a secret and is at work for a long time."""
    take_name(name)
    time.sleep(seconds)
    return secret


@app.task(name="escapes.later", sandbox=_PLAIN)
def later(secret: str) -> str:
    """Lies in the broker."""
    return secret
