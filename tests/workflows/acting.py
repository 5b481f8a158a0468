"""Descriptions as real canvases, sent, played with faults, and held against the model."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from cardoon import Signature, chain, chord, group, signature, states
from cardoon.exceptions import Ignore, Reject
from cardoon.result import AsyncResult, ResultSet
from tests.workflows.canvases import (
    Chain,
    Chord,
    Failure,
    Generator,
    Given,
    Group,
    Leaf,
    Mapped,
    Node,
    Reference,
    Task,
    Value,
    show,
)
from tests.workflows.troupe import Troupe

EXAMPLES_FOR_ONE = 40
"""Then the stage is built anew, since stores remember what they have carried out."""


class Run(NamedTuple):
    """A task's body has begun."""

    number: int
    id: str
    ended: int
    """How many messages had ended by then."""
    stamps: dict[str, Any]


class Company:
    """A troupe with the tasks that descriptions name."""

    def __init__(self, folder: Path, *, store: str) -> None:
        self.troupe = Troupe(folder, store=store)
        self.runs: list[Run] = []
        self._add_tasks()

    def _add_tasks(self) -> None:
        app = self.troupe.app

        def begin(number: int, request: Any) -> None:
            ended = len(self.troupe.broker.ended)
            self.runs.append(Run(number, request.id, ended, dict(request.stamps)))

        @app.task(name="act", bind=True)
        def act(task, *inputs, number, how):
            begin(number, task.request)
            name = f"<{number}>"
            match how:
                case "fail":
                    raise ValueError(name)
                case "reject":
                    raise Reject(name)
                case "ignore":
                    raise Ignore
                case "retry" if task.request.retries < 2:
                    raise task.retry(countdown=1)
                case "change":
                    again = {"number": number, "how": "ok"}
                    raise task.retry(args=inputs, kwargs=again, countdown=1)
                case "exhaust":
                    raise task.retry(exc=ValueError(name), countdown=1, max_retries=1)
            return [number, *inputs]

        @app.task(name="sorry", bind=True)
        def sorry(task, task_id=None, *, number):
            begin(number, task.request)
            return [number] if task_id is None else [number, task_id]

        @app.task(name="sorry_for", bind=True)
        def sorry_for(task, request, error, traceback, *, number):
            begin(number, task.request)
            assert isinstance(error, BaseException)
            return [number, request.id]

        @app.task(name="pick")
        def pick(item):
            if isinstance(item, str):
                raise ValueError(item)  # noqa: TRY004  # as any task may
            return [item]

    # From a description to a canvas

    def build(self, node: Node, prefix: str, random: Random) -> Signature:
        """The canvas that is described, written in one way or another."""

        def make(one: Node) -> Signature:
            made = self._make(one, prefix, random, make)
            for callback in one.links:
                made.link(make(callback))
            for errback in one.errors:
                made.link_error(make(errback))
            return made

        return make(node)

    def _make(self, node: Node, prefix: str, random: Random, make: Any) -> Signature:
        tasks = self.troupe.app.tasks
        match node:
            case Task(number, how, immutable):
                kwargs = {"number": number} if how.startswith("sorry") else _told(number, how)
                name = how if how.startswith("sorry") else "act"
                made = tasks[name].signature(kwargs=kwargs, immutable=immutable)
                if node.named:
                    made.set(task_id=f"{prefix}-{number}")
                if how == "later":
                    made.set(countdown=3)
                if how == "expired":
                    made.set(countdown=10, expires=5)
                return made
            case Mapped(number, "map", items):
                made = tasks["pick"].map(items).set(immutable=True)
                return made.set(task_id=f"{prefix}-{number}")
            case Mapped(number, "starmap", items):
                made = tasks["pick"].starmap([[one] for one in items]).set(immutable=True)
                return made.set(task_id=f"{prefix}-{number}")
            case Mapped(_, _, items):
                return tasks["pick"].chunks([[one] for one in items], 2).set(immutable=True)
            case Chain(parts):
                made_parts = [make(part) for part in parts]
                # Of a group with `|` behind it comes a chord, whose errbacks are its body's alone.
                if len(parts) == 1 or random.random() < 0.5 or not all(map(_is_simple, parts)):
                    return chain(*made_parts)
                joined = made_parts[0]
                for part in made_parts[1:]:
                    joined |= part
                return joined
            case Group(parts):
                return group(make(part) for part in parts)
            case Chord(parts, body):
                header = [make(part) for part in parts]
                if random.random() < 0.5 or not _is_simple(body):
                    return chord(random.choice((list, group))(header), make(body))
                return group(header) | make(body)

    # From a canvas to how it ends

    def perform(self, node: Node, prefix: str, random: Random, *, faults: float) -> None:
        """Send what is described, play it to its end, and hold the outcome against the model."""
        troupe = self.troupe
        self.runs.clear()
        troupe.broker.ended.clear()
        canvas = self.build(node, prefix, random)
        if random.random() < 0.3:
            canvas = signature(json.loads(json.dumps(canvas)), app=troupe.app)
        stamps = {"play": prefix} if random.random() < 0.3 else {}
        result = canvas.stamp(**stamps).apply_async()
        troupe.revoked.add(tuple(f"{prefix}-{one}" for one in _revoked_in(node)))
        troupe.play(random, faults=faults)
        expected = Reference(node, prefix=prefix)
        self._check_results(expected, result)
        self._check_runs(expected)
        assert troupe.quarantined() == []
        assert all(one.stamps == stamps for one in self.runs)

    def _check_results(self, expected: Reference, result: Any) -> None:
        compare(result, expected.top)
        for number, outcome in expected.results.items():
            found = self.troupe.app.AsyncResult(f"{expected.prefix}-{number}")
            compare_one(found, outcome)

    def _check_runs(self, expected: Reference) -> None:
        ended = self.troupe.broker.ended
        ids: dict[int, set[str]] = defaultdict(set)
        for run in self.runs:
            ids[run.number].add(run.id)
            for before in expected.follows.get(run.number, ()):
                name = f"{expected.prefix}-{before}"
                if before in expected.results:
                    assert name in ended[: run.ended], f"{run.number} ran before {before} ended"
        begun = Counter({number: len(found) for number, found in ids.items()})
        assert begun == expected.runs, (
            f"ran {begun - expected.runs} too often, {expected.runs - begun} too seldom"
        )
        assert len(ended) == expected.ends, "a message ended twice, or not at all"


