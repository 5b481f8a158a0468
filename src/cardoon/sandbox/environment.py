"""The environment of a task: the variables that its profile names, and nothing of the others."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from cardoon.sandbox.kernel import ConfinementError

LAYER = "environment"

_ENV_START, _ENV_END = 49, 50
"""Fields of /proc/PID/stat, from 0, where the first strings of the environment lie: proc_pid_stat(5)."""
_MAX_BYTES = 8 << 20
"""More than any kernel gives to an environment."""


def keep_variables(names: Iterable[str]) -> None:
    """Forget every variable but these, also where /proc/self/environ shows what the process began with.

    Copies that code has made of their values stay where they are. `ConfinementError` if it cannot be done.
    """
    kept = {name: os.environ[name] for name in names if name in os.environ}
    start, end = _find_block()
    os.environ.clear()
    # setenv(3) copies; afterwards nothing points to the first strings any more.
    os.environ.update(kept)
    if start:
        ctypes.memset(start, 0, end - start)


def _find_block() -> tuple[int, int]:
    """Where the first strings lie; (0, 0) in a process that has none."""
    try:
        # The name of the program may hold spaces and brackets; fields count from behind it.
        fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        start, end = int(fields[_ENV_START - 2]), int(fields[_ENV_END - 2])
    except (OSError, ValueError, IndexError) as error:
        raise ConfinementError(LAYER, "/proc/self/stat cannot be read") from error
    if not 0 <= end - start <= _MAX_BYTES:
        raise ConfinementError(LAYER, f"/proc/self/stat: {start}..{end} is no environment")
    return start, end
