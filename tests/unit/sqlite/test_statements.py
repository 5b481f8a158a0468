"""SQL by name, and batches as single parameters."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

import cardoon
from cardoon.exceptions import OperationalError
from cardoon.sqlite import schema, statements

AREAS = ["messages", "dormant", "results", "replay", "kept", "upkeep", "broadcasts", "subscribers"]
NAMES = [name for area in AREAS for name in statements.names(area)]

READS_EVERY_ROW = {
    # Counts, for people.
    "kept.ready",
    "kept.scheduled",
    "kept.dormant",
    "kept.leased",
    # Tables with a handful of rows.
    "kept.queues",
    "upkeep.owners",
    "subscribers.all",
    "messages.reserve",
    "replay.memory",
    "kept.fills",
    # The messages on loan, when a worker starts to stop or has died.
    "upkeep.leave",
    "upkeep.take_back_dead",
    "subscribers.forget",
}


@pytest.fixture
def connection(tmp_path):
    connection = schema.connect_file(tmp_path / "x.db")
    schema.migrate(connection, tmp_path / "x.db", now=0.0)
    yield connection
    connection.close()


def plan(connection, name):
    text = statements.sql(name)
    parameters = dict.fromkeys(re.findall(r":(\w+)", text), 1)
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_fits_the_schema(connection, name):
    assert plan(connection, name) is not None


@pytest.mark.parametrize("name", sorted(set(NAMES) - READS_EVERY_ROW))
def test_no_statement_reads_a_whole_table_or_sorts(connection, name):
    for step in plan(connection, name):
        assert "TEMP B-TREE" not in step, step
        if step.startswith("SCAN"):
            # The rows of a parameter, the rows of a subquery already limited, one constant row, or
            # what a recursion has found so far.
            allowed = "VIRTUAL TABLE" in step or "(subquery" in step or "CONSTANT ROW" in step
            allowed = allowed or step in {"SCAN doomed", "SCAN awake"}
            assert allowed, step


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("messages.pick", "message_ready (queue=?)"),
        ("messages.outlook", "message_ready (queue=?)"),
        ("messages.promote", "message_scheduled (queue=? AND due<?)"),
        ("kept.ready", "message_ready"),
        ("kept.scheduled", "message_scheduled"),
        ("kept.dormant", "message_dormant"),
        ("kept.purge_dormant", "message_dormant (queue=?)"),
        ("dormant.successors", "input_predecessor (predecessor=?)"),
        ("dormant.to_look_at", "dormant_look (look_at<?)"),
        ("dormant.strays", "kept_id (id=?)"),
        ("upkeep.overdue", "message_leased (lease_until<?)"),
        ("upkeep.overdue", "dormant_look (look_at<?)"),
        ("upkeep.take_back_dead", "message_leased"),
    ],
)
def test_a_statement_uses_the_index_that_was_made_for_it(connection, name, index):
    assert any(f"INDEX {index}" in step for step in plan(connection, name)), plan(connection, name)


def test_the_plan_check_notices_a_whole_table(connection):
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT * FROM message ORDER BY size").fetchall()

    assert [row[3] for row in plan] == ["SCAN message", "USE TEMP B-TREE FOR ORDER BY"]


def test_every_statement_is_used():
    package = Path(cardoon.__file__).parent
    source = "".join(path.read_text() for path in package.rglob("*.py"))

    assert [name for name in NAMES if f'"{name}"' not in source] == []


def test_frames_joined_by_sqlite_are_what_they_were(connection):
    # `fetch` relies on group_concat to join any bytes unchanged, which SQLite promises for text.
    frames = [bytes(range(256)), b"", b"\x00", b"\xff\xfe\x00", "é☃".encode()]
    connection.executemany("INSERT INTO frame VALUES (?, ?)", enumerate(frames))

    (joined,) = connection.execute(
        "SELECT CAST(group_concat(frame, '') AS BLOB) FROM frame"
    ).fetchone()

    assert joined == b"".join(frames)


@given(st.lists(st.binary(max_size=20)))
def test_a_joined_batch_is_cut_up_into_the_same_parts(parts):
    connection = sqlite3.connect(":memory:")
    packed = statements.document(list(statements.cut(parts)))

    rows = connection.execute(
        "SELECT substr(:blob, json_extract(value, '$[0]'), json_extract(value, '$[1]'))"
        " FROM json_each(:rows)",
        {"rows": packed, "blob": statements.join(parts)},
    ).fetchall()
    connection.close()

    assert [part for (part,) in rows] == parts


@given(st.lists(st.binary(max_size=40)), st.integers(1, 5), st.integers(1, 60))
def test_batches_hold_everything_once_and_stay_small(frames, rows, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "MAX_BATCH_ROWS", rows)
        patch.setattr(statements, "MAX_BATCH_BYTES", size)

        batches = list(statements.batches(frames, frames))

    assert [frame for batch, _ in batches for frame in batch] == frames
    for batch, blob in batches:
        assert blob == b"".join(batch) + b"\0"
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(blob) <= size + 1


@given(
    st.lists(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    )
)
def test_sqlite_reads_from_a_document_what_was_written(values):
    connection = sqlite3.connect(":memory:")

    rows = connection.execute(
        "SELECT value FROM json_each(?)", (statements.document(values),)
    ).fetchall()
    connection.close()

    for (read,), value in zip(rows, values, strict=True):
        # Decimal text to a float may differ in the last bit in SQLite.
        assert read == (pytest.approx(value, rel=1e-15) if isinstance(value, float) else value)


@pytest.mark.parametrize("value", ["a\0b", float("nan"), float("inf")])
def test_what_json_in_sqlite_would_change_is_refused(value):
    with pytest.raises(OperationalError):
        statements.document(["fine", value])


def test_a_document_is_json():
    assert json.loads(statements.document([("a", 1, None)])) == [["a", 1, None]]
