"""A worker for tests, in a thread of the test's own process."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cardoon.app import Cardoon
from cardoon.config import POOLS
from cardoon.context import current_request
from cardoon.exceptions import ImproperlyConfigured, InvalidTaskError
from cardoon.loading import load_modules
from cardoon.producer import Producer
from cardoon.sender import NOT_IN_TASKS, Call, Handle, Purger, Receipt, Report, Revocation
from cardoon.worker.local import LocalLink
from cardoon.worker.options import WorkerOptions
from cardoon.worker.pool import Pool
from cardoon.worker.worker import Worker

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")
"""Of what the worker says itself; tasks log as they ever do."""
START_SECONDS = 30.0
PING = "cardoon.ping"

logger = logging.getLogger(__name__)

_SETTINGS = {
    "include": "include",
    "prefetch_multiplier": "worker_prefetch_multiplier",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
    "max_tasks_per_child": "worker_max_tasks_per_child",
    "max_memory_per_child": "worker_max_memory_per_child",
    "task_time_limit": "task_time_limit",
    "task_soft_time_limit": "task_soft_time_limit",
}
"""Options of the command line, and the settings that they are."""
_UNNEEDED = frozenset({"without_heartbeat", "without_mingle", "without_gossip", "logfile"})
"""Celery's, for what this worker does not do."""
_OTHERS = ("queues", "hostname", "target", "purge", "settings")


class TestWorkController(Worker):
    """The real worker, in a thread; ended with the test that started it."""

    __test__ = False  # for pytest
    patience = 0.05

    def __init__(
        self, options: WorkerOptions, *, app: Cardoon, client: Producer, runs_here: bool
    ) -> None:
        self.app = app
        self._client = client
        self._failure: BaseException | None = None
        shared = client.stores if app.settings.broker_url.startswith("memory:") else None
        super().__init__(options, app=app if runs_here else None, clock=app.clock, stores=shared)
        self._thread = threading.Thread(target=self._serve, name="test-worker", daemon=True)

    def start(self) -> None:
        """Begin to serve, in a thread of its own."""
        self._thread.start()

    def ensure_started(self) -> None:
        """Wait until it takes messages; raises what stopped it."""
        while not self.ready.wait(0.05):
            if self._failure is not None:
                raise self._failure
            if not self._thread.is_alive():
                raise RuntimeError("the test worker ended before it had started")

    def end(self, timeout: float) -> None:
        """Stop warm. `RuntimeError` if a task is not done in `timeout` seconds."""
        if self._thread.is_alive():
            self.stop()
            self._thread.join(timeout)
        if self._thread.is_alive():
            raise RuntimeError(
                f"the test worker did not end within {timeout:g} seconds, because a task did not; "
                "raise shutdown_timeout if it needs longer"
            )
        if self._failure is not None:
            raise self._failure

    def reload(self) -> None:
        """Take in tasks that were added since: nothing to do here, they are known at once."""

    def _serve(self) -> None:
        try:
            self.serve()
        except BaseException as error:  # noqa: BLE001  # raised again in the thread of the test
            self._failure = error

    def _make_pool(self) -> Pool:
        pool = super()._make_pool()
        if self._app is not None:
            link = self._app.sender
            assert isinstance(link, LocalLink)
            self._app.attach(TestLink(client=self._client, task=link))
        return pool

    def _exit_stuck(self, code: int) -> None:
        """A task that outlives its hard limit takes a worker down; a test worker must not exit."""
        logger.critical("a worker would exit now with code %d; the test worker goes on", code)


