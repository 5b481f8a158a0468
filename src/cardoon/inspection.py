"""Inspect: questions to workers, with Celery's names, and how answers are collected."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias

from cardoon.commands import COMMANDS, INSPECT, NOT_HERE, check_order
from cardoon.exceptions import InvalidTaskError
from cardoon.sender import (
    NO_COMMANDS_IN_TASKS,
    Answer,
    Commanding,
    Order,
    Refused,
    Sender,
)

Reply: TypeAlias = dict[str, Any]
"""`{worker: answer}`, as Celery has it."""
MAX_TIMEOUT = 300.0
"""Seconds that workers may be waited for: as long as a command is valid."""
MAX_PATTERN = 256


class Office(Protocol):
    """What commands go through: the app."""

    @property
    def sender(self) -> Sender:
        """The way to the broker."""
        ...


class Options(NamedTuple):
    """How workers are asked."""

    destination: tuple[str, ...] = ()
    timeout: float = 1.0
    """Seconds."""
    limit: int | None = None
    """Answers after which nobody is waited for any more."""
    callback: Callable[[Reply], object] | None = None
    """Called with each answer as it comes."""
    pattern: str | None = None
    matcher: str | None = None
    connection: object = None

    def check(self, command: str) -> None:
        """`InvalidTaskError` for what cannot be done."""
        if self.connection is not None:
            raise InvalidTaskError(
                f"{command}: no connection= or channel= here; the app keeps its own connections"
            )
        timeout: Any = self.timeout
        limit: Any = self.limit
        if not isinstance(timeout, (int, float)) or not 0 <= timeout <= MAX_TIMEOUT:
            raise InvalidTaskError(
                f"{command}: timeout={timeout!r}; give seconds from 0 to {MAX_TIMEOUT:.0f}"
            )
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise InvalidTaskError(f"{command}: limit={limit!r}; give a number from 1")
        if self.matcher not in (None, "glob"):
            raise InvalidTaskError(
                f"{command}: matcher={self.matcher!r}: workers match shell wildcards; use 'glob'"
            )
        if self.pattern is not None and not 0 < len(self.pattern) <= MAX_PATTERN:
            raise InvalidTaskError(
                f"{command}: pattern={self.pattern!r} is not 1 to {MAX_PATTERN} characters"
            )


class Question:
    """An order, and how it is given."""

    def __init__(self, app: Office, order: Order, options: Options) -> None:
        self._app = app
        self._order = order
        self._options = options
        self.refused: Counter[str] = Counter()
        """Answers that were not taken, by the reason."""

    def tell(self) -> None:
        """Give it, and wait for nobody."""
        self._commanding().command(self._order)

    def ask(self) -> Iterator[Answer]:
        """Give it, and yield the answers as they come."""
        options = self._options
        for one in self._commanding().ask(
            self._order, timeout=options.timeout, limit=options.limit
        ):
            if isinstance(one, Refused):
                self.refused[one.reason] += 1
                continue
            if options.callback is not None:
                options.callback({one.worker: one.content})
            yield one

    def _commanding(self) -> Commanding:
        sender = self._app.sender
        if not isinstance(sender, Commanding):
            raise InvalidTaskError(f"{self._order.command}: {NO_COMMANDS_IN_TASKS}")
        return sender


class Inspect:
    """Questions to workers. Each method returns `{worker: answer}`, or None if nobody answered."""

    def __init__(
        self,
        destination: str | Sequence[str] | None = None,
        timeout: float = 1.0,
        callback: Callable[[Reply], object] | None = None,
        connection: object = None,
        app: Office | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        if app is None:
            raise InvalidTaskError("Inspect: whose workers? use app.control.inspect(...)")
        self.app = app
        self._options = Options(
            read_destination("inspect", destination),
            timeout,
            limit,
            callback,
            pattern,
            matcher,
            connection,
        )
        self._options.check("inspect")
        self.refused: Counter[str] = Counter()
        """Answers to the last question that were not taken, by the reason."""
        self.left_out: dict[str, int] = {}
        """Of the last question: how many members of a worker's list had no room in its answer."""

    def ping(self, destination: str | Sequence[str] | None = None) -> Reply | None:
        """Whether they are there: `{"ok": "pong"}`."""
        if destination:
            told = read_destination("ping", destination)
            return self._ask("ping", {}, self._options._replace(destination=told))
        return self._ask("ping")

    def active(self, safe: bool | None = None) -> Reply | None:  # noqa: FBT001  # Celery's signature
        """Tasks that run."""
        return self._ask("active", {"safe": safe})

    def reserved(self, safe: bool | None = None) -> Reply | None:  # noqa: ARG002, FBT001
        """Tasks that they hold and that have not begun."""
        return self._ask("reserved")

    def scheduled(self, safe: bool | None = None) -> Reply | None:  # noqa: ARG002, FBT001
        """Tasks with an ETA that they hold: none, those wait in the broker (`cardoon queues`)."""
        return self._ask("scheduled")

    def registered(self, *taskinfoitems: str) -> Reply | None:
        """Names of the tasks that they can run, each with these of its options."""
        return self._ask("registered", {"taskinfoitems": list(taskinfoitems) or None})

    registered_tasks = registered

    def stats(self) -> Reply | None:
        """What they are, and what they have done."""
        return self._ask("stats")

    def active_queues(self) -> Reply | None:
        """Queues that they take from."""
        return self._ask("active_queues")

    def revoked(self) -> Reply | None:
        """Ids that they do not run."""
        return self._ask("revoked")

    def query_task(self, *ids: str | Iterable[str]) -> Reply | None:
        """Whether they hold these tasks: `{id: [state, info]}`."""
        found = [one for each in ids for one in ([each] if isinstance(each, str) else each)]
        return self._ask("query_task", {"ids": found})

    def conf(self, with_defaults: bool = False) -> Reply | None:  # noqa: FBT001, FBT002
        """Their settings, without secrets."""
        return self._ask("conf", {"with_defaults": with_defaults})

    def report(self) -> Reply | None:
        """Versions, platform and settings."""
        return self._ask("report")

    def clock(self) -> Reply | None:
        """The number of the last command that they heard."""
        return self._ask("clock")

    def hello(self, from_node: str, revoked: object = None) -> Reply | None:  # noqa: ARG002
        """Their clock, and which ids they do not run."""
        return self._ask("hello", {"from_node": from_node})

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name in NOT_HERE:
            raise AttributeError(f"inspect.{name}: this version has no {name!r}: {NOT_HERE[name]}")
        known = [one.name for one in COMMANDS.values() if one.type == INSPECT]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"inspect has no question {name!r}{hint}")

    def ask(self, command: str, **arguments: Any) -> Reply | None:
        """Any question by its name, such as one of the workers' own app (`@inspect_command`)."""
        return self._ask(command, arguments)

    def _ask(
        self, command: str, arguments: Reply | None = None, options: Options | None = None
    ) -> Reply | None:
        options = options or self._options
        given = check_order(command, arguments or {})
        order = Order(command, given, options.destination, options.pattern or "")
        question = Question(self.app, order, options)
        answers = list(question.ask())
        self.refused = question.refused
        self.left_out = {one.worker: one.left_out for one in answers if one.left_out}
        return {one.worker: one.content for one in answers} or None


def read_destination(what: str, given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Names of workers from one, several with commas between them, or a list."""
    if given is None:
        return ()
    names: list[Any] = given.split(",") if isinstance(given, str) else list(given)
    found = tuple(dict.fromkeys(one.strip() if isinstance(one, str) else "" for one in names))
    if not all(one and one.isprintable() for one in found):
        raise InvalidTaskError(
            f"{what}: destination={given!r}: give names of workers, such as 'cardoon@host'"
        )
    return found


def collect(answers: Iterable[Answer]) -> list[Reply]:
    """Answers as Celery's `broadcast` returns them."""
    return [{one.worker: one.content} for one in answers]
