"""`cardoon call` and `cardoon result`."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime, timedelta

import pytest

from cardoon import states
from cardoon.cli.access import json_of
from cardoon.message.serializers import decode_body
from cardoon.result import describe_exception

UNHELD = {"isolation": None, "violations": []}
"""Of a task that no sandbox held."""


def calls(project):
    """What waits: name, arguments, keyword arguments."""
    found = []
    for delivery in project.hands.take(limit=10):
        message = project.hands.open(delivery)
        args, kwargs, _ = decode_body(message.claims.codec, message.body, max_bytes=10_000)
        found.append((message.claims.task, args, kwargs))
    return found


def test_a_call_is_sent_by_name_and_its_id_printed(project):
    told = project.answer("call", "shop.pay", "-a", "[1, null]", "-k", '{"x": "y"}')

    [delivery] = project.hands.take()
    assert told == f"{delivery.id}\n"
    assert project.hands.arguments(delivery) == [1, None]


def test_arguments_may_be_left_out(project):
    sent = project.json("call", "shop.pay", "--json")

    assert list(sent) == ["id"]
    assert calls(project) == [("shop.pay", [], {})]


@pytest.mark.parametrize("name", ["add", "tasks.add"])
def test_a_short_name_is_one_of_the_apps_own(project, name):
    project.write_tasks()

    project.answer("-A", "tasks", "call", name, "-a", "[1]", "-k", '{"y": 2}')

    assert calls(project) == [("tasks.add", [1], {"y": 2})]


def test_a_name_that_the_app_does_not_have_is_sent_and_warned_of(project):
    project.write_tasks()

    done = project.run("-A", "tasks", "call", "ad")

    assert done.exit_code == 0
    assert "the app has no task 'ad'; did you mean 'tasks.add'?" in done.stderr
    assert calls(project) == [("ad", [], {})]


def test_a_call_may_expire_at_a_time(project):
    end = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)

    project.answer("call", "shop.pay", "--expires", end.isoformat())

    [delivery] = project.hands.take()
    assert project.hands.open(delivery).claims.expires == end.timestamp() * 1000


def test_celerys_option_for_the_task_of_a_result_is_taken(project):
    assert project.json("result", "none", "-t", "tasks.add", "--json")["state"] == "PENDING"


def test_arguments_of_a_known_task_are_checked(project):
    project.write_tasks()

    assert "tasks.add" in project.error("-A", "tasks", "call", "add", "-a", "[1]")
    assert calls(project) == []


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("-a", "1, 2", "'1, 2' is not JSON, such as '[1, 2]'"),
        ("-a", '{"x": 1}', "is not a JSON list, such as '[1, 2]'"),
        ("-k", "[1]", "'[1]' is not a JSON object, such as '{\"x\": 1}'"),
        ("-k", "x=1", "'x=1' is not JSON, such as '{\"x\": 1}'"),
        ("--eta", "tomorrow", "--eta 'tomorrow' is no ISO 8601 time"),
        ("--priority", "10", "10 is not in the range 0<=x<=9"),
        ("--countdown", "soon", "'soon' is not a valid float"),
        ("--expires", "soon", "'soon' is neither a number of seconds nor an ISO 8601 time"),
    ],
)
def test_an_argument_that_is_wrong_is_named_with_an_example(project, option, text, told):
    assert told in project.usage("call", "shop.pay", option, text)
    assert calls(project) == []


def test_options_of_a_call_are_taken(project):
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    project.answer("call", "a.low", "--priority", "0")
    project.answer("call", "a.high", "--priority", "9")
    project.answer("call", "a.mail", "--queue", "mail")
    project.answer("call", "a.late", "--countdown", "3600")
    project.answer("call", "a.eta", "--eta", f"{tomorrow:%Y-%m-%dT%H:%M:%S}+00:00")

    celery, mail = project.json("queues", "--json")
    assert (celery["ready"], celery["scheduled"], mail["ready"]) == (2, 2, 1)
    assert [name for name, *_ in calls(project)] == ["a.high", "a.low"]


PAINTING = """
import dataclasses, enum
from cardoon import Cardoon
app = Cardoon("painting", set_as_current=False, accept_content=["auth", "msgpack"])
class Colour(enum.Enum):
    RED = "red"
@dataclasses.dataclass
class Item:
    name: str
    colours: set[Colour]