def compare(result: Any, expected: Given) -> None:
    """A handle against the model's outcome, members of groups one by one."""
    if isinstance(expected, list):
        assert isinstance(result, ResultSet)
        for one, wanted in zip(result, expected, strict=True):
            compare(one, wanted)
        return
    assert isinstance(result, AsyncResult)
    assert isinstance(expected, Leaf)
    compare_one(result, expected.outcome)


def compare_one(result: AsyncResult[Any], expected: Value | Failure) -> None:
    """One task's result against what it is to be."""
    if isinstance(expected, Failure) and expected.kind == "Ignore" and not result.ready():
        return  # nobody wants the result of what was ignored, but what waited for it says why
    found = result.get(timeout=0, propagate=False)
    if isinstance(expected, Value):
        assert (result.state, found) == (states.SUCCESS, expected.value), (result.id, found)
        return
    assert result.state != states.SUCCESS, result.id
    assert type(found).__name__ == expected.kind, result.id
    assert any(name in str(found) for name in expected.names), (result.id, str(found))


def _is_simple(node: Node) -> bool:
    """Whether it is not a group under any name."""
    return isinstance(node, (Task, Chord)) or (isinstance(node, Mapped) and node.kind != "chunks")


def _told(number: int, how: str) -> dict[str, Any]:
    return {"number": number, "how": how}


def _revoked_in(node: Node) -> list[int]:
    found = [one for linked in (node.links, node.errors) for one in linked]
    match node:
        case Task(number, how):
            mine = [number] if how == "revoked" else []
            return [*mine, *(n for one in found for n in _revoked_in(one))]
        case Chain(parts) | Group(parts):
            found += parts
        case Chord(parts, body):
            found += [*parts, body]
    return [n for one in found for n in _revoked_in(one)]


class Theatre:
    """Performs one canvas after the other; each few on a new stage."""

    def __init__(self, folder: Path, *, store: str) -> None:
        self._folder = folder
        self._store = store
        self._company: Company | None = None
        self._performed = 0

    def perform(self, random: Random, *, trouble: float, faults: float) -> None:
        """One canvas, as `random` has it. The error names it."""
        if self._company is None or self._performed % EXAMPLES_FOR_ONE == 0:
            self.close()
            self._company = Company(self._folder / str(self._performed), store=self._store)
        self._performed += 1
        node = Generator(random, trouble=trouble).canvas()
        try:
            self._company.perform(node, f"e{self._performed}", random, faults=faults)
        except BaseException as error:
            error.add_note(f"of this canvas, on {self._store}:\n{show(node)}")
            self.close()
            raise

    def close(self) -> None:
        """Let go of everything."""
        if self._company is not None:
            self._company.troupe.close()
            self._company = None
