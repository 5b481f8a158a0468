"""ExceptionInfo: how a task failed, as hooks, errbacks and receivers of signals see it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NamedTuple


class ExceptionInfo(NamedTuple):
    """How a task failed, as hooks and errbacks see it (Celery's `einfo`)."""

    type: type[BaseException]
    exception: BaseException
    traceback: str

    @classmethod
    def of(cls, error: BaseException, traceback: str) -> ExceptionInfo:
        """The description of an exception."""
        return cls(type(error), error, traceback)

    @property
    def tb(self) -> TracebackType | None:
        """The frames, where they are here; an exception of another process has none."""
        return self.exception.__traceback__

    @property
    def exc_info(self) -> tuple[Any, BaseException, TracebackType | None]:
        """As `sys.exc_info()` has it, for what reports exceptions."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback
