"""A trace that spans a client, a worker's processes and subtasks; exported by each, and put together here."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from cardoon import Cardoon
from cardoon.exceptions import CardoonError
from tests.e2e.conftest import DEADLINE, Site, wait_until
from tests.servers.ground import free_port


class Traced:
    """A site whose client's spans, and its worker's, lie in files of one folder."""

    def __init__(self, site: Site, module) -> None:
        self.site = site
        self.module = module
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(module.LineExporter(str(site.folder))))
        self.tracer = self.provider.get_tracer("client")
        module.instrumentor.instrument(tracer_provider=self.provider)

    def spans(self) -> list[dict]:
        found = []
        for path in Path(self.site.folder).glob("spans-*.jsonl"):
            found += [json.loads(line) for line in path.read_text().splitlines()]
        return found

    def of_trace(self, trace_id: int) -> dict[str, dict]:
        """The spans of one trace, by name and task."""
        return {
            f"{span['name']} {span['attributes'].get('cardoon.task.name', '')}".strip(): span
            for span in self.spans()
            if int(span["context"]["trace_id"], 16) == trace_id
        }


@pytest.fixture(scope="module", params=["prefork", "threads", "asyncio"])
def traced(request, tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("traced"))
    with site.client("traced") as module:
        site.app.close()
        site.app = module.app
        made = Traced(site, module)
        log = ("--log-json", "-l", "info")
        site.start(
            "-P",
            request.param,
            "-c",
            "2",
            *log,
            app="traced",
            wait=False,
            env={"SPANS": str(site.folder)},
        )
        yield made
        module.instrumentor.uninstrument()
        made.provider.shutdown()
        site.stop()


def test_a_trace_goes_from_the_client_through_a_task_to_its_subtask(traced):
    with traced.tracer.start_as_current_span("buy") as buy:
        sent = traced.module.outer.delay(7)
    subtask = sent.get(timeout=DEADLINE)
    traced.site.app.AsyncResult(subtask)
    trace_id = buy.get_span_context().trace_id
    wait_until(lambda: len(traced.of_trace(trace_id)) == 6, traced.site.log.read_text()[-2000:])

    spans = traced.of_trace(trace_id)
    chain = [
        "buy",
        "send celery traced.outer",
        "process traced.outer traced.outer",
        "think",
        "send celery traced.inner",
        "process traced.inner traced.inner",
    ]
    assert set(spans) == set(chain)
    for parent, child in itertools.pairwise(chain):
        assert spans[child]["parent_id"] == spans[parent]["context"]["span_id"]
    assert [spans[name]["kind"] for name in chain] == [
        "SpanKind.INTERNAL",
        "SpanKind.PRODUCER",
        "SpanKind.CONSUMER",
        "SpanKind.INTERNAL",
        "SpanKind.PRODUCER",
        "SpanKind.CONSUMER",
    ]
    client = spans["buy"]["pid"]
    assert spans[chain[1]]["pid"] == client
    assert client not in {spans[name]["pid"] for name in chain[2:]}
    process = spans["process traced.outer traced.outer"]["attributes"]
    assert process["messaging.system"] == "cardoon"
    assert process["messaging.operation.name"] == "process"
    assert process["messaging.destination.name"] == "celery"
    assert process["messaging.message.id"] == sent.id
    assert process["messaging.client.id"].startswith("cardoon@")
    inner = spans["process traced.inner traced.inner"]["attributes"]
    assert inner["messaging.message.id"] == subtask
    assert inner["messaging.message.conversation_id"] == sent.id


def test_the_worker_s_own_log_names_the_trace(traced):
    with traced.tracer.start_as_current_span("buy") as buy:
        sent = traced.module.inner.delay(1)
    sent.get(timeout=DEADLINE)
    log = traced.site.log
    wait_until(lambda: f"[{sent.id}] success" in log.read_text())

    lines = [json.loads(one) for one in log.read_text().splitlines() if one.startswith("{")]
    [told] = {line.get("trace_id") for line in lines if line.get("task_id") == sent.id}
    assert told == f"{buy.get_span_context().trace_id:032x}"


def test_a_failure_is_an_error_of_its_span(traced):
    with traced.tracer.start_as_current_span("buy") as buy:
        sent = traced.module.broken.delay()
    with pytest.raises(ValueError, match="no good"):
        sent.get(timeout=DEADLINE)
    trace_id, name = buy.get_span_context().trace_id, "process traced.broken traced.broken"
    wait_until(lambda: name in traced.of_trace(trace_id))

    span = traced.of_trace(trace_id)[name]
    assert span["status"]["status_code"] == "ERROR"
    assert span["attributes"]["error.type"] == "ValueError"
    assert [event["name"] for event in span["events"]] == ["exception"]


def test_each_run_of_a_task_that_retries_has_a_span_in_the_same_trace(traced):
    with traced.tracer.start_as_current_span("buy") as buy:
        sent = traced.module.flaky.delay()
    assert sent.get(timeout=DEADLINE) == 1
    trace_id = buy.get_span_context().trace_id

    def runs():
        return [
            span
            for span in traced.spans()
            if span["name"] == "process traced.flaky"
            and int(span["context"]["trace_id"], 16) == trace_id
        ]

    wait_until(lambda: len(runs()) == 2)
    first, second = sorted(runs(), key=lambda span: span["attributes"]["cardoon.task.retries"])
    assert first["attributes"]["error.type"] == "KeyError"
    assert first["attributes"]["cardoon.task.state"] == "RETRY"
    assert second["attributes"]["cardoon.task.state"] == "SUCCESS"
    assert first["parent_id"] == second["parent_id"]


def test_of_baggage_only_what_was_named_travels(traced):
    held = baggage.set_baggage("other", "secret", baggage.set_baggage("tenant", "acme"))
    token = context.attach(held)
    try:
        told = traced.module.inner.delay(1).get(timeout=DEADLINE)
    finally:
        context.detach(token)

    assert told == {"x": 1, "tenant": "acme", "other": None}


def test_a_send_that_fails_is_an_error_of_its_span(traced, tmp_path):
    server = f"redis://127.0.0.1:{free_port()}/0"
    app = Cardoon("lost", broker_url=server, state_directory=str(tmp_path), set_as_current=False)
    with traced.tracer.start_as_current_span("buy") as buy, pytest.raises(CardoonError):
        app.send_task("traced.inner", (1,), timeout=0.2)
    app.close()

    span = traced.of_trace(buy.get_span_context().trace_id)["send celery traced.inner"]
    assert span["status"]["status_code"] == "ERROR"
    assert span["attributes"]["error.type"]
