"""The tally: what becomes of messages is counted, under names that nobody can multiply."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cardoon.metrics import OTHER, Registry
from cardoon.worker.concluding import conclude, denied, revoked
from cardoon.worker.pool import Crashed, Failed, HandedBack, Rejected, Retried, Succeeded, TimedOut
from cardoon.worker.tally import MAX_EXCEPTIONS, UNKNOWN, Tally, outcome_of
from tests.unit.stage import failed, held_of, succeeded


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def tally(registry, stage):
    return Tally(registry, worker="w@here", tasks=stage.catalogue, queues=["celery"])


def held(stage, **options):
    stage.send(**options)
    [job] = stage.consume()
    return held_of(stage, job)


def total(registry, metric, /, **labels):
    """The sum of a family's samples with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(registry.render())
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (Succeeded(b"{}"), "succeeded"),
        (Failed(b"{}"), "failed"),
        (Failed(b"{}", exhausted=True), "failed"),
        (Retried(b"{}", None, None), "retried"),
        (Rejected(b"{}", "no", requeue=False), "rejected"),
        (Rejected(b"{}", "no", requeue=True), "handed_back"),
        (HandedBack(), "handed_back"),
        (Crashed("gone"), "crashed"),
        (TimedOut(1.0), "failed"),
    ],
)
def test_each_ending_has_one_outcome(stage, ending, outcome):
    assert outcome_of(conclude(held(stage), ending, now=0.0)) == outcome


def test_what_never_ran_has_an_outcome_too(stage):
    one = held(stage)

    assert outcome_of(revoked(one, "revoked")) == "revoked"
    assert outcome_of(denied(one, "no")) == "rejected"


def test_endings_are_counted_under_both_names_with_task_queue_and_worker(stage, tally, registry):
    one = held(stage)
    one.runtime = 0.2

    tally.received([one])
    tally.ended([(one, conclude(one, succeeded(1), now=0.0))])

    labels = {"name": "shop.pay", "queue_name": "celery", "hostname": "w@here"}
    for prefix in ("celery", "cardoon"):
        for what in ("received", "started", "succeeded"):
            assert total(registry, f"{prefix}_task_{what}_total", **labels) == 1
    assert total(registry, "celery_task_runtime_count", **labels) == 1
    assert total(registry, "celery_task_runtime_bucket", le="0.25", **labels) == 1
    assert total(registry, "cardoon_task_runtime_seconds_sum", **labels) == pytest.approx(0.2)


def test_a_failure_names_its_exception(stage, tally, registry):
    one = held(stage)
    one.error = "ValueError"

    tally.ended([(one, conclude(one, failed(), now=0.0))])

    assert total(registry, "celery_task_failed_total", exception="ValueError") == 1


@pytest.mark.parametrize("name", ["", 'x"} 1', "Über", "a b", "x" * 101])
def test_what_is_no_name_of_an_exception_is_unknown(stage, tally, registry, name):
    one = held(stage)
    one.error = name

    tally.ended([(one, conclude(one, failed(), now=0.0))])

    assert total(registry, "celery_task_failed_total", exception=UNKNOWN) == 1


def test_exceptions_that_a_task_invents_do_not_multiply(stage, tally, registry):
    one = held(stage)
    for number in range(MAX_EXCEPTIONS + 50):
        one.error = f"Error{number}"
        tally.ended([(one, conclude(one, failed(), now=0.0))])

    assert total(registry, "celery_task_failed_total", exception=OTHER) == 50
    assert total(registry, "celery_task_failed_total") == MAX_EXCEPTIONS + 50


def test_tasks_and_queues_that_are_not_the_worker_s_share_one_name(stage, registry):
    tally = Tally(registry, worker="w@here", tasks={}, queues=[])
    one = held(stage)

    tally.ended([(one, revoked(one, "revoked"))])

    labels = {"name": UNKNOWN, "queue_name": OTHER}
    assert total(registry, "celery_task_revoked_total", **labels) == 1
    assert total(registry, "celery_task_received_total", **labels) == 1
