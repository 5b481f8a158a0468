"""AsyncResult: a handle on a result to come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from cardoon import states
from cardoon.context import current_request
from cardoon.exceptions import (
    CardoonError,
    ImproperlyConfigured,
    RemoteError,
    TimeoutError,  # noqa: A004  # Celery's name
)
from cardoon.message.serializers import decode_body
from cardoon.result.described import rebuild_exception
from cardoon.sender import Duplicate, Handle, Receipt, Report, Revocation, Sender

if TYPE_CHECKING:
    from cardoon.result.several import ResultSet

R = TypeVar("R")

_joins_allowed: ContextVar[bool] = ContextVar("joins_allowed", default=False)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let task code wait for the results of other tasks within this block."""
    token = _joins_allowed.set(True)
    try:
        yield
    finally:
        _joins_allowed.reset(token)


def check_may_wait() -> None:
    """`RuntimeError` inside of a task that a worker runs, unless it is allowed there."""
    running = current_request()
    if running is not None and running.hostname is not None and not _joins_allowed.get():
        raise RuntimeError(
            "a task must not wait for the result of another one: it holds a process that the other "
            "may need; pass disable_sync_subtasks=False or use allow_join_result() if you know better"
        )


class ResultSource(Protocol):
    """Where results are read: what `AsyncResult` needs of an app."""

    @property
    def sender(self) -> Sender:
        """The way to the result backend."""
        ...

    @property
    def max_result_bytes(self) -> int:
        """How large a decoded result may be."""
        ...

    @property
    def result_codec(self) -> str:
        """How what it keeps beside results is written."""
        ...

    async def wait_for(self, handle: Handle) -> Report:
        """The final result, without blocking the running event loop."""
        ...


_default_sources: list[Callable[[], ResultSource]] = []


def set_default_source(find: Callable[[], ResultSource]) -> None:
    """Say where results are read that were asked for without an app."""
    _default_sources[:] = [find]


def find_source(backend: Any = None) -> ResultSource:
    """Where `app.backend` reads, or the current app; `ImproperlyConfigured` if there is none."""
    if backend is not None:
        found: ResultSource = backend.source
        return found
    if not _default_sources:
        raise ImproperlyConfigured("there is no app yet; create one with Cardoon(...)")
    return _default_sources[0]()


