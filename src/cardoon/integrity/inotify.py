"""What the kernel tells of changes in folders (inotify(7)), read through the C library."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = (
    0x40,
    0x80,
    0x100,
    0x200,
    0x400,
    0x800,
)
OVERFLOW, IGNORED, IS_FOLDER = 0x4000, 0x8000, 0x40000000
_DONT_FOLLOW, _EXCLUDE_UNLINKED = 0x2000000, 0x4000000
_WANTED = (
    MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
    | _DONT_FOLLOW | _EXCLUDE_UNLINKED
)  # fmt: skip
_HEAD = struct.Struct("iIII")
_BUFFER = 64 * 1024
is_available = sys.platform == "linux"


class Event(NamedTuple):
    """One change: what happened, and to what; no path where events were lost."""

    mask: int
    path: str

    @property
    def is_lost(self) -> bool:
        """Whether the kernel had more to tell than it keeps: anything may have changed."""
        return bool(self.mask & OVERFLOW)

    @property
    def changes_folders(self) -> bool:
        """Whether there is another folder to watch now, or one less."""
        return bool(self.mask & IS_FOLDER) or bool(self.mask & (DELETE_SELF | MOVE_SELF))


class Inotify:
    """Folders and files that are watched. For one thread; `OSError` where the kernel refuses."""

    def __init__(self) -> None:
        if not is_available:
            raise OSError("this system has no inotify")
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._call("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK)
        self._paths: dict[int, str] = {}

    def add(self, path: str) -> None:
        """Watch this one; nothing changes for one that is watched already."""
        encoded = ctypes.c_char_p(os.fsencode(path))
        number = self._call(
            "inotify_add_watch", self._descriptor, encoded, ctypes.c_uint32(_WANTED)
        )
        self._paths[number] = path

    def wait(self, seconds: float) -> list[Event]:
        """What has happened, after at most this time."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return []
        try:
            content = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        return list(self._parse(content))

    def close(self) -> None:
        """Watch nothing any more; safe twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __len__(self) -> int:
        return len(self._paths)

    def _parse(self, content: bytes) -> Iterator[Event]:
        at = 0
        while at < len(content):
            number, mask, _, length = _HEAD.unpack_from(content, at)
            at += _HEAD.size
            name = os.fsdecode(content[at : at + length].rstrip(b"\0"))
            at += length
            if mask & IGNORED:  # what was watched is gone; its number may be another's later
                self._paths.pop(number, None)
                continue
            folder = self._paths.get(number, "")
            yield Event(mask, os.path.join(folder, name) if name else folder)  # noqa: PTH118 - text

    def _call(self, name: str, *arguments: object) -> int:
        answer: int = getattr(self._library, name)(*arguments)
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return answer
