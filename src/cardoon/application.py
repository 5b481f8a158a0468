"""Application: what a task needs of the app that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from cardoon.canvas import Signature
from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.result import AsyncResult, EagerResult, ResultSource
from cardoon.routing import Router


class Eager(Protocol):
    """Runs tasks on the spot, and describes calls to make later."""

    def run_eagerly(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run one call here and now."""
        ...

    def signature(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Signature:
        """A signature bound to this app."""
        ...


class Routed(Protocol):
    """Knows where messages go."""

    @property
    def router(self) -> Router:
        """What decides that, by the settings of this moment."""
        ...


class Application(ResultSource, Eager, Routed, Protocol):
    """What a task needs of the app it belongs to."""

    @property
    def settings(self) -> Settings:
        """The frozen settings of this moment."""
        ...

    @property
    def clock(self) -> Clock:
        """Where time comes from."""
        ...

    def send(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> AsyncResult[Any]:
        """Sign and publish one call."""
        ...

    def send_calls(self, task: Any, calls: Iterable[Any], **options: Any) -> list[AsyncResult[Any]]:
        """Sign and publish many calls of one task, all or none."""
        ...

    async def asend(
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> AsyncResult[Any]:
        """`send` without blocking the event loop."""
        ...
