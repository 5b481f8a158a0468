"""Names on the server, and what workers are told of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import ImproperlyConfigured
from cardoon.rabbitmq.queues import LEVELS, MAX_NAME_BYTES, Names, Place, parse_place, tell_place

PLACES = st.builds(Place, st.text(max_size=20), st.sampled_from(LEVELS))


@given(PLACES, PLACES)
def test_no_two_places_have_one_name(one, other):
    names = Names("cardoon")

    assert (names.of(one) == names.of(other)) == (one == other)


@given(PLACES)
def test_a_name_begins_with_the_prefix_and_is_no_other_name_of_ours(place):
    names = Names("shop")

    assert names.of(place).startswith("shop.")
    assert not names.of(place).startswith(names.levels)


def test_a_name_that_amqp_cannot_carry_is_refused():
    names = Names("cardoon")
    room = MAX_NAME_BYTES - len("cardoon.0.")

    assert names.of(Place("q" * room, 0))
    with pytest.raises(ImproperlyConfigured, match="longer than 255 bytes"):
        names.of(Place("ü" * room, 0))


@given(PLACES)
def test_a_place_is_understood_as_it_was_told(place):
    assert parse_place(tell_place(place)) == place


@given(st.binary(max_size=40))
def test_nonsense_is_no_place(told):
    found = parse_place(told)

    assert found is None or found.level in LEVELS


@pytest.mark.parametrize(
    "told", [b'["q", 10]', b'["q", true]', b'["q"]', b"[" * 99999, b'[1, "q"]']
)
def test_what_is_almost_a_place_is_none(told):
    assert parse_place(told) is None
