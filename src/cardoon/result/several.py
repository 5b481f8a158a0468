"""ResultSet and GroupResult: handles on several results."""

from __future__ import annotations

import time
import uuid
from collections.abc import (
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Self, TypeAlias

from cardoon import states
from cardoon.context import MAX_CHILDREN
from cardoon.exceptions import InvalidTaskError, Refusal, RefusedError, SecurityError, TimeoutError  # noqa: A004  # Celery's name
from cardoon.message.protocol import MAX_ID
from cardoon.message.serializers import encode_body
from cardoon.result.described import read_content
from cardoon.result.single import AsyncResult, set_children_reader
from cardoon.result.source import ResultSource, check_may_wait, find_source
from cardoon.sender import GroupKeeper, Revocation

Result: TypeAlias = "AsyncResult[Any] | ResultSet"


class ResultSet:
    """Several results, waited for together.

    Waiting takes one look at the store for all of them, however many there are.
    """

    def __init__(self, results: Iterable[Result] | None = None, app: object = None) -> None:  # noqa: ARG002
        self.results: list[Result] = list(results or ())
        self.parent: Result | None = None

    def add(self, result: Result) -> None:
        """Add a result, once."""
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Result]) -> None:
        """Add several."""
        for result in results:
            self.add(result)

    def discard(self, result: Result) -> None:
        """Remove a result if it is there."""
        if result in self.results:
            self.results.remove(result)

    def remove(self, result: Result) -> None:
        """Remove a result; `KeyError` if it is not there."""
        if result not in self.results:
            raise KeyError(result)
        self.results.remove(result)

    def clear(self) -> None:
        """Remove all."""
        self.results.clear()

    def leaves(self) -> list[AsyncResult[Any]]:
        """The results of single tasks, those of nested groups included."""
        return [leaf for result in self.results for leaf in result.leaves()]

    def ready(self) -> bool:
        """Whether all have ended."""
        return self.completed_count(states.READY_STATES) == len(self.leaves())

    def waiting(self) -> bool:
        """Whether any has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have ended well."""
        return self.completed_count() == len(self.leaves())

    def failed(self) -> bool:
        """Whether any has failed."""
        return self.completed_count(states.PROPAGATE_STATES) > 0

    def completed_count(self, counted: frozenset[str] = frozenset({states.SUCCESS})) -> int:
        """How many have ended well."""
        seen = self._look()
        return sum(
            (leaf.state if leaf.is_known() else seen.get(leaf.id, states.PENDING)) in counted
            for leaf in self.leaves()
        )

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
        interval: float | None = None,  # noqa: ARG002
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: FBT001, FBT002
    ) -> list[Any]:
        """Wait for all, and return their results in order; raises the first failure that arrives.

        `cardoon.exceptions.TimeoutError` after `timeout` seconds for all of them together. With
        `propagate=False` exceptions stand in the list. `callback(task_id, value)` is called for each.
        """
        if disable_sync_subtasks:
            check_may_wait()
        for leaf in self._arriving(timeout):
            if propagate and leaf.state in states.PROPAGATE_STATES:
                raise leaf.result
        values = [_value(result) for result in self.results]
        if callback is not None:
            for result, value in zip(self.results, values, strict=True):
                callback(getattr(result, "id", ""), value)
        return values

    join = join_native = get

    def iterate(self, timeout: float | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (task id, result) as they arrive; a failure's result is its exception."""
        for leaf in self._arriving(timeout):
            yield leaf.id, leaf.result

    iter_native = iterate

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._wait_async().__await__()

    async def _wait_async(self) -> list[Any]:
        async for leaf in self:
            if leaf.state in states.PROPAGATE_STATES:
                raise leaf.result
        return [_value(result) for result in self.results]

    async def __aiter__(self) -> AsyncIterator[AsyncResult[Any]]:
        """Each single result when it has ended."""
        for leaf in self.leaves():
            if not leaf.is_known():
                await leaf.wait_async()
            yield leaf

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None) -> None:
        """Raise the first failure there is now."""
        self._look()
        for leaf in self.leaves():
            value = leaf.maybe_throw()
            if callback is not None:
                callback(leaf.id, value)

    maybe_reraise = maybe_throw

    def then(
        self,
        callback: Callable[[Self], Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,  # noqa: ARG002, FBT001, FBT002  # Celery's signature
    ) -> Self:
        """Call `callback(self)` when this process sees that all have ended, at once if it knows.

        With `on_error` that is called with the first exception instead if one has failed.
        """
        leaves = self.leaves()
        missing = {leaf.id for leaf in leaves}

        def arrived(leaf: AsyncResult[Any] | None = None) -> None:
            missing.discard("" if leaf is None else leaf.id)
            if missing:
                return
            failed = [one for one in leaves if one.state in states.PROPAGATE_STATES]
            if on_error is not None and failed:
                on_error(failed[0].result)
            else:
                callback(self)

        for leaf in leaves:
            leaf.then(arrived)
        if not leaves:
            arrived()
        return self

    def forget(self) -> None:
        """Delete the stored results."""
        leaves = self.leaves()
        if leaves:
            leaves[0].source.sender.forget([leaf.id for leaf in leaves])

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:  # noqa: FBT001, FBT002
        """Ask every worker not to run any of the tasks."""
        leaves = self.leaves()
        if leaves:
            ids = tuple(leaf.id for leaf in leaves)
            leaves[0].source.sender.revoke(Revocation(ids, terminate, signal))

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Result:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResultSet) and other.results == self.results

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(map(str, self.results))}]>"

    def as_tuple(self) -> tuple[Any, Any]:
        """As nested tuples of ids, for `result_from_tuple`."""
        parent = None if self.parent is None else self.parent.as_tuple()
        return (getattr(self, "id", None), parent), [one.as_tuple() for one in self.results]

    def _pending(self) -> list[AsyncResult[Any]]:
        return [leaf for leaf in self.leaves() if not leaf.is_known()]

    def _look(self) -> Mapping[str, str]:
        """See in one look what has ended; the states of those that had not before, by id."""
        pending = {leaf.id: leaf for leaf in self._pending()}
        if not pending:
            return {}
        sender = next(iter(pending.values())).source.sender
        reports = sender.load([leaf.handle for leaf in pending.values()])
        for task_id, report in reports.items():
            if states.is_final(report.state):
                pending[task_id].accept(report)
        return {task_id: report.state for task_id, report in reports.items()}

    def _arriving(self, timeout: float | None) -> Iterator[AsyncResult[Any]]:
        """Each single result when it has ended; `TimeoutError` after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pending = {leaf.id: leaf for leaf in self._pending()}
        for leaf in self.leaves():
            if leaf.id not in pending:
                yield leaf
        if not pending:
            return
        sender = next(iter(pending.values())).source.sender
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        for report in sender.wait([leaf.handle for leaf in pending.values()], timeout=left):
            arrived = pending.pop(report.task_id)
            arrived.accept(report)
            yield arrived
        if pending:
            raise TimeoutError(
                f"{len(pending)} of {len(self.leaves())} results did not come in time"
            )


class GroupResult(ResultSet):
    """The results of a group, under an id of its own."""

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Result] | None = None,
        parent: Result | None = None,
        app: ResultSource | None = None,
        *,
        source: ResultSource | None = None,
    ) -> None:
        super().__init__(results)
        self.source = find_source(app) if source is None else source
        self.id = str(uuid.uuid4()) if id is None else id
        self.parent = parent

    @property
    def children(self) -> list[Result]:
        """The members' results."""
        return self.results

    def save(self) -> None:
        """Keep under its id, signed, which results it consists of; for `restore`, in any process."""
        found = {"result": [_describe(one) for one in self.results]}
        codec = self.source.result_codec
        _keeper(self.source).save_group(self.id, codec, encode_body(found, codec))

    @classmethod
    def restore(
        cls, id: str, backend: Any = None, app: ResultSource | None = None
    ) -> GroupResult | None:
        """The group that was saved under an id, read by `app` or the current one; None if none was."""
        source = find_source(app, backend)
        report = _keeper(source).load_group(id)
        if report is None:
            return None
        if report.unreadable:
            raise SecurityError(
                f"group {id}: this process cannot read what was saved: {report.unreadable}; set "
                "security_reply_keyset for all that are to read it"
            )
        content = read_content(report, max_bytes=source.max_result_bytes)
        try:
            members = [_rebuild(one, source) for one in content["result"]]
        except (KeyError, TypeError, RecursionError) as error:
            detail = f"group {id}: what was saved does not say what it consists of"
            raise RefusedError(Refusal.UNDECODABLE, detail) from error
        return cls(id, members, source=source)

    def delete(self) -> None:
        """Delete what `save` kept."""
        _keeper(self.source).forget([self.id])

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"{self.id}({', '.join(map(str, self.results))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupResult) and other.id == self.id and super().__eq__(other)

    __hash__ = None


