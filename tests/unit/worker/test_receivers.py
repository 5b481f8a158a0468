"""Receivers: what the signals of a worker say, and what bounds those that hear them."""

from __future__ import annotations

import logging
import signal
import threading

import pytest

from cardoon import signals
from cardoon.exceptions import NotRegistered, Refusal, RefusedError, TimeLimitExceeded
from cardoon.log import TASK_LOGGER, setup_logging
from cardoon.worker.options import WorkerOptions
from cardoon.worker.receivers import (
    LocalHerald,
    Receivers,
    WorkerInfo,
    arrange_logging,
    heard_signals,
    limited,
    told_options,
)
from tests.unit.stage import PATIENCE

CALL = {
    "task": "shop.pay",
    "id": "t1",
    "retries": 1,
    "max_retries": 3,
    "eta": None,
    "expires": None,
    "root": "r1",
    "parent": None,
    "headers": {"headers": {"tenant": "a"}},
    "queue": "celery",
    "attempt": 1,
    "origin": "alice",
    "group": None,
}
SETUP = {
    "level": "info",
    "logfile": None,
    "log_format": "%(message)s",
    "task_format": "task %(message)s",
    "hijack": True,
}


@pytest.fixture
def info(app):
    return WorkerInfo(
        app=app, hostname="w1@here", pid=7, pool="prefork", concurrency=2, queues=("celery",)
    )


@pytest.fixture
def receivers(app, info):
    return Receivers(app, info)


@pytest.fixture
def pay(app):
    return app.task(name="shop.pay")(lambda: None)


def complete(told):
    assert set(told.payload) == getattr(signals, told.signal).providing_args


# What is told


def test_a_worker_describes_itself_with_what_is_known_here(info, app):
    assert str(info) == info.name == "w1@here"
    assert info.controller is info
    assert (info.app, info.pid, info.pool, info.concurrency) == (app, 7, "prefork", 2)
    assert not hasattr(info, "task_consumer")


def test_receivers_learn_what_the_command_line_said_but_no_secret():
    given = WorkerOptions(
        hostname="w1@here",
        queues=("a", "b"),
        settings={"worker_concurrency": 3, "broker_url": "redis://:secret@host"},
        logging_setup=SETUP,
    )

    told = told_options(given)

    assert (told["hostname"], told["queues"], told["concurrency"]) == ("w1@here", ["a", "b"], 3)
    assert (told["loglevel"], told["purge"]) == ("info", False)
    assert "secret" not in repr(told)


def test_settings_may_be_changed_before_the_worker_reads_them(receivers, app, hearing):
    hearing.listen(signals.celeryd_init, sender="w1@here")
    hearing.connect(signals.celeryd_init, lambda conf, **_: conf.update(task_time_limit=5))

    receivers.announce_birth()

    [told] = hearing.told
    complete(told)
    assert told.payload["instance"].hostname == "w1@here"
    assert app.settings.task_time_limit == 5


def test_what_comes_before_the_first_process_comes_in_celerys_order(receivers, hearing):
    hearing.listen(
        signals.celeryd_after_setup, signals.worker_init, signals.after_setup_task_logger
    )

    receivers.announce_beginning({})

    assert hearing.names() == ["worker_init", "celeryd_after_setup"]
    assert hearing.told[0].sender is receivers.info
    assert hearing.told[1].sender == "w1@here"
    complete(hearing.told[1])


@pytest.mark.parametrize("name", ["worker_ready", "worker_shutdown", "heartbeat_sent"])
def test_a_moment_in_a_workers_life_is_told_with_the_worker(receivers, hearing, name):
    hearing.listen(getattr(signals, name))

    receivers.announce({"signal": name})

    [told] = hearing.told
    assert told.sender is receivers.info
    assert not told.payload