class TestLink:
    """The Sender of an app whose worker runs in this process.

    What a task sends goes through the worker, signed as the worker; what the test sends is the client's.
    """

    __test__ = False  # for pytest

    def __init__(self, *, client: Producer, task: LocalLink) -> None:
        self._client = client
        self._task = task

    def send(self, calls: Sequence[Call], *, timeout: float) -> Sequence[Receipt]:
        """Sign and publish."""
        return self._link.send(calls, timeout=timeout)

    def load(self, handles: Sequence[Handle]) -> Mapping[str, Report]:
        """Present states."""
        return self._link.load(handles)

    def wait(self, handles: Collection[Handle], *, timeout: float | None) -> Iterator[Report]:
        """Final results as they come."""
        return self._link.wait(handles, timeout=timeout)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete results."""
        self._link.forget(task_ids)

    def revoke(self, revocation: Revocation) -> None:
        """Tell the worker."""
        self._link.revoke(revocation)

    def update_state(self, task_id: str, state: str, codec: str, body: bytes) -> None:
        """Store a state of the task that runs."""
        self._link.update_state(task_id, state, codec, body)

    def save_group(self, group_id: str, codec: str, body: bytes) -> None:
        """See `GroupKeeper`."""
        self._link.save_group(group_id, codec, body)

    def load_group(self, group_id: str) -> Report | None:
        """See `GroupKeeper`."""
        return self._link.load_group(group_id)

    def find(self, task_ids: Sequence[str]) -> Mapping[str, str]:
        """See `Finder`."""
        return self._link.find(task_ids)

    def purge(self) -> int:
        """See `Purger`; task code must not."""
        link = self._link
        if isinstance(link, Purger):
            return link.purge()
        raise InvalidTaskError(NOT_IN_TASKS)

    @property
    def _link(self) -> Producer | LocalLink:
        running = current_request()
        return self._client if running is None or running.hostname is None else self._task


@contextmanager
def start_worker(
    app: Cardoon,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,  # noqa: ARG001  # Celery's; pytest captures logs
    perform_ping_check: bool = True,  # noqa: FBT001, FBT002  # Celery's signature
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[TestWorkController]:
    """Run a worker of this app in a thread, within the block.

    It is the real one, on the app's own broker, `memory://` included. Pool `solo` runs tasks in that
    thread, one at a time, so they may be local functions of a test. Every other pool starts processes
    that import the app: name it with `target="module:app"`. `perform_ping_check` sends a task and waits
    for its answer first. Further options are those of `cardoon worker`: `queues`, `hostname`, `include`,
    `purge`, `time_limit`, ...; `settings` is a dict of any settings.

    `RuntimeError` at the end if a task is not done within `shutdown_timeout` seconds.
    """
    if perform_ping_check:
        importlib.import_module("cardoon.contrib.testing.tasks")
    options = _options(app, pool, concurrency, shutdown_timeout, kwargs)
    runs_here = pool == "solo"
    if runs_here:
        load_modules(app)
    client = app.sender
    if not isinstance(client, Producer):
        raise ImproperlyConfigured(
            f"start_worker: {app!r} does not send to its own broker at present: another test worker of "
            "it runs, or it is captured or simulated"
        )
    with _log_level(loglevel):
        worker = TestWorkController(options, app=app, client=client, runs_here=runs_here)
        worker.start()
        try:
            worker.ensure_started()
            if perform_ping_check:
                answer = app.send_task(PING, queue=worker.queues[0])
                if answer.get(timeout=ping_task_timeout) != "pong":
                    raise RuntimeError("the test worker does not answer")
            yield worker
        finally:
            worker.end(shutdown_timeout)


def _options(
    app: Cardoon,
    pool: str,
    concurrency: int,
    shutdown_timeout: float,
    given: Mapping[str, Any],
) -> WorkerOptions:
    """What the worker is told beyond the app's settings."""
    known = (*_SETTINGS, *_OTHERS, *_UNNEEDED)
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"start_worker: unknown option {name!r}{hint}")
    if pool not in POOLS:
        raise ImproperlyConfigured(
            f"start_worker: pool={pool!r} is unknown; use {', '.join(POOLS)}"
        )
    if pool != "solo" and not given.get("target"):
        raise ImproperlyConfigured(
            f"start_worker: pool={pool!r} runs tasks in processes that import the app; say which one "
            'it is with target="module:app", or use pool="solo"'
        )
    settings = app.conf.tell()
    settings |= {"worker_pool": pool, "worker_concurrency": concurrency}
    settings["worker_soft_shutdown_timeout"] = max(0.0, shutdown_timeout - 1)
    settings |= {_SETTINGS[name]: given[name] for name in _SETTINGS.keys() & given.keys()}
    if pool != "solo":
        include = [*app.settings.include, *given.get("include", ()), f"{__package__}.tasks"]
        settings["include"] = include
    queues = given.get("queues") or ()
    return WorkerOptions(
        app=given.get("target", ""),
        hostname=given.get("hostname", "test@localhost"),
        queues=tuple(queues.split(",") if isinstance(queues, str) else queues),
        settings={**settings, **given.get("settings", {})},
        purge=bool(given.get("purge")),
        logging_setup={
            "level": "error",
            "logfile": None,
            "log_format": app.settings.worker_log_format,
            "task_format": app.settings.worker_task_log_format,
            "hijack": True,
        },
    )


@contextmanager
def _log_level(level: str | int) -> Iterator[None]:
    """Have the worker's own loggers say this and worse, for as long."""
    workers = logging.getLogger("cardoon.worker")
    before = workers.level
    workers.setLevel(level.upper() if isinstance(level, str) else level)
    try:
        yield
    finally:
        workers.setLevel(before)
