"""Metrics: what a Prometheus server reads of them, and what nobody can make of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cardoon.metrics import MAX_LABEL, MAX_SERIES, OTHER, Registry


def read(registry):
    """What Prometheus's own parser makes of it: the value of each sample."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(registry.render())
        for sample in family.samples
    }


def test_a_counter_is_told_under_each_of_its_names():
    registry = Registry()
    counter = registry.counter(("old_total", "new_total"), "Things.", ("kind",))

    counter.add({("a",): 2, ("b",): 1})
    counter.add({("a",): 1})

    found = read(registry)
    for name in ("old_total", "new_total"):
        assert found[name, (("kind", "a"),)] == 3
        assert found[name, (("kind", "b"),)] == 1


def test_a_counter_without_labels_begins_at_zero():
    registry = Registry()
    registry.counter(("things_total",), "Things.")

    assert read(registry) == {("things_total", ()): 0}


def test_a_histogram_counts_each_bucket_with_those_below_it():
    registry = Registry()
    histogram = registry.histogram(("took",), "Seconds.", ("name",))

    histogram.observe([(("x",), 0.004), (("x",), 0.3), (("x",), 99999)])

    found = read(registry)
    name = ("name", "x")
    assert found["took_bucket", (("le", "0.005"), name)] == 1
    assert found["took_bucket", (("le", "0.25"), name)] == 1
    assert found["took_bucket", (("le", "0.5"), name)] == 2
    assert found["took_bucket", (("le", "+Inf"), name)] == 3
    assert found["took_count", (name,)] == 3
    assert found["took_sum", (name,)] == pytest.approx(99999.304)


def test_a_gauge_is_read_when_somebody_collects():
    registry, level = Registry(), [1.0]
    registry.gauge(("level",), "Level.", lambda: [((), level[0])])

    first = read(registry)
    level[0] = 2.5

    assert (first["level", ()], read(registry)["level", ()]) == (1, 2.5)


def test_a_gauge_that_cannot_be_read_costs_none_of_the_others(caplog):
    registry = Registry()
    registry.gauge(("broken",), "Broken.", lambda: 1 / 0)
    registry.counter(("things_total",), "Things.")

    assert read(registry) == {("things_total", ()): 0}
    assert "ZeroDivisionError" in caplog.text


@given(st.text())
def test_no_label_makes_another_line(text):
    registry = Registry()
    registry.counter(("things_total",), "Things.", ("kind",)).add({(text,): 1})

    [(_, labels)] = read(registry)
    assert dict(labels)["kind"] == text[:MAX_LABEL].encode("utf-8", "replace").decode()


def test_invented_labels_do_not_multiply():
    registry = Registry()
    counter = registry.counter(("things_total",), "Things.", ("kind",))
    histogram = registry.histogram(("took",), "Seconds.", ("kind",))

    for number in range(MAX_SERIES + 500):
        counter.add({(str(number),): 1})
        histogram.observe([((str(number),), 1.0)])

    found = read(registry)
    kinds = {dict(labels)["kind"] for name, labels in found if name == "things_total"}
    assert len(kinds) == MAX_SERIES + 1
    assert found["things_total", (("kind", OTHER),)] == 500
    assert found["took_count", (("kind", OTHER),)] == 500
