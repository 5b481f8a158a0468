"""Rooms: the root directory of a strict task. What a plan grants is mounted there, nothing else is.

Building follows no link, neither of the host's nor in the room, where a task may have made them. What was
the root before cannot be reached from it.
"""

from __future__ import annotations

import contextlib
import errno as errors
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace

from cardoon.sandbox.ground import is_within
from cardoon.sandbox.kernel import ConfinementError, call
from cardoon.sandbox.planning import LAYER, Grant, Plan, told

OWN = "/sandbox"
"""Where a room has what is its own."""
WORK_PARENT = f"{OWN}/private"
"""What Landlock grants, since a rule for a directory holds for what is mounted below it, not on it."""
WORK = f"{WORK_PARENT}/work"
"""The task's private directory."""
PROC = "/proc"

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8  # MOUNT_ATTR_*, <linux/mount.h>
_OPEN_TREE_CLONE = 1
_AT_FDCWD, _AT_RECURSIVE, _AT_EMPTY_PATH = -100, 0x8000, 0x1000
_FROM_EMPTY, _TO_EMPTY = 0x04, 0x40  # MOVE_MOUNT_*_EMPTY_PATH
_SET_STRING, _CREATE = 1, 6  # FSCONFIG_*
_PRIVATE = 1 << 18  # MS_PRIVATE
_NO_MAGIC, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08  # RESOLVE_*, <linux/openat2.h>
_MNT_DETACH = 2


class Room:
    """Builds what a plan says: `take` where the host's files are reached, then `build` inside."""

    def __init__(self, plan: Plan, files: Mapping[str, bytes]) -> None:
        """`files` are the room's own, by path, and stand for those of the plan."""
        kept = {path: one for path, one in plan.grants.items() if path not in files}
        links = {path: one for path, one in plan.links.items() if path not in files}
        self._plan = replace(plan, grants=kept, links=links)
        self._files = files
        self._grants = self._plan.ordered()
        self._taken: dict[str, int] = {}
        for one in (*self._grants, *map(_as_grant, self._plan.directories)):
            if is_within(one.path, OWN) or is_within(one.path, PROC):
                raise ConfinementError(
                    LAYER, f"{one.path!r}: a task has its own there; leave it out of the profile"
                )

    def take(self) -> None:
        """Copy the mounts, not yet visible anywhere. Needs CAP_SYS_ADMIN in this mount namespace."""
        for grant in self._grants:
            self._taken[grant.path] = _take(grant)

    def build(self) -> None:
        """Make the room and go there, in a new mount namespace and with its /proc.

        As the first process of a pid namespace, since /proc shows that. `ConfinementError` for anything.
        """
        if not self._taken:
            self.take()
        _set_attributes(_AT_FDCWD, "/", recursive=True)
        root = _new_filesystem("tmpfs", {"size": "4m", "mode": "0755"}, _NOSUID | _NODEV)
        # Over /proc, where nothing is taken from. The kernel gives a /proc to those who have one.
        _move(root, _AT_FDCWD, PROC)
        self._furnish(root)
        mount_proc(root)
        with told("/"):
            os.fchdir(root)
            call(LAYER, "pivot_root", b".", b".")
            call(LAYER, "umount2", b".", _MNT_DETACH)
            os.chdir("/")
            os.close(root)
        _set_attributes(_AT_FDCWD, "/", attributes=_RDONLY | _NOSUID | _NODEV)

    def _furnish(self, root: int) -> None:
        device = os.fstat(root).st_dev
        for path in sorted(self._plan.directories):
            os.close(_place(root, path, is_directory=True, device=device))
        for grant in self._grants:
            tree = self._taken.pop(grant.path)
            try:
                self._attach(root, tree, grant.path, grant.is_directory, device)
            finally:
                os.close(tree)
        for path, is_directory in sorted(self._plan.covers.items()):
            empty = f"{OWN}/empty/{'directory' if is_directory else 'file'}"
            source = _place(root, empty, is_directory=is_directory, device=device)
            tree = call(LAYER, "open_tree", source, b"", _OPEN_TREE_CLONE | _AT_EMPTY_PATH)
            os.close(source)
            try:
                _set_attributes(tree, "", attributes=_RDONLY | _NOSUID | _NODEV | _NOEXEC)
                self._attach(root, tree, path, is_directory, device)
            finally:
                os.close(tree)
        places = [WORK, PROC]
        if "/tmp" not in self._plan.links:  # noqa: S108  # an empty one, that programs expect
            places.append("/tmp")  # noqa: S108
        for path in places:
            os.close(_place(root, path, is_directory=True, device=device))
        self._write(root, device)

    @staticmethod
    def _attach(root: int, tree: int, path: str, is_directory: bool, device: int) -> None:  # noqa: FBT001
        place = _place(root, path, is_directory=is_directory, device=device)
        try:
            _move(tree, place, "")
        finally:
            os.close(place)

    def _write(self, root: int, device: int) -> None:
        """The room's own files and links."""
        for path, content in self._files.items():
            with told(path), _parent(root, path, device) as (parent, name):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                made = os.open(name, flags, 0o644, dir_fd=parent)
                os.write(made, content)
                os.close(made)
        for path, target in sorted(self._plan.links.items()):
            if any(one.is_directory and is_within(path, one.path) for one in self._grants):
                continue  # it is there with the directory that holds it
            with (
                told(path),
                _parent(root, path, device) as (parent, name),
                contextlib.suppress(FileExistsError),
            ):
                os.symlink(target, name, dir_fd=parent)


