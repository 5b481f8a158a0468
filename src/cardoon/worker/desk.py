"""The desk: answers what task code asks of the worker, which is all that task code can ask.

SEND     sign and publish calls         through the settler, with the worker's own identity
STATE    store a state                  of a task that this very process runs, and no other
LOAD     read present states            opened at the gate
WAIT     wait a second for final ones
FORGET   delete results
REVOKE   broadcast a revocation
BLOCKED  write down a module that was not imported, for its file is not what the baseline says
REFUSED  write down what a task's sandbox has refused it, as the task itself says
KEEP_GROUP  sign and store which results a group consists of
FIND     say where messages lie
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from cardoon.clock import Clock
from cardoon.contents import find_content, is_pickle, split_codec
from cardoon.exceptions import CardoonError, ImproperlyConfigured, InvalidTaskError
from cardoon.message.protocol import MAX_ID
from cardoon.producer import Producer
from cardoon.sandbox.violations import parse as parse_violations
from cardoon.sender import Receipt, Report, Revocation
from cardoon.worker.concluding import ResultState
from cardoon.worker.held import HeldTable
from cardoon.worker.import_guard import read_blocked
from cardoon.worker.import_watch import ImportWatch
from cardoon.worker.ipc import Frame, FrameType, IpcError, field
from cardoon.worker.origins import on_behalf_of
from cardoon.worker.settler import Send, Settler, State
from cardoon.worker.violation_log import ViolationLog
from cardoon.worker.wire import parse_calls, parse_handles, receipt_heads, report_head

logger = logging.getLogger(__name__)

MAX_SEND_TIMEOUT = 60.0
MAX_WAIT = 1.0
MAX_STATE = 64
_THREADS = 8
_READING = frozenset(
    {
        FrameType.LOAD,
        FrameType.WAIT,
        FrameType.FORGET,
        FrameType.REVOKE,
        FrameType.KEEP_GROUP,
        FrameType.FIND,
    }
)
"""What is answered by another thread, with the stores' own words."""


