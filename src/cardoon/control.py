"""Control: what `app.control` offers. It tells workers; it asks them nothing."""

from __future__ import annotations

import difflib
import signal as signals
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from cardoon.calling import MAX_ID_BYTES, check_text
from cardoon.exceptions import InvalidTaskError
from cardoon.sender import NOT_IN_TASKS, Purger, Revocation, Sender
from cardoon.stamps import parse_wanted

NEEDS_ANSWERS = "this version's workers hear revocations only; `cardoon queues` shows what waits"
"""Why workers are told, and not asked."""
_NOT_HERE = {
    "inspect": NEEDS_ANSWERS,
    "ping": NEEDS_ANSWERS,
    "broadcast": NEEDS_ANSWERS,
    "election": "workers elect nobody: the broker settles what one of them is to do",
    "heartbeat": "this version sends no events",
    "enable_events": "this version sends no events",
    "disable_events": "this version sends no events",
    "rate_limit": "set rate_limit= of the task and restart its workers",
    "time_limit": "set time_limit= of the task or of the call",
    "add_consumer": "start a worker with -Q for the queue",
    "cancel_consumer": "stop the worker that serves the queue",
    "autoscale": "set worker_concurrency",
    "pool_grow": "set worker_concurrency",
    "pool_shrink": "set worker_concurrency",
    "pool_restart": "restart the worker",
    "shutdown": "send the worker SIGTERM",
}
"""Commands of Celery's that are not here, each with what to do instead."""


class Office(Protocol):
    """What commands go through: the app."""

    @property
    def sender(self) -> Sender:
        """The way to the broker."""
        ...


class Control:
    """Commands to every worker. Each is signed, and kept for those that are not up yet."""

    def __init__(self, app: Office) -> None:
        self._app = app

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
        signal: str = "SIGTERM",
        **options: Any,
    ) -> None:
        """Have tasks not run, by id or list of ids, and with `terminate` stop those that run.

        Durable on return; holds for `security_max_age`, also in workers that are started meanwhile.
        """
        _check_options("revoke", destination, options)
        ids = (task_id,) if isinstance(task_id, str) else tuple(task_id)
        for one in ids:
            check_text("task_id", one, MAX_ID_BYTES)
        if ids:
            self._app.sender.revoke(Revocation(ids, bool(terminate), _signal_name(signal)))

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Sequence[str] | None = None,
        terminate: bool = False,  # noqa: FBT001, FBT002
        signal: str = "SIGTERM",
        **options: Any,
    ) -> None:
        """`revoke` of all tasks that have one of these values of one of these stamps.

        `headers` is a value, or a list of values, by the stamp's name.
        """
        _check_options("revoke_by_stamped_headers", destination, options)
        stamps = parse_wanted(headers, method="revoke_by_stamped_headers")
        revocation = Revocation((), bool(terminate), _signal_name(signal), stamps)
        self._app.sender.revoke(revocation)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | None = None,
        signal: str = "SIGTERM",
        **options: Any,
    ) -> None:
        """`revoke` with `terminate`."""
        self.revoke(task_id, destination, terminate=True, signal=signal, **options)

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

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name in _NOT_HERE:
            raise AttributeError(f"control.{name}: this version has no {name!r}: {_NOT_HERE[name]}")
        close = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AttributeError(f"control has no command {name!r}{hint}")


_COMMANDS = ("revoke", "revoke_by_stamped_headers", "terminate", "purge", *_NOT_HERE)


def _check_options(
    method: str, destination: Sequence[str] | None, options: Mapping[str, Any]
) -> None:
    if destination:
        raise InvalidTaskError(
            f"{method}: destination={destination!r}: this version tells every worker; leave it out"
        )
    for name, value in options.items():
        if name not in {"reply", "timeout", "limit", "callback", "connection", "channel"}:
            raise InvalidTaskError(f"{method}: unknown option {name!r}")
        if name == "reply" and value:
            raise InvalidTaskError(
                f"{method}: reply={value!r}: workers do not answer; leave it out"
            )


def _signal_name(signal: str) -> str:
    """A signal's name as the system has it; TERM and SIGTERM are one."""
    found = str(signal).upper()
    found = found if found.startswith("SIG") else f"SIG{found}"
    if found not in signals.Signals.__members__:
        raise InvalidTaskError(f"signal={signal!r} is no signal; use SIGTERM or SIGKILL")
    return found
