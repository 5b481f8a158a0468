"""AsyncResult: a handle on a result to come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cardoon import states
from cardoon.exceptions import CardoonError, RefusedError, RemoteError, SecurityError, TimeoutError  # noqa: A004  # Celery's name
from cardoon.result.described import read_content, rebuild_exception
from cardoon.result.family import Graph, draw, walk
from cardoon.result.source import ResultSource, check_may_wait, find_places, find_source
from cardoon.sandbox.violations import Violation
from cardoon.sandbox.violations import lines as describe_violations
from cardoon.sandbox.violations import parse as parse_violations
from cardoon.sender import Duplicate, Finder, Handle, Objecting, Receipt, Report, Revocation
from cardoon.stamps import parse_wanted

if TYPE_CHECKING:
    from cardoon.result.several import Result, ResultSet

R = TypeVar("R")


class AsyncResult(Generic[R]):
    """The result of one call, wherever it runs; read by `app`, or by the current one.

    Every answer was opened at the gate: a result that is not signed by a trusted worker, or that
    answers another call, counts as not there.
    """

    __slots__ = (
        "_convert",
        "_report",
        "_waiting",
        "id",
        "is_duplicate",
        "parent",
        "request",
        "source",
    )

    TimeoutError = TimeoutError

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
        self.source: ResultSource = find_source(app, backend) if source is None else source
        self.request = request
        self.is_duplicate = False
        """Whether nothing was sent, since the task is unique: this is the result of an earlier call."""
        self.parent: AsyncResult[Any] | ResultSet | None = parent
        """What ran before it in a canvas."""
        self._report: Report | None = None
        self._waiting: list[Callable[[], None]] = []

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
            self.accept(await self.source.wait_for(self.handle))
        assert self._report is not None
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
    def children(self) -> list[Result] | None:
        """The results of the tasks that it called while it ran, and of its callbacks if it succeeded.

        None as long as it has not ended. At most 1,000 of them are told.
        """
        report = self._present_report()
        if report is None or not states.is_final(report.state):
            return None
        return _children_readers[0](self._content(report).get("children"), self.source)

    @property
    def args(self) -> list[Any] | None:
        """The task's arguments; None unless `result_extended` is set where it ran."""
        found = self._told("args")
        return found if isinstance(found, list) else None

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """The task's keyword arguments; None unless `result_extended` is set where it ran."""
        found = self._told("kwargs")
        return found if isinstance(found, dict) else None

    @property
    def queue(self) -> str | None:
        """The queue that it came from; None unless `result_extended` is set where it ran."""
        found = self._told("queue")
        return found if isinstance(found, str) else None

    @property
    def worker(self) -> str | None:
        """The worker that ran it."""
        report = self._present_report()
        return report.worker or None if report is not None else None

    @property
    def isolation(self) -> str | None:
        """What its worker held the task to while it ran, as `strict/v1`; None for nothing, or not yet."""
        report = self._present_report()
        return report.isolation or None if report is not None else None

    @property
    def violations(self) -> tuple[Violation, ...]:
        """What its sandbox has refused the task, as its worker says."""
        report = self._present_report()
        return () if report is None else parse_violations(report.violations)

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

    def maybe_throw(
        self,
        propagate: bool = True,  # noqa: FBT001, FBT002
        callback: Callable[[str, Any], Any] | None = None,
    ) -> R | None:
        """Raise the task's exception if it has failed; else return what there is."""
        value = self.result
        if propagate and self.state in states.PROPAGATE_STATES:
            raise value
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    maybe_reraise = maybe_throw

    def exists(self) -> bool:
        """Whether something is stored for the task: its result, or a state on the way to one."""
        return self._present_report() is not None

    def whereabouts(self) -> str | None:
        """Where the store has the task, or its result; None if it has neither.

        "result", "ready", "scheduled", "dormant", "leased", "dead" or "quarantine". None is said of an
        id that was never sent, whose result was forgotten, expired or not wanted, or that runs after an
        early acknowledgement. Where the message lies is the store's word, which is not signed.
        """
        if self.exists():
            return "result"
        found = find_places(self.source.sender, [self.id]).get(self.id)
        if found is None and self.exists():  # it has ended between the two looks
            return "result"
        return found

    def then(
        self,
        callback: Callable[[Self], Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,  # noqa: ARG002, FBT001, FBT002  # Celery's signature
    ) -> Self:
        """Call `callback(result)` when this process sees that it has ended, at once if it knows.

        It is seen by whatever looks: `get`, `ready`, `state`, a group's `get`. With `on_error` that is
        called with the exception instead if it has failed.
        """

        def arrived() -> None:
            if on_error is not None and self.state in states.PROPAGATE_STATES:
                on_error(self.result)
            else:
                callback(self)

        self._waiting.append(arrived)
        if self.is_known():
            self._call_waiting()
        return self

    def collect(
        self,
        intermediate: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        **options: Any,
    ) -> Iterator[tuple[Any, Any]]:
        """Wait for it and all that it has called; yield (result, value) of each as they come."""
        for _, node in walk(self, intermediate=intermediate):
            yield node, node.get(**options)

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:  # noqa: FBT001, FBT002
        """Yield (parent, result) of it and of all that it has called, and they have, and so on.

        `cardoon.exceptions.IncompleteStream` at one that has not ended, unless `intermediate`.
        """
        return walk(self, intermediate=intermediate)

    def get_leaf(self) -> Any:
        """Wait for it and all that it has called; the value of the last one."""
        value: Any = None
        for _, found in self.collect():
            value = found
        return value

    def build_graph(
        self,
        intermediate: bool = False,  # noqa: FBT001, FBT002
        formatter: Callable[[Any], str] | None = None,
    ) -> Graph:
        """Who called whom, from this one on."""
        return draw(self, intermediate=intermediate, formatter=formatter)

    @property
    def graph(self) -> Graph:
        """`build_graph()`."""
        return self.build_graph()

    @property
    def ignored(self) -> bool:
        """Whether the task asked for its result not to be kept."""
        return self.state == states.IGNORED

    def as_list(self) -> list[str]:
        """Its id, and those of what ran before it."""
        found: list[str] = []
        node: Result | None = self
        while node is not None:
            found += [leaf.id for leaf in node.leaves()]
            node = node.parent
        return found

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
        """Take in the report of its end."""
        self._report = report
        self._call_waiting()

    def forget(self) -> None:
        """Delete the stored result."""
        self._report = None
        self.source.sender.forget([self.id])

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:  # noqa: FBT001, FBT002
        """Ask every worker not to run the task, and with `terminate` to stop it if it runs."""
        self.source.sender.revoke(Revocation((self.id,), terminate, signal))

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        terminate: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        signal: str = "SIGTERM",
    ) -> None:
        """Ask every worker not to run any task with these stamps; see `app.control`."""
        stamps = parse_wanted(headers, method="revoke_by_stamped_headers")
        self.source.sender.revoke(Revocation((), terminate, signal, stamps))

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

    def _call_waiting(self) -> None:
        """Each once, whichever thread is first; who is added after the report is called as well."""
        while self._waiting:
            try:
                arrived = self._waiting.pop(0)
            except IndexError:  # another thread has it
                return
            arrived()

    def _present_report(self) -> Report | None:
        if self._report is None:
            report = self.source.sender.load([self.handle]).get(self.id)
            if report is None or not states.is_final(report.state):
                return report
            self.accept(report)
        return self._report

    def _final_report(self, timeout: float | None) -> Report:
        if self._report is None:
            reports = self.source.sender.wait([self.handle], timeout=timeout)
            if (report := next(reports, None)) is not None:
                self.accept(report)
        if self._report is None:
            within = "" if timeout is None else f" within {timeout:g} seconds"
            raise TimeoutError(f"task {self.id}: no result{within}{self._reason()}")
        return self._report

    def _reason(self) -> str:
        """Why there is no result, as far as the store can say."""
        sender = self.source.sender
        if not isinstance(sender, Finder):
            return ""
        try:
            found = sender.find([self.id]).get(self.id)
        except CardoonError:
            return ""
        match found:
            case None:
                return (
                    "; the store has no message of this id either: it was never sent, its result was "
                    "not wanted or is gone, or it runs acknowledged"
                )
            case "leased":
                return "; it is running"
            case "dormant":
                return "; it waits for other tasks"
            case "dead" | "quarantine" as place:
                return f"; its message is kept: see `cardoon {place}`"
            case place:
                return f"; its message is {place}"

    def _told(self, name: str) -> Any:
        report = self._present_report()
        return None if report is None else self._content(report).get(name)

    def _content(self, report: Report) -> Mapping[str, Any]:
        if report.unreadable:
            raise SecurityError(
                f"task {self.id}: its state is {report.state}, but this process cannot read its result: "
                f"{report.unreadable}; ask the process that sent the task, or set security_reply_keyset "
                "for all that are to read results"
            )
        try:
            return read_content(report, max_bytes=self.source.max_result_bytes)
        except RefusedError as error:
            sender: object = self.source.sender
            if isinstance(sender, Objecting):
                sender.report_unreadable(self.handle, report, error)
            detail = f"the result of task {self.id}: {error.detail}"
            raise RefusedError(error.reason, detail) from error

    def _value(self, report: Report) -> Any:
        content = self._content(report)
        if "error" in content:
            error = rebuild_exception(content["error"])
            for line in describe_violations(parse_violations(report.violations)):
                error.add_note(line)
            return error
        if (
            report.state in states.PROPAGATE_STATES
        ):  # told by `update_state`, in the task's own words
            return RemoteError(report.state, str(content.get("result", "")))
        value = content.get("result")
        if self._convert is not None and report.state == states.SUCCESS:
            return self._convert(value)
        return value


_children_readers: list[Callable[[object, ResultSource], list[Result]]] = []


def set_children_reader(read: Callable[[object, ResultSource], list[Result]]) -> None:
    """Say how the children that a result names become results: known to those of several."""
    _children_readers[:] = [read]
