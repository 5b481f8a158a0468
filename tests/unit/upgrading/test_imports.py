"""Imports of celery and kombu become Cardoon's."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from celery import Celery, shared_task", "from cardoon import Celery, shared_task"),
        (
            "from celery.result import AsyncResult as R",
            "from cardoon.result import AsyncResult as R",
        ),
        ("from  celery . result  import AsyncResult", None),
        (
            "from celery import (\n    chain,  # one\n    group,\n)",
            "from cardoon import (\n    chain,  # one\n    group,\n)",
        ),
        ("from celery import states", "from cardoon import states"),
        ("from celery.app.log import TaskFormatter", "from cardoon.app.log import TaskFormatter"),
        ("from celery.canvas import *", "from cardoon.canvas import *"),
        (
            "from kombu.exceptions import OperationalError",
            "from cardoon.exceptions import OperationalError",
        ),
        ("from kombu.utils.uuid import uuid", "from cardoon.utils import uuid"),
        ("from kombu.common import Broadcast", "from cardoon.queues import Broadcast"),
        (
            "import kombu.common\nx = kombu.common.Broadcast('news')",
            "import cardoon.queues\nx = cardoon.queues.Broadcast('news')",
        ),
        (
            "from celery._state import get_current_app, current_app",
            "from cardoon.app import current_application as get_current_app, current_app",
        ),
        (
            "from celery._state import get_current_app as now",
            "from cardoon.app import current_application as now",
        ),
        ("import celery.result as r", "import cardoon.result as r"),
        ("import celery as c", "import cardoon as c"),
        ("import os, celery\napp = celery.Celery()", "import os, cardoon\napp = cardoon.Celery()"),
        (
            "import celery\nx = [celery.Task, celery.chain]",
            "import cardoon\nx = [cardoon.Task, cardoon.chain]",
        ),
        (
            "import celery.result\nx = celery.result.AsyncResult('ü', celery)",
            "import cardoon.result\nx = cardoon.result.AsyncResult('ü', cardoon)",
        ),
        (
            "import celery\nx = celery.result.AsyncResult",
            "import cardoon.result\nx = cardoon.result.AsyncResult",
        ),
        (
            "import celery\ndef f(celery): ...\nx = celery.Celery()",
            "import cardoon as celery\ndef f(celery): ...\nx = celery.Celery()",
        ),
        (
            "import celery\nfrom .celery import app as celery\n",
            "import cardoon as celery\nfrom .celery import app as celery\n",
        ),
        (
            "import celery._state\nx = celery._state.get_current_app()",
            "import cardoon.app\nx = cardoon.app.current_application()",
        ),
        ("x = 'a' ; from celery import group # ü", "x = 'a' ; from cardoon import group # ü"),
    ],
)
def test_an_import_is_rewritten_with_its_uses_and_nothing_else(upgraded, before, after):
    done = upgraded(before)

    assert done.text == (after if after is not None else before)
    assert bool(done.decisions) == (after is None)


@pytest.mark.parametrize(
    "text",
    [
        "from proj.celery import app",
        "from .celery import app",
        "from . import celery",
        "import celerylike\nfrom celeryconfig import x",
        "celery = 1\ncelery.x = 2",
        "# import celery\ns = 'import celery'",
    ],
)
def test_what_is_the_projects_own_is_left(upgraded, text):
    done = upgraded(text)

    assert done.text == text
    assert done.report.changed == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("from celery import bootsteps", "celery.bootsteps: the worker's parts cannot be extended"),
        ("import celery.bootsteps", "celery.bootsteps: the worker's parts cannot be extended"),
        ("import celery.bootsteps as b", "celery.bootsteps: the worker's parts cannot be extended"),
        ("from celery.app.amqp import AMQP", "celery.app.amqp.AMQP: the parts of Celery's App"),
        ("from celery.exceptions import WorkerShutdown", "celery.exceptions.WorkerShutdown: "),
        ("from kombu import Connection", "kombu.Connection: there are no AMQP connections"),
        ("from kombu.common import maybe_declare", "kombu.common.maybe_declare: there are no AMQP"),
        ("import celery.result\ncelery = 1", "celery is also a name of this file's own"),
    ],
)
def test_an_import_without_counterpart_is_left_and_reported(upgraded, text, why):
    done = upgraded(text)

    assert done.text == text
    assert [why in said for _, said in done.decisions] == [True]


def test_of_an_import_the_part_that_is_here_is_rewritten(upgraded):
    done = upgraded("x = 1\nfrom celery import chain, bootsteps\n")

    assert done.text == "x = 1\nfrom cardoon import chain, bootsteps\n"
    assert done.decisions == [(2, "celery.bootsteps: the worker's parts cannot be extended")]


def test_a_use_without_counterpart_is_reported_where_it_stands(upgraded):
    done = upgraded("import celery\n\nx = celery.bootsteps.Step\ny = celery.chain\n")

    assert "y = cardoon.chain" in done.text
    assert done.decisions == [(3, "celery.bootsteps: the worker's parts cannot be extended")]


def test_names_that_lie_apart_here_are_reported(upgraded):
    text = "from celery._state import current_app, get_current_task\n"

    done = upgraded(text)

    assert done.text == "from cardoon.app import current_app, get_current_task\n"
    assert len(done.decisions) == 1


@pytest.mark.parametrize(
    ("text", "module"),
    [
        ("patch('celery.app.task.Task.apply_async')", "celery.app.task, which is cardoon.app.task"),
        ("x = 'celery.result:AsyncResult'", "celery.result, which is cardoon.result"),
    ],
)
def test_a_text_that_names_a_module_is_reported(upgraded, text, module):
    [(line, said)] = upgraded(text).decisions

    assert (line, module in said) == (1, True)


@pytest.mark.parametrize(
    "text", ["x = 'celery'", "x = 'celery.backend_cleanup'", "x = 'see celery.result'"]
)
def test_other_texts_are_none_of_its_business(upgraded, text):
    assert upgraded(text).decisions == []