@app.task
def paint(item: Item) -> Item: ...
"""


def test_a_call_may_choose_its_serializer(project):
    (project.folder / "painting.py").write_text(PAINTING)

    project.answer("-A", "painting", "call", "paint", "-a", "[1]", "--serializer", "msgpack")
    refused = project.error("call", "a.b", "--serializer", "msgpack")

    assert "add 'msgpack' there" in refused
    [delivery] = project.hands.take()
    assert b"application/x-msgpack" in delivery.frame


def test_a_result_of_a_class_of_the_app_is_shown_with_its_fields(project):
    (project.folder / "painting.py").write_text(PAINTING)
    value = {"name": "x", "colours": ["red"]}

    with project.hands.answering(lambda item: value):
        shown = project.answer("-A", "painting", "call", "paint", "-a", "[1]", "--wait")

    assert json.loads(shown) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [({1, 2}, "[1, 2]"), (b"a", "\"b'a'\""), (date(2026, 1, 1), '"2026-01-01"')],
)
def test_a_value_that_json_has_not_is_shown_all_the_same(project, value, shown):
    task_id = finished(project, value=value)

    assert project.answer("result", task_id) == f"{shown}\n"


def test_keys_that_json_has_not_are_shown_as_in_python():
    assert json_of({b"k": 1}) == "\"{b'k': 1}\""


def test_a_call_may_expire(project):
    before = time.time()
    project.answer("call", "a.b", "--expires", "60")

    [delivery] = project.hands.take()
    expires = project.hands.open(delivery).claims.expires / 1000
    assert before + 59 < expires < time.time() + 61


def test_a_result_is_waited_for(project):
    with project.hands.answering(lambda x, y: {"sum": x + y}):
        shown = project.answer("call", "tasks.add", "-a", "[1, 2]", "--wait")
        found = project.json("call", "tasks.add", "-a", "[3, 4]", "--wait", "--json")

    assert json.loads(shown) == {"sum": 3}
    assert (found["state"], found["result"], found["traceback"]) == ("SUCCESS", {"sum": 7}, None)


def test_a_result_that_goes_to_its_sender_is_nobody_elses_to_show(project):
    told = project.error("-b", "amqp://localhost:1", "--result-backend", "rpc://", "result", "abc")

    assert told.startswith(
        "result abc: result_backend is rpc://, so the result goes to the process that"
    )


def test_a_result_is_not_waited_for_for_ever(project):
    told = project.error("call", "tasks.add", "--wait", "--timeout", "0.01")

    assert told.startswith("task ")
    assert told.endswith("no result within 0.01 seconds; its message is ready")


def finished(project, **how):
    """The id of a task that has ended with a value or an error."""
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    if "error" in how:
        project.hands.fail(delivery, how["error"])
    else:
        project.hands.succeed(delivery, how["value"])
    return sent.id


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), ("Grün", '"Grün"'), ([1, {"a": 2}], '[1, {"a": 2}]')]
)
def test_a_value_is_shown_as_json(project, value, shown):
    task_id = finished(project, value=value)

    assert project.answer("result", task_id) == f"{shown}\n"
    assert project.json("result", task_id, "--json") == {
        "id": task_id,
        "state": "SUCCESS",
        "result": value,
        "traceback": None,
        **UNHELD,
    }


def test_a_failure_is_told_on_stderr_with_exit_code_1(project):
    task_id = finished(project, error=ValueError("no such\nthing"))

    done = project.run("result", task_id)

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "FAILURE: ValueError: no such\nthing\n"


def test_a_traceback_is_shown_if_asked_for(project):
    task_id = finished(project, error=ValueError("no"))

    done = project.run("result", task_id, "--traceback")

    assert done.exit_code == 1
    assert done.stderr == "FAILURE: ValueError: no\nTraceback of\n  hands\n"


def test_a_failure_is_told_to_programs_as_well(project):
    task_id = finished(project, error=KeyError("k"))

    done = project.run("result", task_id, "--json")

    assert (done.exit_code, done.stderr) == (1, "")
    assert json.loads(done.stdout) == {
        "id": task_id,
        "state": "FAILURE",
        "result": "KeyError: 'k'",
        "traceback": "Traceback of\n  hands",
        **UNHELD,
    }


def test_an_unknown_id_is_a_task_that_is_still_to_come(project):
    assert project.answer("result", "nobody-knows") == "PENDING\n"
    assert project.json("result", "nobody-knows", "--json") == {
        "id": "nobody-knows",
        "state": "PENDING",
        "result": None,
        "traceback": None,
        **UNHELD,
    }


def test_what_is_no_id_is_refused(project):
    assert project.error("result", "a\nb").startswith("task_id='a\\nb' ")


def test_a_state_on_the_way_is_shown(project):
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    project.hands.tell(delivery, "PROGRESS", {"result": {"done": 5}})

    assert project.answer("result", sent.id) == "PROGRESS\n"
    assert project.json("result", sent.id, "--json")["result"] == {"done": 5}


def test_a_task_that_is_to_be_retried_has_not_failed(project):
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    content = {"error": describe_exception(ValueError("later")), "traceback": ""}
    project.hands.tell(delivery, states.RETRY, content)

    done = project.run("result", sent.id)

    assert (done.exit_code, done.stderr) == (0, "RETRY: ValueError: later\n")


def test_without_a_result_backend_there_is_nothing_to_show(project):
    assert project.error("--result-backend", "disabled://", "result", "x") == (
        "result_backend is not set, so results are kept nowhere"
    )


def test_a_result_that_was_forged_is_not_shown(project):
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    sealed = project.hands.seal_for(delivery, {"result": "false"})
    project.hands.backend.store([sealed._replace(frame=sealed.frame[:-3] + b'!"}')])

    assert project.answer("result", sent.id) == "PENDING\n"
    [kept] = project.json("quarantine", "list", "--json")
    assert (kept["id"], kept["queue"], kept["reason"]) == (sent.id, "results", "wrong-digest")
