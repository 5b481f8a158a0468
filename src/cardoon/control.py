"""Control: what `app.control` offers, with Celery's names. It commands workers, and asks them.

Each command is signed, and carried out by workers whose policy lets its signer; answers are signed as well.
"""

from __future__ import annotations

import difflib
import signal as signals
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from cardoon.calling import MAX_ID_BYTES, check_text
from cardoon.commands import COMMANDS, NOT_HERE, check_order
from cardoon.exceptions import InvalidTaskError
from cardoon.inspection import (
    Inspect,
    Office,
    Options,
    Question,
    Reply,
    collect,
    read_destination,
)
from cardoon.message.protocol import REVOKE, REVOKE_BY_STAMPS
from cardoon.sender import NOT_IN_TASKS, Order, Purger, Revocation
from cardoon.stamps import parse_wanted

__all__ = ["Control", "Inspect"]


class Control:
    """Commands to workers: to all of them, or to those that `destination`, a name or a list, says.

    What is told is carried out by those that are up, within five minutes; a revocation also by those that
    are started later. With `reply=True` a method waits for `timeout` seconds (1 by default) and returns
    a list with `{worker: answer}` for each that answered.
    """

    def __init__(self, app: Office) -> None:
        self._app = app

    @property
    def inspect(self) -> Callable[..., Inspect]:
        """Questions to workers: `app.control.inspect(destination=None, timeout=1.0).active()`."""

        def make(
            destination: str | Sequence[str] | None = None,
            timeout: float = 1.0,
            callback: Callable[[Reply], object] | None = None,
            connection: object = None,
            app: Office | None = None,
            limit: int | None = None,
            pattern: str | None = None,
            matcher: str | None = None,
        ) -> Inspect:
            return Inspect(
                destination,
                timeout,
                callback,
                connection,
                app or self._app,
                limit,
                pattern,
                matcher,
            )

        return make

    def ping(
        self,
        destination: str | Sequence[str] | None = None,
        timeout: float = 1.0,
        **options: Any,
    ) -> list[Reply]:
        """Which workers are there: a list with `{worker: {"ok": "pong"}}` for each."""
        told: list[Reply] = self.broadcast(
            "ping", None, destination, reply=True, timeout=timeout, **options
        )
        return told

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: str | Sequence[str] | None = None,
        connection: object = None,
        reply: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        timeout: float = 1.0,
        limit: int | None = None,
        callback: Callable[[Reply], object] | None = None,
        channel: object = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> Any:
        """Give a command by its name; further keywords are arguments of it.

        Returns the answers with `reply`, and None without.
        """
        options = Options(
            destination=read_destination(command, destination),
            timeout=timeout,
            limit=limit,
            callback=callback,
            pattern=pattern,
            matcher=matcher,
            connection=connection if channel is None else channel,
        )
        options.check(command)
        given = check_order(command, {**(arguments or {}), **extra})
        order = Order(command, given, options.destination, pattern or "")
        question = Question(self._app, order, options)
        if not reply:
            question.tell()
            return None
        return collect(question.ask())

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: str | Sequence[str] | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        """Have tasks not run, by id or list of ids, and with `terminate` stop those that run.

        Durable on return; holds for `security_max_age`, also in workers that are started meanwhile.
        """
        ids = (task_id,) if isinstance(task_id, str) else tuple(task_id)
        for one in ids:
            check_text("task_id", one, MAX_ID_BYTES)
        told = read_destination(REVOKE, destination)
        revocation = Revocation(ids, bool(terminate), read_signal(signal), destination=told)
        return self._revoke(REVOKE, revocation, {"ids": list(ids)}, options) if ids else None

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: str | Sequence[str] | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        """`revoke` of all tasks that have one of these values of one of these stamps.

        `headers` is a value, or a list of values, by the stamp's name.
        """
        stamps = parse_wanted(headers, method="revoke_by_stamped_headers")
        told = read_destination(REVOKE_BY_STAMPS, destination)
        revocation = Revocation((), bool(terminate), read_signal(signal), stamps, told)
        return self._revoke(REVOKE_BY_STAMPS, revocation, {"headers": dict(stamps)}, options)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: str | Sequence[str] | None = None,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> Any:
        """`revoke` with `terminate`."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float,
        destination: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """How often a task may begin in each worker: "10/s", "100/m", "1000/h"; 0 for any."""
        given = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", given, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """How many seconds a task may run: for those that begin from now on. None is no limit."""
        given = {"task_name": task_name, "soft": soft, "hard": hard}
        return self.broadcast("time_limit", given, destination, **options)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Have workers take from a queue as well, as with `-Q`. Exchanges lead nowhere by this."""
        if options:
            raise InvalidTaskError(
                f"add_consumer: options={options!r}: a queue has none here; leave them out"
            )
        given = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
        }
        return self.broadcast("add_consumer", given, destination, **kwargs)

    def cancel_consumer(
        self, queue: str, destination: str | Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Have workers take from a queue no more; what they hold of it, they carry out."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def autoscale(
        self, max: int, min: int, destination: str | Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Let pools follow their load, between so many tasks at a time."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def pool_grow(
        self, n: int = 1, destination: str | Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Run `n` more tasks at a time, in each worker."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(
        self, n: int = 1, destination: str | Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Run `n` fewer tasks at a time, in each worker; what runs goes on."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,  # noqa: FBT001, FBT002
        reloader: object = None,
        destination: str | Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """New task processes, forked as the first were. What runs goes on in the old ones."""
        if modules or reload or reloader:
            raise InvalidTaskError(
                "pool_restart: modules, reload and reloader: the worker has read settings and tasks of "
                "the code that it began with; restart the worker"
            )
        return self.broadcast("pool_restart", None, destination, **options)

    def shutdown(self, destination: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers stop warm, as by SIGTERM."""
        return self.broadcast("shutdown", None, destination, **options)

    def enable_events(self, destination: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send events about tasks."""
        return self.broadcast("enable_events", None, destination, **options)

    def disable_events(self, destination: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send no events about tasks."""
        return self.broadcast("disable_events", None, destination, **options)

    def heartbeat(self, destination: str | Sequence[str] | None = None, **options: Any) -> Any:
        """Have workers send a heartbeat event now."""
        return self.broadcast("heartbeat", None, destination, **options)

    def check_integrity(
        self, destination: str | Sequence[str] | None = None, **options: Any
    ) -> Any:
        """Have workers hold all files, and what runs, against their baseline; `stats` tells the result."""
        return self.broadcast("check_integrity", None, destination, **options)

    def purge(self, connection: object = None) -> int:
        """Delete what waits in every queue, and return how many messages that was.

        What runs is left alone. `cardoon purge -Q` does it for some queues.
        """
        if connection is not None:
            raise InvalidTaskError("purge: no connection= here; the app keeps its own connections")
        sender = self._app.sender
        if not isinstance(sender, Purger):
            raise InvalidTaskError(NOT_IN_TASKS)
        return sender.purge()

    discard_all = purge

    def _revoke(
        self,
        command: str,
        revocation: Revocation,
        which: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Any:
        """Without an answer, the way that is open to tasks, too."""
        for name in options:
            if name not in _OPTIONS:
                raise InvalidTaskError(f"{command}: unknown option {name!r}")
        if options.get("reply") or options.get("pattern"):
            given = {
                **which,
                "terminate": revocation.terminate,
                "signal": revocation.signal,
            }
            return self.broadcast(command, given, revocation.destination, **options)
        self._app.sender.revoke(revocation)
        return None

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name in NOT_HERE:
            raise AttributeError(f"control.{name}: this version has no {name!r}: {NOT_HERE[name]}")
        known = (*(one for one in dir(type(self)) if not one.startswith("_")), *COMMANDS)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"control has no command {name!r}{hint}")


_OPTIONS = frozenset(
    {"reply", "timeout", "limit", "callback", "connection", "channel", "pattern", "matcher"}
)


def read_signal(signal: str) -> str:
    """A signal's name as the system has it; TERM and SIGTERM are one."""
    found = str(signal).upper()
    found = found if found.startswith("SIG") else f"SIG{found}"
    if found not in signals.Signals.__members__:
        raise InvalidTaskError(f"signal={signal!r} is no signal; use SIGTERM or SIGKILL")
    return found
