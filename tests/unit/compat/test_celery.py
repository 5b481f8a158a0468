"""`import celery`, and what it is when Cardoon stands in."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

BEGIN = "from cardoon.compat import celery as shim\nshim.install(kombu=False)\n"


def python(script, *, begin=BEGIN):
    """What a script prints, in a process of its own, whose modules are nobody else's."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_names_of_celerys_modules_are_cardoons():
    told = python(
        """
        import cardoon, cardoon.app, cardoon.contrib.abortable, cardoon.exceptions, cardoon.utils.log
        import celery
        import celery.states as states
        from celery import Celery, chain, current_app, shared_task, signature
        from celery._state import get_current_app
        from celery.app.log import TaskFormatter
        from celery.app.task import Task
        from celery.contrib.abortable import AbortableTask
        from celery.exceptions import Retry
        from celery.result import AsyncResult
        from celery.utils.log import get_task_logger

        print(Celery is cardoon.Celery, celery.Celery is Celery, shared_task is cardoon.shared_task)
        print(AsyncResult is cardoon.AsyncResult, Task is cardoon.Task, states.SUCCESS)
        print(AbortableTask is cardoon.contrib.abortable.AbortableTask, Retry is cardoon.exceptions.Retry)
        print(celery.result.AsyncResult is AsyncResult, celery.app.task.Task is Task)
        print(get_current_app is cardoon.app.current_application, current_app is cardoon.current_app)
        print(celery.VERSION >= (5, 0), celery.__version__.startswith("5."))
        print("Celery" in dir(celery), get_task_logger("x").name)
        """
    )

    assert set(" ".join(told).split()) == {"True", "SUCCESS", "cardoon.task.x"}


def test_everything_public_is_imported_with_a_star():
    [told] = python("from celery import *\nprint(Celery.__name__, chord.__name__, len(uuid()))")

    assert told == "Cardoon chord 36"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("import celery.bootsteps", "the worker's parts cannot be extended"),
        ("from celery import bootsteps", "the worker's parts cannot be extended"),
        ("from celery.bootsteps import StartStopStep", "the worker's parts cannot be extended"),
        ("from celery.exceptions import WorkerShutdown", "send the worker SIGTERM"),
        ("from celery.app.amqp import AMQP", "attributes of the app"),
        ("from celery.utils import noop", "write a lambda"),
        ("from celery import nonsense", "cardoon has no 'nonsense' in this version"),
        ("import celery.nonsense.deep", "cardoon has no 'nonsense' in this version"),
    ],
)
def test_an_import_without_counterpart_says_what_to_do(line, why):
    [told] = python(f"try:\n    {line}\nexcept ImportError as error:\n    print(error)")

    assert "is not in Cardoon: " in told
    assert why in told


def test_an_attribute_without_counterpart_is_none():
    told = python(
        """
        import celery
        print(hasattr(celery, "nonsense"), getattr(celery, "bootsteps", "none"), end=" ")
        try:
            celery.bootsteps
        except AttributeError as error:
            print(error)
        """
    )

    assert told == [
        "False none celery.bootsteps is not in Cardoon: the worker's parts cannot be extended"
    ]


def test_kombu_is_stood_in_for_as_well():
    told = python(
        """
        from kombu.exceptions import OperationalError
        from kombu.common import Broadcast
        from kombu.utils.uuid import uuid
        import cardoon.exceptions, kombu
        print(OperationalError is cardoon.exceptions.OperationalError, len(uuid()), Broadcast("a"))
        try:
            from kombu import Connection
        except ImportError as error:
            print(error)
        """,
        begin="from cardoon.compat import celery\ncelery.install()\n",
    )

    assert told[0] == "True 36 a"
    assert "no AMQP connections here" in told[1]


def test_importing_the_module_alone_changes_nothing():
    told = python(
        """
        import sys
        before = list(sys.meta_path)
        from cardoon.compat import celery
        print(sys.meta_path == before, "celery" in sys.modules)
        """,
        begin="",
    )

    assert told == ["True False"]


def test_it_is_installed_once_and_taken_back():
    told = python(
        """
        import sys
        shim.install(kombu=False)
        import celery.result
        shim.install()
        print(sum(type(one).__name__ == "_Finder" for one in sys.meta_path))
        import kombu
        shim.uninstall()
        print([name for name in sys.modules if name.partition(".")[0] in ("celery", "kombu")])
        """
    )

    assert told == ["1", "[]"]


@pytest.mark.parametrize("root", ["celery", "kombu"])
def test_where_the_real_one_was_imported_first_it_is_refused(tmp_path, root):
    (tmp_path / f"{root}.py").write_text("Celery = None\n")

    [told] = python(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import {root}
        from cardoon.compat import celery as shim
        from cardoon.exceptions import ImproperlyConfigured
        try:
            shim.install()
        except ImproperlyConfigured as error:
            print(error)
        """,
        begin="",
    )

    assert f"the real {root} has been imported already, from {tmp_path}" in told
    assert ("install(kombu=False)" in told) == (root == "kombu")


def test_other_imports_go_their_way():
    [told] = python("import json, importlib.util\nprint(importlib.util.find_spec('nowhere'))")

    assert told == "None"
