"""The ResultBackend contract: keeps sealed results, and cannot read or judge them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class SealedResult(NamedTuple):
    """A signed result on its way. Everything but the frame is a hint that is not signed."""

    task_id: str
    frame: bytes
    final: bool
    """Whether it is the task's last word; False for STARTED, RETRY and progress."""
    expires_at: float | None
    """When the backend may forget it, in seconds since the epoch; None for never."""
    reply: str | None = None
    """Where the sender of the task listens, as it has signed; only a `Listening` backend asks for it."""


class ResultBackend(Protocol):
    """Batch-first, blocking, safe from threads; raises `OperationalError` like a broker."""

    def store(self, results: Sequence[SealedResult]) -> None:
        """Keep results. The first final one of a task stays; a state before it is replaced."""
        ...

    def load(self, task_ids: Sequence[str]) -> Mapping[str, SealedResult]:
        """The stored results of those tasks that have one."""
        ...

    def wait(self, task_ids: Collection[str], *, timeout: float | None) -> Iterator[SealedResult]:
        """Yield each final result as it arrives; stop after the last, or after `timeout` seconds.

        A collection other than a list, tuple or set may grow meanwhile: it is read anew whenever some
        result has arrived. A result that was there before its id is for whoever added the id to load.
        """
        ...

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the results of those tasks."""
        ...

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        ...


@runtime_checkable
class Listening(Protocol):
    """A backend that keeps nothing: a result goes to who sent the task, and to nobody else.

    `load` and `wait` tell of what has arrived in this process, and `store` drops what names no address.
    """

    def listen(self, *, timeout: float) -> str:
        """The address at which this process takes results, ready when this returns.

        Raises `OperationalError` after `timeout` seconds.
        """
        ...


def listening(backend: ResultBackend | None) -> Listening | None:
    """The backend, if it is one that keeps nothing."""
    found: object = backend
    return found if isinstance(found, Listening) else None
