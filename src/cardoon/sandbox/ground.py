"""The ground that tasks stand on: code that every one may read, and secrets that none may see.

`find_code` is asked in the process that has imported the app. What is hidden is looked for where the
profile and the app's own code grant something, not in the interpreter and packages: their certificates
are public, and have to be read.
"""

from __future__ import annotations

import fnmatch
import os
import re
import site
import ssl
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Sandbox

LAYER = "ground"

MAX_ENTRIES = 500_000
"""Files and directories that are looked at for what is hidden; some seconds."""

_SYSTEM = (
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"),
    *("/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/share/locale", "/etc/pki"),
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/timezone", "/etc/ssl/certs"),
    *("/etc/ssl/openssl.cnf", "/etc/mime.types", "/etc/ca-certificates"),
)
_NAMES = ("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts")
"""Who and where; in a room every task has its own."""
RESOLVER = "/etc/resolv.conf"
_PACKAGES = frozenset({"site-packages", "dist-packages"})
"""What directories of packages are called, whatever interpreter they belong to."""
PROGRAMS = ("/bin", "/usr/bin", "/usr/local/bin")
"""Granted to profiles that start processes."""


class Ground(NamedTuple):
    """What the worker tells a nest of the machine, as resolved or plain absolute paths."""

    code: tuple[str, ...]
    """What every task may read: interpreter, packages, the app, shared libraries, time zones, ..."""
    secrets: tuple[str, ...]
    """What no task sees, whatever its profile grants: keys, key sets, stores, journals, sockets."""

    def to_mapping(self) -> dict[str, Any]:
        """As JSON can say it; `from_mapping` reads it back."""
        return {"code": list(self.code), "secrets": list(self.secrets)}

    @classmethod
    def from_mapping(cls, found: Mapping[str, Any]) -> Self:
        """The ground that a frame describes; `ConfinementError` if it names a relative path."""
        code, secrets = (tuple(map(str, found[name])) for name in ("code", "secrets"))
        ground = cls(code, secrets)
        for one in (*ground.code, *ground.secrets):
            if not one.startswith("/") or "\0" in one:
                raise ConfinementError(LAYER, f"{one!r} is not an absolute path")
        return ground


def find_code() -> tuple[str, ...]:
    """Where this process's code and what it needs is, of what exists, without what is inside another."""
    found = {one for one in (*_SYSTEM, *_NAMES) if os.path.lexists(one)}
    found.update(_packages())
    found.update(str(Path(one or ".").absolute()) for one in sys.path)
    for module in list(sys.modules.values()):
        found.update(_places_of(module))
    executable = Path(sys.executable)
    found.update({str(executable), str(executable.resolve())} if sys.executable else ())
    found.update(str(Path(one) / "pyvenv.cfg") for one in {sys.prefix, sys.exec_prefix})
    found.update(_libraries())
    paths = ssl.get_default_verify_paths()
    found.update(
        one for one in (paths.openssl_cafile, paths.openssl_capath, paths.cafile, paths.capath) if one
    )  # fmt: skip
    return _outermost(one for one in found if _is_there(one))


def find_hidden(profile: Sandbox, ground: Ground) -> tuple[str, ...]:
    """What is inside something granted and must not be seen: real paths, secrets first.

    Secrets are told whether they exist or not, since they may be made later, and other names of the same
    file with them. Of what the masks match, the target of a link as well; but a path that the profile
    names is meant, whatever it is called. `ConfinementError` if there is too much to look through.
    """
    granted = [os.path.realpath(one) for one in granted_paths(profile, ground)]
    named = {os.path.realpath(one) for one in (*profile.read, *profile.write)}
    secrets = real_secrets(ground)
    files = {found for one in secrets if (found := _file_of(one)) is not None}
    numbers = {inode for _, inode in files}
    hidden = {one: None for one in sorted(secrets) if any(is_within(one, g) for g in granted)}
    matches = _matcher(profile.mask)
    packaged = _packaged()
    own = (os.path.realpath(one) for one in _own_code(ground.code, packaged))
    for path, inode in _walk(_outermost((*named, *own)), packaged):
        if inode in numbers and _file_of(path) in files:
            hidden.setdefault(path)
        elif path not in named and matches(path):
            hidden.setdefault(path)
            real = os.path.realpath(path)
            if real not in named and any(is_within(real, one) for one in granted):
                hidden.setdefault(real)
    return tuple(hidden)


def real_secrets(ground: Ground) -> set[str]:
    """The secrets as they are written, and as they are without links."""
    return {os.path.realpath(one) for one in ground.secrets} | set(ground.secrets)


