"""What a worker tells of itself to those who ask: the commands that look. Never arguments, never a secret.

Arguments are shown where the app has them kept with results anyway (`result_extended`) and the message is not
sealed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from cardoon import __version__
from cardoon.builtins import PREFIX
from cardoon.clock import Clock
from cardoon.config import OPTIONS, Settings, changed
from cardoon.exceptions import RefusedError
from cardoon.message.serializers import decode_body
from cardoon.queues import Queue
from cardoon.routing import Queues
from cardoon.worker.catalogue import Catalogue, TaskRules
from cardoon.worker.held import Held, HeldTable
from cardoon.worker.host import safe_url
from cardoon.worker.leases import Revoked
from cardoon.worker.pool import Pool
from cardoon.worker.sizing import Observable, Placement
from cardoon.worker.standing import Standing

HIDDEN = "<hidden>"
SECRET = "********"  # noqa: S105  # what stands in its place
MAX_SHOWN = 1024
"""Bytes of the arguments of one task that are shown."""


class Looker:
    """Answers what is asked. Safe from several threads."""

    def __init__(
        self,
        *,
        settings: Settings,
        held: HeldTable,
        revoked: Revoked,
        catalogue: Catalogue,
        pool: Pool,
        clock: Clock,
        hostname: str,
        urls: tuple[str, str],
        queues: Callable[[], Sequence[str]],
        heard: Callable[[], int],
        standing: Callable[[], Standing | None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._held = held
        self._revoked = revoked
        self._catalogue = catalogue
        self._pool = pool
        self._clock = clock
        self._hostname = hostname
        self._urls = urls
        self._queues = queues
        self._heard = heard
        self._standing = standing
        self._began = clock.monotonic()

    @property
    def handlers(self) -> Mapping[str, Callable[..., Any]]:
        """Its commands."""
        return {
            "ping": self.ping,
            "active": self.active,
            "reserved": self.reserved,
            "scheduled": self.scheduled,
            "registered": self.registered,
            "stats": self.stats,
            "active_queues": self.active_queues,
            "revoked": self.revoked,
            "query_task": self.query_task,
            "conf": self.conf,
            "report": self.report,
            "clock": self.clock,
            "hello": self.hello,
        }

    def ping(self) -> Any:
        """It is there."""
        return {"ok": "pong"}

    def active(self, *, safe: bool) -> Any:  # noqa: ARG002  # nothing unsafe is shown
        """Tasks that run."""
        return [self._info(one, place) for one, place in self._placed() if place.begun is not None]

    def reserved(self) -> Any:
        """Tasks that it holds and that have not begun."""
        return [self._info(one, place) for one, place in self._placed() if place.begun is None]

    def scheduled(self) -> Any:
        """None: what has an ETA waits in the broker until it is due."""
        return []

    def registered(self, *, taskinfoitems: Sequence[str], builtins: bool) -> Any:
        """Names of tasks, each with those of its options that are asked for."""
        names = sorted(one for one in self._catalogue if builtins or not one.startswith(PREFIX))
        if not taskinfoitems:
            return names
        return [_described(one, self._catalogue[one], taskinfoitems) for one in names]

    def stats(self) -> Any:
        """What it is, and what it has done."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pool = self._pool.describe() if isinstance(self._pool, Observable) else {}
        standing = self._standing()
        return {
            "total": dict(self._held.totals),
            "pid": os.getpid(),
            "clock": self._heard(),
            "uptime": int(self._clock.monotonic() - self._began),
            "pool": pool,
            "integrity": {} if standing is None else standing.to_stats(),
            "broker": _told_url(self._urls[0]),
            "backend": _told_url(self._urls[1]),
            "prefetch_count": len(self._held),
            "rusage": {
                "utime": usage.ru_utime,
                "stime": usage.ru_stime,
                "maxrss": usage.ru_maxrss,
                "minflt": usage.ru_minflt,
                "majflt": usage.ru_majflt,
                "nvcsw": usage.ru_nvcsw,
                "nivcsw": usage.ru_nivcsw,
            },
            "sw_ident": "cardoon",
            "sw_ver": __version__,
        }

    def active_queues(self) -> Any:
        """Queues that it takes from."""
        known = Queues(self._settings)
        found = [known[name] if name in known else Queue(name) for name in self._queues()]
        return [_described_queue(queue) for queue in found]

    def revoked(self) -> Any:
        """Ids that it does not run, the newest first."""
        return self._revoked.all()[::-1]

    def query_task(self, *, ids: Iterable[str]) -> Any:
        """What it does with those of these tasks that it holds."""
        wanted = set(ids)
        return {
            one.id: ["reserved" if place.begun is None else "active", self._info(one, place)]
            for one, place in self._placed()
            if one.id in wanted
        }

    def conf(self, *, with_defaults: bool) -> Any:
        """Settings, without secrets."""
        names = OPTIONS if with_defaults else changed(self._settings)
        return {name: _told_setting(name, getattr(self._settings, name)) for name in names}

    def report(self) -> Any:
        """Versions, platform and settings."""
        python, host = ".".join(map(str, sys.version_info[:3])), os.uname()
        return {
            "ok": f"software -> cardoon:{__version__} py:{python}\n"
            f"platform -> system:{host.sysname} arch:{host.machine} "
            f"imp:{sys.implementation.name}\n"
            f"worker   -> {self._hostname}\n"
            f"settings -> {self._settings!r}"
        }

    def clock(self) -> Any:
        """The number of the last command that it heard."""
        return {"clock": self._heard()}

    def hello(self, *, from_node: str, revoked: object) -> Any:  # noqa: ARG002
        """Its clock, and which ids it does not run. What the other knows it has from the broker."""
        if from_node == self._hostname:
            return None
        return {"clock": self._heard(), "revoked": self._revoked.all()[::-1]}

    def _placed(self) -> list[tuple[Held, Placement]]:
        """What is held, the oldest first, each with its place."""
        places = self._pool.placements() if isinstance(self._pool, Observable) else {}
        nowhere = Placement(None, None)
        found = [(one, places.get(one.key, nowhere)) for one in self._held.all()]
        return [(one, place) for one, place in found if not one.is_ending]

    def _info(self, held: Held, place: Placement) -> dict[str, Any]:
        """A task as Celery tells it."""
        begun = place.begun
        now, monotonic = self._clock.now(), self._clock.monotonic()
        args, kwargs = self._arguments(held)
        return {
            "id": held.id,
            "name": held.task,
            "args": args,
            "kwargs": kwargs,
            "type": held.task,
            "hostname": self._hostname,
            "time_start": None if begun is None else now - (monotonic - begun),
            "acknowledged": held.settled,
            "delivery_info": {
                "exchange": "",
                "routing_key": held.queue,
                "priority": None,
                "redelivered": held.delivery.attempt > 1,
            },
            "worker_pid": place.pid,
            "retries": held.retries,
        }

    def _arguments(self, held: Held) -> tuple[Any, Any]:
        message = held.message
        if not self._settings.result_extended or message.claims.encryption is not None:
            return HIDDEN, HIDDEN
        if len(message.body) > MAX_SHOWN:
            return "<too long>", "<too long>"
        try:
            args, kwargs, *_ = decode_body(message.claims.codec, message.body, max_bytes=MAX_SHOWN)
            json.dumps((args, kwargs))
        except (RefusedError, TypeError, ValueError):
            return HIDDEN, HIDDEN
        return args, kwargs


def _described(name: str, rules: TaskRules, items: Sequence[str]) -> str:
    """A task with some of its options, as Celery shows it."""
    told = {item: getattr(rules, item, None) for item in items}
    shown = " ".join(f"{item}={value}" for item, value in told.items() if value is not None)
    return f"{name} [{shown}]" if shown else name


def _described_queue(queue: Queue) -> dict[str, Any]:
    exchange = queue.exchange
    return {
        "name": queue.name,
        "exchange": {
            "name": "" if exchange is None else exchange.name,
            "type": "direct" if exchange is None else exchange.type,
        },
        "routing_key": queue.routing_key or queue.name,
        "alias": queue.alias,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
    }


def _told_setting(name: str, value: Any) -> Any:
    if OPTIONS[name].secret:
        return SECRET if value else value
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def _told_url(url: str) -> dict[str, Any]:
    """Where a store is: no name of a user, no password."""
    if not url:
        return {}
    parts = urlsplit(safe_url(url))
    try:
        port = parts.port
    except ValueError:  # several servers in one URL
        port = None
    return {"transport": parts.scheme, "hostname": parts.hostname, "port": port}
