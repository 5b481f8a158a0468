"""Where there is no power there is one clear error."""

from __future__ import annotations

import pytest

from cardoon import backends, brokers
from cardoon.clock import SystemClock
from cardoon.exceptions import ImproperlyConfigured
from cardoon.posting import posting_of
from cardoon.records import recording_of


class Simple:
    """A broker, or a result backend, without optional powers."""


def test_a_broker_that_posts_and_records_is_used_for_both(tmp_path):
    broker = brokers.connect("memory://", clock=SystemClock())
    backend = backends.connect(f"sqlite:///{tmp_path}/c.db", clock=SystemClock())

    assert posting_of(broker) is recording_of(broker, backend) is broker
    assert recording_of(Simple(), backend) is backend
    backend.close()


def test_without_either_it_says_what_to_use():
    with pytest.raises(ImproperlyConfigured, match=r"Simple carries no events.*use sqlite, redis"):
        posting_of(Simple())
    with pytest.raises(ImproperlyConfigured, match=r"Simple keeps no records; use sqlite"):
        recording_of(Simple())
    with pytest.raises(ImproperlyConfigured, match=r"records, and neither does Simple; use"):
        recording_of(Simple(), Simple())
