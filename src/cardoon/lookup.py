"""Lookup: where a message lies, by its id. A hint of the store's, which nobody has signed."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable


class Place(enum.StrEnum):
    """Where a message can be. What lies in a queue counts before what is kept under its id."""

    READY = "ready"
    SCHEDULED = "scheduled"
    DORMANT = "dormant"
    """It waits for others to end."""
    LEASED = "leased"
    DEAD_LETTER = "dead"
    QUARANTINE = "quarantine"


@runtime_checkable
class Findable(Protocol):
    """A broker that can be asked for messages by id, at the cost of a look into an index."""

    def find(self, ids: Sequence[str]) -> Mapping[str, Place]:
        """Where each of these messages lies; those that are nowhere are left out."""
        ...
