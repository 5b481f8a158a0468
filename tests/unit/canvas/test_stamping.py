"""Stamps on canvases, and visitors that say which."""

from __future__ import annotations

import json

import pytest

from cardoon.canvas import (
    Signature,
    StampingVisitor,
    chain,
    chord,
    chunks,
    group,
    signature,
    xmap,
)
from cardoon.exceptions import InvalidTaskError
from cardoon.stamps import take_stamps
from tests.unit.canvas.callers import Recorder, plan


@pytest.fixture
def sig():
    recorder = Recorder()

    def make(name, *args, **options):
        return Signature(name, args, {}, options, caller=recorder)

    return make


def stamps_of(options):
    return take_stamps(options, method="test")[1] if "stamped_headers" in options else {}


def stamps(canvas):
    """The stamps of each task that is sent."""
    return {step.task: stamps_of(step.options) for step in plan(canvas)}


class Visitor(StampingVisitor):
    """Remembers in which order it was asked, and with what."""

    def __init__(self, **told):
        self.told = told
        self.asked = []

    def _ask(self, method, headers):
        self.asked.append((method, headers))
        return self.told.get(method, {})

    def on_signature(self, sig, **headers):
        return self._ask(f"signature {sig.task}", headers) or self.told.get("signature", {})

    def on_group_start(self, group, **headers):
        return self._ask("group", headers)

    def on_group_end(self, group, **headers):
        self._ask("end of group", headers)

    def on_chain_start(self, chain, **headers):
        return self._ask("chain", headers)

    def on_chain_end(self, chain, **headers):
        self._ask("end of chain", headers)

    def on_chord_body(self, sig, **header):
        return self._ask("body", header)

    def on_callback(self, callback, **header):
        return self._ask(f"callback {callback.task}", header)

    def on_errback(self, errback, **header):
        return self._ask(f"errback {errback.task}", header)


def order(visitor):
    return [method for method, _ in visitor.asked]


def test_a_stamp_is_an_option_that_stamped_headers_names(sig):
    made = sig("a")

    assert made.stamp(tenant="t") is made
    assert made.options == {"tenant": "t", "stamped_headers": ["tenant"]}


def test_a_later_stamp_wins_over_one_that_is_there(sig):
    made = sig("a").stamp(tenant="t", hop=1).stamp(tenant="u")

    assert stamps_of(made.options) == {"tenant": "u", "hop": 1}


def test_stamps_are_appended_on_request(sig):
    made = sig("a").stamp(hop=1).stamp(append_stamps=True, hop=2).stamp(None, True, hop=[3, 4])

    assert stamps_of(made.options) == {"hop": [3, 4, 2, 1]}


def test_what_is_given_wins_over_a_visitor_and_that_over_what_is_there(sig):
    visitor = Visitor(signature={"a": "visitor", "b": "visitor"})

    made = sig("t").stamp(a="own", b="own", c="own").stamp(visitor, a="given")

    assert stamps_of(made.options) == {"a": "given", "b": "visitor", "c": "own"}


def test_what_a_visitor_does_not_name_a_stamp_is_an_option(sig):
    visitor = Visitor(signature={"priority": 7, "hop": 1, "stamped_headers": ["hop"]})

    made = sig("a").stamp(visitor)

    assert made.options == {"priority": 7, "hop": 1, "stamped_headers": ["hop"]}


@pytest.mark.parametrize("name", ["queue", "task_id", "immutable", "stamps"])
def test_the_name_of_an_option_is_no_name_for_a_stamp(sig, name):
    with pytest.raises(InvalidTaskError, match=f"'{name}' is an option"):
        sig("a").stamp(Visitor(signature={name: "x"}))


def test_a_visitor_that_returns_something_else_is_told_so(sig):
    with pytest.raises(InvalidTaskError, match="returned 'x' instead of a dict"):
        sig("a").stamp(Visitor(signature="x"))


def test_a_visitor_may_return_nothing(sig):
    class Silent(StampingVisitor):
        def on_signature(self, sig, **headers):
            return None

    assert stamps(chain(sig("a"), sig("b")).stamp(Silent())) == {"a": {}, "b": {}}


def test_a_visitor_without_on_signature_cannot_be_made():
    with pytest.raises(TypeError, match="on_signature"):
        StampingVisitor()


def test_links_and_errbacks_are_visited_and_stamped(sig):
    made = sig("a")
    made.link(sig("b"))
    made.link(sig("c"))
    made.link_error(sig("d"))
    told = {"callback b": {"called": 1}, "errback d": {"failed": 1}}
    visitor = Visitor(signature={"v": "v"}, **told)

    made.stamp(visitor, tenant="t")

    every = {"tenant": "t", "v": "v"}
    assert stamps(made) == {
        "a": every,
        "b": {**every, "called": 1},
        "c": every,
        "d": {**every, "failed": 1},
    }
    assert order(visitor) == [
        *("callback b", "signature b", "callback c", "signature c"),
        *("errback d", "signature d", "signature a"),
    ]


