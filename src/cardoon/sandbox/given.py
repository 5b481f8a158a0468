"""Sockets that one task was given, so that it may ask twice whether they are connected.

A socket that does not block is given while it connects. Some programs wait and call connect() again; the
kernel would say EISCONN or EALREADY then, and so do we instead of making another connection.
"""

from __future__ import annotations

import errno
import os
import socket

from cardoon.sandbox.loop import WRITE, Loop

_MAX_KNOWN = 1024
"""Sockets of a task that are remembered; the oldest is forgotten, and a second connect() of it connects."""
_MAX_CONNECTING = 64


class Given:
    """What became of the sockets of one task, by inode. Belongs to the thread of a loop."""

    def __init__(self) -> None:
        self._connected: dict[int, bool] = {}
        self._connecting: dict[int, socket.socket] = {}

    @property
    def has_room(self) -> bool:
        """Whether another one may be given while it connects."""
        return len(self._connecting) < _MAX_CONNECTING

    def check(self, inode: int) -> None:
        """Nothing for a socket that is not ours; else `OSError` with what its connect() says now."""
        if inode in self._connecting:
            raise OSError(errno.EALREADY, os.strerror(errno.EALREADY))
        if inode in self._connected:
            code = errno.EISCONN if self._connected[inode] else errno.ECONNREFUSED
            if code != errno.EISCONN:
                del self._connected[inode]  # said once, as the kernel does
            raise OSError(code, os.strerror(code))

    def note(self, loop: Loop, given: socket.socket, *, is_connected: bool) -> None:
        """Remember a socket that the task has now."""
        inode = os.fstat(given.fileno()).st_ino
        if is_connected:
            self._settle(inode, is_connected=True)
            return
        # Its own, since the task may close its descriptor; held until it is connected or is not.
        kept = given.dup()
        self._connecting[inode] = kept
        loop.watch(kept.fileno(), WRITE, lambda _: self._look(loop, inode))

    def close(self, loop: Loop) -> None:
        """Forget them."""
        for kept in self._connecting.values():
            loop.forget(kept.fileno())
            kept.close()
        self._connecting.clear()

    def _look(self, loop: Loop, inode: int) -> None:
        kept = self._connecting.pop(inode, None)
        if kept is None:
            return
        loop.forget(kept.fileno())
        with kept:
            try:
                kept.getpeername()  # not SO_ERROR, which is told once, and is the task's
            except OSError:
                self._settle(inode, is_connected=False)
            else:
                self._settle(inode, is_connected=True)

    def _settle(self, inode: int, *, is_connected: bool) -> None:
        self._connected[inode] = is_connected
        while len(self._connected) > _MAX_KNOWN:
            del self._connected[next(iter(self._connected))]
