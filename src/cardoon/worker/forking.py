"""Both ends of a control socket: one process asks another to fork, with descriptors, and hears of it.

Requests and answers are frames; descriptors travel beside them, in the order of the frames that say how
many are theirs.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cardoon.worker.ipc import (
    FROM_ZYGOTE,
    Bounds,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    pack_frame,
)

_READ_BYTES = 65536
_MOST_DESCRIPTORS = 64
"""Taken in with one read."""

Told = tuple[Frame, int | None]
"""A frame and the pidfd that came with it, if it tells of a birth and the system has such."""


class ForkClient:
    """The worker's end. Used by one thread at a time."""

    def __init__(
        self, sock: socket.socket, permitted: Mapping[FrameType, Bounds] = FROM_ZYGOTE
    ) -> None:
        self._socket = sock
        self._reader = FrameReader(permitted)
        self._handles: deque[int] = deque()

    def fileno(self) -> int:
        """The socket, for selectors."""
        return self._socket.fileno()

    def ask(
        self, kind: FrameType, head: Mapping[str, Any], descriptors: Sequence[int] = ()
    ) -> None:
        """Send a request and the descriptors that are for it; `IpcError` if nobody takes it."""
        count = {"descriptors": len(descriptors)} if descriptors else {}
        frame = pack_frame(kind, {**head, **count})
        try:
            if descriptors:
                sent = socket.send_fds(self._socket, [frame], descriptors)
                frame = frame[sent:]
            self._socket.sendall(frame)
        except OSError as error:
            raise IpcError(f"the process that forks is gone: {error}") from error

    def receive(self) -> list[Told]:
        """What it says; blocks until it says something. `IpcError` when it is gone."""
        try:
            data, handles, _, _ = socket.recv_fds(self._socket, _READ_BYTES, _MOST_DESCRIPTORS)
        except OSError as error:
            raise IpcError(f"the process that forks is gone: {error}") from error
        if not data:
            raise IpcError("the process that forks is gone")
        self._handles.extend(handles)
        return [
            (
                frame,
                self._handles.popleft()
                if frame.type is FrameType.FORKED and self._handles
                else None,
            )
            for frame in self._reader.feed(data)
        ]

    def close(self) -> None:
        """Let go of everything; safe twice."""
        self._socket.close()
        while self._handles:
            os.close(self._handles.popleft())


class ForkServer:
    """The end of the process that forks. When the other end is gone, so is this process."""

    def __init__(self, control: socket.socket, permitted: Mapping[FrameType, Bounds]) -> None:
        self._control = control
        self._reader = FrameReader(permitted)
        self._frames: deque[Frame] = deque()
        self._descriptors: deque[int] = deque()
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_write, False)

    @property
    def own(self) -> list[int]:
        """Its descriptors."""
        return [self._control.fileno(), self.wake_read, self.wake_write]

    def fileno(self) -> int:
        """The control socket, for selectors."""
        return self._control.fileno()

    def next(self) -> Frame:
        """The next request, however long it takes."""
        while not self._frames:
            self._read()
        return self._frames.popleft()

    def requests(self) -> Iterator[Frame]:
        """What has been asked by now; blocks for as long as nothing has."""
        self._read()
        while self._frames:
            yield self._frames.popleft()

    def descriptors_of(self, frame: Frame) -> list[int]:
        """Those that came with a request, which are the caller's to close."""
        return [self._descriptors.popleft() for _ in range(frame.head.get("descriptors", 0))]

    def heed_wakes(self) -> None:
        """Empty the pipe that signals write to."""
        os.read(self.wake_read, 4096)

    def tell(self, packed: bytes) -> None:
        """Send a frame."""
        with contextlib.suppress(OSError):  # whoever does not listen is gone, which `_read` sees
            self._control.sendall(packed)

    def tell_of_birth(self, index: int, pid: int) -> None:
        """Say that a process was forked, with a pidfd where the system has such."""
        told = pack_frame(FrameType.FORKED, {"index": index, "pid": pid})
        try:
            handle = os.pidfd_open(pid)
        except (AttributeError, OSError):  # macOS, old kernels
            self.tell(told)
            return
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [told], [handle])
        os.close(handle)

    def tell_of_death(self, index: int, pid: int, status: int) -> None:
        """Say how a process ended; `status` is what wait(2) said."""
        code = os.waitstatus_to_exitcode(status)
        self.tell(pack_frame(FrameType.DIED, {"index": index, "pid": pid, "code": code}))

    def leave(self) -> None:
        """In a child: let go of it."""
        self._control.close()
        os.close(self.wake_read)
        os.close(self.wake_write)
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _READ_BYTES, _MOST_DESCRIPTORS)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            # The worker is gone. The children have lost their channels, and us.
            os._exit(0)
        self._descriptors.extend(descriptors)
        self._frames.extend(self._reader.feed(data))
