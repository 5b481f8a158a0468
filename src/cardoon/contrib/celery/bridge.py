"""The bridge: takes messages from Celery's queues, and signs those that the fence lets pass.

A client with an identity of its own, which is all that workers know of it. One batch at a time: receive,
read, keep what is refused, note whose results are owed, sign and publish, acknowledge.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cardoon.app import Cardoon
from cardoon.audit import REFUSAL_EVENTS
from cardoon.backend import listening
from cardoon.broker import Inspectable
from cardoon.calling import check_options
from cardoon.config import content_kind
from cardoon.contrib.celery.amqp import AmqpSource
from cardoon.contrib.celery.fence import Fence
from cardoon.contrib.celery.journal import Journal, Owed
from cardoon.contrib.celery.reading import Asked, Reader, printable
from cardoon.contrib.celery.redis import RedisSource
from cardoon.contrib.celery.results import Returner
from cardoon.contrib.celery.source import Received, Source
from cardoon.contrib.celery.theirs import find_servers, find_url, make_celery
from cardoon.deployment import Deployment
from cardoon.drafting import call_draft, outgoing_of
from cardoon.exceptions import (
    CardoonError,
    IdentityError,
    ImproperlyConfigured,
    OperationalError,
    Refusal,
    RefusedError,
)
from cardoon.producer import BRIDGED, Producer
from cardoon.sender import Call

logger = logging.getLogger(__name__)

R = TypeVar("R")
ROLE = "bridge"
BATCH = 100
"""Messages at most; together at most 32 MiB and one message."""
RESULT_DAYS = 86400.0
"""Seconds for which a result is owed where `result_expires` says nothing."""
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
_REPORT_SECONDS = 60.0
_STOP_SECONDS = 5.0
_MAX_TOLD_HEADERS = 64 * 1024


@dataclass(slots=True)
class Counts:
    """What a bridge has done since its start."""

    forwarded: int = 0
    """Signed and stored; a message that came twice is counted twice."""
    refused: int = 0
    returned: int = 0
    """Results that Celery's backend was told."""


class _StoppedError(Exception):
    """The bridge is to stop, and what it holds goes back."""


