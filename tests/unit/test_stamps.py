"""Stamps among options, in messages, and revoked."""

from __future__ import annotations

import json

import pytest

from cardoon.calling import check_options
from cardoon.exceptions import InvalidTaskError
from cardoon.stamps import (
    MAX_REVOKED,
    RevokedStamps,
    as_options,
    merge_options,
    parse_stamps,
)


def test_what_stamped_headers_names_becomes_one_object():
    checked = check_options({"stamped_headers": ["tenant", "hop"], "tenant": "a", "hop": 2})

    assert checked.stamps == {"tenant": "a", "hop": 2}


def test_one_name_may_stand_alone_and_none_at_all():
    assert check_options({"stamped_headers": "tenant", "tenant": "a"}).stamps == {"tenant": "a"}
    assert check_options({"stamped_headers": None}).stamps is None
    assert check_options({"stamped_headers": []}).stamps is None


def test_what_is_not_named_is_an_option_like_any_other():
    options = {"stamped_headers": ["tenant"], "tenant": "a", "tenent": "b"}

    with pytest.raises(InvalidTaskError, match="unknown option 'tenent'"):
        check_options(options)


def test_a_name_without_a_value_is_an_error_that_says_what_to_give():
    with pytest.raises(InvalidTaskError, match=r"names 'tenant', which has no value; give tenant="):
        check_options({"stamped_headers": ["tenant"]})


@pytest.mark.parametrize("names", [5, [5], {"tenant": 1}])
def test_what_is_no_list_of_names_is_an_error(names):
    with pytest.raises(InvalidTaskError, match="is not a list of names"):
        check_options({"stamped_headers": names})


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 257])
def test_a_name_that_no_log_should_show_is_an_error(name):
    with pytest.raises(InvalidTaskError, match="has a stamp whose name"):
        check_options({"stamped_headers": [name], name: 1})


def test_sets_and_tuples_travel_as_lists_in_one_order():
    assert parse_stamps({"a": {"y", "x"}, "b": (1, (2,)), "c": 3}) == {
        "a": ["x", "y"],
        "b": [1, [2]],
        "c": 3,
    }


def test_stamps_that_are_there_stay_and_others_are_added():
    own = as_options({"tenant": "a"})

    merged = merge_options(own, {**as_options({"tenant": "b", "hop": 1}), "queue": "fast"})

    assert merged == {
        "tenant": "a",
        "hop": 1,
        "queue": "fast",
        "stamped_headers": ["tenant", "hop"],
    }


@pytest.mark.parametrize(
    ("stamps", "is_covered"),
    [
        ({"tenant": "a"}, True),
        ({"tenant": ["z", "b"]}, True),
        ({"tenant": "c", "hop": 1}, True),
        ({"tenant": "c"}, False),
        ({"hop": True}, False),
        ({"hop": "1"}, False),
        ({"other": "a"}, False),
        ({}, False),
        (None, False),
        ("tenant", False),
    ],
)
def test_a_revocation_covers_messages_with_one_of_its_values(stamps, is_covered):
    revoked = RevokedStamps()
    revoked.add({"tenant": ["a", "b"], "hop": [1]}, until=10.0)

    assert revoked.covers(json.loads(json.dumps(stamps))) is is_covered


def test_a_revocation_is_forgotten_when_it_has_run_out():
    revoked = RevokedStamps()
    revoked.add({"tenant": ["a"]}, until=10.0)
    revoked.add({"tenant": ["b"]}, until=20.0)

    revoked.forget_expired(10.0)
    assert not revoked.covers({"tenant": "a"})
    assert revoked.covers({"tenant": "b"})

    revoked.forget_expired(20.0)
    assert not revoked


def test_a_later_revocation_holds_for_longer():
    revoked = RevokedStamps()
    revoked.add({"tenant": ["a"]}, until=20.0)
    revoked.add({"tenant": ["a"]}, until=10.0)

    revoked.forget_expired(15.0)

    assert revoked.covers({"tenant": "a"})


def test_the_oldest_are_forgotten_beyond_the_bound():
    revoked = RevokedStamps()
    revoked.add({"tenant": ["first"]}, until=10.0)
    revoked.add({"tenant": list(range(MAX_REVOKED))}, until=10.0)

    assert not revoked.covers({"tenant": "first"})
    assert revoked.covers({"tenant": 0})
