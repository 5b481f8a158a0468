"""How much a job may tell the worker besides its outcome."""

from __future__ import annotations

import pytest

from cardoon.worker import allowance
from cardoon.worker.allowance import Allowance
from cardoon.worker.ipc import MIB, IpcError


def test_a_task_may_send_for_as_long_as_it_runs():
    mine = Allowance(100.0)

    for second in range(1, 100):
        for _ in range(allowance.FRAMES_A_SECOND):
            mine.take(1000, 100.0 + second)


def test_a_flood_of_frames_is_too_much():
    mine = Allowance(0.0)
    for _ in range(allowance.FRAMES):
        mine.take(10, 0.0)

    with pytest.raises(IpcError, match="20001 frames"):
        mine.take(10, 0.0)


def test_a_flood_of_bytes_is_too_much():
    mine = Allowance(0.0)
    for _ in range(4):
        mine.take(64 * MIB, 0.0)

    with pytest.raises(IpcError, match=r"bytes in 0\.0 seconds"):
        mine.take(1, 0.0)
    Allowance(0.0).take(allowance.BYTES + allowance.BYTES_A_SECOND, 1.0)


def test_what_waits_for_an_answer_is_bounded():
    mine = Allowance(0.0)
    for number in range(allowance.UNANSWERED):
        mine.ask(number, 1000)

    with pytest.raises(IpcError, match="256 requests"):
        mine.ask(999, 1)
    mine.answered(3)
    mine.ask(999, 1)


def test_large_requests_wait_one_after_the_other():
    mine = Allowance(0.0)
    mine.ask(1, 72 * MIB)
    mine.ask(2, 72 * MIB)

    with pytest.raises(IpcError, match="unanswered"):
        mine.ask(3, 1)


def test_a_number_is_not_used_twice_at_once():
    mine = Allowance(0.0)
    mine.ask(1, 0)

    with pytest.raises(IpcError, match="request 1"):
        mine.ask(1, 0)
