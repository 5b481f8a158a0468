"""Waits for changes of what rules cover. It says that something changed; a check says what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cardoon.integrity.inotify import Event, Inotify
from cardoon.integrity.rules import Rules, make_matcher
from cardoon.integrity.walk import MAX_DEPTH


class FileWatch:
    """Watches all folders of some rules. For one thread.

    A write through a shared mapping is not told by the kernel until the mapping ends, so checks on a schedule stay
    needed. `OSError` where the kernel refuses, as for more folders than `fs.inotify.max_user_watches`.
    """

    def __init__(self, rules: Rules) -> None:
        self._roots = rules.outermost_roots()
        self._excluded = make_matcher(rules.exclude)
        self._ignored = make_matcher((*rules.exclude, *rules.growing))
        self._inotify = Inotify()
        try:
            self._add_all()
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._inotify)

    def wait(self, seconds: float) -> bool | None:
        """Wait for at most this time: whether anything changed; None if changes were lost, so that all may have."""
        matters = lost = folders = False
        for event in self._inotify.wait(seconds):
            if event.is_lost:
                lost = True
            elif self._matters(event):
                matters = True
                folders = folders or event.changes_folders
        if lost or folders:
            self._add_all()
        return None if lost else matters

    def close(self) -> None:
        """Watch nothing any more; safe twice."""
        self._inotify.close()

    def _matters(self, event: Event) -> bool:
        if self._ignored is not None and self._ignored(event.path):
            return False
        # The folder above a root is watched for the root alone.
        return any(
            event.path == root or event.path.startswith(root.rstrip("/") + "/")
            for root in self._roots
        )

    def _add_all(self) -> None:
        for root in self._roots:
            above = str(Path(root).parent)
            for path in (above, *_folders(root, self._excluded)):
                try:
                    self._inotify.add(path)
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    continue  # gone again, or not there; a check tells


def _folders(path: str, excluded: object, depth: int = 0) -> Iterator[str]:
    yield path
    if depth > MAX_DEPTH or Path(path).is_symlink():
        return
    try:
        with os.scandir(path) as found:
            inner = [one.path for one in found if one.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for one in inner:
        if not (callable(excluded) and excluded(one)):
            yield from _folders(one, excluded, depth + 1)
