"""The outbox: messages that are committed with the data they are about, and published afterwards.

Within `atomic_send` a call is signed at once, with this process's key, and written into a table of the
same database, in the same transaction. After the commit this process publishes it and deletes the row;
if it dies before, whoever comes next does: a later `atomic_send`, or `manage.py cardoon_outbox`. Whoever
relays moves bytes: it signs nothing, and believes nothing of what they say.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, TypeVar, overload

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db import Error as DatabaseError
from django.utils import timezone

from cardoon.app import Cardoon, app_or_default
from cardoon.clock import SystemClock
from cardoon.contrib.django.packing import pack, unpack
from cardoon.diverting import DIVERSION, Origin
from cardoon.exceptions import (
    CardoonError,
    ImproperlyConfigured,
    InvalidTaskError,
    MessageError,
    OperationalError,
)
from cardoon.sender import Call, Postponing, Receipt

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

PUBLISH_SECONDS = 2.0
"""How long a request may wait for the broker after its commit; its messages are safe already."""
PAUSE_SECONDS = 5.0
"""How long after a publish that failed the next one is left to others."""
LEFT_SECONDS = 10.0
"""How old a row is that its own process seems to have left behind."""
LOOK_SECONDS = 30.0
"""How often a process looks for such rows, when it has sent something of its own."""
BATCH_ROWS = 100
"""Rows that are published and deleted in one transaction."""
_MAX_TASKS = 255


@overload
def atomic_send(using: F) -> F: ...
@overload
def atomic_send(
    using: str | None = None, *, savepoint: bool = True, durable: bool = False
) -> AbstractContextManager[None] | Callable[[F], F]: ...
def atomic_send(using: Any = None, *, savepoint: bool = True, durable: bool = False) -> Any:
    """Begin a transaction that holds for what is sent within it, too: a block, or a decorator.

    Everything this thread sends through any app within the block is committed with the transaction or
    not at all: `delay`, `apply_async`, `send_many`, `send_task`, canvases. Once committed it is
    published, by this process or, if that dies, by whoever comes next.

    `using` names the database, whose table of `cardoon.contrib.django` takes the messages; `savepoint`
    and `durable` are those of `atomic`. Raises what a send raises; where the broker does not answer
    nothing is raised, since the message is safe. In task code, which holds no key, messages wait in memory
    for the commit; and with `task_always_eager` tasks run on the spot.
    """
    if callable(using):
        return _atomic_send(None, savepoint=True, durable=False)(using)
    return _atomic_send(using, savepoint=savepoint, durable=durable)


@contextmanager
def _atomic_send(using: str | None, *, savepoint: bool, durable: bool) -> Iterator[None]:
    alias = using or DEFAULT_DB_ALIAS
    with transaction.atomic(alias, savepoint=savepoint, durable=durable):
        token = DIVERSION.set(Outbox(alias))
        try:
            yield
        finally:
            DIVERSION.reset(token)


def relay_outbox(
    app: Cardoon | None = None,
    *,
    using: str = DEFAULT_DB_ALIAS,
    older_than: float = 0.0,
    timeout: float | None = None,
) -> int:
    """Publish what lies in a database's outbox for the app, and return how many rows that were.

    Only rows that are at least `older_than` seconds old. What `manage.py cardoon_outbox` does. Raises
    `OperationalError` where the broker does not answer within `timeout` seconds (by default
    `task_publish_timeout`); then the rest lies there still.
    """
    found = app_or_default(app)
    wanted = found.settings.task_publish_timeout if timeout is None else timeout
    return Relay(found, using).relay_all(older_than=older_than, timeout=wanted)


def outbox_model() -> Any:
    """The table; `ImproperlyConfigured` where the project has not installed it."""
    try:
        return apps.get_model("cardoon", "OutboxMessage")
    except LookupError as error:
        raise ImproperlyConfigured(
            "atomic_send: the project has no outbox; add 'cardoon.contrib.django' to INSTALLED_APPS and "
            "run `manage.py migrate`"
        ) from error


class Outbox:
    """Takes what one block sends, and has it published after the commit. A `Diversion`."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self._written: list[int] = []

    def take(
        self, app: Origin, calls: Sequence[Call], send: Callable[[], object]
    ) -> Sequence[Receipt | None]:
        """Write the calls into the transaction; see `Diversion.take`."""
        if not transaction.get_connection(self.alias).in_atomic_block:
            raise InvalidTaskError(
                f"{calls[0].task}: sent by another thread than that of the transaction which atomic_send "
                "has begun, so that it would not be part of it; send it there, or behind the block"
            )
        if unique := [call.task for call in calls if call.unique is not None]:
            raise InvalidTaskError(
                f"{unique[0]}: whether a unique task is sent is decided when it is published, which is after "
                "the commit; send it behind the block, or with unique=False"
            )
        sender = app.sender
        if not isinstance(sender, Postponing):
            transaction.on_commit(send, using=self.alias)
            return [None] * len(calls)
        signed = sender.sign(calls)
        packed = pack([outgoing for outgoing, _ in signed])
        rows = outbox_model().objects.using(self.alias)
        row = rows.create(app=app.main or "", tasks=_names(calls), messages=packed)
        self._written.append(row.pk)

        def relay() -> None:  # no partial: Django looks for its __qualname__ when it raises
            self._relay(app)

        transaction.on_commit(relay, using=self.alias, robust=True)
        return [request for _, request in signed]

    def _relay(self, app: Origin) -> None:
        """After the commit: the first of these calls publishes for all."""
        numbers, self._written = self._written, []
        if numbers:
            _relay_of(app, self.alias).relay_own(numbers)


