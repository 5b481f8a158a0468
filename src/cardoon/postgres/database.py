"""Connections, retries and forks: the only module that begins and commits.

A call takes a connection that nobody uses, or opens one, and gives it back. What fails for a reason that
may pass is done again, on another connection and server if need be, until the call's deadline: every
call of ours may be done twice, since messages are sent by id and loans end once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from random import SystemRandom
from typing import Any, Protocol, TypeVar, runtime_checkable

from cardoon.clock import Clock, SystemClock
from cardoon.exceptions import OperationalError
from cardoon.postgres import forks
from cardoon.postgres.connection import Call, Connection, sql
from cardoon.postgres.failures import ConnectionLostError, ServerError, explain
from cardoon.postgres.location import Location
from cardoon.postgres.schema_version import check_version
from cardoon.postgres.wakeups import Wakeups

MAX_CONNECTIONS = 4
"""Of one process, beside the one that listens. Calls are short, so most of the time one or two are."""

_MAX_IDLE_SECONDS = 60.0
_CONNECT_SECONDS = 5.0
"""How long one server may take before the next is tried, where there are several."""

_SERVER_GRACE_SECONDS = 5.0
"""How much later than we the server gives up."""

_FIRST_PAUSE_SECONDS = 0.02
_MAX_PAUSE_SECONDS = 1.0

_REAL_TIME = SystemClock()
"""Callers wait in real time, whatever clock they inject for the life of messages."""

_T = TypeVar("_T")


class Session:
    """One connection, for the length of a few calls."""

    def __init__(self, connection: Connection, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """Call one function, in a transaction of its own; its rows."""
        return self.run([Call(name, arguments)])[0]

    def run(self, calls: Sequence[Call], *, then: Sequence[Call] = ()) -> list[list[Any]]:
        """Do calls in one transaction and one round trip; then others in another one, on the same trip."""
        transactions = [calls, then] if then else [calls]
        return self._connection.run(transactions, deadline=self._deadline)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is called within is one transaction, however many round trips that takes."""
        self.run([sql("BEGIN")])
        try:
            yield
            self.run([sql("COMMIT")])
        except ServerError:
            self.run([sql("ROLLBACK")])
            raise


