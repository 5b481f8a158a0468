"""`cardoon shell` and `cardoon amqp`."""

from __future__ import annotations

import importlib.util

import pytest


def run(project, script, *options):
    """What a script prints that is typed into the shell."""
    with project.start("-A", "tasks", "shell", *options) as process:
        output, errors = process.communicate(script, timeout=30)
    return output, errors


def test_the_app_its_tasks_and_the_canvas_are_at_hand(project):
    project.write_tasks()

    output, errors = run(
        project,
        "print(app.main, celery is app, add.name)\n"
        "print(chain(add.s(1, 2), add.s(3)) is not None, group, chord, chunks, signature)\n"
        "print(AsyncResult('x').state, Task)\n"
        "sent = add.delay(2, 3)\nprint(sent.id)\n",
    )

    lines = output.splitlines()
    assert lines[0] == "tasks True tasks.add", errors
    assert lines[1].startswith("True ")
    assert lines[2].startswith("PENDING ")
    [delivery] = project.hands.take()
    assert lines[3] == delivery.id
    assert not errors.strip()  # the console ends the line that it was on


def test_tasks_may_be_left_out(project):
    project.write_tasks()

    output, errors = run(project, "print(app.main)\nadd\n", "--without-tasks")

    assert output == "tasks\n"
    assert "NameError: name 'add' is not defined" in errors


def test_a_task_does_not_hide_what_every_shell_has(project):
    (project.folder / "tasks.py").write_text(
        "from cardoon import Cardoon\napp = Cardoon('tasks', set_as_current=False)\n"
        "@app.task\ndef group(): pass\n@app.task\ndef app_(): pass\n"
    )

    assert run(project, "print(group.__module__)\n")[0].startswith("cardoon.canvas")


@pytest.mark.parametrize(("option", "package"), [("-I", "IPython"), ("-B", "bpython")])
def test_a_shell_that_is_not_installed_is_named(project, option, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here")
    assert project.error("shell", option) == (
        f"shell: {package} is not installed here; `pip install {package.lower()}`, or use --python"
    )


def test_ipython_has_the_same_at_hand(project):
    pytest.importorskip("IPython")
    project.write_tasks()

    output, _ = run(project, "print('task', add.name)\n", "-I")

    assert "task tasks.add" in output


def test_options_that_mean_nothing_here_say_so(project):
    assert "--gevent: nothing is patched here" in project.usage("shell", "--gevent")


def test_amqp_says_what_to_use(project):
    assert "basic.publish `cardoon call NAME`" in project.usage("amqp")
    assert "use `cardoon purge -Q NAME`" in project.usage("amqp", "queue.purge", "celery")
    assert "use exchanges are settings" in project.usage("amqp", "exchange.declare", "x", "-z")
