"""How answers are printed, and which app and stores commands work on."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from cardoon.cli.access import find_app, open_stores, print_json, print_table, printable, when
from cardoon.cli.main import Invocation


def invocation(app=None, **settings):
    return Invocation(app, settings, quiet=False)


def test_columns_are_as_wide_as_what_is_in_them(capsys):
    print_table(("id", "queue"), [("a-long-id", 1), ("b", "celery")])

    assert capsys.readouterr().out.splitlines() == [
        "id         queue",
        "a-long-id  1",
        "b          celery",
    ]


def test_a_table_without_rows_is_its_head(capsys):
    print_table(("id", "queue"), [])

    assert capsys.readouterr().out == "id  queue\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Grün 漢字", "Grün 漢字"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\nqueue  9", "a\\x0aqueue  9"),
        ("\x9b1m", "\\x9b1m"),
        ("a\u202eb", "a\\x202eb"),
    ],
)
def test_what_comes_from_outside_cannot_move_the_cursor(capsys, text, shown):
    print_table(("name",), [(text,)])

    assert printable(text) == shown
    assert capsys.readouterr().out == f"name\n{shown}\n"


def test_times_are_in_utc():
    assert when(0) == "1970-01-01 00:00:00"


def test_json_has_a_word_for_everything(capsys):
    print_json({"at": datetime.fromtimestamp(0, UTC)})

    assert json.loads(capsys.readouterr().out) == {"at": "1970-01-01 00:00:00+00:00"}


def test_without_an_app_there_is_one_with_the_projects_settings(project):
    app = find_app(invocation(broker_url="memory://"))

    assert app.conf.broker_url == "memory://"
    assert all(name.startswith("cardoon.") for name in app.tasks)


def test_what_the_command_line_says_wins_over_the_app(project):
    project.write_tasks()

    app = find_app(invocation("tasks", broker_url="memory://"))

    assert (app.main, app.conf.broker_url) == ("tasks", "memory://")


def test_a_store_of_results_beside_the_broker_is_closed_as_well(project, tmp_path):
    given = invocation(result_backend=f"sqlite:///{tmp_path}/results.db")

    with open_stores(given) as (broker, backend):
        backend.forget(["x"])
        assert broker.depths() == []

    # The last connection to be closed takes the log with it.
    assert (tmp_path / "results.db").exists()
    assert not (tmp_path / "results.db-wal").exists()
