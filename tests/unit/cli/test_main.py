"""The `cardoon` command itself: global options, help, errors and exit codes."""

from __future__ import annotations

import json
import os

import pytest

from cardoon import __version__
from cardoon.cli.main import COMMANDS, SUMMARIES


def test_without_a_command_it_shows_help(project):
    done = project.run()

    assert done.exit_code == 2
    assert "cardoon -A tasks worker" in done.output


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_every_command_with_a_line(project, option):
    text = project.answer(option)

    for name in COMMANDS:
        assert f"  {name} " in text
    assert set(SUMMARIES) == set(COMMANDS)


def test_help_imports_no_command(project):
    """Its speed depends on it: the worker alone imports half of Cardoon."""
    output = project.python("""
        import sys
        from cardoon.cli.main import main
        sys.argv[1:] = ["--help"]
        try:
            main()
        finally:
            print(sorted(name for name in sys.modules if name.startswith("cardoon.cli.")))
    """)

    assert output.splitlines()[-1] == "['cardoon.cli.main']"


def test_the_version_is_told(project):
    assert project.answer("--version") == f"cardoon {__version__}\n"


def test_an_unknown_command_is_named_and_help_is_offered(project):
    told = project.usage("wroker")

    assert "'wroker'" in told
    assert "Try 'cardoon --help'" in told


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_1(project):
    code, output, errors = project.finish("-A", "nowhere", "queues")

    assert (code, output) == (1, "")
    assert errors == (
        f"error: -A 'nowhere': there is no module 'nowhere' in {project.folder} or on the Python "
        "path\n"
    )


def test_an_error_in_the_users_module_is_shown_as_python_shows_it(project):
    (project.folder / "broken.py").write_text("1 / 0\n")

    code, _, errors = project.finish("-A", "broken", "queues")

    assert code == 1
    assert "broken.py" in errors
    assert errors.endswith("ZeroDivisionError: division by zero\n")


def test_a_reader_that_goes_away_is_no_traceback(project):
    project.send(1, 2)
    with project.start("queues", "--json") as process:
        process.stdout.close()
        errors = process.stderr.read()
        process.stdin.close()
        assert process.wait(30) == 1

    assert errors == ""


def test_the_broker_may_be_named_on_the_command_line(project, tmp_path):
    project.send(1, 2)

    assert project.json("queues", "--json")[0]["ready"] == 1
    assert project.json("-b", f"sqlite:///{tmp_path}/other.db", "queues", "--json") == []


def test_a_wrong_broker_is_named_with_the_remedy(project):
    assert "is not a URL such as sqlite:///tasks.db" in project.error("-b", "nowhere", "queues")
    project.answer("init")  # who has no identity yet is told of that first
    assert project.error("-b", "redi://host", "queues") == (
        "broker_url: unknown scheme 'redi'; use sqlite, redis, amqp, postgresql"
    )


def test_the_result_backend_may_be_named_on_the_command_line(project, tmp_path):
    sent = project.send(1, 2)
    [delivery] = project.hands.take()
    project.hands.succeed(delivery, 3)

    assert project.answer("result", sent.id) == "3\n"
    elsewhere = f"sqlite:///{tmp_path}/other.db"
    assert project.answer("--result-backend", elsewhere, "result", sent.id) == "PENDING\n"


def test_it_may_go_elsewhere_first(project, tmp_path):
    project.send(1, 2)
    (tmp_path / "sub").mkdir()

    code, output, _ = project.finish("--workdir", "sub", "queues", "--json")

    # The project's store is found from the folders within it.
    assert (code, json.loads(output)[0]["ready"]) == (0, 1)
    assert "does not exist" in project.usage("--workdir", "nowhere", "queues")


def test_the_settings_of_the_environment_count(project, monkeypatch, tmp_path):
    monkeypatch.setenv("CARDOON_BROKER_URL", f"sqlite:///{tmp_path}/env.db")

    assert project.json("queues", "--json") == []
    assert (tmp_path / "env.db").exists()


def test_the_settings_of_the_app_count(project):
    (project.folder / "tasks.py").write_text(
        "from cardoon import Cardoon\n"
        "app = Cardoon(broker='sqlite:///mine.db', include=['more'], set_as_current=False)\n"
    )

    assert project.error("-A", "tasks", "queues") == (
        "include: there is no module 'more' on the Python path"
    )
    (project.folder / "more.py").write_text("")
    assert project.json("-A", "tasks", "queues", "--json") == []
    assert os.path.exists("mine.db")  # noqa: PTH110  # as the URL says, relative to where we are
