"""Attacks on broadcast queues by somebody who writes the store.

One signed message is carried out once by each worker. So its copies must not run twice at one worker,
not from another queue, and no message that was sent elsewhere must run as a copy.
"""

from __future__ import annotations

import pytest

from tests.unit.newsroom import Newsroom

ONE, TWO = "one@here", "two@here"


@pytest.fixture
def room(tmp_path):
    made = Newsroom(tmp_path)
    made.start(ONE, TWO)
    yield made
    made.close()


def test_untouched_each_worker_runs_it_once(room):
    room.send(5)

    assert room.work() == [(ONE, 5), (TWO, 5)]
    assert (room.work(), room.refused(), room.left()) == ([], [], 0)


def test_a_copy_does_not_run_twice_at_the_same_worker(room):
    room.send(5)
    frame = room.frame(ONE)
    room.work()

    room.put(frame, ONE)

    assert (room.work(), room.refused()) == ([], ["replayed"])


def test_nor_while_the_first_is_running(room):
    room.send(5)
    room.put(room.frame(ONE), ONE)

    assert room.work(ONE) == [(ONE, 5)]
    room.pass_time(10)
    assert (room.work(ONE), room.refused()) == ([], ["replayed"])


def test_nor_after_the_worker_was_started_again(room):
    room.send(5)
    frame = room.frame(ONE)
    room.work()
    room.stop(ONE)
    room.start(ONE)

    room.put(frame, ONE)

    assert (room.work(), room.refused()) == ([], ["replayed"])


def test_a_copy_does_not_run_at_a_worker_that_has_run_its_own(room):
    room.send(5)
    frame = room.frame(ONE)
    room.work(TWO)

    room.put(frame, TWO)

    assert (room.work(TWO), room.refused()) == ([], ["replayed"])
    assert room.work(ONE) == [(ONE, 5)]


def test_a_copy_that_comes_before_the_own_one_takes_its_turn(room):
    room.send(5)
    room.put(room.frame(ONE), TWO)

    assert room.work(TWO) == [(TWO, 5)]
    room.pass_time(10)
    assert (room.work(TWO), room.refused()) == ([], ["replayed"])


def test_a_copy_does_not_run_from_an_ordinary_queue(room):
    room.send(5)

    room.put(room.frame(ONE), None, queue="celery")
    room.put(room.frame(ONE), None, queue="news")  # which no worker reads of its own accord
    room.work(ONE, TWO)

    assert room.ran == [(ONE, 5), (TWO, 5)]
    assert room.refused() == ["wrong-audience", "wrong-audience"]


def test_an_ordinary_message_does_not_run_as_a_copy(room):
    room.send(5, queue="celery")

    room.put(room.frame(None, "celery"), TWO)

    assert (room.work(TWO), room.refused()) == ([(TWO, 5)], ["wrong-audience"])


def test_a_message_to_one_broadcast_queue_does_not_run_from_another(room):
    room.send(5)

    room.put(room.frame(ONE), ONE, queue="weather")

    assert (room.work(ONE), room.refused()) == ([(ONE, 5)], ["wrong-audience"])


def test_a_changed_copy_is_refused(room):
    room.send(5)
    frame = room.frame(ONE)

    room.put(frame.replace(b"[[5]", b"[[6]"), ONE)
    assert b"[[5]" in frame

    assert (room.work(ONE), room.refused()) == ([(ONE, 5)], ["wrong-digest"])
