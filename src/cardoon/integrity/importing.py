"""Holds code against a baseline as it is imported: the very bytes that then run.

Python's own loaders of files are told to ask before they hand out what they have read, so whoever finds a module
(a path, a hook of a package that is installed for editing, a call of `importlib`) finds one that asks. What a
program does with bytes that it reads by itself is not seen.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import mmap
import os
import re
import sys
import zipimport
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any

from cardoon.integrity.findings import escape
from cardoon.integrity.listing import Listing
from cardoon.integrity.walk import hash_open

_UNLISTED, _ELSEWHERE = "no file", "no file outside its roots"
_CODE = (*SOURCE_SUFFIXES, *BYTECODE_SUFFIXES, *EXTENSION_SUFFIXES)
_MAPS = "/proc/self/maps"


class Mode(enum.StrEnum):
    """What is done with code that is not as the baseline says: `integrity_imports`."""

    OFF = "off"
    RECORD = "record"
    """It is told beneath the roots of the baseline, and runs."""
    COVERED = "covered"
    """It is refused beneath the roots. What lies elsewhere runs, and is not told."""
    REFUSE = "refuse"
    """It is refused wherever it lies."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A file with code that is not what the baseline says."""

    module: str
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        told = f"{self.path} is not what the baseline says: expected {self.expected}, found {self.found}"
        return escape(f"module {self.module}: {told}")


class BlockedImportError(ImportError):
    """A module was not imported, for its file is not what the baseline says."""


class ImportGuard:
    """Stands in one process, from `install` on, and in all that are forked from it. Safe from threads."""

    def __init__(self, listing: Listing, mode: Mode) -> None:
        self.listing = listing
        self.mode = mode
        self.on_blocked: Callable[[Blocked], object] = lambda _: None
        """Told of each file that is not as it should be; in the thread that imports."""
        self._archives: dict[str, tuple[tuple[int, ...], str]] = {}
        """Of each that code comes from: how it was, and its SHA-256."""

    @property
    def refuses(self) -> bool:
        """Whether such a file does not run."""
        return self.mode is not Mode.RECORD

    def install(self) -> None:
        """Have all that is imported from now on asked for here, and have Python write no compiled files.

        The last guard of a process is the one that stands.
        """
        sys.dont_write_bytecode = True  # what it writes would be a file that was added
        for loader in (SourceFileLoader, SourcelessFileLoader):
            loader.get_data = _asking(self, _GET_DATA[loader])  # type: ignore[method-assign]
        ExtensionFileLoader.create_module = _holding(self)  # type: ignore[method-assign]
        zipimport.zipimporter.get_code = _asking_archive(self)  # type: ignore[method-assign]

    def check(self, module: str, path: str, digest: str, *, is_cache: bool = False) -> None:
        """Raise `BlockedImportError` for code that is not to run; `FileNotFoundError` for a cache that is unlisted.

        Python then compiles the module from its source, which is asked for in its turn. `digest` is a SHA-256 in
        hexadecimal digits.
        """
        found = self.examine(module, path, digest)
        if found is None:
            return
        if is_cache and found.expected in {_UNLISTED, _ELSEWHERE}:
            raise FileNotFoundError(errno.ENOENT, "the baseline does not list it", path)
        self._block(found)

    def examine(self, module: str, path: str, digest: str) -> Blocked | None:
        """What is wrong with a file that has this SHA-256, in hexadecimal digits; None where it is as it should be."""
        if self.listing.has(path, digest):
            return None
        said = self.listing.ask(path)
        if said.digest == digest or not (said.is_covered or self.mode is Mode.REFUSE):
            return None
        if said.digest:
            expected = f"sha256:{said.digest}"
        else:
            expected = _UNLISTED if said.is_covered else _ELSEWHERE
        return Blocked(module, path, expected, f"sha256:{digest}")

    def _block(self, found: Blocked) -> None:
        self.on_blocked(found)
        if self.refuses:
            raise BlockedImportError(str(found), name=found.module, path=found.path)

    @contextlib.contextmanager
    def hold(self, module: str, path: str) -> Iterator[None]:
        """Around loading a shared library, which the linker opens by its path: the file must be the one that was read."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            digest = hash_open(descriptor, status.st_size)
            self.check(module, path, digest)
            yield
            if not _is_mapped(descriptor) or _stamp(os.fstat(descriptor)) != _stamp(status):
                expected = f"sha256:{digest}, as was read"
                self._block(Blocked(module, path, expected, "another file, which was loaded"))
        finally:
            os.close(descriptor)

    def check_archive(self, module: str, path: str) -> None:
        """A ZIP file that modules come from. It is read again when Python takes a module out of it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            known = self._archives.get(path)
            if known is None or known[0] != _stamp(status):
                known = self._archives[path] = (
                    _stamp(status),
                    hash_open(descriptor, status.st_size),
                )
        finally:
            os.close(descriptor)
        self.check(module, path, known[1])


_GET_DATA: dict[type, Callable[..., bytes]] = {
    loader: loader.get_data for loader in (SourceFileLoader, SourcelessFileLoader)
}
_CREATE_MODULE = ExtensionFileLoader.create_module
_ARCHIVED_CODE = zipimport.zipimporter.get_code


def _asking(guard: ImportGuard, read: Callable[..., bytes]) -> Callable[..., bytes]:
    def get_data(self: SourceFileLoader, path: str) -> bytes:
        data = read(self, path)
        name = str(path)
        if name == self.path or name.endswith(_CODE):  # others are resources of a package
            digest = hashlib.sha256(data).hexdigest()
            guard.check(self.name, name, digest, is_cache=name != self.path)
        return data

    return get_data


def _holding(guard: ImportGuard) -> Callable[..., Any]:
    def create_module(self: ExtensionFileLoader, spec: Any) -> Any:
        with guard.hold(spec.name, self.path):
            return _CREATE_MODULE(self, spec)

    return create_module


def _asking_archive(guard: ImportGuard) -> Callable[..., Any]:
    def get_code(self: zipimport.zipimporter, fullname: str) -> Any:
        guard.check_archive(fullname, self.archive)
        return _ARCHIVED_CODE(self, fullname)

    return get_code


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_mapped(descriptor: int) -> bool:
    """Whether this process has mapped the file to run it; True where the system does not tell.

    Some file systems give a mapping another inode than `stat` does. So ours is mapped, too, as nobody else maps
    code, and the two are compared as the kernel tells them.
    """
    try:
        with (
            mmap.mmap(descriptor, 1, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ),
            open(_MAPS, "rb", buffering=0) as file,  # noqa: PTH123 - read whole, and often
        ):
            told = file.readall()
    except (OSError, ValueError):
        return True
    return any(
        re.search(rb" r-xp [0-9a-f]+ %s\s" % re.escape(one[1]), told)
        for one in re.finditer(rb" r--s [0-9a-f]+ (\S+ \d+)", told)
    )
