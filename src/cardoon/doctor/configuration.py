"""Checks of settings that undo others, or that nobody reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from cardoon.config import ENVIRONMENT_PREFIX, OPTIONS, ROLE_VARIABLE
from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import Scene

_SHARED_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # to find fault with
_OTHER_VARIABLES = frozenset({ROLE_VARIABLE, "CARDOON_TEST_THOROUGH"})


@check(
    "CFG-02",
    Severity.LOW,
    "variables that nobody reads",
    looks_at="CARDOON_ in the environment",
    remedy="correct the name; docs/configuration.md has all of them",
)
def unknown(scene: Scene) -> Iterator[str]:
    """A mistyped security setting is one that is off."""
    for name in sorted(scene.environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _OTHER_VARIABLES:
            continue
        setting = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        close = difflib.get_close_matches(setting, OPTIONS, n=1, cutoff=0.85)
        if setting not in OPTIONS and close:
            yield f"{name} is no setting; did you mean {ENVIRONMENT_PREFIX}{close[0].upper()}?"


@check(
    "CFG-03",
    Severity.HIGH,
    "tasks that run where they are called",
    looks_at="task_always_eager",
    remedy="task_always_eager = False, but in tests",
)
def eager(scene: Scene) -> Iterator[str]:
    """No policy, no sandbox, no signature: it is a plain call in the client."""
    if scene.settings.task_always_eager:
        yield "task_always_eager is on"


@check(
    "CFG-04",
    Severity.HIGH,
    "the place of the state directory",
    looks_at="state_directory",
    remedy="state_directory = /var/lib/cardoon",
)
def place(scene: Scene) -> Iterator[str]:
    """In a folder that all write, somebody else may have made it first."""
    path = str(scene.state_directory)
    for folder in _SHARED_FOLDERS:
        if path.startswith(f"{folder}/") and path.count("/") == folder.count("/") + 1:
            yield f"state_directory={path} lies in a folder that all write"


@check(
    "CFG-05",
    Severity.MEDIUM,
    "where deletion is allowed",
    looks_at="unsafe_allow_eviction",
    remedy="unsafe_allow_eviction = False; CONFIG SET maxmemory-policy noeviction on the server",
)
def eviction(scene: Scene) -> Iterator[str]:
    """A full server forgets which messages have run, and they can run again."""
    if scene.settings.unsafe_allow_eviction:
        yield "unsafe_allow_eviction is on"


@check(
    "CFG-06",
    Severity.LOW,
    "crashes that one message may cause",
    looks_at="task_max_crashes",
    remedy="task_max_crashes = 3",
)
def crashes(scene: Scene) -> Iterator[str]:
    """A message that kills what runs it is tried as often as that."""
    if scene.settings.task_max_crashes > 10:
        yield f"task_max_crashes={scene.settings.task_max_crashes}"


@check(
    "CFG-07",
    Severity.HIGH,
    "waivers that count for nothing",
    looks_at="waivers.json of the state directory, and its signatures",
    remedy="give them again with --skip, by somebody who is trusted; look who has changed the file",
)
def waivers(scene: Scene) -> Iterator[str]:
    """Somebody may have tried to hide a finding."""
    yield from scene.complaints


CHECKS = (unknown, eager, place, eviction, crashes, waivers)
