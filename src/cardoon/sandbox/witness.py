"""The witness: what a task's own process notices of what its sandbox forbids.

It is told by Python's audit events and by the exception that ended the task, so it knows paths and addresses
that the kernel does not tell. It guards nothing: task code can silence it, and what it says is the task's
own word. The kernel refuses, whether anybody sees it or not.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cardoon.sandbox.profile import Level, Sandbox
from cardoon.sandbox.violations import Violation, Violations, escape

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSYS})
_ROOM = ("/proc/self", "/proc/thread-self", "/etc/resolv.conf")
"""What else may be read wherever the kernel lets it."""
_MAX_CAUSES = 5
"""Exceptions of a chain that are looked at."""

Check = Callable[[tuple[Any, ...]], None]


class Witness:
    """Notes for one process and its profile. For one task at a time.

    `code` is what every task may read, `level` what is in force: less than the profile's where best effort
    had to do.
    """

    def __init__(
        self, profile: Sandbox, code: Sequence[str], *, level: Level | None = None
    ) -> None:
        self._level = profile.level if level is None else level
        self._profile = profile
        writable = [*profile.write, *profile.devices]
        if profile.tmp and (place := os.environ.get("TMPDIR")):
            writable.append(place)
        self._writable = _roots(writable)
        self._readable = _roots([*code, *profile.read, *writable, *_ROOM])
        self._found = Violations()
        self._pid = os.getpid()
        self._checks = self._make_checks()

    def listen(self) -> None:
        """Hear of events from now on, till the process ends."""
        if self._level is not Level.PROCESS:  # which forbids nothing of what they tell
            sys.addaudithook(self._hear)

    def follow(self) -> None:
        """In a fork of the process that made it, and once the task's own directory is known: listen."""
        self._pid = os.getpid()
        if self._profile.tmp and (place := os.environ.get("TMPDIR")):
            self._writable += _roots([place])
            self._readable += _roots([place])
        self.listen()

    def begin(self) -> None:
        """Another task begins."""
        self._found = Violations()

    def note(self, error: BaseException) -> None:
        """What ended the task, or made it want to run again."""
        with contextlib.suppress(Exception):  # it is the task's own, and may do anything
            self._note_chain(error)

    def testify(self) -> tuple[Violation, ...]:
        """Everything since the task began."""
        return self._found.all()

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        check = self._checks.get(event)
        if check is None or os.getpid() != self._pid:
            return
        with contextlib.suppress(Exception):  # what is raised here would end what the task does
            check(args)

    def _make_checks(self) -> Mapping[str, Check]:
        checks: dict[str, Check] = {
            "open": self._open,
            "os.listdir": lambda args: self._see("read", args[0]),
            "os.scandir": lambda args: self._see("read", args[0]),
            "os.rename": self._rename,
            "os.link": lambda args: self._see("write", args[1]),
            "os.symlink": lambda args: self._see("write", args[1]),
            "socket.__new__": self._make_socket,
        }
        for name in ("mkdir", "rmdir", "remove", "chmod", "chown", "truncate"):
            checks[f"os.{name}"] = lambda args: self._see("write", args[0])
        if self._profile.network is None:
            checks["socket.connect"] = lambda args: self._add("connect", _address(args[1]))
            checks["socket.getaddrinfo"] = lambda args: self._add("connect", _address(args[:2]))
            checks["socket.bind"] = lambda args: self._add("bind", _address(args[1]))
        if not self._profile.processes:
            for name in ("os.exec", "os.posix_spawn", "subprocess.Popen"):
                checks[name] = lambda args: self._add("exec", args[0] or "")
            for name in ("os.fork", "os.forkpty"):
                checks[name] = lambda _: self._add("fork", "")
            checks["os.system"] = lambda _: self._add("exec", "/bin/sh")
            checks["os.kill"] = self._kill
        return checks

    def _open(self, args: tuple[Any, ...]) -> None:
        path, _, flags = args
        self._see("write" if flags & _WRITING else "read", path)

    def _rename(self, args: tuple[Any, ...]) -> None:
        for path in args[:2]:
            self._see("write", path)

    def _see(self, rule: str, path: Any) -> None:
        """A path is asked for. What is not there is not refused, but `strict` hides what is."""
        if isinstance(path, int):
            return
        name = os.fsdecode("." if path is None else path)
        if self._grants(rule, name):
            return
        place = name if rule == "read" else _absolute(name).rpartition("/")[0] or "/"
        if self._level is Level.STRICT or os.path.lexists(place):
            self._add(rule, _absolute(name))

    def _grants(self, rule: str, name: str) -> bool:
        roots = self._writable if rule == "write" else self._readable
        return _is_below(_absolute(name), roots) or _is_below(os.path.realpath(name), roots)

    def _make_socket(self, args: tuple[Any, ...]) -> None:
        _, family, kind, _ = args
        if family == socket.AF_UNIX or (family == -1 and kind == -1):
            return  # an end of a pair, or a descriptor that is there already
        is_tcp = family in {socket.AF_INET, socket.AF_INET6} and kind & 0xF == socket.SOCK_STREAM
        if self._profile.syscalls == "compute" or not is_tcp:
            self._add(
                "socket",
                f"{_name(socket.AddressFamily, family)} {_name(socket.SocketKind, kind & 0xF)}",
            )

    def _kill(self, args: tuple[Any, ...]) -> None:
        if args[0] not in {self._pid, 0}:
            self._add("kill", args[0])

    def _note_chain(self, error: BaseException | None) -> None:
        for _ in range(_MAX_CAUSES):
            if error is None:
                return
            self._note_one(error)
            error = error.__cause__ or error.__context__

    def _note_one(self, error: BaseException) -> None:
        profile = self._profile
        if isinstance(error, MemoryError) and profile.memory is not None:
            self._add("memory", profile.memory)
        elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
            self._add("threads", profile.threads)
        elif not isinstance(error, OSError):
            return
        elif error.errno == errno.EMFILE:
            self._add("files", profile.files)
        elif error.errno == errno.EFBIG and profile.file_size is not None:
            self._add("file_size", profile.file_size)
        elif error.errno == errno.ENOSPC and profile.tmp:
            self._add("tmp", profile.tmp)
        elif self._level is not Level.PROCESS and error.errno in _REFUSED:
            self._note_refusal(error)

    def _note_refusal(self, error: OSError) -> None:
        if not isinstance(error.filename, (str, bytes)):
            if not len(self._found):  # otherwise an event has said which call that was
                self._add("call", errno.errorcode.get(error.errno or 0, ""))
            return
        name = _absolute(os.fsdecode(error.filename))
        if not any(one.detail == escape(name) for one in self._found.all()):
            self._add("write" if error.errno == errno.EROFS else "read", name)

    def _add(self, rule: str, detail: object) -> None:
        self._found.add(Violation(rule, escape(detail), "task"))


def _roots(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths as they are written and as they are found."""
    return tuple(dict.fromkeys([*paths, *(os.path.realpath(one) for one in paths)]))


def _is_below(path: str, roots: Sequence[str]) -> bool:
    return any(one in {path, "/"} or path.startswith(f"{one}/") for one in roots)


def _absolute(name: str) -> str:
    return os.path.abspath(name)  # noqa: PTH100  # links are not followed


def _address(value: Any) -> str:
    """A socket's address as people write it."""
    if isinstance(value, tuple) and len(value) >= 2:
        host, port = value[:2]
        return f"{escape(host)}:{escape(port)}"
    return escape(value)


def _name(kind: type[socket.AddressFamily | socket.SocketKind], number: int) -> str:
    try:
        return kind(number).name
    except ValueError:
        return str(number)
