"""Frames between processes: what is cut, what is refused, and that garbage can do nothing else."""

from __future__ import annotations

import json
import socket
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.worker.ipc import (
    FROM_CHILD,
    FROM_NEST,
    FROM_RECEIVERS,
    FROM_WARDEN,
    FROM_WORKER,
    FROM_ZYGOTE,
    HEARD_BY_RECEIVERS,
    TO_NEST,
    TO_RECEIVERS,
    TO_WARDEN,
    TO_ZYGOTE,
    Bounds,
    Channel,
    ChannelClosedError,
    Frame,
    FrameReader,
    FrameType,
    IpcError,
    field,
    pack_frame,
)

DIRECTIONS = {
    "from worker": FROM_WORKER,
    "from child": FROM_CHILD,
    "from zygote": FROM_ZYGOTE,
    "from nest": {k: v for k, v in FROM_NEST.items() if k not in FROM_ZYGOTE},
    "to zygote": TO_ZYGOTE,
    "to receivers": TO_RECEIVERS,
    "from commands": {FrameType.ANSWERED: FROM_RECEIVERS[FrameType.ANSWERED]},
    "to warden": TO_WARDEN,
    "from warden": FROM_WARDEN,
}
SMALL = {FrameType.JOB: Bounds(64, 16), FrameType.STOP: Bounds(64, 0)}
JSON_HEADS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    ),
    max_size=4,
)
FRAMES = st.builds(
    Frame, st.sampled_from(sorted(FROM_CHILD)), JSON_HEADS, st.binary(max_size=64)
).map(lambda frame: frame if FROM_CHILD[frame.type].body else frame._replace(body=b""))


def prefix(number, head_size, body_size):
    return struct.pack("!B3xII", number, head_size, body_size)


@pytest.fixture
def ends():
    """A channel that accepts small frames, and the plain socket at its other end."""
    near, far = socket.socketpair()
    yield Channel(near, SMALL), far
    near.close()
    far.close()


@given(frames=st.lists(FRAMES, max_size=5), cuts=st.lists(st.integers(0, 600), max_size=6))
def test_frames_arrive_as_they_were_sent_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(pack_frame(*frame) for frame in frames)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader(FROM_CHILD)

    found = [frame for start, end in pairwise(places) for frame in reader.feed(stream[start:end])]

    assert found == frames


@given(garbage=st.binary(max_size=200), direction=st.sampled_from(sorted(DIRECTIONS)))
def test_garbage_is_an_ipc_error_and_never_another_one(garbage, direction):
    reader = FrameReader(DIRECTIONS[direction])

    try:
        frames = reader.feed(garbage)
    except IpcError:
        return
    assert all(frame.type in DIRECTIONS[direction] for frame in frames)


@given(kind=st.sampled_from(sorted(FROM_CHILD)), head=st.binary(max_size=60))
def test_a_head_of_garbage_is_an_ipc_error_or_an_object(kind, head):
    reader = FrameReader(FROM_CHILD)

    try:
        [frame] = reader.feed(prefix(kind, len(head), 0) + head)
    except IpcError:
        return
    assert isinstance(frame.head, dict)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"{",
        b"\xff\xff",
        b"{} x",
        b"null",
        b"[]",
        b'"text"',
        b"[" * 100_000,
        b'{"n":' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "no text", "more", "null", "list", "string", "deep", "digits"],
)
def test_a_head_that_is_not_a_json_object_is_refused(head):
    reader = FrameReader({FrameType.JOB: Bounds(1 << 20, 0)})

    with pytest.raises(IpcError, match="head"):
        reader.feed(prefix(FrameType.JOB, len(head), 0) + head)


@pytest.mark.parametrize("number", [0, 6, 15, 99, 255])
def test_an_unknown_type_is_refused_from_its_first_twelve_bytes(number):
    reader = FrameReader(FROM_CHILD)

    with pytest.raises(IpcError, match=f"type {number} is not permitted"):
        reader.feed(prefix(number, 2, 0))


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
def test_a_frame_that_belongs_to_another_direction_is_refused(direction):
    permitted = DIRECTIONS[direction]

    for kind in set(FrameType) - set(permitted):
        with pytest.raises(IpcError, match="not permitted"):
            FrameReader(permitted).feed(pack_frame(kind, {}))


def test_no_type_of_frame_is_permitted_in_two_directions():
    owners = [kind for permitted in DIRECTIONS.values() for kind in permitted]

    assert sorted(owners) == sorted(FrameType)


def test_a_nest_hears_of_births_alone_and_says_what_a_zygote_says_of_them():
    assert TO_NEST.items() < TO_ZYGOTE.items()
    assert set(TO_NEST) == {FrameType.FORK}
    assert {k: v for k, v in FROM_NEST.items() if k in FROM_ZYGOTE} == {
        kind: FROM_ZYGOTE[kind] for kind in (FrameType.FORKED, FrameType.DIED)
    }


