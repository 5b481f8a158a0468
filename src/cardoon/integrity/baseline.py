"""A baseline: making one, having it approved, and opening one that was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cardoon.exceptions import SecurityError
from cardoon.integrity.approval import (
    MAX_SIGNATURE_FILE,
    check_signature,
    sign_digest,
    signature_path,
)
from cardoon.integrity.manifest import ANY_HOST, MAX_LINE, Head, foot, is_foot
from cardoon.security.keys import PrivateKey, PublicKey
from cardoon.security.placing import PUBLIC, failing_as_security_error, replace, sync

BUFFER = 64 * 1024
MAX_HEAD = 1024 * 1024
MAX_BYTES = 4 * 1024**3
"""Of a baseline; some ten million files."""


class Written(NamedTuple):
    """A baseline that was made."""

    entries: int
    unreadable: int
    digest: bytes


class Baseline:
    """An open baseline. The file is read twice: what is read the second time must be what was approved."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self.path = path
        self.digest = _digest(file)
        file.seek(0)
        self.head = Head.from_line(_read_line(file, MAX_HEAD))

    def lines(self) -> Iterator[bytes]:
        """The lines of its files. `SecurityError` if it is cut off, or was changed since it was opened."""
        file, count = self._file, 0
        file.seek(0)
        digest = hashlib.sha256(_read_line(file, MAX_HEAD))
        line = _read_line(file, MAX_LINE)
        while following := file.readline(MAX_LINE + 1):
            digest.update(line)
            yield line
            count += 1
            line = following
        digest.update(line)
        if len(line) > MAX_LINE or not is_foot(line, count):
            raise SecurityError(f"{self.path}: the baseline is cut off; make it anew")
        if digest.digest() != self.digest:
            raise SecurityError(f"{self.path}: the baseline was changed while it was read")

    def read_lines(self) -> list[bytes]:
        """`lines`, at once: a few times faster, for those who need all of them."""
        self._file.seek(0)
        content = self._file.read(MAX_BYTES)
        if hashlib.sha256(content).digest() != self.digest:
            raise SecurityError(f"{self.path}: the baseline was changed while it was read")
        _, *lines, last = content.splitlines(keepends=True)
        if not is_foot(last, len(lines)):
            raise SecurityError(f"{self.path}: the baseline is cut off; make it anew")
        return lines

    def check_approval(self, keys: Sequence[PublicKey]) -> None:
        """Raise `SecurityError` unless one of these keys has signed it."""
        path = signature_path(self.path)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_SIGNATURE_FILE + 1)
        except OSError as error:
            raise SecurityError(
                f"{path}: cannot be read: {error.strerror}; sign the baseline with `cardoon integrity sign`"
            ) from error
        check_signature(content, self.digest, keys)

    def check_host(self, host: str) -> None:
        """Raise `SecurityError` for a baseline of another host."""
        if self.head.host not in {host, ANY_HOST}:
            raise SecurityError(
                f"{self.path}: the baseline of host {self.head.host!r}; this is {host!r}, which needs its own"
            )


@contextlib.contextmanager
def open_baseline(path: Path) -> Iterator[Baseline]:
    """Open one, whoever has made it; `SecurityError` if there is none to read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecurityError(
            f"{path}: cannot be read: {error.strerror}; make a baseline with `cardoon integrity init`"
        ) from error
    with os.fdopen(descriptor, "rb", buffering=BUFFER) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise SecurityError(f"{path}: no file that a baseline could be; name another")
        yield Baseline(file, path)


def write_baseline(path: Path, head: Head, lines: Iterable[tuple[str, bytes]]) -> Written:
    """Write one in place of what is there, complete or not at all. Its signature, if any, is removed first."""
    count = unreadable = 0
    digest = hashlib.sha256()
    with failing_as_security_error(path.parent):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(descriptor, "wb", buffering=BUFFER) as file:
                for line in _with_ends(head, lines):
                    digest.update(line)
                    file.write(line)
                    count += 1
                    unreadable += b',"!' in line
                file.flush()
                os.fchmod(descriptor, PUBLIC)
                os.fsync(descriptor)
            signature_path(path).unlink(missing_ok=True)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync(path.parent)
    return Written(count - 2, unreadable, digest.digest())


def sign_baseline(baseline: Baseline, key: PrivateKey) -> Path:
    """Write the signature beside a baseline; returns where it is."""
    for _ in baseline.lines():
        pass  # what is cut off is found before it is signed
    path = signature_path(baseline.path)
    with failing_as_security_error(path.parent):
        replace(path, sign_digest(baseline.digest, key), mode=PUBLIC)
    return path


def _with_ends(head: Head, lines: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    yield head.to_line()
    count = 0
    for _, line in lines:
        yield line
        count += 1
    yield foot(count)


def _read_line(file: BinaryIO, most: int) -> bytes:
    line = file.readline(most + 1)
    if len(line) > most or not line.endswith(b"\n"):
        raise SecurityError("baseline: it is cut off, or no baseline; make it anew")
    return line


def _digest(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while content := file.read(BUFFER):
        digest.update(content)
    return digest.digest()
