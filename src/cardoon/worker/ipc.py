"""Frames between the worker and its task processes: typed, bounded, and never pickled.

    type (1 byte)  zero (3)  length of head (4)  length of body (4)  head  body

The head is a small JSON object that the receiver checks; the body is bytes that the worker passes on
without parsing. What a task process sends is untrusted: lengths are checked before anything is
buffered, and a frame that breaks a rule costs the process its life.
"""

from __future__ import annotations

import enum
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from cardoon.exceptions import CardoonError

_PREFIX = struct.Struct("!B3xII")
PREFIX_BYTES = _PREFIX.size
_READ_BYTES = 256 * 1024
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder().raw_decode


class IpcError(CardoonError):
    """The other side sent a frame that it may not send, or went away in the middle of one."""


class ChannelClosedError(IpcError):
    """The other side has closed its end, or died."""


class FrameType(enum.IntEnum):
    """Every kind of frame. The number is the wire value."""

    # worker to task process
    JOB = 1
    CANCEL = 2
    RECALL = 3
    REPLY = 4
    STOP = 5
    # task process to worker
    READY = 16
    OUTCOME = 17
    RECALLED = 18
    SEND = 19
    STATE = 20
    LOAD = 21
    WAIT = 22
    FORGET = 23
    REVOKE = 24
    KEEP_GROUP = 25
    FIND = 26
    REFUSED = 27
    BLOCKED = 28
    # worker to zygote
    INIT = 32
    FORK = 33
    BEGIN = 34
    NOTICE = 35
    NEST = 36
    COMMAND = 37
    # zygote to worker
    REPORT = 48
    FORKED = 49
    DIED = 50
    BEGUN = 51
    ANSWERED = 53
    BARRED = 54
    # nest to worker, besides FORKED and DIED
    NESTED = 52
    # worker to warden
    PROFILE = 64
    # warden to worker
    HATCH = 80
    VIOLATION = 81


class Bounds(NamedTuple):
    """How large a frame may be, in bytes."""

    head: int
    body: int


KIB = 1024
MIB = 1024 * KIB

FROM_WORKER: Mapping[FrameType, Bounds] = {
    FrameType.JOB: Bounds(4 * MIB, 256 * MIB),
    FrameType.CANCEL: Bounds(KIB, 0),
    FrameType.RECALL: Bounds(16 * KIB, 0),
    FrameType.REPLY: Bounds(8 * MIB, 256 * MIB),
    FrameType.STOP: Bounds(KIB, 0),
}
"""What a task process accepts."""

FROM_CHILD: Mapping[FrameType, Bounds] = {
    FrameType.READY: Bounds(KIB, 0),
    FrameType.OUTCOME: Bounds(8 * MIB, 256 * MIB),
    FrameType.RECALLED: Bounds(16 * KIB, 0),
    FrameType.SEND: Bounds(8 * MIB, 64 * MIB),
    FrameType.STATE: Bounds(KIB, MIB),
    FrameType.LOAD: Bounds(MIB, 0),
    FrameType.WAIT: Bounds(MIB, 0),
    FrameType.FORGET: Bounds(MIB, 0),
    FrameType.REVOKE: Bounds(MIB, 0),
    FrameType.KEEP_GROUP: Bounds(KIB, 8 * MIB),
    FrameType.FIND: Bounds(MIB, 0),
    FrameType.REFUSED: Bounds(64 * KIB, 0),
    FrameType.BLOCKED: Bounds(64 * KIB, 0),
}
"""What the worker accepts from a task process, and so all that task code can ask of it."""

FROM_ZYGOTE: Mapping[FrameType, Bounds] = {
    FrameType.REPORT: Bounds(16 * MIB, 0),
    FrameType.FORKED: Bounds(KIB, 0),
    FrameType.DIED: Bounds(KIB, 0),
    FrameType.BEGUN: Bounds(MIB, 0),
    FrameType.BARRED: FROM_CHILD[FrameType.BLOCKED],
}
"""What the worker accepts from the zygote."""

TO_ZYGOTE: Mapping[FrameType, Bounds] = {
    FrameType.INIT: Bounds(MIB, 0),
    FrameType.FORK: Bounds(KIB, 0),
    FrameType.BEGIN: Bounds(64 * KIB, 0),
    FrameType.NEST: Bounds(MIB, 0),
}
"""What the zygote accepts."""

TO_NEST: Mapping[FrameType, Bounds] = {FrameType.FORK: TO_ZYGOTE[FrameType.FORK]}
"""What a nest accepts: it is told of no task."""

FROM_NEST: Mapping[FrameType, Bounds] = {
    FrameType.NESTED: Bounds(64 * KIB, 0),
    FrameType.FORKED: FROM_ZYGOTE[FrameType.FORKED],
    FrameType.DIED: FROM_ZYGOTE[FrameType.DIED],
}
"""What the worker accepts from a nest."""

TO_WARDEN: Mapping[FrameType, Bounds] = {FrameType.PROFILE: Bounds(MIB, 0)}
"""What the warden accepts."""

