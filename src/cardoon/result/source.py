"""ResultSource: where results are read, and who may wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from cardoon.context import current_request
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.sender import Finder, Handle, Report, Sender

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
    """Say where results are read that were made without an app."""
    _default_sources[:] = [find]


def find_source(app: ResultSource | None = None, backend: Any = None) -> ResultSource:
    """Where `app.backend` reads, or else the app that was given, or else the current one.

    `InvalidTaskError` for a backend that is nobody's `app.backend`, `ImproperlyConfigured` where there is
    no current app.
    """
    if backend is not None:
        found: ResultSource | None = getattr(backend, "source", None)
        if found is None:
            raise InvalidTaskError(
                f"result: backend={backend!r} is no app.backend; pass that, or app="
            )
        return found
    if app is not None:
        return app
    if not _default_sources:
        raise ImproperlyConfigured("there is no app yet; create one with Cardoon(...)")
    return _default_sources[0]()


def find_places(sender: Sender, task_ids: Sequence[str]) -> Mapping[str, str]:
    """Where messages lie; `InvalidTaskError` where nobody can look."""
    if not isinstance(sender, Finder):
        raise InvalidTaskError("whereabouts: this broker cannot be asked for messages by id")
    return sender.find(task_ids)
