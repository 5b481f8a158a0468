"""Chains, groups and chords: signatures made of signatures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from cardoon.canvas.signatures import (
    Caller,
    Signature,
    register_kind,
)
from cardoon.canvas.stamping import StampingVisitor, collect_stamps
from cardoon.canvas.steps import Node, Planner, Source
from cardoon.exceptions import InvalidTaskError
from cardoon.message.protocol import GroupMember
from cardoon.result import EagerResult, GroupResult, Result
from cardoon.stamps import STAMPED_HEADERS, as_options, merge_options, take_stamps


def signature(found: Any, *args: Any, app: Caller | None = None, **options: Any) -> Signature:
    """A signature from a task's name or from a dict, such as JSON brings back."""
    if isinstance(found, Mapping):
        read = Signature.from_dict(found, caller=app)
        return read if app is None else read.bound_to(app)
    given_args, given_kwargs = (args[0] if args else ()), options.pop("kwargs", None)
    given_args = options.pop("args", given_args)
    immutable = bool(options.pop("immutable", False))
    return Signature(
        found,
        given_args,
        given_kwargs,
        options.pop("options", options),
        immutable=immutable,
        caller=app,
    )


def maybe_signature(found: Any, app: Caller | None = None) -> Signature | None:
    """A dict as the signature that it is; None and signatures as they are."""
    return None if found is None else signature(found, app=app)


class Compound(Signature):
    """A signature whose parts are signatures, under `kwargs["tasks"]`."""

    def __init__(
        self,
        tasks: Iterable[Any] = (),
        *,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        caller: Caller | None = None,
        **more: Any,
    ) -> None:
        members = [Signature.from_dict(one) for one in tasks]
        super().__init__(
            f"cardoon.{self.subtask_type}",
            (),
            {"tasks": members, **more},
            options,
            immutable=immutable,
            caller=caller,
        )

    @classmethod
    def _read(cls, found: Mapping[str, Any], caller: Caller | None) -> Signature:
        kwargs = found.get("kwargs")
        if not isinstance(kwargs, Mapping) or not isinstance(kwargs.get("tasks"), (list, tuple)):
            raise InvalidTaskError(f"{cls.subtask_type}: kwargs['tasks'] is not a list")
        made = cls.__new__(cls)
        Compound.__init__(
            made,
            kwargs["tasks"],
            options=found.get("options"),
            immutable=bool(found.get("immutable")),
            caller=caller,
        )
        return made

    @property
    def tasks(self) -> list[Signature]:
        """The parts."""
        found: list[Signature] = self["kwargs"]["tasks"]
        return found

    def __repr__(self) -> str:
        return f"{self.subtask_type}({', '.join(map(repr, self.tasks))})"

    def find_caller(self) -> Caller | None:
        """The app that it or one of its parts was made with."""
        if self._caller is not None:
            return self._caller
        found = (one.find_caller() for one in self.signatures())
        return next((one for one in found if one is not None), None)

    def bound_to(self, caller: Caller) -> Self:
        """Itself, sent by this app if it was made without one; so are its parts."""
        for part in self.signatures():
            part.bound_to(caller)
        return super().bound_to(caller)

    def signatures(self) -> Iterator[Signature]:
        """All signatures in it."""
        return iter(self.tasks)

    def _own_stamps(self) -> dict[str, Any]:
        """The stamps that were given to the whole, as options: they are for each of its parts."""
        if STAMPED_HEADERS not in self.options:
            return {}
        return as_options(take_stamps(self.options, method=self.subtask_type)[1])

    def _unshare(self) -> list[Signature]:
        """Put copies in the parts' places, so that one that stands in two places becomes two."""
        self["kwargs"]["tasks"] = [part.copied() for part in self.tasks]
        return self.tasks

    def copied(self) -> Signature:
        """A copy whose list of parts is its own."""
        made = type(self).__new__(type(self))
        Compound.__init__(
            made,
            self.tasks,
            options=self.options,
            immutable=self.immutable,
            caller=self._caller,
        )
        return made


