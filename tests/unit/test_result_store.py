"""`app.backend`: results by id, in bulk."""

from __future__ import annotations

import pytest

from cardoon.exceptions import TimeoutError as ResultTimeoutError
from tests.unit.stage import failed, succeeded


@pytest.fixture
def ended(stage):
    """A task that succeeded, one that failed, and one that waits."""
    good, bad, waiting = stage.send(1), stage.send(2), stage.send(3)
    first, second, _ = stage.consume()
    stage.end(first, succeeded({"x": 1}))
    stage.end(second, failed(ValueError("no"), exhausted=True))
    return good.id, bad.id, waiting.id


def test_the_present_of_many_is_read_at_once(stage, ended):
    good, bad, waiting = ended

    found = stage.app.backend.get_metas([good, bad, waiting, good, "unknown"])

    assert list(found) == [good, bad, waiting, "unknown"]
    assert [one["status"] for one in found.values()] == ["SUCCESS", "FAILURE", "PENDING", "PENDING"]
    assert found[good]["result"] == {"x": 1}
    assert found[good]["task_id"] == good
    assert found[good]["name"] == "shop.pay"
    assert found[good]["date_done"] is not None
    assert repr(found[bad]["result"]) == "ValueError('no')"
    assert found[bad]["traceback"] == "..."


def test_many_are_waited_for_as_they_come(stage, ended):
    good, bad, waiting = ended

    assert {one for one, _ in stage.app.backend.get_many([good, bad], interval=0.1)} == {good, bad}
    assert list(stage.app.backend.get_many([])) == []
    with pytest.raises(ResultTimeoutError, match="1 results did not come"):
        list(stage.app.backend.get_many([good, waiting], timeout=0))


def test_one_is_asked_for_by_part(stage, ended):
    good, bad, _ = ended
    backend = stage.app.backend

    assert backend.get_task_meta(good)["status"] == "SUCCESS"
    assert (backend.get_state(bad), backend.get_status(good)) == ("FAILURE", "SUCCESS")
    assert backend.get_result(good) == {"x": 1}
    assert backend.get_traceback(bad) == "..."
    assert backend.wait_for(good, timeout=5)["result"] == {"x": 1}


def test_a_forged_result_counts_as_none(stage, ended):
    good, *_ = ended
    sealed = stage.backend.load([good])[good]
    stage.backend.forget([good])
    stage.backend.store([sealed._replace(frame=sealed.frame[:-1] + b"?")])

    assert stage.app.backend.get_state(good) == "PENDING"
    assert "message.body_changed" in stage.event_names()


def test_several_are_forgotten(stage, ended):
    good, bad, _ = ended

    stage.app.backend.forget(good)
    stage.app.backend.forget([bad])

    assert {one["status"] for one in stage.app.backend.get_metas([good, bad]).values()} == {
        "PENDING"
    }


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("store_result", "signed by the worker"),
        ("mget", r"use get_metas"),
        ("nonsense", "porting.md"),
    ],
)
def test_what_it_does_not_do_it_says(app, name, why):
    assert not hasattr(app.backend, name)
    with pytest.raises(AttributeError, match=why):
        getattr(app.backend, name)
