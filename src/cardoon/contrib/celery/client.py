"""Calls of tasks that still run in Celery's workers, by Celery's own client.

What is sent is Celery's: plain JSON, or its `auth`. What comes back is whatever lies in Celery's result
backend, so reading it has to be asked for.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cardoon import states
from cardoon.app import Cardoon
from cardoon.contrib.celery.reading import decode
from cardoon.contrib.celery.signed import CONTENT_TYPE, AuthReader
from cardoon.contrib.celery.source import import_real
from cardoon.contrib.celery.theirs import RPC, find_url, make_celery
from cardoon.deployment import Deployment
from cardoon.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    InvalidTaskError,
    OperationalError,
    RemoteError,
    TimeoutError,  # noqa: A004  # Celery's name
)
from cardoon.result.described import rebuild_exception
from cardoon.retrying import publish_delays, publish_until
from cardoon.security.files import load_guarded, load_secret

R = TypeVar("R")

_OPTIONS = frozenset(
    {
        *("countdown", "eta", "expires", "priority", "task_id", "queue", "exchange", "routing_key"),
        *("time_limit", "soft_time_limit", "ignore_result", "headers", "shadow", "root_id"),
        *("parent_id", "compression"),
    }
)
"""What may be said of a call; a canvas is written where it runs."""
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.5
"""Seconds between two looks at the result backend, which grow."""
_STEPS = 4
"""Answers that one send may wait for: to connect, to open a channel, to publish, to give it up."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class _Link:
    """A Celery app, and what is known of it."""

    app: Any
    has_backend: bool
    serializer: str
    auth: AuthReader | None
    errors: tuple[type[BaseException], ...]

    def decode_signed(self, payload: Any) -> Any:
        """A result whose signature is right."""
        assert self.auth is not None
        frame = payload.encode() if isinstance(payload, str) else bytes(payload)
        return decode(self.auth.read(frame).body)

    @contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Errors of Celery's, as ours."""
        try:
            yield
        except self.errors as error:
            raise OperationalError(f"celery: {what}: {type(error).__name__}: {error}") from error
        except import_real("kombu.exceptions").EncodeError as error:
            raise EncodeError(f"celery: {what}: {error}") from error


def _find_errors(celery: Any, has_backend: bool) -> tuple[type[BaseException], ...]:  # noqa: FBT001
    connection = celery.connection_for_write()
    found = (
        import_real("kombu.exceptions").OperationalError,
        import_real("celery.exceptions").BackendError,
        *connection.connection_errors,
        *connection.channel_errors,
    )
    if has_backend:
        found += tuple(getattr(celery.backend, "connection_errors", ()))
    return (OSError, *found)


