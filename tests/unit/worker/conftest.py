"""Fixtures of the worker's tests."""

from __future__ import annotations

import pytest

from tests.unit.stage import held_of, rules


@pytest.fixture
def hold(make_stage):
    """Sends a task and has the worker hold its message."""

    def make(*args, settings=None, crashes=0, attempts=0, raw=None, **wishes):
        options = {name: wishes.pop(name) for name in list(wishes) if name not in RULES}
        stage = make_stage(catalogue={"shop.pay": rules(**wishes)}, settings=settings)
        if raw is None:
            stage.send(*args, **options)
        else:
            stage.send_raw(**raw)
        [job] = stage.consume()
        held = held_of(stage, job)
        held.delivery = held.delivery._replace(crashes=crashes, retries=attempts)
        return held

    return make


RULES = {
    "acks_late",
    "acks_on_failure_or_timeout",
    "reject_on_worker_lost",
    "max_crashes",
    "ignore_result",
    "store_errors_even_if_ignored",
}
