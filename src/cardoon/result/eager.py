"""EagerResult: the result of a task that was run on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from cardoon import states
from cardoon.exceptions import CardoonError
from cardoon.result.single import AsyncResult
from cardoon.result.source import ResultSource

if TYPE_CHECKING:
    from cardoon.result.several import Result

R = TypeVar("R")


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

    @property
    def children(self) -> list[Result]:
        """What it called has run within it, and is no result of its own."""
        return []

    @property
    def _no_report(self) -> None:
        """What a message would have told."""

    args = kwargs = queue = date_done = name = worker = _no_report
    retries = property(lambda _: 0, doc="Its retries ran within it.")

    def exists(self) -> bool:
        """Nothing is stored."""
        return False

    def whereabouts(self) -> None:
        """Nothing is stored."""

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, terminate: bool = False, signal: str = "SIGTERM") -> None:  # noqa: FBT001, FBT002
        """It has run already."""

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
