"""Arguments as the server reads them: what goes in comes out."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from cardoon.exceptions import OperationalError
from cardoon.postgres.values import OIDS, encode

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = {
    "t": _TEXT,
    "y": st.binary(),
    "i": st.integers(-(2**31), 2**31 - 1),
    "l": st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(allow_nan=False, allow_infinity=False),
    "o": st.booleans(),
}


@pytest.fixture(scope="module")
def echo(postgres):
    """What the server makes of an argument, in its own words."""
    names = {"t": "text", "y": "bytea", "i": "int4", "l": "int8", "f": "float8", "o": "bool"}
    with postgres.server.connect() as connection:

        def echo(kind, value):
            statement = f"SELECT unnest($1::{names[kind]}[])".encode()
            oids = [OIDS[kind.upper()]]
            sent = [encode(kind.upper(), value)]
            result = connection.pgconn.exec_params(statement, sent, oids, [1], 1)
            return [result.get_value(row, 0) for row in range(result.ntuples)]

        yield echo


@pytest.mark.parametrize("kind", VALUES)
def test_arrays_of_any_values_arrive_whole(echo, kind):
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.none() | VALUES[kind]))
    def check(values):
        expected = [None if value is None else encode(kind, value) for value in values]
        assert echo(kind, values) == expected

    check()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("t", "a\0b"),
        ("T", ["\ud800"]),
        ("f", float("nan")),
        ("F", [1.0, float("inf")]),
        ("i", 2**31),
        ("L", [2**63]),
    ],
)
def test_what_cannot_be_kept_is_refused(kind, value):
    with pytest.raises(OperationalError, match="cannot keep"):
        encode(kind, value)
