"""The diary: what the canaries did, one line of JSON for each, in a file that all task processes append to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

PATH_VARIABLE = "ATTACKS_DIARY"


def write(task: str, task_id: str, token: str, value: Any) -> None:
    """Add a line to the diary that the environment names, in one write."""
    line = json.dumps([task, task_id, token, value]).encode() + b"\n"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    descriptor = os.open(os.environ[PATH_VARIABLE], flags, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class Entry(NamedTuple):
    """That a task ran."""

    task: str
    id: str
    token: str
    value: Any


class Diary:
    """Reads a diary while others write it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.entries: list[Entry] = []

    def read(self) -> list[Entry]:
        """All that was written so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            self.entries += [Entry(*json.loads(line)) for line in whole.splitlines()]
        return self.entries
