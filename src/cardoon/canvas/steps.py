"""From a canvas to steps: one for each task, with the steps that it waits for.

Whatever is nested in whatever, what is sent is a flat list in which each step names earlier ones, so
a canvas of n tasks takes n steps, and the store needs to know of nothing but "after".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from cardoon.message.protocol import GroupMember, Take
from cardoon.result import AsyncResult, Result, ResultSource

ACCUMULATE = "cardoon.accumulate"
"""The task that returns its argument: where many wait for many, all wait for one of these."""

Shape: TypeAlias = "int | list[Shape]"
"""Whose results a step is given: a step by number, or a list."""
Form: TypeAlias = "int | list[Form] | None"
"""How results in a row are arranged: None is one, n is a list of n, a list is a list of forms."""


class Source(NamedTuple):
    """What a step waits for."""

    shape: Shape
    failure: bool = False
    """Waits for the failure of its one step instead of its result."""
    gathered: bool = False
    """Whether its one step stands for several, so that who waits for it is a body, as a chord's is."""
    behind: tuple[int, ...] = ()
    """Where an empty group leaves no results to take: what is waited for all the same."""

    def leaves(self) -> list[int]:
        """The steps, in order."""
        return list(_leaves(self.shape))


class Node(NamedTuple):
    """What was planned of a signature: what comes next waits for it, and who sends it gets that."""

    source: Source
    result: Result
    first: Result
    """The result of what runs first in it, whose parent is what ran before."""


@dataclass(slots=True)
class Step:
    """One call of a canvas."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    id: str
    after: tuple[int, ...] = ()
    """Earlier steps."""
    take: Take = Take.RESULT
    composes: bool = False
    """Whether what it waits for becomes its first argument."""
    form: Form = None
    group: GroupMember | None = None
    root: str | None = None
    parent: str | None = None
    is_awaited: bool = False
    """Whether a later step waits for it."""
    is_body: bool = False
    """Whether its errbacks run if what it waits for has failed."""
    follows: list[str] = field(default_factory=list)
    """The tasks that are called with its one result: its callbacks, and the next link of a chain."""


class Origin(ResultSource, Protocol):
    """Where calls come from: what a planner needs of an app."""

    def new_id(self) -> str:
        """A fresh task id."""
        ...


@dataclass(slots=True)
class Planner:
    """Collects the steps of one canvas."""

    caller: Origin
    steps: list[Step] = field(default_factory=list)
    results: list[AsyncResult[Any]] = field(default_factory=list)
    root: str | None = None
    """The first task of the canvas that is being planned."""

    def add(
        self,
        task: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        source: Source | None,
        *,
        immutable: bool = False,
    ) -> Node:
        """One more step, behind `source`."""
        rest = dict(options)
        step = Step(
            task, list(args), dict(kwargs), rest, rest.pop("task_id", None) or self.new_id()
        )
        step.root = self.root = self.root or step.id
        if source is not None:
            self._put_behind(step, source, immutable=immutable)
        number = len(self.steps)
        self.steps.append(step)
        result: AsyncResult[Any] = AsyncResult(step.id, source=self.caller)
        self.results.append(result)
        return Node(Source(number), result, result)

    def gather(self, source: Source) -> Source:
        """One step in place of several, for when several are to wait for them."""
        if len(source.leaves()) < 2:
            return source
        return self.add(ACCUMULATE, (), {}, {}, source).source._replace(gathered=True)

    def new_id(self) -> str:
        """A fresh id, for a task or a group."""
        return self.caller.new_id()

    def _put_behind(self, step: Step, source: Source, *, immutable: bool) -> None:
        taken = source.leaves()
        if not taken and not immutable:
            step.args.insert(0, _fill(source.shape))
        step.after = tuple(taken or source.behind)
        step.composes = bool(taken) and not immutable
        if source.failure:
            step.take = Take.FAILURE
        elif isinstance(source.shape, list) and (taken or len(step.after) > 1):
            step.take = Take.RESULTS
        if taken:
            step.form = form_of(source.shape)
        for leaf in step.after:
            self.steps[leaf].is_awaited = True
            step.parent = self.steps[leaf].id
        step.is_body = source.gathered
        if step.take is Take.RESULT and isinstance(source.shape, int) and not source.gathered:
            self.steps[source.shape].follows.append(step.id)


def form_of(shape: Shape) -> Form:
    """The arrangement of a shape, whoever its steps are."""
    if isinstance(shape, int):
        return None
    if all(isinstance(one, int) for one in shape):
        return len(shape)
    return [form_of(one) for one in shape]


def count_form(form: Form) -> int:
    """How many results a form arranges; `ValueError` for what is no form."""
    match form:
        case None:
            return 1
        case bool():
            raise ValueError("no form")
        case int() if form >= 0:
            return form
        case list():
            return sum(map(count_form, form))
        case _:
            raise ValueError("no form")


def arrange(form: Form, values: Iterator[Any]) -> Any:
    """Results in the arrangement of a form."""
    if form is None:
        return next(values)
    if isinstance(form, int):
        return [next(values) for _ in range(form)]
    return [arrange(one, values) for one in form]


def _leaves(shape: Shape) -> Iterator[int]:
    if isinstance(shape, int):
        yield shape
        return
    for one in shape:
        yield from _leaves(one)


def _fill(shape: Shape) -> Any:
    """A shape without steps as the value that it stands for."""
    return [_fill(one) for one in shape] if isinstance(shape, list) else None