class AsyncResult(Generic[R]):
    """The result of one call, wherever it runs; read by `app`, or by the current one.

    Every answer was opened at the gate: a result that is not signed by a trusted worker, or that
    answers another call, counts as not there.
    """

    __slots__ = ("_convert", "_report", "id", "is_duplicate", "parent", "request", "source")

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,  # noqa: ARG002  # Celery's signature
        app: ResultSource | None = None,
        parent: AsyncResult[Any] | ResultSet | None = None,
        *,
        source: ResultSource | None = None,
        request: bytes | None = None,
        convert: Callable[[Any], Any] | None = None,
    ) -> None:
        self.id = id
        self._convert = convert
        self.source: ResultSource = source or app or find_source(backend)
        self.request = request
        self.is_duplicate = False
        """Whether nothing was sent, since the task is unique: this is the result of an earlier call."""
        self.parent: AsyncResult[Any] | ResultSet | None = parent
        """What ran before it in a canvas."""
        self._report: Report | None = None

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
        interval: float | None = None,  # noqa: ARG002  # results are pushed; kept for Celery's callers
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: FBT001, FBT002
    ) -> R:
        """Wait for the task to end, and return its result or raise its exception.

        Raises `cardoon.exceptions.TimeoutError` after `timeout` seconds, `RuntimeError` inside of a
        task that a worker runs, where waiting for another one can take the last free process and stop
        the worker for good (`disable_sync_subtasks=False` allows it), and `RemoteError` for an exception
        type that is not rebuilt here. What the task's return annotation names (an enum, a dataclass, a
        pydantic model) is made of the result if the call was made through the task; `InvalidTaskError` if
        it does not fit. With `propagate=False` the exception is returned.
        """
        if disable_sync_subtasks:
            check_may_wait()
        report = self._final_report(timeout)
        value = self._value(report)
        if callback is not None:
            callback(self.id, value)
        if propagate and report.state in states.PROPAGATE_STATES:
            raise value
        return value  # type: ignore[no-any-return]  # the task's own type, which JSON cannot prove

    wait = get

    def __await__(self) -> Generator[Any, None, R]:
        return self._wait_async().__await__()

    def is_known(self) -> bool:
        """Whether it has ended, as far as has been seen so far."""
        return self._report is not None

    async def wait_async(self) -> Report:
        """Wait until it has ended, without blocking the event loop, and without raising."""
        if self._report is None:
            self._report = await self.source.wait_for(self.handle)
        return self._report

    async def _wait_async(self) -> R:
        report = await self.wait_async()
        value = self._value(report)
        if report.state in states.PROPAGATE_STATES:
            raise value
        return value  # type: ignore[no-any-return]  # as in `get`

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, REJECTED, or a state of the task's own."""
        report = self._present_report()
        return report.state if report is not None else states.PENDING

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception (not raised), or the `meta` of a state on the way."""
        report = self._present_report()
        return None if report is None else self._value(report)

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        report = self._present_report()
        found = None if report is None else self._content(report).get("traceback")
        return found if isinstance(found, str) else None

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, in UTC."""
        report = self._present_report()
        if report is None or report.done_at is None:
            return None
        return datetime.fromtimestamp(report.done_at, UTC)

    @property
    def retries(self) -> int:
        """How often the task asked to run again."""
        report = self._present_report()
        return 0 if report is None else report.retries

    @property
    def name(self) -> str | None:
        """The task's name, as far as a result says it."""
        report = self._present_report()
        return report.task or None if report is not None else None

    @property
    def worker(self) -> str | None:
        """The worker that ran it."""
        report = self._present_report()
        return report.worker or None if report is not None else None

    task_id = property(lambda self: self.id, doc="Celery's second name for `id`.")

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task has ended well."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task has ended with an exception."""
        return self.state == states.FAILURE

    def maybe_throw(self, propagate: bool = True) -> R | None:  # noqa: FBT001, FBT002
        """Raise the task's exception if it has failed; else return what there is."""
        value = self.result
        if propagate and self.state in states.PROPAGATE_STATES:
            raise value
        return value  # type: ignore[no-any-return]

    def as_tuple(self) -> tuple[Any, Any]:
        """As nested tuples of ids, for `result_from_tuple`."""
        return (self.id, None if self.parent is None else self.parent.as_tuple()), None

    def leaves(self) -> list[AsyncResult[Any]]:
        """The results of single tasks that it stands for: itself."""
        return [self]

    def take(self, receipt: Receipt | None) -> None:
        """Know the message that was sent, if it is known, or be the result of the one sent before."""
        if isinstance(receipt, Duplicate):
            self.is_duplicate = receipt.id != self.id
            self.id = receipt.id
        else:
            self.request = receipt

    def accept(self, report: Report) -> None:
        """Take in a report that somebody else has waited for."""
        self._report = report

    def forget(self) -> None:
        """Delete the stored result."""
        self._report = None
        self.source.sender.forget([self.id])

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:  # noqa: FBT001, FBT002
        """Ask every worker not to run the task, and with `terminate` to stop it if it runs."""
        self.source.sender.revoke(Revocation((self.id,), terminate, signal))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    @property
    def handle(self) -> Handle:
        """What it takes to ask for it."""
        return Handle(self.id, self.request)

    def _present_report(self) -> Report | None:
        if self._report is None:
            report = self.source.sender.load([self.handle]).get(self.id)
            if report is None or not states.is_final(report.state):
                return report
            self._report = report
        return self._report

    def _final_report(self, timeout: float | None) -> Report:
        if self._report is None:
            reports = self.source.sender.wait([self.handle], timeout=timeout)
            self._report = next(reports, None)
        if self._report is None:
            within = "" if timeout is None else f" within {timeout:g} seconds"
            raise TimeoutError(f"task {self.id}: no result{within}")
        return self._report

    def _content(self, report: Report) -> Mapping[str, Any]:
        content = decode_body(report.codec, report.body, max_bytes=self.source.max_result_bytes)
        return content if isinstance(content, dict) else {}

    def _value(self, report: Report) -> Any:
        content = self._content(report)
        if "error" in content:
            return rebuild_exception(content["error"])
        if (
            report.state in states.PROPAGATE_STATES
        ):  # told by `update_state`, in the task's own words
            return RemoteError(report.state, str(content.get("result", "")))
        value = content.get("result")
        if self._convert is not None and report.state == states.SUCCESS:
            return self._convert(value)
        return value


class EagerResult(AsyncResult[R]):
    """The result of a task that was run on the spot."""

    __slots__ = ("_state", "_traceback", "_value_or_error")

    def __init__(
        self,
        id: str,
        value: Any,
        state: str,
        *,
        source: ResultSource,
        traceback: str | None = None,
    ) -> None:
        super().__init__(id, source=source)
        self._value_or_error = value
        self._state = state
        self._traceback = traceback

    def get(
        self,
        timeout: float | None = None,  # noqa: ARG002
        propagate: bool = True,  # noqa: FBT001, FBT002
        interval: float | None = None,  # noqa: ARG002
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: ARG002, FBT001, FBT002
    ) -> R:
        """Return the value, or raise the task's own exception."""
        if callback is not None:
            callback(self.id, self._value_or_error)
        if propagate and self._state in states.PROPAGATE_STATES:
            error = self._value_or_error
            raise error if isinstance(error, BaseException) else CardoonError(str(error))
        return self._value_or_error  # type: ignore[no-any-return]

    wait = get

    async def _wait_async(self) -> R:
        return self.get()

    def is_known(self) -> bool:
        """It has ended."""
        return True

    @property
    def state(self) -> str:
        """The state it ended in."""
        return self._state

    status = state

    @property
    def result(self) -> Any:
        """The return value or the exception."""
        return self._value_or_error

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback, if it failed."""
        return self._traceback

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:  # noqa: FBT001, FBT002
        """It has run already."""

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