def result_from_tuple(found: Sequence[Any], app: ResultSource | None = None) -> Result:
    """The handle that `as_tuple` described; lists will do, so that it may come as JSON."""
    app = find_source(app)
    (task_id, parent), children = found
    before = None if parent is None else result_from_tuple(parent, app)
    if children is not None:
        members = [result_from_tuple(one, app) for one in children]
        return GroupResult(task_id, members, source=app, parent=before)
    result: AsyncResult[Any] = AsyncResult(task_id, source=app)
    result.parent = before
    return result


def describe_children(results: Iterable[object], *, room: int = MAX_CHILDREN) -> list[Any]:
    """Results as JSON: ids, and of a group its id and its members. At most so many ids."""
    found: list[Any] = []
    for result in results:
        if room <= 0:
            break
        match result:
            case GroupResult():
                members = describe_children(result.results, room=room - 1)
                found.append({"group": result.id, "of": members})
                room -= 1 + _count(members)
            case ResultSet():
                members = describe_children(result.results, room=room)
                found += members
                room -= _count(members)
            case AsyncResult() | str():
                found.append(str(result))
                room -= 1
            case _:
                pass
    return found


def read_children(described: object, source: ResultSource) -> list[Result]:
    """The results that `describe_children` described; what is something else is left out.

    A task process has written them, so that nothing is taken for granted.
    """
    return _read_children(described, source, depth=_MAX_DEPTH)


