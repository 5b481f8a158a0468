"""Receivers: sends a worker's signals, in the process that has the app.

That is the zygote, where what `worker_init` sets up is inherited by every task process; with `-P solo`
it is the worker itself. Payloads are Celery's names with small objects that say what is known here.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType as StackFrame
from typing import Any, Protocol

from cardoon import exceptions, signals
from cardoon.app import Cardoon
from cardoon.exception_info import ExceptionInfo
from cardoon.exceptions import NotRegistered, Refusal, RefusedError
from cardoon.log import LEVELS, TASK_LOGGER, log_formats, release_logging, setup_logging
from cardoon.worker.jobs import request_of
from cardoon.worker.notices import NOTICES
from cardoon.worker.outbox import Outbox

logger = logging.getLogger(__name__)

MAX_SECONDS = 10.0
"""Seconds that the receivers of one signal may take where a worker waits for them."""
CLOSING_SECONDS = 2.0
"""Seconds for those of `worker_shutdown` and `worker_process_shutdown`: 25 are for tasks, and
whoever stops a worker often gives it 30."""
_TOLD_OPTIONS = {
    "worker_pool": "pool",
    "worker_concurrency": "concurrency",
    "worker_prefetch_multiplier": "prefetch_multiplier",
    "task_time_limit": "time_limit",
    "task_soft_time_limit": "soft_time_limit",
    "worker_max_tasks_per_child": "max_tasks_per_child",
    "worker_max_memory_per_child": "max_memory_per_child",
}
"""Settings that the command line may give, under Celery's names; none that may hold a secret."""
_FAILURES: Mapping[str, type[exceptions.CardoonError]] = {
    "WorkerLostError": exceptions.WorkerLostError,
    "TimeLimitExceeded": exceptions.TimeLimitExceeded,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerInfo:
    """What receivers learn of the worker: `instance`, or `sender`, of its signals."""

    hostname: str
    app: Cardoon
    pid: int
    """Of the worker; receivers run in another process, but for `-P solo`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the command line said."""
    pool: str = ""
    concurrency: int = 0
    queues: tuple[str, ...] = ()
    """These three are known from `worker_init` on."""

    @property
    def name(self) -> str:
        """The host name, so that `connect(sender="worker@host")` finds it."""
        return self.hostname

    @property
    def controller(self) -> WorkerInfo:
        """Itself: there is no consumer apart from the worker here."""
        return self

    def __str__(self) -> str:
        return self.hostname


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageInfo:
    """What receivers learn of a message that does not run."""

    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    delivery_info: Mapping[str, Any]
    reason: str = ""


class CommandLine(Protocol):
    """What the command line said."""

    @property
    def hostname(self) -> str:
        """The worker's name; empty for the usual one."""
        ...

    @property
    def queues(self) -> tuple[str, ...]:
        """What to consume; empty for the usual one."""
        ...

    @property
    def purge(self) -> bool:
        """Whether to begin with empty queues."""
        ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings that were given."""
        ...

    @property
    def logging_setup(self) -> Mapping[str, Any]:
        """How to log."""
        ...


def told_options(given: CommandLine) -> dict[str, Any]:
    """The command line's options under Celery's names, for receivers."""
    settings = {name: given.settings[name] for name in _TOLD_OPTIONS if name in given.settings}
    return {
        "hostname": given.hostname or None,
        "queues": list(given.queues),
        "purge": given.purge,
        "loglevel": given.logging_setup.get("level"),
        "logfile": given.logging_setup.get("logfile"),
        **{_TOLD_OPTIONS[name]: value for name, value in settings.items()},
    }


class Receivers:
    """Sends the signals of one worker."""

    def __init__(self, app: Cardoon, info: WorkerInfo) -> None:
        self._app = app
        self.info = info

    def announce_birth(self) -> None:
        """`celeryd_init`: the last moment to change settings."""
        signals.celeryd_init.send(
            sender=self.info.hostname,
            instance=self.info,
            conf=self._app.conf,
            options=dict(self.info.options),
        )

    def announce_beginning(self, logging_setup: Mapping[str, Any]) -> None:
        """`worker_init`, those of logging, and `celeryd_after_setup`, before the first task process."""
        signals.worker_init.send(sender=self.info)
        if logging_setup:
            arrange_logging(self._app.conf.explicit, logging_setup)
        signals.celeryd_after_setup.send(
            sender=self.info.hostname, instance=self.info, conf=self._app.conf
        )

    def announce(self, notice: Mapping[str, Any]) -> None:
        """The signal of a notice; see `notices`."""
        info = self.info
        match notice["signal"]:
            case "worker_ready":
                signals.worker_ready.send(sender=info)
            case "heartbeat_sent":
                signals.heartbeat_sent.send(sender=info)
            case "worker_shutting_down":
                signals.worker_shutting_down.send(
                    sender=info.hostname, sig=notice["sig"], how=notice["how"], exitcode=0
                )
            case "worker_shutdown":
                signals.worker_shutdown.send(sender=info)
            case "task_received":
                signals.task_received.send(sender=info, request=self._request(notice))
            case "task_revoked":
                signals.task_revoked.send(
                    sender=self._task(notice),
                    request=self._request(notice),
                    terminated=notice["terminated"],
                    signum=notice["signum"],
                    expired=notice["expired"],
                )
            case "task_failure":
                self._announce_failure(notice)
            case "task_unknown":
                self._announce_unknown(notice)
            case "task_rejected":
                self._announce_rejected(notice)
            case name:
                raise AssertionError(name)

    def _announce_failure(self, notice: Mapping[str, Any]) -> None:
        """The failure of a task whose process could not tell of it: killed, or lost."""
        told = notice["error"]
        error = _FAILURES[told["type"]](told["message"])
        signals.task_failure.send(
            sender=self._task(notice),
            task_id=notice["call"]["id"],
            exception=error,
            args=[],
            kwargs={},
            traceback=None,
            einfo=ExceptionInfo.of(error, f"{told['type']}: {told['message']}"),
        )

    def _announce_unknown(self, notice: Mapping[str, Any]) -> None:
        call = notice["call"]
        message = MessageInfo(
            headers={
                **(call["headers"].get("headers") or {}),
                "id": call["id"],
                "task": call["task"],
            },
            properties={"correlation_id": call["id"]},
            delivery_info={"exchange": "", "routing_key": call["queue"]},
            reason="unknown task",
        )
        signals.task_unknown.send(
            sender=self.info,
            message=message,
            exc=NotRegistered(f"no worker here knows {call['task']!r}"),
            name=call["task"],
            id=call["id"],
        )

    def _announce_rejected(self, notice: Mapping[str, Any]) -> None:
        message = MessageInfo(
            headers={"id": notice["id"]},
            properties={"correlation_id": notice["id"]},
            delivery_info={"exchange": "", "routing_key": notice["queue"]},
            reason=notice["reason"],
        )
        error = RefusedError(Refusal(notice["reason"]), notice["detail"])
        signals.task_rejected.send(sender=self.info, message=message, exc=error)

    def _task(self, notice: Mapping[str, Any]) -> Any:
        return self._app.tasks.get(notice["call"]["task"])

    def _request(self, notice: Mapping[str, Any]) -> Any:
        return request_of({**notice["call"], "hostname": self.info.hostname})


class LocalHerald:
    """`Notices` of a worker that has the app itself (pool `solo`): receivers run in a thread beside it."""

    def __init__(self, receivers: Receivers) -> None:
        self.wanted = NOTICES.intersection(heard_signals())
        self._receivers = receivers
        self._ended = threading.Event()
        beat = self._beat if "heartbeat_sent" in self.wanted else None
        self._outbox: Outbox[Mapping[str, Any]] = Outbox(self._send, name="herald", beat=beat)

    def start(self) -> None:
        """Begin to send."""
        self._outbox.start()

    def tell(self, name: str, told: Mapping[str, Any]) -> None:
        """Have a signal sent."""
        error = told.get("error")
        if error is not None and error["type"] == "TimeLimitExceeded":
            return  # it was raised inside of the task, whose failure has been told
        self._outbox.put({"signal": name, **told}, _USUAL_BYTES)

    def run(self, work: Callable[[WorkerInfo], None]) -> bool:
        """Have something done in the thread of the receivers."""
        return self._outbox.put({"signal": "command", "run": work}, _USUAL_BYTES)

    def close(self, timeout: float) -> None:
        """Send `worker_shutdown`, and wait until receivers are done, or for `timeout` seconds."""
        if self.wanted:
            self.tell("worker_shutdown", {})
            if not self._ended.wait(timeout):
                logger.warning("receivers of signals did not end within %g seconds", timeout)
        self._outbox.close()

    def _beat(self) -> None:
        self.tell("heartbeat_sent", {})

    def _send(self, notice: Mapping[str, Any]) -> None:
        try:
            with limited(notice["signal"]):
                if "run" in notice:
                    notice["run"](self._receivers.info)
                else:
                    self._receivers.announce(notice)
        finally:
            if notice["signal"] == "worker_shutdown":
                self._ended.set()


_USUAL_BYTES = 1024
"""What a notice counts that is not packed."""


def heard_signals() -> list[str]:
    """The signals with receivers, of those that the worker must know of."""
    heard = {
        "worker_ready": signals.worker_ready,
        "heartbeat_sent": signals.heartbeat_sent,
        "worker_shutting_down": signals.worker_shutting_down,
        "worker_shutdown": signals.worker_shutdown,
        "worker_process_shutdown": signals.worker_process_shutdown,
        "task_received": signals.task_received,
        "task_revoked": signals.task_revoked,
        "task_failure": signals.task_failure,
        "task_unknown": signals.task_unknown,
        "task_rejected": signals.task_rejected,
    }
    return [name for name, one in heard.items() if one.receivers]


def arrange_logging(explicit: Mapping[str, Any], setup: Mapping[str, Any]) -> None:
    """Set up logging as the app's settings say, or leave it to a receiver of `setup_logging`.

    `setup` is how the worker logs, which this process has done so far. What a receiver of
    `setup_logging` raises is raised, as in Celery: nobody would see a log of it.
    """
    formats = log_formats(explicit)
    arguments = {**setup, **formats}
    told = {
        "loglevel": LEVELS[arguments["level"].lower()],
        "logfile": arguments["logfile"],
        "colorize": False,
    }
    if signals.setup_logging.receivers:
        release_logging()
        answers = signals.setup_logging.send(sender=None, format=arguments["log_format"], **told)
        for _, answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return
    if formats:
        setup_logging(**arguments)
    signals.after_setup_logger.send(
        sender=None, logger=logging.getLogger(), format=arguments["log_format"], **told
    )
    signals.after_setup_task_logger.send(
        sender=None,
        logger=logging.getLogger(TASK_LOGGER),
        format=arguments["task_format"],
        **told,
    )


@contextmanager
def limited(name: str, seconds: float = MAX_SECONDS) -> Iterator[None]:
    """Stop the receivers of a signal that take longer, and keep those that raise from ending more.

    Only in a main thread, whose alarm it uses; elsewhere they may take as long as they want.
    """
    if threading.current_thread() is not threading.main_thread():
        with _outlived(name):
            yield
        return
    armed = True

    def stop(_number: int, _frame: StackFrame | None) -> None:
        if armed:
            raise _TooLongError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with _outlived(name):
            yield
        armed = False
    except _TooLongError:
        logger.error("receivers of %s took %g seconds and were stopped", name, seconds)  # noqa: TRY400
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _outlived(name: str) -> Iterator[None]:
    """Log the wish of a receiver to end the process, which is not its own."""
    try:
        yield
    except SystemExit:
        logger.exception("a receiver of %s raised SystemExit", name)


class _TooLongError(BaseException):
    """The alarm rang. No `Exception`, so that no receiver takes it for one of its own."""