def test_receivers_of_signals_may_say_less_than_tasks_but_for_answers_to_commands():
    said = {kind: bounds for kind, bounds in FROM_RECEIVERS.items() if kind in FROM_CHILD}
    assert said.items() < FROM_CHILD.items()
    assert set(FROM_RECEIVERS) - set(FROM_CHILD) == {FrameType.ANSWERED}
    assert FrameType.STATE not in FROM_RECEIVERS
    assert set(HEARD_BY_RECEIVERS) == {*TO_RECEIVERS, FrameType.REPLY}


@pytest.mark.parametrize(("head", "body"), [(65, 0), (0, 17), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_a_frame_that_is_too_large_is_refused_before_it_has_arrived(head, body):
    reader = FrameReader(SMALL)

    with pytest.raises(IpcError, match=r"JOB frame is too large"):
        reader.feed(prefix(FrameType.JOB, head, body))


def test_a_frame_as_large_as_permitted_arrives():
    head = {"x": "y" * (64 - len('{"x":""}'))}

    [frame] = FrameReader(SMALL).feed(pack_frame(FrameType.JOB, head, b"z" * 16))

    assert (len(json.dumps(head, separators=(",", ":"))), len(frame.body)) == (64, 16)


def test_a_truncated_frame_waits_for_its_rest():
    reader = FrameReader(SMALL)
    packed = pack_frame(FrameType.JOB, {"a": 1}, b"body")

    assert [reader.feed(packed[at : at + 1]) for at in range(len(packed) - 1)] == [
        [] for _ in packed[:-1]
    ]
    assert reader.feed(packed[-1:]) == [Frame(FrameType.JOB, {"a": 1}, b"body")]


def test_a_good_frame_before_a_bad_one_does_not_excuse_it():
    reader = FrameReader(SMALL)

    with pytest.raises(IpcError):
        reader.feed(pack_frame(FrameType.STOP, {}) + prefix(99, 0, 0))


def test_a_channel_carries_frames_in_order(ends):
    channel, far = ends
    back = Channel(far, SMALL)

    back.send(FrameType.JOB, {"key": 1}, b"one")
    back.send(FrameType.STOP, {})

    assert channel.receive() == Frame(FrameType.JOB, {"key": 1}, b"one")
    assert channel.receive() == Frame(FrameType.STOP, {})


def test_a_channel_that_is_not_to_wait_says_that_there_is_nothing(ends):
    channel, far = ends
    assert channel.receive(wait=False) is None

    far.sendall(pack_frame(FrameType.STOP, {})[:-1])
    assert channel.receive(wait=False) is None

    far.sendall(b"}")
    assert channel.receive(wait=False) == Frame(FrameType.STOP, {})


@pytest.mark.parametrize("sent", [b"", pack_frame(FrameType.JOB, {}, b"body")[:-2]])
def test_the_end_of_the_stream_is_an_error_also_in_the_middle_of_a_frame(ends, sent):
    channel, far = ends
    far.sendall(sent)
    far.close()

    with pytest.raises(ChannelClosedError):
        channel.receive()


def test_frames_that_came_before_the_end_are_still_there(ends):
    channel, far = ends
    far.sendall(pack_frame(FrameType.STOP, {}))
    far.close()

    assert channel.receive() == Frame(FrameType.STOP, {})
    with pytest.raises(ChannelClosedError):
        channel.receive()


def test_a_channel_without_another_side_fails_with_an_ipc_error_both_ways(ends):
    channel, far = ends
    far.close()
    with pytest.raises(IpcError, match="gone"):
        channel.send(FrameType.JOB, {}, b"body")

    channel.socket.close()
    with pytest.raises(IpcError, match="gone"):
        channel.receive()


HEAD = {"n": 1, "t": "text", "f": 1.5, "b": True, "none": None, "list": []}


@pytest.mark.parametrize(
    ("name", "kind"), [("n", int), ("t", str), ("f", float), ("b", bool), ("list", list)]
)
def test_a_field_of_the_expected_type_is_read(name, kind):
    assert field(Frame(FrameType.SEND, HEAD), name, kind) == HEAD[name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing", int),
        ("none", str),
        ("t", int),
        ("b", int),
        ("n", bool),
        ("n", float),
        ("f", int),
        ("list", dict),
    ],
)
def test_a_field_of_another_type_is_an_ipc_error_that_names_it(name, kind):
    with pytest.raises(IpcError, match=rf"SEND frame: {name} is not {kind.__name__}"):
        field(Frame(FrameType.SEND, HEAD), name, kind)


def test_a_field_may_have_a_default_or_be_optional():
    frame = Frame(FrameType.SEND, HEAD)

    assert field(frame, "missing", int, default=7) == 7
    assert field(frame, "none", int, optional=True) is None
    with pytest.raises(IpcError):
        field(frame, "t", int, optional=True)
