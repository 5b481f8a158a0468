"""An app whose spans each process writes to a file of its own, one JSON object a line."""

import json
import os
from pathlib import Path

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from cardoon import Cardoon
from cardoon.contrib.otel import CardoonInstrumentor
from cardoon.signals import worker_process_init

app = Cardoon("traced")


class LineExporter(SpanExporter):
    """Appends each span to a file that has the process in its name."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder) / f"spans-{os.getpid()}.jsonl"

    def export(self, spans):
        with self._path.open("a", encoding="utf-8") as file:
            for span in spans:
                told = json.loads(span.to_json(indent=None)) | {"pid": os.getpid()}
                file.write(json.dumps(told) + "\n")
        return SpanExportResult.SUCCESS


def export_spans(folder: str) -> None:
    """Set up this process's provider, as its program would."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(LineExporter(folder)))
    trace.set_tracer_provider(provider)


@worker_process_init.connect
def begin(**_):
    export_spans(os.environ["SPANS"])


instrumentor = CardoonInstrumentor(baggage=["tenant"])
instrumentor.instrument()


@app.task
def inner(x: int) -> dict:
    return {"x": x, "tenant": baggage.get_baggage("tenant"), "other": baggage.get_baggage("other")}


@app.task
def outer(x: int) -> str:
    with trace.get_tracer("shop").start_as_current_span("think"):
        return inner.delay(x).id


@app.task
def broken() -> None:
    raise ValueError("no good")


@app.task(bind=True, max_retries=2, default_retry_delay=0)
def flaky(self) -> int:
    if self.request.retries < 1:
        raise self.retry(exc=KeyError("again"))
    return self.request.retries
