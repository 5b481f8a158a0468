"""Looks at files in the order of a baseline, and describes each in a line as a baseline has it.

One thread: on a warm cache the hash is most of it, and threads wait for one another. No path is followed:
folders are opened one within the other, and what was opened is what is described.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring_ascii as quote

from cardoon.integrity.rules import ALL, Rules, make_matcher

CHUNK = 256 * 1024
"""Bytes; a file of at most this size is read at once."""
MAX_DEPTH = 128
"""Folders within one another, each of which holds a descriptor."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL = {
    stat.S_IFIFO: "p", stat.S_IFSOCK: "s", stat.S_IFBLK: "b", stat.S_IFCHR: "c",
    stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFREG: "f",
}  # fmt: skip
_EXTENDED_BYTES = 64
"""Of an extended attribute that is told as it is; a longer one by its digest."""

Known = Callable[[str, os.stat_result], bytes | None]
"""Given a path and how the file is now: its line, if it need not be read to know it."""


class Walk:
    """Describes all that rules cover, once."""

    def __init__(self, rules: Rules, *, known: Known | None = None) -> None:
        self._rules = rules
        self._excluded = make_matcher(rules.exclude)
        self._growing = make_matcher(rules.growing)
        self._all = rules.attributes == ALL
        self._known = known
        self._device = 0
        self.files = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        for root in self._rules.outermost_roots():
            yield from self._walk_root(root)

    def _walk_root(self, root: str) -> Iterator[tuple[str, bytes]]:
        # Links above a root may be the system's own; from the root on none is followed.
        parent, name = os.path.split(root)
        try:
            above = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            yield root, _absent(root, error)
            return
        try:
            status = os.stat(name or ".", dir_fd=above, follow_symlinks=False)
            self._device = status.st_dev
            yield from self._visit(above, name or ".", root, stat.S_ISDIR(status.st_mode), 0)
        except OSError as error:
            yield root, _absent(root, error)
        finally:
            os.close(above)

    def _visit(
        self,
        above: int,
        name: str,
        path: str,
        is_folder: bool,  # noqa: FBT001 - of each entry
        depth: int,
    ) -> Iterator[tuple[str, bytes]]:
        if not is_folder:
            yield path, self._describe(above, name, path)
            return
        try:
            descriptor = os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=above)
        except OSError as error:
            yield path, self._describe_unopened(above, name, path, error)
            return
        try:
            status = os.fstat(descriptor)
            is_elsewhere = status.st_dev != self._device
            too_deep = depth >= MAX_DEPTH
            content = f"!more than {MAX_DEPTH} folders deep" if too_deep else ""
            yield (
                path,
                self._line(
                    path, "m" if is_elsewhere else "d", status, content, _read_extended(descriptor)
                ),
            )
            if not (is_elsewhere or too_deep):
                yield from self._list(descriptor, path, depth)
        finally:
            os.close(descriptor)

    def _list(self, folder: int, path: str, depth: int) -> Iterator[tuple[str, bytes]]:
        excluded, describe = self._excluded, self._describe
        prefix = path if path.endswith("/") else path + "/"
        with os.scandir(folder) as found:
            children = [(one.name, one.is_dir(follow_symlinks=False)) for one in found]
        children.sort()
        for name, is_folder in children:
            inner = prefix + name
            if excluded is not None and excluded(inner):
                continue
            if is_folder:
                yield from self._visit(folder, name, inner, True, depth + 1)
            else:
                yield inner, describe(folder, name, inner)

    def _describe(self, above: int, name: str, path: str) -> bytes:
        """The line of whatever is no folder."""
        if self._known is not None:
            try:
                line = self._known(path, os.stat(name, dir_fd=above, follow_symlinks=False))
            except OSError as error:
                return _absent(path, error)
            if line is not None:
                return line
        try:
            descriptor = os.open(name, _FLAGS, dir_fd=above)
        except OSError as error:
            return self._describe_unopened(above, name, path, error)
        try:
            status = os.fstat(descriptor)
            kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "?")
            if kind != "f":  # a pipe, a device, or what took a file's place just now
                return self._line(path, kind, status, _device_of(status), "{}")
            if self._growing is not None and self._growing(path):
                kind = "g"
            self.files += 1
            self.bytes += status.st_size
            try:
                content = hash_open(descriptor, status.st_size)
            except OSError as error:
                content = f"!{error.strerror}"
            return self._line(path, kind, status, content, _read_extended(descriptor))
        finally:
            os.close(descriptor)

    def _describe_unopened(self, above: int, name: str, path: str, error: OSError) -> bytes:
        """The line of a link, a socket, or a file that may not be read."""
        try:
            status = os.stat(name, dir_fd=above, follow_symlinks=False)
            kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "?")
            if kind == "l":
                content = os.readlink(name, dir_fd=above)
            elif kind in "fd":
                content = f"!{error.strerror}"
            else:
                content = _device_of(status)
        except OSError as gone:
            return _absent(path, gone)
        return self._line(path, kind, status, content, "{}")

    def _line(
        self, path: str, kind: str, status: os.stat_result, content: str, extended: str
    ) -> bytes:
        quoted = content if kind == "f" and content[:1] != "!" else quote(content)[1:-1]
        if kind in "dm":  # what is in a folder has lines of its own
            numbers = "0,0,0,0,0"
        elif self._all:
            numbers = f"{status.st_nlink},{status.st_size},{status.st_mtime_ns},{status.st_ctime_ns},{status.st_ino}"
        else:
            numbers = f"0,{status.st_size},0,0,0"
        return (
            f'[{quote(path)},"{kind}",{stat.S_IMODE(status.st_mode)},{status.st_uid},{status.st_gid},'
            f'{numbers},"{quoted}",{extended}]\n'
        ).encode("ascii")


