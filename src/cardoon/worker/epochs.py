"""Since when the replay store remembers: kept in mind, so that a store that was emptied or set back is noticed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from cardoon.audit import AuditLog
from cardoon.broker import Broker
from cardoon.exceptions import ImproperlyConfigured, Refusal, RefusedError
from cardoon.security.replay import Memory, ReplayGuard
from cardoon.worker.held import Held
from cardoon.worker.recollection import Recollection

logger = logging.getLogger(__name__)


def guard_of(broker: Broker) -> ReplayGuard:
    """The broker as what remembers; `ImproperlyConfigured` where it cannot."""
    if not isinstance(broker, ReplayGuard):
        raise ImproperlyConfigured("this broker cannot remember what was carried out before")
    return broker


def forgotten(held: Held) -> RefusedError:
    """Why a message is refused that may have run before. Nobody is told: he may have a true result."""
    if held.denied is not None:
        return RefusedError(Refusal.DENIED, held.denied)
    return RefusedError(
        Refusal.BEFORE_EPOCH,
        "the replay store began to remember after it was signed, so it may have run before",
    )


class EpochWatch:
    """Looks at a store's memory again and again, and tells of what ought never to happen to it."""

    def __init__(
        self, guard: ReplayGuard, *, audit: AuditLog, recollection: Recollection | None = None
    ) -> None:
        self._guard = guard
        self._audit = audit
        self._recollection = recollection
        self._seen: Memory | None = None
        self._has_looked = False

    def look(self) -> None:
        """Compare with the last look, of this worker or of one before it; begins the epoch of a store that has none."""
        memory = self._guard.memory()
        if not self._has_looked:
            self._has_looked = True
            self._record("replay.epoch", memory)
            self._seen = None if self._recollection is None else self._recollection.read()
        seen, self._seen = self._seen, memory
        self._compare(memory, memory if seen is None else seen)
        if self._recollection is not None:
            self._recollection.note(memory)

    def _compare(self, memory: Memory, seen: Memory) -> None:
        if memory.since != seen.since:
            logger.critical(
                "replay store: what was carried out before %s is no longer known, as if it had been emptied; "
                "messages that were signed before go to the quarantine",
                _moment(memory.since),
            )
            self._record("replay.epoch_changed", memory, before=_moment(seen.since))
        elif memory.number < seen.number:
            logger.critical(
                "replay store: it was set back from message %d to %d, as by a backup or a failover that lost "
                "writes; what was carried out in between may be carried out again. `cardoon replay renew` "
                "has all that was signed before now looked at first",
                seen.number,
                memory.number,
            )
            self._record("replay.set_back", memory, before=seen.number)

    def end(self) -> None:
        """Note what was seen last, for the next worker of this host."""
        if self._recollection is not None and self._seen is not None:
            self._recollection.note(self._seen, at_once=True)

    def _record(self, event: str, memory: Memory, *, before: object = None) -> None:
        since, number = _moment(memory.since), memory.number
        self._audit.record(event, since=since, number=number, before=before)


def _moment(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # whoever can write the store has said so
        return repr(seconds)
