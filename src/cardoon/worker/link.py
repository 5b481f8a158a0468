"""Link: the Sender of a process that runs tasks. It asks the worker, which alone can sign and connect.

Whatever thread waits for something reads the channel for all of them, one at a time, so that no
thread is spent on reading and a reply to one never waits for another.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from cardoon import exceptions
from cardoon.calling import MAX_NAME_BYTES
from cardoon.exceptions import CardoonError, InvalidTaskError, OperationalError
from cardoon.producer import group_handle
from cardoon.sender import Call, Handle, Receipt, Report, Revocation
from cardoon.worker.ipc import (
    FROM_CHILD,
    MIB,
    PREFIX_BYTES,
    Channel,
    Frame,
    FrameType,
    IpcError,
    field,
    pack_frame,
)
from cardoon.worker.wire import (
    MAX_CALLS,
    call_head,
    handle_heads,
    parse_call,
    parse_receipts,
    parse_reports,
)

T = TypeVar("T")

MAX_FRAME_BODY = 16 * MIB
MAX_FRAME_HEAD = 6 * MIB
"""Calls are gathered into frames of about this size; the worker takes larger ones."""
MAX_ASKED = 2000
"""Results asked for in one frame: with ids of the largest size, as JSON, they fit a head of 1 MiB."""

_ERRORS: Mapping[str, type[CardoonError]] = {
    kind.__name__: kind
    for kind in (
        exceptions.EncodeError,
        exceptions.IdentityError,
        exceptions.ImproperlyConfigured,
        exceptions.InvalidTaskError,
        exceptions.OperationalError,
        exceptions.SecurityError,
    )
}


class Link:
    """Requests and replies over the channel; frames of other kinds go to `on_frame`."""

    def __init__(self, channel: Channel, *, on_frame: Callable[[Frame], None]) -> None:
        self.channel = channel
        self._on_frame = on_frame
        self._changed = threading.Condition(threading.Lock())  # protects the rest
        self._reading = False
        self._number = 0
        self._replies: dict[int, Frame | None] = {}
        self._closed = False

    # Sender

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Ask the worker to sign and publish. More than one frame's worth is not one transaction."""
        heads = [_checked_head(call) for call in calls]  # all of them, before any is sent
        groups = list(_frames_of(calls, heads))
        if len(groups) > 1 and any(call.after for call in calls):
            raise InvalidTaskError(
                f"a canvas of {len(calls)} tasks is more than a task can send at once; send it in parts"
            )
        receipts: list[Receipt] = []
        start = 0
        for group in groups:
            bodies = [call.body for call in calls[start : start + len(group)]]
            head = {"timeout": float(timeout), "calls": group}
            reply = self.request(FrameType.SEND, head, b"".join(bodies))
            receipts += parse_receipts(reply)
            start += len(group)
        return receipts

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Ask the worker for present states."""
        found: dict[str, Report] = {}
        for group in _groups(handles):
            reply = self.request(FrameType.LOAD, {"handles": handle_heads(group)})
            found.update((report.task_id, report) for report in parse_reports(reply))
        return found

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Ask the worker to wait; it answers with whatever has ended, or with nothing in the end."""
        done: set[str] = set()
        while pending := [handle for handle in handles if handle.task_id not in done]:
            # Asked anew every second at least: `handles` may have grown.
            round_ = 1.0 if timeout is None else max(0.0, min(1.0, timeout))
            groups = _groups(pending)
            before = len(done)
            for group in groups:
                head = {"handles": handle_heads(group), "timeout": round_ / len(groups)}
                for report in parse_reports(self.request(FrameType.WAIT, head)):
                    done.add(report.task_id)
                    yield report
            if timeout is not None and len(done) == before:
                timeout -= round_
                if timeout <= 0:
                    return

    def forget(self, task_ids: Sequence[str]) -> None:
        """Ask the worker to delete results."""
        for group in _groups(task_ids):
            self.request(FrameType.FORGET, {"ids": group})

    def revoke(self, revocation: Revocation) -> None:
        """Ask the worker to broadcast a revocation."""
        head = {"terminate": revocation.terminate, "signal": revocation.signal}
        if revocation.stamps:
            self.request(FrameType.REVOKE, {**head, "ids": [], "stamps": dict(revocation.stamps)})
        else:
            self.request(FrameType.REVOKE, {**head, "ids": list(revocation.task_ids)})

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Tell the worker the state of the running task; not answered."""
        head = {"id": task_id, "state": state, "codec": codec}
        self.channel.write(_pack(FrameType.STATE, head, body))

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """Ask the worker to sign and store which results a group consists of."""
        self.request(FrameType.KEEP_GROUP, {"id": group_id, "codec": codec}, body)

    def load_group(self, group_id: str) -> Report | None:
        """Ask the worker for what was saved under the id."""
        return self.load([group_handle(group_id)]).get(group_id)

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """Ask the worker where messages lie."""
        found: dict[str, str] = {}
        for group in _groups(task_ids):
            found.update(field(self.request(FrameType.FIND, {"ids": group}), "found", dict))
        return found

    # Reading

    def request(self, kind: FrameType, head: Mapping[str, Any], body: bytes = b"") -> Frame:
        """Send a request and wait for its reply; raises the error that it names."""
        with self._changed:
            self._number += 1
            number = self._number
            self._replies[number] = None
        try:
            self.channel.write(_pack(kind, {"n": number, **head}, body))
            self.read_until(lambda: self._replies[number] is not None)
            reply = self._replies[number]
        except IpcError as error:
            raise OperationalError(f"the worker is gone: {error}") from error
        finally:
            self._replies.pop(number, None)
        assert reply is not None
        described = reply.head.get("error")
        if isinstance(described, dict):
            kind_of_error = _ERRORS.get(str(described.get("type")), OperationalError)
            raise kind_of_error(str(described.get("message")))
        return reply

    def read_until(self, happened: Callable[[], bool]) -> None:
        """Read frames, or wait while another thread does, until something has happened."""
        while not happened():
            with self._changed:
                while self._reading and not happened():
                    self._changed.wait()
                if happened():
                    return
                self._reading = True
            self._read_some(wait=True)

    def read_now(self) -> None:
        """Take in what is there without waiting; for signal handlers, so it never takes a held lock."""
        if not self._changed.acquire(blocking=False):
            return
        try:
            if self._reading:
                return
            self._reading = True
        finally:
            self._changed.release()
        while self._read_some(wait=False):
            self._reading = True

    def _read_some(self, *, wait: bool) -> bool:
        """Take in a frame, and those that came with it: looking for each by itself costs as much again."""
        try:
            frame = self.channel.receive(wait=wait)
            was_there = frame is not None
            while frame is not None:  # one by one, for what one says may be raised in a task
                self._hear(frame)
                frame = self.channel.next_ready()
            return was_there
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()

    def _hear(self, frame: Frame) -> None:
        if frame.type is not FrameType.REPLY:
            self._on_frame(frame)
            return
        number = field(frame, "n", int)
        if number in self._replies:
            self._replies[number] = frame


def _pack(kind: FrameType, head: Mapping[str, Any], body: bytes) -> bytes:
    """A frame; `InvalidTaskError` for one that would cost this process its life."""
    packed = pack_frame(kind, head, body)
    bounds = FROM_CHILD[kind]
    size = len(packed) - PREFIX_BYTES - len(body)
    if size > bounds.head or len(body) > bounds.body:
        raise InvalidTaskError(
            f"{kind.name.lower()}: {size} + {len(body)} bytes are more than a task can tell its "
            f"worker at once, which is {bounds.head} + {bounds.body}"
        )
    return packed


def _checked_head(call: Call) -> dict[str, Any]:
    """A call without its body; `InvalidTaskError` for one that the worker would not take."""
    head = call_head(call)
    try:
        parse_call(head, call.body)
    except IpcError as error:
        raise InvalidTaskError(f"{call.task[:MAX_NAME_BYTES]}: {error}") from error
    return head


def _frames_of(
    calls: Sequence[Call], heads: Sequence[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    """The heads of calls in groups that fit a frame with their bodies."""
    group: list[dict[str, Any]] = []
    head_size = body_size = 0
    for call, head in zip(calls, heads, strict=True):
        size = len(json.dumps(head))
        is_full = head_size + size > MAX_FRAME_HEAD or body_size + len(call.body) > MAX_FRAME_BODY
        if group and (len(group) == MAX_CALLS or is_full):
            yield group
            group, head_size, body_size = [], 0, 0
        group.append(head)
        head_size += size
        body_size += len(call.body)
    if group:
        yield group


def _groups(asked: Sequence[T]) -> list[list[T]]:
    """What is asked for, as much at a time as fits a frame."""
    return [list(asked[at : at + MAX_ASKED]) for at in range(0, len(asked), MAX_ASKED)]
