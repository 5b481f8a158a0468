"""Serializers from a call to its result: what settings, tasks and calls choose, and who takes it."""

from __future__ import annotations

import base64
import json

import pytest

from cardoon import chain, chord, states
from cardoon.contents import JSON, MSGPACK, PICKLE, YAML, registered_contents
from cardoon.exceptions import InvalidTaskError, TaskRevokedError
from cardoon.result import GroupResult
from cardoon.serialization import register, unregister
from tests.workflows.troupe import Troupe

MINE = "application/x-mine"


@pytest.fixture
def make(tmp_path):
    made = []

    def make_troupe(**settings):
        made.append(Troupe(tmp_path / str(len(made)), **settings))
        app = made[-1].app

        @app.task(name="echo")
        def echo(value=None):
            return value

        @app.task(name="fail")
        def fail():
            raise ValueError("no")

        return made[-1]

    yield make_troupe
    for troupe in made:
        troupe.close()
    for name in registered_contents():
        unregister(name)


def register_mine():
    register(
        "mine",
        lambda value: base64.b64encode(json.dumps(value).encode()),
        lambda text: json.loads(base64.b64decode(text)),
        content_type=MINE,
    )


def sent_and_answered(troupe, *args, task="echo", **options):
    """The codec of a call and that of its result, and the value that came back."""
    result = troupe.app.send_task(task, args, **options)
    [job] = troupe.consume()
    troupe.end([(job, troupe.carry_out(job))])
    [report] = troupe.client.load([result.handle]).values()
    return job.head["codec"], report.codec, result.get(timeout=0, propagate=False)


@pytest.mark.parametrize(
    ("settings", "codecs"),
    [
        ({"task_serializer": "msgpack", "accept_content": ["msgpack"]}, (MSGPACK, MSGPACK)),
        ({"task_serializer": "yaml", "accept_content": ["application/x-yaml"]}, (YAML, YAML)),
        (
            {
                "task_serializer": "msgpack",
                "result_serializer": "auth",
                "accept_content": ["auth", "msgpack"],
            },
            (MSGPACK, JSON),
        ),
        ({"result_serializer": "yaml", "result_accept_content": ["yaml"]}, (JSON, YAML)),
        (
            {
                "task_serializer": "pickle",
                "unsafe_allow_pickle": True,
                "accept_content": ["auth", "pickle"],
            },
            (PICKLE, JSON),
        ),
        (
            {
                "task_serializer": "json",
                "accept_content": ["json"],
                "result_serializer": "msgpack",
                "result_accept_content": ["msgpack"],
            },
            (JSON, MSGPACK),
        ),
        (
            {"task_serializer": "msgpack", "accept_content": ["msgpack"], "task_compression": "xz"},
            (f"{MSGPACK}+lzma", f"{MSGPACK}+lzma"),
        ),
    ],
    ids=str,
)
def test_settings_say_how_calls_and_results_are_written(make, settings, codecs):
    troupe = make(**settings)
    value = {"b": b"\xff", "n": [1, None]}

    assert sent_and_answered(troupe, value) == (*codecs, value)
    *found, error = sent_and_answered(troupe, task="fail")
    assert tuple(found) == codecs
    assert repr(error) == "ValueError('no')"


def test_a_call_and_a_task_may_choose_another(make):
    troupe = make(accept_content=["auth", "msgpack", "yaml"])
    troupe.app.task(name="packed", serializer="msgpack", compression="bzip2")(lambda value: value)

    assert sent_and_answered(troupe, 5, serializer="yaml") == (YAML, JSON, 5)
    assert sent_and_answered(troupe, 5, compression="gzip") == (f"{JSON}+zlib",) * 2 + (5,)
    assert sent_and_answered(troupe, 5, task="packed") == (
        f"{MSGPACK}+bzip2",
        f"{JSON}+bzip2",
        5,
    )
    assert sent_and_answered(troupe, 5, task="packed", serializer="json")[:2] == (JSON, JSON)


def test_what_a_worker_does_not_accept_is_kept_and_not_run(make):
    troupe = make(accept_content=["auth", "msgpack"])
    troupe.start()
    troupe.app.conf.accept_content = ["auth", "yaml"]  # the client's own idea
    troupe.app.send_task("echo", serializer="yaml")

    assert troupe.consume() == []
    assert troupe.quarantined() == ["codec-not-accepted"]


