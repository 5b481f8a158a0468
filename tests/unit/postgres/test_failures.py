"""What PostgreSQL says, in words that say what to do."""

from __future__ import annotations

import pytest

from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.postgres.failures import ConnectionLostError, ServerError, explain


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("53100", "free space"),
        ("53300", "max_connections"),
        ("42501", "role"),
        ("25006", "name the primary"),
        ("57014", "send less"),
        ("28P01", "check the password"),
        ("", "does not answer"),
    ],
)
def test_a_failure_names_the_server_and_the_remedy(code, remedy):
    error = ServerError(code, "what it\nsaid") if code else ConnectionLostError("what it\nsaid")

    told = explain(error, "db:5432")

    assert isinstance(told, OperationalError)
    assert "postgresql db:5432" in str(told)
    assert remedy in str(told)
    assert "what it said" in str(told)


@pytest.mark.parametrize("code", ["3F000", "42883", "42P01"])
def test_missing_tables_are_a_matter_of_set_up(code):
    told = explain(ServerError(code, "no such thing"), "db:5432")

    assert isinstance(told, ImproperlyConfigured)
    assert "cardoon db upgrade" in str(told)


@pytest.mark.parametrize(
    ("code", "is_passing", "is_of_connection"),
    [
        ("40P01", True, False),
        ("40001", True, False),
        ("57P01", True, True),
        ("57P03", True, True),
        ("53300", True, True),
        ("08006", True, True),
        ("53100", False, False),
        ("42501", False, False),
    ],
)
def test_what_may_pass_is_tried_again(code, is_passing, is_of_connection):
    error = ServerError(code, "")

    assert (error.is_passing, error.is_of_connection) == (is_passing, is_of_connection)
