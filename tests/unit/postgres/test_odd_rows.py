"""Rows that no driver writes: one of them must not stop the claims of all others."""

from __future__ import annotations

import pytest

from cardoon.broker import Cause, Outgoing, Requeue

ODD = [
    "UPDATE cardoon.message SET attempt = 2147483647 WHERE id = 'odd'",
    "UPDATE cardoon.message SET crashes = 2147483647, retries = 2147483647 WHERE id = 'odd'",
    "UPDATE cardoon.message SET limit_key = 'of nobody' WHERE id = 'odd'",
    "DELETE FROM cardoon.frame WHERE number = (SELECT number FROM cardoon.message WHERE id = 'odd')",
]


@pytest.mark.parametrize("statement", ODD)
def test_an_odd_row_comes_to_the_gate_and_the_others_with_it(postgres, broker, statement):
    broker.declare(["q"])
    broker.publish([Outgoing("q", id, b"frame") for id in ("first", "odd", "last")], timeout=9)  # noqa: A001
    with postgres.server.connect() as connection:
        connection.execute(statement)

    taken = broker.receive(["q"], limit=9, lease=30, timeout=0)

    assert {each.id for each in taken} == {"first", "odd", "last"}
    assert all(broker.settle([Requeue(each, Cause.CRASHED) for each in taken]))
    assert len(broker.receive(["q"], limit=9, lease=30, timeout=0)) == 3
