"""Each argument of `apply_async` and each option of a task, and what it does on a real worker.

A new option without an observation here fails the last two tests.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import itertools
import sqlite3
import time
from collections.abc import Iterator

import pytest

from cardoon import exceptions
from cardoon.broker import Kept
from cardoon.calling import OPTION_NAMES
from cardoon.exceptions import (
    InvalidTaskError,
    OperationalError,
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from cardoon.task_options import TASK_OPTIONS
from tests.e2e.conftest import PROJECT, Site

_SPEC = importlib.util.spec_from_file_location("options", PROJECT / "options.py")
project = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(project)  # under the name that the worker knows it by

PATIENCE = 30.0
LATER = 3600.0


class Workplace(Site):
    """A worker on the project of options, and the project's own tasks as its client has them."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.app.close()
        self.app = project.app
        self.app.conf.update(state_directory=str(folder / ".cardoon"))
        self.count = 0

    def fresh(self) -> str:
        """A path that no other test uses."""
        self.count += 1
        return str(self.folder / f"trace-{self.count}")

    def lines_of(self, path: str) -> list[str]:
        return self.lines(path.rpartition("/")[2])

    def frame(self, task_id: str) -> bytes:
        """The message as it lies in the store."""
        with sqlite3.connect(next((self.folder / ".cardoon").glob("*.db"))) as file:
            [(frame,)] = file.execute(
                "SELECT frame FROM frame JOIN message USING (number) WHERE id = ?", [task_id]
            )
        return bytes(frame)

    def depth(self, queue: str) -> int:
        found = [d.ready for d in self.broker.depths() if d.queue == queue]
        return found[0] if found else 0

    @property
    def broker(self):
        return self.app.sender._broker

    def dead(self) -> list[str]:
        return [kept.id for kept in self.broker.kept(Kept.DEAD_LETTER, limit=1000)]

    def reasons(self) -> dict[str, str]:
        return {kept.id: kept.reason for kept in self.broker.kept(Kept.DEAD_LETTER, limit=1000)}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Workplace]:
    made = Workplace(tmp_path_factory.mktemp("options"))
    made.start("-c", "2", app="options", wait=False)
    project.add.delay(1).get(timeout=PATIENCE)
    yield made
    made.stop()


def describe(**options):
    return project.describe.apply_async(**options).get(timeout=PATIENCE)


OF_CALLS: set[str] = set()
OF_TASKS: set[str] = set()


def observes(*names: str):
    """Say which arguments of `apply_async` a test observes."""
    OF_CALLS.update(names)
    return lambda test: test


def shows(*names: str):
    """Say which options of a task a test observes."""
    OF_TASKS.update(names)
    return lambda test: test


# apply_async


@observes("task_id", "headers", "shadow", "root_id", "parent_id", "retries", "max_retries")
def test_what_a_call_says_reaches_the_request(place):
    found = describe(
        task_id="mine-1",
        headers={"trace": "abc"},
        shadow="in disguise",
        root_id="the-root",
        parent_id="the-parent",
        retries=1,
        max_retries=7,
    )

    assert found["id"] == "mine-1"
    assert found["headers"] == {"trace": "abc"}
    assert found["shadow"] == "in disguise"
    assert (found["root_id"], found["parent_id"]) == ("the-root", "the-parent")
    assert (found["retries"], found["max_retries"]) == (1, 7)


@observes("countdown")
def test_a_countdown_is_waited_for(place):
    before = time.time()

    assert describe(countdown=0.4)["at"] >= before + 0.4


@observes("eta")
def test_an_eta_is_waited_for(place):
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.4)

    assert describe(eta=eta)["at"] >= eta.timestamp()


@observes("expires")
def test_an_expired_call_does_not_run(place):
    result = project.add.apply_async((1,), countdown=0.2, expires=0.1)

    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=PATIENCE)


@observes("queue")
def test_a_queue_is_where_the_message_goes(place):
    before = place.depth("nobodys")

    project.add.apply_async((1,), queue="nobodys")

    assert place.depth("nobodys") == before + 1


@observes("exchange", "routing_key")
def test_an_exchange_and_a_routing_key_lead_to_a_queue(place):
    assert describe(exchange="media", routing_key="video")["queue"] == "films"


@observes("unique", "unique_key")
def test_a_unique_call_is_sent_once(place):
    options = {"unique": True, "unique_key": "x", "countdown": LATER}

    first = project.add.apply_async((1, 2), **options)
    second = project.add.apply_async((1, 3), **options)
    other = project.add.apply_async((4, 2), **options)

    assert (second.id, second.is_duplicate) == (first.id, True)
    assert (other.id != first.id, other.is_duplicate) == (True, False)


