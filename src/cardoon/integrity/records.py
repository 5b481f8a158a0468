"""Holds installed packages against what their wheels recorded (PyPA, "Recording installed projects": `RECORD`).

No signature covers a RECORD, so whoever changes a file can change its line. It is for a host that has no baseline
yet, and to be read before one is signed.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from cardoon.integrity.findings import Change, Finding, Kind

MAX_RECORD = 64 * 1024 * 1024
"""Bytes of a RECORD; some half a million files."""
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})
_STARTS_CODE = (".pth", ".py", ".pyc", ".so", ".egg-link")
"""Endings of files that run, or lead to code, where they lie at the top of a folder of packages."""
_ATTRIBUTE = "RECORD"


class _UnfitError(Exception):
    """A file that cannot be held against anything, and why."""


class RecordCheck:
    """One look at folders of packages: iterate over it for the findings.

    A folder without a RECORD is passed over. Compiled files have no digest there, and are not looked at.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self._folders = list(dict.fromkeys(os.path.realpath(one or ".") for one in folders))
        self.records = 0
        self.files = 0
        """Files whose digest was taken."""

    def __iter__(self) -> Iterator[Finding]:
        for folder in self._folders:
            records = sorted(Path(folder).glob("*.dist-info/RECORD"))
            listed: set[str] = set()
            for record in records:
                self.records += 1
                yield from self._check(folder, record, listed)
            if records:
                yield from _find_unlisted(folder, listed)

    def _check(self, folder: str, record: Path, listed: set[str]) -> Iterator[Finding]:
        try:
            rows = _read_rows(record)
        except _UnfitError as error:
            yield _unreadable(str(record), "", str(error))
            return
        for name, recorded in rows:
            path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118 - absolute names stay
            listed.add(path)
            if recorded and (finding := self._compare(path, recorded)):
                yield finding

    def _compare(self, path: str, recorded: str) -> Finding | None:
        algorithm = recorded.partition("=")[0]
        if algorithm not in _ALGORITHMS:
            return _unreadable(path, recorded, "no digest that counts")
        try:
            found = _digest(path, algorithm)
        except (FileNotFoundError, NotADirectoryError):
            return Finding(Kind.REMOVED, path, (Change(_ATTRIBUTE, recorded, "no file"),))
        except (OSError, ValueError) as error:
            return _unreadable(path, recorded, getattr(error, "strerror", None) or str(error))
        except _UnfitError as error:
            return _unreadable(path, recorded, str(error))
        self.files += 1
        if found == recorded:
            return None
        return Finding(Kind.CHANGED, path, (Change(_ATTRIBUTE, recorded, found),))


def _unreadable(path: str, recorded: str, reason: str) -> Finding:
    return Finding(Kind.UNREADABLE, path, (Change(_ATTRIBUTE, recorded or "a file", reason),))


def _find_unlisted(folder: str, listed: set[str]) -> Iterator[Finding]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name.endswith(_STARTS_CODE) and entry.path not in listed and not is_folder:
            yield Finding(Kind.ADDED, entry.path, (Change(_ATTRIBUTE, "no line", "a file"),))


def _read_rows(record: Path) -> list[tuple[str, str]]:
    """Names and digests; `_UnfitError` for a file that is no RECORD."""
    try:
        descriptor = _open(str(record))
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_RECORD + 1)
        if len(content) > MAX_RECORD:
            raise _UnfitError("too large for a RECORD")
        rows = csv.reader(content.decode().splitlines())
        return [(row[0], row[1] if len(row) > 1 else "") for row in rows if row and row[0]]
    except OSError as error:
        raise _UnfitError(error.strerror or str(error)) from error
    except (ValueError, csv.Error) as error:
        raise _UnfitError("no RECORD: it is not CSV in UTF-8") from error


def _digest(path: str, algorithm: str) -> str:
    """As a RECORD has it: the algorithm, and the digest in URL-safe Base64 without padding."""
    with os.fdopen(_open(path), "rb", buffering=0) as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _open(path: str) -> int:
    """A regular file; a pipe neither holds us up nor is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _UnfitError("no regular file")
    return descriptor
