"""What a task process writes of its log: lines that are whole, bounded, and never waited for."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cardoon.context import Request, carrying_out
from cardoon.exceptions import SoftTimeLimitExceeded
from cardoon.testing import FakeClock
from cardoon.worker.task_log import (
    BURST_SECONDS,
    MAX_LINE,
    MAX_MISSED,
    Bucket,
    Line,
    TaskLogHandler,
    Terms,
    pack_line,
    parse_line,
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=5000)


@given(ANY_TEXT, ANY_TEXT, st.none() | ANY_TEXT.map(lambda text: text[:128]))
@example('"' * 4000, "\\" * 200, "\x00" * 128)
@example("\ud800" * 4000, "\u202e" * 200, "\udfff" * 128)
@example("😀" * 4000, "😀" * 200, "😀" * 128)
def test_a_line_is_one_line_that_a_pipe_takes_whole(text, logger, task_id):
    packed = pack_line(Line(30, logger, text, task_id, 7))

    assert len(packed) <= MAX_LINE
    assert packed.endswith(b"\n")
    assert packed.count(b"\n") == 1
    told = parse_line(packed[:-1])
    assert (told.level, told.task_id, told.missed) == (30, task_id, 7)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=1000))
def test_what_is_short_arrives_as_it_is(text):
    assert parse_line(pack_line(Line(10, "shop.till", text, "t1"))) == Line(
        10, "shop.till", text, "t1"
    )


@given(st.binary(max_size=200))
@example(b"[" * 4000)
@example(b"1" * 4090)
@example(b'[30,"x","y",null]')
@example(b'[30,"x","y",null,0,0]')
@example(b'[100,"x","y",null,0]')
@example(b'[-1,"x","y",null,0]')
@example(b'[30,"x","y",null,-1]')
@example(f'[30,"x","y",null,{MAX_MISSED + 1}]'.encode())
@example(b'[30,"x","y",["t1"],0]')
@example(b'[30,"x",null,"t1",0]')
@example(b'{"level":30}')
@example(b"\xff\xfe")
def test_what_is_no_line_is_refused(packed):
    with pytest.raises(ValueError, match=r"."):
        parse_line(packed)


def test_a_bucket_lets_a_burst_pass_and_then_its_rate():
    bucket = Bucket(10, now=0.0)

    assert sum(bucket.allows(0.0) for _ in range(1000)) == 10 * BURST_SECONDS
    assert sum(bucket.allows(1.0) for _ in range(1000)) == 10
    assert not bucket.allows(0.5)  # a clock that is set back gives nothing
    assert sum(bucket.allows(1000.0) for _ in range(1000)) == 10 * BURST_SECONDS


@pytest.fixture
def pipe():
    read, write = os.pipe()
    os.set_blocking(read, False)
    yield read, write
    os.close(read)
    os.close(write)


def make_handler(pipe, rate=1_000_000.0, clock=None):
    clock = clock or FakeClock()
    return TaskLogHandler(pipe[1], Terms(logging.INFO, rate), monotonic=clock.monotonic)


def record(text, *args, level=logging.WARNING):
    return logging.LogRecord("shop", level, __file__, 1, text, args, None)


def read_lines(pipe):
    found = b""
    while True:
        try:
            found += os.read(pipe[0], 1 << 20)
        except BlockingIOError:
            return [parse_line(line) for line in found.split(b"\n")[:-1]]


def test_a_record_says_which_task_logged_it(pipe):
    handler = make_handler(pipe)

    with carrying_out(Request(task="shop.pay", id="t1")):
        handler.handle(record("took %d", 5))
    handler.handle(record("idle"))

    assert read_lines(pipe) == [
        Line(30, "shop", "took 5", "t1"),
        Line(30, "shop", "idle", None),
    ]


def test_a_full_pipe_makes_nobody_wait_and_what_had_no_room_is_counted(pipe):
    handler = make_handler(pipe)

    with carrying_out(Request(task="shop.pay", id="t1")):
        for number in range(5000):
            handler.handle(record("number %d", number))
    came = read_lines(pipe)
    missed = handler.settle("t1")

    assert missed > 0
    assert len(came) + missed == 5000
    assert [line.text for line in came] == [f"number {number}" for number in range(len(came))]
    assert handler.settle("t1") == 0


def test_what_is_beyond_the_rate_is_counted_and_told_with_a_later_record(pipe):
    clock = FakeClock()
    handler = make_handler(pipe, rate=2, clock=clock)

    with carrying_out(Request(task="shop.pay", id="t1")):
        for number in range(30):
            handler.handle(record("number %d", number))
        clock.advance(10)
        handler.handle(record("later"))
    came = read_lines(pipe)

    assert len(came) == 11
    assert came[-1] == Line(30, "shop", "later", "t1", missed=20)
    assert handler.settle("t1") == 0


def test_what_interrupts_a_task_while_it_logs_reaches_the_task(pipe):
    class Slow:
        def __str__(self):
            raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        make_handler(pipe).handle(record("%s", Slow()))


def test_a_record_that_cannot_be_written_harms_nobody(pipe, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    make_handler(pipe).handle(record("%d", "no number"))

    assert read_lines(pipe) == []


def test_a_worker_that_is_gone_harms_nobody(pipe):
    handler = make_handler(pipe)
    closed, other = os.pipe()
    os.dup2(closed, pipe[0])  # the last reader is gone
    os.close(closed)
    os.close(other)

    handler.handle(record("to nobody"))

    assert handler.settle("t1") == 1  # of nobody's
