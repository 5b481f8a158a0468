"""Send within a transaction of your own, in the PostgreSQL database that the broker uses.

    with engine.begin() as connection, send_within(connection):
        connection.execute(insert(orders).values(id=7))
        confirm.delay(7)

The message is there when the order is, and not before; a rollback takes both back. There is no outbox and
no relay: the broker's own function stores it, in your transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, rows

from cardoon.diverting import DIVERSION, Origin
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.postgres import messages
from cardoon.postgres.connection import Call
from cardoon.postgres.database import Database, SharesPostgres
from cardoon.postgres.failures import ServerError, explain
from cardoon.postgres.functions import FUNCTIONS
from cardoon.postgres.location import quoted
from cardoon.postgres.wakeups import Bell, hints, queues_of
from cardoon.producer import Producer
from cardoon.sender import Call as SentCall
from cardoon.sender import Receipt, receipts_of

_TYPES = {"f": "float8", "t": "text", "i": "int4", "l": "int8", "y": "bytea", "o": "bool"}


@contextmanager
def send_within(connection: Any) -> Iterator[None]:
    """Have all that this thread sends within the block become part of a connection's transaction.

    `delay`, `apply_async`, `send_many`, `send_task` and canvases, of any app whose broker is in the same
    database. The connection is one of psycopg's, a `Connection` or `Session` of SQLAlchemy's with psycopg
    as its driver, or Django's. It must be in a transaction, or begin one by itself; you commit it.

    A send raises `InvalidTaskError` where it could not become part of the transaction: in task code, which
    holds no key, and on a connection that commits every statement; and `OperationalError` where the server
    refuses it, which fails the transaction as any error does. Unique and limited tasks hold locks on
    their keys until the end of the transaction, so keep it short.
    """
    token = DIVERSION.set(_Within(connection))
    try:
        yield
    finally:
        DIVERSION.reset(token)


class _Within:
    """Takes what one block sends into the transaction of a connection. A `Diversion`."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def take(
        self,
        app: Origin,
        calls: Sequence[SentCall],
        send: Callable[[], object],  # noqa: ARG002
    ) -> Sequence[Receipt | None]:
        """Store the calls in the transaction; see `Diversion.take`."""
        task = calls[0].task
        sender = app.sender
        if not isinstance(sender, Producer):
            raise InvalidTaskError(
                f"{task}: task code holds no key, so what it sends cannot become part of a transaction; "
                "send it behind the block"
            )
        broker, _ = sender.stores
        if not isinstance(broker, SharesPostgres):
            raise ImproperlyConfigured(
                f"send_within: the broker of {task} is not in PostgreSQL; set broker_url to the database "
                "of the transaction"
            )
        connection = _find_connection(self._given, task)
        signed = sender.sign(calls)
        outgoing = [message for message, _ in signed]
        database = broker.postgres
        caller = _Caller(connection, database)
        stand_ins = messages.publish_within(caller, outgoing, now=database.now)
        bells = hints(database.location.schema, Bell.MESSAGES, queues_of(outgoing))
        for bell in bells:  # which the server rings with the commit
            caller.run(bell)
        return receipts_of(calls, [request for _, request in signed], stand_ins)


class _Caller:
    """Calls our functions on a connection of somebody else's."""

    def __init__(self, connection: psycopg.Connection[Any], database: Database) -> None:
        self._connection = connection
        self._database = database

    def call(self, name: str, *arguments: Any) -> list[Any]:
        """Call one function; its rows."""
        return self.run(Call(name, arguments))

    def run(self, call: Call) -> list[Any]:
        function = FUNCTIONS[call.name]
        marks = ", ".join(f"%s::{_type(kind)}" for kind in function.arguments)
        home = function.home or quoted(self._database.location.schema)
        text = f"SELECT * FROM {home}.{quoted(call.name)}({marks})"  # noqa: S608 - names of ours
        try:
            with self._connection.cursor(row_factory=rows.tuple_row) as cursor:
                return cursor.execute(text.encode(), call.arguments).fetchall()
        except psycopg.Error as error:
            said = str(error.diag.message_primary or error)
            failure = ServerError(error.sqlstate or "", said)
            raise explain(failure, str(self._database.location)) from error


def _find_connection(given: Any, task: str) -> psycopg.Connection[Any]:
    """The driver's connection behind what was given, in or before a transaction."""
    if hasattr(given, "get_bind") and callable(getattr(given, "connection", None)):
        given = given.connection()  # of a Session, which begins its transaction
    if hasattr(given, "in_transaction") and hasattr(given, "get_transaction"):
        if not given.in_transaction():
            raise _outside(task)
        given = given.connection.driver_connection
    elif hasattr(given, "ensure_connection"):
        given.ensure_connection()
        given = given.connection
    if not isinstance(given, psycopg.Connection):
        raise ImproperlyConfigured(
            f"send_within: {type(given).__module__}.{type(given).__qualname__} is no connection of "
            "psycopg's (version 3), and none of SQLAlchemy's or Django's that uses it"
        )
    if given.autocommit and given.info.transaction_status == pq.TransactionStatus.IDLE:
        raise _outside(task)
    return given


def _outside(task: str) -> InvalidTaskError:
    return InvalidTaskError(
        f"{task}: the connection of send_within is in no transaction, so the message would be sent at "
        "once; begin one before"
    )


def _type(kind: str) -> str:
    return _TYPES[kind.lower()] + ("[]" if kind.isupper() else "")
