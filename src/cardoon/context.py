"""What a running task can know about its own call: `task.request`."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cardoon.contents import JSON
from cardoon.exceptions import Retry

MAX_CHILDREN = 1000
"""Tasks that one result names as its children; further ones are left out."""

_EMPTY: Mapping[str, Any] = {}


@dataclass(slots=True, kw_only=True)
class Request:
    """The call that is being carried out. Names are Celery's, `fence` is ours."""

    task: str = ""
    id: str | None = None
    args: tuple[Any, ...] | list[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    retries: int = 0
    max_retries: int | None = None
    """As signed by the sender; None where it did not say."""
    eta: str | None = None
    expires: str | None = None
    """ISO 8601, as in Celery."""
    root_id: str | None = None
    parent_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    stamps: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    """What the sender stamped on it, by name."""
    delivery_info: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    hostname: str | None = None
    """The worker."""
    origin: str | None = None
    """Who sent it: the signer's name."""
    shadow: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    """Hard and soft limit in seconds."""
    ignore_result: bool = False
    is_eager: bool = False
    called_directly: bool = True
    utc: bool = True
    group: str | None = None
    group_index: int | None = None
    """The group that it is a member of, and its place there."""
    answer_codec: str = JSON
    """How its result and its states are written."""
    fence: int = 0
    """Rises with each delivery of the message: a fencing token for writes elsewhere."""
    called: list[Any] | None = None
    """The results of what the task has called so far, as many as its own result may name."""
    entered: bool = False
    """Whether the task's body has begun, so that a `__call__` override may call the original."""
    pending_retry: Retry | None = None
    """What `self.retry(throw=False)` asked for, till the task returns."""
    exhausted: bool = False
    """Whether the task asked for more retries than it has."""

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute or header `name`, or `default`, as Celery's context offers."""
        if name in FIELDS:
            return getattr(self, name)
        return self.headers.get(name, default)

    @property
    def children(self) -> list[Any]:
        """The results of the tasks that it has called."""
        if self.called is None:
            self.called = []
        return self.called

    @property
    def stamped_headers(self) -> list[str]:
        """The names of its stamps."""
        return list(self.stamps)

    @property
    def correlation_id(self) -> str | None:
        """Celery's second name for the id."""
        return self.id

    @property
    def name(self) -> str:
        """The task's name, as what a worker has received has it in Celery."""
        return self.task

    if not TYPE_CHECKING:  # so that a checker still finds a name that is mistyped

        def __getattr__(self, name: str) -> Any:
            # What tracing libraries put into a message's headers, they read from attributes.
            if name not in FIELDS and not name.startswith("__") and name in self.headers:
                return self.headers[name]
            raise AttributeError(f"the request has no attribute or header {name!r}")


FIELDS = frozenset(
    (
        *(f.name for f in dataclasses.fields(Request)),
        *("children", "correlation_id", "name", "stamped_headers"),
    )
)

_current: ContextVar[Request | None] = ContextVar("cardoon_request", default=None)


def current_request() -> Request | None:
    """The call that this thread or asyncio task is carrying out, if any."""
    return _current.get()


class carrying_out:  # noqa: N801  # reads as the function that it would be
    """Make `request` the current one for the length of a block."""

    __slots__ = ("_request", "_token")

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> Request:
        self._token = _current.set(self._request)
        return self._request

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


def note_children(results: Iterable[Any]) -> None:
    """Have the running task, if there is one, remember what it has called."""
    running = _current.get()
    if running is not None:
        room = MAX_CHILDREN - len(running.children)
        running.children.extend(itertools.islice(results, max(0, room)))