def test_the_stamps_of_the_canvas_around_go_to_all_in_it_and_are_told(sig):
    canvas = chain(sig("a"), chain(sig("d"), sig("e")), group(sig("b"), sig("c")))
    visitor = Visitor(chain={"in_chain": 1}, group={"in_group": 1})

    canvas.stamp(visitor, tenant="t")

    every = {"tenant": "t", "in_chain": 1}
    assert stamps(canvas) == {
        "a": every,
        "b": {**every, "in_group": 1},
        "c": {**every, "in_group": 1},
        "d": every,
        "e": every,
    }
    assert visitor.asked[0] == ("chain", {"tenant": "t"})
    assert dict(visitor.asked)["signature b"] == {
        **every,
        "in_group": 1,
        "stamped_headers": ["tenant", "in_chain", "in_group"],
    }


def test_a_visitor_goes_through_a_canvas_in_order(sig):
    canvas = chain(sig("a"), chord([sig("b"), sig("c")], sig("d")), group(sig("e")))
    visitor = Visitor()

    canvas.stamp(visitor)

    assert order(visitor) == [
        "chain",
        "signature a",
        *("group", "signature b", "signature c", "end of group", "body", "signature d"),
        *("group", "signature e", "end of group"),
        "end of chain",
    ]


@pytest.mark.parametrize("is_written_as_chord", [True, False])
def test_a_group_with_a_task_behind_it_is_a_chord(sig, is_written_as_chord):
    class Headers(Visitor):
        def on_chord_header_start(self, sig, **header):
            assert [part.task for part in sig.header.tasks] == ["a", "b"]
            return {**super().on_chord_header_start(sig, **header), "header": 1}

    parts = [group(sig("a"), sig("b")), sig("c")]
    canvas = chord(*parts) if is_written_as_chord else chain(*parts)

    canvas.stamp(Headers(group={"of": 1}, body={"body": 1}), tenant="t")

    header = {"tenant": "t", "of": 1, "header": 1}
    assert stamps(canvas) == {"a": header, "b": header, "c": {**header, "body": 1}}


def test_the_options_and_errbacks_of_a_group_in_a_chain_stay_its_own(sig):
    first = group(sig("a"), sig("b")).set(queue="fast")
    first.link_error(sig("sorry"))

    steps = plan(chain(first, sig("c")).stamp(tenant="t"))

    assert [(step.task, step.options.get("queue")) for step in steps] == [
        *(("a", "fast"), ("sorry", None), ("b", "fast"), ("sorry", None)),
        ("c", None),
    ]
    assert all(stamps_of(step.options) == {"tenant": "t"} for step in steps)


def test_a_chords_body_is_stamped_without_a_visitor_too(sig):
    assert stamps(chord([sig("a")], sig("b")).stamp(tenant="t")) == {
        "a": {"tenant": "t"},
        "b": {"tenant": "t"},
    }


def test_a_chord_without_a_body_yet_can_be_stamped(sig):
    half = chord([sig("a")]).stamp(tenant="t")

    assert [stamps_of(part.options) for part in half.tasks] == [{"tenant": "t"}]


def test_links_of_wholes_are_stamped(sig):
    canvas = group(sig("a"), sig("b"))
    canvas.link(sig("c"))
    canvas.link_error(sig("d"))

    assert stamps(canvas.stamp(tenant="t")) == {name: {"tenant": "t"} for name in "abcd"}


def test_one_signature_in_two_places_is_stamped_as_two(sig):
    one = sig("a")
    numbers = iter(range(10))

    class Numbering(StampingVisitor):
        def on_signature(self, sig, **headers):
            return {"number": next(numbers)}

    canvas = group(one, one)
    canvas.stamp(Numbering())

    assert [stamps_of(step.options)["number"] for step in plan(canvas)] == [0, 1]
    assert one.options == {}


def test_maps_and_chunks_are_stamped(sig):
    assert stamps(xmap(sig("a"), [1]).stamp(tenant="t")) == {"cardoon.map": {"tenant": "t"}}

    parts = plan(chunks(sig("a"), [(1,), (2,)], 1).stamp(tenant="t"))

    assert [stamps_of(part.options) for part in parts] == [{"tenant": "t"}] * 2


@pytest.mark.parametrize("whole", [chain, group, lambda *parts: chord(parts[:-1], parts[-1])])
def test_stamps_given_to_the_send_of_a_whole_are_for_each_of_its_tasks(whole):
    recorder = Recorder()
    parts = [Signature(name, caller=recorder) for name in "abc"]
    parts[1].stamp(tenant="own")

    whole(*parts).apply_async(stamped_headers=["tenant"], tenant="t", countdown=5)

    assert [stamps_of(step.options) for step in recorder.sent] == [
        {"tenant": "t"},
        {"tenant": "own"},
        {"tenant": "t"},
    ]


def test_stamps_travel_with_a_signature_as_json(sig):
    canvas = chain(sig("a"), group(sig("b"), sig("c"))).stamp(tenant="t")

    assert stamps(signature(json.loads(json.dumps(canvas)))) == stamps(canvas)


def test_a_clone_keeps_its_stamps_and_gets_more(sig):
    made = sig("a").stamp(tenant="t")

    copy = made.clone(stamped_headers=["tenant", "hop"], tenant="u", hop=1)

    assert stamps_of(copy.options) == {"tenant": "t", "hop": 1}
