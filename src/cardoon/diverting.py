"""Diverting: calls that take another way for a while, such as into a database's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Protocol

from cardoon.sender import Call, Receipt, Sender


class Origin(Protocol):
    """The app whose calls are diverted."""

    main: str | None

    @property
    def sender(self) -> Sender:
        """The way that they would have taken."""
        ...


class Diversion(Protocol):
    """Another way for calls."""

    def take(
        self, app: Origin, calls: Sequence[Call], send: Callable[[], object]
    ) -> Sequence[Receipt | None]:
        """Take these calls, all or none, in place of `send()`, which would publish them now.

        Returns the receipt of each, or None where it is not signed yet.
        """
        ...


DIVERSION: ContextVar[Diversion | None] = ContextVar("cardoon_diversion", default=None)
"""The way of what this thread or coroutine sends; None for the usual one."""
