"""`capture`: what is sent, looked at."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest

from cardoon import Cardoon, chain, chord, group
from cardoon.exceptions import InvalidTaskError
from cardoon.testing import FakeClock, capture
from tests.unit.stage import make_app


@pytest.fixture
def app(tmp_path):
    with make_app(tmp_path, clock=FakeClock()) as made:

        @made.task(name="shop.add")
        def add(x, y=0):
            return x + y

        @made.task(name="shop.mail", queue="mail", max_retries=7)
        def mail(to):
            """Nothing is sent here."""

        yield made


@pytest.fixture
def add(app):
    return app.tasks["shop.add"]


@pytest.fixture
def mail(app):
    return app.tasks["shop.mail"]


def send_in_every_way(app, add):
    add.delay(1, 2)
    add.apply_async((1,), {"y": 2})
    app.send_task("shop.add", (1, 2))
    add.send_many([(1, 2), {"x": 1, "y": 2}])
    add.s(1, 2).delay()
    app.send_many([add.s(1, 2)])
    asyncio.run(send_async(add))


async def send_async(add):
    await add.adelay(1, 2)
    await add.aapply_async((1, 2), timeout=5)


def test_every_way_of_sending_is_captured_and_nothing_is_published(app, add):
    with capture(app) as sent:
        send_in_every_way(app, add)

    assert len(sent) == 9
    assert sent.names == ["shop.add"] * 9
    assert {(one.args, tuple(one.kwargs.items())) for one in sent} == {
        ((1, 2), ()),
        ((1,), (("y", 2),)),
        ((), (("x", 1), ("y", 2))),
    }
    assert sum(depth.ready for depth in app.sender._broker.depths()) == 0


def test_with_publish_it_is_sent_as_well(app, add):
    with capture(app, publish=True) as sent:
        send_in_every_way(app, add)
        assert add.AsyncResult("nobody").state == "PENDING"

    assert len(sent) == 9
    assert [depth.ready for depth in app.sender._broker.depths()] == [9]


def test_after_the_block_calls_are_sent_as_before(app, add):
    with capture(app) as sent:
        with capture(app) as inner:
            add.delay(1)
        add.delay(2)
    add.delay(3)

    assert [one.args for one in inner] == [(1,)]
    assert [one.args for one in sent] == [(2,)]
    assert [depth.ready for depth in app.sender._broker.depths()] == [1]


def test_calls_are_checked_as_ever(app, add):
    with capture(app) as sent, pytest.raises(InvalidTaskError):
        add.delay()

    sent.assert_nothing_sent()


def test_the_current_app_is_captured_where_none_is_named(tmp_path):
    with Cardoon("mine", broker="memory://", state_directory=str(tmp_path)) as app:
        with capture() as sent:
            app.send_task("elsewhere.task")

        sent.assert_sent("elsewhere.task")


def test_eager_tasks_are_sent_while_they_are_captured(tmp_path):
    with make_app(tmp_path, task_always_eager=True) as app:
        ran = []
        add = app.task(ran.append)

        with capture(app) as sent:
            add.delay(1)
        assert ran == []
        add.delay(2)

        sent.assert_sent(add, args=(1,))
        assert ran == [2]


def test_a_call_is_found_by_its_arguments_and_options(app, add, mail):
    with capture(app) as sent:
        mail.delay("ann")
        add.apply_async(
            (1,),
            {"y": (2, 3)},
            task_id="one",
            queue="fast",
            countdown=60,
            expires=timedelta(minutes=5),
            priority=9,
            headers={"trace": "x"},
            time_limit=30,
        )

    sent.assert_sent("shop.mail")
    sent.assert_sent(mail, args=("ann",), kwargs={}, queue="mail", max_retries=7)
    sent.assert_sent(mail, args=["ann"], priority=0, countdown=None, eta=None)
    sent.assert_sent(add, args=(mock.ANY,), kwargs={"y": mock.ANY})
    found = sent.assert_sent(
        add,
        args=(1,),
        kwargs={"y": (2, 3)},
        count=1,
        task_id="one",
        queue="fast",
        countdown=60,
        expires=300,
        priority=9,
        headers={"trace": "x"},
        time_limit=30,
    )
    assert found.options["eta"] == datetime.fromtimestamp(1_700_000_060, UTC)
    sent.assert_sent(add, eta=datetime.fromtimestamp(1_700_000_060, UTC))
    sent.assert_sent(add, eta=datetime(2023, 11, 14, 22, 14, 20))  # noqa: DTZ001  # UTC is meant
    sent.assert_sent(add, expires=timedelta(minutes=5))
    sent.assert_not_sent(add, priority=None)
    sent.assert_not_sent(add, countdown=70)
    sent.assert_not_sent(mail, args=("bob",))
    assert sent.find(add) == [found] == [sent[1]]


def test_values_are_compared_as_they_arrive(app, add):
    moment = datetime(2024, 5, 6, tzinfo=UTC)

    with capture(app) as sent:
        add.delay({"at": moment, "pair": (1, 2)})

    sent.assert_sent(add, args=({"at": moment, "pair": (1, 2)},))
    sent.assert_sent(add, args=({"at": moment, "pair": [1, 2]},))
    sent.assert_not_sent(add, args=({"at": moment, "pair": [1, object()]},))


def test_a_failure_shows_what_was_sent_and_what_is_nearest(app, add, mail):
    with capture(app) as sent:
        mail.delay("ann")
        add.delay(2, 3)

    with pytest.raises(AssertionError) as caught:
        sent.assert_sent("shop.add", args=(2, 2), queue="fast")

    assert str(caught.value).splitlines() == [
        "task 'shop.add' with args=(2, 2), queue='fast' was not sent; sent: 2",
        "  1. shop.mail('ann'), queue='mail'",
        "  2. shop.add(2, 3), queue='celery'",
        "     nearest, but args is (2, 3), not (2, 2)",
        "     nearest, but queue is 'celery', not 'fast'",
    ]


def test_a_failure_of_a_name_shows_the_one_that_is_like_it(app, add, mail):
    with capture(app) as sent:
        add.delay(1)
        mail.delay("ann")

    with pytest.raises(
        AssertionError, match=r"nearest, but the task is 'shop.mail', not 'shop.mal"
    ):
        sent.assert_sent("shop.mal")


def test_a_failure_of_nothing_says_so(app, add):
    with capture(app) as sent:
        pass

    sent.assert_nothing_sent()
    with pytest.raises(AssertionError, match=r"task 'shop.add' was not sent; nothing was sent"):
        sent.assert_sent(add)


def test_a_long_list_is_cut(app, add):
    with capture(app) as sent:
        add.send_many((number,) for number in range(25))

    with pytest.raises(AssertionError, match=r"20\. shop.add\(19\).*\n  and 5 more$"):
        sent.assert_sent("other")


def test_how_often_it_was_sent_is_compared(app, add):
    with capture(app) as sent:
        add.send_many([(1,), (1,), (2,)])

    sent.assert_sent(add, args=(1,), count=2)
    with pytest.raises(
        AssertionError, match=r"with args=\(2,\) was sent once, not 3 times; sent: 3"
    ):
        sent.assert_sent(add, args=(2,), count=3)
    with pytest.raises(AssertionError, match=r"was sent twice: shop.add"):
        sent.assert_not_sent(add, args=(1,))
    with pytest.raises(AssertionError, match="something was sent; sent: 3"):
        sent.assert_nothing_sent()
    with pytest.raises(ValueError, match="count=0 is below 1; use assert_not_sent"):
        sent.assert_sent(add, count=0)

    sent.clear()
    sent.assert_nothing_sent()


def test_what_is_no_task_or_option_is_refused(app, add):
    with capture(app) as sent:
        add.delay(1)

    with pytest.raises(TypeError, match="5 is neither a task nor the name of one"):
        sent.assert_sent(5)
    with pytest.raises(TypeError, match="'qeue'; did you mean 'queue'"):
        sent.assert_not_sent(add, qeue="fast")


def test_a_canvas_says_what_waits_for_what(app, add, mail):
    with capture(app) as sent:
        chain(add.s(1), add.s(2).set(countdown=30, expires=60)).apply_async()
        chord(group(add.s(1), add.s(2)), mail.si("ann")).apply_async()

    first, second, one, two, body = sent
    assert first.after == ()
    assert second.after == (first.id,)
    sent.assert_sent(add, args=(2,), countdown=30, expires=60, count=1)
    assert body.task == "shop.mail"
    assert body.after == (one.id, two.id)


def test_a_result_is_not_waited_for_in_vain(app, add):
    with capture(app) as sent:
        result = add.delay(1)

        assert result.state == "PENDING"
        with pytest.raises(AssertionError, match=r"the result of .* nothing runs; use capture\("):
            result.get()
        result.forget()
        result.revoke()

    assert sent.revoked == [result.id]


def test_stamps_are_captured_on_tasks_and_on_revocations(app, add):
    with capture(app) as sent:
        add.apply_async((1,), stamped_headers=["tenant"], tenant="a")
        app.control.revoke_by_stamped_headers({"tenant": "a"})

    sent.assert_sent(add, stamps={"tenant": "a"}, count=1)
    sent.assert_not_sent(add, stamps={"tenant": "b"})
    assert (sent.revoked, sent.revoked_stamps) == ([], [{"tenant": ["a"]}])


def test_what_is_captured_lies_nowhere_unless_it_is_published(app, add):
    with capture(app):
        unpublished = add.delay(1)
        assert unpublished.whereabouts() is None
        assert app.control.purge() == 0
    with capture(app, publish=True):
        assert add.delay(1).whereabouts() == "ready"
        assert app.control.purge() == 1