def mount_work(size: int) -> None:
    """An empty directory in memory for one task, of so many bytes, in its own mount namespace."""
    # A file of no length costs the kernel about a kilobyte, which the size does not count.
    inodes = max(64, min(size // 4096, 1_000_000))
    options = {"size": str(max(size, 4096)), "nr_inodes": str(inodes), "mode": "0700"}
    made = _new_filesystem("tmpfs", options, _NOSUID | _NODEV | _NOEXEC)
    try:
        _move(made, _AT_FDCWD, WORK)
    finally:
        os.close(made)


def mount_proc(root: int = _AT_FDCWD) -> None:
    """A /proc of this pid namespace and nothing but processes, in the room at `root` or around us."""
    options = {"subset": "pid", "hidepid": "invisible"}
    made = _new_filesystem("proc", options, _NOSUID | _NODEV | _NOEXEC)
    try:
        _move(made, root, PROC if root == _AT_FDCWD else PROC.lstrip("/"))
    finally:
        os.close(made)


def own_files(*, uid: int, gid: int, hosts: Mapping[str, str]) -> dict[str, bytes]:
    """The files in /etc that a room has of its own: two users, two groups, addresses by name."""
    lines = [
        f"{address}\t{name}\n" for name, address in {"localhost": "127.0.0.1", **hosts}.items()
    ]
    shell = "/usr/sbin/nologin"
    users = f"root:x:0:0::/:{shell}\ntask:x:{uid}:{gid}::{WORK}:{shell}\n"
    return {
        "/etc/passwd": users.encode(),
        "/etc/group": f"root:x:0:\ntask:x:{gid}:\n".encode(),
        "/etc/hosts": "".join(lines).encode(),
        "/etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
    }


def open_granted(path: str) -> int:
    """A descriptor (O_PATH) of a planned path; `ConfinementError` if a link has taken its place."""
    return _open_strictly(_AT_FDCWD, path, os.O_PATH | os.O_CLOEXEC, _NO_SYMLINKS | _NO_MAGIC)


def _as_grant(path: str) -> Grant:
    return Grant(path, is_directory=True)


def _take(grant: Grant) -> int:
    """A copy of what is mounted there, with the attributes that it has in a room.

    What is written is not run; only devices are devices; nothing changes who somebody is.
    """
    attributes = _NOSUID
    if grant.is_device:
        attributes |= _NOEXEC
    else:
        attributes |= _NODEV | (_NOEXEC if grant.is_writable else _RDONLY)
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if grant.is_directory else 0)
    try:
        found = _open_strictly(_AT_FDCWD, grant.path, flags, _NO_SYMLINKS | _NO_MAGIC)
        try:
            how = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
            tree = call(LAYER, "open_tree", found, b"", how)
        finally:
            os.close(found)
        _set_attributes(tree, "", attributes=attributes, recursive=True)
    except ConfinementError as error:
        raise ConfinementError(LAYER, f"{grant.path!r} cannot be mounted", error.errno) from error
    return tree


def _place(root: int, path: str, *, is_directory: bool, device: int) -> int:
    """A descriptor of that path in the room; made if it is missing and its parent is the room's own."""
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if is_directory else 0)
    try:
        return _open_strictly(root, path.lstrip("/") or ".", flags, _NO_SYMLINKS | _BENEATH)
    except ConfinementError as error:
        if error.errno != errors.ENOENT:
            raise ConfinementError(LAYER, f"{path!r} cannot be placed", error.errno) from error
    with told(path), _parent(root, path, device) as (parent, name):
        if os.fstat(parent).st_dev != device:
            raise ConfinementError(
                LAYER, f"{path!r} is not there any more; create it or leave it out"
            )
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            made = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, made, 0o644, dir_fd=parent))
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)


@contextlib.contextmanager
def _parent(root: int, path: str, device: int) -> Iterator[tuple[int, str]]:
    """A descriptor of the directory that holds the path in the room, and the last name."""
    above, _, name = path.rpartition("/")
    parent = _place(root, above or "/", is_directory=True, device=device)
    try:
        yield parent, name
    finally:
        os.close(parent)


def _open_strictly(directory: int, path: str, flags: int, resolve: int) -> int:
    how = struct.pack("=QQQ", flags, 0, resolve)
    return call(LAYER, "openat2", directory, os.fsencode(path), how, len(how))


def _new_filesystem(kind: str, options: Mapping[str, str], attributes: int) -> int:
    """A descriptor of a new file system that is not mounted anywhere yet."""
    context = call(kind, "fsopen", kind.encode(), 1)
    try:
        for name, value in options.items():
            call(kind, "fsconfig", context, _SET_STRING, name.encode(), value.encode(), 0)
        call(kind, "fsconfig", context, _CREATE, None, None, 0)
        return call(kind, "fsmount", context, 1, attributes)
    finally:
        os.close(context)


def _move(tree: int, directory: int, path: str) -> None:
    flags = _FROM_EMPTY | (0 if path else _TO_EMPTY)
    call(LAYER, "move_mount", tree, b"", directory, os.fsencode(path), flags)


def _set_attributes(
    directory: int, path: str, *, attributes: int = 0, recursive: bool = False
) -> None:
    """Add attributes, and let mounts and unmounts of the host's end here."""
    flags = (0 if path else _AT_EMPTY_PATH) | (_AT_RECURSIVE if recursive else 0)
    given = struct.pack("=QQQQ", attributes, 0, _PRIVATE, 0)
    call(LAYER, "mount_setattr", directory, os.fsencode(path), flags, given, len(given))