FROM_WARDEN: Mapping[FrameType, Bounds] = {
    FrameType.HATCH: Bounds(KIB, 0),
    FrameType.VIOLATION: Bounds(8 * KIB, 0),
}
"""What the worker accepts from the warden."""

NOTICE_BYTES = 256 * KIB
TO_RECEIVERS: Mapping[FrameType, Bounds] = {
    FrameType.NOTICE: Bounds(NOTICE_BYTES, 0),
    FrameType.COMMAND: Bounds(NOTICE_BYTES, 0),
}
"""What the zygote accepts on its second channel, for receivers of signals, besides replies."""

HEARD_BY_RECEIVERS: Mapping[FrameType, Bounds] = {
    **TO_RECEIVERS,
    FrameType.REPLY: FROM_WORKER[FrameType.REPLY],
}

FROM_RECEIVERS: Mapping[FrameType, Bounds] = {
    FrameType.ANSWERED: Bounds(NOTICE_BYTES, 0),
    **{
        kind: FROM_CHILD[kind]
        for kind in (
            FrameType.SEND,
            FrameType.LOAD,
            FrameType.WAIT,
            FrameType.FORGET,
            FrameType.REVOKE,
        )
    },
}
"""What the worker accepts there: receivers may ask for what tasks may ask for; commands answer."""


class Frame(NamedTuple):
    """One message between processes."""

    type: FrameType
    head: dict[str, Any]
    body: bytes = b""


def pack_frame(kind: FrameType, head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """The bytes of a frame."""
    text = _encode(head).encode()
    return _PREFIX.pack(kind, len(text), len(body)) + text + body


class FrameReader:
    """Cuts a stream of bytes into frames of the permitted types. No I/O of its own."""

    def __init__(self, permitted: Mapping[FrameType, Bounds]) -> None:
        self._permitted = {kind.value: (kind, bounds) for kind, bounds in permitted.items()}
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes; `IpcError` for one that breaks a rule."""
        buffer = self._buffer
        buffer += data
        frames = []
        start = 0
        while len(buffer) - start >= _PREFIX.size:
            number, head_size, body_size = _PREFIX.unpack_from(buffer, start)
            kind = self._check(number, head_size, body_size)
            begin = start + _PREFIX.size
            middle, end = begin + head_size, begin + head_size + body_size
            if len(buffer) < end:
                break
            frames.append(Frame(kind, _parse_head(buffer[begin:middle]), bytes(buffer[middle:end])))
            start = end
        del buffer[:start]
        return frames

    def _check(self, number: int, head_size: int, body_size: int) -> FrameType:
        try:
            kind, bounds = self._permitted[number]
        except KeyError:
            raise IpcError(f"frame type {number} is not permitted here") from None
        if head_size > bounds.head or body_size > bounds.body:
            raise IpcError(f"{kind.name} frame is too large: {head_size} + {body_size} bytes")
        return kind


def _parse_head(data: bytearray) -> dict[str, Any]:
    try:
        text = data.decode()
        head, end = _decode(text)
    except (ValueError, RecursionError) as error:
        raise IpcError("the head of a frame is not JSON") from error
    if end != len(text):
        raise IpcError("there is more in the head of a frame than its JSON")
    if not isinstance(head, dict):
        raise IpcError("the head of a frame is not an object")
    return head


class Channel:
    """A stream socket that carries frames. Reads are for one thread at a time, writes for any."""

    def __init__(self, sock: socket.socket, permitted: Mapping[FrameType, Bounds]) -> None:
        self.socket = sock
        self._reader = FrameReader(permitted)
        self._ready: deque[Frame] = deque()
        self._writing = threading.Lock()  # keeps frames whole

    def send(self, kind: FrameType, head: Mapping[str, Any], body: bytes = b"") -> None:
        """Write one frame; `IpcError` if the other side is gone."""
        self.write(pack_frame(kind, head, body))

    def write(self, packed: bytes) -> None:
        """Write a frame that `pack_frame` made; `IpcError` if the other side is gone."""
        try:
            with self._writing:
                self.socket.sendall(packed)
        except OSError as error:
            raise IpcError(f"the other side is gone: {error}") from error

    def receive(self, *, wait: bool = True) -> Frame | None:
        """The next frame; without `wait`, None if there is none yet. `IpcError` at the end."""
        while not self._ready:
            try:
                data = self.socket.recv(_READ_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise IpcError(f"the other side is gone: {error}") from error
            if not data:
                raise ChannelClosedError("the other side has closed")
            self._ready.extend(self._reader.feed(data))
        return self._ready.popleft()

    def next_ready(self) -> Frame | None:
        """The next of the frames that came together with the last one, if there is one."""
        return self._ready.popleft() if self._ready else None


def field(
    frame: Frame, name: str, kind: type, *, default: Any = None, optional: bool = False
) -> Any:
    """A member of the head of the expected type; `IpcError` otherwise."""
    value = frame.head.get(name, default)
    if value is None and optional:
        return None
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise IpcError(f"{frame.type.name} frame: {name} is not {kind.__name__}")
    return value
