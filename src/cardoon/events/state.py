"""State: what the events of a cluster add up to. Bounded in memory, and of nobody's making but theirs.

    state = app.events.State()
    app.events.Receiver(handlers={"*": state.event}).capture()

Workers tell the times at which things happened by their own clocks; whether a worker is alive is judged
by when this host heard of it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from cardoon import states
from cardoon.events.kinds import group_from

MAX_TASKS = 10_000
MAX_WORKERS = 5_000
"""Kept in memory; those that were heard of longest ago are forgotten first. Celery's numbers."""
MAX_TYPES = 10_000
"""Names of tasks that are kept."""
MAX_HISTORY = 32
"""Events of one task that are kept, the newest."""
MAX_TEXT = 1024
"""Characters of a text in a field that are kept."""
HEARTBEAT_SECONDS = 60.0
"""How often a worker is expected to be heard of that does not say."""
EXPIRE_WINDOW = 300
"""Per cent of that after which it is taken for dead. A worker that sends a beat every 2 seconds, each
up to half a second late, may miss one."""

K = TypeVar("K")
V = TypeVar("V")

_STATES = {
    "task-sent": states.PENDING,
    "task-received": states.RECEIVED,
    "task-started": states.STARTED,
    "task-succeeded": states.SUCCESS,
    "task-failed": states.FAILURE,
    "task-rejected": states.REJECTED,
    "task-revoked": states.REVOKED,
    "task-retried": states.RETRY,
    "task-ignored": states.IGNORED,
}
_TIMES = {
    "task-sent": "sent",
    "task-received": "received",
    "task-started": "started",
    "task-succeeded": "succeeded",
    "task-failed": "failed",
    "task-rejected": "rejected",
    "task-revoked": "revoked",
    "task-retried": "retried",
}
_STEPS = {states.PENDING: 0, states.RECEIVED: 1, states.STARTED: 2}
"""The order of what comes before an end, whatever the clocks of those that tell of it say."""


_COMES_AGAIN = frozenset({states.RETRY, states.REJECTED})
"""Behind which anything may follow: the task waits again, or may be put back."""


_NUMBERS = (
    *("pid", "clock", "active", "processed", "loadavg"),
    *("baseline_serial", "integrity_checked_at", "integrity_findings"),
)
_TEXTS = (
    *("sw_ident", "sw_ver", "sw_sys", "signer"),
    *("baseline_digest", "integrity_result"),
)
"""Of what a worker tells, what is kept."""


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dict that forgets what was set longest ago when it has more than `most`."""

    def __init__(self, most: int, given: Mapping[K, V] | None = None) -> None:
        super().__init__()
        self.most = most
        for key, value in (given or {}).items():
            self[key] = value

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        while len(self) > self.most:
            self.popitem(last=False)


class Step(NamedTuple):
    """One event of a task's history."""

    type: str
    timestamp: float
    hostname: str


