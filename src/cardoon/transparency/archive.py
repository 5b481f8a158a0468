"""Where the testimonies of all logs lie: as records of the store that the project's processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cardoon.records import Record, Recording
from cardoon.transparency.testimony import Testimony, name_of, parse_testimony
from cardoon.transparency.verifying import Witness

KIND = "audit"
"""Of these records: one for each log."""
DISPUTED = "audit.disputed"
"""Of testimonies that a log has contradicted."""
MAX_LOGS = 500
"""Logs that are testified to; beyond, the ones that have stood still for longest are dropped."""
MAX_DISPUTED = 100


class Archive:
    """The testimonies in a store. Whoever writes the store can take them away or put older ones back; not make any up."""

    def __init__(self, store: Recording, witness: Witness) -> None:
        self._store = store
        self._witness = witness

    def read(self) -> Mapping[str, Record]:
        """All that lie there, by `name_of` their logs, unread; of too many, `MAX_LOGS`."""
        found = self._store.records(KIND)
        return dict(list(found.items())[: 2 * MAX_LOGS])

    def open(self, name: str, frame: bytes) -> Testimony:
        """The testimony that lies under a name; `ValueError` saying why for one that is not believed.

        `ForkError` for one that a log's owner has signed, and that contradicts itself.
        """
        testimony = parse_testimony(frame)
        if name_of(testimony.origin) != name:
            raise ValueError(f"a testimony of {testimony.origin}, under another name")
        testimony.check(self._witness)
        return testimony

    def put(self, testimony: Testimony, *, revision: int) -> bool:
        """Write a testimony over the one of this revision; False if somebody was faster."""
        name = name_of(testimony.origin)
        return self._store.put_record(KIND, name, testimony.encode(), revision=revision)

    def drop_oldest(self, records: Mapping[str, Record]) -> None:
        """Keep no more than there may be."""
        surplus = len(records) - MAX_LOGS
        if surplus > 0:
            for name in sorted(records, key=lambda one: _time_of(records[one].frame))[:surplus]:
                self._store.drop_record(KIND, name, revision=records[name].revision)

    def dispute(self, testimony: Testimony) -> bool:
        """Keep a testimony that its log has contradicted; False if there are too many already."""
        kept = self._store.records(DISPUTED)
        name = f"{name_of(testimony.origin)}-{testimony.size}"
        if name in kept:
            return True
        if len(kept) >= MAX_DISPUTED:
            return False
        return self._store.put_record(DISPUTED, name, testimony.encode(), revision=0)

    def about(self, origin: str, refused: Callable[[ValueError], None]) -> Iterator[Testimony]:
        """All testimonies of one log, the disputed ones included; `refused` is told of those that are not believed."""
        name = name_of(origin)
        frames = [one.frame for key, one in self._store.records(KIND).items() if key == name]
        for key, one in self._store.records(DISPUTED).items():
            if key.partition("-")[0] == name:
                frames.append(one.frame)
        for frame in frames:
            try:
                yield self.open(name, frame)
            except ValueError as error:
                refused(error)


def _time_of(frame: bytes) -> int:
    try:
        return parse_testimony(frame).newest.note.time
    except ValueError:
        return 0
