"""What changes a worker while it runs: the commands that steer. What they change is gone with the worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from cardoon.broker import Broker
from cardoon.config import Settings
from cardoon.exceptions import InvalidTaskError
from cardoon.option import parse_rate
from cardoon.queues import broadcast_names
from cardoon.sender import Revocation
from cardoon.worker.autoscaling import NOT_RESIZABLE, Autoscaler
from cardoon.worker.catalogue import Catalogue, change_rules
from cardoon.worker.consumer import Consumer
from cardoon.worker.leases import Revoked
from cardoon.worker.pool import Pool
from cardoon.worker.selecting import select_queues
from cardoon.worker.sizing import Resizable

logger = logging.getLogger(__name__)

_NO_EVENTS = "this worker sends no events"


class Switch(Protocol):
    """What sends events about tasks."""

    def enable(self) -> bool:
        """Send them; whether that is new."""
        ...

    def disable(self) -> bool:
        """Send none; whether that is new."""
        ...

    def beat(self) -> None:
        """Send a heartbeat now."""
        ...


class Steerer:
    """Changes what is asked for. For one thread."""

    def __init__(
        self,
        *,
        settings: Settings,
        broker: Broker,
        consumer: Consumer,
        catalogue: Catalogue,
        revoked: Revoked,
        pool: Pool,
        autoscaler: Autoscaler,
        hostname: str,
        queues: Sequence[str],
        check_queues: Callable[[Sequence[str]], object],
        stop: Callable[[], object],
        events: Switch | None = None,
        check_files: Callable[[], object] | None = None,
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._consumer = consumer
        self._catalogue = catalogue
        self._revoked = revoked
        self._pool = pool
        self._autoscaler = autoscaler
        self._hostname = hostname
        self._broadcast = broadcast_names(settings.task_queues)
        self._check_queues = check_queues
        self._stop = stop
        self._events = events
        self._check_files = check_files
        self.queues = tuple(queues)
        """What the worker takes from, broadcast queues included."""

    @property
    def handlers(self) -> Mapping[str, Callable[..., Any]]:
        """Its commands."""
        return {
            "rate_limit": self.rate_limit,
            "time_limit": self.time_limit,
            "add_consumer": self.add_consumer,
            "cancel_consumer": self.cancel_consumer,
            "autoscale": self.autoscale,
            "pool_grow": self.pool_grow,
            "pool_shrink": self.pool_shrink,
            "pool_restart": self.pool_restart,
            "shutdown": self.shutdown,
            "enable_events": self.enable_events,
            "disable_events": self.disable_events,
            "heartbeat": self.heartbeat,
            "check_integrity": self.check_integrity,
            "revoke": self.revoke,
            "revoke_by_stamped_headers": self.revoke_by_stamps,
        }

    def rate_limit(self, *, task_name: str, rate_limit: str | float) -> Any:
        """How often a task may begin here."""
        limit = parse_rate(rate_limit)
        if not change_rules(self._catalogue, task_name, rate_limit=limit):
            return {"error": f"unknown task {task_name!r}"}
        self._consumer.rates.limit(task_name, limit)
        done = "rate limit disabled" if limit is None else "new rate limit set"
        return {"ok": f"{done} successfully"}

    def time_limit(self, *, task_name: str, soft: float | None, hard: float | None) -> Any:
        """How long a task may run that comes from now on."""
        changes = {"time_limit": hard, "soft_time_limit": soft}
        if not change_rules(self._catalogue, task_name, **changes):
            return {"error": f"unknown task {task_name!r}"}
        return {"ok": "time limits set successfully"}

    def add_consumer(
        self,
        *,
        queue: str,
        exchange: str | None,
        exchange_type: str | None,
        routing_key: str | None,
    ) -> Any:
        """Take from a queue as well."""
        if (exchange, exchange_type or "direct", routing_key or queue) not in {
            (None, "direct", queue),
            (queue, "direct", queue),
            ("", "direct", queue),
        }:
            raise InvalidTaskError(
                f"add_consumer: how messages get to {queue!r} is for those who send, in task_queues; "
                "leave exchange, exchange_type and routing_key out"
            )
        [name] = select_queues(
            self._settings, wanted=[queue], excluded=(), hostname=self._hostname
        )[:1]
        if name in self.queues:
            return {"ok": f"already consuming from {name}"}
        if name in self._broadcast:
            raise InvalidTaskError(
                f"add_consumer: {name!r} is a broadcast queue, of which a worker gets copies from its "
                "start; restart it with -Q"
            )
        queues = (*self.queues, name)
        self._check_queues(queues)
        self._broker.declare([name])
        self._take(queues)
        return {"ok": f"add consumer {name}"}

    def cancel_consumer(self, *, queue: str) -> Any:
        """Take from a queue no more."""
        if queue in self._broadcast and queue in self.queues:
            raise InvalidTaskError(
                f"cancel_consumer: {queue!r} is a broadcast queue; restart the worker with -X"
            )
        self._take(tuple(one for one in self.queues if one != queue))
        return {"ok": f"no longer consuming from {queue}"}

    def autoscale(self, *, max: int, min: int) -> Any:
        """Let the pool follow its load; at least one task at a time."""
        least = min or 1
        self._autoscaler.follow(least, max)
        return {"ok": f"autoscale now max={max} min={least}"}

    def pool_grow(self, *, n: int) -> Any:
        """Run more at a time."""
        return self._resize(n)

    def pool_shrink(self, *, n: int) -> Any:
        """Run fewer at a time."""
        return self._resize(-n)

    def pool_restart(self) -> Any:
        """New processes."""
        renewed = self._resizable().renew()
        if not renewed:
            return {"ok": "every task has a process of its own already"}
        return {"ok": f"{renewed} processes are replaced"}

    def shutdown(self) -> Any:
        """Stop warm; the answer is sent before."""
        threading.Thread(target=self._stop, name="shutdown", daemon=True).start()
        return {"ok": "shutting down"}

    def enable_events(self) -> Any:
        """Send events about tasks."""
        if self._events is None:
            return {"error": _NO_EVENTS}
        return {"ok": f"task events {'' if self._events.enable() else 'already '}enabled"}

    def disable_events(self) -> Any:
        """Send no events about tasks."""
        if self._events is None:
            return {"error": _NO_EVENTS}
        return {"ok": f"task events {'' if self._events.disable() else 'already '}disabled"}

    def heartbeat(self) -> Any:
        """Send a heartbeat now."""
        if self._events is None:
            return {"error": _NO_EVENTS}
        self._events.beat()
        return {"ok": "heartbeat sent"}

    def check_integrity(self) -> Any:
        """Hold all files, and what runs, against the baseline soon."""
        if self._check_files is None:
            return {"error": "this worker has no baseline; set integrity_baseline"}
        self._check_files()
        return {"ok": "a full check of the files begins; inspect stats tells its result"}

    def revoke(self, *, ids: Any, terminate: Any, **_: Any) -> Any:
        """What became of a revocation, which the keeper has carried out by now."""
        wanted = tuple(ids) if isinstance(ids, list) else ()
        told = {"ok": f"tasks {', '.join(sorted(set(wanted)))} flagged as revoked"}
        return {**told, **self._told_stopped(Revocation(wanted))} if terminate else told

    def revoke_by_stamps(self, *, headers: Any, terminate: Any, **_: Any) -> Any:
        """The same, of stamps."""
        told = {"ok": f"tasks with these stamps flagged as revoked: {', '.join(map(str, headers))}"}
        revocation = Revocation((), stamps=headers)
        return {**told, **self._told_stopped(revocation)} if terminate else told

    def _told_stopped(self, revocation: Revocation) -> dict[str, Any]:
        """Which running tasks were stopped, and how sure that is."""
        ids = self._revoked.take_stopped(revocation)
        how = HOW_TASKS_END.get(self._settings.worker_pool, "")
        return {"terminated": ids, **({"how": how} if ids and how else {})}

    def _take(self, queues: tuple[str, ...]) -> None:
        self.queues = queues
        self._consumer.wanted = tuple(one for one in queues if one not in self._broadcast)
        logger.info("queues: %s", ", ".join(queues) or "none")

    def _resize(self, by: int) -> Any:
        pool = self._resizable()
        self._autoscaler.stay()
        pool.resize(pool.size + by)
        return {"ok": f"pool will {'grow' if by >= 0 else 'shrink'} to {pool.size}"}

    def _resizable(self) -> Resizable:
        if not isinstance(self._pool, Resizable):
            raise InvalidTaskError(NOT_RESIZABLE)
        return self._pool


HOW_TASKS_END: Mapping[str, str] = {
    "solo": "it is interrupted where it next runs Python code; a task that never does cannot be stopped",
    "threads": "it is interrupted where its thread next runs Python code: a thread cannot be killed",
    "asyncio": "it is cancelled where it next awaits, or if it is no coroutine where it next runs Python code",
}
"""Of the pools where a task has no process of its own to kill."""