def overlap(results) -> bool:
    spans = sorted(result.get(timeout=PATIENCE) for result in results)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


@observes("concurrency_limit", "limit_key")
def test_calls_of_one_key_take_turns(place):
    options = {"concurrency_limit": 1, "limit_key": "path"}
    path = place.fresh()

    assert overlap([project.spanning.delay(path) for _ in range(4)])
    assert not overlap([project.spanning.apply_async((path,), **options) for _ in range(4)])


@observes("cluster_rate_limit")
def test_calls_keep_to_a_rate_over_all_workers(place):
    sent = [project.spanning.apply_async(("x", 0), cluster_rate_limit=5) for _ in range(4)]

    begun = sorted(result.get(timeout=PATIENCE)[0] for result in sent)

    assert begun[-1] - begun[0] >= 0.5


@observes("priority")
def test_the_more_urgent_call_is_delivered_first(place):
    for level in (0, 9, 4):
        project.add.apply_async((level,), task_id=f"level-{level}", queue="ranked", priority=level)

    order = [
        delivery.id for delivery in place.broker.receive(["ranked"], limit=3, lease=5, timeout=1)
    ]

    assert order == ["level-9", "level-4", "level-0"]


@observes("serializer")
def test_a_serializer_says_how_the_body_is_written(place):
    sent = project.add.apply_async((1,), serializer="json", countdown=LATER)

    assert b"application/json" in place.frame(sent.id)
    with pytest.raises(InvalidTaskError, match="unknown content 'xml'"):
        project.add.apply_async((1,), serializer="xml")


@observes("compression")
def test_a_compressed_body_is_shorter(place):
    text = "cardoon " * 500

    plain = project.told.apply_async((text,), countdown=LATER)
    packed = project.told.apply_async((text,), countdown=LATER, compression="zlib")

    assert len(place.frame(packed.id)) < len(place.frame(plain.id)) / 5


@observes("ignore_result")
def test_an_ignored_result_is_not_stored(place):
    path = place.fresh()
    result = project.told.apply_async((path, "done"), ignore_result=True)

    place.until(lambda: place.lines_of(path))

    with pytest.raises(exceptions.TimeoutError):
        result.get(timeout=0.3)


@observes("time_limit", "soft_time_limit")
def test_time_limits_of_a_call_are_kept(place):
    assert describe(time_limit=20, soft_time_limit=10)["timelimit"] == [20, 10]
    with pytest.raises(TimeLimitExceeded):
        project.spin.apply_async(time_limit=0.3).get(timeout=PATIENCE)
    with pytest.raises(SoftTimeLimitExceeded):
        project.spin.apply_async(soft_time_limit=0.3, time_limit=20).get(timeout=PATIENCE)


@observes("link")
def test_a_link_follows_success(place):
    path = place.fresh()

    project.add.apply_async((1, 1), link=project.told.si(path, "linked")).get(timeout=PATIENCE)

    place.until(lambda: place.lines_of(path) == ["linked"])


@observes("link_error")
def test_an_errback_follows_failure(place):
    path, other = place.fresh(), place.fresh()

    project.fail.apply_async((other,), link_error=project.told.si(path, "errback"))

    place.until(lambda: place.lines_of(path) == ["errback"])


@observes("retry", "retry_policy", "timeout")
def test_a_publish_that_is_not_confirmed_raises_in_the_time_it_was_given(place):
    file = sqlite3.connect(next((place.folder / ".cardoon").glob("*.db")), isolation_level=None)
    file.execute("BEGIN IMMEDIATE")  # nobody else can write
    try:
        for options in (
            {"timeout": 0.3, "retry": False},
            {
                "timeout": 0.3,
                "retry": True,
                "retry_policy": {"max_retries": 5, "interval_start": 0},
            },
        ):
            begun = time.monotonic()
            with pytest.raises(OperationalError):
                project.add.apply_async((1,), **options)
            assert time.monotonic() - begun < 5
    finally:
        file.execute("ROLLBACK")
        file.close()


@observes("add_to_parent")
def test_a_call_need_not_be_its_callers_child(place):
    result, usual = project.nested.delay(), project.nested.delay(add_to_parent=True)

    child, its_child = result.get(timeout=PATIENCE), usual.get(timeout=PATIENCE)

    assert project.app.AsyncResult(child).get(timeout=PATIENCE)["id"] == child
    assert result.children == []
    assert [one.id for one in usual.children] == [its_child]


