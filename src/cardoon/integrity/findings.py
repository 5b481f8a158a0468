"""What differs from a baseline, and how it is told to people and programs.

Names of files come from whoever can make one, so nothing of them reaches a terminal or a log as it is.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class Kind(enum.StrEnum):
    """What became of a file."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    UNREADABLE = "unreadable"
    LOADED = "loaded"
    """It runs in the worker, or in the process that imports the app, and is not what the baseline says."""
    TASK_LOADED = "task_loaded"
    """In a task process: task code alone may have brought that about."""


BITS = {Kind.ADDED: 4, Kind.REMOVED: 8, Kind.CHANGED: 16, Kind.UNREADABLE: 32}
"""Of the exit code of `cardoon integrity check`; 1 and 2 are an error's, as of every command."""


@dataclass(frozen=True, slots=True)
class Change:
    """One attribute, as the baseline has it and as it is."""

    attribute: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One file that is not what the baseline says."""

    kind: Kind
    path: str
    changes: tuple[Change, ...] = ()
    where: str = ""
    """Of what runs: as which module, and in which process."""

    def __str__(self) -> str:
        told = self.shown_changes
        return f"{self.kind}: {self.shown_path}" + (f" ({told})" if told else "")

    @property
    def shown_path(self) -> str:
        """The path, to be printed."""
        return escape(self.path)

    @property
    def shown_changes(self) -> str:
        """What has changed, to be printed."""
        told = [f"{one.attribute} {escape(one.old)} -> {escape(one.new)}" for one in self.changes]
        return ", ".join([escape(self.where), *told] if self.where else told)

    def to_json(self) -> dict[str, Any]:
        """For programs; names are escaped here, too, so that they can be printed."""
        return {
            "kind": self.kind.value,
            "path": escape(self.path),
            **({"where": escape(self.where)} if self.where else {}),
            "changes": {one.attribute: [escape(one.old), escape(one.new)] for one in self.changes},
        }


def escape(text: str) -> str:
    """Text with control characters, those that turn the direction of writing, and bytes that are no text as escapes."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        one if one.isprintable() and one != "\\" else one.encode("unicode_escape").decode()
        for one in text
    )


def exit_code(kinds: Iterable[Kind]) -> int:
    """The sum of `BITS` of the kinds that were found; 0 where nothing was."""
    return sum(BITS[kind] for kind in set(kinds))


def summarize(findings: Iterable[Finding], most: int = 5) -> str:
    """A few findings in one line, and how many more there are."""
    told = list(findings)
    shown = "; ".join(map(str, told[:most]))
    return f"{shown}; and {len(told) - most} more" if len(told) > most else shown


def dump(finding: Finding) -> str:
    """A finding as one line of JSON."""
    return json.dumps(finding.to_json(), separators=(",", ":"))
