"""Signature: a call of a task, to be made later, by someone else, or with more arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

from cardoon.canvas.stamping import StampingVisitor, collect_stamps
from cardoon.canvas.steps import Node, Origin, Planner, Source, Step
from cardoon.context import note_children
from cardoon.exceptions import InvalidTaskError
from cardoon.result import EagerResult
from cardoon.sender import Receipt
from cardoon.stamps import merge_options


class Caller(Origin, Protocol):
    """What makes the calls that signatures describe: the app."""

    def send_steps(self, steps: Sequence[Step]) -> Sequence[Receipt | None]:
        """Send all steps or none; return their receipts, None where one is not known yet."""
        ...

    def apply_task(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], **options: Any
    ) -> EagerResult[Any]:
        """Run a task by name here and now."""
        ...

    @property
    def tasks(self) -> Mapping[str, Any]:
        """The tasks that are known here."""
        ...

    @property
    def is_eager(self) -> bool:
        """Whether calls run here and now (`task_always_eager`)."""
        ...


KINDS: dict[str, type[Signature]] = {}
"""The classes of signatures by their `subtask_type`."""

S = TypeVar("S", bound="Signature")
_LINKS = ("link", "link_error")


def register_kind(kind: type[S]) -> type[S]:
    """Have dicts of its `subtask_type` become signatures of this class."""
    KINDS[kind.subtask_type] = kind
    return kind


class Signature(dict[str, Any]):
    """A task's name with arguments and options: a dict, so that it travels as JSON.

    Arguments given later come before those it has, unless it is immutable; options given later win.
    """

    subtask_type: ClassVar[str] = ""

    _caller: Caller | None = None

    def __init__(
        self,
        task: str | Mapping[str, Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        caller: Caller | None = None,
    ) -> None:
        if isinstance(task, Mapping):
            if not isinstance(task.get("task"), str):
                raise InvalidTaskError(f"signature: {dict(task)!r} names no task")
            super().__init__(task)
        else:
            super().__init__(
                task=task,
                args=list(args),
                kwargs=dict(kwargs or {}),
                options=dict(options or {}),
                subtask_type=self.subtask_type or None,
                immutable=immutable,
            )
        self._caller = caller

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], *, caller: Caller | None = None) -> Signature:
        """The signature that a dict describes, of whatever kind; `InvalidTaskError` if none."""
        if isinstance(found, Signature):
            return found
        if not isinstance(found, Mapping):
            raise InvalidTaskError(f"{found!r} is not a signature; use task.s(...)")
        kind = KINDS.get(str(found.get("subtask_type") or ""))
        if kind is None:
            raise InvalidTaskError(
                f"signature: unknown subtask_type {found.get('subtask_type')!r}; use "
                f"{', '.join(filter(None, KINDS))}"
            )
        return kind._read(found, caller)  # noqa: SLF001  # its own subclass

    @classmethod
    def _read(cls, found: Mapping[str, Any], caller: Caller | None) -> Signature:
        return Signature(found, caller=caller)

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self["task"])

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return list(self.get("args") or ())

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return dict(self.get("kwargs") or {})

    @property
    def options(self) -> dict[str, Any]:
        """Options of `apply_async`."""
        return dict(self.get("options") or {})

    @property
    def immutable(self) -> bool:
        """Whether later arguments are ignored."""
        return bool(self.get("immutable"))

    @property
    def id(self) -> str | None:
        """The task id it was given, if any."""
        return self.options.get("task_id")

    def clone(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Signature:
        """A copy with more arguments and options."""
        changed = self.copied()
        if not self.immutable:
            changed.prepend(args, kwargs)
        changed["options"] = merge_options(changed.options, options)
        return changed

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Signature:
        """A copy with other arguments or options in place of those it has."""
        changed = self.copied()
        for name, given, kind in (
            ("args", args, list),
            ("kwargs", kwargs, dict),
            ("options", options, dict),
        ):
            if given is not None:
                changed[name] = kind(given)
        return changed

    def set(self, immutable: bool | None = None, **options: Any) -> Self:  # noqa: FBT001
        """Change options in place; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"] = {**self.options, **options}
        return self

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001  # Celery's signature
        """Ignore later arguments, or take them again."""
        self["immutable"] = immutable

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        **headers: Any,
    ) -> Self:
        """Write these stamps, and those that a visitor says, on it and its links; returns itself.

        Of two stamps of one name one that is given wins over a visitor's, and that over one that is there;
        with `append_stamps` the stamp becomes the list of all. `InvalidTaskError` for the name of an option.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        told = None if visitor is None else visitor.on_signature(self, **headers)
        return self.set(**collect_stamps(headers, told, self.options, append=append_stamps))

    def stamp_links(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002
        **headers: Any,
    ) -> None:
        """Write stamps on what is linked to it, and not on itself."""
        for option in _LINKS:
            if option not in self.options:
                continue
            stamped = []
            for linked in self.linked(option):
                copy, told = linked.copied(), None
                if visitor is not None:
                    ask = visitor.on_callback if option == "link" else visitor.on_errback
                    told = ask(copy, **headers)
                given = collect_stamps(headers, told, append=append_stamps)
                stamped.append(copy.stamp(visitor, append_stamps, **given))
            self["options"] = {**self.options, option: stamped}

    def freeze(self, _id: str | None = None) -> Any:
        """Choose the ids of its tasks now, `_id` for what answers for the whole; return its result.

        Whoever sends it then gets a result with these ids. It is sent once: a second message of an id is
        dropped while the first is there.
        """
        self.give_ids(_id, self.caller.new_id)
        return self.plan(Planner(self.caller), None).result

    def give_ids(self, own: str | None, new_id: Callable[[], str]) -> None:
        """Give an id to each task that has none; `own` to the one that answers for the whole."""
        self.set(task_id=own or self.id or new_id())

    def link(self, callback: Signature) -> Signature:
        """Call `callback` with the result when the task succeeds; returns the callback."""
        return self._append("link", callback)

    def link_error(self, errback: Signature) -> Signature:
        """Call `errback` when the task fails; returns the errback.

        One that takes a single argument gets the failed task's id; one that takes three gets the
        request, the exception and the traceback.
        """
        return self._append("link_error", errback)

    def on_error(self, errback: Signature) -> Self:
        """`link_error` that returns the signature itself."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Put a value into an option that is a list, once; returns the value."""
        self.extend_list_option(key, value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Put a value, or each of a list, into an option that is a list, once."""
        options = self.options
        present = _as_list(options.get(key))
        for one in _as_list(value):
            if one not in present:
                present.append(one)
        self["options"] = {**options, key: present}

    def flatten_links(self) -> list[Signature]:
        """Itself and its callbacks, and theirs, and so on."""
        found: list[Signature] = [self]
        for callback in self.linked("link"):
            found += callback.flatten_links()
        return found

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as text, with these further arguments."""
        return Signature.__repr__(self.clone(args, kwargs))

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Make the call with these further arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Send it with these further arguments and options; returns the handle on its result."""
        return send_all(self.caller, [self.clone(args, kwargs, **options)])[0]

    def apply(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Run it here and now."""
        call = self.clone(args, kwargs, **options)
        return self.caller.apply_task(call.task, call.args, call.kwargs, **call.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it here and return its value."""
        return self.apply(args, kwargs).get()

    def __or__(self, other: object) -> Any:
        if not isinstance(other, Signature):
            return NotImplemented
        return KINDS["chain"].joined(self, other)

    __ior__ = __or__  # or `canvas |= task` would be `dict.update`

    @classmethod
    def joined(cls, first: Signature, then: Signature) -> Signature:
        """What `first | then` makes: known to chains."""
        raise NotImplementedError(f"{cls.__name__} joins nothing: {first!r} | {then!r}")

    def __copy__(self) -> Signature:
        return self.copied()

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return self.copied()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        # Pickled as in any other serializer: a plain dict, and without the app.
        return dict, (dict(self),)

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args]
        shown += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task}({', '.join(shown)})"

    @property
    def caller(self) -> Caller:
        """The app that makes the call; `InvalidTaskError` if there is none."""
        found = self.find_caller()
        if found is None and _default_callers:
            found = _default_callers[0]()
        if found is None:
            raise InvalidTaskError(
                f"signature {self!r} belongs to no app; make it with app.signature"
            )
        return found

    app = caller

    @property
    def type(self) -> Any:
        """The task that it calls; `NotRegistered` if the app does not know it."""
        return self.caller.tasks[self.task]

    def plan(self, planner: Planner, source: Source | None) -> Node:
        """Add the steps that make the call once `source` has its results."""
        step = planner.add(
            self.task, self.args, self.kwargs, self._own_options(), source, immutable=self.immutable
        )
        for callback in self.linked("link"):
            callback.plan(planner, step.source)
        for errback in self.linked("link_error"):
            errback.plan(planner, step.source._replace(failure=True))
        return step

    def bound_to(self, caller: Caller) -> Self:
        """Itself, sent by this app if it was made without one."""
        if self._caller is None:
            self._caller = caller
        return self

    def find_caller(self) -> Caller | None:
        """The app that it was made with, if any."""
        return self._caller

    def _own_options(self) -> dict[str, Any]:
        """Its options without links, which are tasks of their own."""
        return {name: value for name, value in self.options.items() if name not in _LINKS}

    def linked(self, option: str) -> list[Signature]:
        """The signatures in `link` or `link_error`, of which there may be one or a list."""
        found = self.options.get(option) or ()
        several = found if isinstance(found, (list, tuple)) else [found]
        return [Signature.from_dict(one) for one in several]

    def copied(self) -> Signature:
        """A copy that can be changed without changing this one."""
        made = Signature(self, caller=self._caller)
        for name, kind in (("args", list), ("kwargs", dict), ("options", dict)):
            made[name] = kind(self.get(name) or ())
        return made

    def prepend(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        """Put arguments before those it has."""
        self["args"] = [*args, *self.args]
        self["kwargs"] = {**self.kwargs, **(kwargs or {})}

    def _append(self, option: str, signature: Signature) -> Signature:
        present = self.linked(option)
        if signature not in present:
            present.append(signature)
        self["options"] = {**self.options, option: present}
        return signature


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def send_all(caller: Caller, calls: Sequence[Signature]) -> list[Any]:
    """Send signatures of any kind, all or none; return the handles on their results."""
    if caller.is_eager:
        return [call.apply() for call in calls]
    planner = Planner(caller)
    nodes = []
    for call in calls:
        nodes.append(call.plan(planner, None))
        planner.root = None
    if planner.steps:
        receipts = caller.send_steps(planner.steps)
        for result, receipt in zip(planner.results, receipts, strict=True):
            result.take(receipt)
    note_children(
        node.result
        for call, node in zip(calls, nodes, strict=True)
        if call.options.get("add_to_parent", True)
    )
    return [node.result for node in nodes]


_default_callers: list[Callable[[], Caller]] = []


def set_default_caller(find: Callable[[], Caller]) -> None:
    """Say who makes the calls of signatures that were made without an app."""
    _default_callers[:] = [find]


KINDS[""] = Signature