class Database:
    """One schema, and this process's connections to its servers, opened when first needed.

    Safe from threads, and over forks. Every method raises `OperationalError` for what the store could not
    do within `timeout` seconds, and `ImproperlyConfigured` for a database without our tables.
    """

    def __init__(self, location: Location, *, clock: Clock, timeout: float = 10.0) -> None:
        self.location = location
        self.clock = clock
        self.timeout = timeout
        self._random = SystemRandom()
        self._preferred = 0
        self._changed = threading.Condition()  # guards the next three
        self._idle: list[Connection] = []
        self._count = 0
        self._all: set[Connection] = set()
        self._abandoned: set[Connection] = set()
        self._wakeups = Wakeups(self.connect, location.schema)
        forks.watch(self)

    @property
    def now(self) -> float | None:
        """The time to tell the server; None for its own."""
        return None if isinstance(self.clock, SystemClock) else self.clock.now()

    @property
    def wakeups(self) -> Wakeups:
        """Hints from others."""
        return self._wakeups

    def call(self, name: str, *arguments: Any, then: Sequence[Call] = ()) -> list[Any]:
        """Call one function, in a transaction of its own; its rows."""
        return self.attempt(lambda session: session.run([Call(name, arguments)], then=then)[0])

    def attempt(self, action: Callable[[Session], _T], *, timeout: float | None = None) -> _T:
        """Do something with a connection, and again while it fails for reasons that may pass."""
        deadline = _REAL_TIME.monotonic() + (self.timeout if timeout is None else timeout)
        pause = _FIRST_PAUSE_SECONDS
        failure: Exception | None = None
        while True:
            try:
                with self._connection(deadline) as connection:
                    return action(Session(connection, deadline))
            except ConnectionLostError as error:
                if failure is None or not error.is_late:
                    failure = error
            except ServerError as error:
                if not error.is_passing:
                    raise explain(error, str(self.location)) from error
                failure = error
            left = deadline - _REAL_TIME.monotonic()
            if left <= 0:
                raise explain(failure, str(self.location)) from failure
            time.sleep(min(left, pause * self._random.uniform(0.5, 1.0)))
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def connect(self, deadline: float) -> Connection:
        """A new connection to the first server that lets us in, with our tables in it.

        Raises `ConnectionLostError`, `ServerError` or `ImproperlyConfigured`.
        """
        servers = self.location.settings
        for attempt in range(len(servers)):
            place = (self._preferred + attempt) % len(servers)
            last = attempt == len(servers) - 1
            limit = deadline if last else min(deadline, _REAL_TIME.monotonic() + _CONNECT_SECONDS)
            try:
                connection = Connection(
                    servers[place],
                    schema=self.location.schema,
                    prepare=self.location.prepare,
                    deadline=limit,
                )
                try:
                    self._prepare(connection, limit)
                except BaseException:
                    connection.close()
                    raise
            except (ConnectionLostError, ServerError):
                if last:
                    raise
            else:
                self._preferred = place
                return connection
        raise AssertionError("a location has servers")

    def close(self) -> None:
        """Let go of every connection that is not in use; safe twice. The next use opens them again."""
        self._wakeups.close()
        with self._changed:
            idle, self._idle = self._idle, []
            self._count -= len(idle)
            self._changed.notify_all()
        for connection in idle:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Go on as a process of one's own: the connections are the parent's."""
        for connection in self._all:
            connection.abandon()
        self._abandoned |= self._all  # forgotten, they would say farewell on a socket of another
        self._changed = threading.Condition()
        self._idle, self._count, self._all = [], 0, set()
        self._wakeups.abandon()
        self._wakeups = Wakeups(self.connect, self.location.schema)

    @contextlib.contextmanager
    def _connection(self, deadline: float) -> Iterator[Connection]:
        connection = self._take(deadline)
        keep = False
        try:
            yield connection
            keep = True
        except ServerError as error:
            keep = not error.is_of_connection and not connection.is_spoiled
            raise
        finally:
            self._give_back(connection if keep else None, connection)

    def _take(self, deadline: float) -> Connection:
        with self._changed:
            while not self._idle and self._count >= MAX_CONNECTIONS:
                left = deadline - _REAL_TIME.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise OperationalError(
                        f"postgresql {self.location}: other threads of this process did not finish in "
                        "time; raise the timeout, or send less at once"
                    )
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_stale:
                    return connection
                self._forget(connection)
            self._count += 1
        try:
            made = self.connect(deadline)
        except BaseException:
            with self._changed:
                self._count -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._all.add(made)
        return made

    def _give_back(self, kept: Connection | None, connection: Connection) -> None:
        now = _REAL_TIME.monotonic()
        with self._changed:
            if kept is None:
                self._forget(connection)
            else:
                kept.used_at = now
                self._idle.append(kept)
            # The last in is the first out, so the first is the one that is needed least.
            if self._idle and now - self._idle[0].used_at > _MAX_IDLE_SECONDS:
                self._forget(self._idle.pop(0))
            self._changed.notify()

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._count -= 1
        connection.close()

    def _prepare(self, connection: Connection, deadline: float) -> None:
        limit = round((self.timeout + _SERVER_GRACE_SECONDS) * 1000)
        try:
            *_, rows = connection.run(
                [
                    [
                        sql(f"SET statement_timeout = {limit}"),
                        sql(f"SET idle_in_transaction_session_timeout = {limit}"),
                        sql("SET jit = off"),
                    ],
                    [Call("schema_version")],
                ],
                deadline=deadline,
            )
        except ServerError as error:
            if error.is_passing:
                raise
            raise explain(error, str(self.location)) from error
        check_version(rows[0][0], f"postgresql {self.location}")


@runtime_checkable
class SharesPostgres(Protocol):
    """A driver whose database another driver may use as well."""

    @property
    def postgres(self) -> Database:
        """The database it works on."""
        ...
