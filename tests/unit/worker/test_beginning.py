"""The first steps of a worker are taken when its broker is there."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.testing import FakeClock
from cardoon.worker.beginning import Beginning

PATIENCE = 20.0


class Step:
    """Fails so often, with what it is given, and then succeeds."""

    def __init__(self, failures=0, error=None):
        self.failures = failures
        self.error = error or OperationalError("away")
        self.tries = 0
        self.tried = threading.Event()

    def __call__(self):
        self.tries += 1
        self.tried.set()
        if self.tries <= self.failures:
            raise self.error


def beginning(*steps):
    return Beginning(steps, clock=FakeClock())


def test_steps_are_taken_in_order_and_each_until_it_succeeds(caplog):
    caplog.set_level("INFO")
    first, second, third = Step(), Step(failures=2), Step()

    assert beginning(first, second, third).run()

    assert (first.tries, second.tries, third.tries) == (1, 3, 1)
    assert caplog.messages == [
        "broker: away; the worker waits for it, try 1",
        "broker: there after 0.0 s",
    ]


def test_what_waiting_does_not_mend_is_raised_at_once():
    wrong = Step(failures=9, error=ImproperlyConfigured("too old"))
    never = Step()

    with pytest.raises(ImproperlyConfigured, match="too old"):
        beginning(wrong, never).run()

    assert (wrong.tries, never.tries) == (1, 0)


def test_a_worker_that_is_told_to_stop_waits_no_more():
    away, never = Step(failures=1_000_000), Step()
    began = beginning(away, never)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(began.run)
        assert away.tried.wait(PATIENCE)

        began.give_up()
        began.give_up()

        assert running.result(PATIENCE) is False
    assert never.tries == 0


def test_a_driver_that_does_not_answer_holds_up_no_stop():
    answer = threading.Event()
    asked = threading.Event()

    def ask():
        asked.set()
        answer.wait(PATIENCE)

    began = beginning(ask)
    with ThreadPoolExecutor() as threads:
        running = threads.submit(began.run)
        assert asked.wait(PATIENCE)
        began.give_up()

        assert running.result(PATIENCE) is False
    answer.set()


def test_what_was_given_up_before_its_start_takes_no_step():
    step = Step()
    began = beginning(step)
    began.give_up()

    assert began.run() is False
    assert step.tries == 0