def _with(
    part: Signature,
    *,
    links: Sequence[Signature] = (),
    errors: Sequence[Signature] = (),
    **options: Any,
) -> Signature:
    """A part with what was set on the whole; its own options win."""
    if not (options or links or errors):
        return part
    changed = part.copied()
    own = changed.options
    added = {name: v for name, v in options.items() if name == STAMPED_HEADERS or name not in own}
    changed["options"] = merge_options(own, added)
    for callback in links:
        changed.link(callback)
    for errback in errors:
        changed.link_error(errback)
    return changed


class _SideBySide(Compound):
    """A compound whose parts begin together, and so are given the same."""

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001
        """Of all parts; a chord's body takes their results all the same, as in Celery."""
        for part in self.tasks:
            part.set_immutable(immutable)

    def prepend(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        """For each part."""
        if args or kwargs:
            self["kwargs"]["tasks"] = [part.clone(args, kwargs) for part in self.tasks]


@register_kind
class chain(Compound):  # noqa: N801  # Celery's name
    """Tasks one after the other, each with the result of the one before."""

    subtask_type = "chain"

    def __init__(self, *tasks: Any, **options: Any) -> None:
        caller = options.pop("app", None)
        super().__init__(_spread(tasks), options=options, caller=caller)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with these arguments for the first task, as in Celery: it does not run here."""
        return self.apply_async(args, kwargs)

    @classmethod
    def joined(cls, first: Signature, then: Signature) -> Signature:
        """What `first | then` makes: a group with a task behind it is a chord."""
        parts = first.tasks if isinstance(first, chain) and not first.options else [first]
        after = then.tasks if isinstance(then, chain) and not then.options else [then]
        if parts and isinstance(parts[-1], group) and after and not isinstance(after[0], group):
            parts, after = [*parts[:-1], chord(parts[-1], after[0])], after[1:]
        whole = [*parts, *after]
        return whole[0] if len(whole) == 1 else chain(whole)

    def plan(self, planner: Planner, source: Source | None) -> Node:
        """Each part behind the one before."""
        node: Node | None = None
        first: Result | None = None
        for part in self._prepared():
            planned = part.plan(planner, source)
            planned.first.parent = None if node is None else node.result
            first = first or planned.first
            node, source = planned, planned.source
        assert node is not None
        assert first is not None
        for callback in self.linked("link"):
            callback.plan(planner, node.source)
        return node._replace(first=first)

    def apply(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run all parts here, one after the other."""
        result: Any = None
        whole = self.clone(args, kwargs, **options).bound_to(self.caller)
        for part in whole._prepared():  # type: ignore[attr-defined]  # noqa: SLF001  # a chain, too
            before, given = result, () if result is None else (result.get(),)
            result = part.apply(given)
            result.parent = before
        for callback in whole.linked("link"):
            callback.bound_to(self.caller).apply((result.get(),))
        return result

    def _prepared(self) -> list[Signature]:
        """The parts, with what was set on the whole."""
        parts = self.links_of_chain()
        if not parts:
            raise InvalidTaskError("chain: there is nothing in it")
        options = self._own_options()
        if (task_id := options.pop("task_id", None)) is not None:
            parts[-1] = _with(parts[-1], task_id=task_id)
        parts[0] = _with(parts[0], **options)
        errors, stamps = self.linked("link_error"), self._own_stamps()
        return [_with(part, errors=errors, **stamps) for part in parts]

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002
        **headers: Any,
    ) -> Self:
        """Stamp each part; a group with a task behind it is visited as the chord that it is."""
        told = None if visitor is None else visitor.on_chain_start(self, **headers)
        given = collect_stamps(headers, told, self.options, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **given)
        stamped = self._unshare()
        at = 0
        while at < len(stamped):
            pair = stamped[at : at + 2]
            if _is_chord(*pair):
                pair[0].stamp_links(visitor, append_stamps, **given)
                header = pair[0]["kwargs"]["tasks"]
                whole = chord(header, pair[1]).stamp(visitor, append_stamps, **given)
                stamped[at]["kwargs"]["tasks"] = whole.tasks
                stamped[at + 1] = whole.body
            else:
                pair[0].stamp(visitor, append_stamps, **given)
            at += 1 + _is_chord(*pair)
        if visitor is not None:
            visitor.on_chain_end(self, **given)
        return self

    def give_ids(self, own: str | None, new_id: Callable[[], str]) -> None:
        """The last part answers for the whole."""
        parts = self._unshare()
        for part in parts:
            part.give_ids((own or self.id) if part is parts[-1] else None, new_id)

    def unchain_tasks(self) -> list[Signature]:
        """Copies of the parts, each with the errbacks of the whole."""
        errors = self.linked("link_error")
        return [_with(part.copied(), errors=errors) for part in self.tasks]

    def links_of_chain(self) -> list[Signature]:
        """The parts, chains among them taken apart, and empty groups left out at the end."""
        parts: list[Signature] = []
        for part in self.tasks:
            if isinstance(part, chain) and not part.options:
                parts += part.links_of_chain()
            else:
                parts.append(part)
        while len(parts) > 1 and isinstance(parts[-1], group) and not parts[-1].members():
            parts.pop()
        return parts

    def prepend(self, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> None:
        """For the first part."""
        if self.tasks and (args or kwargs):
            self["kwargs"]["tasks"] = [self.tasks[0].clone(args, kwargs), *self.tasks[1:]]


@register_kind
class group(_SideBySide):  # noqa: N801  # Celery's name
    """Tasks side by side; the result is a `GroupResult`."""

    subtask_type = "group"

    def __init__(self, *tasks: Any, **options: Any) -> None:
        caller = options.pop("app", None)
        super().__init__(_spread(tasks), options=options, caller=caller)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Send it, with these arguments for all members."""
        return self.apply_async(args, **options)

    def members(self) -> list[Signature]:
        """The parts with what was set on the whole, groups among them taken apart, as in Celery."""
        errors, options = self.linked("link_error"), self._own_options()
        options.pop("task_id", None)
        found: list[Signature] = []
        for part in self.tasks:
            parts = part.members() if isinstance(part, group) else [part]
            found += [_with(one, errors=errors, **options) for one in parts]
        if found:
            found[0] = _with(found[0], links=self.linked("link"))
        return found

    def plan(self, planner: Planner, source: Source | None) -> Node:
        """Each part behind the same source."""
        members = self.members()
        if source is not None and len(members) > 1:
            source = planner.gather(source)
        name = self.options.get("task_id") or planner.new_id()
        nodes = []
        for position, part in enumerate(members):
            node = part.plan(planner, source)
            step = node.source.shape
            if isinstance(step, int):
                planner.steps[step].group = GroupMember(name, position, len(members))
            nodes.append(node)
        result = GroupResult(name, [node.result for node in nodes], source=planner.caller)
        ends = Source([node.source.shape for node in nodes])
        if source is not None and not nodes:
            ends = ends._replace(
                failure=source.failure, behind=tuple(source.leaves()) or source.behind
            )
        return Node(ends, result, result)

    def apply(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> GroupResult:
        """Run all parts here, in order."""
        caller = self.caller
        members = self.bound_to(caller).members()
        found = [one.apply(args, kwargs, **options) for one in members]
        return GroupResult(caller.new_id(), found, source=caller)

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002
        **headers: Any,
    ) -> Self:
        """Stamp each member."""
        told = None if visitor is None else visitor.on_group_start(self, **headers)
        given = collect_stamps(headers, told, self.options, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **given)
        for part in self._unshare():
            part.stamp(visitor, append_stamps, **given)
        if visitor is not None:
            visitor.on_group_end(self, **given)
        return self

    def give_ids(self, own: str | None, new_id: Callable[[], str]) -> None:
        """The group has an id of its own."""
        super().give_ids(own, new_id)
        for part in self._unshare():
            part.give_ids(None, new_id)

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Set countdowns that rise from part to part, in seconds."""
        seconds = itertools.count(start, step)
        for part in self.tasks:
            part.set(countdown=next(seconds) if stop is None else min(stop, next(seconds)))
        return self

    def __len__(self) -> int:
        return len(self.tasks)


@register_kind
class chord(_SideBySide):  # noqa: N801  # Celery's name
    """A group, and a task that gets the list of all results. One failure fails the body."""

    subtask_type = "chord"

    def __init__(
        self,
        header: Any = (),
        body: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
        app: Caller | None = None,
        **more: Any,
    ) -> None:
        if isinstance(header, Mapping):
            whole = Signature.from_dict(header)
            # A group with options stays one, so that its members get them.
            is_plain = isinstance(whole, group) and not whole.options
            header = whole["kwargs"]["tasks"] if is_plain else [whole]
        super().__init__(_spread([header]), options={**(options or {}), **more}, caller=app)
        self["kwargs"]["body"] = None if body is None else Signature.from_dict(body)

    @classmethod
    def _read(cls, found: Mapping[str, Any], caller: Caller | None) -> Signature:
        made = super()._read(found, caller)
        body = found["kwargs"].get("body")
        made["kwargs"]["body"] = None if body is None else Signature.from_dict(body)
        return made

    @property
    def body(self) -> Signature:
        """The task that gets the results."""
        found: Signature | None = self["kwargs"].get("body")
        if found is None:
            raise InvalidTaskError("chord: it has no body; call it with one: chord(header)(body)")
        return found

    @property
    def header(self) -> group:
        """Its parts as a group."""
        return group(self.tasks)

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002
        **headers: Any,
    ) -> Self:
        """Stamp each member of the header, and the body."""
        told = None if visitor is None else visitor.on_chord_header_start(self, **headers)
        given = collect_stamps(headers, told, self.options, append=append_stamps)
        self.stamp_links(visitor, append_stamps, **given)
        for part in self._unshare():
            part.stamp(visitor, append_stamps, **given)
        if visitor is not None:
            visitor.on_chord_header_end(self, **given)
        if self["kwargs"].get("body") is not None:
            told = None if visitor is None else visitor.on_chord_body(self, **given)
            given = collect_stamps(given, told, append=append_stamps)
            self["kwargs"]["body"] = self.body.copied().stamp(visitor, append_stamps, **given)
        return self

    def give_ids(self, own: str | None, new_id: Callable[[], str]) -> None:
        """The body answers for the whole."""
        for part in self._unshare():
            part.give_ids(None, new_id)
        self["kwargs"]["body"] = body = self.body.copied()
        body.give_ids(own or self.id, new_id)

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with this body; as in Celery, `chord(header)(body)` does not wait."""
        made = self.copied()
        if body is not None:
            made["kwargs"]["body"] = Signature.from_dict(body)
        return made.apply_async(**options)

    def plan(self, planner: Planner, source: Source | None) -> Node:
        """The body behind all parts."""
        header = group([_with(part, **self._own_stamps()) for part in self.tasks])
        before = header.plan(planner, source)
        links, errors = self.linked("link"), self.linked("link_error")
        body = _with(self.body, links=links, errors=errors, **self._own_options())
        node = body.plan(planner, before.source)
        node.first.parent = before.result
        return node._replace(first=before.first)

    def apply(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EagerResult[Any]:
        """Run the parts and the body here."""
        stamps = self._own_stamps()
        header = group([_with(part, **stamps) for part in self.bound_to(self.caller).tasks])
        results = [part.apply(args, kwargs) for part in header.members()]
        body = _with(self.body, **stamps)
        found: EagerResult[Any] = body.apply(([one.get() for one in results],), **options)
        return found

    def __repr__(self) -> str:
        return f"chord([{', '.join(map(repr, self.tasks))}], {self['kwargs'].get('body')!r})"

    def signatures(self) -> Iterator[Signature]:
        """All signatures in it."""
        body = self["kwargs"].get("body")
        return itertools.chain(self.tasks, [] if body is None else [body])

    def copied(self) -> Signature:
        """A copy whose list of parts is its own."""
        made = super().copied()
        made["kwargs"]["body"] = self["kwargs"].get("body")
        return made


def _is_chord(part: Signature, then: Signature | None = None) -> bool:
    """Whether two parts of a chain are a chord: a group, and one behind it."""
    return isinstance(part, group) and then is not None and not isinstance(then, group)


def _spread(tasks: Sequence[Any]) -> list[Any]:
    """Signatures given one by one, or as one list, group or generator."""
    if len(tasks) == 1 and isinstance(tasks[0], Iterable) and not isinstance(tasks[0], Mapping):
        return list(tasks[0])
    return list(tasks)
