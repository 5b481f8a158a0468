"""Where a beat's entries come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cardoon.timetable import PeriodicTask, Timetable


class EntrySource(Protocol):
    """Entries by name. Asked by one thread, about once a second; it must not block for long."""

    def entries(self) -> Mapping[str, PeriodicTask]:
        """All of them, at this moment."""
        ...

    def revision(self) -> object:
        """Equal to what it was as long as the entries are the same; cheap."""
        ...


class TimetableSource:
    """The entries of the setting `beat_schedule`, as it stands."""

    def __init__(self, find: Callable[[], Timetable]) -> None:
        self._find = find

    def entries(self) -> Mapping[str, PeriodicTask]:
        """All of them, at this moment."""
        return self._find()

    def revision(self) -> object:
        """The timetable itself, which never changes."""
        return id(self._find())


def gather(sources: Sequence[EntrySource]) -> dict[str, PeriodicTask]:
    """The entries of all sources. Of one name that several have, the last one's."""
    found: dict[str, PeriodicTask] = {}
    for source in sources:
        found.update(source.entries())
    return found
