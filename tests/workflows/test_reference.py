"""What canvases return, as measured with Celery 5.7, through real messages."""

from __future__ import annotations

import json

import pytest

from cardoon import chain, chord, group, signature
from cardoon.exceptions import ChordError, InvalidTaskError
from tests.workflows.troupe import run


@pytest.fixture
def shop(troupe):
    """The tasks of these tests, by name."""
    app = troupe.app

    @app.task(name="leaf")
    def leaf(n):
        return n

    @app.task(name="wrap")
    def wrap(x, tag="w"):
        return [tag, x]

    @app.task(name="ident")
    def ident(*args):
        return list(args)

    @app.task(name="fail")
    def fail(*args):
        raise ValueError("fail")

    troupe.leaf, troupe.wrap, troupe.ident, troupe.fail = leaf, wrap, ident, fail
    return troupe


def pair(s):
    return group(s.leaf.s(1), s.leaf.s(2))


def two(s):
    return group(s.ident.s("x"), s.ident.s("y"))


def wraps(s):
    return group(s.wrap.s("a"), s.wrap.s("b"))


CANVASES = {
    "chain": (
        lambda s: chain(s.leaf.s(1), s.wrap.s("a"), s.wrap.s("b")),
        ["b", ["a", 1]],
    ),
    "group": (pair, [1, 2]),
    "group in group": (lambda s: group(pair(s), s.leaf.s(3)), [1, 2, 3]),
    "chord of chain and task": (
        lambda s: chord([chain(s.leaf.s(1), s.wrap.s("a")), s.leaf.s(3)], s.ident.s()),
        [[["a", 1], 3]],
    ),
    "chord in chord": (
        lambda s: chord([chord([s.leaf.s(1), s.leaf.s(2)], s.ident.s()), s.leaf.s(3)], s.ident.s()),
        [[[[1, 2]], 3]],
    ),
    "group | task": (lambda s: pair(s) | s.ident.s(), [[1, 2]]),
    "group | group": (lambda s: pair(s) | two(s), [[[1, 2], "x"], [[1, 2], "y"]]),
    "group | group | task": (
        lambda s: pair(s) | two(s) | s.ident.s(),
        [[[[1, 2], "x"], [[1, 2], "y"]]],
    ),
    "task | group": (lambda s: s.leaf.s(1) | wraps(s), [["a", 1], ["b", 1]]),
    "chord | task": (
        lambda s: chord([s.leaf.s(1), s.leaf.s(2)], s.ident.s()) | s.wrap.s("z"),
        ["z", [[1, 2]]],
    ),
    "group of one | task": (lambda s: group(s.leaf.s(1)) | s.ident.s(), [[1]]),
    "chord without header": (lambda s: chord([], s.ident.s()), [[]]),
    "group of a chain that ends in a group": (
        lambda s: group(chain(s.leaf.s(1), wraps(s)), s.leaf.s(2)),
        [[["a", 1], ["b", 1]], 2],
    ),
    "immutable link": (lambda s: chain(s.leaf.s(1), s.leaf.si(9), s.wrap.s("q")), ["q", 9]),
    "map": (lambda s: s.ident.map([1, 2]), [[1], [2]]),
    "starmap": (lambda s: s.ident.starmap([(1, 2), (3, 4)]), [[1, 2], [3, 4]]),
    "chunks": (
        lambda s: s.ident.chunks([(1, 2), (3, 4), (5, 6)], 2),
        [[[1, 2], [3, 4]], [[5, 6]]],
    ),
    "task | empty group": (lambda s: s.leaf.s(1) | group(), 1),
    "task | empty group | task": (lambda s: s.leaf.s(1) | group() | s.ident.s(), [[]]),
    "chunks | task": (
        lambda s: s.ident.chunks([(1, 2), (3, 4)], 1) | s.ident.s(),
        [[[[1, 2]], [[3, 4]]]],
    ),
    "a chain in a chain": (
        lambda s: chain(s.leaf.s(1), chain(s.wrap.s("a"), s.wrap.s("b")), s.wrap.s("c")),
        ["c", ["b", ["a", 1]]],
    ),
    "nested group in a chain in a group, gathered": (
        lambda s: group(chain(s.leaf.s(1), wraps(s)), s.leaf.s(2)) | s.ident.s(),
        [[[["a", 1], ["b", 1]], 2]],
    ),
    "a canvas as body": (
        lambda s: chord([s.leaf.s(1)], chain(s.ident.s(), s.wrap.s("a"))),
        ["a", [[1]]],
    ),
}


@pytest.mark.parametrize("name", CANVASES)
@pytest.mark.parametrize("travels", [False, True], ids=["made here", "from JSON"])
def test_a_canvas_returns_what_celerys_does(shop, name, travels):
    make, expected = CANVASES[name]
    canvas = make(shop)
    if travels:
        canvas = signature(json.loads(json.dumps(canvas)), app=shop.app)

    assert run(shop, canvas) == expected


def test_an_empty_chain_is_an_error(shop):
    with pytest.raises(InvalidTaskError, match="chain: there is nothing in it"):
        chain(app=shop.app).apply_async()


def test_a_failure_in_a_chain_closes_the_later_links(shop):
    result = chain(shop.leaf.s(1), shop.fail.s(), shop.wrap.s("a"), shop.wrap.s("b")).apply_async()
    shop.play()

    for one in (result, result.parent, result.parent.parent):
        with pytest.raises(ValueError, match=r"^fail$"):
            one.get(timeout=0)
    assert result.parent.parent.parent.get(timeout=0) == 1


def test_a_failed_member_fails_the_body_and_the_body_calls_its_errbacks(shop):
    called = []

    @shop.app.task(name="sorry")
    def sorry(request, error, traceback):
        called.append((request.id, type(error)))

    body = shop.ident.s().on_error(sorry.s())
    result = chord([shop.leaf.s(1), shop.fail.s()], body).apply_async()
    shop.play()

    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('fail'\)"):
        result.get(timeout=0)
    assert called == [(result.id, ChordError)]


def test_the_errbacks_of_a_link_that_never_began_are_not_called(shop):
    called = []

    @shop.app.task(name="sorry")
    def sorry(task_id):
        called.append(task_id)

    failing = shop.fail.s().on_error(sorry.s())
    result = (failing | shop.wrap.s("a").on_error(sorry.s())).apply_async()
    shop.play()

    assert called == [result.parent.id]


def test_a_workflow_may_take_days(shop):
    last = chain(shop.leaf.s(1).set(countdown=2 * 86400), shop.wrap.s("a")).apply_async()
    shop.consume()

    shop.clock.advance(2 * 86400 + 10)
    shop.play()

    assert last.get(timeout=1) == ["a", 1]


def test_a_result_may_be_taken_up_after_it_has_expired_for_clients(make_troupe):
    troupe = make_troupe(result_expires=60)
    leaf = troupe.app.task(name="leaf")(lambda n: n)
    ident = troupe.app.task(name="ident")(lambda *args: list(args))
    body = chord([leaf.s(1), leaf.s(2).set(countdown=500)], ident.s()).apply_async()
    troupe.end([(job, troupe.carry_out(job)) for job in troupe.consume()])

    troupe.clock.advance(510)
    troupe.play()

    assert body.get(timeout=1) == [[1, 2]]