class Relay:
    """Moves messages from the outbox of one database to the broker of one app."""

    def __init__(self, app: Origin, alias: str) -> None:
        self._app: Origin = weakref.proxy(app)  # it is kept in a table by the app
        self._alias = alias
        self._name = app.main or ""
        self._clock = SystemClock()
        self._paused_until = 0.0
        self._look_at = 0.0

    def relay_own(self, numbers: Sequence[int]) -> None:
        """Publish rows that this process has just committed, and sometimes what others left behind.

        Raises nothing for reasons of the stores: the rows are safe, and somebody will come.
        """
        now = self._clock.monotonic()
        if now < self._paused_until:
            return
        try:
            self._move(self._rows().filter(pk__in=numbers), timeout=PUBLISH_SECONDS)
            if now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                left = self.relay_all(older_than=LEFT_SECONDS, timeout=PUBLISH_SECONDS, most=1)
                if left:
                    logger.warning("outbox: published %d rows that other processes left", left)
        except (CardoonError, DatabaseError) as error:
            self._paused_until = self._clock.monotonic() + PAUSE_SECONDS
            logger.warning(
                "outbox: messages are committed and not yet published, which a later send or "
                "`manage.py cardoon_outbox` does: %s",
                error,
            )

    def relay_all(self, *, older_than: float, timeout: float, most: int | None = None) -> int:
        """Publish all rows of at least that age, in `most` batches at most; returns how many."""
        before = timezone.now() - timedelta(seconds=older_than)
        done = last = batches = 0
        while most is None or batches < most:
            rows = self._rows().filter(pk__gt=last, written_at__lte=before)
            last, moved = self._move(rows, timeout=timeout)
            done += moved
            batches += 1
            if not last:
                break
        return done

    def _rows(self) -> Any:
        return outbox_model().objects.using(self._alias).filter(app=self._name)

    def _move(self, rows: Any, *, timeout: float) -> tuple[int, int]:
        """Publish and delete a batch; returns its last row's number, 0 for no row, and how many moved.

        The rows stay locked meanwhile, so that no two relays publish the same. A process that dies here
        leaves them as they were: the next relay publishes the same frames again, which are dropped while
        the first are stored, and refused as replays after that.
        """
        with transaction.atomic(self._alias):
            found = list(self._lock(rows.order_by("pk"))[:BATCH_ROWS])
            sent = self._publish(found, timeout=timeout)
            if sent:
                self._rows().filter(pk__in=sent).delete()
        return (found[-1].pk if found else 0), len(sent)

    def _lock(self, rows: Any) -> Any:
        features = connections[self._alias].features
        if features.has_select_for_update_skip_locked:
            return rows.select_for_update(skip_locked=True)
        if features.has_select_for_update:
            return rows.select_for_update()
        # SQLite: a write, though of nothing, locks the database before it is read.
        self._rows().filter(pk=0).update(app=self._name)
        return rows

    def _publish(self, rows: Sequence[Any], *, timeout: float) -> list[int]:
        """Publish rows, together if possible; returns the numbers of those that were."""
        readable = {row.pk: messages for row in rows if (messages := _read(row)) is not None}
        if not readable:
            return []
        sender = self._app.sender
        if not isinstance(sender, Postponing):
            raise ImproperlyConfigured(
                "outbox: it is relayed where the app has a broker, not by task code"
            )
        together = [message for messages in readable.values() for message in messages]
        try:
            sender.publish(together, timeout=timeout)
        except OperationalError:
            raise
        except CardoonError as error:
            if len(readable) > 1:  # one row must not keep the others
                return [pk for row in rows for pk in self._publish([row], timeout=timeout)]
            logger.error("outbox: row %d cannot be published and stays: %s", *readable, error)  # noqa: TRY400
            return []
        return list(readable)


def _read(row: Any) -> Any:
    try:
        return unpack(bytes(row.messages))
    except MessageError as error:
        logger.error("outbox: row %d cannot be read and stays: %s", row.pk, error)  # noqa: TRY400
        return None


def _names(calls: Sequence[Call]) -> str:
    return ", ".join(dict.fromkeys(call.task for call in calls))[:_MAX_TASKS]


_relays: weakref.WeakKeyDictionary[Origin, dict[str, Relay]] = weakref.WeakKeyDictionary()
"""What each app remembers of its relays: when it has looked, and when one failed."""


def _relay_of(app: Origin, alias: str) -> Relay:
    known = _relays.setdefault(app, {})
    if alias not in known:
        known[alias] = Relay(app, alias)
    return known[alias]