def hash_open(descriptor: int, size: int) -> str:
    """SHA-256 of all that can be read from a descriptor, of a file that had `size` bytes a moment ago."""
    if size < CHUNK:
        content = os.read(descriptor, CHUNK)
        digest = hashlib.sha256(content)
        if len(content) < CHUNK and len(content) <= size:
            return digest.hexdigest()
    else:
        digest = hashlib.sha256()
    while content := os.read(descriptor, CHUNK):
        digest.update(content)
    return digest.hexdigest()


def hash_beginning(path: str, size: int) -> str:
    """SHA-256 of the first `size` bytes of a file that is no link."""
    descriptor = os.open(path, _FLAGS)
    try:
        digest = hashlib.sha256()
        while size > 0 and (content := os.read(descriptor, min(size, CHUNK))):
            digest.update(content)
            size -= len(content)
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def _absent(path: str, error: OSError) -> bytes:
    reason = "" if error.errno in {errno.ENOENT, errno.ENOTDIR} else f"!{error.strerror}"
    return f'[{quote(path)},"-",0,0,0,0,0,0,0,0,{quote(reason)},{{}}]\n'.encode("ascii")


def _device_of(status: os.stat_result) -> str:
    return (
        str(status.st_rdev) if stat.S_IFMT(status.st_mode) in {stat.S_IFBLK, stat.S_IFCHR} else ""
    )


def _read_extended(descriptor: int) -> str:
    """Extended attributes as JSON; none where the system or the disk has none."""
    try:
        names = os.listxattr(descriptor)
    except (AttributeError, OSError):
        return "{}"
    if not names:
        return "{}"
    found = []
    for name in sorted(names):
        try:
            value = os.getxattr(descriptor, name)
        except OSError as error:
            told = f"!{error.strerror}"
        else:
            is_long = len(value) > _EXTENDED_BYTES
            told = f"sha256:{hashlib.sha256(value).hexdigest()}" if is_long else value.hex()
        found.append(f"{quote(name)}:{quote(told)}")
    return "{" + ",".join(found) + "}"
