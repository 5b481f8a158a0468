"""What runs, held against a baseline: modules of this process, and files that processes have mapped to run them.

A file that was loaded and put back, or taken away, is as the baseline says or is no file at all: only the process
that has loaded it still tells of it. Anonymous memory has no file and is not looked at.
"""

from __future__ import annotations

import enum
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii as quote
from typing import NamedTuple

from cardoon.exceptions import SecurityError
from cardoon.integrity.baseline import Baseline
from cardoon.integrity.findings import Change, Finding, Kind
from cardoon.integrity.listing import Listing, Said
from cardoon.integrity.loaded import hash_file, module_files

MAX_MAPS = 16 * 1024 * 1024
"""Bytes of a process's mappings that are read; 65,530 mappings, as many as Linux allows, have about seven million."""
MOST_PATHS = 10_000
"""Files that are looked at in one check of the task processes, whose code decides how many they have mapped."""
NO_FILE = "no file"
GONE = "a file that is gone, or was replaced, since it was loaded"
_DELETED, _MEMORY = " (deleted)", "/memfd:"
_MAPPED = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ ..x. [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ (\d+) +(/.*)$", re.MULTILINE
)
"""A line of `/proc/PID/maps` (proc_pid_maps(5)) of a file that may be run: its inode and its path."""


class Scope(enum.StrEnum):
    """Of what is loaded, what has to be in the baseline: `integrity_loaded`."""

    OFF = "off"
    COVERED = "covered"
    """What lies beneath its roots. What lies elsewhere runs; but files in memory alone are told."""
    ALL = "all"


class Runner(NamedTuple):
    """A process that is looked at."""

    name: str
    pid: int
    kind: Kind = Kind.LOADED
    """Of what is found there."""


class Mapped(NamedTuple):
    """A file that a process has mapped to run it."""

    path: str
    is_gone: bool
    """Whether it no longer has this name: it was removed, or another one took its place."""


class Running:
    """One look at what runs. `take` it first: what a baseline says is asked once for all of it."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, bool], tuple[str, Kind]] = {}
        """By path, module and whether it is gone: which process has it."""

    def take_modules(self, name: str) -> None:
        """The files of the modules of this process."""
        for module, path in module_files():
            self._found.setdefault((os.path.abspath(path), module, False), (name, Kind.LOADED))  # noqa: PTH100

    def take_mapped(self, runner: Runner) -> bool:
        """The files that a process has mapped; False if it has ended, does not let us look, or has its own folders."""
        try:
            if runner.pid != os.getpid() and not _shares_folders(runner.pid):
                return False
            mapped = read_mapped(runner.pid)
        except OSError:
            return False
        for one in mapped:
            if runner.kind is Kind.TASK_LOADED and len(self._found) >= MOST_PATHS:
                break
            self._found.setdefault((one.path, "", one.is_gone), (runner.name, runner.kind))
        return True

    def judge(self, baseline: Baseline, scope: Scope) -> Iterator[Finding]:
        """What is not as the baseline says, in the order of paths. The files are read now."""
        listing = self._list(baseline)
        for (path, module, is_gone), (name, kind) in sorted(self._found.items()):
            said = listing.ask(path)
            if is_gone:
                found = GONE if _matters(path, said, scope) else ""
            else:
                found = _differs(path, said, scope, is_library=not module)
            if found:
                expected = f"sha256:{said.digest}" if said.digest else NO_FILE
                where = f"module {module}, in {name}" if module else f"mapped, in {name}"
                yield Finding(kind, path, (Change("content", expected, found),), where)

    def _list(self, baseline: Baseline) -> Listing:
        """What it says of these files, and all links, by which they may be named."""
        wanted = {quote(one)[1:-1].encode() for path, *_ in self._found for one in _names(path)}
        lines = (line for line in baseline.lines() if _is_wanted(line, wanted))
        head = baseline.head
        return Listing(head.serial, head.rules.outermost_roots(), lines)


def read_mapped(pid: int) -> frozenset[Mapped]:
    """The files that a process has mapped to run them; `OSError` if it has ended or does not let us look."""
    with open(f"/proc/{pid}/maps", "rb") as file:  # noqa: PTH123 - no path of a disk
        return parse_maps(file.read(MAX_MAPS), is_named=_is_named)


def parse_maps(content: bytes, *, is_named: Callable[[str, int], bool]) -> frozenset[Mapped]:
    """The files in the lines of `/proc/PID/maps`. `is_named` says whether a path is that of an inode."""
    found = set()
    for inode, written in _MAPPED.findall(content):
        path = os.fsdecode(written.replace(rb"\012", b"\n"))
        # A file may have a name that ends so.
        is_gone = path.endswith(_DELETED) and not is_named(path, int(inode))
        found.add(Mapped(path.removesuffix(_DELETED) if is_gone else path, is_gone))
    return frozenset(found)


def find_running(baseline: Baseline, scope: Scope, runners: Iterable[Runner]) -> list[Finding]:
    """What of this process, and of others, is not as the baseline says. `SecurityError` if it does not tell itself."""
    if scope is Scope.OFF:
        return []
    running, me = Running(), Runner("the worker", os.getpid())
    running.take_modules(me.name)
    if sys.platform == "linux" and not running.take_mapped(me):
        raise SecurityError(
            "integrity_loaded: /proc/self/maps cannot be read; mount /proc, or set integrity_loaded = 'off'"
        )
    for runner in runners:
        running.take_mapped(runner)
    return list(running.judge(baseline, scope))


def _matters(path: str, said: Said, scope: Scope) -> bool:
    return said.is_covered or scope is Scope.ALL or path.startswith(_MEMORY)


def _differs(path: str, said: Said, scope: Scope, *, is_library: bool) -> str:
    """What a file is instead of what it should be; empty where it is that."""
    if not _matters(path, said, scope):
        return ""
    try:
        digest = hash_file(path)
    except FileNotFoundError:
        return "" if is_library else GONE  # a library that is gone by now, the next look finds
    except OSError as error:
        return f"not readable: {error.strerror}"
    return "" if digest == said.digest else f"sha256:{digest}"


def _names(path: str) -> tuple[str, str]:
    return path, os.path.realpath(path)


def _is_wanted(line: bytes, wanted: set[bytes]) -> bool:
    end = line.find(b'",', 2)
    return line[2:end] in wanted or line[end + 2 : end + 5] == b'"l"'


def _is_named(path: str, inode: int) -> bool:
    try:
        return os.lstat(path).st_ino == inode
    except OSError:
        return False


def _shares_folders(pid: int) -> bool:
    """Whether paths mean the same there as here: it has our mounts and our root."""
    here, there = "/proc/self", f"/proc/{pid}"
    return os.path.samefile(f"{here}/ns/mnt", f"{there}/ns/mnt") and os.path.samefile(  # noqa: PTH121
        f"{here}/root", f"{there}/root"
    )
