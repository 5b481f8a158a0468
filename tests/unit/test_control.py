"""What `app.control` offers, and how it says that it does not offer the rest."""

from __future__ import annotations

import pytest

from cardoon.exceptions import InvalidTaskError
from cardoon.sender import Revocation


class Notebook:
    """A sender that writes down what it is to revoke."""

    def __init__(self):
        self.revocations = []

    def revoke(self, revocation):
        self.revocations.append(revocation)


@pytest.fixture
def notebook(app):
    made = Notebook()
    app.attach(made)
    yield made
    app.detach()


def test_one_id_or_several_are_revoked(app, notebook):
    app.control.revoke("t1")
    app.control.revoke(["t1", "t2"], terminate=True, signal="SIGKILL")
    app.control.terminate("t3", signal="usr1")
    app.control.revoke([])

    assert notebook.revocations == [
        Revocation(("t1",)),
        Revocation(("t1", "t2"), True, "SIGKILL"),
        Revocation(("t3",), True, "SIGUSR1"),
    ]


def test_stamps_are_revoked_by_one_value_or_several(app, notebook):
    app.control.revoke_by_stamped_headers({"tenant": "a", "hop": [1, 2]}, terminate=True)
    app.AsyncResult("t1").revoke_by_stamped_headers({"tenant": ("a", "b")})

    assert notebook.revocations == [
        Revocation((), True, "SIGTERM", {"tenant": ["a"], "hop": [1, 2]}),
        Revocation((), False, "SIGTERM", {"tenant": ["a", "b"]}),
    ]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "names no stamp"),
        ({"tenant": []}, "without a value"),
        (["tenant"], "is not a dict"),
        ({5: "a"}, "not printable text"),
        ({"tenant": object()}, "not JSON serializable"),
        ({"tenant": list(range(1001))}, "more than 1000 values"),
    ],
)
def test_what_names_no_stamps_is_an_error(app, notebook, headers, reason):
    with pytest.raises(InvalidTaskError, match=reason):
        app.control.revoke_by_stamped_headers(headers)

    assert notebook.revocations == []


@pytest.mark.parametrize("signal", ["SIGNOTHING", "", 9])
def test_an_unknown_signal_is_an_error(app, notebook, signal):
    with pytest.raises(InvalidTaskError, match="is no signal; use SIGTERM"):
        app.control.revoke("t1", terminate=True, signal=signal)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"destination": ["w1@here"]}, "tells every worker"),
        ({"reply": True}, "workers do not answer"),
        ({"repply": True}, "unknown option 'repply'"),
    ],
)
def test_what_this_version_cannot_do_is_an_error_and_not_silence(app, notebook, options, reason):
    with pytest.raises(InvalidTaskError, match=reason):
        app.control.revoke("t1", **options)


def test_an_id_that_no_message_can_have_is_an_error(app, notebook):
    with pytest.raises(InvalidTaskError, match="task_id"):
        app.control.revoke(["t1", ""])


def test_everything_that_waits_is_deleted(stage):
    stage.send(queue="celery")
    stage.send(queue="slow", countdown=60)
    stage.send(queue="celery")
    stage.consume()
    stage.send(queue="celery")

    assert stage.app.control.purge() == 2

    assert stage.depth("slow") == (0, 0, 0)
    assert stage.depth("celery") == (0, 0, 2)
    assert stage.event_names()[-1] == "operator.purge"


def test_tasks_do_not_purge(app, notebook):
    with pytest.raises(InvalidTaskError, match="by clients, not in tasks"):
        app.control.purge()


def test_purge_has_no_connection_to_be_given(app):
    with pytest.raises(InvalidTaskError, match="no connection="):
        app.control.purge(object())


def test_a_command_of_celerys_that_is_not_here_says_why(app):
    with pytest.raises(AttributeError, match="this version has no 'ping': "):
        app.control.ping()


def test_a_misspelt_command_gets_a_suggestion(app):
    with pytest.raises(AttributeError, match="did you mean 'revoke'"):
        app.control.revok("t1")
