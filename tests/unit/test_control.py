"""What `app.control` offers, what it takes, and how it says that it does not offer the rest."""

from __future__ import annotations

import pytest

from cardoon.exceptions import InvalidTaskError
from cardoon.sender import Answer, Order, Refused, Revocation


class Notebook:
    """A sender that writes down what it is to tell, and answers what it was given."""

    def __init__(self):
        self.revocations = []
        self.orders = []
        self.answers = []
        self.asked = []

    def revoke(self, revocation):
        self.revocations.append(revocation)

    def command(self, order):
        self.orders.append(order)

    def ask(self, order, *, timeout, limit=None):
        self.orders.append(order)
        self.asked.append((timeout, limit))
        return iter(self.answers)


class TaskSide:
    """The sender of a task, which can revoke and no more."""

    def revoke(self, revocation):
        self.revocation = revocation


@pytest.fixture
def notebook(app):
    made = Notebook()
    app.attach(made)
    yield made
    app.detach()


def test_one_id_or_several_are_revoked(app, notebook):
    app.control.revoke("t1")
    app.control.revoke(["t1", "t2"], terminate=True, signal="SIGKILL")
    app.control.terminate("t3", signal="usr1")
    app.control.revoke([])

    assert notebook.revocations == [
        Revocation(("t1",)),
        Revocation(("t1", "t2"), True, "SIGKILL"),
        Revocation(("t3",), True, "SIGUSR1"),
    ]


def test_stamps_are_revoked_by_one_value_or_several(app, notebook):
    app.control.revoke_by_stamped_headers({"tenant": "a", "hop": [1, 2]}, terminate=True)
    app.AsyncResult("t1").revoke_by_stamped_headers({"tenant": ("a", "b")})

    assert notebook.revocations == [
        Revocation((), True, "SIGTERM", {"tenant": ["a"], "hop": [1, 2]}),
        Revocation((), False, "SIGTERM", {"tenant": ["a", "b"]}),
    ]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "names no stamp"),
        ({"tenant": []}, "without a value"),
        (["tenant"], "is not a dict"),
        ({5: "a"}, "not printable text"),
        ({"tenant": object()}, "not JSON serializable"),
        ({"tenant": list(range(1001))}, "more than 1000 values"),
    ],
)
def test_what_names_no_stamps_is_an_error(app, notebook, headers, reason):
    with pytest.raises(InvalidTaskError, match=reason):
        app.control.revoke_by_stamped_headers(headers)

    assert notebook.revocations == []


@pytest.mark.parametrize("signal", ["SIGNOTHING", "", 9])
def test_an_unknown_signal_is_an_error(app, notebook, signal):
    with pytest.raises(InvalidTaskError, match="is no signal; use SIGTERM"):
        app.control.revoke("t1", terminate=True, signal=signal)


def test_some_workers_are_told_to_revoke_and_may_be_asked_to_answer(app, notebook):
    notebook.answers = [Answer("w1@here", {"ok": "done"})]

    app.control.revoke("t1", destination="w1@here,w2@here")
    told = app.control.revoke("t1", ["w1@here"], terminate=True, reply=True, timeout=3)

    assert notebook.revocations == [Revocation(("t1",), destination=("w1@here", "w2@here"))]
    assert notebook.orders == [
        Order("revoke", {"ids": ["t1"], "terminate": True, "signal": "SIGTERM"}, ("w1@here",))
    ]
    assert (told, notebook.asked) == ([{"w1@here": {"ok": "done"}}], [(3, None)])


def test_an_unknown_option_is_an_error(app, notebook):
    with pytest.raises(InvalidTaskError, match="unknown option 'repply'"):
        app.control.revoke("t1", repply=True)


def test_an_id_that_no_message_can_have_is_an_error(app, notebook):
    with pytest.raises(InvalidTaskError, match="task_id"):
        app.control.revoke(["t1", ""])


