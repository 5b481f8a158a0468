"""One task over many items: `map` and `starmap` in one message, `chunks` in a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cardoon.canvas.compounds import group
from cardoon.canvas.signatures import Caller, Signature, register_kind
from cardoon.canvas.steps import Node, Planner, Source
from cardoon.exceptions import InvalidTaskError
from cardoon.result import GroupResult

MAP, STARMAP = "cardoon.map", "cardoon.starmap"
"""Named in `message.headers.MAPS` as well: who may send them is judged by the task that they run."""


class _Mapped(Signature):
    """One task over many items, in one message."""

    _name = ""

    def __init__(
        self,
        task: Any,
        items: Iterable[Any] = (),
        *,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        app: Caller | None = None,
        **more: Any,
    ) -> None:
        inner = Signature.from_dict(task)
        caller = inner.find_caller() if app is None else app
        super().__init__(
            self._name,
            (),
            {"task": inner, "it": _items(self.subtask_type, items)},
            {**(options or {}), **more},
            immutable=immutable,
            caller=caller,
        )

    @classmethod
    def _read(cls, found: Mapping[str, Any], caller: Caller | None) -> Signature:
        kwargs = found.get("kwargs")
        if not isinstance(kwargs, Mapping) or not {"task", "it"} <= set(kwargs):
            raise InvalidTaskError(f"{cls.subtask_type}: kwargs name no task and items")
        return cls(
            kwargs["task"],
            kwargs["it"],
            options=found.get("options"),
            immutable=bool(found.get("immutable")),
            app=caller,
        )

    def copied(self) -> Signature:
        """A copy."""
        return self._read(self, self._caller)

    def __repr__(self) -> str:
        return f"{self['kwargs']['task'].task}.{self.subtask_type}({self['kwargs']['it']!r})"


@register_kind
class xmap(_Mapped):  # noqa: N801  # Celery's name
    """`[task(item) for item in items]` in one task."""

    subtask_type = "map"
    _name = MAP


@register_kind
class xstarmap(_Mapped):  # noqa: N801  # Celery's name
    """`[task(*item) for item in items]` in one task."""

    subtask_type = "starmap"
    _name = STARMAP


@register_kind
class chunks(Signature):  # noqa: N801  # Celery's name
    """Items in parts of n, each part one `starmap`: fewer messages for small tasks."""

    subtask_type = "chunks"

    def __init__(
        self,
        task: Any,
        items: Iterable[Any] = (),
        n: int = 1,
        *,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        app: Caller | None = None,
        **more: Any,
    ) -> None:
        if isinstance(n, bool) or n < 1:
            raise InvalidTaskError(f"chunks: n={n!r} is not a number from 1")
        inner = Signature.from_dict(task)
        super().__init__(
            "cardoon.chunks",
            (),
            {"task": inner, "it": _items("chunks", items), "n": n},
            {**(options or {}), **more},
            immutable=immutable,
            caller=inner.find_caller() if app is None else app,
        )

    @classmethod
    def _read(cls, found: Mapping[str, Any], caller: Caller | None) -> Signature:
        kwargs = found.get("kwargs")
        if not isinstance(kwargs, Mapping) or not {"task", "it", "n"} <= set(kwargs):
            raise InvalidTaskError("chunks: kwargs name no task, items and n")
        return cls(
            kwargs["task"],
            kwargs["it"],
            kwargs["n"],
            options=found.get("options"),
            immutable=bool(found.get("immutable")),
            app=caller,
        )

    @classmethod
    def apply_chunks(
        cls, task: Any, it: Iterable[Any], n: int, app: Caller | None = None
    ) -> GroupResult:
        """Send the items in parts of n, as `chunks(task, it, n)()` does."""
        return cls(task, it, n, app=app)()

    def give_ids(self, own: str | None, new_id: Callable[[], str]) -> None:  # noqa: ARG002
        """Refused: its tasks are made when it is sent."""
        raise InvalidTaskError("chunks: its tasks are made when it is sent; freeze chunks.group()")

    def group(self) -> group:
        """The parts as a group."""
        kwargs = self["kwargs"]
        task, items, n = kwargs["task"], kwargs["it"], kwargs["n"]
        parts = [
            xstarmap(task, items[at : at + n], immutable=self.immutable, app=self._caller)
            for at in range(0, len(items), n)
        ]
        made = group(parts, app=self._caller)
        made["options"] = self.options
        return made

    def plan(self, planner: Planner, source: Source | None) -> Node:
        """The parts, side by side."""
        return self.group().plan(planner, source)

    def apply(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> GroupResult:
        """Run the parts here."""
        return self.group().apply(args, kwargs, **options)

    def __call__(self, **options: Any) -> GroupResult:
        """Send it, as in Celery."""
        found: GroupResult = self.apply_async(**options)
        return found

    def copied(self) -> Signature:
        """A copy."""
        return self._read(self, self._caller)


def _items(kind: str, items: object) -> list[Any]:
    """What a task is mapped over; a generator is read here."""
    if not isinstance(items, Iterable):
        raise InvalidTaskError(f"{kind}: {items!r} is not a list of items")
    return list(items)
