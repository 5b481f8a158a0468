"""The signals: their names, and what tasks and senders say."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from cardoon import chain, shared_task, signals
from cardoon.announcing import announce_internal_error
from cardoon.context import Request, carrying_out, current_request
from cardoon.dispatch import Signal
from cardoon.exceptions import (
    EncodeError,
    Ignore,
    InvalidTaskError,
    OperationalError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
)
from cardoon.executor import Failed, HandedBack, Succeeded, execute
from cardoon.message.serializers import decode_body
from cardoon.publishing import _warn_of_change

CELERYS = """
after_setup_logger after_setup_task_logger after_task_publish beat_embedded_init beat_init
before_task_publish celeryd_after_setup celeryd_init eventlet_pool_apply eventlet_pool_postshutdown
eventlet_pool_preshutdown eventlet_pool_started heartbeat_sent import_modules setup_logging
task_failure task_internal_error task_postrun task_prerun task_received task_rejected task_retry
task_revoked task_success task_unknown worker_before_create_process worker_init worker_process_init
worker_process_shutdown worker_ready worker_shutdown worker_shutting_down
"""
OF_TASKS = (
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_failure,
    signals.task_retry,
)


def run(task, *args, request=None, **kwargs):
    """Carry out a task as a process of a worker does."""
    call = request or Request(
        task=task.name, id="t1", args=args, kwargs=kwargs, called_directly=False
    )
    return execute(task, call, asyncio.run)


def payload_is_complete(told):
    wanted = getattr(signals, told.signal).providing_args
    assert set(told.payload) == wanted, told.signal


# The names


def test_every_signal_of_celery_is_here():
    assert set(CELERYS.split()) <= set(signals.__all__)
    for name in signals.__all__:
        found = getattr(signals, name)
        assert isinstance(found, Signal)
        assert found.name == name


@pytest.mark.parametrize("name", ["eventlet_pool_apply", "user_preload_options"])
def test_a_signal_that_is_never_sent_says_why(name):
    assert getattr(signals, name).never_sent


# A task that runs


def test_a_task_that_succeeds_says_so(app, hearing):
    hearing.listen(*OF_TASKS)
    add = app.task(name="shop.add")(lambda x, y: x + y)

    run(add, 1, y=2)

    assert hearing.names() == ["task_prerun", "task_success", "task_postrun"]
    before, success, after = hearing.told
    for told in hearing.told:
        payload_is_complete(told)
        assert told.sender is add
    assert before.payload == {"task_id": "t1", "task": add, "args": (1,), "kwargs": {"y": 2}}
    assert success.payload["result"] == 3
    assert 0 <= success.payload["runtime"] < 5
    assert (after.payload["retval"], after.payload["state"]) == (3, "SUCCESS")


def test_a_task_that_fails_says_how(app, hearing):
    hearing.listen(*OF_TASKS)

    @app.task(name="shop.fail")
    def fail(reason):
        raise ValueError(reason)

    run(fail, "no")

    assert hearing.names() == ["task_prerun", "task_failure", "task_postrun"]
    _, failure, after = hearing.told
    payload_is_complete(failure)
    error = failure.payload["exception"]
    assert isinstance(error, ValueError)
    assert failure.payload["args"] == ("no",)
    assert failure.payload["traceback"] is error.__traceback__
    info = failure.payload["einfo"]
    assert (info.type, info.exception) == (ValueError, error)
    assert info.exc_info == (ValueError, error, error.__traceback__)
    assert "in fail" in str(info)
    assert (after.payload["retval"], after.payload["state"]) == (error, "FAILURE")


def test_a_task_that_wants_to_run_again_says_why(app, hearing):
    hearing.listen(*OF_TASKS)

    @app.task(name="shop.busy", bind=True)
    def busy(self):
        raise self.retry(exc=OSError("busy"), countdown=5)

    run(busy)

    assert hearing.names() == ["task_prerun", "task_retry", "task_postrun"]
    _, again, after = hearing.told
    payload_is_complete(again)
    assert again.payload["request"].id == "t1"
    assert isinstance(again.payload["reason"], Retry)
    assert isinstance(again.payload["einfo"].exception, OSError)
    assert (after.payload["state"], after.payload["retval"]) == ("RETRY", again.payload["reason"])


@pytest.mark.parametrize(
    ("error", "state", "names"),
    [
        (Ignore(), "IGNORED", ["task_postrun"]),
        (Reject("no", requeue=True), "REJECTED", ["task_postrun"]),
        (Reject("no"), "REJECTED", ["task_failure", "task_postrun"]),
    ],
    ids=["ignored", "put back", "rejected"],
)
def test_the_other_ways_to_end_are_told(app, hearing, error, state, names):
    hearing.listen(*OF_TASKS)

    @app.task(name="shop.end")
    def end():
        raise error

    run(end)

    assert hearing.names() == ["task_prerun", *names]
    assert hearing.told[-1].payload["state"] == state
    assert hearing.told[-1].payload["retval"] is error


def test_hooks_and_signals_follow_each_other_as_in_celery(app, hearing):
    order = []

    class Base(app.Task):
        def before_start(self, *_):
            order.append("before_start")

        def on_success(self, *_):
            order.append("on_success")

        def after_return(self, *_):
            order.append("after_return")

    def note(signal, **_):
        order.append(signal.name)

    for one in OF_TASKS:
        hearing.connect(one, note)
    task = app.task(name="shop.add", base=Base)(lambda: order.append("body"))

    run(task)

    assert order == [
        "task_prerun",
        "before_start",
        "body",
        "on_success",
        "task_success",
        "after_return",
        "task_postrun",
    ]


def test_receivers_see_the_request_of_the_task(app, hearing):
    seen = []
    for one in (signals.task_prerun, signals.task_postrun):
        hearing.connect(one, lambda task, **_: seen.append(task.request.id))

    run(app.task(name="shop.add")(lambda: None))

    assert seen == ["t1", "t1"]


def test_a_coroutine_tells_the_same(app, hearing):
    hearing.listen(*OF_TASKS)

    @app.task(name="shop.sleep")
    async def sleep():
        await asyncio.sleep(0)
        return "awake"

    assert sleep.apply().get() == "awake"
    assert hearing.names() == ["task_prerun", "task_success", "task_postrun"]


def test_an_eager_task_tells_each_of_its_tries(app, hearing):
    hearing.listen(*OF_TASKS)

    @app.task(name="shop.flaky", bind=True)
    def flaky(self):
        if self.request.retries == 0:
            raise self.retry(countdown=1)
        return "done"

    flaky.apply()

    assert hearing.names() == [
        *("task_prerun", "task_retry", "task_postrun"),
        *("task_prerun", "task_success", "task_postrun"),
    ]


def test_a_receiver_may_hear_of_one_task_by_the_task_or_its_name(app, hearing):
    pay = app.task(name="shop.pay")(lambda: None)
    ship = app.task(name="shop.ship")(lambda: None)
    hearing.listen(signals.task_prerun, sender=pay)
    hearing.listen(signals.task_success, sender="shop.ship")

    run(pay)
    run(ship)

    assert [(told.signal, told.sender) for told in hearing.told] == [
        ("task_prerun", pay),
        ("task_success", ship),
    ]


def test_a_receiver_may_hear_of_a_shared_task(app, hearing):
    @shared_task(name="library.index")
    def index():
        return None

    hearing.listen(signals.task_prerun, sender=index)

    run(app.tasks["library.index"])

    assert [told.sender.name for told in hearing.told] == ["library.index"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)], ids=["error", "exit"])
def test_no_receiver_changes_how_a_task_ended(app, hearing, caplog, error):
    def broken(**_):
        raise error

    for one in (signals.task_success, signals.task_postrun):
        hearing.connect(one, broken)

    outcome = run(app.task(name="shop.add")(lambda: 5))

    assert outcome == Succeeded(5)
    assert len(caplog.records) == 2


def test_an_interrupt_that_reaches_a_receiver_is_meant_for_its_task(app, hearing):
    def slow(**_):
        raise SoftTimeLimitExceeded

    hearing.connect(signals.task_prerun, slow)
    ran = []

    outcome = run(app.task(name="shop.add")(lambda: ran.append(1)))

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, SoftTimeLimitExceeded)
    assert not ran


def test_a_task_that_is_handed_back_still_ends_for_who_saw_it_begin(app, hearing):
    from cardoon.exceptions import SoftShutdown  # noqa: PLC0415

    hearing.listen(*OF_TASKS)

    @app.task(name="shop.long")
    def long():
        raise SoftShutdown

    assert isinstance(run(long), HandedBack)
    assert hearing.names() == ["task_prerun", "task_postrun"]
    assert hearing.told[-1].payload["state"] == "PENDING"


def test_an_internal_error_is_told_with_the_whole_call(app, hearing):
    hearing.listen(signals.task_internal_error)
    task = app.task(name="shop.pay")(lambda: None)
    request = Request(task="shop.pay", id="t1", args=[1])

    announce_internal_error(task, request, EncodeError("a lock"), "traceback")

    [told] = hearing.told
    payload_is_complete(told)
    assert told.payload["request"] is request
    assert told.payload["einfo"].traceback == "traceback"


# A task that is sent


@pytest.fixture
def sent(stage):
    """What lies in the queue: the headers and the body of each message."""

    def read():
        jobs = stage.consume()
        return [
            (job.head["headers"], decode_body(job.head["codec"], job.body, max_bytes=1 << 20))
            for job in jobs
        ]

    return read


@pytest.fixture
def pay(stage):
    return stage.app.task(name="shop.pay")(lambda *args, **kwargs: None)


PUBLISH = (signals.before_task_publish, signals.after_task_publish)


def test_a_send_is_told_before_and_after(pay, hearing):
    hearing.listen(*PUBLISH)

    pay.apply_async((1,), {"y": 2}, task_id="t1", headers={"tenant": "a"}, priority=3, shadow="Pay")

    before, after = hearing.told
    for told in hearing.told:
        payload_is_complete(told)
        assert told.sender == "shop.pay"
        assert (told.payload["exchange"], told.payload["routing_key"]) == ("", "celery")
        args, kwargs, embed = told.payload["body"]
        assert (list(args), kwargs) == ([1], {"y": 2})
        assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        headers = told.payload["headers"]
        assert headers["id"] == headers["root_id"] == "t1"
        assert headers["task"] == "shop.pay"
        assert (headers["tenant"], headers["shadow"], headers["retries"]) == ("a", "Pay", 0)
        assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(1,)", "{'y': 2}")
    assert before.payload["properties"]["correlation_id"] == "t1"
    assert before.payload["properties"]["priority"] == 3
    assert before.payload["declare"] == []
    assert "max_retries" in before.payload["retry_policy"] or not before.payload["retry_policy"]
    assert before.signal == "before_task_publish"
    assert after.signal == "after_task_publish"


def test_what_a_receiver_adds_to_the_headers_is_signed_and_reaches_the_task(
    pay, hearing, sent, stage
):
    def trace(headers, **_):
        headers["traceparent"] = "00-abc"
        headers["tenant"] = "b"
        del headers["secret"]

    hearing.connect(signals.before_task_publish, trace)

    pay.apply_async((1,), headers={"tenant": "a", "secret": 1, "id": "theirs"})

    [(headers, body)] = sent()
    assert headers["headers"] == {"id": "theirs", "tenant": "b", "traceparent": "00-abc"}
    assert body[0] == [1]
    request = Request(headers=headers["headers"])
    assert request.get("traceparent") == request.traceparent == "00-abc"
    with pytest.raises(AttributeError, match="no attribute or header 'baggage'"):
        _ = request.baggage


def test_receivers_are_told_the_stamps(pay, hearing):
    hearing.listen(*PUBLISH)

    pay.apply_async((1,), stamped_headers=["tenant"], tenant="a")
    pay.s(2).apply_async(stamped_headers=["tenant"], tenant="b")
    pay.delay(3)

    told = [one.payload["headers"] for one in hearing.told]
    assert [one["stamps"] for one in told[::2]] == [{"tenant": "a"}, {"tenant": "b"}, {}]
    assert [one["stamped_headers"] for one in told[1::2]] == [["tenant"], ["tenant"], None]


def test_a_receiver_may_change_the_arguments(pay, hearing, sent):
    def change(body, **_):
        body[0].append(2)
        body[1]["who"]["name"] = "ann"

    hearing.connect(signals.before_task_publish, change)

    pay.delay(1, who={})

    [(_, body)] = sent()
    assert body[:2] == [[1, 2], {"who": {"name": "ann"}}]


def test_changing_what_has_a_claim_of_its_own_does_nothing_and_is_warned_about(
    pay, hearing, sent, stage, caplog
):
    _warn_of_change.cache_clear()

    def meddle(headers, **_):
        headers["id"] = "another"
        headers["timelimit"][0] = 5
        headers["stamps"]["tenant"] = "theirs"
        headers.pop("eta")

    hearing.connect(signals.before_task_publish, meddle)

    with caplog.at_level(logging.WARNING):
        results = [pay.delay(), pay.delay()]

    assert [headers for headers, _ in sent()] == [{}, {}]
    assert all(result.id != "another" for result in results)
    assert sorted(line.message.split("'")[1] for line in caplog.records) == [
        *("eta", "id", "stamps", "timelimit")
    ]


def test_a_header_that_is_no_json_is_refused_by_name_of_its_task(pay, hearing, sent):
    hearing.connect(signals.before_task_publish, lambda headers, **_: headers.update(x=object()))

    with pytest.raises(InvalidTaskError, match=r"shop\.pay: before_task_publish: .*object"):
        pay.delay()
    assert sent() == []


def test_a_receiver_that_raises_stops_no_send(pay, hearing, sent):
    def broken(**_):
        raise ValueError("no")

    for one in PUBLISH:
        hearing.connect(one, broken)

    pay.delay(1)

    assert len(sent()) == 1


def test_each_of_many_calls_is_told(pay, hearing, sent):
    hearing.listen(*PUBLISH)
    hearing.connect(
        signals.before_task_publish, lambda headers, **_: headers.update(n=headers["argsrepr"])
    )

    results = pay.send_many([(1,), (2,)])

    assert hearing.names() == ["before_task_publish"] * 2 + ["after_task_publish"] * 2
    assert [told.payload["headers"]["id"] for told in hearing.told[2:]] == [r.id for r in results]
    assert sorted(headers["headers"]["n"] for headers, _ in sent()) == ["(1,)", "(2,)"]


def test_a_task_that_is_not_known_here_is_told_by_its_name(stage, hearing):
    hearing.listen(*PUBLISH)

    stage.app.send_task("elsewhere.run", (1,))

    assert [told.sender for told in hearing.told] == ["elsewhere.run"] * 2


def test_each_step_of_a_canvas_is_told_with_its_place(pay, hearing):
    hearing.listen(*PUBLISH)

    chain(pay.s(1), pay.s(2)).apply_async()

    first, second, *after = (told.payload["headers"] for told in hearing.told)
    assert first["root_id"] == second["root_id"] == first["id"]
    assert second["parent_id"] == first["id"]
    assert [headers["id"] for headers in after] == [first["id"], second["id"]]


def test_the_members_of_a_group_are_told_with_their_numbers(pay, hearing):
    from cardoon import group  # noqa: PLC0415

    hearing.listen(signals.before_task_publish)

    group(pay.s(1), pay.s(2)).apply_async()

    headers = [told.payload["headers"] for told in hearing.told]
    assert [one["group_index"] for one in headers] == [0, 1]
    assert headers[0]["group"] == headers[1]["group"] is not None


@pytest.mark.parametrize("options", [{}, {"timeout": 5}], ids=["gathered", "alone"])
def test_a_send_from_a_coroutine_is_told_in_its_own_context(pay, hearing, options):
    seen = []

    def note(**_):
        seen.append(current_request().id)

    for one in PUBLISH:
        hearing.connect(one, note)

    async def send():
        with carrying_out(Request(id="mine", root_id="mine")):
            await pay.aapply_async((1,), **options)

    asyncio.run(send())

    assert seen == ["mine", "mine"]


def test_a_send_that_failed_was_not_published(stage, pay, hearing, monkeypatch):
    hearing.listen(*PUBLISH)

    class Away:
        def send(self, calls, *, timeout):
            raise OperationalError("away")

    stage.app.attach(Away())
    with pytest.raises(OperationalError):
        pay.apply_async(retry=False)

    assert hearing.names() == ["before_task_publish"]


def test_an_eager_call_publishes_nothing(app, hearing):
    hearing.listen(*PUBLISH)
    app.conf.task_always_eager = True

    app.task(name="shop.pay")(lambda: 1).delay()

    assert hearing.told == []


def test_what_nobody_hears_is_sent_as_it_was(pay, sent):
    pay.apply_async((1,), headers={"a": 1})

    [(headers, _)] = sent()
    assert json.dumps(headers["headers"]) == '{"a": 1}'