class Reply(Protocol):
    """Where the answer to a request goes."""

    @property
    def keys(self) -> tuple[int, ...]:
        """The jobs on whose behalf it was asked."""
        ...

    def answer(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send the reply; nothing happens if nobody is there to take it."""
        ...


class Desk:
    """Takes requests from the supervisor's thread and answers them from others."""

    def __init__(
        self,
        *,
        settler: Settler,
        held: HeldTable,
        reader: Callable[[], Producer],
        clock: Clock,
        violations: ViolationLog | None = None,
        imports: ImportWatch | None = None,
    ) -> None:
        self._settler = settler
        self._held = held
        self._reader = reader
        self._clock = clock
        self._violations = violations
        self._imports = imports
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="desk")

    def take(self, reply: Reply, frame: Frame) -> None:
        """Take a request; `IpcError` for one that makes no sense, which ends the process."""
        match frame.type:
            case FrameType.SEND:
                self._send(reply, frame)
            case FrameType.STATE:
                self._state(reply, frame)
            case FrameType.BLOCKED:
                if self._imports is None:
                    raise IpcError("BLOCKED frame, where no imports are guarded")
                self._imports.take(read_blocked(frame), is_certain=False)
            case FrameType.REFUSED:
                self._refused(reply, frame)
            case kind if kind in _READING:
                work = self._reading(frame)
                self._threads.submit(self._answer, reply, work)
            case _:
                raise IpcError(f"{frame.type.name} is not a request")

    def close(self) -> None:
        """Answer no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _send(self, reply: Reply, frame: Frame) -> None:
        calls = parse_calls(frame)
        timeout = min(MAX_SEND_TIMEOUT, field(frame, "timeout", float))
        if not calls:
            reply.answer({"digests": []})
            return

        def done(outcome: Sequence[Receipt] | CardoonError) -> None:
            if isinstance(outcome, CardoonError):
                reply.answer(_describe(outcome))
            else:
                reply.answer({"digests": receipt_heads(outcome)})

        running = [held for held in map(self._held.get, reply.keys) if held is not None]
        sent = on_behalf_of(calls, running)
        self._settler.put(Send(sent, self._clock.monotonic() + timeout, done))

    def _state(self, reply: Reply, frame: Frame) -> None:
        """Progress: only of a task that the process runs, and never a final state of its own making."""
        task_id, state = field(frame, "id", str), field(frame, "state", str)
        codec = field(frame, "codec", str)
        if not 0 < len(state) <= MAX_STATE:
            raise IpcError("STATE frame: no state")
        for key in reply.keys:
            held = self._held.get(key)
            if held is not None and held.id == task_id:
                if codec != held.answer_codec:
                    raise IpcError("STATE frame: not in the codec that the task was told")
                self._settler.put(State(held, ResultState(state, codec, frame.body)))
                return
        logger.warning("a task told the state of task %s, which it does not run", task_id)

    def _refused(self, reply: Reply, frame: Frame) -> None:
        """What a task says of its sandbox: of a job that the process has, or it is passed over."""
        key, found = (
            field(frame, "key", int),
            parse_violations(field(frame, "found", list), by="task"),
        )
        if self._violations is not None and key in reply.keys:
            self._violations.take(key, found)

    def _reading(self, frame: Frame) -> Callable[[], tuple[dict[str, Any], bytes]]:
        """The work of a request that reads or writes the stores by itself."""
        match frame.type:
            case FrameType.LOAD:
                handles = parse_handles(frame)
                return lambda: _reports(list(self._reader().load(handles).values()))
            case FrameType.WAIT:
                handles = parse_handles(frame)
                timeout = min(MAX_WAIT, max(0.0, field(frame, "timeout", float)))
                return lambda: self._wait(handles, timeout)
            case FrameType.FORGET:
                ids = _ids(frame)
                return lambda: self._forget(ids)
            case FrameType.FIND:
                ids = _ids(frame)
                return lambda: ({"found": dict(self._reader().find(ids))}, b"")
            case FrameType.KEEP_GROUP:
                name, codec = field(frame, "id", str), field(frame, "codec", str)
                if not _is_of_results(codec):
                    raise IpcError("KEEP_GROUP frame: unknown codec, or one that no result has")
                if not name.isprintable() or not 0 < len(name) <= MAX_ID:
                    raise IpcError("KEEP_GROUP frame: no id")
                return lambda: self._keep_group(name, codec, frame.body)
            case _:
                revocation = Revocation(
                    tuple(_ids(frame)),
                    field(frame, "terminate", bool),
                    field(frame, "signal", str),
                    _stamps(frame),
                )
                return lambda: self._revoke(revocation)

    def _wait(self, handles: Sequence[Any], timeout: float) -> tuple[dict[str, Any], bytes]:
        """The first result that comes, and those that are there with it."""
        found = list(self._reader().wait(handles, timeout=0.0))
        if not found and timeout:
            first = next(iter(self._reader().wait(handles, timeout=timeout)), None)
            found = [first] if first is not None else []
        return _reports(found)

    def _forget(self, ids: Sequence[str]) -> tuple[dict[str, Any], bytes]:
        self._reader().forget(ids)
        return {}, b""

    def _revoke(self, revocation: Revocation) -> tuple[dict[str, Any], bytes]:
        self._reader().revoke(revocation)
        return {}, b""

    def _keep_group(self, name: str, codec: str, body: bytes) -> tuple[dict[str, Any], bytes]:
        self._reader().save_group(name, codec, body)
        return {}, b""

    def _answer(self, reply: Reply, work: Callable[[], tuple[dict[str, Any], bytes]]) -> None:
        try:
            head, body = work()
        except CardoonError as error:
            reply.answer(_describe(error))
        except Exception as error:  # one request must not end the desk
            logger.exception("a request of a task failed")
            reply.answer(_describe(InvalidTaskError(str(error))))
        else:
            reply.answer(head, body)


def _reports(reports: Sequence[Report]) -> tuple[dict[str, Any], bytes]:
    return (
        {"reports": [report_head(report) for report in reports]},
        b"".join(report.body for report in reports),
    )


def _describe(error: CardoonError) -> dict[str, Any]:
    return {"error": {"type": type(error).__name__, "message": str(error)[:4096]}}


def _stamps(frame: Frame) -> dict[str, list[Any]]:
    """The stamps of a REVOKE frame, whose size bounds their number."""
    stamps: dict[str, list[Any]] = field(frame, "stamps", dict, default={})
    if not all(isinstance(values, list) for values in stamps.values()):
        raise IpcError(f"{frame.type.name} frame: the values of a stamp are not a list")
    return stamps


def _is_of_results(codec: str) -> bool:
    """Whether a result may be written so; what task processes make is never unpickled."""
    media_type = split_codec(codec)[0]
    try:
        content = find_content(media_type)
    except ImproperlyConfigured:
        return False
    return content.media_type == media_type and not is_pickle(codec)


def _ids(frame: Frame) -> list[str]:
    ids: list[str] = field(frame, "ids", list)
    if not all(isinstance(one, str) for one in ids):
        raise IpcError(f"{frame.type.name} frame: an id is not text")
    return ids
