"""One row of the outbox: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.broker import Limit, Outgoing, Predecessor, Trigger
from cardoon.contrib.django.packing import pack, unpack
from cardoon.exceptions import MessageError
from cardoon.message import cbor

texts = st.text(max_size=20)
outgoing = st.builds(
    Outgoing,
    queue=texts,
    id=texts,
    frame=st.binary(max_size=50),
    priority=st.integers(0, 9),
    run_at=st.none() | st.floats(0, 1e11),
    after=st.lists(st.builds(Predecessor, texts, st.binary(max_size=32)), max_size=3).map(tuple),
    trigger=st.sampled_from(Trigger),
    delay=st.floats(0, 1e6),
    unique=st.none(),  # refused within the block
    limit=st.none() | st.builds(Limit, texts, st.integers(0, 100), st.floats(0, 1e6)),
    fanout=st.booleans(),
)


@given(st.lists(outgoing, max_size=4))
def test_what_goes_in_comes_out(messages):
    assert unpack(pack(messages)) == messages


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(content):
    with pytest.raises(MessageError):
        unpack(content)


GOOD = ["celery", "t1", b"frame", 0, None, [], "success", "0.0", None]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [1],
        [2, []],
        [1, [5]],
        [1, [GOOD[:-1]]],
        [1, [[*GOOD, 1]]],
        [1, [[*GOOD, "fanout", "fanout"]]],
        [1, [["celery", "t1", "frame", *GOOD[3:]]]],
        [1, [[*GOOD[:4], "soon", *GOOD[5:]]]],
        [1, [[*GOOD[:5], [["t0"]], *GOOD[6:]]]],
        [1, [[*GOOD[:6], "always", "0.0", None]]],
        [1, [[*GOOD[:7], "soon", None]]],
        [1, [[*GOOD[:8], "few"]]],
        [1, [[*GOOD[:8], ["key", 1, "soon"]]]],
    ],
)
def test_a_row_that_says_something_else_is_refused(wrong):
    with pytest.raises(MessageError):
        unpack(cbor.encode(wrong))
