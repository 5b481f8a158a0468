"""What an attempt is told of its surroundings: names, never secrets, as an attacker may have found them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where things are."""

    token: str
    """What it writes, sends, or is called, so that its traces can be told from all others; 11 letters."""
    paths: Mapping[str, str]
    pids: Mapping[str, int]
    ports: Mapping[str, int]
    """On 127.0.0.1."""
    limits: Mapping[str, int]
    """What its profile says, so that it knows how far to go."""

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """As `to_mapping` wrote it."""
        return cls(**found)

    def to_mapping(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)
