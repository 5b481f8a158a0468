"""The policy of a running process: a file that is read again when it changes."""

from __future__ import annotations

import enum
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from cardoon.clock import Clock
from cardoon.exceptions import SecurityError
from cardoon.security import files
from cardoon.security.origins import Parties
from cardoon.security.policy import Action, Request
from cardoon.security.policyfile import MAX_FILE_BYTES, parse_rules
from cardoon.security.rules import Rules
from cardoon.security.sessions import SessionMeter

POLL_SECONDS = 5.0
"""The longest for which a change goes unnoticed, as with certificates."""


class PolicyEvent(enum.StrEnum):
    """What an operator should hear of the file."""

    RELOADED = "reloaded"
    """It has changed, and what it says holds from now on."""
    RELOAD_REFUSED = "reload_refused"
    """It has changed to something that cannot be read; what it said before still holds."""


OnEvent: TypeAlias = Callable[[PolicyEvent, str], None]
_Stamp: TypeAlias = tuple[int, int, int]


class FilePolicy:
    """Decides by a policy file. Safe from several threads.

    `SecurityError` if the file cannot be read at the start, or if others may write it; once it has been
    read, a broken one is reported and the last good one holds.
    """

    def __init__(
        self, path: Path, *, clock: Clock, on_event: OnEvent, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._path = path
        self._clock = clock
        self._on_event = on_event
        self._poll_seconds = poll_seconds
        self._next_look = clock.monotonic() + poll_seconds
        self._stamp = _look(path)
        self._rules = load_rules(path)
        self._sessions = SessionMeter(clock=clock)

    @property
    def rules(self) -> Rules:
        """What the file says, as it was read last."""
        return self._rules

    def check(self, request: Request) -> Parties:
        """Raise `RefusedError(DENIED)` unless the file allows the request; return on whose behalf it is."""
        if self._clock.monotonic() >= self._next_look:
            self._read_again()
        rules = self._rules
        origin = rules.check(request)
        if rules.session_limits and request.action is Action.SEND:
            limit = rules.session_limit_of(request.signer)
            if limit is not None:
                who = b"" if request.signer is None else request.signer.fingerprint
                self._sessions.check(who, request.session, limit)
        return origin

    def _read_again(self) -> None:
        self._next_look = self._clock.monotonic() + self._poll_seconds
        stamp = _look(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        before = self._rules
        try:
            self._rules = load_rules(self._path)
        except SecurityError as error:
            self._on_event(PolicyEvent.RELOAD_REFUSED, str(error))
            return
        told = f"{len(self._rules.rules)} rules"
        if self._rules.sandboxes != before.sandboxes:
            told += (
                "; its [[sandbox]] have changed: restart the workers, or tasks keep the old ones"
            )
        self._on_event(PolicyEvent.RELOADED, told)


def load_rules(path: Path) -> Rules:
    """Read a policy file that only its owner or root can write."""
    content = files.load_guarded(path, max_bytes=MAX_FILE_BYTES)
    return parse_rules(content, source=str(path))


def _look(path: Path) -> _Stamp | None:
    """What changes when the file does; None where there is none to see."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino, status.st_size)
