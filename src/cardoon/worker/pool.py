"""The Pool contract: what runs jobs, how much it takes, and how it says that one has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from cardoon.exceptions import Refusal
from cardoon.sandbox.violations import Violation
from cardoon.sender import Call
from cardoon.worker.ipc import Frame, IpcError, field
from cardoon.worker.wire import parse_call, parse_calls

MAX_ERROR_NAME = 100
"""Characters of the name of an exception's type."""


class Job(NamedTuple):
    """A verified message with its limits, ready to run."""

    key: int
    """Names the job between the worker and its processes; never used twice."""
    task: str
    id: str
    head: dict[str, Any]
    body: bytes
    soft_limit: float | None = None
    hard_limit: float | None = None
    """Seconds."""
    alone: bool = False
    """It has taken a process down before: run it with nothing else beside or behind it."""
    profile: int = 0
    """Which of the worker's sandbox profiles it runs in, by its place in their table."""
    on_begun: Callable[[int], None] | None = None
    """Is told the key when it begins; must neither wait nor raise."""

    def begin(self) -> None:
        """Say that it begins."""
        if self.on_begun is not None:
            self.on_begun(self.key)


class Succeeded(NamedTuple):
    """The task returned; `body` is its result, encoded."""

    body: bytes


class Failed(NamedTuple):
    """The task raised; `body` describes the exception."""

    body: bytes
    exhausted: bool = False
    """Whether it asked for more retries than it has."""
    error: str = ""
    """The type of the exception, as the process says."""


class Retried(NamedTuple):
    """The task wants to run again, at `when` (seconds since the epoch) or at once."""

    body: bytes
    when: float | None
    replacement: Call | None
    """The new message, where arguments or options changed."""
    error: str = ""
    """The type of the exception that it wants to run again for."""


class Rejected(NamedTuple):
    """The task refused its message."""

    body: bytes
    reason: str
    requeue: bool


class Replaced(NamedTuple):
    """The task put a canvas in its place; the call with its id is the one that answers for it."""

    calls: Sequence[Call]


class Ignored(NamedTuple):
    """The task wants nothing stored."""


class Unreadable(NamedTuple):
    """The verified body could not be decoded."""

    reason: Refusal
    detail: str


class HandedBack(NamedTuple):
    """It did not begin, or was interrupted because the worker stops; nobody is to blame."""


class Crashed(NamedTuple):
    """The process that ran it died."""

    detail: str
    violations: Sequence[Violation] = ()
    """What its end says of its sandbox."""


class TimedOut(NamedTuple):
    """It ran into its hard time limit, and its process was killed."""

    limit: float


class Killed(NamedTuple):
    """It was stopped on request."""

    signal: str


Ending = (
    Succeeded
    | Failed
    | Retried
    | Rejected
    | Replaced
    | Ignored
    | Unreadable
    | HandedBack
    | Crashed
    | TimedOut
    | Killed
)

OnEnded = Callable[[int, Ending], None]
"""Told the key of a job and how it ended, exactly once for each job that was taken."""


class Pool(Protocol):
    """Runs jobs. All methods are safe from any thread; `run` is the main thread's."""

    def run(self, until: Callable[[], bool]) -> None:
        """Do the pool's work in the calling thread until `until()` holds and nothing is left."""
        ...

    def wait_for_room(self, timeout: float) -> int:
        """How many jobs it would take now; waits for room up to `timeout` seconds, then 0."""
        ...

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, at most as many as there was room for."""
        ...

    def cancel(self, key: int, *, signal: str) -> bool:
        """Stop a job that runs, by force; whether it was there."""
        ...

    def drain(self, *, soft: float, hard: float) -> None:
        """Take no more, hand back what has not begun; interrupt the rest in `soft` seconds.

        What still runs in `hard` seconds is killed. A second call may only shorten the times.
        """
        ...

    def wake(self) -> None:
        """Have `run` look at its condition."""
        ...


def parse_ending(frame: Frame) -> Ending:
    """How a job ended, from what a task process says; `IpcError` if that makes no sense."""
    match field(frame, "kind", str):
        case "succeeded":
            return Succeeded(frame.body)
        case "failed":
            exhausted = field(frame, "exhausted", bool, default=False)
            return Failed(frame.body, exhausted, _error_name(frame))
        case "retried":
            return _parse_retried(frame)
        case "rejected":
            return Rejected(frame.body, field(frame, "reason", str), field(frame, "requeue", bool))
        case "replaced":
            return Replaced(parse_calls(frame))
        case "ignored":
            return Ignored()
        case "unreadable":
            return _parse_unreadable(frame)
        case "handed_back":
            return HandedBack()
        case kind:
            raise IpcError(f"OUTCOME frame: unknown kind {kind!r}")


def _error_name(frame: Frame) -> str:
    name: str = field(frame, "error", str, default="")
    return name[:MAX_ERROR_NAME]


def _parse_unreadable(frame: Frame) -> Unreadable:
    try:
        reason = Refusal(field(frame, "reason", str))
    except ValueError as error:
        raise IpcError("OUTCOME frame: unknown reason") from error
    return Unreadable(reason, field(frame, "detail", str))


def _parse_retried(frame: Frame) -> Retried:
    when = frame.head.get("when")
    if when is not None and not (isinstance(when, (int, float)) and 0 <= when < 1e11):
        raise IpcError("OUTCOME frame: when is not a time")
    split = field(frame, "split", int)
    if not 0 <= split <= len(frame.body):
        raise IpcError("OUTCOME frame: split is outside of the body")
    head = frame.head.get("call")
    replacement = None if head is None else _parse_replacement(head, frame.body[split:])
    moment = None if when is None else float(when)
    return Retried(frame.body[:split], moment, replacement, _error_name(frame))


def _parse_replacement(head: object, body: bytes) -> Call:
    """A call that can be signed: it is, together with the outcomes of other processes' jobs."""
    call = parse_call(head, body)
    for text in (call.queue, call.codec, call.root or "", call.parent or ""):
        if not text.isprintable():
            raise IpcError(f"OUTCOME frame: {text!r} in a replacement is not printable")
    return call
