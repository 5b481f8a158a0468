"""Holds files as they are against the lines of a baseline, both in the same order, so that neither is kept."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cardoon.integrity.findings import Change, Finding, Kind
from cardoon.integrity.manifest import UNREADABLE, Entry, parse_entry
from cardoon.integrity.rules import ALL, Rules, sort_key
from cardoon.integrity.walk import Walk, hash_beginning

SAMPLED = 0.01
"""Of the files that look unchanged in a quick check: the part that is read all the same."""
_KINDS = {
    "f": "file", "g": "growing file", "d": "folder", "m": "mount point", "l": "link", "p": "pipe", "s": "socket",
    "b": "block device", "c": "character device", "-": "nothing",
}  # fmt: skip


class Comparison:
    """One check of a baseline: iterate over it for the findings, in the order of paths.

    A `quick` one reads only files whose size, times, inode, mode or owner have changed, and a random sample of
    the rest. It does not see what was written to the disk beneath the file system.
    """

    def __init__(
        self,
        rules: Rules,
        lines: Iterable[bytes],
        *,
        quick: bool = False,
        sampled: float = SAMPLED,
    ) -> None:
        self._lines = iter(lines)
        self._line = next(self._lines, None)
        self._entry: Entry | None = None
        self._removed: list[Finding] = []
        self._sampled = sampled
        self._draw = random.SystemRandom().random
        # Without times and inodes in the baseline nothing says that a file was not written to.
        is_quick = quick and rules.attributes == ALL
        self._walk = Walk(rules, known=self._find_known if is_quick else None)
        self.entries = 0

    @property
    def files(self) -> int:
        """Files that were read so far."""
        return self._walk.files

    @property
    def size(self) -> int:
        """Bytes of them."""
        return self._walk.bytes

    def __iter__(self) -> Iterator[Finding]:
        for path, line in self._walk:
            self.entries += 1
            if line == self._line:
                if self._removed:
                    yield from self._give_removed()
                self._advance()
                continue
            old = self._seek(path)
            yield from self._give_removed()
            new = parse_entry(line)
            if old is None:
                yield from _judge_new(new)
                continue
            changes = find_changes(old, new)
            self._advance()
            if changes:
                is_unread = new.content.startswith(UNREADABLE)
                yield Finding(Kind.UNREADABLE if is_unread else Kind.CHANGED, path, changes)
        while self._line is not None:
            self._skip(self._current())
        yield from self._give_removed()

    def _seek(self, path: str) -> Entry | None:
        """The baseline's entry of a path; what it has before that is gone."""
        key = sort_key(path)
        while self._line is not None:
            entry = self._current()
            at = sort_key(entry.path)
            if at >= key:
                return entry if at == key else None
            self._skip(entry)
        return None

    def _current(self) -> Entry:
        if self._entry is None:
            assert self._line is not None
            self._entry = parse_entry(self._line)
        return self._entry

    def _skip(self, entry: Entry) -> None:
        if entry.kind != "-":
            self._removed.append(Finding(Kind.REMOVED, entry.path))
        self._advance()

    def _advance(self) -> None:
        self._entry = None
        self._line = next(self._lines, None)

    def _give_removed(self) -> list[Finding]:
        found, self._removed = self._removed, []
        return found

    def _find_known(self, path: str, status: os.stat_result) -> bytes | None:
        old = self._seek(path)
        if old is None or old.kind != "f" or not stat.S_ISREG(status.st_mode):
            return None
        same = (
            old.status_changed == status.st_ctime_ns
            and old.modified == status.st_mtime_ns
            and old.size == status.st_size
            and old.inode == status.st_ino
            and old.links == status.st_nlink
            and old.mode == stat.S_IMODE(status.st_mode)
            and (old.owner, old.group) == (status.st_uid, status.st_gid)
        )
        return self._line if same and self._draw() >= self._sampled else None


def _judge_new(new: Entry) -> Iterator[Finding]:
    if new.kind == "-":
        if new.content:
            yield Finding(Kind.UNREADABLE, new.path, (Change("content", "", new.content),))
        return
    yield Finding(Kind.ADDED, new.path)
    if new.content.startswith(UNREADABLE) and new.kind in "fgd":
        yield Finding(Kind.UNREADABLE, new.path, (Change("content", "", new.content),))


def find_changes(old: Entry, new: Entry) -> tuple[Change, ...]:
    """The attributes in which two entries of one path differ; none of a file that has grown as it may."""
    if old.kind != new.kind:
        changes = [Change("kind", _KINDS.get(old.kind, old.kind), _KINDS.get(new.kind, new.kind))]
        if old.content != new.content:
            changes.append(Change("content", old.content, new.content))
        return tuple(changes)
    growing = new.kind == "g" and new.size >= old.size
    found = []
    for name, show in _SHOWN.items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after or (growing and name in _GROWS):
            continue
        found.append(Change(name, show(before), show(after)))
    if growing and old.content != new.content:
        found += _compare_beginning(old, new)
    return (*found, *_compare_extended(old, new))


def _compare_beginning(old: Entry, new: Entry) -> Iterator[Change]:
    if old.content.startswith(UNREADABLE) or new.content.startswith(UNREADABLE):
        yield Change("content", old.content, new.content)
        return
    try:
        content = hash_beginning(new.path, old.size)
    except OSError as error:
        content = f"{UNREADABLE}{error.strerror}"
    if content != old.content:
        yield Change("beginning", old.content, content)


def _compare_extended(old: Entry, new: Entry) -> Iterator[Change]:
    for name in sorted(old.extended.keys() | new.extended.keys()):
        before, after = old.extended.get(name, "none"), new.extended.get(name, "none")
        if before != after:
            yield Change(name, before, after)


def _octal(value: int) -> str:
    return f"{value:04o}"


def _moment(value: int) -> str:
    seconds, rest = divmod(value, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
    except (ValueError, OverflowError, OSError):
        return str(value)


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "mode": _octal, "owner": str, "group": str, "links": str, "size": str, "modified": _moment,
    "status_changed": _moment, "inode": str, "content": str,
}  # fmt: skip
_GROWS = {"size", "modified", "status_changed", "content"}
