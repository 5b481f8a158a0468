"""OpenTelemetry: spans and metrics of sends and tasks, with the trace's context inside of the signed message.

    from cardoon.contrib.otel import CardoonInstrumentor

    CardoonInstrumentor().instrument()

in the module of the app, so that clients and task processes have it alike. Names and attributes are those of the
semantic conventions for messaging (in development when this was written). Needs `pip install 'cardoon[otel]'`, which is the API;
which SDK and exporter there are is the program's own choice.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, MutableMapping
from contextvars import Token
from typing import Any, NamedTuple

from opentelemetry import baggage, context, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cardoon import __version__, states
from cardoon.exceptions import ImproperlyConfigured
from cardoon.signals import (
    after_task_publish,
    before_task_publish,
    task_failure,
    task_not_published,
    task_postrun,
    task_prerun,
    task_retry,
    worker_process_shutdown,
)

SYSTEM = "cardoon"
"""The value of `messaging.system`."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds, as the conventions have them."""
MAX_OPEN = 10_000
"""Spans that wait for their end; the oldest is ended beyond that, lest a program that loses track fill its memory."""
MAX_STATE = 512
"""Characters of `tracestate`, as W3C's Trace Context asks for."""
MAX_BAGGAGE = 1024
"""Characters of one value of baggage."""

_PROPAGATOR = TraceContextTextMapPropagator()
_BAGGAGE = "baggage."
"""Before the name of each item of baggage that travels; there are few, and each was named."""


class _Open(NamedTuple):
    """A span that has begun."""

    span: Span
    attributes: dict[str, str]
    began: float
    token: Token[Context] | None = None


