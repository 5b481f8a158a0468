"""The handler of syslog in front of whoever logs."""

from __future__ import annotations

import logging

import pytest

from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded, Terminated
from cardoon.syslog.handler import SyslogHandler


def log(error):
    """Log a record whose sending meets with an error."""

    def tell(_):
        raise error

    handler = SyslogHandler(tell, facility=3, level=logging.INFO)
    record = logging.makeLogRecord({"name": "shop", "levelno": logging.WARNING, "msg": "late"})
    handler.handle(record)


@pytest.mark.parametrize("interrupt", [SoftTimeLimitExceeded, SoftShutdown, Terminated])
def test_a_task_that_is_interrupted_while_it_logs_is_interrupted(interrupt):
    with pytest.raises(interrupt):
        log(interrupt())


def test_whoever_logs_does_not_suffer_from_anything_else(capsys):
    log(ValueError("no"))

    assert "ValueError: no" in capsys.readouterr().err