@pytest.mark.parametrize(
    ("give", "order"),
    [
        (
            lambda c: c.rate_limit("shop.pay", "10/m"),
            Order("rate_limit", {"task_name": "shop.pay", "rate_limit": "10/m"}),
        ),
        (
            lambda c: c.time_limit("shop.pay", soft=60, hard=120, destination=["w@h"]),
            Order("time_limit", {"task_name": "shop.pay", "soft": 60, "hard": 120}, ("w@h",)),
        ),
        (
            lambda c: c.add_consumer("slow"),
            Order("add_consumer", {"queue": "slow", "exchange_type": "direct"}),
        ),
        (lambda c: c.cancel_consumer("slow"), Order("cancel_consumer", {"queue": "slow"})),
        (lambda c: c.autoscale(10, 2), Order("autoscale", {"max": 10, "min": 2})),
        (lambda c: c.pool_grow(2), Order("pool_grow", {"n": 2})),
        (lambda c: c.pool_shrink(), Order("pool_shrink", {"n": 1})),
        (lambda c: c.pool_restart(), Order("pool_restart")),
        (lambda c: c.shutdown(destination="w@h"), Order("shutdown", {}, ("w@h",))),
        (lambda c: c.enable_events(), Order("enable_events")),
        (lambda c: c.disable_events(), Order("disable_events")),
        (lambda c: c.heartbeat(), Order("heartbeat")),
        (lambda c: c.check_integrity(), Order("check_integrity")),
        (
            lambda c: c.broadcast("mine", {"a": 1}, pattern="w*", matcher="glob", b=2),
            Order("mine", {"a": 1, "b": 2}, pattern="w*"),
        ),
    ],
)
def test_every_command_of_celerys_says_what_it_says(app, notebook, give, order):
    assert give(app.control) is None

    assert notebook.orders == [order]


def test_answers_come_as_celerys_do_and_each_is_called_back(app, notebook):
    notebook.answers = [Answer("w1@here", {"ok": "pong"}), Answer("w2@here", {"ok": "pong"})]
    heard = []

    told = app.control.ping(timeout=2, limit=2, callback=heard.append)

    assert told == heard == [{"w1@here": {"ok": "pong"}}, {"w2@here": {"ok": "pong"}}]
    assert notebook.asked == [(2, 2)]


@pytest.mark.parametrize(
    ("ask", "order"),
    [
        (lambda i: i.ping(), Order("ping")),
        (lambda i: i.active(), Order("active")),
        (lambda i: i.reserved(), Order("reserved")),
        (lambda i: i.scheduled(), Order("scheduled")),
        (lambda i: i.registered(), Order("registered")),
        (
            lambda i: i.registered("rate_limit"),
            Order("registered", {"taskinfoitems": ["rate_limit"]}),
        ),
        (lambda i: i.stats(), Order("stats")),
        (lambda i: i.active_queues(), Order("active_queues")),
        (lambda i: i.revoked(), Order("revoked")),
        (lambda i: i.query_task("a", ["b", "c"]), Order("query_task", {"ids": ["a", "b", "c"]})),
        (lambda i: i.conf(with_defaults=True), Order("conf", {"with_defaults": True})),
        (lambda i: i.report(), Order("report")),
        (lambda i: i.clock(), Order("clock")),
        (lambda i: i.hello("w@h"), Order("hello", {"from_node": "w@h"})),
        (lambda i: i.ask("mine", n=1), Order("mine", {"n": 1})),
    ],
)
def test_every_question_of_celerys_asks_what_it_asks(app, notebook, ask, order):
    notebook.answers = [Answer("w1@here", [1])]

    assert ask(app.control.inspect()) == {"w1@here": [1]}

    assert notebook.orders == [order]


def test_questions_go_to_some_workers_and_nobody_s_answer_is_none(app, notebook):
    found = app.control.inspect(["w1@here"], timeout=5, limit=1, pattern="w*", matcher="glob")

    assert found.active() is None

    assert notebook.orders == [Order("active", {}, ("w1@here",), "w*")]
    assert notebook.asked == [(5, 1)]


def test_what_was_refused_and_left_out_is_told_and_not_raised(app, notebook):
    notebook.answers = [
        Refused("bad-signature", "no"),
        Answer("w1@here", ["a"], 7),
        Refused("bad-signature", "no"),
    ]
    found = app.control.inspect()

    assert found.revoked() == {"w1@here": ["a"]}

    assert found.refused == {"bad-signature": 2}
    assert found.left_out == {"w1@here": 7}


