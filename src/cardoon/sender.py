"""The seam between the API and the machinery: how calls leave, and how results come back.

Whoever calls a task talks to a `Sender`. In a client it signs and publishes (`producer`); in a process
that runs tasks it asks the worker to, because such a process holds no key and no address
(`worker.link`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from cardoon.broker import Limit, Outgoing, Unique
from cardoon.exceptions import RefusedError
from cardoon.message.protocol import GroupMember, Take

NO_EMBED: dict[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
"""The third part of a body that says nothing besides the arguments."""


class Tick(NamedTuple):
    """What makes a call that one tick of a periodic task, whoever sends it and however often."""

    session: bytes
    sequence: int
    """The nonce, the same in every copy: workers carry out one of them."""
    until: float
    """In seconds since the epoch: valid no longer, in no copy. As long as that workers remember it."""
    claim: Unique | None = None
    """Turns copies away as long as somebody might send one, where the broker can."""


class Call(NamedTuple):
    """One call of a task, encoded and ready to be signed."""

    task: str
    id: str
    queue: str
    codec: str
    body: bytes
    """`[args, kwargs, embed]` as in Celery's message protocol 2, in `codec`."""
    headers: bytes = b""
    """JSON object of everything that is signed but has no claim of its own."""
    priority: int = 0
    eta: float | None = None
    """Seconds since the epoch."""
    expires: float | None = None
    """Seconds since the epoch."""
    retries: int = 0
    max_retries: int | None = None
    """None where the sender does not know the task; then the worker's own limit counts."""
    root: str | None = None
    parent: str | None = None
    request: bytes | None = None
    """The message whose place this one takes: SHA-256 of its claims."""
    group: GroupMember | None = None
    after: tuple[int, ...] = ()
    """What it waits for: calls that are sent together with it, by their place among them."""
    take: Take = Take.RESULT
    delay: float = 0.0
    """Seconds from their end until it may run."""
    unique: Unique | None = None
    limit: Limit | None = None
    tick: Tick | None = None


class Duplicate(NamedTuple):
    """A call was not sent, because it is unique and was sent before."""

    id: str
    """Of the one that was sent before."""


Receipt: TypeAlias = bytes | Duplicate
"""Of one call: the request digest of its message (`Handle.request`), or that there is none."""


def receipts_of(
    calls: Sequence[Call], digests: Sequence[bytes], stand_ins: Mapping[str, str]
) -> Sequence[Receipt]:
    """What became of calls, of which a broker says who stands in for whom."""
    if not stand_ins:
        return digests
    return [
        Duplicate(stand_ins[call.id]) if call.id in stand_ins else digest
        for call, digest in zip(calls, digests, strict=True)
    ]


class Handle(NamedTuple):
    """What it takes to ask for a result."""

    task_id: str
    request: bytes | None = None
    """The request digest of the message that the result must answer, where this process sent it."""


class Report(NamedTuple):
    """A result whose signature was verified, or a state on the way to one."""

    task_id: str
    state: str
    codec: str
    body: bytes
    task: str = ""
    done_at: float | None = None
    """Seconds since the epoch."""
    retries: int = 0
    worker: str = ""
    unreadable: str = ""
    """Why the body is not here, though there is one: it is sealed to others."""
    isolation: str = ""
    """What its worker held the task to while it ran."""
    violations: Sequence[Any] = ()
    """What that has refused it, as its worker tells it; `sandbox.violations` reads it."""


class Revocation(NamedTuple):
    """The wish that tasks do not run, or, with `terminate`, stop running."""

    task_ids: tuple[str, ...]
    terminate: bool = False
    signal: str = "SIGTERM"
    stamps: Mapping[str, Sequence[Any]] = MappingProxyType({})
    """Instead of ids: the tasks with one of these values of one of these stamps."""
    destination: tuple[str, ...] = ()
    """The workers that are told; empty for every one."""


class Order(NamedTuple):
    """A command to workers."""

    command: str
    arguments: Mapping[str, Any] = MappingProxyType({})
    destination: tuple[str, ...] = ()
    """Names of workers; empty for every one."""
    pattern: str = ""
    """Shell wildcards that the name of a worker must fit; empty for any."""


class Answer(NamedTuple):
    """What one worker says to a command; its signature was verified."""

    worker: str
    content: Any
    left_out: int = 0
    """Members of a list that had no room."""


class Refused(NamedTuple):
    """An answer that was not taken."""

    reason: str
    detail: str


class Sender(Protocol):
    """Blocking, safe from threads. Raises `OperationalError` where the store does not answer."""

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish, all or none; return a receipt for each.

        Durable on return. Raises `OperationalError` after `timeout` seconds.
        """
        ...

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """The present state of those tasks that have one stored."""
        ...

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Yield each final result as it arrives; stop after the last, or after `timeout` seconds.

        A collection other than a list or tuple may grow meanwhile.
        """
        ...

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete stored results."""
        ...

    def revoke(self, revocation: Revocation) -> None:
        """Tell every worker, durably."""
        ...

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Store a state of the task that is running, for whoever follows its progress."""
        ...


@runtime_checkable
class Finder(Protocol):
    """A sender that can say where messages lie."""

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """The places of those messages that the store has, as `cardoon.lookup.Place` names them."""
        ...


@runtime_checkable
class Objecting(Protocol):
    """A sender that can put away a result that is signed as it should be, and cannot be read."""

    def report_unreadable(self, handle: Handle, report: Report, error: RefusedError) -> None:
        """Keep it for people, and write it down; once, however often it is read."""
        ...


NOT_IN_TASKS = "purge: queues are emptied by clients, not in tasks"
NO_COMMANDS_IN_TASKS = (
    "workers are commanded and asked by clients, not in tasks; tasks can only revoke"
)


@runtime_checkable
class Purger(Protocol):
    """A sender that can empty queues."""

    def purge(self) -> int:
        """Delete what waits in every queue; return how many messages that was."""
        ...


@runtime_checkable
class Commanding(Protocol):
    """A sender that can command workers, and ask them."""

    def command(self, order: Order) -> None:
        """Tell workers. Durable on return, for those that are up within five minutes."""
        ...

    def ask(
        self, order: Order, *, timeout: float, limit: int | None = None
    ) -> Iterator[Answer | Refused]:
        """Tell workers, and yield what they answer within `timeout` seconds, of `limit` at most."""
        ...


@runtime_checkable
class GroupKeeper(Protocol):
    """A sender that can keep what a group consists of, beside the results."""

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """Sign and store it."""
        ...

    def load_group(self, group_id: str) -> Report | None:
        """What was saved under the id, if its signature is right; None if there is nothing."""
        ...

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete stored results and groups."""
        ...


@runtime_checkable
class Postponing(Protocol):
    """A sender that can sign now what is published later, as processes can that hold a key."""

    def sign(self, calls: Sequence[Call]) -> Sequence[tuple[Outgoing, bytes]]:
        """Sign them together; return for each what to publish, and its request digest."""
        ...

    def publish(self, outgoing: Sequence[Outgoing], *, timeout: float) -> None:
        """Publish what was signed before, all or none; durable on return.

        Those whose id is stored are dropped. Raises `OperationalError` after `timeout` seconds.
        """
        ...
