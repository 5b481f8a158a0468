"""What every pool does, through the API, on a worker of each kind."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import pytest

from cardoon import states
from cardoon.exceptions import (
    EncodeError,
    Reject,
    RemoteError,
    TimeLimitExceeded,
)


def test_a_task_returns_its_result(pool):
    result = pool.send("add", 2, 3)

    assert result.get(timeout=20) == 5
    assert result.state == states.SUCCESS
    assert result.successful()
    assert result.name == "work.add"
    assert result.worker.startswith("cardoon@")
    assert result.date_done.tzinfo is not None


def test_rich_values_come_back_as_they_were(pool):
    value = {
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 2),
        "for": dt.timedelta(seconds=1.5),
        "price": Decimal("1.10"),
        "id": uuid.UUID(int=7),
        "raw": b"\x00\xff",
        "text": "å✓",
    }

    assert pool.call("echo", value) == value


def test_a_built_in_exception_is_raised_as_it_was(pool):
    result = pool.send("fail", "bad luck")

    with pytest.raises(ValueError, match=r"^bad luck$"):
        result.get(timeout=20)
    assert result.state == states.FAILURE
    assert result.failed()
    assert "in fail" in result.traceback


def test_a_foreign_exception_is_raised_as_a_remote_error(pool):
    with pytest.raises(RemoteError, match="only here") as caught:
        pool.call("fail_strangely")

    assert caught.value.type_name == "HouseError"


def test_an_exception_is_returned_when_it_is_not_to_be_raised(pool):
    assert isinstance(pool.send("fail", "x").get(timeout=20, propagate=False), ValueError)


def test_a_result_that_cannot_travel_is_a_failure_that_says_so(pool):
    with pytest.raises(EncodeError, match="lock"):
        pool.call("unencodable")


def test_a_task_retries_until_it_succeeds(pool):
    result = pool.send("flaky", 2)

    assert result.get(timeout=20) == 2
    assert result.retries == 2


def test_a_task_that_uses_up_its_retries_fails_with_its_own_exception(pool):
    with pytest.raises(ValueError, match="not yet"):
        pool.call("flaky", 100)


def test_the_retries_that_the_sender_signed_are_the_limit(pool):
    with pytest.raises(ValueError, match="not yet"):
        pool.call("flaky", 2, max_retries=1)


def test_a_retry_may_change_the_arguments(pool):
    assert pool.call("retry_changed", 0) == 3


def test_a_task_retries_by_itself(pool, place):
    with pytest.raises(ValueError, match="always"):
        pool.call("retried_by_itself", str(place / "tries"))

    assert len((place / "tries").read_text().splitlines()) == 3


def test_an_ignored_task_stores_nothing(pool):
    ignored = pool.send("ignore")
    pool.call("add", 1, 1)

    assert ignored.state == states.PENDING


def test_a_rejected_task_says_so(pool):
    result = pool.send("reject")

    with pytest.raises(Reject, match="not mine"):
        result.get(timeout=20)
    assert result.state == states.REJECTED


def test_progress_is_visible_while_the_task_runs(pool, place):
    gate = place / "gate"
    result = pool.send("progress", str(gate))
    pool.until(lambda: result.state == "PROGRESS")

    assert result.info == {"done": 1}
    gate.touch()
    assert result.get(timeout=20) == "all"


def test_a_task_knows_its_request(pool):
    result = pool.send("describe", headers={"trace": "abc"}, soft_time_limit=5, time_limit=9)
    told = result.get(timeout=20)

    assert told["id"] == result.id == told["root_id"]
    assert told["task"] == "work.describe"
    assert told["headers"] == {"trace": "abc"}
    assert told["timelimit"] == [9, 5]
    assert told["fence"] == 1
    assert "client" in told["origin"]


def test_a_task_sends_another_and_is_its_parent(pool):
    child = pool.call("nested", 1)
    told = pool.app.AsyncResult(child).get(timeout=20)

    assert told["parent_id"] == told["root_id"] != child
    assert "worker" in told["origin"]


def test_a_task_sends_many_at_once(pool):
    ids = pool.call("many", 300)

    assert [pool.app.AsyncResult(one).get(timeout=20) for one in ids[::100]] == [0, 200, 400]


def test_a_task_must_not_wait_for_another_unasked(pool):
    with pytest.raises(RuntimeError, match="disable_sync_subtasks"):
        pool.call("ask_other_wrongly", 1)


def test_a_task_may_wait_for_another_when_there_is_room(pool):
    if pool.kind == "solo":
        pytest.skip("solo runs one task at a time, so it would wait for ever")

    assert pool.call("ask_other", 4) == 5


def test_a_coroutine_is_a_task(pool):
    assert pool.call("sleep_async", 0.01) == "awake"


def test_a_coroutine_sends_and_awaits(pool):
    if pool.kind == "solo":
        pytest.skip("solo runs one task at a time, so it would wait for ever")

    assert pool.call("send_async", 10) == 60


def test_the_soft_limit_lets_a_task_clean_up(pool):
    assert pool.call("soft") == "cleaned up"


def test_the_soft_limit_lets_a_coroutine_clean_up(pool):
    assert pool.call("soft_async") == "cleaned up"


def test_the_hard_limit_ends_a_task(pool):
    result = pool.send("hard")

    with pytest.raises(TimeLimitExceeded, match=r"0\.3 seconds"):
        result.get(timeout=20)
    assert pool.call("add", 1, 2) == 3


def test_a_limit_of_the_call_counts(pool, place):
    with pytest.raises(TimeLimitExceeded, match=r"0\.4 seconds"):
        pool.call("hold", str(place / "x"), str(place / "never"), time_limit=0.4)


def test_a_task_comes_no_earlier_than_asked(pool, place):
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.4)
    pool.call("touch", str(place / "late"), eta=soon)

    assert dt.datetime.now(dt.UTC) >= soon


def test_what_is_linked_follows(pool, place):
    path = place / "linked"
    after = pool.app.signature("work.touch", (str(path), "after"), immutable=True)
    pool.call("add", 1, 1, link=after)
    pool.until(path.exists)
    failed = pool.app.signature("work.echo").set(task_id=str(uuid.uuid4()))
    first = pool.send("fail", "x", link_error=failed)

    assert pool.app.AsyncResult(failed.options["task_id"]).get(timeout=20) == first.id
