"""`cardoon logtool` and `cardoon graph`."""

from __future__ import annotations

import json
import logging

import pytest

from cardoon.cli.logtool import MAX_LINES, read_records
from cardoon.config import Settings
from cardoon.log import TaskFormatter

LOG = """\
a banner
[2026-12-02 10:00:00,001: INFO/MainProcess] queues: celery
[2026-12-02 10:00:01,002: INFO/ForkProcess-1] tasks.add[5f2d]: adding
[2026-12-02 10:00:02,003: ERROR/ForkProcess-1] tasks.pay[6a1b]: it failed
  Traceback (most recent call last):
    File "tasks.py", line 3, in pay
  ValueError: no
[2026-12-02 10:00:03,004: ERROR/ForkProcess-1] tasks.pay[7c3d]: it failed
  Traceback (most recent call last):
    File "tasks.py", line 3, in pay
  ValueError: no
[2026-12-02 10:00:04,005: WARNING/MainProcess] broker: slow \x1b[31m
"""
TRACE = 'Traceback (most recent call last):\n  File "tasks.py", line 3, in pay\nValueError: no'


@pytest.fixture
def log(project):
    path = project.folder / "worker.log"
    path.write_text(LOG)
    return str(path)


def test_records_are_counted(project, log):
    assert project.json("logtool", "stats", log, "--json") == {
        "records": 5,
        "levels": {"INFO": 2, "ERROR": 2, "WARNING": 1},
        "tracebacks": 2,
        "tasks": {"tasks.pay": 2, "tasks.add": 1},
    }
    assert "2 of tasks.pay" in project.answer("logtool", "stats", log)


def test_a_traceback_is_shown_once_with_its_count(project, log):
    assert project.json("logtool", "traces", log, "--json") == [{"count": 2, "traceback": TRACE}]
    assert project.answer("logtool", "traces", log) == f"2 times:\n{TRACE}\n"


def test_errors_come_with_their_lines_and_debug_leaves_tasks_out(project, log):
    assert project.answer("logtool", "errors", log).count("ValueError: no\n") == 2
    told = project.answer("logtool", "debug", log)
    assert "queues: celery" in told
    assert "tasks." not in told
    assert "slow \\x1b[31m" in told  # no log moves a cursor
    [first, _] = project.json("logtool", "errors", log, "--json")
    assert (first["task"], first["id"], first["level"]) == ("tasks.pay", "6a1b", "ERROR")


def test_standard_input_is_read_where_no_file_is_named(project):
    assert json.loads(project.answer("logtool", "stats", "--json", input=LOG))["records"] == 5


def test_what_is_not_told_by_a_log_is_said(project, log):
    assert "`cardoon why ID`" in project.usage("logtool", "incomplete", log)


def test_the_formats_of_the_settings_are_those_that_are_read():
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "it is so", None, None)
    own = TaskFormatter(Settings().worker_log_format).format(record)
    record.task_name, record.task_id = "tasks.add", "5f2d"
    of_task = TaskFormatter(Settings().worker_task_log_format).format(record)

    first, second = read_records([own, of_task])

    assert (first.level, first.text, first.task) == ("ERROR", "it is so", "")
    assert (second.text, second.task, second.id) == ("it is so", "tasks.add", "5f2d")


def test_json_lines_are_read_and_no_record_grows_without_bound():
    line = json.dumps(
        {
            "level": "error",
            "message": "no",
            "task_id": "1",
            "task_name": "t",
            "exception": "Traceback (most recent call last):\nx",
        }
    )

    [record] = read_records([line, *["more"] * (2 * MAX_LINES), "{broken"])

    assert (record.level, record.text, record.task) == ("ERROR", "no", "t")
    assert len(record.lines) == MAX_LINES + 3
    assert list(read_records(["{}", "[]", '{"level": {}}', "nothing"])) != [None]


def test_where_tasks_go_is_drawn(project):
    (project.folder / "tasks.py").write_text(
        "from cardoon import Cardoon\n"
        "app = Cardoon('tasks', task_routes={'tasks.pay': 'money'}, set_as_current=False)\n"
        "@app.task\ndef add(): pass\n@app.task\ndef pay(): pass\n@app.task(queue='own')\ndef mine(): pass\n"
    )

    assert project.answer("-A", "tasks", "graph", "tasks") == (
        'digraph tasks {\n  "tasks.add" -> "queue celery";\n  "tasks.mine" -> "queue own";\n'
        '  "tasks.pay" -> "queue money";\n}\n'
    )
    assert "tasks.pay -> queue money\n" in project.answer("-A", "tasks", "graph", "tasks", "--text")
    edges = project.json("-A", "tasks", "graph", "tasks", "--json")["edges"]
    assert {"start": "tasks.mine", "end": "queue own", "label": ""} in edges


def test_a_worker_and_a_family_are_drawn(project):
    assert '"worker" -> "zygote" [label="starts"];' in project.answer("graph", "bootsteps")
    sent = project.send(1, 2)
    assert f"{sent.id} PENDING" in project.answer("graph", "canvas", sent.id, "--text")
    assert project.json("graph", "canvas", sent.id, "--json")["alone"] == [f"{sent.id} PENDING"]
    assert "`cardoon status` lists workers" in project.usage("graph", "workers")
