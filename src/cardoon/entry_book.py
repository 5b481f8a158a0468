"""The book of entries that are kept in a store: read with everything verified, written if nobody else did.

Whoever can write the store can put anything there, so nothing counts that is not signed, by somebody whom the
policy lets schedule that task and send it where it would go.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from cardoon.audit import REFUSAL_EVENTS
from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.contents import Accepted
from cardoon.deployment import Deployment
from cardoon.entries import (
    ENTRY,
    ENTRY_PREFIX,
    MAX_REVISION,
    PAUSE,
    PAUSE_PREFIX,
    RECORDS,
    KeptEntry,
    Pause,
    read_entry,
    read_pause,
    with_arguments,
)
from cardoon.exceptions import (
    CardoonError,
    ImproperlyConfigured,
    Refusal,
    RefusedError,
    ScheduleError,
    SecurityError,
)
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON
from cardoon.records import MAX_FRAME_BYTES, Record, Recording
from cardoon.security.gate import Gate, Limits, VerifiedMessage
from cardoon.security.policy import Action, Request
from cardoon.security.signing import Draft
from cardoon.timetable import PeriodicTask

logger = logging.getLogger(__name__)

FindQueue: TypeAlias = Callable[[PeriodicTask], str]
"""Where the settings of the reader send an entry's task. May raise `CardoonError`."""
_JSON_ONLY = Accepted(frozenset({JSON}), frozenset())


