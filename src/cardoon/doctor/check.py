"""A check: one question to a deployment, with its severity, and what mends what it finds."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cardoon.doctor.scene import Scene

Question = Callable[[Scene], Iterable[str]]
"""Tells the evidence for each fault it sees, and nothing where there is none.

Raises `NotApplicableError` where the question makes no sense, `UncheckedError` where there is no answer.
"""

GROUPS: Mapping[str, str] = {
    "BRK": "broker",
    "RED": "broker",
    "RMQ": "broker",
    "PG": "broker",
    "MSG": "messages",
    "KEY": "keys",
    "COD": "code",
    "PRC": "process",
    "NET": "network",
    "LOG": "logs",
    "CTL": "control",
    "CFG": "settings",
}
"""By what an id begins with."""


class Severity(enum.IntEnum):
    """How much an intruder gains by a fault."""

    INFO = 0
    """Worth knowing; counts for nothing."""
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def text(self) -> str:
        """As people write it."""
        return self.name.lower()

    @classmethod
    def parse(cls, text: str) -> Severity:
        """The severity that `text` names; `KeyError` for none."""
        return cls[text.upper()]


class State(enum.StrEnum):
    """What came of a check."""

    OK = "ok"
    FINDING = "finding"
    WAIVED = "waived"
    """A finding that somebody has taken upon himself, until a date."""
    NOT_APPLICABLE = "not-applicable"
    UNCHECKED = "unchecked"
    """It could not be found out, so it is not known to be well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question. Its id never changes, and is never used again for another one."""

    id: str
    severity: Severity
    title: str
    """The matter, in a few words."""
    looks_at: str
    remedy: str
    """The commands or settings that mend it."""
    ask: Question
    deploy: bool = False
    """Whether it is asked of hosts that serve (`--deploy`), and not where somebody develops."""

    @property
    def group(self) -> str:
        """The group that it can be run with."""
        return GROUPS[self.id.partition("-")[0]]

    @property
    def anchor(self) -> str:
        """Where the documentation explains it."""
        return f"docs/doctor.md#{self.id.lower()}"


class Verdict(NamedTuple):
    """What a check has found."""

    check: Check
    state: State
    evidence: tuple[str, ...] = ()
    """What was seen; of what is unchecked or not applicable, why."""

    @property
    def is_open(self) -> bool:
        """Whether it is a fault that nobody has waived."""
        return self.state is State.FINDING


def check(
    id: str,
    severity: Severity,
    title: str,
    *,
    looks_at: str,
    remedy: str,
    deploy: bool = False,
) -> Callable[[Question], Check]:
    """Make a check of the function that asks."""

    def made(ask: Question) -> Check:
        return Check(
            id=id,
            severity=severity,
            title=title,
            looks_at=looks_at,
            remedy=remedy,
            ask=ask,
            deploy=deploy,
        )

    return made
