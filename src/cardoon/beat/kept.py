"""Entries that were added while everything runs, as a source for a beat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from cardoon.clock import Clock
from cardoon.entry_book import EntryBook
from cardoon.exceptions import CardoonError
from cardoon.timetable import PeriodicTask, Timetable

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""The longest for which a change goes unnoticed, as with policies and certificates."""


class KeptSource:
    """The kept entries, and those of the settings that are paused in the store; see `EntrySource`.

    Every `poll_seconds` all records are read and verified anew, so that whom one does not trust any more, or who may
    not send a task any more, is noticed. Where the store does not answer, what was known goes on. An entry whose
    arguments cannot be read here is left out, and said so.
    """

    def __init__(
        self,
        book: EntryBook,
        find_static: Callable[[], Timetable],
        *,
        clock: Clock,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._book = book
        self._find_static = find_static
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._due = float("-inf")
        self._entries: Mapping[str, PeriodicTask] = {}
        self._revision = 0
        self._unreadable: frozenset[str] = frozenset()

    def entries(self) -> Mapping[str, PeriodicTask]:
        """All that are to be sent, at this moment."""
        self._look()
        return self._entries

    def revision(self) -> object:
        """Another one as soon as an entry has changed."""
        self._look()
        return self._revision

    @property
    def refusals(self) -> int:
        """Records that were refused."""
        return self._book.refusals

    def _look(self) -> None:
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + self._poll_seconds
        try:
            found = self._read()
        except CardoonError as error:
            logger.warning("the kept entries cannot be read; those of before go on: %s", error)
            return
        if found != self._entries:
            self._entries = found
            self._revision += 1

    def _read(self) -> dict[str, PeriodicTask]:
        page, static = self._book.read(), self._find_static()
        found = {
            name: replace(entry, paused=True)
            for name, entry in static.items()
            if page.is_paused(name, entry.task)
        }
        unreadable = set()
        for name, kept in page.entries.items():
            if name in static or kept.entry is None:
                continue
            if kept.unreadable:
                unreadable.add(name)
            else:
                found[name] = replace(kept.entry, paused=page.is_paused(name, kept.task))
        for name in sorted(unreadable - self._unreadable):
            logger.error(
                "schedule %r: its arguments are sealed to keys that are not here, so it is not sent; give beats the "
                "private keys of the workers' keyset",
                name,
            )
        self._unreadable = frozenset(unreadable)
        return found
