"""The audit trail: what an investigator will ask about, one JSON object a line. Never arguments."""

from __future__ import annotations

import base64
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.exceptions import CardoonError, Refusal, SecurityError
from cardoon.transparency.handover import Certifier, begin_epoch
from cardoon.transparency.notes import SignedNote
from cardoon.transparency.trail import Keeping, Trail

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_USUAL = Keeping()

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
    """Appends records to a file that only its owner can read, and that nobody can change unseen.

    Several processes may share the file: they take turns (`transparency.trail`). A record that cannot be
    written is counted and logged, never raised: an audit trail on a full disk must not take the work down
    with it. How many were lost is the first thing on record when it can be written again.
    """

    def __init__(
        self, path: Path | None, *, clock: Clock, source: str, keeping: Keeping = _USUAL
    ) -> None:
        self._clock = clock
        self._source = source
        self._lock = threading.Lock()  # protects the trail and all counts
        self._followers: list[Callable[[Mapping[str, object]], None]] = []
        self.path = path
        self._required = keeping.required
        self._trail: Trail | None = None
        if path is not None:
            self._trail = Trail(path, keeping=keeping, compose=self._compose, now=clock.now)
        self._untold = 0
        self._own: list[Mapping[str, object]] = []
        self.lost = 0
        self.failure = ""
        """Why the last record was not written; empty if it was."""
        self.counts: Counter[str] = Counter()
        """Records by event since this began, also of those that could not be written."""
        _alive.add(self)

    def record(self, event: str, **fields: object) -> None:
        """Append one record."""
        self.record_all(event, (fields,))

    def record_all(self, event: str, each: Sequence[Mapping[str, object]]) -> None:
        """Append a record for each of these fields, in one piece: all of them are written, or none."""
        if not each:
            return
        if self._trail is None and not self._followers:
            with self._lock:
                self.counts[event] += len(each)
            return
        entries = self._make(event, each)
        with self._lock:
            self.counts[event] += len(each)
            trouble = None if self._trail is None else self._append(self._trail, entries)
            own, self._own = self._own, []
            self.counts.update(str(one["event"]) for one in own)
        if trouble is not None:
            logger.error("%s", trouble[0], exc_info=trouble[1])
        for one in own:
            logger.critical("audit log %s: %s, record %s", self.path, one["event"], one.get("seq"))
        for one in (*own, *entries):
            for follow in self._followers:
                follow(one)

    def follow(self, follower: Callable[[Mapping[str, object]], None]) -> None:
        """Hand each record from now on to `follower`, too, which neither waits nor raises."""
        self._followers.append(follower)

    @property
    def writable(self) -> bool:
        """Whether the last record was written."""
        return self._untold == 0

    @property
    def must_pause(self) -> bool:
        """Whether no task may be taken, since the log is required and cannot be written."""
        return self._required and self._untold > 0

    def retry(self) -> None:
        """Put on record how many records were lost, if that can be done again; else nothing is counted or logged."""
        with self._lock:
            if self._trail is None or not self._untold:
                return
            [entry] = self._make("audit.resumed", ({},))
            try:
                self._trail.append([entry], lost=self._untold)
            except (OSError, SecurityError) as error:
                self._own.clear()
                self.failure = str(error)
            else:
                self._untold, self.failure = 0, ""
                self._own.append(entry)

    @property
    def checkpoint_age(self) -> float | None:
        """Seconds since this process signed a checkpoint; None for one that has not."""
        note = self.last_note
        return None if note is None else max(0.0, self._clock.now() - note.note.time)

    @property
    def size(self) -> int:
        """Records of the log, as this process knows; 0 where none is written."""
        return self._trail.size if self._trail is not None else 0

    @property
    def opened_size(self) -> int:
        """Records of the log when this process first looked at it."""
        return (self._trail.opened_size or 0) if self._trail is not None else 0

    @property
    def last_note(self) -> SignedNote | None:
        """The newest checkpoint that this process made."""
        return self._trail.last_note if self._trail is not None else None

    def begin_epoch(self, certifier: Certifier | None) -> SignedNote | None:
        """Sign with a new key from now on; None where there is no file. What cannot be done is logged."""
        if self._trail is None:
            return None
        try:
            return begin_epoch(self._trail, certifier, turn=self._lock)
        except (OSError, CardoonError):
            with self._lock:
                self._own.clear()
            logger.exception("audit log: no new epoch")
            return None

    def checkpoint(self) -> SignedNote | None:
        """Sign what there is; None where nothing is new or nothing can be signed, which is logged."""
        note = self._try("no checkpoint", Trail.checkpoint)
        if note is not None:
            self._announce(note)
        return note

    def _announce(self, signed: SignedNote) -> None:
        """Hand a checkpoint to followers, which take it off this host. It is no record of the log itself."""
        note = signed.note
        told = {"log": note.origin, "size": note.size, "epoch": note.epoch}
        [entry] = self._make("audit.checkpoint", (told,))
        entry["note"] = base64.b64encode(signed.encode()).decode()
        for follow in self._followers:
            follow(entry)

    def close(self) -> None:
        """Sign what there is, and close the file; safe twice."""
        self._try("no checkpoint", Trail.close)

    def _try(self, what: str, act: Callable[[Trail], _T]) -> _T | None:
        if self._trail is None:
            return None
        with self._lock:
            try:
                return act(self._trail)
            except (OSError, CardoonError) as error:
                self._own.clear()
                trouble = error
        logger.error("audit log %s: %s", self.path, what, exc_info=trouble)
        return None

    def _append(
        self, trail: Trail, entries: Sequence[dict[str, object]]
    ) -> tuple[str, Exception] | None:
        """Write them; what is to be logged, once the lock is free: a handler may record something itself."""
        try:
            trail.append(entries, lost=self._untold)
        except (OSError, SecurityError) as error:
            self._own.clear()
            self.lost += len(entries)
            self._untold += len(entries)
            self.failure = str(error)
            lost = "audit record" if len(entries) == 1 else f"{len(entries)} audit records"
            return f"{lost} lost: {entries[0]['event']}", error
        self._untold, self.failure = 0, ""
        trouble, trail.trouble = trail.trouble, None
        return None if trouble is None else (f"audit log {self.path}: no checkpoint", trouble)

    def _make(self, event: str, each: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
        moment = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="microseconds")
        head = {"time": moment, "event": event, "source": self._source, "pid": os.getpid()}
        return [
            head | {name: _bounded(value) for name, value in one.items() if value is not None}
            for one in each
        ]

    def _compose(self, event: str, **fields: object) -> dict[str, object]:
        """A record of the trail's own, which followers are told of, too."""
        tree = fields.pop("tree", None)  # longer than what comes from outside may be
        [entry] = self._make(event, (fields,))
        if tree is not None:
            entry["tree"] = tree
        self._own.append(entry)
        return entry

    def after_fork_in_child(self) -> None:
        """Open the file anew: a lock that is shared with the parent keeps nobody out."""
        self._lock = threading.Lock()
        if self._trail is not None:
            self._trail.forget()


# Hooks cannot be taken back, so it is registered once, for whatever is alive when it runs.
_alive: weakref.WeakSet[AuditLog] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_alive):
        log.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def find_log(settings: Settings, directory: Path) -> Path:
    """Where the log is that settings name, or that belongs to a state directory."""
    told = settings.security_audit_log
    return Path(told).expanduser() if told else directory / "audit.jsonl"


def keeping_of(settings: Settings) -> Keeping:
    """How settings have logs kept."""
    return Keeping(
        records=settings.security_audit_checkpoint_records,
        seconds=settings.security_audit_checkpoint_seconds,
        max_bytes=settings.security_audit_max_bytes,
        max_age=settings.security_audit_rotate_after,
        files=settings.security_audit_keep,
        required=settings.security_audit_required,
    )


def _bounded(value: object) -> object:
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= MAX_FIELD_CHARACTERS else text[:MAX_FIELD_CHARACTERS] + "..."
