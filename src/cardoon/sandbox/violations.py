"""Violations: what a sandbox has refused, as values. Bounded and printable, for they come from tasks."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cardoon.sandbox.profile import Sandbox

MAX_KINDS = 20
"""Of one task; what is beyond is counted."""
MAX_DETAIL = 200
"""Characters of a detail, escapes included: 20 of them fit into the headers of a result."""
MAX_COUNT = 1_000_000_000
_RULE = re.compile(r"[a-z][a-z0-9_]{0,31}")
SPEAKERS = ("kernel", "worker", "task")
MORE = "more"
"""The rule under which further kinds are counted."""


class Violation(NamedTuple):
    """Something that a task has tried and that its sandbox does not allow."""

    rule: str
    """The field of the sandbox, or the system call."""
    detail: str
    """Which path, address or limit; printable ASCII."""
    by: str
    """Who says so: `kernel`, `worker`, or `task`, which may lie."""
    count: int = 1  # type: ignore[assignment]  # of the tuple's methods nobody needs this one

    def describe(self) -> str:
        """As a line for people."""
        what = f"{self.rule} {self.detail}".rstrip()
        times = f" ({self.count} times)" if self.count > 1 else ""
        word = ", as the task says" if self.by == "task" else ""
        return f"sandbox: {what} refused{times}{word}"


def from_kernel(rule: str, detail: str, count: int) -> Violation:
    """What the kernel has asked the warden about; the detail is the task's."""
    known = rule if _RULE.fullmatch(rule) else MORE
    return Violation(known, escape(detail), "kernel", max(1, min(count, MAX_COUNT)))


def violations_of_death(code: int, profile: Sandbox) -> tuple[Violation, ...]:
    """What the end of a process says of its sandbox; `code` is negative for a signal.

    SIGKILL says little: the kernel sends it where the signal before it was ignored, and so do people.
    """
    match -code:
        case signal.SIGSYS:
            return (Violation("syscalls", profile.syscalls, "kernel"),)
        case signal.SIGXCPU:
            seconds = "" if profile.cpu is None else f"{profile.cpu:g} seconds"
            return (Violation("cpu", seconds, "kernel"),)
        case signal.SIGKILL if profile.cpu is not None:
            return (Violation("cpu", f"{profile.cpu:g} seconds, most likely", "kernel"),)
        case signal.SIGXFSZ:
            size = "" if profile.file_size is None else f"{profile.file_size} bytes"
            return (Violation("file_size", size, "kernel"),)
        case _:
            return ()


class Violations:
    """Those of one task, each kind once. Whatever it is given, it stays small."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], int] = {}

    def add(self, one: Violation) -> bool:
        """Count one; whether it is the first of its kind."""
        key = (one.rule, one.detail, one.by)
        if key not in self._found and len(self._found) >= MAX_KINDS:
            key = (MORE, "", one.by)
        is_new = key not in self._found
        self._found[key] = min(MAX_COUNT, self._found.get(key, 0) + one.count)
        return is_new

    def all(self) -> tuple[Violation, ...]:
        """Everything so far, in the order in which it came."""
        return tuple(Violation(*key, count) for key, count in list(self._found.items()))

    def __len__(self) -> int:
        return len(self._found)


def escape(text: object) -> str:
    """Text from a task, unable to move the cursor or to look like a line of its own, and bounded."""
    plain = _plain(text).encode("unicode_escape", "backslashreplace").decode("ascii")
    return plain if len(plain) <= MAX_DETAIL else plain[: MAX_DETAIL - 3] + "..."


def _plain(value: object) -> str:
    """A path as text, also one given as bytes; anything else becomes what it is called."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    # Its `__str__` could be the task's own code, so only plain types are asked for theirs.
    if type(value) in (str, int, float):
        return str(value)[: 4 * MAX_DETAIL]
    return type(value).__name__[:MAX_DETAIL]


def tell(found: Sequence[Violation]) -> list[list[object]]:
    """As JSON."""
    return [list(one) for one in found]


def parse(found: object, *, by: str | None = None) -> tuple[Violation, ...]:
    """What JSON says; `by`, where given, overrules it. What is not understood is left out."""
    if not isinstance(found, (list, tuple)):
        return ()
    violations = []
    for one in found[: MAX_KINDS + 2]:
        match one:
            case [str(rule), str(detail), str(who), int(count)] if not isinstance(count, bool):
                if _RULE.fullmatch(rule) and who in SPEAKERS and 0 < count <= MAX_COUNT:
                    violations.append(Violation(rule, _printable(detail), by or who, count))
            case _:
                pass
    return tuple(violations)


def _printable(detail: str) -> str:
    """A detail that was escaped where it was found, unless it was not."""
    if detail.isascii() and detail.isprintable() and len(detail) <= MAX_DETAIL:
        return detail
    return escape(detail)


def lines(found: Iterable[Violation]) -> list[str]:
    """As lines for people."""
    return [one.describe() for one in found]