class CardoonInstrumentor:
    """Makes spans and metrics of what this process sends and runs, by listening to signals.

    `baggage` are the names of baggage that may travel with a message; everything else of it stays where it is, on
    the way out and on the way in. `flush_seconds` has the tracer provider export after each task for so long at most: for the pool `isolated`, where a process ends with its task.
    """

    def __init__(
        self, *, baggage: Collection[str] = (), flush_seconds: float | None = None
    ) -> None:
        if isinstance(baggage, str):
            raise ImproperlyConfigured(
                f"CardoonInstrumentor: baggage={baggage!r} is one text; give a list of names"
            )
        self._names = tuple(baggage)
        self._flush_seconds = flush_seconds
        self._provider: TracerProvider | None = None
        self._lock = threading.Lock()  # protects the two tables
        self._sending: OrderedDict[str, _Open] = OrderedDict()
        self._running: OrderedDict[tuple[str, int], _Open] = OrderedDict()

    def instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        """Begin, in place of whatever instrumented this process before.

        By default with the global providers, also those that are set later.
        """
        self.uninstrument()
        self._provider = tracer_provider
        self._tracer = trace.get_tracer(SYSTEM, __version__, tracer_provider)
        meter = metrics.get_meter(SYSTEM, __version__, meter_provider)

        def seconds(name: str, text: str) -> Any:
            return meter.create_histogram(
                name, unit="s", description=text, explicit_bucket_boundaries_advisory=BUCKETS
            )

        self._send_duration = seconds("messaging.client.operation.duration", "Seconds of a send.")
        self._run_duration = seconds("messaging.process.duration", "Seconds that a task ran.")
        self._sent = meter.create_counter(
            "messaging.client.sent.messages", unit="{message}", description="Calls sent."
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", unit="{message}", description="Tasks begun."
        )
        for signal, receiver in self._receivers():
            signal.connect(receiver, weak=False, dispatch_uid=_uid(receiver))

    def uninstrument(self) -> None:
        """Listen no more."""
        for signal, receiver in self._receivers():
            signal.disconnect(receiver, dispatch_uid=_uid(receiver))

    def _receivers(self) -> tuple[tuple[Any, Any], ...]:
        return (
            (before_task_publish, self._begin_send),
            (after_task_publish, self._end_send),
            (task_not_published, self._fail_send),
            (task_prerun, self._begin_task),
            (task_failure, self._note_failure),
            (task_retry, self._note_retry),
            (task_postrun, self._end_task),
            (worker_process_shutdown, self._flush),
        )

    # Who sends

    def _begin_send(
        self, sender: str, headers: MutableMapping[str, Any], routing_key: str, **_: Any
    ) -> None:
        task_id = str(headers["id"])
        attributes = _attributes("send", "send", queue=routing_key, task=sender)
        span = self._tracer.start_span(
            f"send {routing_key}",
            kind=SpanKind.PRODUCER,
            attributes={**attributes, **_ids(task_id, headers.get("root_id"))},
        )
        carried: dict[str, str] = {}
        _PROPAGATOR.inject(carried, trace.set_span_in_context(span))
        headers.pop("tracestate", None)  # of an earlier message that this one takes the place of
        if "traceparent" in carried:
            headers["traceparent"] = carried["traceparent"]
            if 0 < len(state := carried.get("tracestate", "")) <= MAX_STATE:
                headers["tracestate"] = state
        for name in self._names:
            if isinstance(value := baggage.get_baggage(name), str) and len(value) <= MAX_BAGGAGE:
                headers[_BAGGAGE + name] = value
        self._open(self._sending, task_id, _Open(span, attributes, time.perf_counter()))

    def _end_send(self, headers: Mapping[str, Any], **_: Any) -> None:
        self._close_send(str(headers["id"]), None)

    def _fail_send(self, task_id: str, exception: BaseException | None, **_: Any) -> None:
        self._close_send(task_id, exception or _DuplicateError())

    def _close_send(self, task_id: str, error: BaseException | None) -> None:
        with self._lock:
            found = self._sending.pop(task_id, None)
        if found is None:
            return
        attributes = found.attributes
        if isinstance(error, _DuplicateError):
            found.span.set_attribute("cardoon.duplicate", True)  # a unique task, sent before
        elif error is not None:
            attributes = {**attributes, "error.type": type(error).__name__}
            _mark(found.span, error)
        found.span.end()
        self._send_duration.record(time.perf_counter() - found.began, attributes)
        if error is None or not isinstance(error, _DuplicateError):
            self._sent.add(1, attributes)

    # Who runs

    def _begin_task(self, task_id: str | None, task: Any, **_: Any) -> None:
        request = task.request
        headers = request.headers if isinstance(request.headers, Mapping) else {}
        queue = str(request.delivery_info.get("routing_key") or "") if request.delivery_info else ""
        attributes = _attributes("process", "process", queue=queue, task=task.name)
        around = self._context_of(headers)
        span = self._tracer.start_span(
            f"process {task.name}",
            context=around,
            kind=SpanKind.INTERNAL if request.is_eager else SpanKind.CONSUMER,
            attributes={
                **attributes,
                **_ids(task_id or "", request.root_id),
                **({"messaging.client.id": request.hostname} if request.hostname else {}),
                "cardoon.task.retries": request.retries,
            },
        )
        token = context.attach(trace.set_span_in_context(span, around))
        opened = _Open(span, attributes, time.perf_counter(), token)
        self._open(self._running, (task_id or "", id(request)), opened)
        if not request.is_eager:
            self._consumed.add(1, attributes)

    def _note_failure(self, sender: Any, exception: BaseException, **_: Any) -> None:
        found = self._running_of(sender)
        if found is not None:
            found.attributes["error.type"] = type(exception).__name__
            _mark(found.span, exception)

    def _note_retry(self, sender: Any, reason: Any, **_: Any) -> None:
        found = self._running_of(sender)
        if found is not None:
            error = reason.exc or reason
            found.attributes["error.type"] = type(error).__name__
            found.span.set_attribute("error.type", type(error).__name__)
            found.span.add_event("retry", {"exception.type": type(error).__name__})

    def _end_task(self, task_id: str | None, task: Any, state: str, **_: Any) -> None:
        with self._lock:
            found = self._running.pop((task_id or "", id(task.request)), None)
        if found is None:
            return
        found.span.set_attribute("cardoon.task.state", state)
        found.span.end()
        if found.token is not None:
            context.detach(found.token)
        if state != states.PENDING:  # a stopping worker hands it back, and it will run again
            self._run_duration.record(time.perf_counter() - found.began, found.attributes)
        if self._flush_seconds is not None:
            self._export(self._flush_seconds)

    def _running_of(self, task: Any) -> _Open | None:
        request = getattr(task, "request", None)  # of a process that died, another one tells
        with self._lock:
            return self._running.get((getattr(request, "id", None) or "", id(request)))

    def _context_of(self, headers: Mapping[str, Any]) -> Context:
        """The context that the sender has signed; where it signed none, the one that is."""
        carried = {
            name: value
            for name in ("traceparent", "tracestate")
            if isinstance(value := headers.get(name), str) and len(value) <= MAX_STATE
        }
        around = _PROPAGATOR.extract(carried, context.get_current())
        for name in self._names:
            value = headers.get(_BAGGAGE + name)
            if isinstance(value, str) and len(value) <= MAX_BAGGAGE:
                around = baggage.set_baggage(name, value, around)
        return around

    def _open(self, table: OrderedDict[Any, _Open], key: object, opened: _Open) -> None:
        with self._lock:
            lost = table.popitem(last=False)[1] if len(table) >= MAX_OPEN else None
            table[key] = opened
        if lost is not None:
            lost.span.end()

    def _flush(self, **_: Any) -> None:
        self._export(2.0)

    def _export(self, seconds: float) -> None:
        provider = self._provider or trace.get_tracer_provider()
        flush = getattr(provider, "force_flush", None)  # the SDK's; the API has none
        if flush is not None:
            flush(int(seconds * 1000))


class _DuplicateError(Exception):
    """Stands for the unique task that was not sent."""


def _uid(receiver: Any) -> str:
    """One instrumentation for a process, whoever asks for it and how often."""
    return f"cardoon.contrib.otel.{receiver.__name__}"


def _attributes(name: str, kind: str, *, queue: str, task: str) -> dict[str, str]:
    """What spans and metrics have in common: few values each."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
        "messaging.destination.name": queue,
        "cardoon.task.name": task,
    }


def _ids(task_id: str, root: object) -> dict[str, str]:
    return {
        "messaging.message.id": task_id,
        "messaging.message.conversation_id": str(root or task_id),
    }


def _mark(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))
