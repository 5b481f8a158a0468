"""What a process has loaded already: the files of its modules, and those that ran when Python started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cardoon.integrity.importing import Blocked, ImportGuard
from cardoon.integrity.walk import hash_open


class Loaded(NamedTuple):
    """A file that code of this process comes from, or may come from."""

    module: str
    path: str


def examine_loaded(guard: ImportGuard) -> Iterator[Blocked]:
    """What is not as the baseline says. The files are read now: they may have been others when they ran."""
    for module, path in (*module_files(), *_path_files()):
        try:
            digest = hash_file(path)
        except OSError as error:
            found = guard.examine(module, path, "")
            if found is not None:
                yield Blocked(module, path, found.expected, f"not readable: {error.strerror}")
            continue
        found = guard.examine(module, path, digest)
        if found is not None:
            yield found


def module_files() -> Iterator[Loaded]:
    """Of each module, the source, and the compiled file beside it, whichever of the two it was that ran."""
    for name, module in list(sys.modules.items()):
        told = getattr(module, "__dict__", {})  # anything may have been put there
        spec = told.get("__spec__")
        # Without one: a program that was started by its path.
        path = told.get("__file__") if spec is None else spec.origin if spec.has_location else None
        if not isinstance(path, str):
            continue
        archive = getattr(getattr(spec, "loader", None), "archive", None)
        yield Loaded(name, archive if isinstance(archive, str) else path)
        cached = getattr(spec, "cached", None)
        if isinstance(cached, str) and cached != path and Path(cached).exists():
            yield Loaded(name, cached)


def _path_files() -> Iterator[Loaded]:
    """The `.pth` files of `sys.path`, whose lines Python runs when it starts."""
    for folder in dict.fromkeys(one or "." for one in sys.path):
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - text stays text
        except OSError:  # a ZIP file, or nothing
            continue
        for name in names:
            if name.endswith(".pth"):
                yield Loaded("site", os.path.abspath(os.path.join(folder, name)))  # noqa: PTH100, PTH118


def hash_file(path: str) -> str:
    """SHA-256 in hexadecimal digits; `OSError` where it cannot be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return hash_open(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
