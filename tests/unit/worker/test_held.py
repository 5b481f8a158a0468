"""What a worker holds: messages on loan."""

from __future__ import annotations

import threading

import pytest

from tests.unit.stage import held_of


@pytest.fixture
def hold(stage):
    """Sends messages and has the worker hold them."""

    def make(*ids, **options):
        for task_id in ids:
            stage.send(task_id=task_id, **options)
        return [held_of(stage, job) for job in stage.consume()]

    return make


def test_a_held_message_tells_what_was_signed(hold):
    [held] = hold("t1")

    assert (held.id, held.task, held.retries) == ("t1", "shop.pay", 0)
    assert held.answered == held.message.digest
    assert (held.settled, held.revoked, held.ignores_result) == (False, None, False)


def test_retries_of_this_message_and_of_those_before_it_count_together(stage):
    stage.send_raw(retries=2, max_retries=9)
    [job] = stage.consume()
    held = held_of(stage, job)
    held.delivery = held.delivery._replace(retries=3)

    assert held.retries == 5


@pytest.mark.parametrize(("counted", "told"), [(-7, 2), (2**63, 2**31 - 1), (2**31 - 1, 2**31 - 1)])
def test_retries_are_a_number_that_can_be_signed_whatever_the_store_has_counted(
    stage, counted, told
):
    stage.send_raw(retries=2, max_retries=9)
    [job] = stage.consume()
    held = held_of(stage, job)
    held.delivery = held.delivery._replace(retries=counted)

    assert held.retries == told


def test_a_message_says_whether_others_wait_for_it(hold):
    [awaited] = hold("t1", link={"task": "shop.ship"})
    [lone] = hold("t2")

    assert (awaited.is_awaited, lone.is_awaited) == (True, False)


def test_messages_are_found_by_key_and_by_task(stage, hold):
    first, second = hold("t1", "t2")

    assert stage.held.get(first.key) is first
    assert stage.held.with_id("t2") == [second]
    assert stage.held.with_id("t3") == []
    assert stage.held.all() == [first, second]
    assert len(stage.held) == 2


def test_a_message_that_was_let_go_is_not_there_any_more(stage, hold):
    [held] = hold("t1")

    assert stage.held.remove(held.key) is held
    assert stage.held.remove(held.key) is None
    assert stage.held.get(held.key) is None
    assert len(stage.held) == 0


def test_no_two_threads_get_one_key(stage):
    found: list[list[int]] = []

    def draw():
        found.append([stage.held.new_key() for _ in range(500)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    keys = [key for some in found for key in some]
    assert len(keys) == len(set(keys)) == 2000