@pytest.mark.parametrize(
    ("give", "reason"),
    [
        (lambda c: c.rate_limit("shop.pay", "often"), "rate_limit: 'often' is not a rate"),
        (lambda c: c.rate_limit("", "1/s"), "task_name: '' is not 1 to 512 printable"),
        (lambda c: c.time_limit("t", soft=-1), "soft: -1 is no time; give seconds"),
        (lambda c: c.pool_grow("many"), "n: 'many' is no number"),
        (lambda c: c.pool_grow(5000), "n: 5000 is no number from 0 to 1024"),
        (lambda c: c.broadcast("pool_grow", {"m": 1}), "unknown argument 'm'; it takes n"),
        (lambda c: c.broadcast("rate_limit", {"task_name": "t"}), "rate_limit is missing"),
        (lambda c: c.broadcast("memdump"), "use tracemalloc or memray"),
        (lambda c: c.broadcast("a\nb"), "printable bytes"),
        (lambda c: c.ping(timeout=-1), "timeout=-1; give seconds from 0 to 300"),
        (lambda c: c.ping(timeout="soon"), "timeout='soon'"),
        (lambda c: c.ping(limit=0), "limit=0; give a number from 1"),
        (lambda c: c.ping(connection=object()), "no connection= or channel= here"),
        (lambda c: c.ping(channel=object()), "no connection= or channel= here"),
        (lambda c: c.ping(pattern="w.*", matcher="pcre"), "use 'glob'"),
        (lambda c: c.ping(pattern=""), "is not 1 to 256 characters"),
        (lambda c: c.ping(destination=["w@h", ""]), "give names of workers"),
        (lambda c: c.ping(destination=[5]), "give names of workers"),
        (lambda c: c.pool_restart(modules=["shop"]), "restart the worker"),
        (lambda c: c.add_consumer("q", options={"x": 1}), "leave them out"),
        (lambda c: c.inspect(timeout=1e9), "give seconds from 0 to 300"),
    ],
)
def test_a_mistake_is_told_before_anything_is_signed(app, notebook, give, reason):
    with pytest.raises(InvalidTaskError, match=reason):
        give(app.control)

    assert notebook.orders == []


def test_tasks_can_revoke_and_neither_command_nor_ask(app):
    link = TaskSide()
    with app.attached(link):
        app.control.revoke("t1")
        with pytest.raises(InvalidTaskError, match="by clients, not in tasks; tasks can only"):
            app.control.shutdown()
        with pytest.raises(InvalidTaskError, match="by clients, not in tasks"):
            app.control.inspect().ping()

    assert link.revocation == Revocation(("t1",))


def test_everything_that_waits_is_deleted(stage):
    stage.send(queue="celery")
    stage.send(queue="slow", countdown=60)
    stage.send(queue="celery")
    stage.consume()
    stage.send(queue="celery")

    assert stage.app.control.purge() == 2

    assert stage.depth("slow") == (0, 0, 0)
    assert stage.depth("celery") == (0, 0, 2)
    assert stage.event_names()[-1] == "operator.purge"


def test_tasks_do_not_purge(app, notebook):
    with pytest.raises(InvalidTaskError, match="by clients, not in tasks"):
        app.control.purge()


def test_purge_has_no_connection_to_be_given(app):
    with pytest.raises(InvalidTaskError, match="no connection="):
        app.control.purge(object())


def test_a_command_of_celerys_that_is_not_here_says_why(app):
    with pytest.raises(AttributeError, match="this version has no 'election': workers elect"):
        app.control.election()
    with pytest.raises(AttributeError, match="no 'memdump': use tracemalloc or memray"):
        app.control.inspect().memdump()


def test_an_unknown_command_says_what_may_have_been_meant(app):
    with pytest.raises(AttributeError, match="did you mean 'revoke'"):
        app.control.revok()
    with pytest.raises(AttributeError, match="did you mean 'active'"):
        app.control.inspect().activ()
