"""Stand-ins: names that mean whatever is current, such as `current_app`.

The only proxies there are, because Celery's users import them before there is anything to import.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from cardoon.exceptions import ImproperlyConfigured

T = TypeVar("T")


class Current(Generic[T]):
    """Which of several is current: this thread's own choice, else the one of the process."""

    def __init__(self) -> None:
        self._threads = threading.local()
        self._chosen: T | None = None
        self._latest: T | None = None

    def choose_here(self, one: T) -> None:
        """For this thread; and for those without a choice, until somebody chooses for all."""
        self._threads.chosen = one
        self._latest = one

    def choose_everywhere(self, one: T) -> None:
        """For this thread, and for all that made no choice of their own."""
        self._threads.chosen = self._chosen = one

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever is chosen in this thread within the block: then all is as it was before."""
        before = getattr(self._threads, "chosen", None), self._chosen, self._latest
        try:
            yield
        finally:
            self._threads.chosen, self._chosen, self._latest = before

    def get(self) -> T | None:
        """The current one; None if there never was any."""
        found: T | None = getattr(self._threads, "chosen", None)
        if found is not None:
            return found
        return self._latest if self._chosen is None else self._chosen


class StandIn(Generic[T]):
    """Passes attributes and calls on to what `find` returns at that moment.

    False where there is nothing to stand for; then an attribute is an `AttributeError`, or what `find`
    raises. It is no instance of that class: `isinstance` and `is` see the stand-in.
    """

    __slots__ = ("_find", "_name")

    def __init__(self, name: str, find: Callable[[], T | None]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> T:
        """What it stands for, as Celery's users ask for it."""
        found: T | None = self._find()
        if found is None:
            raise AttributeError(f"there is no {self._name} here")
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked by tools that look at modules; nothing need be there
            found = _or_none(self._find)
            if found is None:
                raise AttributeError(name)
            return getattr(found, name)
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what it stands for."""
        found: Any = self._get_current_object()
        return found(*args, **kwargs)

    def __bool__(self) -> bool:
        return _or_none(self._find) is not None

    def __eq__(self, other: object) -> bool:
        theirs = _or_none(other._find) if isinstance(other, StandIn) else other
        return bool(_or_none(self._find) == theirs)

    def __hash__(self) -> int:
        return hash(_or_none(self._find))

    def __dir__(self) -> list[str]:
        return dir(_or_none(self._find))

    def __repr__(self) -> str:
        found = _or_none(self._find)
        return f"<{self._name}: {'none' if found is None else repr(found)}>"


def _or_none(find: Callable[[], T | None]) -> T | None:
    try:
        return find()
    except ImproperlyConfigured:
        return None
