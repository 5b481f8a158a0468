"""The store of one deployment on a server: runs scripts by a deadline, and heals.

Every call may be made again: what it names is idempotent by its ids, or it says that it comes again. So
an answer that was lost on the way is asked for until the deadline, on another connection.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from cardoon.clock import Clock, SystemClock
from cardoon.endpoints import Access, Endpoint, parse_endpoints
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.redis.connection import Argument, Connection, pack
from cardoon.redis.durability import parse_durability
from cardoon.redis.failures import ConnectionLostError, ServerError, explain
from cardoon.redis.finding import Finder, parse_sentinel
from cardoon.redis.pool import Pool
from cardoon.redis.scripts import Script, load
from cardoon.redis.server import check_server

_T = TypeVar("_T")

_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0

_LATE_SECONDS = 3.0
"""How much longer than it was asked to a server may wait, before its connection counts as dead."""

_REAL_TIME = SystemClock()
"""Callers wait in real time, whatever clock they inject for the life of messages."""


class Wait(NamedTuple):
    """What the server is to wait for before it runs a script: a token in one of these lists."""

    keys: Sequence[str]
    seconds: float

    @property
    def words(self) -> tuple[Argument, ...]:
        """The command that waits."""
        return "BLPOP", *self.keys, f"{self.seconds:.3f}"


class Follow(NamedTuple):
    """What the server is to wait for before it runs a script: an entry of a stream behind a number."""

    stream: str
    number: int
    seconds: float

    @property
    def words(self) -> tuple[Argument, ...]:
        """The command that waits."""
        pause = max(1, int(self.seconds * 1000))  # 0 would be for ever
        name = f"{self.number}-0"
        return "XREAD", "COUNT", 1, "BLOCK", pause, "STREAMS", self.stream, name


class Store:
    """Where messages, results and replay marks of one deployment lie. Safe from threads and forks."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        clock: Clock,
        timeout: float,
        access: Access,
        transport: Mapping[str, Any],
    ) -> None:
        is_sentinel = endpoints[0].kind == "sentinel"
        sentinel = parse_sentinel(transport) if is_sentinel else None
        self.endpoints = tuple(endpoints)
        self.transport = transport
        self.clock = clock
        self.timeout = timeout
        self.prefix = parse_prefix(transport)
        wanted = parse_durability(transport)
        self._durability = wanted if wanted.fsync or wanted.replicas else None
        self._keeps_time = not isinstance(clock, SystemClock)
        # The second is never there, so that a cluster runs nothing while the slot moves: of a script
        # that finds only some of its keys, what it has written before would stay.
        self._head: tuple[Argument, ...] = ("2", f"{self.prefix}last", f"{self.prefix}m:")
        self._finder = Finder(endpoints, sentinel=sentinel, access=access)
        self._pool = Pool(self._connect)
        self._allow_eviction = access.allow_eviction
        self._is_checked = False
        self._slots = Slots()

    def means_the_same_as(self, other: Store) -> bool:
        """Whether both have the same keys of the same servers."""
        mine, theirs = (
            ([(one.kind, str(one), one.path or "0") for one in store.endpoints], store.prefix)
            for store in (self, other)
        )
        return mine == theirs

    def key(self, kind: str, name: str | None = None) -> str:
        """The name of a key."""
        return f"{self.prefix}{kind}" if name is None else f"{self.prefix}{kind}:{name}"

    @property
    def place(self) -> str:
        """The servers, for people."""
        return self._finder.place

    @property
    def injected_now(self) -> float | None:
        """What the injected clock says; None where the server's counts."""
        return self.clock.now() if self._keeps_time else None

    @property
    def owner(self) -> str:
        """What the slots of this process go by."""
        return self._slots.owner

    @contextlib.contextmanager
    def slot(self) -> Iterator[tuple[str, int]]:
        """A name for one caller at a time, and the number of its call; see `claim.lua`."""
        with self._slots.take() as taken:
            yield taken

    def run(
        self,
        name: str,
        arguments: Sequence[Argument],
        *,
        timeout: float | None = None,
        again: int | None = None,
        durably: bool = False,
        after: Wait | Follow | None = None,
    ) -> Any:
        """Run a script, again and again until it answers; raises `OperationalError` at the deadline.

        `again` is the index of the argument that is made 1 when an answer may have been lost.
        `durably` waits for what the transport options ask for. `after` is waited for by the server, so that
        the script runs as soon as it is there; when the time is up, or a connection is lost, it runs
        without.
        """
        script = load(name)
        head = (*self._head, *self._times())
        given = list(arguments)
        durability = self._durability if durably else None
        first = [after] if after is not None else []

        def ask(connection: Connection, deadline: float) -> Any:
            try:
                waits = first.pop() if first else None
                answer = _evaluate(connection, script, (*head, *given), deadline, waits)
                if durability is not None:
                    durability.ensure(connection, deadline)
            except ConnectionLostError:
                if again is not None:
                    given[again] = "1"
                raise
            return answer

        if after is not None:
            timeout = (self.timeout if timeout is None else timeout) + after.seconds
        return self.call(ask, timeout=timeout)

    def ask_many(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send plain commands together; their answers, in order."""

        def ask(connection: Connection, deadline: float) -> list[Any]:
            connection.send(b"".join(map(pack, commands)), deadline=deadline)
            return [connection.read(deadline=deadline) for _ in commands]

        return self.call(ask)

    def call(self, ask: Callable[[Connection, float], _T], *, timeout: float | None = None) -> _T:
        """Ask a server until it answers; raises `OperationalError` at the deadline."""
        seconds = self.timeout if timeout is None else timeout
        deadline = _REAL_TIME.monotonic() + seconds
        pause = 0.0
        while True:
            try:
                with self._pool.borrow(deadline) as connection:
                    return ask(connection, deadline)
            except UnicodeError as error:
                raise OperationalError(f"redis: text that cannot be stored: {error}") from error
            except ServerError as refused:
                if not refused.passes:
                    raise explain(refused, self._finder.place, seconds) from None
                self._finder.heed(refused)
                failure: ConnectionLostError | ServerError = refused
            except ConnectionLostError as fault:
                failure = fault
            # Whatever became of the server, the other connections share it.
            self._pool.clear()
            if _REAL_TIME.monotonic() + pause >= deadline:
                raise explain(failure, self._finder.place, seconds) from None
            _pause(pause)
            pause = min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)

    def open(self) -> Connection:
        """A connection of one's own; raises `ConnectionLostError`, `ServerError` or `ImproperlyConfigured`."""
        return self._pool.connect(_REAL_TIME.monotonic() + self.timeout)

    def close(self) -> None:
        """Let go of every connection; safe twice."""
        self._pool.clear()

    def _connect(self, deadline: float) -> Connection:
        connection = self._finder.connect(deadline)
        if not self._is_checked:
            try:
                check_server(connection, deadline, allow_eviction=self._allow_eviction)
            except BaseException:
                connection.close()
                raise
            self._is_checked = True
        return connection

    def _times(self) -> tuple[str, str]:
        if self._keeps_time:
            return repr(self.clock.now()), repr(self.clock.monotonic())
        return "", ""


class Slots:
    """Names under which a store keeps the answer to somebody's latest call. Safe from threads."""

    MOST = 16
    """Names of one process that are looked at after its end: more calls at once than a worker makes."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[str, int]] = []
        self._made = 0
        self._owner = os.urandom(8).hex()
        self._process = os.getpid()

    @property
    def owner(self) -> str:
        """With what all names of this process begin."""
        if self._process != os.getpid():  # a child, whose parent may have held the lock
            self._begin()
        return self._owner

    @contextlib.contextmanager
    def take(self) -> Iterator[tuple[str, int]]:
        """One that nobody else has at this moment."""
        owner = self.owner
        with self._lock:
            if not self._free:
                self._free.append((f"{owner}.{self._made}", 0))
                self._made += 1
            name, serial = self._free.pop()
        try:
            yield name, serial
        finally:
            with self._lock:
                if self._owner == owner:
                    self._free.append((name, serial + 1))


@runtime_checkable
class SharesStore(Protocol):
    """A driver whose store another driver may use as well."""

    @property
    def store(self) -> Store:
        """The store it works on."""
        ...


def open_store(
    url: str,
    *,
    setting: str,
    clock: Clock,
    timeout: float,
    access: Access,
    transport: Mapping[str, Any],
) -> Store:
    """The store that a URL means; nothing is opened before it is needed."""
    endpoints = parse_endpoints(url, setting=setting, access=access)
    if endpoints[0].kind not in {"redis", "sentinel"}:
        raise ImproperlyConfigured(f"{setting}: {endpoints[0].kind} is not redis")
    for endpoint in endpoints:
        if not re.fullmatch(r"\d*", endpoint.path):
            raise ImproperlyConfigured(
                f"{setting}: the database of a Redis server is a number, such as redis://host/0"
            )
    options = {**endpoints[0].options, **transport}
    return Store(endpoints, clock=clock, timeout=timeout, access=access, transport=options)


def parse_prefix(transport: Mapping[str, Any]) -> str:
    """With what all keys begin: one hash tag, so that they lie in one slot of a cluster."""
    name = transport.get("global_keyprefix", "cardoon")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.:-]{1,100}", name):
        raise ImproperlyConfigured(
            f"broker_transport_options: global_keyprefix={name!r} is not up to 100 letters, digits,"
            " '_', '.', ':' or '-'"
        )
    return f"{{{name}}}:"


def _evaluate(
    connection: Connection,
    script: Script,
    arguments: Sequence[Argument],
    deadline: float,
    after: Wait | Follow | None,
) -> Any:
    suffix = "_RO" if script.only_reads else ""
    packed = pack((f"EVALSHA{suffix}", script.digest, *arguments))
    if after is not None:
        # Both at once: the server runs the second as soon as the first lets it, and asks nobody.
        packed = pack(after.words) + packed
    connection.send(packed, deadline=deadline)
    if after is not None:
        with contextlib.suppress(ServerError):  # the script says what there is to say
            connection.read(deadline=deadline, silence=after.seconds + _LATE_SECONDS)
    try:
        return connection.read(deadline=deadline)
    except ServerError as refused:
        if refused.code != "NOSCRIPT":
            raise
    packed = pack((f"EVAL{suffix}", script.body, *arguments))
    connection.send(packed, deadline=deadline)
    return connection.read(deadline=deadline)


def _pause(seconds: float) -> None:
    # All that lost a server come back to it, but not at the same moment.
    threading.Event().wait(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