class Refused(NamedTuple):
    """A record that does not count."""

    name: str
    """Of the entry, by the record's own name: nobody has signed it."""
    reason: str
    """A `Refusal`, or `hidden` where `beat_schedule` has an entry of the same name."""
    detail: str
    revision: int

    def describe(self) -> str:
        """Why, for people."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Page(NamedTuple):
    """What the book says at one moment."""

    entries: Mapping[str, KeptEntry]
    """By name; without those that were removed."""
    pauses: Mapping[str, Pause]
    """Of those that are paused, by name."""
    refused: Mapping[str, Refused]
    """By the names of the records."""
    revisions: Mapping[str, int]
    """As the store counts them, by the names of the records."""

    def is_paused(self, name: str, task: str) -> bool:
        """Whether the entry of this name and task is paused."""
        pause = self.pauses.get(name)
        return pause is not None and pause.task == task


class EntryBook:
    """The kept entries of one store, for one process. For one thread at a time.

    Remembers for as long as it lives how far each record had come, so that nobody can bring an earlier one back
    unnoticed; and which entries are paused, so that nobody can end that by taking the record away.
    """

    def __init__(self, deployment: Deployment, store: Recording, *, find_queue: FindQueue) -> None:
        self._deployment = deployment
        self._store = store
        self._find_queue = find_queue
        settings = deployment.settings
        self._gate = Gate(
            domain=settings.security_domain,
            trust=deployment.trust(),
            accept=_JSON_ONLY,
            clock=deployment.clock,
            skew=settings.security_clock_skew,
            limits=Limits(max_body=MAX_FRAME_BYTES),
            policy=deployment.policy(),
            unsealer=deployment.encrypting().unsealer,
        )
        self._signer = deployment.make_signer("auth")
        self._seen: dict[str, int] = {}
        self._paused: dict[str, Pause] = {}
        self._told: dict[str, bytes] = {}
        self.refusals = 0
        """Records that were refused, each counted once for a reason."""

    def read(self) -> Page:
        """Read and verify all records. What does not verify is skipped, audited and counted."""
        records = self._store.records(RECORDS)
        entries: dict[str, KeptEntry] = {}
        refused: dict[str, Refused] = {}
        for key, record in sorted(records.items()):
            try:
                if key.startswith(PAUSE_PREFIX):
                    self._keep_pause(key, record)
                elif (kept := self._open_entry(key, record)).entry is not None:
                    entries[kept.name] = kept
            except RefusedError as error:
                refused[key] = self._refuse(key, record, error)
        for key in self._told.keys() - refused.keys():
            del self._told[key]
        pauses = {name: one for name, one in self._paused.items() if one.paused}
        for name in pauses:
            key = PAUSE_PREFIX + name
            if key not in records:
                gone = RefusedError(Refusal.REPLAYED, "it was here, and nobody has ended the pause")
                refused[key] = self._refuse(key, Record(0, b""), gone)
        return Page(
            MappingProxyType(entries),
            MappingProxyType(pauses),
            MappingProxyType(refused),
            MappingProxyType({key: record.revision for key, record in records.items()}),
        )

    def write(self, page: Page, key: str, make: Callable[[int], Draft]) -> None:
        """Sign and store a record, if it is as `page` has it; `ScheduleError` if it is not any more.

        `make` is given the revision that it is to have. `SecurityError` for what no reader would take from us.
        """
        present = page.revisions.get(key, 0)
        if present >= MAX_REVISION:
            raise ScheduleError(
                f"schedule {_name(key)!r}: somebody has made its record one of revision {present}; delete the "
                "record from the store"
            )
        draft = make(present + 1)
        self._check_may_sign(draft)
        [signed] = self._signer.sign([draft])
        if len(signed.frame) > MAX_FRAME_BYTES:
            raise ScheduleError(
                f"schedule {_name(key)!r}: its record has {len(signed.frame)} bytes, and at most "
                f"{MAX_FRAME_BYTES} are kept; give its task less to carry"
            )
        if not self._store.put_record(RECORDS, key, signed.frame, revision=present):
            raise ScheduleError(
                f"schedule {_name(key)!r}: somebody else has changed it meanwhile; look at it again"
            )

    def drop(self, page: Page, key: str) -> None:
        """Delete a record that counts for nothing."""
        if not self._store.drop_record(RECORDS, key, revision=page.revisions[key]):
            raise ScheduleError(
                f"schedule {_name(key)!r}: somebody else has changed it meanwhile; look at it again"
            )
        self._paused.pop(_name(key), None)

    def check_may_send(self, entry: PeriodicTask, message: Request) -> None:
        """`RefusedError` unless who schedules an entry may send its task where it would go.

        Otherwise a beat, which may, would do it for him.
        """
        try:
            queue = self._find_queue(entry)
        except CardoonError as error:
            raise RefusedError(Refusal.BAD_CLAIMS, str(error)) from error
        ahead = entry.options.get("countdown") or 0.0
        request = message._replace(action=Action.SEND, queue=queue, ahead=float(ahead))
        self._deployment.policy().check(request)

    def _open_entry(self, key: str, record: Record) -> KeptEntry:
        if not key.startswith(ENTRY_PREFIX):
            raise RefusedError(Refusal.MALFORMED, "the name of no record that is known here")
        message = self._open(key, record, ENTRY)
        kept = read_entry(message, revision=record.revision)
        if kept.entry is not None:
            self.check_may_send(kept.entry, _request_of(message))
            settings = self._deployment.settings
            if settings.security_require_encryption and not kept.sealed:
                raise RefusedError(Refusal.NOT_ENCRYPTED, "security_require_encryption is set")
            try:
                kept = with_arguments(kept, self._gate.unseal(message))
            except RefusedError as error:
                if error.reason is not Refusal.UNKNOWN_KEY:
                    raise
                kept = replace(kept, unreadable=error.detail)
        self._seen[key] = record.revision
        return kept

    def _keep_pause(self, key: str, record: Record) -> None:
        pause = read_pause(self._open(key, record, PAUSE), revision=record.revision)
        self._seen[key] = record.revision
        self._paused[pause.name] = pause

    def _open(self, key: str, record: Record, what: str) -> VerifiedMessage:
        message = self._gate.open(
            record.frame, kind=Kind.BEAT, audience=frozenset({what}), id=_name(key)
        )
        if record.revision < self._seen.get(key, 0):
            raise RefusedError(
                Refusal.REPLAYED,
                f"revision {record.revision}, and {self._seen[key]} was here before",
            )
        return message

    def _check_may_sign(self, draft: Draft) -> None:
        """`SecurityError` if the policy lets nobody take it from us: better none than that."""
        identity = self._signer.identity
        request = Request(Action.SCHEDULE, identity, draft.task, "", len(draft.body))
        try:
            self._deployment.policy().check(request)
        except RefusedError as error:
            raise SecurityError(
                f"{error.detail}; have a rule of the policy allow the action 'schedule' for this task"
            ) from error

    def _refuse(self, key: str, record: Record, error: RefusedError) -> Refused:
        """Say it once, for as long as the record is the same."""
        mark = hashlib.sha256(record.frame + error.reason.encode()).digest()
        if self._told.get(key) != mark:
            self._told[key] = mark
            self.refusals += 1
            logger.warning("schedule %r: its record is refused: %s", _name(key), error)
            self._deployment.audit().record(
                REFUSAL_EVENTS[error.reason],
                kind="schedule",
                record=key,
                revision=record.revision,
                reason=error.reason.value,
                detail=error.detail,
            )
        return Refused(_name(key), error.reason.value, error.detail, record.revision)


def recording_of(broker: Broker, backend: ResultBackend | None) -> Recording:
    """Where records are kept: the broker or, if it keeps none, the result backend."""
    stores: tuple[object, ...] = (broker, backend)
    for store in stores:
        if isinstance(store, Recording):
            return store
    raise ImproperlyConfigured(
        "schedules: neither the broker nor the result backend keeps entries; use sqlite:///, redis:// or "
        "postgresql:// for one of them, or put the entries into beat_schedule"
    )


def _name(key: str) -> str:
    """The name of an entry, of which a record has this name."""
    for prefix in (ENTRY_PREFIX, PAUSE_PREFIX):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key


def _request_of(message: VerifiedMessage) -> Request:
    """Who schedules what, as a policy is asked."""
    claims = message.claims
    return Request(
        Action.SCHEDULE,
        message.signer,
        claims.task,
        "",
        claims.length,
        encrypted=claims.encryption is not None,
    )
