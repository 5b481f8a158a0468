"""What a running task knows about its own call."""

from __future__ import annotations

import contextvars

import pytest

from cardoon.context import Request, carrying_out, current_request


def test_outside_of_a_task_there_is_no_request():
    assert current_request() is None


def test_the_current_request_is_that_of_the_innermost_block():
    outer, inner = Request(task="outer"), Request(task="inner")

    with carrying_out(outer):
        with carrying_out(inner):
            assert current_request() is inner
        assert current_request() is outer
    assert current_request() is None


def test_a_block_that_raises_ends_its_request():
    with pytest.raises(ValueError, match="x"), carrying_out(Request()):
        raise ValueError("x")

    assert current_request() is None


def test_a_request_is_not_seen_in_another_context():
    with carrying_out(Request()):
        assert contextvars.Context().run(current_request) is None


def test_attributes_are_asked_for_as_in_celery():
    request = Request(id="1", retries=2)

    assert request.get("retries") == 2
    assert request.get("chord", "none") == "none"
    assert request.get("get") is None
    assert request.correlation_id == "1"
