"""Spans and metrics of sends and tasks in one process, as OpenTelemetry's own SDK collects them."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from cardoon.contrib import otel
from cardoon.contrib.otel import CardoonInstrumentor
from cardoon.exceptions import ImproperlyConfigured


class Seen:
    """What the SDK has collected."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    def spans(self):
        return list(self.exporter.get_finished_spans())

    def points(self, name):
        found = self.reader.get_metrics_data()
        return [
            point
            for resource in (found.resource_metrics if found else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def seen():
    made = Seen()
    instrumentor = CardoonInstrumentor()
    instrumentor.instrument(tracer_provider=made.traces, meter_provider=made.meters)
    yield made
    instrumentor.uninstrument()
    # Or they live as long as the process, and look at their resource in threads in each of its forks.
    made.traces.shutdown()
    made.meters.shutdown()


@pytest.fixture
def add(app):
    @app.task(name="shop.add")
    def add(x, y):
        return x + y

    return add


def test_a_send_is_a_span_and_counted(app, add, seen):
    sent = add.delay(1, 2)

    [span] = seen.spans()
    assert (span.name, span.kind, span.parent) == ("send celery", SpanKind.PRODUCER, None)
    assert dict(span.attributes) == {
        "messaging.system": "cardoon",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "celery",
        "messaging.message.id": sent.id,
        "messaging.message.conversation_id": sent.id,
        "cardoon.task.name": "shop.add",
    }
    [count] = seen.points("messaging.client.sent.messages")
    assert count.value == 1
    assert count.attributes["messaging.destination.name"] == "celery"
    assert "messaging.message.id" not in count.attributes
    [duration] = seen.points("messaging.client.operation.duration")
    assert duration.count == 1
    assert tuple(duration.explicit_bounds) == otel.BUCKETS


def test_a_unique_task_that_was_sent_before_ends_its_span_and_is_not_counted(app, seen):
    @app.task(name="shop.once", unique=60)
    def once():
        pass

    once.delay()
    once.delay()

    first, second = seen.spans()
    assert "cardoon.duplicate" not in first.attributes
    assert second.attributes["cardoon.duplicate"] is True
    [count] = seen.points("messaging.client.sent.messages")
    assert count.value == 1


def test_a_task_is_measured_with_the_type_of_its_error(app, add, seen):
    @app.task(name="shop.fail")
    def fail():
        raise KeyError("no")

    add.apply((1, 2))
    fail.apply()

    good, bad = seen.spans()
    assert (good.name, good.kind, good.status.status_code) == (
        "process shop.add",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert bad.status.status_code is StatusCode.ERROR
    assert bad.attributes["error.type"] == "KeyError"
    measured = {
        point.attributes["cardoon.task.name"]: point.attributes.get("error.type")
        for point in seen.points("messaging.process.duration")
    }
    assert measured == {"shop.add": None, "shop.fail": "KeyError"}


def test_a_canvas_has_a_send_for_each_step(app, add, seen):
    (add.s(1, 2) | add.s(3)).apply_async()

    assert [span.name for span in seen.spans()] == ["send celery", "send celery"]


def test_instrumented_twice_is_instrumented_once(app, add, seen):
    again = CardoonInstrumentor()
    again.instrument(tracer_provider=seen.traces, meter_provider=seen.meters)

    add.delay(1, 2)

    assert len(seen.spans()) == 1
    again.uninstrument()
    add.delay(1, 2)
    assert len(seen.spans()) == 1


def test_spans_that_nobody_ends_do_not_fill_the_memory(app, seen, monkeypatch):
    monkeypatch.setattr(otel, "MAX_OPEN", 5)
    instrumentor = CardoonInstrumentor()
    instrumentor.instrument(tracer_provider=seen.traces, meter_provider=seen.meters)

    for number in range(20):
        instrumentor._begin_send("shop.add", {"id": str(number)}, "celery")

    assert len(instrumentor._sending) == 5
    assert len(seen.spans()) == 15
    instrumentor.uninstrument()


def test_one_text_is_no_list_of_names():
    with pytest.raises(ImproperlyConfigured, match="list of names"):
        CardoonInstrumentor(baggage="tenant")
