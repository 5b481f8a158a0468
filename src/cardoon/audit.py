"""The audit trail: what an investigator will ask about, one JSON object a line. Never arguments."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cardoon.clock import Clock
from cardoon.exceptions import Refusal, SecurityError

logger = logging.getLogger(__name__)

MAX_FIELD_CHARACTERS = 512
"""Of any field: names in messages come from outside."""

REFUSAL_EVENTS: Mapping[Refusal, str] = {
    Refusal.TOO_LARGE: "message.too_large",
    Refusal.MALFORMED: "message.malformed",
    Refusal.UNSIGNED: "message.unsigned",
    Refusal.NOT_ACCEPTED: "message.not_accepted",
    Refusal.UNKNOWN_SIGNER: "message.signer_unknown",
    Refusal.CERTIFICATE_NOT_YET_VALID: "cert.not_yet_valid",
    Refusal.CERTIFICATE_EXPIRED: "cert.expired",
    Refusal.REVOKED: "cert.revoked",
    Refusal.BAD_SIGNATURE: "message.signature_invalid",
    Refusal.BAD_CLAIMS: "message.malformed",
    Refusal.WRONG_KIND: "message.wrong_kind",
    Refusal.ISSUED_IN_FUTURE: "message.not_yet_valid",
    Refusal.EXPIRED: "message.expired",
    Refusal.WRONG_AUDIENCE: "message.wrong_audience",
    Refusal.WRONG_LENGTH: "message.body_changed",
    Refusal.WRONG_DIGEST: "message.body_changed",
    Refusal.CODEC_NOT_ACCEPTED: "message.unsafe_serializer",
    Refusal.DENIED: "task.unauthorized",
    Refusal.NOT_ENCRYPTED: "message.not_encrypted",
    Refusal.TOO_MANY_SESSIONS: "message.too_many_sessions",
    Refusal.REPLAYED: "message.replay",
    Refusal.BEFORE_EPOCH: "message.before_epoch",
    Refusal.UNKNOWN_KEY: "message.key_unknown",
    Refusal.UNDECRYPTABLE: "message.undecryptable",
    Refusal.UNDECODABLE: "message.malformed",
    Refusal.BOMB: "message.too_large",
    Refusal.WRONG_REQUEST: "message.wrong_request",
    Refusal.WRONG_INPUT: "message.wrong_input",
    Refusal.WRONG_ID: "message.wrong_id",
}
"""Stable names, by which alarms are set."""


class AuditLog:
    """Appends records to a file that only its owner can read.

    One `write` a record on a descriptor opened for appending, so that several processes may share the
    file. A record that cannot be written is counted and logged, never raised: an audit trail on a full
    disk must not take the work down with it.
    """

    def __init__(self, path: Path | None, *, clock: Clock, source: str) -> None:
        self._path = path
        self._clock = clock
        self._source = source
        self._descriptor: int | None = None
        self._lock = threading.Lock()  # protects the descriptor and the counts
        self._followers: list[Callable[[Mapping[str, object]], None]] = []
        self.lost = 0
        self.counts: Counter[str] = Counter()
        """Records by event since this began, also of those that could not be written."""

    def record(self, event: str, **fields: object) -> None:
        """Append one record."""
        with self._lock:
            self.counts[event] += 1
        if self._path is None and not self._followers:
            return
        moment = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="microseconds")
        entry = {"time": moment, "event": event, "source": self._source, "pid": os.getpid()}
        entry.update({name: _bounded(value) for name, value in fields.items() if value is not None})
        if self._path is not None:
            self._append(entry)
        for follow in self._followers:
            follow(entry)

    def follow(self, follower: Callable[[Mapping[str, object]], None]) -> None:
        """Hand each record from now on to `follower`, too, which neither waits nor raises."""
        self._followers.append(follower)

    def close(self) -> None:
        """Close the file; safe twice."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _append(self, entry: Mapping[str, object]) -> None:
        line = json.dumps(entry, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            os.write(self._open(), line)
        except (OSError, SecurityError):
            self.lost += 1
            logger.exception("audit record lost: %s", entry["event"])

    def _open(self) -> int:
        with self._lock:
            if self._descriptor is None:
                assert self._path is not None
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(self._path, flags, 0o600)
                if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o022:
                    os.close(descriptor)
                    raise SecurityError(
                        f"audit log {self._path} is writable by others; chmod 600 it"
                    )
                self._descriptor = descriptor
            return self._descriptor


def _bounded(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= MAX_FIELD_CHARACTERS else text[:MAX_FIELD_CHARACTERS] + "..."
