"""Results that a delivery carries are bounded, whichever the driver."""

from __future__ import annotations

import pytest

from cardoon import brokers
from cardoon.broker import Ack, Completion, Outcome
from cardoon.testing import FakeClock
from cardoon.testing.setting import frames, message, publish, receive, waiting


@pytest.fixture(params=["memory", "sqlite"])
def broker(request, tmp_path, monkeypatch):
    monkeypatch.setattr("cardoon.brokers.inputs.MAX_INPUT_BYTES", 10)
    monkeypatch.setattr("cardoon.sqlite.dormant.MAX_INPUT_BYTES", 10)
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/x.db"
    broker = brokers.connect(url, clock=FakeClock())
    yield broker
    broker.close()


def test_a_delivery_leaves_out_the_results_for_which_there_is_no_room(broker):
    sizes = [6, 5, 0, 4, 1]
    names = [f"m{number}" for number in range(len(sizes))]
    publish(broker, *map(message, names), waiting("body", *names), waiting("other", "m1"))

    broker.complete(
        [
            Completion(Ack(each), outcome=Outcome(b"x" * size, succeeded=True))
            for each, size in zip(receive(broker), sizes, strict=True)
        ]
    )

    body, other = receive(broker)
    assert frames(body) == [b"x" * 6, None, b"", b"x" * 4, None]
    assert frames(other) == [b"x" * 5]