def test_a_worker_that_is_told_to_stop_says_how(receivers, hearing):
    hearing.listen(signals.worker_shutting_down)

    receivers.announce({"signal": "worker_shutting_down", "sig": "SIGTERM", "how": "Warm"})

    [told] = hearing.told
    complete(told)
    assert told.payload == {"sig": "SIGTERM", "how": "Warm", "exitcode": 0}


def test_a_received_task_is_described_without_its_arguments(receivers, hearing):
    hearing.listen(signals.task_received)

    receivers.announce({"signal": "task_received", "call": CALL})

    [told] = hearing.told
    complete(told)
    request = told.payload["request"]
    assert (request.id, request.task, request.name, request.retries) == (
        *("t1", "shop.pay", "shop.pay", 1),
    )
    assert (request.hostname, request.root_id, request.origin) == ("w1@here", "r1", "alice")
    assert request.get("tenant") == "a"
    assert (request.args, request.kwargs) == ([], {})


def test_a_revoked_task_is_told_to_those_who_wait_for_this_task(receivers, pay, hearing):
    hearing.listen(signals.task_revoked, sender=pay)

    receivers.announce(
        {
            "signal": "task_revoked",
            "call": CALL,
            "terminated": True,
            "signum": signal.SIGKILL.value,
            "expired": False,
        }
    )

    [told] = hearing.told
    complete(told)
    assert told.payload["request"].id == "t1"
    assert told.payload["signum"] == 9


def test_a_failure_outside_of_the_task_process_looks_like_any_other(receivers, pay, hearing):
    hearing.listen(signals.task_failure, sender=pay)
    error = {"type": "TimeLimitExceeded", "message": "hard time limit of 5 seconds"}

    receivers.announce({"signal": "task_failure", "call": CALL, "error": error})

    [told] = hearing.told
    complete(told)
    assert isinstance(told.payload["exception"], TimeLimitExceeded)
    assert told.payload["einfo"].exc_info[1] is told.payload["exception"]
    assert (told.payload["args"], told.payload["kwargs"]) == ([], {})


def test_an_unknown_task_is_told_with_its_name_and_id(receivers, hearing):
    hearing.listen(signals.task_unknown)

    receivers.announce({"signal": "task_unknown", "call": {**CALL, "task": "shop.new"}})

    [told] = hearing.told
    complete(told)
    assert (told.payload["name"], told.payload["id"]) == ("shop.new", "t1")
    assert isinstance(told.payload["exc"], NotRegistered)
    assert told.payload["message"].headers == {"tenant": "a", "id": "t1", "task": "shop.new"}


def test_a_refused_message_is_told_with_the_reason(receivers, hearing):
    hearing.listen(signals.task_rejected)
    told = {"queue": "celery", "id": "raw", "reason": "bad-signature", "detail": "forged"}

    receivers.announce({"signal": "task_rejected", **told})

    [heard] = hearing.told
    complete(heard)
    error, message = heard.payload["exc"], heard.payload["message"]
    assert isinstance(error, RefusedError)
    assert (error.reason, message.reason) == (Refusal.BAD_SIGNATURE, "bad-signature")
    assert message.delivery_info["routing_key"] == "celery"


def test_only_signals_with_receivers_are_asked_for(hearing):
    before = heard_signals()  # what projects of other tests have connected

    hearing.listen(signals.task_revoked, signals.worker_process_shutdown, signals.task_prerun)

    told = [name for name in heard_signals() if name not in before]
    assert told == ["worker_process_shutdown", "task_revoked"]


# Logging


@pytest.fixture
def loggers():
    """The loggers as a worker sets them up; as they were, afterwards."""
    root, task_logger = logging.getLogger(), logging.getLogger(TASK_LOGGER)
    before = [(one, one.handlers[:], one.level, one.propagate) for one in (root, task_logger)]
    setup_logging(**{**SETUP, "hijack": True})
    yield root, task_logger
    for one, handlers, level, propagate in before:
        one.handlers[:] = handlers
        one.setLevel(level)
        one.propagate = propagate
    logging.captureWarnings(capture=False)


