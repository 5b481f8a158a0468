"""Sandbox: what a task may reach, as a value. Immutable, validated when it is made, no I/O."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Self

from cardoon.exceptions import ImproperlyConfigured

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class Level(enum.IntEnum):
    """How much is enforced. A higher one holds everything that a lower one does."""

    PROCESS = 0
    """A fresh process, resource limits, an environment of its own; nothing keeps it from files and network."""
    CONFINED = 1
    """And Landlock, seccomp, no capabilities, no new privileges. Works without privilege and in containers."""
    STRICT = 2
    """And namespaces: a root without secrets, its own processes, tmpfs and network."""

    @classmethod
    def parse(cls, text: object) -> Level:
        """The level of that name; `ValueError` lists those there are."""
        try:
            return cls[str(text).upper()]
        except KeyError:
            raise ValueError(f"is no level; use {', '.join(one.text for one in cls)}") from None

    @property
    def text(self) -> str:
        """As it is written in settings and shown to people."""
        return self.name.lower()


SYSCALLS = ("compute", "net", "subprocess")
"""Presets, each the one before and more: no sockets but pairs; TCP sockets; `fork` and `exec`."""

DEFAULT_MASKS = (
    *(".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx"),
    *("id_rsa*", "id_ecdsa*", "id_ed25519*", ".netrc", ".pgpass", ".htpasswd", ".git-credentials"),
    *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker"),
)
"""Names that a task does not see, wherever they are."""

DEFAULT_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
DEFAULT_ENV = ("LANG", "LC_ALL", "PATH", "TZ")
_BYTES = re.compile(r"([0-9]{1,15})\s*(B|KiB|MiB|GiB)?")
_UNITS = {None: 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ADDRESS = re.compile(
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?):([0-9]{1,5})"
)


@dataclass(frozen=True, slots=True, init=False)
class Sandbox:
    """What a task may reach. `ImproperlyConfigured` names the field, its value and what would do.

    Sizes are bytes, or text such as `"64MiB"`; paths are absolute. Code, interpreter and packages are
    readable without being named; nothing is writable unless it is.
    """

    level: Level
    read: tuple[str, ...]
    """Files and directories that may be read, besides the code."""
    write: tuple[str, ...]
    """Those that may be read and written."""
    mask: tuple[str, ...]
    """Names and absolute paths, with `*` and `?`, that stay hidden inside what may be read."""
    tmp: int
    """Bytes of a private directory (`TMPDIR`), gone with the task; needs `strict`. 0: none."""
    devices: tuple[str, ...]
    network: str | tuple[str, ...] | None
    """None; `"loopback"`, an empty one in `strict`; `"any"`; or addresses, `["db.internal:5432"]`."""
    memory: int | None
    """Bytes of address space beyond what the process begins with."""
    cpu: float | None
    """Seconds of processor time."""
    processes: int
    """Processes that it may start; more than 0 needs the preset `subprocess`."""
    threads: int
    files: int
    """Descriptors open at once."""
    file_size: int | None
    """The largest file that it may write, in bytes."""
    env: tuple[str, ...]
    """Names of the worker's variables that it sees."""
    syscalls: str
    """A preset of `SYSCALLS`."""
    uid: int | None
    gid: int | None
    """Who it runs as, where the worker is root; None: nobody."""
    cwd: str | None
    """Its working directory; None: the private directory if it has one, else the root."""
    output: int
    """The longest result, in bytes."""
    log: int
    """Bytes of its standard output and error that are passed on; what is beyond is counted."""

    def __init__(
        self,
        *,
        level: Level | str = Level.CONFINED,
        read: Sequence[str] = (),
        write: Sequence[str] = (),
        mask: Sequence[str] = DEFAULT_MASKS,
        tmp: int | str = 0,
        devices: Sequence[str] = DEFAULT_DEVICES,
        network: str | Sequence[str] | None = None,
        memory: int | str | None = None,
        cpu: float | None = None,
        processes: int = 0,
        threads: int = 64,
        files: int = 256,
        file_size: int | str | None = None,
        env: Sequence[str] = DEFAULT_ENV,
        syscalls: str = "compute",
        uid: int | None = None,
        gid: int | None = None,
        cwd: str | None = None,
        output: int | str = 64 * MIB,
        log: int | str = MIB,
    ) -> None:
        put = functools.partial(object.__setattr__, self)
        put("level", _level(level))
        for name, paths in (("read", read), ("write", write), ("devices", devices)):
            put(name, _paths(name, paths))
        put("mask", _texts("mask", mask))
        put("env", _variables(env))
        put("network", _network(network))
        for name, size in (("tmp", tmp), ("output", output), ("log", log)):
            put(name, _size(name, size))
        for name, limit in (("memory", memory), ("file_size", file_size)):
            put(name, None if limit is None else _size(name, limit))
        put("cpu", None if cpu is None else _number("cpu", cpu, 0.01, 366 * 86_400))
        for name, count, least, most in (
            *(("processes", processes, 0, 10_000), ("threads", threads, 1, 10_000)),
            ("files", files, 16, 1 << 20),
        ):
            put(name, _count(name, count, least, most))
        for name, number in (("uid", uid), ("gid", gid)):
            put(name, None if number is None else _count(name, number, 1, (1 << 32) - 2))
        put("syscalls", syscalls)
        put("cwd", None if cwd is None else _paths("cwd", (cwd,))[0])
        self._check_together()

    def _check_together(self) -> None:
        """What one field asks of another."""
        if self.syscalls not in SYSCALLS:
            raise _error("syscalls", self.syscalls, f"is no preset; use {', '.join(SYSCALLS)}")
        if self.processes and self.syscalls != "subprocess":
            raise _error("processes", self.processes, "needs syscalls='subprocess'")
        if self.syscalls == "subprocess" and not self.processes:
            raise _error("syscalls", self.syscalls, "needs processes, how many it may start")
        if self.network is not None and self.syscalls == "compute" and self.level:
            raise _error("network", self.network, "needs syscalls='net'")
        if self.tmp and self.level is not Level.STRICT:
            raise _error("tmp", self.tmp, "needs level='strict', which has file systems of its own")
        if self.level is Level.PROCESS:
            for name in ("write", "network"):
                if getattr(self, name):
                    raise _error(
                        name, getattr(self, name), "is not held at level 'process'; use 'confined'"
                    )

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """The profile that settings, a policy file or a frame describe; unknown names are errors."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in found:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
                raise ImproperlyConfigured(f"sandbox: unknown field {name!r}; {hint}")
        return cls(**found)

    def to_mapping(self) -> dict[str, Any]:
        """As JSON and TOML can say it; `from_mapping` reads it back."""
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        told["level"] = self.level.text
        return {name: list(v) if isinstance(v, tuple) else v for name, v in told.items()}

    def at_least(self, level: Level) -> Sandbox:
        """The same, at that level if its own is lower."""
        return self if self.level >= level else dataclasses.replace(self, level=level)


def _error(name: str, value: object, remedy: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"sandbox: {name}={value!r} {remedy}")


def _level(value: Level | str) -> Level:
    try:
        return value if isinstance(value, Level) else Level.parse(value)
    except ValueError as error:
        raise _error("level", value, str(error)) from None


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _error(name, value, "is not a list of texts")
    for one in value:
        if not isinstance(one, str) or not one or "\0" in one:
            raise _error(name, one, "is not a text")
    return tuple(value)


def _paths(name: str, value: object) -> tuple[str, ...]:
    paths = _texts(name, [str(one) for one in value] if isinstance(value, (list, tuple)) else value)
    for one in paths:
        if not one.startswith("/") or ".." in PurePosixPath(one).parts:
            raise _error(name, one, "is not an absolute path; write it from the root, without '..'")
    return tuple(str(PurePosixPath(one)) for one in paths)


def _variables(value: object) -> tuple[str, ...]:
    names = _texts("env", value)
    for one in names:
        if not _VARIABLE.fullmatch(one):
            raise _error("env", one, "is no name of a variable; values are the worker's own")
        if one.startswith("CARDOON_"):
            raise _error(
                "env", one, "is Cardoon's own and holds its settings; tasks do not see them"
            )
    return names


def _network(value: object) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value in {"loopback", "any"}:
            return value
        raise _error("network", value, "use None, 'loopback', 'any' or ['HOST:PORT', ...]")
    found = _texts("network", value)
    if not found:
        raise _error("network", value, "names no address; use None for no network")
    for one in found:
        split_address(one)
    return found


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPV6]:PORT`; `ImproperlyConfigured` for anything else."""
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[2]) <= 65_535:
        raise _error("network", text, "is not HOST:PORT")
    host = match[1].strip("[]")
    if match[1].startswith("["):
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _error("network", text, "is not [IPV6]:PORT") from None
    return host.lower(), int(match[2])


def _size(name: str, value: object) -> int:
    if isinstance(value, str) and (match := _BYTES.fullmatch(value.strip())):
        value = int(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1 << 50:
        raise _error(name, value, "is not a size; write bytes or '64MiB'")
    return value


def _number(name: str, value: object, least: float, most: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most:
        return float(value)
    raise _error(name, value, f"is not between {least} and {most}")


def _count(name: str, value: object, least: int, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise _error(name, value, f"is not a whole number between {least} and {most}")
