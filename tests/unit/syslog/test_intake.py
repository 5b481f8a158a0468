"""The intake: bounded, with more room for messages about security, and honest about what it dropped."""

from __future__ import annotations

import gc

from cardoon.syslog.intake import Gap, Intake
from cardoon.syslog.messages import Frame


def frame(number, *, is_security=False):
    return Frame(number, is_security, b"%d" % number)


def test_what_is_put_in_comes_out_in_order():
    intake = Intake(10)
    for number in range(5):
        intake.put(frame(number))

    assert [one.number for one in intake.take(3)] == [0, 1, 2]
    assert [one.number for one in intake.take(3)] == [3, 4]
    assert intake.take_gap() is None


def test_what_has_no_room_is_dropped_counted_and_told_once_there_is_room():
    intake = Intake(3)
    for number in range(8):
        intake.put(frame(number))

    assert intake.dropped == 5
    assert intake.take_gap() is None  # there is no room for telling it
    intake.take(3)
    assert intake.take_gap() == Gap(5, 3, 7)
    assert intake.take_gap() is None


def test_messages_about_security_have_room_when_others_have_none():
    intake = Intake(3)
    for number in range(5):
        intake.put(frame(number))
    for number in range(5, 10):
        intake.put(frame(number, is_security=True))

    assert [one.number for one in intake.take(100)] == [0, 1, 2, 5, 6, 7]
    assert intake.take_gap() == Gap(4, 3, 9)


def test_a_long_queue_is_no_work_for_the_garbage_collector():
    intake = Intake(20_000)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(20_000):
        intake.put(frame(number))

    gc.collect()

    assert len(gc.get_objects()) - before < 100
    assert len(intake) == 20_000
