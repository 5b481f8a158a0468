"""When something that failed is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import InvalidTaskError, OperationalError
from cardoon.retrying import (
    NO_LIMIT,
    backoff_delay,
    publish_delays,
    publish_until,
    retry_limit,
)
from cardoon.testing import FakeClock

FACTORS = st.floats(0, 366 * 86400)
RETRIES = st.integers(0, NO_LIMIT)


@given(factor=FACTORS, retries=RETRIES, maximum=FACTORS, luck=st.floats(0, 1, exclude_max=True))
def test_a_backoff_is_never_negative_and_never_above_its_maximum(factor, retries, maximum, luck):
    for jitter in (None, lambda: luck):
        assert 0 <= backoff_delay(factor, retries, maximum=maximum, jitter=jitter) <= maximum


@given(factor=FACTORS, retries=st.integers(0, 100))
def test_a_backoff_never_shrinks_with_the_retries(factor, retries):
    first, second = (
        backoff_delay(factor, number, maximum=600, jitter=None) for number in (retries, retries + 1)
    )

    assert first <= second


def test_a_backoff_doubles_up_to_its_maximum():
    delays = [backoff_delay(3, number, maximum=20, jitter=None) for number in range(5)]

    assert delays == [3, 6, 12, 20, 20]


def test_full_jitter_spreads_from_nothing_to_the_whole_delay():
    assert backoff_delay(8, 1, maximum=600, jitter=lambda: 0.0) == 0
    assert backoff_delay(8, 1, maximum=600, jitter=lambda: 0.5) == 8


def test_the_smallest_limit_counts():
    assert retry_limit(5, None, 3) == 3
    assert retry_limit(0, 3) == 0
    assert retry_limit(None, None) == NO_LIMIT


def test_the_default_policy_tries_thrice_more():
    assert list(publish_delays({})) == pytest.approx([0.0, 0.2, 0.4])


def test_a_policy_says_how_often_and_how_far_apart():
    policy = {"max_retries": 4, "interval_start": 1, "interval_step": 2, "interval_max": 4}

    assert list(publish_delays(policy)) == [1, 3, 4, 4]


class Flaky:
    """Fails a number of times, each taking a second, and remembers how long it was given."""

    def __init__(self, clock: FakeClock, failures: int) -> None:
        self.clock = clock
        self.failures = failures
        self.given: list[float] = []

    def __call__(self, left: float) -> str:
        self.given.append(left)
        self.clock.advance(1)
        if len(self.given) <= self.failures:
            raise OperationalError(f"failure {len(self.given)}")
        return "done"


def test_a_publish_is_tried_until_it_succeeds():
    clock = FakeClock()
    publish = Flaky(clock, failures=2)

    done = publish_until(
        publish, timeout=10, delays=iter([0.5, 0.5, 0.5]), clock=clock, sleep=clock.advance
    )

    assert done == "done"
    assert publish.given == [10, 8.5, 7]


def test_the_last_error_is_raised_when_no_try_is_left():
    clock = FakeClock()

    with pytest.raises(OperationalError, match="failure 2"):
        publish_until(
            Flaky(clock, failures=9),
            timeout=10,
            delays=iter([0.1]),
            clock=clock,
            sleep=clock.advance,
        )


def test_no_try_begins_behind_the_deadline():
    clock = FakeClock()
    publish = Flaky(clock, failures=9)

    with pytest.raises(OperationalError, match="failure 2"):
        publish_until(publish, timeout=3, delays=iter([0.5] * 9), clock=clock, sleep=clock.advance)

    assert clock.monotonic() <= 3


def test_another_error_is_not_tried_again():
    def publish(left):
        raise InvalidTaskError("never right")

    with pytest.raises(InvalidTaskError):
        publish_until(publish, timeout=3, delays=iter([0.0]), clock=FakeClock())
