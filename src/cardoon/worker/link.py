"""Link: the Sender of a process that runs tasks. It asks the worker, which alone can sign and connect.

Whatever thread waits for something reads the channel for all of them, one at a time, so that no
thread is spent on reading and a reply to one never waits for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from cardoon import exceptions
from cardoon.exceptions import CardoonError, OperationalError
from cardoon.sender import Call, Handle, Report, Revocation
from cardoon.worker.ipc import Channel, Frame, FrameType, IpcError, field
from cardoon.worker.wire import MAX_CALLS, call_head, handle_heads, parse_reports

MAX_FRAME_BODY = 16 * 1024 * 1024
"""Calls are gathered into frames of about this size."""

_ERRORS: Mapping[str, type[CardoonError]] = {
    kind.__name__: kind
    for kind in (
        exceptions.EncodeError,
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

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[bytes]:
        """Ask the worker to sign and publish. More than one frame's worth is not one transaction."""
        digests: list[bytes] = []
        for group in _frames_of(calls):
            reply = self.request(
                FrameType.SEND,
                {"timeout": timeout, "calls": [call_head(call) for call in group]},
                b"".join(call.body for call in group),
            )
            digests += [bytes.fromhex(digest) for digest in field(reply, "digests", list)]
        return digests

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Ask the worker for present states."""
        reply = self.request(FrameType.LOAD, {"handles": handle_heads(handles)})
        return {report.task_id: report for report in parse_reports(reply)}

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Ask the worker to wait; it answers with whatever has ended, or with nothing in the end."""
        done: set[str] = set()
        while pending := [handle for handle in handles if handle.task_id not in done]:
            # Asked anew every second at least: `handles` may have grown.
            slice_ = 1.0 if timeout is None else min(1.0, timeout)
            reply = self.request(
                FrameType.WAIT, {"handles": handle_heads(pending), "timeout": slice_}
            )
            reports = parse_reports(reply)
            for report in reports:
                done.add(report.task_id)
                yield report
            if timeout is not None and not reports:
                timeout -= slice_
                if timeout <= 0:
                    return

    def forget(self, task_ids: Sequence[str]) -> None:
        """Ask the worker to delete results."""
        self.request(FrameType.FORGET, {"ids": list(task_ids)})

    def revoke(self, revocation: Revocation) -> None:
        """Ask the worker to broadcast a revocation."""
        self.request(
            FrameType.REVOKE,
            {
                "ids": list(revocation.task_ids),
                "terminate": revocation.terminate,
                "signal": revocation.signal,
            },
        )

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Tell the worker the state of the running task; not answered."""
        self.channel.send(FrameType.STATE, {"id": task_id, "state": state, "codec": codec}, body)

    # Reading

    def request(self, kind: FrameType, head: Mapping[str, Any], body: bytes = b"") -> Frame:
        """Send a request and wait for its reply; raises the error that it names."""
        with self._changed:
            self._number += 1
            number = self._number
            self._replies[number] = None
        try:
            self.channel.send(kind, {"n": number, **head}, body)
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
            self._read_one(wait=True)

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
        while self._read_one(wait=False):
            self._reading = True

    def _read_one(self, *, wait: bool) -> bool:
        try:
            frame = self.channel.receive(wait=wait)
            if frame is None:
                return False
            if frame.type is FrameType.REPLY:
                number = field(frame, "n", int)
                if number in self._replies:
                    self._replies[number] = frame
            else:
                self._on_frame(frame)
            return True
        finally:
            with self._changed:
                self._reading = False
                self._changed.notify_all()


def _frames_of(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Calls in groups that fit a frame."""
    group: list[Call] = []
    size = 0
    for call in calls:
        if group and (len(group) == MAX_CALLS or size + len(call.body) > MAX_FRAME_BODY):
            yield group
            group, size = [], 0
        group.append(call)
        size += len(call.body) + 512
    if group:
        yield group
