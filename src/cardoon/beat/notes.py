"""Notes of how far each entry was sent: signed, and kept in the broker's or result backend's store.

Whoever can write the store can delete a note or put back an older one. Then ticks are sent once more, of which
workers carry out none twice, or an entry begins anew. He cannot make a beat skip what is to come: that takes a
note from the future, or one that somebody has signed who may schedule the task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cardoon.audit import AuditLog
from cardoon.beat.ticks import microseconds, moment_of
from cardoon.clock import Clock
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError
from cardoon.message.protocol import MAX_MILLISECONDS, Kind
from cardoon.message.serializers import JSON, decode_body, encode_body
from cardoon.records import Record, Recording
from cardoon.security.gate import Gate, VerifiedMessage
from cardoon.security.signing import Draft, Signer

logger = logging.getLogger(__name__)

KIND = "tick"
"""Of these records."""
AUDIENCE = "beat"
_MAX_BYTES = 4096
"""Of a note's body; ours have some 40."""


class Note(NamedTuple):
    """How far an entry was sent."""

    last: datetime
    task: str
    """What its signer may schedule, by the policy."""
    signer: bytes
    """The fingerprint of who has signed it; empty for nobody."""


class _Seen(NamedTuple):
    record: Record
    note: Note | None
    """None for one that is not believed."""


def find_recording(*stores: object) -> Recording:
    """The first of these stores that can keep notes; `ImproperlyConfigured` if none can."""
    for store in stores:
        if isinstance(store, Recording):
            return store
    raise ImproperlyConfigured(
        "beat: neither the broker nor the result backend can keep how far entries were sent; use sqlite:///, "
        "redis:// or postgresql:// for one of them"
    )


class Notes:
    """The notes as they were read last. For one thread at a time."""

    def __init__(
        self, recording: Recording, *, signer: Signer, gate: Gate, audit: AuditLog, clock: Clock
    ) -> None:
        self._recording = recording
        self._signer = signer
        self._gate = gate
        self._audit = audit
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self.refused = 0
        """How many were not believed."""

    def read(self) -> None:
        """Look at all of them; each is verified once."""
        found: Mapping[str, Record] = self._recording.records(KIND)
        seen: dict[str, _Seen] = {}
        for name, record in found.items():
            before = self._seen.get(name)
            if before is None or before.record != record:
                before = _Seen(record, self._open(name, record))
            seen[name] = before
        self._seen = seen

    def find(self, name: str, task: str) -> Note | None:
        """How far the entry of a note was sent, as it was read last; None if nobody says so."""
        seen = self._seen.get(name)
        note = None if seen is None else seen.note
        # Who may schedule one task must not say how far another one was sent.
        return note if note is not None and note.task == task else None

    def write(self, name: str, task: str, last: datetime) -> bool:
        """Note it, unless somebody has written since it was read; whether it was noted."""
        before = self._seen.get(name)
        revision = 0 if before is None else before.record.revision
        draft = Draft(
            kind=Kind.BEAT,
            task=task,
            id=name,
            audience=(AUDIENCE,),
            codec=JSON,
            body=encode_body({"last": microseconds(last)}, JSON),
        )
        [signed] = self._signer.sign([draft])
        if not self._recording.put_record(KIND, name, signed.frame, revision=revision):
            return False
        note = Note(last, task, self.signer)
        self._seen[name] = _Seen(Record(revision + 1, signed.frame), note)
        return True

    @property
    def signer(self) -> bytes:
        """Our own fingerprint."""
        identity = self._signer.identity
        return b"" if identity is None else identity.fingerprint

    def forget(self, name: str) -> None:
        """Delete a note that nobody has written since it was read."""
        seen = self._seen.pop(name, None)
        if seen is not None:
            self._recording.drop_record(KIND, name, revision=seen.record.revision)

    def older_than(self, moment: datetime) -> list[str]:
        """The notes of what was not sent since then."""
        return [
            name
            for name, (_, note) in self._seen.items()
            if note is not None and note.last < moment
        ]

    def _open(self, name: str, record: Record) -> Note | None:
        try:
            # When it was signed says nothing: of an entry that is due once a year it may be long ago.
            message = self._gate.open(
                record.frame,
                kind=Kind.BEAT,
                audience=frozenset({AUDIENCE}),
                id=name,
                at_any_age=True,
            )
            last = _read(message, latest=self._clock.now() + self._gate.skew)
        except RefusedError as error:
            self.refused += 1
            logger.warning("beat: note %s is not believed: %s", name, error)
            self._audit.record(
                "beat.note_refused", note=name, reason=error.reason.value, detail=error.detail
            )
            return None
        signer = message.signer
        return Note(last, message.claims.task, b"" if signer is None else signer.fingerprint)


def _read(message: VerifiedMessage, *, latest: float) -> datetime:
    """What a verified note says; whoever has signed it may have written anything.

    Nobody sends what is not due yet, so a note that says so would keep beats from sending what is to come.
    """
    told: Any = decode_body(message.claims.codec, message.body, max_bytes=_MAX_BYTES)
    last = told.get("last") if isinstance(told, dict) else None
    if (
        isinstance(last, int)
        and not isinstance(last, bool)
        and 0 <= last <= MAX_MILLISECONDS * 1000
    ):
        found = moment_of(last)
        if found.timestamp() > latest:
            raise RefusedError(Refusal.ISSUED_IN_FUTURE, f"sent at {found.isoformat()}")
        return found
    raise RefusedError(Refusal.BAD_CLAIMS, "a note that does not say how far its entry was sent")
