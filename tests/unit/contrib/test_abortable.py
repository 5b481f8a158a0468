"""Tasks that can be asked to stop."""

from __future__ import annotations

import enum

import pytest

from cardoon.context import Request, carrying_out
from cardoon.contrib.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from cardoon.exceptions import InvalidTaskError
from cardoon.message.serializers import JSON, encode_body
from cardoon.worker.local import LocalLink
from tests.unit.stage import Stage, succeeded


class Colour(enum.Enum):
    RED = "red"


@pytest.fixture
def pay(stage):
    """A task that looks whether it was aborted."""

    @stage.app.task(name="shop.pay", bind=True, base=AbortableTask)
    def pay(self, amount=0):
        return self.is_aborted()

    return pay


def running(result):
    return carrying_out(Request(task="shop.pay", id=result.id, called_directly=False))


def test_a_task_that_was_asked_to_stop_sees_it(stage, pay):
    result, other = pay.delay(1), pay.apply_async((2,))

    result.abort()

    assert isinstance(other, AbortableAsyncResult)
    assert (result.is_aborted(), result.state, result.status) == (True, ABORTED, ABORTED)
    assert (other.is_aborted(), other.state) == (False, "PENDING")
    with running(result):
        assert pay.is_aborted()
        assert not pay.is_aborted(task_id=other.id)
    with running(other):
        assert not pay.is_aborted()


def test_a_note_is_written_as_results_are(tmp_path):
    only = {"task_serializer": "msgpack", "accept_content": ["msgpack"]}
    stage = Stage(tmp_path, settings=only)
    pay = stage.app.task(name="shop.pay", base=AbortableTask)(lambda: None)
    result = pay.delay()

    result.abort()

    assert result.is_aborted()
    stage.close()


def test_a_result_becomes_what_the_annotation_names(stage):
    @stage.app.task(name="shop.pay", base=AbortableTask)
    def pay() -> Colour:
        """It is carried out below, by hand."""

    result = pay.delay()
    [job] = stage.consume()
    stage.end(job, succeeded("red"))

    assert result.get(timeout=5) is Colour.RED
    assert pay.AsyncResult(result.id).get(timeout=5) is Colour.RED


def test_a_task_that_has_ended_keeps_its_state(stage, pay):
    result = pay.delay(1)
    [job] = stage.consume()
    stage.end(job, succeeded("early"))

    result.abort()

    assert (result.state, result.get(timeout=5)) == ("SUCCESS", "early")
    assert not result.is_aborted()


def test_a_result_that_is_forgotten_is_not_aborted(stage, pay):
    result = pay.delay(1)
    result.abort()

    result.forget()

    assert not pay.AsyncResult(result.id).is_aborted()


def test_a_note_is_read_by_any_client_and_nobody_elses_id_will_do(stage, pay):
    result = pay.delay(1)
    result.abort()
    [sealed] = stage.backend.load([f"aborted:{result.id}"]).values()

    stage.backend.store([sealed._replace(task_id="aborted:other")])

    assert pay.AsyncResult(result.id).is_aborted()
    assert not pay.AsyncResult("other").is_aborted()
    assert "message.wrong_request" in stage.event_names()


def test_a_tasks_own_result_under_the_notes_id_is_no_note(stage, pay):
    stage.send(1, task_id="aborted:mine")
    [job] = stage.consume()
    stage.end(job, succeeded({"aborted": "mine"}))

    assert not pay.AsyncResult("mine").is_aborted()


def test_without_a_message_nothing_is_aborted(stage, pay):
    assert pay() is False
    assert pay.apply().get() is False
    assert pay.request.id is None
    assert not pay.is_aborted()


def test_a_task_can_abort_another(stage, pay):
    result = pay.delay(1)
    link = LocalLink(settler=stage.settler, held=stage.held, reader=stage.client, clock=stage.clock)
    stage.app.attach(link)

    result.abort()

    assert result.is_aborted()


def test_nobody_is_asked_to_stop_through_what_keeps_nothing(stage, pay):
    class Link:
        def load(self, handles):
            return {}

    result = pay.delay(1)
    stage.app.attach(Link())

    with pytest.raises(InvalidTaskError, match="keeps no notes"):
        result.abort()


def test_an_id_that_leaves_no_room_is_refused(stage, pay):
    with pytest.raises(InvalidTaskError, match="task_id="):
        pay.AsyncResult("x" * 125).abort()


def test_a_saved_group_of_that_name_is_no_note(stage, pay):
    stage.app.sender.save_group("aborted:mine", JSON, encode_body({"result": []}, JSON))

    assert not pay.AsyncResult("mine").is_aborted()
