"""`start_worker` and apps for tests."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from pathlib import Path

import pytest

from cardoon import Cardoon, GroupResult, chain, group, shared_task
from cardoon.app import current_application
from cardoon.contrib.testing.app import TestApp, setup_default_app
from cardoon.contrib.testing.worker import start_worker
from cardoon.exceptions import (
    ImproperlyConfigured,
    InvalidTaskError,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
)
from cardoon.testing import Simulation, capture

PATIENCE = 20.0


@pytest.fixture
def app():
    made = TestApp()
    with setup_default_app(made):
        yield made


def test_a_worker_runs_tasks_of_the_test_on_signed_messages(app):
    with start_worker(app) as worker:

        @app.task(bind=True)
        def who(self):
            return self.request.origin, self.request.hostname

        origin, hostname = who.delay().get(timeout=PATIENCE)

    assert app.conf.accept_content == ("auth",)
    assert origin.endswith("client")
    assert hostname == worker.hostname == "test@localhost"


def test_what_was_sent_before_is_run_and_what_is_sent_after_waits_for_the_next(app):
    ran = []
    note = app.task(name="note")(ran.append)

    note.delay(1)
    with start_worker(app):
        note.delay(2).get(timeout=PATIENCE)
    result = note.delay(3)
    assert ran == [1, 2]
    with start_worker(app):
        result.get(timeout=PATIENCE)

    assert ran == [1, 2, 3]


def test_tasks_send_tasks_as_the_worker(app):
    @app.task(name="child", bind=True)
    def child(self):
        return self.request.origin

    @app.task(name="parent")
    def parent():
        return child.delay().id

    with start_worker(app):
        child_id = parent.delay().get(timeout=PATIENCE)
        assert child.AsyncResult(child_id).get(timeout=PATIENCE).endswith("worker")
        assert chain(child.si(), child.si()).apply_async().get(timeout=PATIENCE)


def test_the_test_finds_messages_and_empties_queues_and_tasks_save_groups_as_the_worker(app):
    echo = app.task(name="echo")(lambda value: value)

    @app.task(name="fan_out")
    def fan_out():
        with pytest.raises(InvalidTaskError, match="emptied by clients"):
            app.control.purge()
        made = group(echo.s(1), echo.s(2)).apply_async()
        made.save()
        return made.id, echo.apply_async((3,), countdown=3600).id

    with start_worker(app):
        group_id, later = fan_out.delay().get(timeout=PATIENCE)

        assert GroupResult.restore(group_id, app=app).get(timeout=PATIENCE) == [1, 2]
        assert echo.AsyncResult(later).whereabouts() == "scheduled"
        assert app.control.purge() == 1
        assert echo.AsyncResult(later).whereabouts() is None


def test_coroutines_are_run_and_awaited(app):
    @app.task(name="later")
    async def later(x):
        return x

    async def play():
        return await (await later.adelay(3))

    with start_worker(app):
        assert asyncio.run(play()) == 3


def test_the_threads_of_the_worker_end_with_it(app):
    before = threading.active_count()

    with start_worker(app):
        assert threading.active_count() > before

    assert threading.active_count() == before


def test_the_worker_consumes_the_queues_it_is_told_to(app):
    one = app.task(name="one")(lambda: 1)

    with start_worker(app, queues="fast,faster") as worker:
        assert worker.queues == ("fast", "faster")
        assert one.apply_async(queue="faster").get(timeout=PATIENCE) == 1


def test_options_of_the_command_line_are_taken(app):
    slow = app.task(name="slow")(wait_long)

    with start_worker(app, soft_time_limit=0.1, without_heartbeat=True, concurrency=1):
        ended = slow.delay().get(timeout=PATIENCE, propagate=False)

    assert isinstance(ended, SoftTimeLimitExceeded)


def wait_long():
    for _ in range(2000):
        time.sleep(0.005)


def test_purge_empties_the_queue_first(app):
    result = app.task(name="one")(lambda: 1).delay()

    with start_worker(app, purge=True):
        assert result.state == "PENDING"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"que": "fast"}, "unknown option 'que'; did you mean 'queues'"),
        ({"zzz": 1}, "unknown option 'zzz'$"),
        ({"pool": "gevent"}, "pool='gevent' is unknown; use prefork"),
        ({"pool": "prefork"}, 'say which one it is with target="module:app"'),
    ],
)
def test_a_wrong_option_is_refused_with_a_remedy(app, options, said):
    with pytest.raises((TypeError, ImproperlyConfigured), match=said), start_worker(app, **options):
        raise AssertionError


def test_a_task_that_does_not_end_is_reported_at_the_end(app):
    released = threading.Event()
    stuck = app.task(name="stuck")(wait_for_ever(released))

    with (
        pytest.raises(
            RuntimeError, match=r"did not end within 0\.2 seconds, because a task did not"
        ),
        start_worker(app, shutdown_timeout=0.2),
    ):
        send_and_see_it_begin(stuck)
    released.set()


stuck_began = threading.Event()


def send_and_see_it_begin(task):
    stuck_began.clear()
    task.delay()
    assert stuck_began.wait(PATIENCE)


def wait_for_ever(released):
    def wait():
        while not released.is_set():
            stuck_began.set()
            try:
                released.wait(0.01)  # an interrupt comes between two waits
            except Exception:  # noqa: BLE001  # it is told to stop, and does not
                logging.getLogger(__name__).debug("not so soon")

    return wait


def test_a_task_that_outlives_its_hard_limit_does_not_end_the_test_run(app, monkeypatch):
    monkeypatch.setattr("cardoon.worker.pools.solo.STUCK_GRACE", 0.05)
    released = threading.Event()
    stuck = app.task(name="stuck", time_limit=0.05)(wait_for_ever(released))

    with start_worker(app):
        with pytest.raises(TimeLimitExceeded):
            stuck.delay().get(timeout=PATIENCE)
        released.set()


def test_one_worker_at_a_time_and_not_within_a_capture(app):
    for around in (start_worker(app), capture(app), Simulation(app)):
        with (
            around,
            pytest.raises(ImproperlyConfigured, match="does not send to its own broker"),
            start_worker(app),
        ):
            raise AssertionError


def test_what_is_sent_beside_a_worker_can_be_captured(app):
    one = app.task(name="one")(lambda: 1)

    with start_worker(app), capture(app, publish=True) as sent:
        assert one.delay().get(timeout=PATIENCE) == 1

    sent.assert_sent(one)


def test_an_app_on_a_file_has_a_worker_as_well(tmp_path):
    with (
        Cardoon("filed", state_directory=str(tmp_path), set_as_current=False) as app,
        start_worker(app),
    ):
        assert app.send_task("cardoon.ping").get(timeout=PATIENCE) == "pong"

    assert (tmp_path / "cardoon.db").exists()


def test_the_level_of_the_workers_loggers_is_set_meanwhile(app, caplog):
    before = logging.getLogger("cardoon.worker").level

    with start_worker(app, loglevel="info"):
        assert logging.getLogger("cardoon.worker").level == logging.INFO
    with start_worker(app, loglevel=logging.ERROR):
        assert logging.getLogger("cardoon.worker").level == logging.ERROR

    assert logging.getLogger("cardoon.worker").level == before


def test_an_app_for_tests_has_a_place_of_its_own_which_goes_with_it():
    app = TestApp("mine", {"task_track_started": True}, task_default_queue="fast")
    folder = Path(app.conf.state_directory)

    assert app.main == "mine"
    assert app.conf.task_track_started
    assert app.conf.task_default_queue == "fast"
    assert (folder / "client.key").exists()
    del app
    gc.collect()
    assert not folder.exists()


def test_an_app_for_tests_may_be_given_a_broker_and_a_place(tmp_path):
    app = TestApp(
        broker=f"sqlite:///{tmp_path}/x.db",
        backend="disabled://",
        state_directory=str(tmp_path),
    )

    assert app.conf.broker_url.startswith("sqlite:")
    assert app.conf.result_backend == "disabled://"
    assert app.conf.state_directory == str(tmp_path)


def test_the_current_app_is_kept(app):
    outer = Cardoon("outer")

    with setup_default_app(app):
        app.set_default()
        assert current_application() is app
    assert current_application() is outer

    with setup_default_app(app, use_trap=True):
        with pytest.raises(RuntimeError, match="Test depends on current_app: 'tasks' was asked"):
            _ = shared_task(name="never")(lambda: 1).delay
        app.set_default()
    assert current_application() is outer
