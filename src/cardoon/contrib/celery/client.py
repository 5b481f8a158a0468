"""Calls of tasks that still run in Celery's workers, by Celery's own client.

What is sent is Celery's: plain JSON, or its `auth`. What comes back is whatever lies in Celery's result
backend, so reading it has to be asked for.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        settings = app.settings
        self._settings = settings
        self._clock = app.clock
        self._queue = queue
        self._accepts = unsafe_accept_celery_results
        backend = find_url(settings, result_backend, "celery_result_backend")
        self._celery = make_celery(
            settings,
            broker_url=find_url(settings, broker_url, "celery_broker_url"),
            result_backend=backend,
            timeout=settings.task_publish_timeout / _STEPS,
        )
        self._has_backend = bool(backend)
        self._auth: AuthReader | None = None
        self._serializer = "json"
        if key or certificate or cert_store:
            if not (key and certificate and cert_store):
                raise ImproperlyConfigured(
                    "CeleryTasks: auth needs all of key, certificate and cert_store"
                )
            if backend == RPC:
                raise ImproperlyConfigured("CeleryTasks: auth reads no results of rpc://")
            self._auth = AuthReader(cert_store, digest=digest)
            self._serializer = _register_auth(key, key_password, certificate, digest)
        self._errors = self._find_errors()
        if unsafe_accept_celery_results:
            audit = Deployment(settings, clock=app.clock).audit()
            audit.record("config.unsafe", setting="unsafe_accept_celery_results")
            audit.close()

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
        settings = self._settings
        timeout = settings.task_publish_timeout

        def send(left: float) -> None:
            if left < timeout * (1 - 1 / _STEPS):  # one try may take nearly all of it
                raise OperationalError(
                    f"celery: send_task: not confirmed within {timeout:g} seconds"
                )
            with self._failing("send_task"):
                self._celery.send_task(
                    name, list(args), dict(kwargs or {}), serializer=self._serializer, **options
                )

        again = settings.task_publish_retry
        publish_until(
            send,
            timeout=timeout,
            delays=publish_delays(settings.task_publish_retry_policy) if again else iter(()),
            clock=self._clock,
        )
        return self.AsyncResult(options["task_id"])

    def AsyncResult(self, task_id: str) -> CeleryResult:  # noqa: N802  # Celery's name
        """The handle on the result of a task that was sent."""
        return CeleryResult(task_id, self)

    def revoke(self, task_id: str, *, terminate: bool = False) -> None:
        """Ask Celery's workers not to run it, or with `terminate` to stop it."""
        with self._failing("revoke"):
            self._celery.control.revoke(task_id, terminate=terminate)

    def forget(self, task_id: str) -> None:
        """Delete its result."""
        with self._failing("forget"):
            self._celery.backend.forget(task_id)

    def load(self, task_id: str) -> Mapping[str, Any]:
        """What Celery's result backend says of a task: `status`, `result`, `traceback`, ..."""
        if not self._accepts:
            raise ImproperlyConfigured(
                "results of Celery's are what the writers of its result backend say; to believe them, "
                "set CeleryTasks(..., unsafe_accept_celery_results=True)"
            )
        if not self._has_backend:
            raise ImproperlyConfigured("celery_result_backend is not set; name where results are")
        backend = self._celery.backend
        # No result chooses what is constructed here; `exception_of` makes what may be made.
        backend.exception_to_python = _as_it_is
        if self._auth is not None:
            backend.decode = self._decode_signed
        with self._failing("result"):
            found: Mapping[str, Any] = backend.get_task_meta(task_id)
        return found

    def close(self) -> None:
        """Let go of Celery's connections; the next use connects again."""
        self._celery.close()

    def _decode_signed(self, payload: Any) -> Any:
        assert self._auth is not None
        frame = payload.encode() if isinstance(payload, str) else bytes(payload)
        return decode(self._auth.read(frame).body)

    def _find_errors(self) -> tuple[type[BaseException], ...]:
        connection = self._celery.connection_for_write()
        kombu = import_real("kombu.exceptions")
        celery = import_real("celery.exceptions")
        found = (kombu.OperationalError, celery.BackendError)
        found += (*connection.connection_errors, *connection.channel_errors)
        if self._has_backend and hasattr(self._celery.backend, "connection_errors"):
            found += tuple(self._celery.backend.connection_errors)
        return (OSError, *found)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        """Errors of Celery's, as ours."""
        try:
            yield
        except self._errors as error:
            raise OperationalError(f"celery: {what}: {type(error).__name__}: {error}") from error
        except import_real("kombu.exceptions").EncodeError as error:
            raise EncodeError(f"celery: {what}: {error}") from error


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