class Bridge:
    """Between the queues of a fence and the broker of an app.

    Raises at once for what is not configured: `ImproperlyConfigured` names the setting. `run` then waits
    for servers that are away for as long as it takes. `remember` are the seconds for which a message that
    comes again is known (`security_max_age`): with `auth`, for which a signed body cannot be repeated.
    """

    def __init__(
        self,
        app: Cardoon,
        fence: Fence | None = None,
        *,
        broker_url: str = "",
        result_backend: str = "",
        remember: float | None = None,
    ) -> None:
        settings = app.settings
        self._app = app
        self._fence = fence or Fence.of(settings)
        self._settings = settings
        self._clock = app.clock
        self._remember = remember
        if content_kind(settings.task_serializer) == "json":
            raise ImproperlyConfigured(
                "task_serializer='json': the bridge is there to sign what is not signed; use 'auth'"
            )
        for ours in self._fence.queues.values():  # one that nobody may name is an error here
            app.router.find(check_options({"queue": ours}), app.router.defaults_of_unknown(ROLE))
        url = find_url(settings, broker_url, "celery_broker_url")
        servers = find_servers(settings, url, "celery_broker_url")
        queues = list(self._fence.queues)
        is_amqp = servers[0].kind == "amqp"
        self._source: Source = (
            AmqpSource(servers, queues)
            if is_amqp
            else RedisSource(servers, queues, max_bytes=settings.message_max_bytes)
        )
        # On Redis, 0 is the most urgent and what everybody has; its lists are read in that order.
        self._reader = Reader(
            self._fence, max_bytes=settings.message_max_bytes, ranks_priorities=is_amqp
        )
        self._deployment = Deployment(settings, clock=app.clock, role=ROLE)
        self._producer = Producer(self._deployment)
        self._broker = self._producer.stores[0]
        self._signer = self._deployment.make_signer(settings.task_serializer)
        self._audit = self._deployment.audit()
        if not isinstance(self._broker, Inspectable):
            raise ImproperlyConfigured(
                "broker_url: this broker keeps no quarantine, and the bridge drops nothing"
            )
        self._keep: Inspectable = self._broker
        self._journal: Journal | None = None
        self._returner: Returner | None = None
        backend = find_url(settings, result_backend, "celery_result_backend")
        if backend:
            self._owe_results(url, backend)
        self._stop = threading.Event()
        self._is_closed = False
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        if self._returner is not None:
            self._counts.returned = self._returner.returned
        return self._counts

    @property
    def identity(self) -> str:
        """Who signs."""
        return str(self._deployment.identity().identity)

    def request_stop(self) -> None:
        """End `run` behind the present batch; from any thread, and from a signal's handler."""
        self._stop.set()

    def run(self) -> Counts:
        """Forward messages until `request_stop`; return what was done."""
        self._tell_start()
        if self._returner is not None:
            self._returner.start()
        reported = self._clock.monotonic()
        try:
            while not self._stop.is_set():
                try:
                    self.forward(timeout=1.0)
                except _StoppedError:
                    break
                except OperationalError as error:
                    logger.warning("%s; trying again", error)
                    self._stop.wait(_PAUSES[-1])
                except Exception:  # the loop must outlive any one batch, which comes again
                    logger.exception("bridge")
                    self._source.close()
                    self._stop.wait(_PAUSES[-1])
                if self._clock.monotonic() - reported >= _REPORT_SECONDS:
                    reported = self._clock.monotonic()
                    logger.info("bridge: %s", self.counts)
        finally:
            self.close()
        counts = self.counts
        logger.info("bridge stopped: %s", counts)
        return counts

    def forward(self, *, timeout: float) -> int:
        """One batch: wait up to `timeout` seconds for it; return how many messages it had."""
        batch = self._source.receive(limit=BATCH, timeout=timeout)
        if not batch:
            return 0
        passed: list[tuple[Asked, Call, Received]] = []
        for received in batch:
            try:
                asked = self._reader.read(received)
                passed.append((asked, self._make_call(asked), received))
            except RefusedError as error:
                self._refuse(received, error)
            except OperationalError:
                raise
            except Exception as error:  # routers and receivers of the app's may raise anything
                logger.exception("a message of Celery's could not be read")
                said = f"{type(error).__name__} while it was read"
                self._refuse(received, RefusedError(Refusal.MALFORMED, said))
        if self._journal is not None:
            until = self._clock.now() + (self._settings.result_expires or RESULT_DAYS)
            owed = [
                (
                    Owed(asked.id, asked.reply_to, asked.correlation_id),
                    max(until, (call.eta or 0.0) + RESULT_DAYS),
                )
                for asked, call, _ in passed
                if asked.wants_result
            ]
            self._journal.add(owed)
        self._send(passed)
        self._source.acknowledge()
        return len(batch)

    def close(self) -> None:
        """Give back what is held, and let go of every connection; safe twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stop.set()
        self._source.close()
        if self._returner is not None:
            self._returner.stop(_STOP_SECONDS)
        if self._journal is not None:
            self._journal.close()
        counts = self.counts
        self._audit.record("bridge.stop", forwarded=counts.forwarded, refused=counts.refused)
        self._producer.close()

    def _owe_results(self, broker_url: str, backend: str) -> None:
        kept = self._producer.stores[1]
        if kept is None or listening(kept):  # what is owed is told after a restart, too
            raise ImproperlyConfigured(
                "celery_result_backend is set, but result_backend keeps no results to tell"
            )
        celery = make_celery(
            self._settings, broker_url=broker_url, result_backend=backend, timeout=_STOP_SECONDS
        )
        path = self._deployment.state_directory / "bridge.db"
        self._journal = Journal(path, clock=self._clock)
        self._returner = Returner(self._app, self._producer, self._journal, celery)

    def _tell_start(self) -> None:
        fence = self._fence
        told = {
            "queues": ",".join(f"{theirs}>{ours}" for theirs, ours in fence.queues.items()),
            "tasks": ",".join(fence.tasks),
            "signers": ",".join(self._reader.signers) or "anybody who writes Celery's broker",
        }
        logger.warning("unsafe_celery_bridge: %(signers)s may send %(tasks)s (%(queues)s)", told)
        self._audit.record("config.unsafe", setting="unsafe_celery_bridge")
        self._audit.record("bridge.start", identity=self.identity, **told)

    def _make_call(self, asked: Asked) -> Call:
        """The call, as the app itself would make it; `RefusedError` for one that it would not."""
        try:
            options = check_options(asked.options)
            defaults = self._app.defaults_of(asked.task)
            call = self._app.make_call(asked.task, asked.args, asked.kwargs, options, defaults)
        except OperationalError:
            raise
        except CardoonError as error:
            raise RefusedError(Refusal.BAD_CLAIMS, printable(str(error), 200)) from error
        return call._replace(queue=asked.queue)  # whatever a router of the app's says

    def _send(self, passed: Sequence[tuple[Asked, Call, Received]]) -> None:
        """Sign and publish together; one that cannot be signed must not keep the others."""
        if not passed:
            return
        try:
            self._until_done(lambda: self._publish(passed))
        except OperationalError:
            raise
        except CardoonError as error:
            if len(passed) > 1:
                for one in passed:
                    self._send([one])
                return
            detail = printable(str(error), 200)
            self._refuse(passed[0][2], RefusedError(Refusal.BAD_CLAIMS, detail))
        else:
            self._counts.forwarded += len(passed)

    def _publish(self, passed: Sequence[tuple[Asked, Call, Received]]) -> None:
        try:
            self._deployment.encrypting().check()
        except CardoonError as error:
            raise OperationalError(f"nothing can be sealed now: {error}") from error
        calls = [call for _, call, _ in passed]
        drafts = [
            call_draft(call)._replace(session=asked.session, lifetime=self._remember)
            for asked, call, _ in passed
        ]
        try:
            signed = self._signer.sign(drafts)
        except IdentityError as error:
            # No fault of the messages', which wait until somebody has mended it.
            raise OperationalError(f"the bridge cannot sign: {error}") from error
        outgoing = outgoing_of(calls, signed, self._broker)
        self._broker.publish(outgoing, timeout=self._settings.task_publish_timeout)

    def _refuse(self, received: Received, error: RefusedError) -> None:
        """Quarantine, audit, count: nothing is dropped, and nobody's word but ours is in the log."""
        said = received.headers.get("id")
        task_id = printable(said, 128) if isinstance(said, str) else ""
        logger.warning("message on Celery's queue %s refused: %s", received.queue, error)
        self._audit.record(
            REFUSAL_EVENTS[error.reason],
            kind="celery",
            queue=received.queue,
            message=task_id,
            reason=error.reason.value,
            detail=error.detail,
        )
        self._until_done(
            lambda: self._keep.quarantine(
                queue=f"{BRIDGED}{received.queue}",
                id=task_id,
                frame=_as_evidence(received, self._settings.message_max_bytes),
                reason=error.reason.value,
                detail=error.detail,
            )
        )
        self._counts.refused += 1

    def _until_done(self, action: Callable[[], R]) -> R:
        """Do what our own store has to; while it is away, hold the batch, and ask again."""
        tries = 0
        while True:
            try:
                return action()
            except OperationalError as error:
                logger.warning("%s; trying again", error)
                if self._stop.wait(_PAUSES[min(tries, len(_PAUSES) - 1)]):
                    raise _StoppedError from error
                tries += 1
                self._source.hold()


def _as_evidence(received: Received, max_bytes: int) -> bytes:
    """A refused message as it is kept: all of it, or of one that is too large the beginning."""
    told: dict[str, Any] = {
        "queue": received.queue,
        "content_type": received.content_type,
        "content_encoding": received.content_encoding,
        "headers": _shown(received.headers),
        "properties": _shown(received.properties),
        "bytes": len(received.body),
        "body": base64.b64encode(received.body[:max_bytes]).decode(),
    }
    return json.dumps(told).encode()


def _shown(told: object) -> object:
    try:
        text = json.dumps(told, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        return f"not JSON: {type(error).__name__}"
    return json.loads(text) if len(text) <= _MAX_TOLD_HEADERS else text[:_MAX_TOLD_HEADERS]
