"""Stamps in running workflows: what tasks see of them, and what keeps them."""

from __future__ import annotations

import pytest

from cardoon import Task, chain, chord, group
from cardoon.canvas import StampingVisitor
from cardoon.exceptions import TaskRevokedError
from tests.workflows.troupe import run


class Tenant(StampingVisitor):
    """One stamp for everything, and one that says what kind of link it is."""

    def on_signature(self, sig, **headers):
        return {"tenant": "acme"}

    def on_callback(self, callback, **header):
        return {"linked": True}

    def on_errback(self, errback, **header):
        return {"errback": True}


@pytest.fixture
def shop(troupe):
    """Tasks that write down the stamps they see."""
    app = troupe.app
    troupe.seen = {}

    def see(task, name=None):
        request = task.request
        assert request.stamped_headers == list(request.stamps)
        troupe.seen.setdefault(name or task.name, []).append(dict(request.stamps))

    @app.task(name="look", bind=True)
    def look(self, *args, name="look"):
        see(self, name)
        return name

    @app.task(name="fail", bind=True)
    def fail(self, *args):
        see(self)
        raise ValueError("no")

    @app.task(name="sorry", bind=True)
    def sorry(self, task_id):
        see(self)

    @app.task(name="again", bind=True)
    def again(self, change=False):
        see(self)
        if self.request.retries < 2:
            args = (change,) if change else None
            raise self.retry(args=args, countdown=1)

    @app.task(name="swap", bind=True)
    def swap(self, kind):
        see(self)
        whole = {
            "task": look.si(name="a"),
            "chain": chain(look.si(name="a"), look.si(name="b")),
            "group": group(look.si(name="a"), look.si(name="b").stamp(tenant="own")),
        }
        raise self.replace(whole[kind])

    troupe.look, troupe.fail, troupe.sorry = look, fail, sorry
    troupe.again, troupe.swap = again, swap
    return troupe


def test_a_task_sees_its_stamps_as_they_were_given(shop):
    shop.look.apply_async(stamped_headers=["tenant", "tags"], tenant="acme", tags=["x", 1])
    shop.look.delay()
    shop.play()

    assert shop.seen["look"] == [{"tenant": "acme", "tags": ["x", 1]}, {}]


def test_every_task_of_a_canvas_sees_the_stamps(shop):
    look = shop.look
    canvas = chain(
        look.si(name="first"),
        group(look.si(name="left"), look.si(name="right")),
        look.si(name="body"),
    )
    canvas.tasks[0].link(look.si(name="linked"))

    run(shop, canvas.stamp(Tenant(), run="1"))

    both = {"run": "1", "tenant": "acme"}
    assert shop.seen == {
        **{name: [both] for name in ("first", "left", "right", "body")},
        "linked": [{**both, "linked": True}],
    }


def test_an_errback_sees_its_stamps(shop):
    canvas = chord([shop.look.s(), shop.fail.s()], shop.look.s()).on_error(shop.sorry.s())

    run(shop, canvas.stamp(Tenant()))

    assert shop.seen["sorry"] == [{"tenant": "acme", "errback": True}]


@pytest.mark.parametrize("change", [False, True])
def test_a_retry_keeps_the_stamps(shop, change):
    run(shop, shop.again.s(change).stamp(tenant="acme"))

    assert shop.seen["again"] == [{"tenant": "acme"}] * 3


@pytest.mark.parametrize("kind", ["task", "chain"])
def test_what_takes_a_tasks_place_keeps_its_stamps(shop, kind):
    run(shop, shop.swap.s(kind).stamp(tenant="acme"))

    assert [each for several in shop.seen.values() for each in several] == [
        {"tenant": "acme"}
    ] * len(shop.seen)
    assert "a" in shop.seen


def test_the_stamps_of_a_replacement_win_over_those_it_keeps(shop):
    run(shop, shop.swap.s("group").stamp(tenant="acme", run=1))

    assert shop.seen["a"] == [{"tenant": "acme", "run": 1}]
    assert shop.seen["b"] == [{"tenant": "own", "run": 1}]


def test_a_replacement_can_be_stamped_when_it_takes_the_place(shop):
    class Replaced(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"replaced": True}

    class Stamping(Task):
        def on_replace(self, sig):
            return super().on_replace(sig.stamp(Replaced()))

    @shop.app.task(name="stamping", bind=True, base=Stamping)
    def stamping(self):
        raise self.replace(chain(shop.look.si(name="a"), shop.look.si(name="b")))

    run(shop, stamping.s().stamp(tenant="acme"))

    assert shop.seen["a"] == shop.seen["b"] == [{"replaced": True, "tenant": "acme"}]


@pytest.mark.parametrize("kind", ["task", "chain", "group"])
def test_stamps_are_seen_in_eager_mode_too(shop, kind):
    shop.app.conf.task_always_eager = True

    shop.swap.s(kind).stamp(tenant="acme").apply_async()
    shop.look.apply_async(kwargs={"name": "called"}, stamped_headers=["tenant"], tenant="acme")

    assert shop.seen["a"] == shop.seen["called"] == [{"tenant": "acme"}]


def test_what_a_stamped_task_calls_is_not_stamped_by_that(shop):
    @shop.app.task(name="caller")
    def caller():
        shop.look.delay()

    run(shop, caller.s().stamp(tenant="acme"))

    assert shop.seen["look"] == [{}]


def test_a_canvas_is_revoked_by_a_stamp_with_its_errbacks(shop):
    canvas = chain(shop.look.si(name="a"), shop.look.si(name="b")).on_error(shop.sorry.s())
    result = canvas.stamp(run="1").apply_async()
    shop.revoked.stamps.add({"run": ["1"]}, until=shop.clock.now() + 60)

    shop.play()

    with pytest.raises(TaskRevokedError):
        result.get(timeout=0)
    assert shop.seen == {}  # the errbacks have the stamp, too
