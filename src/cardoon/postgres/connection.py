"""One connection: calls of functions, many in one round trip, each round trip within a deadline.

It speaks to libpq through `psycopg.pq`, and stays in pipeline mode: what is sent up to one `Sync` is one
transaction, unless `BEGIN` says otherwise. The driver's own cursors wait without an end for a server
that is frozen, and cost more for each call than most of these calls do.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres.failures import ConnectionLostError, LateError, ServerError
from cardoon.postgres.functions import FUNCTIONS
from cardoon.postgres.location import quoted
from cardoon.postgres.values import OIDS, decoder, encode

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import make_conninfo
except ImportError as error:
    raise ImproperlyConfigured(
        "broker_url: postgresql needs psycopg; pip install 'cardoon[postgres]'"
    ) from error

_REAL_TIME = SystemClock()


class Call(NamedTuple):
    """A function, or a statement of SQL without arguments, to run."""

    name: str
    arguments: tuple[Any, ...] = ()
    is_sql: bool = False


def sql(text: str) -> Call:
    """A statement without arguments."""
    return Call(text, is_sql=True)


class Notice(NamedTuple):
    """What somebody told by NOTIFY."""

    channel: str
    payload: str


class Connection:
    """Not safe from threads; whoever has it, has it alone."""

    def __init__(
        self, settings: Mapping[str, str], *, schema: str, prepare: bool, deadline: float
    ) -> None:
        """Connect; raises `ConnectionLostError` or `ServerError`."""
        self._schema = quoted(schema)
        self._prepares = prepare
        self._prepared: set[str] = set()
        self.used_at = 0.0
        """When it was given back last, by the monotonic clock."""
        self.is_spoiled = False
        """Whether it is not known what has been prepared on it."""
        with _lost_if_it_fails():
            self._pq = pq.PGconn.connect_start(make_conninfo(**settings).encode())
        try:
            self._finish_connecting(deadline)
        except BaseException:
            self._pq.finish()
            raise
        self._poll = select.poll()
        self._poll.register(self._pq.socket, select.POLLIN)

    def fileno(self) -> int:
        """Of the socket."""
        return self._pq.socket

    @property
    def is_stale(self) -> bool:
        """Whether the server has said something while nobody asked, such as farewell."""
        return bool(self._poll.poll(0))

    def run(self, transactions: Sequence[Sequence[Call]], *, deadline: float) -> list[list[Any]]:
        """Run the calls in one round trip, and return the rows of each.

        The calls of a transaction are done together or not at all. Raises `ServerError` for the first
        that was refused, where the ones behind it were not done, and `ConnectionLostError` after which
        the connection must be closed.
        """
        with _lost_if_it_fails():
            expected = []
            for calls in transactions:
                expected.append([(call, self._send(call)) for call in calls])
                self._pq.pipeline_sync()
            self._flush(deadline)
            rows: list[list[Any]] = []
            refusal: ServerError | None = None
            for answers in expected:
                found, refused = self._read_transaction(answers, deadline)
                rows += found
                refusal = refusal or refused
        if refusal is not None:
            self.is_spoiled |= any(count > 1 for answers in expected for _, count in answers)
            raise refusal
        return rows

    def notices(self) -> Iterator[Notice]:
        """What was told since the last time; raises `ConnectionLostError`."""
        with _lost_if_it_fails():
            self._pq.consume_input()
            while (notice := self._pq.notifies()) is not None:
                yield Notice(notice.relname.decode(), notice.extra.decode())

    def close(self) -> None:
        """Say farewell, without waiting for an answer; safe twice."""
        with contextlib.suppress(psycopg.Error):
            self._pq.finish()

    def abandon(self) -> None:
        """In a forked child: let go of the socket without a word, since the parent speaks on it."""
        with contextlib.suppress(OSError, psycopg.Error):
            os.close(self._pq.socket)

    def _finish_connecting(self, deadline: float) -> None:
        poll = select.poll()
        with _lost_if_it_fails():
            while True:
                status = self._pq.connect_poll()
                if status == pq.PollingStatus.OK:
                    break
                if status == pq.PollingStatus.FAILED:
                    raise self._refused()
                wanted = select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT
                poll.register(self._pq.socket, wanted)
                if not poll.poll(_left(deadline)):
                    raise LateError("no connection in time")
                poll.unregister(self._pq.socket)
            self._pq.nonblocking = 1
            self._pq.enter_pipeline_mode()

    def _refused(self) -> Exception:
        message = self._pq.get_error_message()
        # libpq tells no SQLSTATE of a failed connection.
        for text, code in _REFUSALS.items():
            if text in message:
                return ServerError(code, message)
        return ConnectionLostError(message)

    def _send(self, call: Call) -> int:
        """Send one call; return how many answers there will be."""
        if call.is_sql:
            self._pq.send_query_params(call.name.encode(), None)
            return 1
        kinds = FUNCTIONS[call.name].arguments
        values = [
            None if each is None else encode(kind, each)
            for kind, each in zip(kinds, call.arguments, strict=True)
        ]
        formats = [1] * len(values)
        if call.name in self._prepared:
            self._pq.send_query_prepared(call.name.encode(), values, formats, 1)
            return 1
        marks = ", ".join(f"${place}" for place in range(1, len(kinds) + 1))
        home = FUNCTIONS[call.name].home or self._schema
        text = f"SELECT * FROM {home}.{quoted(call.name)}({marks})".encode()  # noqa: S608 - names of ours
        oids = [OIDS[kind] for kind in kinds]
        if not self._prepares:
            self._pq.send_query_params(text, values, oids, formats, 1)
            return 1
        self._pq.send_prepare(call.name.encode(), text, oids)
        self._pq.send_query_prepared(call.name.encode(), values, formats, 1)
        self._prepared.add(call.name)
        return 2

    def _flush(self, deadline: float) -> None:
        """Send all, and read meanwhile: the server stops to listen when nobody hears its answers."""
        while self._pq.flush():
            self._poll.modify(self._pq.socket, select.POLLIN | select.POLLOUT)
            events = self._poll.poll(_left(deadline))
            self._poll.modify(self._pq.socket, select.POLLIN)
            if not events:
                raise LateError("no answer in time")
            if events[0][1] & select.POLLIN:
                self._pq.consume_input()

    def _read_transaction(
        self, expected: Sequence[tuple[Call, int]], deadline: float
    ) -> tuple[list[list[Any]], ServerError | None]:
        rows: list[list[Any]] = []
        refusal: ServerError | None = None
        for call, answers in expected:
            for last in range(answers - 1, -1, -1):  # before the last comes that of `Prepare`
                result = self._result(deadline)
                if result.status in _REFUSED:
                    refusal = refusal or _refusal(result)
                elif last == 0 and result.status != pq.ExecStatus.PIPELINE_ABORTED:
                    rows.append([] if call.is_sql else _rows(call.name, result))
                self._end_of_results(deadline)
        result = self._result(deadline)
        if result.status != pq.ExecStatus.PIPELINE_SYNC:
            # The commit itself can fail, and then its error comes before the answer to `Sync`.
            refusal = refusal or _refusal(result)
            self._end_of_results(deadline)
            self._result(deadline)
        return rows, refusal

    def _result(self, deadline: float) -> Any:
        result = self._next(deadline)
        if result is None:
            raise ConnectionLostError("an answer is missing")
        return result

    def _end_of_results(self, deadline: float) -> None:
        while self._next(deadline) is not None:
            pass

    def _next(self, deadline: float) -> Any:
        while self._pq.is_busy():
            if not self._poll.poll(_left(deadline)):
                raise LateError("no answer in time")
            self._pq.consume_input()
        return self._pq.get_result()


_REFUSED = frozenset({pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE})

_REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "pg_hba.conf": "28000",
    'role "': "28000",
    "certificate authentication failed": "28000",
    "does not exist": "3D000",
    "too many connections": "53300",
    "too many clients": "53300",
    "remaining connection slots": "53300",
    "shutting down": "57P01",
    "starting up": "57P03",
    "recovery mode": "57P03",
    "not yet accepting": "57P03",
    "read-only": "25006",
}


def _left(deadline: float) -> float:
    """Milliseconds until then."""
    return max(0.0, (deadline - _REAL_TIME.monotonic()) * 1000)


def _rows(name: str, result: Any) -> list[Any]:
    columns = [decoder(kind) for kind in FUNCTIONS[name].columns]
    if not columns:
        return []
    get = result.get_value
    places = range(len(columns))
    rows = []
    for row in range(result.ntuples):
        values = [get(row, place) for place in places]
        rows.append([
            None if value is None else decode(value)
            for decode, value in zip(columns, values, strict=True)
        ])  # fmt: skip
    return rows


def _refusal(result: Any) -> ServerError:
    code = result.error_field(pq.DiagnosticField.SQLSTATE)
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    if code is None:
        raise ConnectionLostError(result.get_error_message())
    return ServerError(code.decode("ascii"), (message or b"").decode("utf-8", "replace"))


@contextlib.contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise ConnectionLostError(str(error)) from error