class CeleryTasks:
    """Tasks of Celery's, called by name.

    `broker_url` and `result_backend` are those of the settings `celery_broker_url` and
    `celery_result_backend` where they are left out. With `key`, `certificate` and `cert_store` (files)
    messages are signed as Celery's `auth`, and results must be. A send raises `OperationalError` within
    `task_publish_timeout`; whether the message was stored is then not known, and its `task_id` may be sent
    again. Safe from threads, but results of `rpc://` are read by the thread that sent.
    """

    def __init__(
        self,
        app: Cardoon,
        broker_url: str = "",
        result_backend: str = "",
        *,
        queue: str = "celery",
        unsafe_accept_celery_results: bool = False,
        key: str = "",
        key_password: str = "",
        certificate: str = "",
        cert_store: Sequence[str] = (),
        digest: str = "sha256",
    ) -> None:
        if (key or certificate or cert_store) and not (key and certificate and cert_store):
            raise ImproperlyConfigured("CeleryTasks: auth needs key, certificate and cert_store")
        self._app = app
        self._given = (broker_url, result_backend)
        self._queue = queue
        self._accepts = unsafe_accept_celery_results
        self._signing = (key, key_password, certificate, tuple(cert_store), digest)
        self._lock = threading.Lock()  # protects the next
        self._link: _Link | None = None

    @property
    def _celery(self) -> _Link:
        """Made at the first use, so that processes that import the app need no address."""
        with self._lock:
            if self._link is None:
                self._link = self._connect()
            return self._link

    def _connect(self) -> _Link:
        settings = self._app.settings
        backend = find_url(settings, self._given[1], "celery_result_backend")
        made = make_celery(
            settings,
            broker_url=find_url(settings, self._given[0], "celery_broker_url"),
            result_backend=backend,
            timeout=settings.task_publish_timeout / _STEPS,
        )
        auth, serializer = None, "json"
        key, password, certificate, store, digest = self._signing
        if key:
            if backend == RPC:
                raise ImproperlyConfigured("CeleryTasks: auth reads no results of rpc://")
            auth = AuthReader(store, digest=digest)
            serializer = _register_auth(key, password, certificate, digest)
        if self._accepts:
            audit = Deployment(settings, clock=self._app.clock).audit()
            audit.record("config.unsafe", setting="unsafe_accept_celery_results")
            audit.close()
        return _Link(made, bool(backend), serializer, auth, _find_errors(made, bool(backend)))

    def send_task(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> CeleryResult:
        """Send one call; options are those of `apply_async` but for the canvas's.

        `InvalidTaskError` for any other, `EncodeError` for arguments that Celery's JSON cannot carry.
        """
        for option in options:
            if option not in _OPTIONS:
                raise InvalidTaskError(
                    f"CeleryTasks.send_task: unknown option {option!r}; use {', '.join(sorted(_OPTIONS))}"
                )
        if "routing_key" not in options and "exchange" not in options:
            options.setdefault("queue", self._queue)
        options.setdefault("task_id", import_real("kombu.utils.uuid").uuid())
        settings, link = self._app.settings, self._celery
        timeout = settings.task_publish_timeout

        def send(left: float) -> None:
            if left < timeout * (1 - 1 / _STEPS):  # one try may take nearly all of it
                raise OperationalError(
                    f"celery: send_task: not confirmed within {timeout:g} seconds"
                )
            with link.failing("send_task"):
                link.app.send_task(
                    name, list(args), dict(kwargs or {}), serializer=link.serializer, **options
                )

        again = settings.task_publish_retry
        publish_until(
            send,
            timeout=timeout,
            delays=publish_delays(settings.task_publish_retry_policy) if again else iter(()),
            clock=self._app.clock,
        )
        return self.AsyncResult(options["task_id"])

    def AsyncResult(self, task_id: str) -> CeleryResult:  # noqa: N802  # Celery's name
        """The handle on the result of a task that was sent."""
        return CeleryResult(task_id, self)

    def revoke(self, task_id: str, *, terminate: bool = False) -> None:
        """Ask Celery's workers not to run it, or with `terminate` to stop it."""
        with self._celery.failing("revoke"):
            self._celery.app.control.revoke(task_id, terminate=terminate)

    def forget(self, task_id: str) -> None:
        """Delete its result."""
        with self._celery.failing("forget"):
            self._celery.app.backend.forget(task_id)

    def load(self, task_id: str) -> Mapping[str, Any]:
        """What Celery's result backend says of a task: `status`, `result`, `traceback`, ..."""
        if not self._accepts:
            raise ImproperlyConfigured(
                "results of Celery's are what the writers of its result backend say; to believe them, "
                "set CeleryTasks(..., unsafe_accept_celery_results=True)"
            )
        link = self._celery
        if not link.has_backend:
            raise ImproperlyConfigured("celery_result_backend is not set; name where results are")
        backend = link.app.backend
        # No result chooses what is constructed here; `exception_of` makes what may be made.
        backend.exception_to_python = _as_it_is
        if link.auth is not None:
            backend.decode = link.decode_signed
        with link.failing("result"):
            found: Mapping[str, Any] = backend.get_task_meta(task_id)
        return found

    def close(self) -> None:
        """Let go of Celery's connections; the next use connects again."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.app.close()


class CeleryResult:
    """The result of a task that runs in a Celery worker; believed, not verified."""

    def __init__(self, task_id: str, tasks: CeleryTasks) -> None:
        self.id = task_id
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<CeleryResult {self.id}>"

    @property
    def state(self) -> str:
        """As Celery tells it."""
        return str(self._tasks.load(self.id).get("status", states.PENDING))

    status = state

    @property
    def result(self) -> Any:
        """The value, the exception (not raised), or what a state on the way says."""
        return _value_of(self._tasks.load(self.id))

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed task, as text."""
        found = self._tasks.load(self.id).get("traceback")
        return found if isinstance(found, str) else None

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether it has ended well."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it has ended with an exception."""
        return self.state == states.FAILURE

    def get(self, timeout: float | None = None, propagate: bool = True) -> Any:  # noqa: FBT001, FBT002
        """Wait for the end, and return the value or raise the exception.

        `cardoon.exceptions.TimeoutError` after `timeout` seconds, `RemoteError` for an exception that
        is not built in, `OperationalError` where the backend is away.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK
        while (found := self._tasks.load(self.id)).get("status") not in states.READY_STATES:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"task {self.id}: no result from Celery in {timeout:g} seconds")
            time.sleep(pause)
            pause = min(_LAST_LOOK, pause * 1.5)
        value = _value_of(found)
        if propagate and found["status"] in states.PROPAGATE_STATES:
            raise value
        return value

    def revoke(self, *, terminate: bool = False) -> None:
        """Ask the workers not to run it, or with `terminate` to stop it."""
        self._tasks.revoke(self.id, terminate=terminate)

    def forget(self) -> None:
        """Delete the result."""
        self._tasks.forget(self.id)


def exception_of(told: Any) -> BaseException:
    """The exception that a result of Celery's describes; only a built-in one is rebuilt."""
    if not isinstance(told, Mapping):
        return RemoteError("UnknownError", str(told)[:1000])
    said = told.get("exc_message")
    parts = said if isinstance(said, (list, tuple)) else [said]
    message = str(parts[0]) if len(parts) == 1 else str(tuple(parts))
    return rebuild_exception(
        {
            "type": str(told.get("exc_type", "UnknownError")),
            "module": str(told.get("exc_module", "")),
            "message": message,
        }
    )


def _value_of(found: Mapping[str, Any]) -> Any:
    value = found.get("result")
    return exception_of(value) if found.get("status") in states.EXCEPTION_STATES else value


def _as_it_is(value: Any) -> Any:
    return value


def _register_auth(key: str, password: str, certificate: str, digest: str) -> str:
    """Celery's signing serializer under a name of its own, which reads nothing: two keys may be used."""
    signing = import_real("celery.security.serialization")
    made = signing.SecureSerializer(
        import_real("celery.security.key").PrivateKey(
            load_secret(Path(key)), password=password or None
        ),
        import_real("celery.security.certificate").Certificate(load_guarded(Path(certificate))),
        digest=digest,
    )
    name = f"cardoon-auth-{next(_numbers)}"
    write: Callable[[Any], Any] = made.serialize
    import_real("kombu.serialization").register(
        name, write, None, content_type=CONTENT_TYPE, content_encoding="utf-8"
    )
    return name