class Worker:
    """A worker, as far as its events tell."""

    expire_window = EXPIRE_WINDOW

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.pid: int | None = None
        self.freq = HEARTBEAT_SECONDS
        self.clock = 0
        self.active: int | None = None
        self.processed: int | None = None
        self.loadavg: list[float] | None = None
        self.baseline_serial: int | None = None
        """Of the baseline that its files are held against; None where it tells of none."""
        self.baseline_digest: str | None = None
        """SHA-256 of that baseline, in hexadecimal digits."""
        self.integrity_checked_at: float | None = None
        """When all files were checked last, by its own clock."""
        self.integrity_result: str | None = None
        """`unchecked`, `ok`, `drift` or `invalid`."""
        self.integrity_findings: int | None = None
        self.sw_ident: str | None = None
        self.sw_ver: str | None = None
        self.sw_sys: str | None = None
        self.timestamp: float = 0.0
        """Of its latest event, by its own clock."""
        self.heard: float = 0.0
        """When that came here."""
        self.online = True
        """Whether it has not said that it ends."""
        self.signer = ""
        """Who signed its latest event."""
        self.event_count = 0

    def event(
        self, type: str, timestamp: float, local_received: float, fields: Mapping[str, Any]
    ) -> None:
        """Take in an event of the worker; `type` is what stands behind the first `-`."""
        self.event_count += 1
        self.timestamp, self.heard = timestamp, max(self.heard, local_received)
        self.online = type != "offline"
        for name in _NUMBERS:
            if name in fields:
                setattr(self, name, fields[name])
        for name in _TEXTS:
            if name in fields:
                setattr(self, name, _kept(fields[name]))
        freq = fields.get("freq")
        if freq:
            self.freq = min(float(freq), 3600.0)

    def update(self, fields: Mapping[str, Any]) -> None:
        """Take over fields."""
        for name, value in fields.items():
            setattr(self, name, value)

    @property
    def heartbeat_expires(self) -> float:
        """From when on it is taken for dead, if nothing comes; seconds since the epoch."""
        return self.heard + self.freq * self.expire_window / 100

    @property
    def alive(self) -> bool:
        """Whether it has been heard of in time, and has not said that it ends."""
        return self.is_alive(time.time())

    def is_alive(self, now: float) -> bool:
        """`alive` at another time than now."""
        return self.online and bool(self.heard) and now < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """`ONLINE` or `OFFLINE`."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Its name and process id."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Worker) and other.hostname == self.hostname

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string})>"


class Task:
    """A task, as far as events tell."""

    _info_fields = (
        *("args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception"),
        *("exchange", "routing_key", "root_id", "parent_id"),
    )

    def __init__(self, uuid: str, *, cluster_state: State | None = None) -> None:
        self.uuid = self.id = uuid
        self.cluster_state = cluster_state
        self.name: str | None = None
        self.state: str = states.PENDING
        self.sent: float | None = None
        self.received: float | None = None
        self.started: float | None = None
        self.succeeded: float | None = None
        self.failed: float | None = None
        self.rejected: float | None = None
        self.revoked: float | None = None
        self.retried: float | None = None
        self.args: Any = None
        self.kwargs: Any = None
        self.eta: Any = None
        self.expires: Any = None
        self.retries: int = 0
        self.result: Any = None
        self.exception: Any = None
        self.traceback: Any = None
        self.runtime: float | None = None
        self.queue: str | None = None
        self.exchange: str | None = None
        self.routing_key: str | None = None
        self.root_id: str | None = None
        self.parent_id: str | None = None
        self.timestamp: float = 0.0
        """Of the latest event."""
        self.clock = 0
        self.client: str | None = None
        """Who sent it, where that sends events."""
        self.worker: Worker | None = None
        self.violations = 0
        """How often a sandbox has refused it something."""
        self.history: list[Step] = []
        """The latest `MAX_HISTORY` events."""

    def event(self, type: str, timestamp: float, hostname: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of the task, by its whole type."""
        self.history.append(Step(type, timestamp, hostname))
        del self.history[:-MAX_HISTORY]
        self.timestamp = max(self.timestamp, timestamp)
        if type == "task-violation":
            self.violations += int(fields.get("count") or 1)
        attribute = _TIMES.get(type)
        if attribute is not None:
            setattr(self, attribute, timestamp)
        if self._follows(_STATES.get(type)):
            self.state = _STATES[type]
        for name in _KEPT_FIELDS:
            if fields.get(name) is not None:
                setattr(self, name, _kept(fields[name]))

    def _follows(self, state: str | None) -> bool:
        """Whether a state comes after the present one."""
        if state is None:
            return False
        if self.state in _COMES_AGAIN or state not in _STEPS:
            return state != states.PENDING
        return self.state in _STEPS and _STEPS[state] > _STEPS[self.state]

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @property
    def origin(self) -> str | None:
        """Its worker, or else who sent it."""
        return self.client if self.worker is None else self.worker.id

    @property
    def parent(self) -> Task | None:
        """The task that sent it, if that is in the state."""
        return self._look_up(self.parent_id)

    @property
    def root(self) -> Task | None:
        """The first task of its tree, if that is in the state."""
        return self._look_up(self.root_id)

    def info(
        self, fields: tuple[str, ...] | None = None, extra: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The fields that say something."""
        names = (*(self._info_fields if fields is None else fields), *extra)
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All that is known, the worker by its name."""
        told = {name: value for name, value in vars(self).items() if name != "cluster_state"}
        told["worker"] = None if self.worker is None else self.worker.hostname
        told["history"] = [list(step) for step in self.history]
        return told

    def _look_up(self, uuid: str | None) -> Task | None:
        if uuid is None or self.cluster_state is None:
            return None
        return self.cluster_state.tasks.get(uuid)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.uuid == self.uuid

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state}>"


_KEPT_FIELDS = (
    *("name", "args", "kwargs", "eta", "expires", "retries", "result", "exception", "traceback"),
    *("runtime", "queue", "exchange", "routing_key", "root_id", "parent_id", "clock"),
)