def _read_children(described: object, source: ResultSource, *, depth: int) -> list[Result]:
    found: list[Result] = []
    for one in described[:MAX_CHILDREN] if isinstance(described, list) and depth else ():
        match one:
            case str() if _is_id(one):
                found.append(AsyncResult(one, source=source))
            case {"group": str(name), "of": list(members)} if _is_id(name):
                inner = _read_children(members, source, depth=depth - 1)
                found.append(GroupResult(name, inner, source=source))
            case _:
                pass
    return found


def _is_id(text: str) -> bool:
    return text.isprintable() and 0 < len(text.encode()) <= MAX_ID


_MAX_DEPTH = 20
"""Groups in groups among children; a canvas has them taken apart."""
set_children_reader(read_children)


def _count(described: Sequence[Any]) -> int:
    return sum(1 + _count(one["of"]) if isinstance(one, dict) else 1 for one in described)


def _value(result: Result) -> Any:
    if isinstance(result, ResultSet):
        return [_value(one) for one in result.results]
    return result.result


def _keeper(source: ResultSource) -> GroupKeeper:
    sender = source.sender
    if not isinstance(sender, GroupKeeper):
        raise InvalidTaskError("GroupResult: groups cannot be saved and restored here")
    return sender


def _describe(result: Result) -> Any:
    """A result as JSON: its id and what it answers, or a list."""
    if isinstance(result, GroupResult):
        return {"id": result.id, "results": [_describe(one) for one in result.results]}
    if isinstance(result, ResultSet):
        raise InvalidTaskError("GroupResult.save: a ResultSet among the members has no id")
    return {"id": result.id, "request": result.request}


def _rebuild(found: Mapping[str, Any], source: ResultSource) -> Result:
    if "results" in found:
        members = [_rebuild(one, source) for one in found["results"]]
        return GroupResult(found["id"], members, source=source)
    return AsyncResult(found["id"], source=source, request=found["request"])