def test_chains_and_chords_take_results_as_they_are_written(make):
    troupe = make(
        task_serializer="msgpack",
        accept_content=["msgpack"],
        result_serializer="yaml",
        result_accept_content=["yaml"],
    )
    echo = troupe.app.tasks["echo"]
    linked = chain(echo.s(b"\xff"), echo.s()).apply_async()
    both = chord([echo.s(1), echo.s(2)], echo.s()).apply_async()

    troupe.play()

    assert linked.get(timeout=0) == b"\xff"
    assert both.get(timeout=0) == [1, 2]


def test_results_without_signature_are_taken_by_what_waits_for_them(make):
    troupe = make(result_serializer="json", result_accept_content=["json"])
    echo = troupe.app.tasks["echo"]
    linked = chain(echo.s(5), echo.s()).apply_async()

    troupe.play()

    assert linked.get(timeout=0) == 5


def test_a_saved_group_is_written_as_results_are(make):
    troupe = make(task_serializer="msgpack", accept_content=["msgpack"])
    echo = troupe.app.tasks["echo"]
    results = [echo.delay(1), echo.delay(2)]
    GroupResult("g", results, source=troupe.app).save()

    troupe.play()

    assert GroupResult.restore("g", app=troupe.app).get(timeout=0) == [1, 2]


@pytest.mark.parametrize("serializer", ["msgpack", "yaml", "mine"])
def test_the_worker_says_what_it_has_to_say_so_that_clients_can_read_it(make, serializer):
    register_mine()
    troupe = make(task_serializer=serializer, accept_content=["auth", serializer])
    result = troupe.app.send_task("echo", expires=5)
    troupe.clock.advance(10)

    troupe.play()

    assert result.state == states.REVOKED
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get(timeout=0)


def test_progress_is_written_as_results_are(make):
    troupe = make(
        accept_content=["auth", "msgpack"],
        result_serializer="msgpack",
        task_track_started=True,
    )
    codecs = []
    troupe.client.update_state = lambda *told: codecs.append(told[2])

    @troupe.app.task(name="slow", bind=True)
    def slow(self):
        self.update_state(state="PROGRESS", meta={"done": 1})

    result = slow.delay()
    [job] = troupe.consume()

    assert (result.state, result.info["task"]) == (states.STARTED, "slow")
    troupe.end([(job, troupe.carry_out(job))])
    assert codecs == [MSGPACK]


# Pickles

PICKLED = {
    "task_serializer": "pickle",
    "unsafe_allow_pickle": True,
    "accept_content": ["auth", "pickle"],
}


def test_pickled_arguments_arrive_as_what_they_were(make):
    troupe = make(**PICKLED)
    seen = []
    troupe.app.task(name="look")(lambda *args: seen.append(args))

    sent_and_answered(troupe, (1, {2}), complex(1, 2), task="look")

    assert seen == [((1, {2}), complex(1, 2))]


def test_a_result_of_a_pickled_task_must_be_one_that_json_can_carry(make):
    troupe = make(**PICKLED)

    *_, error = sent_and_answered(troupe, complex(1, 2))

    assert "cannot carry builtins.complex" in str(error)


def test_canvases_may_be_pickled(make):
    troupe = make(**PICKLED)
    echo = troupe.app.tasks["echo"]
    mapped = echo.map([1, 2]).apply_async()
    linked = chain(echo.s(5), echo.s()).apply_async()

    troupe.play()

    assert mapped.get(timeout=0) == [1, 2]
    assert linked.get(timeout=0) == 5


# Serializers of users


def test_a_serializer_of_ones_own_writes_calls_and_results(make):
    register_mine()
    troupe = make(task_serializer="mine", accept_content=["auth", "mine"])

    assert sent_and_answered(troupe, {"a": [1]}) == (MINE, MINE, {"a": [1]})


def test_a_result_that_it_cannot_write_is_the_tasks_failure(make):
    register_mine()
    troupe = make(task_serializer="mine", accept_content=["auth", "mine"])
    troupe.app.task(name="odd")(lambda: b"\xff")

    *_, error = sent_and_answered(troupe, task="odd")

    assert "serializer 'mine' cannot carry this value" in str(error)


def test_a_body_that_it_cannot_read_is_kept_and_said(make):
    register("mine", json.dumps, lambda _: 1 / 0, content_type=MINE)
    troupe = make(task_serializer="mine", result_serializer="auth", accept_content=["auth", "mine"])
    result = troupe.app.send_task("echo")

    troupe.play()

    assert troupe.quarantined() == ["undecodable"]
    with pytest.raises(InvalidTaskError, match="it cannot be read"):
        result.get(timeout=0)