def test_whoever_sets_up_logging_finds_it_untouched(loggers, hearing):
    root, task_logger = loggers
    found = []
    root.addHandler(own := logging.NullHandler())
    hearing.listen(signals.setup_logging, signals.after_setup_logger)
    hearing.connect(signals.setup_logging, lambda **_: found.append(root.handlers[:]))

    arrange_logging({"worker_log_format": "unused"}, SETUP)

    [told] = hearing.told
    complete(told)
    assert told.payload == {
        "loglevel": logging.INFO,
        "logfile": None,
        "format": "unused",
        "colorize": False,
    }
    [seen] = found
    assert own in seen
    assert "cardoon" not in {one.get_name() for one in (*seen, *task_logger.handlers)}
    assert task_logger.propagate


def test_what_fails_to_set_up_logging_is_raised(loggers, hearing):
    def broken(**_):
        raise ValueError("no such handler")

    hearing.connect(signals.setup_logging, broken)

    with pytest.raises(ValueError, match="no such handler"):
        arrange_logging({}, SETUP)


def test_loggers_may_be_changed_after_they_were_set_up(loggers, hearing):
    root, task_logger = loggers
    hearing.listen(signals.after_setup_logger, signals.after_setup_task_logger)

    arrange_logging({"worker_log_format": "mine %(message)s"}, SETUP)

    general, of_tasks = hearing.told
    complete(general)
    complete(of_tasks)
    assert (general.payload["logger"], of_tasks.payload["logger"]) == (root, task_logger)
    assert general.payload["format"] == "mine %(message)s"
    assert of_tasks.payload["format"] == "task %(message)s"
    assert root.handlers[0].formatter._fmt == "mine %(message)s"


# Bounds


def test_receivers_that_take_too_long_are_stopped(caplog):
    with limited("task_received", 0.05):
        threading.Event().wait(PATIENCE)
        raise AssertionError("not stopped")

    assert "receivers of task_received took 0.05 seconds and were stopped" in caplog.text
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_receiver_that_catches_everything_it_may_is_stopped_too(hearing, caplog):
    def stubborn(**_):
        try:
            threading.Event().wait(PATIENCE)
        except Exception as error:
            raise AssertionError from error

    hearing.connect(signals.worker_ready, stubborn)
    with limited("worker_ready", 0.05):
        signals.worker_ready.send(sender=None)

    assert "were stopped" in caplog.text


def test_a_receiver_ends_no_process_of_others(caplog):
    with limited("task_received"):
        raise SystemExit(3)

    assert "a receiver of task_received raised SystemExit" in caplog.text


def test_in_other_threads_nothing_is_stopped():
    ended = []

    def work():
        with limited("task_received", 0.01):
            threading.Event().wait(0.05)
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)

    assert ended == [True]


# Without a zygote


def test_a_worker_with_the_app_itself_tells_in_a_thread(receivers, hearing):
    heard = threading.Event()
    hearing.connect(signals.task_received, lambda request, **_: heard.set())
    hearing.listen(signals.worker_shutdown, signals.task_failure)
    herald = LocalHerald(receivers)
    herald.start()

    herald.tell("task_received", {"call": CALL})
    error = {"type": "TimeLimitExceeded", "message": "told by the task itself"}
    herald.tell("task_failure", {"call": CALL, "error": error})
    herald.close(PATIENCE)

    assert heard.is_set()
    assert hearing.names() == ["worker_shutdown"]


def test_a_receiver_that_hangs_does_not_keep_the_worker(receivers, hearing, caplog):
    release = threading.Event()
    hearing.connect(signals.worker_shutdown, lambda **_: release.wait(PATIENCE))
    herald = LocalHerald(receivers)
    herald.start()

    herald.close(0.01)

    assert "did not end within 0.01 seconds" in caplog.text
    release.set()