@observes("stamps")
def test_stamps_reach_the_request(place):
    assert describe(stamped_headers=["tenant"], tenant="acme")["stamps"] == {"tenant": "acme"}
    assert describe(stamps={"tenant": "acme"})["stamps"] == {"tenant": "acme"}


# @app.task


@shows("bind")
def test_a_bound_task_knows_itself(place):
    assert describe()["id"]


@shows("acks_late")
def test_an_early_acknowledged_task_runs_at_most_once(place):
    path = place.fresh()

    project.early.delay(path)

    place.until(lambda: place.lines_of(path))
    assert project.add.delay(1, 1).get(timeout=PATIENCE) == 2
    assert place.lines_of(path) == ["left"]


@shows("reject_on_worker_lost")
def test_a_fragile_task_does_not_run_again_after_a_crash(place):
    path = place.fresh()

    with pytest.raises(WorkerLostError):
        project.fragile.delay(path).get(timeout=PATIENCE)

    assert place.lines_of(path) == ["left"]


@shows("max_crashes")
def test_a_task_that_takes_its_process_down_has_a_budget(place):
    path = place.fresh()
    result = project.twice.delay(path)

    with pytest.raises(WorkerLostError):
        result.get(timeout=PATIENCE)

    assert place.lines_of(path) == ["left", "left"]
    assert result.id in place.dead()


@shows("acks_on_failure_or_timeout")
def test_a_failed_task_can_be_kept(place):
    result = project.kept.delay(place.fresh())

    with pytest.raises(ValueError, match="fail"):
        result.get(timeout=PATIENCE)

    place.until(lambda: result.id in place.dead())


@shows("ignore_result", "store_errors_even_if_ignored")
def test_an_ignored_failure_is_stored_only_on_request(place):
    path = place.fresh()
    silent = project.silent.delay(path)

    with pytest.raises(ValueError, match="fail"):
        project.silent_but.delay(path).get(timeout=PATIENCE)

    place.until(lambda: len(place.lines_of(path)) == 2)
    with pytest.raises(exceptions.TimeoutError):
        silent.get(timeout=0.3)


@shows("throws")
def test_an_expected_exception_is_logged_without_a_traceback(place):
    with pytest.raises(ValueError, match="as foreseen"):
        project.expected.delay(place.fresh(), "as foreseen").get(timeout=PATIENCE)

    log = place.log.read_text()
    assert "raised expected: ValueError('as foreseen')" in log
    assert "ValueError: as foreseen" not in log


@shows("autoretry_for", "retry_kwargs")
def test_a_task_retries_by_itself(place):
    path = place.fresh()

    with pytest.raises(ValueError, match="fail"):
        project.autoretried.delay(path).get(timeout=PATIENCE)

    assert place.lines_of(path) == ["fail"] * 3


@shows("dont_autoretry_for")
def test_an_exception_may_be_left_out_of_retrying(place):
    path = place.fresh()

    with pytest.raises(ValueError, match="fail"):
        project.not_autoretried.delay(path).get(timeout=PATIENCE)

    assert place.lines_of(path) == ["fail"]


def pauses(place, task) -> list[float]:
    path = place.fresh()
    with pytest.raises(ValueError, match="trace"):
        task.delay(path).get(timeout=PATIENCE)
    times = [float(line) for line in place.lines_of(path)]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


@shows("retry_backoff", "max_retries", "retry_jitter")
def test_a_backoff_doubles(place):
    found = pauses(place, project.backing_off)

    assert len(found) == 3
    assert all(pause >= least for pause, least in zip(found, (0.1, 0.2, 0.4), strict=True))


@shows("retry_backoff_max")
def test_a_backoff_has_a_bound(place):
    found = pauses(place, project.bounded)

    # Without the bound the last pause alone would be 1.2 seconds.
    assert len(found) == 3
    assert all(pause >= 0.1 for pause in found)
    assert found[2] < 1.2


@shows("retry_jitter")
def test_a_backoff_with_jitter_is_shorter_than_without(place):
    found = pauses(place, project.jittery)

    assert len(found) == 3
    assert any(pause < longest for pause, longest in zip(found, (0.4, 0.8, 1.6), strict=True))


@shows("default_retry_delay")
def test_a_retry_waits_for_the_default_delay(place):
    [pause] = pauses(place, project.slow_to_retry)

    assert pause >= 0.3


@shows("soft_time_limit", "time_limit")
def test_time_limits_of_a_task_are_kept(place):
    with pytest.raises(SoftTimeLimitExceeded):
        project.spin_softly.delay().get(timeout=PATIENCE)
    with pytest.raises(TimeLimitExceeded):
        project.spin_hard.delay().get(timeout=PATIENCE)


