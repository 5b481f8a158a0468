"""Where a worker stands with its baseline: which one counts, and what became of the last check of all files."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Result(enum.StrEnum):
    """How a check ended."""

    UNCHECKED = "unchecked"
    """None has ended yet."""
    OK = "ok"
    DRIFT = "drift"
    INVALID = "invalid"
    """No baseline counts, or the check itself failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a worker knows. Replaced as a whole, so that whoever reads it sees one check."""

    serial: int = 0
    """Of the baseline that counted last; 0 for none yet."""
    digest: str = ""
    """SHA-256 of that baseline in hexadecimal digits, as `cardoon integrity show` tells it; empty for none yet."""
    checked_at: float = 0.0
    """When the last full check ended, in seconds since the epoch; 0 for none yet."""
    result: Result = Result.UNCHECKED
    """Of the last full check, or what an incremental one has found since; only a full one makes it `ok` again."""
    findings: int = 0
    """How many, then."""

    def to_event(self) -> dict[str, Any]:
        """The fields of a heartbeat."""
        return {
            "baseline_serial": self.serial,
            "baseline_digest": self.digest,
            "integrity_checked_at": self.checked_at,
            "integrity_result": self.result.value,
            "integrity_findings": self.findings,
        }

    def to_stats(self) -> dict[str, Any]:
        """What `inspect stats` tells."""
        return {
            "serial": self.serial,
            "digest": self.digest,
            "checked_at": self.checked_at,
            "result": self.result.value,
            "findings": self.findings,
        }