class State:
    """Workers and tasks by their events. Safe from threads.

    `callback` is called with the state and each event. `on_node_join` and `on_node_leave` are called with
    a worker that is new or was offline, and with one that says that it ends.
    """

    def __init__(
        self,
        callback: Callable[[State, dict[str, Any]], object] | None = None,
        workers: Mapping[str, Worker] | None = None,
        tasks: Mapping[str, Task] | None = None,
        *,
        max_workers_in_memory: int = MAX_WORKERS,
        max_tasks_in_memory: int = MAX_TASKS,
        on_node_join: Callable[[Worker], object] | None = None,
        on_node_leave: Callable[[Worker], object] | None = None,
    ) -> None:
        self.event_callback = callback
        self.workers: Bounded[str, Worker] = Bounded(max_workers_in_memory, workers)
        self.tasks: Bounded[str, Task] = Bounded(max_tasks_in_memory, tasks)
        self.max_workers_in_memory = max_workers_in_memory
        self.max_tasks_in_memory = max_tasks_in_memory
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        self.event_count = 0
        """Events taken in."""
        self.task_count = 0
        """Tasks heard of, the forgotten ones included."""
        self._seen_types: Bounded[str, None] = Bounded(MAX_TYPES)
        self._lock = threading.RLock()  # protects all of it

    def event(self, event: dict[str, Any]) -> None:
        """Take in a received event; those that are of neither tasks nor workers are counted."""
        with self._lock:
            self.event_count += 1
            match group_from(event["type"]):
                case "task":
                    self._take_task(event)
                case "worker":
                    self._take_worker(event)
            if self.event_callback is not None:
                self.event_callback(self, event)

    def get_or_create_worker(self, hostname: str, **fields: Any) -> tuple[Worker, bool]:
        """A worker, and whether it is new."""
        with self._lock:
            worker = self.workers.get(hostname)
            is_new = worker is None
            if worker is None:
                worker = Worker(hostname)
            worker.update(fields)
            self.workers[hostname] = worker
            return worker, is_new

    def get_or_create_task(self, uuid: str) -> tuple[Task, bool]:
        """A task, and whether it is new."""
        with self._lock:
            task = self.tasks.get(uuid)
            is_new = task is None
            if task is None:
                task = Task(uuid, cluster_state=self)
                self.task_count += 1
            self.tasks[uuid] = task
            return task, is_new

    def freeze_while(
        self, function: Callable[..., V], *args: Any, clear_after: bool = False, **kwargs: Any
    ) -> V:
        """Call a function while nothing changes; with `clear_after` forget what has ended then."""
        with self._lock:
            try:
                return function(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def clear_tasks(self, ready: bool = True) -> None:  # noqa: FBT001, FBT002  # Celery's signature
        """Forget tasks: those that have ended or, without `ready`, all."""
        with self._lock:
            for uuid in [uuid for uuid, task in self.tasks.items() if task.ready or not ready]:
                del self.tasks[uuid]

    def clear(self, ready: bool = True) -> None:  # noqa: FBT001, FBT002
        """Forget all but tasks that have not ended; without `ready` those, too."""
        with self._lock:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def alive_workers(self) -> Iterator[Worker]:
        """The workers that are alive."""
        return (worker for worker in self._workers() if worker.alive)

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, Task]]:
        """Tasks by id, as they come."""
        return islice(self._tasks(), limit)

    def tasks_by_time(
        self,
        limit: int | None = None,
        reverse: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[tuple[str, Task]]:
        """Tasks by the time of their latest event, the newest first unless `reverse` is false."""
        ordered = sorted(self._tasks(), key=lambda pair: pair[1].timestamp, reverse=reverse)
        return islice(iter(ordered), limit)

    tasks_by_timestamp = tasks_by_time

    def tasks_by_type(
        self,
        name: str,
        limit: int | None = None,
        reverse: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[tuple[str, Task]]:
        """`tasks_by_time`, of those with a name."""
        found = (pair for pair in self.tasks_by_time(reverse=reverse) if pair[1].name == name)
        return islice(found, limit)

    def tasks_by_worker(
        self,
        hostname: str,
        limit: int | None = None,
        reverse: bool = True,  # noqa: FBT001, FBT002
    ) -> Iterator[tuple[str, Task]]:
        """`tasks_by_time`, of those of a worker."""
        found = (
            pair
            for pair in self.tasks_by_time(reverse=reverse)
            if pair[1].worker is not None and pair[1].worker.hostname == hostname
        )
        return islice(found, limit)

    def task_types(self) -> list[str]:
        """The names of all tasks heard of, sorted."""
        with self._lock:
            return sorted(self._seen_types)

    def _take_worker(self, event: Mapping[str, Any]) -> None:
        now = event.get("local_received", time.time())
        worker = self.workers.get(event["hostname"])
        was_online = worker is not None and worker.is_alive(now)
        worker, _ = self.get_or_create_worker(event["hostname"])
        worker.event(event["type"].partition("-")[2], event["timestamp"], now, event)
        if worker.online and not was_online and self.on_node_join is not None:
            self.on_node_join(worker)
        if not worker.online and was_online and self.on_node_leave is not None:
            self.on_node_leave(worker)

    def _take_task(self, event: Mapping[str, Any]) -> None:
        task, _ = self.get_or_create_task(event["uuid"])
        hostname = event["hostname"]
        if event["type"] == "task-sent":
            task.client = hostname
        else:
            worker, is_new = self.get_or_create_worker(hostname)
            task.worker = worker
            worker.heard = max(worker.heard, event.get("local_received", time.time()))
            if is_new:
                worker.signer = _kept(event.get("signer", ""))
                worker.pid = event.get("pid")
        task.event(event["type"], event["timestamp"], hostname, event)
        if task.name:
            self._seen_types[task.name] = None

    def _tasks(self) -> Iterator[tuple[str, Task]]:
        with self._lock:
            return iter(list(self.tasks.items()))

    def _workers(self) -> list[Worker]:
        with self._lock:
            return list(self.workers.values())

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"


def _kept(value: Any) -> Any:
    return value[:MAX_TEXT] if isinstance(value, str) else value