@shows("track_started")
def test_a_tracked_task_says_that_it_runs(place):
    gate = place.fresh()
    result = project.tracked.delay(gate)

    place.until(lambda: result.state == "STARTED")
    project.told.delay(gate)

    assert result.get(timeout=PATIENCE) == "released"


@shows("queue")
def test_a_task_has_a_queue_of_its_own(place):
    project.elsewhere.delay(1)

    assert place.depth("elsewhere") == 1


@shows("compression", "serializer")
def test_a_task_says_how_its_body_is_written(place):
    packed = project.packed.apply_async((1,), countdown=LATER)
    written = project.written.apply_async((1,), countdown=LATER)

    assert b"application/json+zlib" in place.frame(packed.id)
    assert b"application/json+zlib" not in place.frame(written.id)


@shows("priority")
def test_a_task_has_a_priority_of_its_own(place):
    path = place.fresh()
    first = project.told.apply_async((path,), queue="line")
    second = project.urgent.apply_async((path,), queue="line")

    order = [
        delivery.id for delivery in place.broker.receive(["line"], limit=2, lease=5, timeout=1)
    ]

    assert order == [second.id, first.id]


@shows("expires")
def test_a_task_may_expire_by_itself(place):
    with pytest.raises(TaskRevokedError, match="expired"):
        project.stale.delay(1).get(timeout=PATIENCE)


@shows("rate_limit")
def test_a_task_keeps_to_its_rate(place):
    results = [project.slowly.delay() for _ in range(5)]

    times = sorted(result.get(timeout=PATIENCE) for result in results)

    assert times[-1] - times[0] >= 0.7


@shows("typing")
def test_arguments_are_checked_where_the_task_says_so(place):
    with pytest.raises(InvalidTaskError):
        project.add.delay(1, 2, 3)
    with pytest.raises(TypeError, match="takes from 1 to 2"):
        project.unchecked.delay(1, 2, 3).get(timeout=PATIENCE)


@shows("exchange", "routing_key")
def test_a_task_is_bound_to_a_queue(place):
    assert project.bound_to.delay().get(timeout=PATIENCE) == "songs"


@shows("unique", "unique_key")
def test_a_unique_task_is_stored_once(place):
    path = place.fresh()

    first = project.only_one.apply_async((path, "first"), countdown=0.5)
    second = project.only_one.delay(path, "second")

    assert (second.id, second.is_duplicate) == (first.id, True)
    assert second.get(timeout=PATIENCE) == "first"


@shows("concurrency_limit", "limit_key")
def test_a_limited_task_takes_turns(place):
    path = place.fresh()

    assert not overlap([project.in_turn.delay(path) for _ in range(4)])


@shows("cluster_rate_limit")
def test_a_task_keeps_to_a_rate_over_all_workers(place):
    sent = [project.measured.delay("x", 0) for _ in range(4)]

    begun = sorted(result.get(timeout=PATIENCE)[0] for result in sent)

    assert begun[-1] - begun[0] >= 0.5


@shows("pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs")
def test_a_model_is_made_of_what_arrives(place):
    assert project.modelled.delay({"number": "7"}).get(timeout=PATIENCE) == {
        "number": 7,
        "paid": True,
    }
    with pytest.raises(InvalidTaskError, match="order"):
        project.strictly.delay({"number": "7"}).get(timeout=PATIENCE)
    assert project.briefly.delay({"number": 7}).get(timeout=PATIENCE) == {"paid": True}
    assert project.in_context.delay({"tag": "dark"}).get(timeout=PATIENCE) == "dark green"


@shows("trail")
def test_a_result_need_not_name_the_children(place):
    result, usual = (
        project.untrailed.delay(add_to_parent=True),
        project.nested.delay(add_to_parent=True),
    )
    result.get(timeout=PATIENCE)
    usual.get(timeout=PATIENCE)

    assert (len(result.children), len(usual.children)) == (0, 1)


def test_a_base_class_brings_its_hooks(place):
    path = place.fresh()

    with pytest.raises(ValueError, match="fail"):
        project.based.delay(path).get(timeout=PATIENCE)

    assert place.lines_of(path) == ["fail", "on_failure ValueError"]


# Nothing is left out


def test_every_argument_of_apply_async_is_observed():
    assert OPTION_NAMES == OF_CALLS


def test_every_option_of_a_task_is_observed():
    # A task with a sandbox needs the pool isolated: tests/e2e/test_sandbox.py
    assert set(TASK_OPTIONS) - {"sandbox"} == OF_TASKS