def check_is_readable(paths: Iterable[str]) -> None:
    """`ConfinementError` for a path that this process cannot read; ask it after changing ids."""
    for path in paths:
        wanted = os.R_OK | (os.X_OK if os.path.isdir(path) else 0)  # noqa: PTH112  # as os.access
        if not os.access(path, wanted):
            raise ConfinementError(
                LAYER,
                f"{path!r} cannot be read by uid {os.getuid()}, gid {os.getgid()}; let it, with every "
                "directory above, or run the worker from another place, or set the profile's uid and gid",
            )


def granted_paths(profile: Sandbox, ground: Ground) -> tuple[str, ...]:
    """All that a task of the profile may read, as it is written."""
    found = [*ground.code, *profile.read, *profile.write]
    if profile.syscalls == "subprocess":
        found += [one for one in PROGRAMS if os.path.lexists(one)]
    if profile.network == "any" and os.path.lexists(RESOLVER):
        found.append(RESOLVER)
    return tuple(dict.fromkeys(found))


def is_within(path: str, directory: str) -> bool:
    """Whether the path is that directory, or below it."""
    return directory in {path, "/"} or path.startswith(f"{directory}/")


def _is_there(path: str) -> bool:
    """Whether this process can see it, through links."""
    try:
        Path(path).stat()
    except OSError:
        return False
    return True


def _packaged() -> frozenset[str]:
    """Directories of the system, of the interpreter and of packages, without links."""
    packaged = [os.path.realpath(one) for one in (*_SYSTEM, *_NAMES, *_packages())]
    packaged += [
        one for path in (sys.prefix, sys.base_prefix) if (one := os.path.realpath(path)) != "/"
    ]
    return frozenset(packaged)


def _own_code(code: Sequence[str], packaged: frozenset[str]) -> list[str]:
    """The app's: what is neither of the system nor of the interpreter and its packages."""
    return [
        one
        for one in code
        if not any(is_within(os.path.realpath(one), other) for other in packaged)
        and _PACKAGES.isdisjoint(Path(one).parts)
    ]


def _packages() -> set[str]:
    """Directories of the standard library and of what is installed beside it."""
    paths = sysconfig.get_paths()
    found = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found.update(sysconfig.get_path(name, vars={"base": sys.base_prefix}) for name in ("purelib",))
    found.update(site.getsitepackages())
    if site.ENABLE_USER_SITE:
        found.add(site.getusersitepackages())
    return {one for one in found if one and os.path.lexists(one)}


def _places_of(module: object) -> Iterator[str]:
    """Where a module was loaded from, wherever its finder found it."""
    name = getattr(module, "__file__", None)
    paths = getattr(module, "__path__", None)
    with_children = list(paths) if isinstance(paths, Iterable) else []
    for one in with_children or ([name] if name else []):
        if isinstance(one, str) and one.startswith("/"):
            yield one


def _libraries() -> Iterator[str]:
    """Files that are mapped to be run."""
    try:
        text = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and "x" in parts[1] and parts[5].startswith("/"):
            yield parts[5]


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Without those inside another."""
    found: list[str] = []
    for one in sorted(set(paths)):
        if not any(is_within(one, other) for other in found):
            found.append(one)
    return tuple(found)


def _matcher(masks: Sequence[str]) -> Any:
    """A test of paths: a mask with a slash is a whole path, another is a name."""
    names = [fnmatch.translate(one) for one in masks if "/" not in one]
    paths = [fnmatch.translate(one) for one in masks if "/" in one]
    by_name = re.compile("|".join(names) or "(?!)")
    by_path = re.compile("|".join(paths) or "(?!)")
    return lambda path: bool(by_name.match(path.rpartition("/")[2]) or by_path.match(path))


def _file_of(path: str) -> tuple[int, int] | None:
    """Which file a path is, by device and number; None for directories, and if there is none."""
    try:
        found = Path(path).lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _walk(roots: Iterable[str], packaged: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Every path from the roots down, with its number in the file system.

    Links are named, not followed. What cannot be listed is left out, and packages below a root, as those
    of a virtual environment in the app's directory.
    """
    count = 0
    waiting = list(roots)
    while waiting:
        path = waiting.pop()
        yield path, (_file_of(path) or (0, 0))[1]
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    count += 1
                    if count > MAX_ENTRIES:
                        raise ConfinementError(
                            LAYER,
                            f"{path!r}: more than {MAX_ENTRIES} files to look through; grant fewer",
                        )
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path not in packaged and entry.name not in _PACKAGES:
                            waiting.append(entry.path)
                    else:
                        yield entry.path, entry.inode()
        except (NotADirectoryError, PermissionError, FileNotFoundError):
            continue
