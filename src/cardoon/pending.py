"""Pending: the results that one caller waits for, by id, some of which may be added meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cardoon.sender import Handle


class Pending:
    """The handles that are waited for, by id; those of a source that may grow are read anew."""

    def __init__(self, handles: Collection[Handle]) -> None:
        self._handles = handles
        self._fixed: dict[str, Handle] | None = (
            {h.task_id: h for h in handles} if isinstance(handles, (list, tuple)) else None
        )

    def ids(self) -> Collection[str]:
        """The ids of those that still wait."""
        return _Growing(self._handles) if self._fixed is None else list(self._fixed)

    def handle(self, task_id: str) -> Handle:
        """The handle of an id; one that says which message it answers before one that does not."""
        if self._fixed is not None:
            return self._fixed[task_id]
        found = [one for one in self._handles if one.task_id == task_id]
        exact = (one for one in found if one.request is not None)
        return next(exact, found[0] if found else Handle(task_id))

    def finish(self, task_id: str) -> None:
        """Its result has come."""
        if self._fixed is not None:
            del self._fixed[task_id]


class _Growing(Collection[str]):
    """A view of handles as ids, always up to date."""

    def __init__(self, handles: Collection[Handle]) -> None:
        self._handles = handles

    def __iter__(self) -> Iterator[str]:
        return (handle.task_id for handle in self._handles)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, task_id: object) -> bool:
        return any(task_id == one for one in self)
