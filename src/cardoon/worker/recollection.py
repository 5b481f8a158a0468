"""What workers of this host have seen of a replay store, in a file that outlives them.

A store that is set back or emptied while no worker runs is noticed by the next one that starts. The file only tells;
nothing is refused for what it says, and without it a worker knows what it has seen itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security.files import load_guarded
from cardoon.security.replay import Memory

logger = logging.getLogger(__name__)

WRITE_SECONDS = 10.0
"""Between two writes, while nothing but the number changes: what a killed worker may not have noted."""
_MAX_BYTES = 256


def recollection_file(state_directory: Path, store_url: str) -> Path | None:
    """Where it lies for a store; None for one that ends with its process."""
    parts = urlsplit(store_url)
    if parts.scheme == "memory":
        return None
    # Never the user's name and password: a digest of these could be guessed at.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return state_directory / f"replay-{hashlib.sha256(place.encode()).hexdigest()[:8]}.seen"


class Recollection:
    """The last memory of a store that was noted. For one thread; a full disk only ends it."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._noted: Memory | None = None
        self._due = -math.inf
        self._fails = False

    def read(self) -> Memory | None:
        """What was noted last, by any worker of this host; None where nothing was, or it cannot be read."""
        try:
            self._noted = _parse(load_guarded(self._path, max_bytes=_MAX_BYTES))
        except (SecurityError, ValueError) as error:
            if os.path.lexists(self._path):
                logger.warning("what was seen of the replay store is not known: %s", error)
        return self._noted

    def note(self, memory: Memory, *, at_once: bool = False) -> None:
        """Note what a store says now: if it is another epoch, or `at_once`, or some seconds after the last."""
        if memory == self._noted:
            return
        epoch_stays = self._noted is not None and self._noted.since == memory.since
        if epoch_stays and not at_once and self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + WRITE_SECONDS
        try:
            self._write(memory)
        except OSError as error:
            if not self._fails:
                logger.warning("%s: cannot be written: %s", self._path, error.strerror)
            self._fails = True
        else:
            self._noted, self._fails = memory, False

    def _write(self, memory: Memory) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not flushed to the disk: after a power failure an older one only notices less.
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".replay-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps({"since": memory.since, "number": memory.number}).encode())
            Path(temporary).replace(self._path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def _parse(content: bytes) -> Memory:
    """`ValueError` for what no worker has written."""
    match json.loads(content):
        case {"since": int() | float() as since, "number": int() as number}:
            return Memory(float(since), number)
        case _:
            raise ValueError("the file does not say what workers write there; remove it")
