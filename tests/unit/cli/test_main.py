"""The `cardoon` command itself: global options, help, errors and exit codes."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import sys
from pathlib import Path

import pytest

from cardoon import __version__
from cardoon.cli import choices
from cardoon.cli.codes import Exit
from cardoon.cli.main import COMMANDS, SUMMARIES
from cardoon.config import POOLS
from cardoon.doctor.catalogue import GROUP_NAMES
from cardoon.log import LEVELS


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

    assert output.splitlines()[-1] == "['cardoon.cli.codes', 'cardoon.cli.main']"


def test_the_version_is_told(project):
    assert project.answer("--version") == f"cardoon {__version__}\n"


def test_an_unknown_command_is_named_and_help_is_offered(project):
    told = project.usage("wroker")

    assert "No such command 'wroker'; did you mean 'worker'?" in told
    assert "Try 'cardoon --help'" in told
    assert "No such command 'xyzzy'." in project.usage("xyzzy")
    assert "'flower'; flower reads Celery's events" in project.usage("flower")


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


MODULES = """
import sys
before = set(sys.modules)
from cardoon.cli.main import main
sys.argv[1:] = {words}
try:
    main()
finally:
    print(sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize(("words", "most"), [(["--help"], 95), (["worker", "--help"], 115)])
def test_help_is_fast_because_it_imports_little(project, words, most):
    """Counted, since a time would say more of the machine: 150 ms are a third more than this takes."""
    found = ast.literal_eval(project.python(MODULES.format(words=words)).splitlines()[-1])

    assert len(found) <= most, found
    slow = {"asyncio", "cryptography", "cardoon.app", "cardoon.config", "cardoon.worker.worker"}
    assert not slow & set(found)


def test_choices_that_help_shows_are_those_that_there_are():
    assert choices.POOLS == POOLS
    assert tuple(LEVELS) == choices.LEVELS
    assert choices.CHECK_GROUPS == GROUP_NAMES


def test_settings_may_be_in_a_module_that_is_named(project, tmp_path):
    (tmp_path / "mine.py").write_text(f"broker_url = 'sqlite:///{tmp_path}/mine.db'\n")

    assert project.json("--config", "mine", "queues", "--json") == []
    assert (tmp_path / "mine.db").exists()
    assert "nowhere" in project.error("--config", "nowhere", "queues")
    told = project.usage("-A", "tasks", "--config", "mine", "worker")
    assert "have the app itself call app.config_from_object('mine')" in told


def test_a_loader_is_refused_with_the_remedy(project):
    assert "--loader x: there is one loader here; name the app" in project.usage(
        "--loader", "x", "queues"
    )


@pytest.mark.parametrize(
    ("words", "env"), [(["-C"], {}), (["--no-color"], {}), ([], {"NO_COLOR": "1"})]
)
def test_colours_may_be_turned_off(project, words, env, monkeypatch):
    """On a terminal; elsewhere there are none anyway."""
    main, other = pty.openpty()
    code = os.waitstatus_to_exitcode
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "cardoon", *words, "-A", "nowhere", "queues"],
        {**os.environ, **env},
        file_actions=[(os.POSIX_SPAWN_DUP2, other, 1), (os.POSIX_SPAWN_DUP2, other, 2)],
    )
    assert code(os.waitpid(pid, 0)[1]) == 1
    os.close(other)
    told = os.read(main, 4096)
    os.close(main)

    assert b"error: -A 'nowhere'" in told
    assert b"\x1b[" not in told


def test_a_server_that_does_not_answer_is_exit_code_69(project):
    project.answer("init")
    code, output, errors = project.finish("-b", "redis://127.0.0.1:1", "queues")

    assert (code, output) == (Exit.UNAVAILABLE, ""), errors
    assert errors.startswith("error: ")


def test_what_does_not_come_in_time_is_exit_code_75(project):
    project.write_tasks()

    code, _, errors = project.finish(
        "-A", "tasks", "call", "add", "-a", "[1, 2]", "--wait", "--timeout", "0.1"
    )

    assert code == Exit.WAITED, errors


def test_the_page_tells_every_exit_code():
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")

    for code in Exit:
        assert re.search(rf"^\| {code.value} \|", page, re.MULTILINE), code


PLUGIN = """\
import click

print("loaded", flush=True)


@click.command()
@click.pass_obj
def hello(invocation):
    click.echo(f"hello from {invocation.app}")
"""


@pytest.fixture
def plugin(project):
    """A package that adds `hello`, tries to take the place of `queues`, and has one that is broken."""
    (project.folder / "hi.py").write_text(PLUGIN)
    info = project.folder / "hi-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hi\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[cardoon.commands]\nhello = hi:hello\nqueues = hi:hello\nbroken = hi:nothing\nodd = hi:PLAIN\n"
    )
    with (project.folder / "hi.py").open("a") as file:
        file.write("\nPLAIN = 1\n")
    return project


def test_another_package_may_add_a_command(plugin):
    assert plugin.finish("-A", "x", "hello") == (0, "loaded\nhello from x\n", "")


def test_what_a_package_adds_is_loaded_only_when_it_is_asked_for(plugin):
    for words in (["--help"], ["report"], ["cert", "--help"]):
        code, output, _ = plugin.finish(*words)
        assert (code, "loaded" in output) == (0, False)


def test_no_package_takes_the_place_of_a_command_of_ours(plugin):
    assert plugin.finish("queues", "--json") == (0, "[]\n", "")


def test_a_package_that_is_broken_is_named(plugin):
    code, _, errors = plugin.finish("broken")
    assert (code, errors.count("\n")) == (1, 1)
    assert "command 'broken' of the package hi: hi:nothing cannot be loaded" in errors

    assert "hi:PLAIN is no command of click's" in plugin.finish("odd")[2]
