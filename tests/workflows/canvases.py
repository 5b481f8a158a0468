"""Canvases as plain descriptions, and what they must come to: the model that the real thing is held to.

`Reference` evaluates a description by recursion and knows nothing of steps, messages or stores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NamedTuple, TypeAlias

MAX_TASKS = 25
FAILING = ("fail", "reject", "ignore", "exhaust", "revoked", "expired")
WELL = ("ok", "retry", "later", "change")


@dataclass(frozen=True)
class Task:
    """One call; `how` says how it ends."""

    number: int
    how: str = "ok"
    immutable: bool = False
    links: tuple[Task, ...] = ()
    errors: tuple[Task, ...] = ()
    named: bool = True
    """Whether its id is chosen: not for the errbacks of wholes, which are called for each part."""


@dataclass(frozen=True)
class Mapped:
    """A map, starmap or chunks over items; one of them may fail."""

    number: int
    kind: str
    items: tuple[Any, ...]
    links: tuple[Task, ...] = ()
    errors: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Chain:
    """One after the other."""

    parts: tuple[Node, ...]
    links: tuple[Task, ...] = ()
    errors: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Group:
    """Side by side."""

    parts: tuple[Node, ...]
    links: tuple[Task, ...] = ()
    errors: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Chord:
    """Side by side, and then one."""

    parts: tuple[Node, ...]
    body: Node
    links: tuple[Task, ...] = ()
    errors: tuple[Task, ...] = ()


Node: TypeAlias = "Task | Mapped | Chain | Group | Chord"


class Value(NamedTuple):
    """A task returned this."""

    value: Any


class Failure(NamedTuple):
    """A task failed with this type, and a text that names one of these."""

    kind: str
    names: frozenset[str]


class Leaf(NamedTuple):
    """How one task ended, and which tasks that was."""

    outcome: Value | Failure
    numbers: frozenset[int]
    is_gathered: bool = False
    """Whether it stands for several, so that what waits for it is a body."""


Tasks: TypeAlias = "tuple[Task, ...]"
Given: TypeAlias = "Leaf | list[Given] | None"


class Reference:
    """What must come of a canvas."""

    def __init__(self, canvas: Node, *, prefix: str) -> None:
        self.prefix = prefix
        self.results: dict[int, Value | Failure] = {}
        """By task number, for tasks whose id is known."""
        self.runs: Counter[int] = Counter()
        """How many tasks of a number begin."""
        self.follows: dict[int, frozenset[int]] = {}
        self.ends = 0
        self.top = self._evaluate(canvas, None)

    def _evaluate(self, node: Node, given: Given, errors: Tasks = (), links: Tasks = ()) -> Given:
        """How a canvas ends; `errors` and `links` are those of the wholes that it is a part of."""
        errors, links = (*node.errors, *errors), (*node.links, *links)
        match node:
            case Task():
                return self._task(node, given, errors, links)
            case Mapped(kind="chunks"):
                starts = range(0, len(node.items), 2)
                parts = [Mapped(0, "starmap", node.items[at : at + 2]) for at in starts]
                return self._group(Group(tuple(parts)), given, errors, links)
            case Mapped():
                return self._mapped(node, given, errors, links)
            case Chain(parts):
                for part in parts:
                    given = self._evaluate(part, given, errors)
                self._follow(links, given)
                return given
            case Group():
                return self._group(node, given, errors, links)
            case Chord(parts, body):
                header = self._group(Group(parts), given, (), ())
                return self._evaluate(body, header, errors, links)

    def _group(self, node: Group, given: Given, errors: Tasks, links: Tasks) -> Given:
        members = list(_members(node, errors, links))
        leaves = list(_leaves(given))
        if isinstance(given, list) and len(leaves) > 1 and len(members) > 1:
            self.ends += 1  # one waits for all, and all for it
            numbers = frozenset().union(*(one.numbers for one in leaves))
            ended = _chord_failure(leaves) or Value(_value(given))
            given = Leaf(ended, numbers, is_gathered=True)
        return [self._evaluate(part, given, *inherited) for part, *inherited in members]

    def _task(self, node: Task, given: Given, errors: Tasks, links: Tasks) -> Leaf:
        self.follows[node.number] = frozenset().union(*(one.numbers for one in _leaves(given)))
        outcome, skipped = self._before(given)
        if node.how == "revoked":
            outcome, skipped = Failure("TaskRevokedError", frozenset({"revoked"})), False
        elif outcome is None and node.how == "expired":
            outcome = Failure("TaskRevokedError", frozenset({"expired"}))
        elif outcome is None:
            self.runs[node.number] += 1
            self.ends += node.how == "change"  # what takes its place ends, too
            taken = [] if node.immutable or given is None else [_value(given)]
            outcome = self._run(node, taken)
        leaf = self._end(node, outcome, links)
        if isinstance(outcome, Failure) and not skipped:
            self._fail(node.number, errors)
        return leaf

    def _mapped(self, node: Mapped, given: Given, errors: Tasks, links: Tasks) -> Leaf:
        outcome, skipped = self._before(given)
        if outcome is None:
            broken = [one for one in node.items if isinstance(one, str)]
            outcome = Value([[one] for one in node.items])
            if broken:
                outcome = Failure("ValueError", frozenset(broken[:1]))
        leaf = self._end(node, outcome, links)
        if isinstance(outcome, Failure) and not skipped:
            self._fail(node.number, errors)
        return leaf

    def _before(self, given: Given) -> tuple[Failure | None, bool]:
        """The failure that keeps a task from running, and whether it is that of the one before."""
        if isinstance(given, Leaf) and isinstance(given.outcome, Failure):
            return given.outcome, not given.is_gathered
        return (_chord_failure(list(_leaves(given))) if isinstance(given, list) else None), False

    def _run(self, node: Task, taken: list[Any]) -> Value | Failure:
        name = frozenset({f"<{node.number}>"})
        match node.how:
            case "ok" | "retry" | "later" | "change":
                return Value([node.number, *taken])
            case "fail" | "exhaust":
                return Failure("ValueError", name)
            case "reject":
                return Failure("Reject", name)
            case "ignore":
                return Failure("Ignore", frozenset({"ignored"}))
        raise AssertionError(node.how)

    def _end(self, node: Task | Mapped, outcome: Value | Failure, links: Tasks) -> Leaf:
        self.ends += 1
        if node.number and not (isinstance(node, Task) and not node.named):
            self.results[node.number] = outcome
        leaf = Leaf(outcome, frozenset({node.number} - {0}))
        self._follow(links, leaf)
        return leaf

    def _fail(self, number: int, errbacks: Tasks) -> None:
        for errback in errbacks:
            self.runs[errback.number] += 1
            self.ends += 1
            if errback.named:
                about = [] if errback.immutable else [f"{self.prefix}-{number}"]
                value = Value([errback.number, *about])
                self.results[errback.number] = value
                self.follows[errback.number] = frozenset({number})
                self._follow(errback.links, Leaf(value, frozenset({errback.number})))

    def _follow(self, links: Tasks, given: Given) -> None:
        for callback in links:
            self._evaluate(callback, given)


def _members(group: Group, errors: Tasks, links: Tasks) -> Iterator[tuple[Node, Tasks, Tasks]]:
    """The parts, groups among them taken apart, with what they inherit; links go to the first."""
    for part in group.parts:
        if isinstance(part, Group):
            yield from _members(part, (*part.errors, *errors), (*part.links, *links))
        else:
            yield part, errors, links
        links = ()


def _leaves(given: Given) -> Iterator[Leaf]:
    if isinstance(given, Leaf):
        yield given
    for one in given if isinstance(given, list) else ():
        yield from _leaves(one)


def _value(given: Given) -> Any:
    if isinstance(given, list):
        return [_value(one) for one in given]
    assert isinstance(given, Leaf)
    assert isinstance(given.outcome, Value)
    return given.outcome.value


def _chord_failure(leaves: Sequence[Leaf]) -> Failure | None:
    """Whichever is found first, its text is in the error."""
    names = [one.outcome.names for one in leaves if isinstance(one.outcome, Failure)]
    return Failure("ChordError", frozenset().union(*names)) if names else None


class Generator:
    """Makes canvases of whatever `random` says."""

    def __init__(self, random: Random, *, trouble: float) -> None:
        self._random = random
        self._trouble = trouble
        self._last = 0

    def canvas(self, depth: int = 4) -> Node:
        """A canvas that is at least two tasks."""
        return self._random.choice((self._chain, self._group, self._chord))(depth)

    def _node(self, depth: int) -> Node:
        if depth <= 0 or self._last >= MAX_TASKS or self._random.random() < 0.5:
            return self._mapped() if self._random.random() < 0.1 else self._task()
        return self.canvas(depth - 1)

    def _chain(self, depth: int) -> Chain:
        parts = [self._node(depth) for _ in range(self._random.randint(1, 3))]
        return Chain(tuple(parts), *self._linked(whole=True))

    def _group(self, depth: int) -> Group:
        parts = [self._node(depth) for _ in range(self._random.randint(1, 4))]
        return Group(tuple(parts), *self._linked(whole=True))

    def _chord(self, depth: int) -> Chord:
        parts = [self._node(depth) for _ in range(self._random.randint(1, 4))]
        body = self._node(depth - 1)
        return Chord(tuple(parts), body, *self._linked(whole=True))

    def _mapped(self) -> Mapped:
        number = self._number()
        items: list[Any] = list(range(self._random.randint(1, 4)))
        if self._random.random() < self._trouble:
            items[-1] = f"<{number}>"
        kind = self._random.choice(("map", "starmap", "chunks"))
        return Mapped(number, kind, tuple(items), *self._linked(whole=kind == "chunks"))

    def _task(self, *, linked: bool = True) -> Task:
        number = self._number()
        hows = FAILING if self._random.random() < self._trouble else WELL
        how = self._random.choice(hows) if self._random.random() < 0.5 else hows[0]
        links, errors = self._linked() if linked else ((), ())
        return Task(number, how, self._random.random() < 0.15, links, errors)

    def _linked(self, *, whole: bool = False) -> tuple[tuple[Task, ...], tuple[Task, ...]]:
        links, errors = [], []
        if self._random.random() < 0.1:
            links.append(self._task(linked=False))
        if self._random.random() < 0.2:
            how = self._random.choice(("sorry", "sorry", "sorry_for"))
            immutable = how == "sorry" and self._random.random() < 0.2
            errback = Task(self._number(), how, immutable, named=not whole)
            if not whole and self._random.random() < 0.3:
                errback = replace(errback, links=(self._task(linked=False),))
            errors.append(errback)
        return tuple(links), tuple(errors)

    def _number(self) -> int:
        self._last += 1
        return self._last


def show(node: Node, indent: str = "") -> str:
    """A description to read."""
    extra = "".join(f" link {show(one)}" for one in node.links)
    extra += "".join(f" on_error {show(one)}" for one in node.errors)
    match node:
        case Task(number, how, immutable):
            return f"{number}:{how}{'!' if immutable else ''}{extra}"
        case Mapped(number, kind, items):
            return f"{number}:{kind}{list(items)}{extra}"
        case Chain(parts) | Group(parts) | Chord(parts):
            lines = [f"{indent}  {show(part, indent + '  ')}" for part in parts]
            if isinstance(node, Chord):
                lines.append(f"{indent}  -> {show(node.body, indent + '  ')}")
            return "\n".join([f"{type(node).__name__.lower()}{extra}", *lines])
